"""Textures: noise that passes through the cascade again and again takes a style's patterns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from numpy.typing import NDArray

from cdjax.model import Model
from cdjax.networks.spec import Spec
from cdjax.progress import OnProgress, Progress, ignore_progress
from cdjax.tiling.budget import fits_in_memory
from cdjax.tiling.stylize import stylize_by_windows
from cdjax.transfer.pixels import padded_size
from cdjax.transfer.stylize import Style, encode_style, stylize
from cdjax.transfer.transforms import check_model


def synthesize_texture(
    model: Model,
    style: ArrayLike | Style,
    *,
    size: tuple[int, int],
    passes: int = 3,
    seed: int = 0,
    tileable: bool = False,
    transform: str | None = None,
    regularization: float = 0.0,
    dtype: DTypeLike = jnp.float32,
    memory: int | None = None,
    host_memory: int | None = None,
    on_progress: OnProgress = ignore_progress,
) -> NDArray[Any]:
    """Makes a texture of a style from noise (Li et al. 2017, section 4.4).

    The first pass stylises white noise, every further one the picture of the pass before.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        style: an image, (H, W, 3), or the result of `cdjax.encode_style`.
        size: height and width of the texture, from 1 pixel.
        passes: through the whole cascade, at least 1; more make larger patterns.
        seed: of the noise; the same seed gives the same texture.
        tileable: whether copies of the texture can be laid side by side without seams.
        transform: as for `cdjax.stylize`.
        regularization: the same.
        dtype: the same.
        memory: as for `cdjax.stylize_by_windows`, which makes what does not fit in it.
        host_memory: the same.
        on_progress: called with the number of finished passes.

    Returns:
        (H, W, 3), float32 in [0, 1].

    Raises:
        ValueError: if there are no passes, and as for `check_tileable` and `stylize_by_windows`.
    """
    check_model(model)
    if passes < 1 or min(size) < 1:
        raise ValueError(f"a texture needs at least 1 pass and 1 pixel, not {passes} and {size}")
    if tileable:
        check_tileable(size, model.config.specs)
    if not isinstance(style, Style):
        style = encode_style(model, style, dtype=dtype)
    margin = _margin(model.config.specs) if tileable else 0
    canvas = (size[0] + 2 * margin, size[1] + 2 * margin)
    whole = fits_in_memory(canvas, model.config, memory)
    limits = {} if whole else {"memory": memory, "host_memory": host_memory}
    options: Any = {"transform": transform, "regularization": regularization, **limits}
    repaint: Any = stylize if whole else stylize_by_windows
    image: Any = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    for done in range(1, passes + 1):
        source = _Periodic(image, margin)
        pixels = source[:, :] if whole else source
        image = np.asarray(repaint(model, pixels, style, dtype=dtype, **options))
        image = image[margin : margin + size[0], margin : margin + size[1]]
        on_progress(Progress("texture", done, passes))
    return image


def check_tileable(size: Sequence[int], specs: Sequence[Spec]) -> None:
    """Checks that networks treat all periods of a texture alike; ValueError if they do not."""
    stride = max(spec.stride for spec in specs)
    if any(length % stride for length in size):
        height, width = (max(1, round(length / stride)) * stride for length in size)
        raise ValueError(
            f"a tileable texture has sides that are multiples of {stride} pixels, such as "
            f"{width}x{height}, not {size[1]}x{size[0]}"
        )


def _margin(specs: Sequence[Spec]) -> int:
    """How far the pixels that a pass looks at lie apart, in whole positions of all stages."""
    return padded_size((sum(2 * spec.halo for spec in specs),) * 2, specs)[0]


@dataclass(frozen=True)
class _Periodic:
    """A raster (`cdjax.tiling.buffers.Raster`) that repeats an image beyond its borders."""

    image: NDArray[Any]
    margin: int  # More than the networks see, so that all periods are computed from the same.

    @property
    def shape(self) -> tuple[int, ...]:
        height, width, channels = self.image.shape
        return height + 2 * self.margin, width + 2 * self.margin, channels

    @property
    def dtype(self) -> Any:
        return self.image.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        rows, columns = (
            (np.arange(length)[part] - self.margin) % inner
            for part, length, inner in zip(region, self.shape, self.image.shape, strict=False)
        )
        return np.ascontiguousarray(self.image[rows][:, columns])
