"""Regions: every position of the features has a weight in each of several styles.

A region's content statistics are weighted moments, its transform is an affine map, and features are
the weighted means of what the maps make of them. Positions of no region stay as they are. In the
end, pixels are mixed with those of the content. Transparency is a weight in the statistics alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from cdjax.networks.spec import Spec
from cdjax.transfer.masks import fit_mask, is_full, joint
from cdjax.transfer.pixels import pad, to_float
from cdjax.transfer.statistics import (
    Moments,
    mean_and_scatter,
    moments,
    sums64,
    weighted_sums64,
)
from cdjax.transfer.transforms import Affine

_NEVER = 1e30


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Regions:
    """The masks of a picture; a pytree.

    Attributes:
        masks: one per style, (..., H, W), bool, uint8 or floating in [0, 1]: arrays, or rasters
            from which windows are cut. Without any, the only style is used everywhere.
        opacity: (..., H, W), as the masks: how much of each pixel is visible, and counts in
            statistics. None: all of it.
    """

    masks: tuple[Any, ...]
    opacity: Any | None


@dataclass(frozen=True)
class Weights:
    """The weights of the positions of a stage's features.

    Attributes:
        shares: of each region, (..., h, w), float32; their sum is at most 1. Empty if the only
            style is used everywhere.
        counts: how much a position counts in the statistics of each region; of all positions
            where there are no shares.
    """

    shares: tuple[Array, ...]
    counts: tuple[Array, ...]


def regions_of(
    masks: Sequence[Any] | None, opacity: Any | None, shape: tuple[int, ...]
) -> Regions | None:
    """The regions of a picture of a shape, (..., H, W, 3), from what callers give.

    Raises:
        TypeError, ValueError: as `fit_mask`.
    """
    given = () if masks is None else tuple(masks)
    several = len(given) > 1
    names = [f"mask {i}" if several else "mask" for i, _ in enumerate(given, 1)]
    fitted = tuple(_fitted(mask, shape, name) for mask, name in zip(given, names, strict=True))
    # The same program, and the same bits on every device, as without.
    fitted = () if not several and all(map(is_full, fitted)) else fitted
    visible = visible_part(opacity, shape, "opacity")
    if not fitted:
        return visible
    return Regions(fitted, None if visible is None else visible.opacity)


def visible_part(mask: Any | None, shape: tuple[int, ...], name: str) -> Regions | None:
    """Regions in which a mask says how much each pixel counts; None if each counts 1.

    The mask has a name in errors, which are those of `regions_of`.
    """
    fitted = None if mask is None else _fitted(mask, shape, name)
    return None if fitted is None or is_full(fitted) else Regions((), fitted)


def _fitted(mask: Any, shape: tuple[int, ...], name: str) -> Any:
    """The mask of pictures of a shape (..., H, W, 3), of their size."""
    fitted = fit_mask(mask, shape[-3:-1], name)
    if fitted.shape[:-2] not in ((), (1,), shape[:-3]):
        raise ValueError(f"{name}: {fitted.shape} does not fit images of {shape}")
    return fitted


def styles_of(style: Any, masks: Sequence[Any] | None) -> tuple[Any, ...]:
    """The styles, one a mask; a single one if there are no masks.

    Raises:
        ValueError: if their numbers differ.
    """
    if masks is None:
        return (style,)
    if not isinstance(style, list | tuple) or len(style) != len(masks) or not masks:
        given = len(style) if isinstance(style, list | tuple) else 1
        raise ValueError(f"masks: {len(masks)} masks need as many styles in a list, not {given}")
    return tuple(style)


def one_of(mask: Any | None, masks: Sequence[Any] | None, style: Any) -> tuple[Any, Any]:
    """Masks and styles as sequences, from an only mask with its style, or masks with theirs."""
    if mask is None:
        return masks, style
    if masks is not None:
        raise ValueError("give either mask, for one style, or masks, for several")
    return [mask], [style]


def padded(regions: Regions | None, specs: Sequence[Spec]) -> Regions | None:
    """The regions as arrays (N, H, W), float32, continued as `cdjax.transfer.pixels.pad` does."""

    def grown(mask: Any) -> Array:
        values = to_float(mask)
        values = values if values.ndim == 3 else values[None]
        return pad(values[..., None], specs)[..., 0]

    return jax.tree.map(grown, regions)


def in_memory(regions: Regions | None) -> Regions | None:
    """The regions with masks as arrays, read as a whole."""
    arrays = (jax.Array, np.ndarray)
    return jax.tree.map(lambda mask: mask if isinstance(mask, arrays) else mask[:, :], regions)


def region_of(regions: Regions | None, index: int) -> Regions | None:
    """The regions of the image with that index in a batch; masks without an axis are of all."""
    return jax.tree.map(partial(nth_mask, index=index), regions)


def nth_mask(mask: Any | None, index: int) -> Any | None:
    """The mask of the image with that index in a batch; one without an axis is of all images."""
    if mask is None or mask.ndim == 2:
        return mask
    return mask[min(index, len(mask) - 1)]


def counts_of(regions: Regions | None, index: int) -> Any | None:
    """How much every pixel of the content counts in a region by its mask; None if each counts 1."""
    if regions is None:
        return None
    return joint(regions.masks[index] if regions.masks else None, regions.opacity)


def shares_of(regions: Regions) -> tuple[Array, ...]:
    """The share of each region in every pixel, float32.

    Where the masks' sum exceeds 1, they share the pixel in proportion.
    """
    values = tuple(map(_fraction, regions.masks))
    if len(values) < 2:
        return values
    total = jnp.maximum(_sum(values), 1)
    return tuple(value / total for value in values)


def weights_at(regions: Regions | None, stride: int) -> Weights | None:
    """The weights of features whose positions cover `stride` pixels a side: means over these."""
    if regions is None:
        return None
    shares = shares_of(regions)
    counts = shares
    if regions.opacity is not None:
        opacity = _fraction(regions.opacity)
        counts = tuple(_product(share, opacity) for share in shares) or (opacity,)
    reduced = [tuple(_mean_at(part, stride) for part in parts) for parts in (shares, counts)]
    return Weights(*reduced)


def region_moments(features: Array, weights: Weights | None) -> tuple[Moments, ...]:
    """The moments of each region's features (..., h, w, C); of all features without weights."""
    if weights is None:
        return (moments(features),)
    return tuple(moments(features, counts) for counts in weights.counts)


