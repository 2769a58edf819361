"""Transparency: what cannot be seen decides nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_CHUNK = 2**21  # pixels


def fill_hidden(pixels: NDArray[Any], alpha: NDArray[np.uint8] | None) -> NDArray[Any]:
    """Gives pixels that are fully transparent the colours of the visible ones around them.

    Args:
        pixels: (H, W, 3), uint8 or floating-point in [0, 1].
        alpha: (H, W), or None for an opaque picture.

    Returns:
        The filled pixels, of the same dtype; `pixels` itself if nothing is hidden. If nothing is
        visible, all are black.
    """
    if alpha is None or alpha.all():
        return pixels
    height, width = alpha.shape
    rows = 2 * max(1, _CHUNK // width)
    chunks = [slice(top, top + rows) for top in range(0, height, rows)]
    coarse, weights = [], []
    for chunk in chunks:
        weight = alpha[chunk].astype(np.float32)[..., None] / np.float32(255)
        coarse.append(_halved(pixels[chunk].astype(np.float32) * weight))
        weights.append(_halved(weight))
    around = _around(np.concatenate(coarse), np.concatenate(weights))
    del coarse, weights
    filled = pixels.copy()
    for chunk in chunks:
        spread = _doubled(around[chunk.start // 2 : chunk.stop // 2], alpha[chunk].shape)
        hidden = alpha[chunk] == 0
        colours = spread[hidden]
        filled[chunk][hidden] = np.rint(colours) if pixels.dtype == np.uint8 else colours
    return filled


def _around(colours: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean colours, found from means over blocks of 2, 4, 8, ... where nothing nearer is visible.

    Args:
        colours: (H, W, 3), multiplied by the weights.
        weight: (H, W, 1), from 0.
    """
    height, width = weight.shape[:2]
    known = np.divide(colours, weight, out=np.zeros_like(colours), where=weight > 0)
    if (weight > 0).all() or max(height, width) == 1:
        return known
    spread = _doubled(_around(_halved(colours), _halved(weight)), (height, width))
    return np.where(weight > 0, known, spread)


def _doubled(values: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    return values.repeat(2, axis=0).repeat(2, axis=1)[: size[0], : size[1]]


def _halved(values: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = values.shape[:2]
    if height % 2 or width % 2:
        values = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    # Sums of slices take a fraction of the time of a mean over axes.
    pairs = values[:, 0::2] + values[:, 1::2]
    sums: NDArray[np.float32] = pairs[0::2] + pairs[1::2]
    sums /= 4
    return sums


def resize_with_alpha(
    pixels: NDArray[Any], alpha: NDArray[np.uint8] | None, size: tuple[int, int]
) -> tuple[NDArray[Any], NDArray[np.uint8] | None]:
    """Resizes with Lanczos resampling; colours are multiplied by alpha meanwhile.

    Args:
        pixels: (H, W, 3), uint8 or floating-point in [0, 1].
        alpha: (H, W), or None for an opaque picture.
        size: (height, width).

    Returns:
        The resized pixels and alpha channel, uint8 or float32.
    """
    whole = pixels.dtype == np.uint8
    if alpha is None:
        if whole:
            return _scaled(pixels, size), None
        return np.clip(_by_channel(pixels.astype(np.float32, copy=False), size), 0, 1), None
    weight = alpha.astype(np.float32)[..., None] / np.float32(255)
    # Hidden pixels are filled, so that the small weights at borders divide nothing strange.
    visible = _by_channel(fill_hidden(pixels, alpha).astype(np.float32) * weight, size)
    share = _by_channel(weight, size)
    resized = np.divide(visible, share, out=np.zeros_like(visible), where=share > 1 / 512)
    resized = np.clip(resized, 0, 255 if whole else 1)
    levels = np.clip(np.rint(share[..., 0] * 255), 0, 255).astype(np.uint8)
    result = np.rint(resized).astype(np.uint8) if whole else resized
    return fill_hidden(result, levels), levels


def _by_channel(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    channels = [_scaled(np.ascontiguousarray(values[..., c]), size) for c in range(values.shape[2])]
    return np.stack(channels, axis=2)


def _scaled(samples: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return np.asarray(Image.fromarray(samples).resize(size[::-1], Image.Resampling.LANCZOS))
