"""The cascade beyond memory: windows of an image, two passes a stage, the whole image's result.

A stage first encodes every window and adds up the statistics of its features, then transforms and
decodes. Windows lie wholly inside the image, so that its true borders keep their padding by
reflection, and overlap by what a cut can change (`Spec.halo`), which is thrown away. The image
stays in host memory; the device holds a window or two, whatever the image's size.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike
from numpy.typing import NDArray

from cdjax.decoder import Decoder
from cdjax.encoder import Encoder
from cdjax.layers import apply
from cdjax.model import Model, Params
from cdjax.spec import Spec
from cdjax.stylization import (
    TRANSFORMS,
    Style,
    check_model,
    check_style,
    checked,
    compute_dtype,
    grown_size,
)
from cdjax.transform import Affine, Moments

_Image = NDArray[np.float32]
_T = TypeVar("_T")

_KEPT_PER_PIXEL = 3
"""Features of at most so many numbers an image pixel are kept between the passes: the image itself
has as many. Those of shallower stages are more, and cheaper to compute again."""

_IN_FLIGHT = 2
"""Windows on the device at once: one computes while the next one travels."""


@dataclass(frozen=True)
class Window:
    """A piece of an image along one axis, in pixels.

    Attributes:
        start: where it begins.
        core: the part of the image, as (begin, end), that is taken from this window.
    """

    start: int
    core: tuple[int, int]


def plan_windows(length: int, window: int, halo: int) -> list[Window]:
    """Windows along an axis, whose cores are the axis without gap or overlap.

    Args:
        length: of the axis, in pixels.
        window: of every window; an axis that is no longer is one window.
        halo: pixels next to a cut that no core may touch.

    Raises:
        ValueError: if a window has nothing left between two halos.
    """
    if length <= window:
        return [Window(0, (0, length))]
    step = window - 2 * halo
    if step <= 0:
        raise ValueError(f"a window of {window} pixels is all halo; it needs more than {2 * halo}")
    starts = [*range(0, length - window, step), length - window]
    begins = [0, *(start + halo for start in starts[1:])]
    ends = [*begins[1:], length]
    return [
        Window(start, (begin, end)) for start, begin, end in zip(starts, begins, ends, strict=True)
    ]


class MomentsSum:
    """Adds up the statistics of pieces, in float64: exact for any number of pixels."""

    def __init__(self) -> None:
        self._count, self._mean, self._scatter = 0.0, np.zeros(()), np.zeros(())

    def add(self, piece: Moments) -> None:
        """Takes in the statistics of one more piece (Chan, Golub and LeVeque 1979)."""
        count, mean, scatter = (
            np.asarray(part, np.float64) for part in (piece.count, piece.mean, piece.scatter)
        )
        total = self._count + float(count)
        if not count:
            return
        apart = mean - self._mean
        self._scatter = (
            self._scatter + scatter + np.outer(apart, apart) * (self._count * count / total)
        )
        self._mean = self._mean + apart * (count / total)
        self._count = total

    def total(self) -> Moments:
        """Of everything that was added, float32."""
        parts = (self._count, self._mean, self._scatter)
        return Moments(*(jnp.asarray(np.asarray(part, np.float32)) for part in parts))


def _masked_moments(features: Array, core: Array) -> Moments:
    """Statistics of the features (h, w, C) within rows core[0] to core[1], columns likewise."""
    rows, columns = (jnp.arange(size) for size in features.shape[:2])
    inside = ((rows >= core[0]) & (rows < core[1]))[:, None] & (
        (columns >= core[2]) & (columns < core[3])
    )
    weights = inside.astype(jnp.float32).reshape(-1, 1)
    flat = features.reshape(-1, features.shape[-1]).astype(jnp.float32)
    count = weights.sum()
    mean = (weights * flat).sum(0) / count
    centred = weights * (flat - mean)
    return Moments(count, mean, jnp.matmul(centred.T, centred, precision="highest"))


@partial(jax.jit, static_argnames=("spec", "dtype"))
def _encode(
    params: Params, image: Array, core: Array, *, spec: Spec, dtype: DTypeLike
) -> tuple[Array, Moments]:
    features = apply(Encoder(spec, dtype), params, image[None])[0][0]
    return features, _masked_moments(features, core)


@partial(jax.jit, static_argnames=("spec", "dtype"))
def _decode(
    params: Params, features: Array, transform: Affine, *, spec: Spec, dtype: DTypeLike
) -> Array:
    return apply(Decoder(spec, dtype), params, transform(features)[None])[0]


@partial(jax.jit, static_argnames=("spec", "dtype"))
def _recode(
    encoder: Params,
    decoder: Params,
    image: Array,
    transform: Affine,
    *,
    spec: Spec,
    dtype: DTypeLike,
) -> Array:
    features = apply(Encoder(spec, dtype), encoder, image[None])[0][0]
    return apply(Decoder(spec, dtype), decoder, transform(features)[None])[0]


def _in_flight(jobs: Iterable[tuple[Window, Window]], run: Callable[..., _T]) -> Iterator[Any]:
    """Every job with its result, a little behind, so that the device is never idle."""
    pending: list[tuple[Window, Window, _T]] = []
    for rows, columns in jobs:
        pending.append((rows, columns, run(rows, columns)))
        if len(pending) >= _IN_FLIGHT:
            yield pending.pop(0)
    yield from pending


def _grid(shape: tuple[int, ...], window: int, halo: int) -> list[tuple[Window, Window]]:
    rows, columns = (plan_windows(length, window, halo) for length in shape[:2])
    return [(row, column) for row in rows for column in columns]


def _cut(array: NDArray[Any], rows: Window, columns: Window, window: int, scale: int) -> Any:
    """A window of an array that has one line for `scale` pixels."""
    size = window // scale
    top, left = rows.start // scale, columns.start // scale
    return np.ascontiguousarray(array[top : top + size, left : left + size])


def _paste(target: NDArray[Any], rows: Window, columns: Window, part: Array, scale: int) -> None:
    """The core of a window's result into the whole."""
    (top, bottom), (left, right) = (
        (w.core[0] // scale, w.core[1] // scale) for w in (rows, columns)
    )
    row, column = rows.start // scale, columns.start // scale
    values = np.asarray(part)
    target[top:bottom, left:right] = values[
        top - row : bottom - row, left - column : right - column
    ]


def _encode_all(
    params: Params, image: _Image, *, spec: Spec, window: int, dtype: Any, keep: bool
) -> tuple[Moments, NDArray[Any] | None]:
    """First pass: the statistics of all features, and the features themselves if they are kept."""
    stride = spec.stride
    kept = None
    if keep:
        shape = (image.shape[0] // stride, image.shape[1] // stride, spec.widths[-1])
        kept = np.empty(shape, dtype)

    def run(rows: Window, columns: Window) -> tuple[Array, Moments]:
        core = [(edge - w.start) // stride for w in (rows, columns) for edge in w.core]
        piece = _cut(image, rows, columns, window, 1)
        return _encode(params, piece, np.array(core, np.int32), spec=spec, dtype=dtype)

    statistics = MomentsSum()
    for rows, columns, (features, moments) in _in_flight(
        _grid(image.shape, window, spec.halo), run
    ):
        statistics.add(moments)
        if kept is not None:
            _paste(kept, rows, columns, features, stride)
    return statistics.total(), kept


def _stage(
    model: Model,
    spec: Spec,
    image: _Image,
    style: Moments,
    alpha: Array,
    *,
    window: int,
    dtype: Any,
) -> _Image:
    """What a stage makes of an image; both passes."""
    networks = model.params[f"stage{spec.stage}"]
    keep = spec.widths[-1] <= _KEPT_PER_PIXEL * spec.stride**2
    content, features = _encode_all(
        networks["encoder"], image, spec=spec, window=window, dtype=dtype, keep=keep
    )
    transform = jax.jit(TRANSFORMS[model.config.method])(content, style, alpha)
    result = np.empty(image.shape, np.float32)

    def run(rows: Window, columns: Window) -> Array:
        if features is not None:
            piece = _cut(features, rows, columns, window, spec.stride)
            return _decode(networks["decoder"], piece, transform, spec=spec, dtype=dtype)
        piece = _cut(image, rows, columns, window, 1)
        encoder, decoder = networks["encoder"], networks["decoder"]
        return _recode(encoder, decoder, piece, transform, spec=spec, dtype=dtype)

    # What is encoded again is cut twice: once for the features, once for the decoder.
    halo = spec.halo if features is not None else 2 * spec.halo
    for rows, columns, part in _in_flight(_grid(image.shape, window, halo), run):
        _paste(result, rows, columns, part, 1)
    return result


def _host_image(image: ArrayLike, name: str, model: Model) -> _Image:
    """An image as float32 in host memory, grown to whole positions of the deepest features."""
    pixels = np.asarray(checked(image, name))
    if pixels.ndim != 3:
        raise ValueError(f"{name} must be one image (H, W, 3), not {pixels.shape}")
    scale = 255 if pixels.dtype == np.uint8 else 1
    grown = grown_size(pixels.shape[:2], model.config)
    pad = [(0, new - old) for new, old in zip(grown, pixels.shape[:2], strict=True)]
    return np.pad(pixels.astype(np.float32) / scale, [*pad, (0, 0)], "symmetric")


def stylize_by_windows(
    model: Model,
    content: ArrayLike,
    style: ArrayLike | Style,
    *,
    alpha: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    window: int = 1024,
) -> _Image:
    """What `cdjax.stylize` makes of one image, in device memory that does not grow with it.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        content: (H, W, 3), RGB, uint8 or floating in [0, 1], in host memory; any size from 1 pixel.
        style: an image like it, of any size, or what `cdjax.encode_style` returned of one image.
        alpha: share of the transform at every stage, from 0 to 1.
        dtype: float32 or bfloat16, the networks' compute dtype.
        window: sides of the windows in pixels, a multiple of the deepest stage's stride and more
            than twice its halo; what the device holds grows with their area.

    Returns:
        float32 in [0, 1], (H, W, 3).

    Raises:
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if a shape, the window, the dtype, the model's method or the style's origin
            does not fit.
    """
    check_model(model)
    dtype, config = compute_dtype(dtype), model.config
    stride = config.specs[0].stride
    smallest = max(
        (2 if spec.widths[-1] <= _KEPT_PER_PIXEL * spec.stride**2 else 4) * spec.halo
        for spec in config.specs
    )
    if window % stride or window <= smallest:
        raise ValueError(
            f"window must be a multiple of {stride} and more than {smallest}, not {window}"
        )
    image = _host_image(content, "content", model)
    if isinstance(style, Style):
        encoded = style
    else:
        painting = _host_image(style, "style", model)
        statistics = [
            _encode_all(
                model.params[f"stage{spec.stage}"]["encoder"], painting,
                spec=spec, window=window, dtype=dtype, keep=False,
            )[0]
            for spec in config.specs
        ]  # fmt: skip
        encoded = Style(tuple(statistics))
    check_style(config, encoded, np.asarray(content))
    if encoded.moments[0].mean.ndim == 2:  # A batch of one style.
        encoded = jax.tree.map(lambda leaf: leaf[0], encoded)
    for spec, moments in zip(config.specs, encoded.moments, strict=True):
        share = jnp.asarray(alpha, jnp.float32)
        image = _stage(model, spec, image, moments, share, window=window, dtype=dtype)
    height, width = np.asarray(content).shape[:2]
    return np.clip(image[:height, :width], 0, 1)