def region_sums(
    features: Array, weights: Weights | None, rectangle: ArrayLike
) -> tuple[Array, ...]:
    """Sums over the positions of features (h, w, C) in a rectangle, in float64.

    Those of `sums64`; with weights, of `weighted_sums64` for each region, one after the other. The
    rectangle is the first and one past the last of the rows, then of the columns.
    """
    top, bottom, left, right = jnp.asarray(rectangle)
    rows, columns = (jnp.arange(size) for size in features.shape[:2])
    inside = ((rows >= top) & (rows < bottom))[:, None] & ((columns >= left) & (columns < right))
    if weights is None:
        return sums64(features, inside)
    parts = (weighted_sums64(features, counts * inside) for counts in weights.counts)
    return tuple(number for part in parts for number in part)


def moments_of(sums: Sequence[Any], regions: Regions | None, positions: int) -> tuple[Moments, ...]:
    """The moments of each region from its `region_sums`; `positions` is the number of all."""
    if regions is None:
        sums = [np.asarray(positions, np.float64), *sums]
    found = []
    for count, *rest in zip(*(iter(sums),) * 3, strict=True):
        parts = (count, *mean_and_scatter(count + (count == 0), *rest))
        found.append(Moments(*(jax.device_put(np.float32(part)) for part in parts)))
    return tuple(found)


def map_regions(features: Array, maps: Sequence[Affine], weights: Weights | None) -> Array:
    """Features (..., h, w, C) moved by the map of each region; those of no region stay.

    Where regions share a position with the content, they move it wholly, because `over_content`
    mixes the pixels: grey would count twice.
    """
    if weights is None or not weights.shares:
        return maps[0](features)
    values, total = features.astype(jnp.float32), _sum(weights.shares)[..., None]
    inside = total > 0
    parts = [
        _product(share[..., None] / jnp.where(inside, total, 1), affine(values))
        for affine, share in zip(maps, weights.shares, strict=True)
    ]
    return jnp.where(inside, _sum(parts), values).astype(features.dtype)


def over_content(images: Array, content: Array, regions: Regions | None) -> Array:
    """Images (..., H, W, 3), clipped to [0, 1], over the content where there is no region.

    Both are float32. Where all masks are 0 the result is the content, and where their sum is 1 the
    image; between them it is a mean.
    """
    if regions is None or not regions.masks:
        return images
    shares = shares_of(regions)
    above = _product(jnp.minimum(_sum(shares), 1)[..., None], jnp.clip(images, 0, 1))
    return above + _product(_rest(shares)[..., None], _fraction(content))


def _fraction(mask: Any) -> Array:
    """A mask or pixels as float32 in [0, 1].

    The limits keep XLA from multiplying something else by the factor of uint8; see `_product`.
    """
    return jnp.clip(to_float(mask), 0, 1)


def _product(share: Array, values: Array) -> Array:
    """A product that XLA neither fuses with a sum nor reorders, which would round otherwise.

    Whether it does depends on the program, and windows must equal the whole image bit for bit. The
    limits are never reached.
    """
    return jnp.clip(share * values, -_NEVER, _NEVER)


def _sum(parts: Sequence[Array]) -> Array:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _rest(shares: Sequence[Array]) -> Array:
    return jnp.maximum(1 - _sum(shares), 0)


def _mean_at(values: Array, stride: int) -> Array:
    """Means over squares of `stride` pixels a side, a power of 2.

    By halves, value by value: a sum of XLA's would depend on the size of the array.
    """
    while stride > 1:
        rows = values[..., ::2, :] + values[..., 1::2, :]
        values = (rows[..., ::2] + rows[..., 1::2]) / 4
        stride //= 2
    return values
