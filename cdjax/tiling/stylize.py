"""The cascade beyond memory: windows of an image, two passes a stage, the whole image's result.

The image stays in host memory or in files; a device holds a few windows, whatever the size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike, DTypeLike
from numpy.typing import NDArray

from cdjax.model import Method, Model
from cdjax.networks.spec import Spec
from cdjax.ops.jit import EXACT, compiled
from cdjax.tiling.budget import default_host_memory, default_memory
from cdjax.tiling.buffers import Progress, Raster, Scratch, in_memory
from cdjax.tiling.passes import decode_pass, encode_pass
from cdjax.transfer.statistics import Moments
from cdjax.transfer.stylize import (
    TRANSFORMS,
    Style,
    check_model,
    check_pixels,
    check_style,
    compute_dtype,
    grown_size,
)
from cdjax.transfer.transforms import Affine

Note = Callable[[int, int], None]
"""Is told of a stage (0: the style) and how many pixels of one of its two passes are finished."""


def stylize_by_windows(
    model: Model,
    content: ArrayLike | Raster,
    style: ArrayLike | Raster | Style,
    *,
    alpha: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    memory: int | None = None,
    host_memory: int | None = None,
    levels: bool = False,
    progress: Progress | None = None,
    note: Note | None = None,
) -> NDArray[Any]:
    """What `cdjax.stylize` makes of one image, in device memory that does not grow with it.

    Windows overlap by what a cut can change, and statistics are summed in float64. On a CPU,
    in float32, it is the same to the last bit. All local devices take part, and all hosts of
    `jax.distributed`, which must be given the same arguments.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        content: (H, W, 3), RGB, uint8 or floating in [0, 1], of any size from 1 pixel: an array, or
            what is read where it is cut (`image[rows, columns]`), as `cdjax.io.vips.open_image` is.
        style: an image like it, of any size, or what `cdjax.encode_style` returned of one image.
        alpha: share of the transform at every stage, from 0 to 1.
        dtype: float32 or bfloat16, the networks' compute dtype.
        memory: bytes of each device that windows may take, from which their size follows; by
            default most of a GPU's, half of what is free of a CPU's.
        host_memory: bytes of host memory that images and features may take; what is more goes to
            temporary files. By default half of the memory that is free.
        levels: whether to return uint8 grey levels, a quarter of the memory of float32.
        progress: keeps every finished stage, and goes on behind the one it has. To be cleared when
            the result is where it belongs.
        note: is told of progress, in another thread.

    Returns:
        (H, W, 3), float32 in [0, 1] or uint8; mapped onto a temporary file if it is larger than
        the host memory that is allowed.

    Raises:
        OSError: if a file cannot be written.
        TypeError: if the pixels are neither uint8 nor floating.
        ValueError: if a shape, the memory, the dtype, the model's method or the style's origin
            does not fit.
    """
    check_model(model)
    dtype, config = compute_dtype(dtype), model.config
    memory = default_memory() if memory is None else memory
    scratch = Scratch(default_host_memory() if host_memory is None else host_memory)
    source = _raster(content, "content")
    note = note or (lambda stage, pixels: None)
    encoded = (
        style
        if isinstance(style, Style)
        else encode_style_by_windows(
            model, style, dtype=dtype, memory=memory, note=partial(note, 0)
        )
    )
    check_style(config, encoded, source.shape)
    if encoded.moments[0].mean.ndim == 2:  # A batch of one style.
        encoded = jax.tree.map(lambda leaf: leaf[0], encoded)

    height, width = source.shape[:2]
    image: Any = source
    done, specs = 0, config.specs
    if progress is not None and (found := progress.load()) is not None:
        stage, image = found
        scratch.adopt(image)
        done = next(i + 1 for i, spec in enumerate(specs) if spec.stage == stage)
    grown = grown_size((height, width), config)
    for index in range(done, len(specs)):
        last = index == len(specs) - 1
        image = _stage(
            model,
            specs[index],
            image,
            encoded.moments[index],
            jnp.asarray(alpha, jnp.float32),
            shape=(height, width) if last else (grown[0], grown[1]),
            size=(grown[0], grown[1]),
            levels=levels and last,
            reuse=index > done and not (levels and last),
            memory=memory,
            dtype=dtype,
            scratch=scratch,
            note=partial(note, specs[index].stage),
        )
        if progress is not None and not last and jax.process_index() == 0:
            progress.save(specs[index].stage, image)
    scratch.release()
    return image if levels else np.clip(image, 0, 1, out=image)


def encode_style_by_windows(
    model: Model,
    style: ArrayLike | Raster,
    *,
    dtype: DTypeLike = jnp.float32,
    memory: int | None = None,
    note: Callable[[int], None] | None = None,
) -> Style:
    """What `cdjax.encode_style` makes of one image; see `stylize_by_windows` for the arguments."""
    check_model(model)
    source = _raster(style, "style")
    height, width = grown_size((source.shape[0], source.shape[1]), model.config)
    statistics = [
        encode_pass(
            model.params[f"stage{spec.stage}"]["encoder"],
            source,
            (height, width),
            spec=spec,
            memory=default_memory() if memory is None else memory,
            dtype=compute_dtype(dtype),
            scratch=None,
            note=note or (lambda pixels: None),
        )[0]
        for spec in model.config.specs
    ]
    return Style(tuple(statistics))


def _stage(
    model: Model,
    spec: Spec,
    image: Any,
    style: Moments,
    alpha: Array,
    *,
    shape: tuple[int, int],
    size: tuple[int, int],
    levels: bool,
    reuse: bool,
    memory: int,
    dtype: Any,
    scratch: Scratch,
    note: Callable[[int], None],
) -> NDArray[Any]:
    """What a stage makes of an image of a size, cropped to a shape; `reuse`: of float32, in it."""
    networks = model.params[f"stage{spec.stage}"]
    options: Any = {
        "spec": spec,
        "memory": memory,
        "dtype": dtype,
        "scratch": scratch,
        "note": note,
    }
    content, features = encode_pass(networks["encoder"], image, size, **options)
    transform = _transform(content, style, alpha, method=model.config.method)
    pixels = np.uint8 if levels else np.float32
    if features is not None and reuse and image.shape[:2] == shape:
        target = image  # All that is needed of it lies in the features.
    else:
        target = scratch.empty((*shape, 3), pixels, in_memory(features) + in_memory(image))
    decode_pass(networks, image, features, transform, target, size, **options)
    return target


@partial(compiled, settings=EXACT, static_argnames="method")
def _transform(content: Moments, style: Moments, alpha: Array, *, method: Method) -> Affine:
    return TRANSFORMS[method](content, style, alpha)


def _raster(image: Any, name: str) -> Raster:
    if isinstance(image, jax.Array) or not hasattr(image, "shape"):
        image = np.asarray(image)
    check_pixels(image, name)
    if len(image.shape) != 3:
        raise ValueError(f"{name} must be one image (H, W, 3), not {image.shape}")
    return image
