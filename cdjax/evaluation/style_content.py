"""Style at equal content: models compared where they keep as much of the content.

Style and content trade off through alpha, so a picture may be nearer to its style only because it
keeps less of its content. Models run with several alphas here, and a network that need not be the
teacher of any of them measures both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from cdjax.evaluation.explained_variance import Network
from cdjax.evaluation.image_quality import means_over, taps_of_pairs
from cdjax.model import Images, Model, Params
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
    taps, of_contents, of_styles = taps_of_pairs(spec, params, results, contents, styles)
    return {
        "gram": gram_distances(taps, of_styles),
        "sliced": sliced_wasserstein_distances(taps, of_styles, directions=_DIRECTIONS),
        "content": content_correlations(taps, of_contents),
    }


def style_content(
    model: Model,
    networks: Mapping[str, Network],
    contents: Images,
    styles: Images,
    alpha: float,
    *,
    batch: int = 4,
    name: str = "style and content",
    on_progress: OnProgress = ignore_progress,
) -> dict[str, StyleContent]:
    """Measures the pictures that a model makes of pairs at an alpha, by the name of the network.

    Args:
        model: of method wct or adain.
        networks: name -> spec and parameters of the encoders that measure.
        contents: (N, H, W, 3), uint8 RGB, at least one.
        styles: of the same shape, one per content.
        alpha: as for `cdjax.stylize`.
        batch: pairs at a time.
        name: of the task in reports of progress.
        on_progress: called for every batch.

    Raises:
        ValueError: if the shapes do not fit, or the model is a lone encoder.
    """

    def measure(pairs: Images) -> dict[str, dict[str, dict[str, Array]]]:
        both = pairs[:, 0], pairs[:, 1]
        results = stylize(model, *both, alpha=alpha)
        return {name: _measures(*network, results, *both) for name, network in networks.items()}

    pairs = np.stack([contents, styles], axis=1)
    found = means_over(measure, pairs, batch, task=name, on_progress=on_progress)
    return {name: StyleContent(alpha, **means) for name, means in found.items()}


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
    networks: Mapping[str, Network],
    contents: Images,
    styles: Images,
    alphas: Sequence[float],
    *,
    batch: int = 4,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, dict[str, TradeOff]]:
    """Style against content: {name of the network: {name of the model: its trade-off}}.

    Lone encoders are left out. The alphas are those of every model; the other arguments are those
    of `style_content`.
    """
    found: dict[str, dict[str, TradeOff]] = {name: {} for name in networks}
    for model_name, model in models.items():
        if model.config.method == "encoder":
            continue
        measured = []
        for alpha in alphas:
            how: Any = {"name": f"{model_name}, alpha {alpha:g}", "on_progress": on_progress}
            measured.append(
                style_content(model, networks, contents, styles, alpha, batch=batch, **how)
            )
        for name, of_network in found.items():
            rows = tuple(row[name] for row in measured)
            first = next(iter(of_network.values())).rows[0] if of_network else rows[0]
            of_network[model_name] = TradeOff(rows, at_equal_content(rows, first))
    return found
