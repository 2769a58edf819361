"""Masks from files: the brightness of a picture, and how visible its pixels are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax.io.atomic import StrPath
from cdjax.io.images import Picture
from cdjax.io.streaming import open_picture
from cdjax.io.vips import VipsImage, read_region


def read_mask(path: StrPath) -> Any:
    """Reads a picture as a mask: its brightness, where what is transparent counts as black.

    Returns:
        (H, W), uint8, or float32 in [0, 1] for pictures of more than 8 bits; of a large picture, an
        object that is read by regions.

    Raises:
        ImageError: as `cdjax.io.streaming.open_picture`. A large picture may raise it when a region
            is read.
    """
    picture = open_picture(path, flat=True)
    if isinstance(picture, Picture):
        return brightness(picture.pixels, picture.alpha)
    return _Brightness(picture)


def opacity(picture: Picture | VipsImage) -> Any | None:
    """How visible the pixels of a picture are, (H, W), uint8; None if all are, or hardly any is.

    Of a picture that is read by regions, an object that is read by regions too.
    """
    alpha = picture.alpha
    if alpha is None or alpha.max() <= 1:
        return None
    return alpha if isinstance(picture, Picture) else _Opacity(picture)


def brightness(pixels: NDArray[Any], alpha: NDArray[np.uint8] | None = None) -> NDArray[Any]:
    """Luma (Rec. 601) of pixels (H, W, 3), uint8 or floating in [0, 1], of the same dtype.

    That of grey is its value to the last bit. It is multiplied by alpha, (H, W).
    """
    whole = pixels.dtype == np.uint8
    red, green, blue = (pixels[..., channel] for channel in range(3))
    if (red == green).all() and (green == blue).all():
        luma = green
    else:
        base = green.astype(np.float32)
        luma = base + np.float32(0.299) * (red - base) + np.float32(0.114) * (blue - base)
    if alpha is not None:
        luma = luma * (alpha.astype(np.float32) / 255)
    return np.rint(luma).astype(np.uint8) if whole else np.clip(luma, 0, 1)


@dataclass(frozen=True)
class _ByRegions:
    """An array (H, W) that is made of a picture region by region."""

    image: VipsImage

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape[:2]


class _Brightness(_ByRegions):
    """The brightness of a picture."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.image.dtype

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[Any]:
        alpha = None if self.image.alpha is None else _Opacity(self.image)[region]
        return brightness(self.image[region], alpha)


class _Opacity(_ByRegions):
    """The alpha channel of a picture."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __getitem__(self, region: tuple[slice, slice]) -> NDArray[np.uint8]:
        return read_region(self.image.alpha, region, self.image.name)
