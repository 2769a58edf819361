"""How good the pictures are that a model makes: reconstructions and stylised pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.losses import style_loss
from cdjax.evaluation.explained_variance import Network, Progress, in_full_batches, no_progress
from cdjax.evaluation.metrics import psnr, ssim, style_distance
from cdjax.model import Model, Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import mean_squared_error
from cdjax.transfer.stylize import stylize
from cdjax.transfer.transforms import restyled

ADAIN_STAGE = 4
"""Of the paper's AdaIN, whose losses compare taps up to that stage's."""


@dataclass(frozen=True)
class Quality:
    """How near pictures come to what they should be: means over images.

    Attributes:
        psnr: mean of every image's peak signal-to-noise ratio, in dB.
        ssim: mean structural similarity.
    """

    psnr: float
    ssim: float


@dataclass(frozen=True)
class Stylized:
    """Means over pairs of a content and a style, in the teacher's features where not of pixels.

    Attributes:
        style_distance: {tap: mean squared difference of Gram matrices of the result and the
            style}.
        content_loss: AdaIN's, the mean squared difference of the result's features and those that
            AdaIN makes of content and style, at relu4_1 or, if it is shallower, the teacher's
            last tap.
        style_loss: AdaIN's, of the taps up to that one (`cdjax.distillation.losses.style_loss`).
        content_ssim: of the result and the content.
    """

    style_distance: dict[str, float]
    content_loss: float
    style_loss: float
    content_ssim: float


def _networks(model: Model, spec: Spec) -> dict[str, Params]:
    return {name: model.params[f"stage{spec.stage}"][name] for name in ("encoder", "decoder")}


@partial(jax.jit, static_argnames="specs")
def _through(
    specs: tuple[Spec, ...], networks: tuple[dict[str, Params], ...], images: Array
) -> tuple[Array, Array]:
    """PSNR and SSIM, (N,) each, of images through encoders and decoders in turn."""
    images = images.astype(jnp.float32) / 255
    result = images
    for spec, both in zip(specs, networks, strict=True):
        features, _ = apply(Encoder(spec), both["encoder"], result)
        result = apply(Decoder(spec), both["decoder"], features)
    return psnr(result, images), ssim(result, images)


def reconstruction(
    model: Model,
    specs: Sequence[Spec],
    images: Images,
    *,
    batch: int = 4,
    name: str = "reconstruction",
    progress: Progress = no_progress,
) -> Quality:
    """The quality of images that went through some stages of a model, one after the other.

    Args:
        model: with decoders.
        specs: of those stages, in the order in which they run.
        images: (N, H, W, 3) uint8, sides multiples of the largest stride.
        batch: images at a time.
        name: of the loop that `progress` sees.
        progress: sees the loop over the images.
    """
    networks = tuple(_networks(model, spec) for spec in specs)
    found: tuple[list[NDArray[Any]], list[NDArray[Any]]] = [], []
    for part, count in in_full_batches(images, batch, name=name, progress=progress):
        for values, measured in zip(found, _through(tuple(specs), networks, part), strict=True):
            values.append(np.asarray(measured)[:count])
    return Quality(*(float(np.concatenate(values).mean()) for values in found))


@partial(jax.jit, static_argnames="spec")
def _pair_measures(
    spec: Spec, params: Params, results: Array, contents: Array, styles: Array
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Style distances, (N,) each, and what else `Stylized` has, likewise."""
    contents, styles = (a.astype(jnp.float32) / 255 for a in (contents, styles))
    taps, of_contents, of_styles = (
        apply(Encoder(spec), params, images)[1] for images in (results, contents, styles)
    )
    names = [name for name, _ in spec.taps[:ADAIN_STAGE]]
    deepest = names[-1]
    target = restyled(jnp.concatenate([of_contents[deepest], of_styles[deepest]]))
    compared = {name: taps[name] for name in names}
    return style_distance(taps, of_styles), {
        "content_loss": jax.vmap(mean_squared_error)(taps[deepest], target),
        "style_loss": jax.vmap(style_loss)(compared, of_styles),
        "content_ssim": ssim(results, contents),
    }


def stylization_quality(
    model: Model | None,
    teacher: Network,
    contents: Images,
    styles: Images,
    *,
    batch: int = 4,
    name: str = "stylised pairs",
    progress: Progress = no_progress,
) -> Stylized:
    """How a model stylises pairs, at alpha 1, measured in a teacher's features.

    Args:
        model: of method wct or adain; None for the contents as they are.
        teacher: spec and parameters of the encoder whose features are compared.
        contents: (N, H, W, 3), uint8.
        styles: of the same shape, one a content.
        batch: pairs at a time.
        name: of the loop that `progress` sees.
        progress: sees the loop over the pairs.
    """
    found: list[tuple[dict[str, NDArray[Any]], ...]] = []
    pairs = np.stack([contents, styles], axis=1)
    for part, count in in_full_batches(pairs, batch, name=name, progress=progress):
        content, style = part[:, 0], part[:, 1]
        if model is None:
            results = jnp.asarray(content, jnp.float32) / 255
        else:
            results = stylize(model, content, style)
        found.append(
            tuple(
                {key: np.asarray(values)[:count] for key, values in measures.items()}
                for measures in _pair_measures(*teacher, results, content, style)
            )
        )
    distances, others = (
        {key: float(np.concatenate([part[key] for part in parts]).mean()) for key in parts[0]}
        for parts in zip(*found, strict=True)
    )
    return Stylized(distances, **others)
