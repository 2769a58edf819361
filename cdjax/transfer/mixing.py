"""Several styles -> one: the style whose transform is the weighted mean of theirs."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from cdjax.model import Method, Model
from cdjax.transfer.statistics import Moments
from cdjax.transfer.stylize import Style, check_model, check_style
from cdjax.transfer.transforms import mixed_deviations, mixed_roots

_COVARIANCES = {"wct": mixed_roots, "adain": mixed_deviations}


def mix_styles(
    model: Model, styles: Sequence[Style], *, weights: Sequence[float] | ArrayLike | None = None
) -> Style:
    """Interpolates between styles (Huang and Belongie 2017, section 7.3).

    What is decoded with the result is the weighted mean, at every stage, of the features that each
    style alone would have given: means and, for WCT, square roots of covariances or, for AdaIN,
    standard deviations are averaged.

    Args:
        model: of method `"wct"` or `"adain"`, which has encoded the styles.
        styles: what `cdjax.encode_style` returned, of one image each; at least one.
        weights: one a style, none negative; only their proportions count. All alike by default.

    Returns:
        A `Style`, for `cdjax.stylize` and `cdjax.stylize_by_windows` as any other; the given one
        if it has all of the weight.

    Raises:
        ValueError: if the weights do not fit the styles, or a style is of another model or a batch.
    """
    check_model(model)
    if not styles:
        raise ValueError("mix_styles needs at least one style")
    shares = np.ones(len(styles)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(styles),):
        raise ValueError(f"{len(styles)} styles need as many weights, not {shares.tolist()}")
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(
            f"weights must be numbers from 0, not all of them 0, not {shares.tolist()}"
        )
    for style in styles:
        check_style(model.config, style, (1, 1, 3))
        if style.moments[0].mean.ndim != 1:
            raise ValueError("mix_styles takes styles of one image each, not batches")
    # What has no share takes no part, and a style that has it all is given as it is, unrounded.
    taking_part = tuple(style for style, share in zip(styles, shares, strict=True) if share)
    shares = (shares[shares > 0] / shares.sum()).astype(np.float32)
    if len(taking_part) == 1:
        return taking_part[0]
    return Style(_mix(model.config.method, taking_part, shares))


@partial(jax.jit, static_argnames="method")
def _mix(method: Method, styles: tuple[Style, ...], shares: Array) -> tuple[Moments, ...]:
    by_stage = zip(*(style.moments for style in styles), strict=True)
    return tuple(_mix_stage(method, parts, shares) for parts in by_stage)


def _mix_stage(method: Method, parts: tuple[Moments, ...], shares: Array) -> Moments:
    mean = sum(share * part.mean for share, part in zip(shares, parts, strict=True))
    covariance = _COVARIANCES[method](parts, shares)
    # Of two vectors the scatter is the covariance itself.
    return Moments(jnp.full((), 2.0, jnp.float32), jnp.asarray(mean), covariance)
