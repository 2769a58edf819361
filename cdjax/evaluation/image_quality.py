"""Quality of the images that a model makes: reconstructions and stylised pairs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.evaluation.explained_variance import Network, in_full_batches
from cdjax.evaluation.metrics import psnr, ssim, style_distance
from cdjax.model import Images, Model, Params
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import mean_squared_error
from cdjax.progress import OnProgress, ignore_progress
from cdjax.transfer.stages import run_cascade
from cdjax.transfer.statistics import style_loss
from cdjax.transfer.stylize import stylize
from cdjax.transfer.transforms import adain_features

ADAIN_STAGE = 4
"""The stage of AdaIN in the paper; its losses compare taps up to this stage."""


@dataclass(frozen=True)
class Quality:
    """Similarity of images to their references: means over images.

    Attributes:
        psnr: peak signal-to-noise ratio in dB, at least 0; infinite for equal images.
        ssim: structural similarity, -1 to 1; 1 for equal images.
    """

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Stylized:
    """Quality of stylised images: means over pairs, in the features of a teacher.

    Distances and losses are at least 0, and 0 is best.

    Attributes:
        style_distance: {tap: mean squared difference between the Gram matrices of the result and
            of the style}, for every tap of the teacher.
        content_loss: AdaIN's content loss (Huang and Belongie 2017, eq. 12): the mean squared
            difference between the result's features and the AdaIN of the content's and the
            style's, at relu4_1 or, if the teacher is shallower, its last tap.
        style_loss: AdaIN's style loss at the taps up to that one (`cdjax.transfer.statistics`).
        content_ssim: structural similarity of the result and the content in pixels, -1 to 1.
    """

    style_distance: dict[str, float]
    content_loss: float
    style_loss: float
    content_ssim: float


@partial(jax.jit, static_argnames="specs")
def _reconstruction(
    specs: tuple[Spec, ...], params: dict[str, dict[str, Params]], images: Array
) -> dict[str, Array]:
    """The fields of `Quality`, (N,) each, of images after the cascade without a transform."""
    images = images.astype(jnp.float32) / 255
    result = run_cascade(params, specs, images)
    return {"psnr": psnr(result, images), "ssim": ssim(result, images)}


def means_over(measure: Callable[[Images], Any], images: Images, batch: int, **options: Any) -> Any:
    """Means over all images of the measures of batches, a pytree of (N,) arrays."""
    found = []
    for part, count in in_full_batches(images, batch, **options):
        measures = jax.device_get(measure(part))
        found.append(jax.tree.map(lambda values: values[:count], measures))  # noqa: B023
    return jax.tree.map(lambda *parts: float(np.concatenate(parts).mean()), *found)


def reconstruction(
    model: Model,
    specs: Sequence[Spec],
    images: Images,
    *,
    batch: int = 4,
    name: str = "reconstruction",
    on_progress: OnProgress = ignore_progress,
) -> Quality:
    """The quality of images that ran through stages of a model without a transform.

    Args:
        model: of method wct or adain.
        specs: of some of its stages, in the order in which they run.
        images: (N, H, W, 3), uint8 RGB, at least one; H and W multiples of the largest stride, at
            least twice it and at least 11, the window of SSIM.
        batch: images at a time.
        name: of the task in reports of progress.
        on_progress: called for every batch.

    Returns:
        Means over the N images of their similarity to the images themselves.

    Raises:
        KeyError: if the model lacks one of the stages or its decoder.
        ValueError: if there are no images, or they are too small.
    """
    measure = partial(_reconstruction, tuple(specs), model.params)
    return Quality(**means_over(measure, images, batch, task=name, on_progress=on_progress))


def taps_of_pairs(
    spec: Spec, params: Params, results: Array, contents: Array, styles: Array
) -> tuple[dict[str, Array], ...]:
    """Taps {name: (N, h, w, C)} of results in [0, 1], and of their contents and styles, uint8."""
    images = (results, contents.astype(jnp.float32) / 255, styles.astype(jnp.float32) / 255)
    return tuple(apply(Encoder(spec), params, part)[1] for part in images)


@partial(jax.jit, static_argnames="spec")
def _pair_measures(
    spec: Spec, params: Params, results: Array, contents: Array, styles: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Style distances by tap and the other fields of `Stylized`, (N,) each."""
    taps, of_contents, of_styles = taps_of_pairs(spec, params, results, contents, styles)
    names = [name for name, _ in spec.taps[:ADAIN_STAGE]]
    deepest = names[-1]
    target = adain_features(jnp.concatenate([of_contents[deepest], of_styles[deepest]]))
    compared = {name: taps[name] for name in names}
    return style_distance(taps, of_styles), {
        "content_loss": jax.vmap(mean_squared_error)(taps[deepest], target),
        "style_loss": jax.vmap(style_loss)(compared, of_styles),
        "content_ssim": ssim(results, contents.astype(jnp.float32) / 255),
    }


def stylization_quality(
    model: Model | None,
    teacher: Network,
    contents: Images,
    styles: Images,
    *,
    batch: int = 4,
    name: str = "stylised pairs",
    on_progress: OnProgress = ignore_progress,
) -> Stylized:
    """Quality of the images that a model makes of pairs at alpha 1.

    Args:
        model: of method wct or adain; None to measure the unchanged contents.
        teacher: spec and parameters of the encoder whose features are compared.
        contents: (N, H, W, 3), uint8 RGB, at least one; H and W at least 11, the window of SSIM,
            and at least twice the teacher's stride.
        styles: of the same shape, one per content.
        batch: pairs at a time.
        name: of the task in reports of progress.
        on_progress: called for every batch.

    Returns:
        Means over the N pairs.

    Raises:
        ValueError: if the shapes differ, there are no pairs, images are too small, or the model is
            a lone encoder.
    """

    def measure(pairs: Images) -> tuple[dict[str, Array], dict[str, Array]]:
        contents, styles = pairs[:, 0], pairs[:, 1]
        if model is None:
            results = jnp.asarray(contents, jnp.float32) / 255
        else:
            results = stylize(model, contents, styles)
        return _pair_measures(*teacher, results, contents, styles)

    pairs = np.stack([contents, styles], axis=1)
    found = means_over(measure, pairs, batch, task=name, on_progress=on_progress)
    return Stylized(found[0], **found[1])
