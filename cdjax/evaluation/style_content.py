"""Style at equal content: models compared where they keep as much of the content.

Style and content trade off through alpha, so a picture may be nearer to its style only because it
keeps less of its content. Models run with several alphas here, and a network that need not be the
teacher of any of them measures both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.evaluation.explained_variance import Network, in_full_batches
from cdjax.model import Images, Model, Params
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.progress import OnProgress, ignore_progress
from cdjax.transfer.distances import (
    content_correlations,
    gram_distances,
    sliced_wasserstein_distances,
)
from cdjax.transfer.stylize import stylize

CONTENT_TAP = "relu4_1"
"""The tap at which contents are held equal; the last one of a network that ends before it."""
_DIRECTIONS = 128


@dataclass(frozen=True)
class StyleContent:
    """What a network measures of stylised pictures at one alpha: means over pairs, by tap.

    Attributes:
        alpha: with which they were stylised.
        gram: distance of Gram matrices from the style's (`cdjax.transfer.distances`).
        sliced: sliced Wasserstein distance from the style.
        content: correlation with the content's features.
    """

    alpha: float
    gram: dict[str, float]
    sliced: dict[str, float]
    content: dict[str, float]

    @property
    def kept(self) -> float:
        """How much of the content is kept: its correlation at `CONTENT_TAP`."""
        return self.content.get(CONTENT_TAP, list(self.content.values())[-1])


@partial(jax.jit, static_argnames="spec")
def _measures(
    spec: Spec, params: Params, results: Array, contents: Array, styles: Array
) -> dict[str, dict[str, Array]]:
    images = (results, contents.astype(jnp.float32) / 255, styles.astype(jnp.float32) / 255)
    taps, of_contents, of_styles = (apply(Encoder(spec), params, part)[1] for part in images)
    return {
        "gram": gram_distances(taps, of_styles),
        "sliced": sliced_wasserstein_distances(taps, of_styles, directions=_DIRECTIONS),
        "content": content_correlations(taps, of_contents),
    }


def style_content(
    model: Model,
    network: Network,
    contents: Images,
    styles: Images,
    alpha: float,
    *,
    batch: int = 4,
    name: str = "style and content",
    on_progress: OnProgress = ignore_progress,
) -> StyleContent:
    """Measures the pictures that a model makes of pairs at an alpha.

    Args:
        model: of method wct or adain.
        network: spec and parameters of the encoder that measures.
        contents: (N, H, W, 3), uint8 RGB, at least one.
        styles: of the same shape, one per content.
        alpha: as for `cdjax.stylize`.
        batch: pairs at a time.
        name: of the task in reports of progress.
        on_progress: called for every batch.

    Raises:
        ValueError: if the shapes do not fit, or the model is a lone encoder.
    """
    pairs = np.stack([contents, styles], axis=1)
    found = []
    for part, count in in_full_batches(pairs, batch, task=name, on_progress=on_progress):
        results = stylize(model, part[:, 0], part[:, 1], alpha=alpha)
        measures = jax.device_get(_measures(*network, results, part[:, 0], part[:, 1]))
        found.append(jax.tree.map(lambda values: values[:count], measures))  # noqa: B023
    means = jax.tree.map(lambda *parts: float(np.concatenate(parts).mean()), *found)
    return StyleContent(alpha, **means)


def at_equal_content(
    rows: Sequence[StyleContent], reference: StyleContent
) -> dict[str, float] | None:
    """A model's style distances relative to a reference's that keeps as much of the content.

    Args:
        rows: of the model, at several alphas; distances are interpolated between them.
        reference: of the model that it is compared with, at one alpha.

    Returns:
        `"gram"` and `"sliced"`, each the ratio of the sums over the taps, below 1 where the model
        is nearer to the style; None if no two alphas keep more and less than the reference.
    """
    rows = sorted(rows, key=lambda row: row.kept)
    kept = [row.kept for row in rows]
    if not kept or not kept[0] <= reference.kept <= kept[-1]:
        return None

    def ratio(distance: str) -> float:
        sums = [sum(getattr(row, distance).values()) for row in (*rows, reference)]
        return float(np.interp(reference.kept, kept, sums[:-1]) / sums[-1])

    return {distance: ratio(distance) for distance in ("gram", "sliced")}


@dataclass(frozen=True)
class TradeOff:
    """Style against content of one model.

    Attributes:
        rows: at every alpha.
        at_equal_content: as from `at_equal_content`, in comparison with the first model at the
            first alpha.
    """

    rows: tuple[StyleContent, ...]
    at_equal_content: dict[str, float] | None


def trade_offs(
    models: Mapping[str, Model],
    network: Network,
    contents: Images,
    styles: Images,
    alphas: Sequence[float],
    *,
    batch: int = 4,
    name: str = "style and content",
    on_progress: OnProgress = ignore_progress,
) -> dict[str, TradeOff]:
    """Style against content of models, by name; lone encoders are left out.

    The alphas are those of every model; the other arguments are those of `style_content`.
    """
    found: dict[str, TradeOff] = {}
    for model_name, model in models.items():
        if model.config.method == "encoder":
            continue
        rows = []
        for alpha in alphas:
            task = f"{name}: {model_name}, alpha {alpha:g}"
            rows.append(
                style_content(
                    model, network, contents, styles, alpha,
                    batch=batch, name=task, on_progress=on_progress,
                )
            )  # fmt: skip
        first = next(iter(found.values())).rows[0] if found else rows[0]
        found[model_name] = TradeOff(tuple(rows), at_equal_content(rows, first))
    return found
