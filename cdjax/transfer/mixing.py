"""Several styles -> one: the style whose transform is the weighted mean of theirs."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from cdjax.model import Model, ModelConfig
from cdjax.transfer.statistics import Moments
from cdjax.transfer.stylize import Style, check_style
from cdjax.transfer.transforms import MIXED_COVARIANCES, check_model


def mix_styles(
    model: Model, styles: Sequence[Style], *, weights: Sequence[float] | ArrayLike | None = None
) -> Style:
    """Interpolates between styles (Huang and Belongie 2017, section 7.3).

    Means and, for WCT and OT, square roots of covariances or, for AdaIN, standard deviations are
    averaged at every stage. A stage of WCT or AdaIN then decodes the weighted mean of the features
    that the styles would give one by one.

    Args:
        model: a model of method `"wct"` or `"adain"`, which encoded the styles.
        styles: results of `cdjax.encode_style`, of one image each; at least one.
        weights: one per style, none negative; only their proportions matter. Equal by default.

    Returns:
        A `Style` for `cdjax.stylize` and `cdjax.stylize_by_windows`. If one style has all the
        weight, that style itself.

    Raises:
        ValueError: if the weights do not fit the styles, or a style was encoded by another model
            or is a batch.
    """
    check_model(model)
    if not styles:
        raise ValueError("mix_styles needs at least one style")
    shares = np.ones(len(styles)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(styles),):
        raise ValueError(f"{len(styles)} styles need {len(styles)} weights, not {shares.tolist()}")
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"weights must be finite, not negative and not all 0: {shares.tolist()}")
    for style in styles:
        check_style(model.config, style, (1, 1, 3))
        if style.moments[0].mean.ndim != 1:
            raise ValueError("mix_styles needs styles of one image each, not batches")
    # A single style is returned unchanged, without rounding.
    taking_part = tuple(style for style, share in zip(styles, shares, strict=True) if share)
    shares = (shares[shares > 0] / shares.sum()).astype(np.float32)
    if len(taking_part) == 1:
        return taking_part[0]
    return Style(_mix(model.config, taking_part, shares))


@partial(jax.jit, static_argnames="config")
def _mix(config: ModelConfig, styles: tuple[Style, ...], shares: Array) -> tuple[Moments, ...]:
    mixed = []
    for spec, *parts in zip(config.specs, *(style.moments for style in styles), strict=True):
        mean = sum(share * part.mean for share, part in zip(shares, parts, strict=True))
        covariance = MIXED_COVARIANCES[config.transform_of(spec.stage)](parts, shares)
        # With a count of 2 the covariance equals the scatter.
        mixed.append(Moments(jnp.full((), 2.0, jnp.float32), jnp.asarray(mean), covariance))
    return tuple(mixed)
