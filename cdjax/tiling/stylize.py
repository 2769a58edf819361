"""Style transfer beyond memory: two passes over the windows of an image at every stage.

The image stays in host memory or in files, and a device holds a few windows of it, so its memory
does not grow with the image.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from numpy.typing import NDArray

from cdjax.model import Model, ModelConfig
from cdjax.networks.spec import Spec
from cdjax.progress import OnProgress, Progress, ignore_progress
from cdjax.tiling.budget import TileConfig, tile_config
from cdjax.tiling.buffers import Raster, Scratch, in_memory
from cdjax.tiling.passes import StageTiles, decode_pass, encode_pass
from cdjax.tiling.resume import ResumeState
from cdjax.transfer.color import PreserveColor, check_preserve_color, in_colors_of
from cdjax.transfer.masks import Mask
from cdjax.transfer.patches import stage_map
from cdjax.transfer.pixels import check_pixels, check_range, padded_size
from cdjax.transfer.regions import Regions, counts_of, one_of, regions_of, styles_of, visible_part
from cdjax.transfer.statistics import Moments
from cdjax.transfer.stylize import (
    Style,
    check_style,
    nth_style,
    style_regions,
)
from cdjax.transfer.transforms import Affine, check_model, with_transform

StageMaps = Callable[[tuple[Moments, ...]], tuple[Affine, ...]]
"""From the moments of a content in the region of each style to the map of each region."""


def stylize_by_windows(
    model: Model,
    content: ArrayLike | Raster,
    style: ArrayLike | Raster | Style | Sequence[ArrayLike | Raster | Style],
    *,
    alpha: float = 1.0,
    transform: str | None = None,
    regularization: float = 0.0,
    mask: ArrayLike | Mask | None = None,
    masks: Sequence[ArrayLike | Mask] | None = None,
    opacity: ArrayLike | Mask | None = None,
    preserve_color: PreserveColor | None = None,
    dtype: DTypeLike = jnp.float32,
    memory: int | None = None,
    host_memory: int | None = None,
    levels: bool = False,
    resume: ResumeState | None = None,
    on_progress: OnProgress = ignore_progress,
) -> NDArray[Any]:
    """Does what `cdjax.stylize` does for one image, in device memory that does not grow with it.

    On a CPU in float32 the result equals that of `cdjax.stylize` bit for bit. All local devices
    take part, and all hosts of `jax.distributed`, which must get the same arguments.

    Args:
        model: a model of method `"wct"` or `"adain"`.
        content: (H, W, 3), RGB, uint8 or floating in [0, 1]: an array, or an object that is read by
            regions (`image[rows, columns]`) as from `cdjax.io.vips.open_image`.
        style: an image like `content`, a result of `cdjax.encode_style`, or with `masks` a list.
        alpha: as for `cdjax.stylize`.
        transform: as for `cdjax.stylize`.
        regularization: as for `cdjax.stylize`.
        mask: as for `cdjax.stylize`, (H, W): an array, or an object read by regions.
        masks: several of them, as for `cdjax.stylize`.
        opacity: as for `cdjax.stylize`, in the form of `mask`.
        preserve_color: as for `cdjax.stylize`.
        dtype: float32 or bfloat16, the networks' compute dtype.
        memory: bytes of each device's memory for windows, whose size follows from it. By default
            70% of a GPU's memory, or half of the free memory.
        host_memory: bytes for images and features, by default half of the free; more is in files.
        levels: whether to return uint8 grey levels, a quarter of the memory of float32.
        resume: saves every finished stage, if it can; clear it once the result is stored.
        on_progress: called in another thread with pixels over all stages; metric `"stage"`.

    Returns:
        (H, W, 3), float32 in [0, 1] or uint8; mapped onto a file beyond `host_memory`.

    Raises:
        OSError: if a file cannot be written.
        TypeError, ValueError: as for `cdjax.stylize`, or if the memory is too small.
    """
    model = with_transform(model, transform, regularization)
    config, source = tile_config(memory, host_memory, dtype), _raster(content, "content")
    masks, style = one_of(mask, masks, style)
    given, regions = styles_of(style, masks), regions_of(masks, opacity, source.shape)
    options: Any = {"dtype": dtype, "memory": memory, "on_progress": on_progress}
    shown = _Content(source, regions, preserve_color == "luminance")
    styles = _encoded(model, given, shown, preserve_color, options)
    maps = _maps(model.config, styles, alpha, regularization)
    return _run_stages(model, shown, maps, config, levels, resume, on_progress)


@dataclass(frozen=True)
class _Content:
    """What is stylised.

    Attributes:
        source: the content.
        regions: its masks, or None.
        chroma: whether the result gets its chroma.
    """

    source: Raster
    regions: Regions | None
    chroma: bool


def _encoded(
    model: Model,
    given: Sequence[Any],
    content: _Content,
    preserve_color: PreserveColor | None,
    options: Mapping[str, Any],
) -> list[Style]:
    """The styles, encoded if they are images; errors if they do not fit the content."""
    check_preserve_color(preserve_color, encoded=any(isinstance(each, Style) for each in given))
    styles = []
    for index, style in enumerate(given):
        if not isinstance(style, Style):
            colors: dict[str, Any] = {}
            if preserve_color == "match":
                seen = counts_of(content.regions, index)
                colors = {"colors_of": content.source, "colors_mask": seen}
            style = encode_style_by_windows(model, style, **colors, **options)
        check_style(model.config, style, content.source.shape)
        styles.append(nth_style(style, 0))
    return styles


def encode_style_by_windows(
    model: Model,
    style: ArrayLike | Raster,
    *,
    mask: ArrayLike | Mask | None = None,
    colors_of: ArrayLike | Raster | None = None,
    colors_mask: ArrayLike | Mask | None = None,
    dtype: DTypeLike = jnp.float32,
    memory: int | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Style:
    """Does what `cdjax.encode_style` does for one image, in limited device memory.

    `colors_of` is one image too, like `style`; the other arguments and errors are those of
    `stylize_by_windows`.
    """
    check_model(model)
    config = tile_config(memory, None, dtype)
    source, specs = _raster(style, "style"), model.config.specs
    size, visible = padded_size(source.shape[:2], specs), style_regions(mask, source.shape)
    if colors_of is not None:
        content = _raster(colors_of, "colors_of")
        seen = counts_of(visible_part(colors_mask, content.shape, "colors_mask"), 0)
        model = in_colors_of(content, seen, model, source, counts_of(visible, 0))
    reporter = _Reporter("style", len(specs) * size[0] * size[1], on_progress)
    moments = []
    for spec in specs:
        tiles = StageTiles(spec, size, config, visible, None, partial(reporter.add, spec.stage))
        params = model.params[f"stage{spec.stage}"]["encoder"]
        moments.append(encode_pass(params, source, tiles)[0][0])
    return Style(tuple(moments))


@dataclass
class _Reporter:
    """Sums up finished pixels and reports them."""

    task: str
    total: int
    on_progress: OnProgress
    done: int = 0

    def add(self, stage: int, pixels: int) -> None:
        self.done += pixels
        self.on_progress(Progress(self.task, self.done, self.total, {"stage": stage}))


def _run_stages(
    model: Model,
    content: _Content,
    maps: Sequence[StageMaps],
    config: TileConfig,
    levels: bool,
    resume: ResumeState | None,
    on_progress: OnProgress,
) -> NDArray[Any]:
    """Runs the cascade."""
    source, regions = content.source, content.regions
    specs, scratch = model.config.specs, Scratch(config.host_memory)
    size = padded_size(source.shape[:2], specs)
    reporter = _Reporter("stylize", 2 * len(specs) * size[0] * size[1], on_progress)
    image: Any = source
    first = 0
    if resume is not None and (found := resume.load()) is not None:
        stage, image = found
        scratch.adopt(image)
        first = 1 + [spec.stage for spec in specs].index(stage)
        reporter.done = 2 * first * size[0] * size[1]
        message = f"continues after stage {stage}"
        on_progress(Progress(reporter.task, reporter.done, reporter.total, message=message))
    for index in range(first, len(specs)):
        spec, last = specs[index], index == len(specs) - 1
        networks = model.params[f"stage{spec.stage}"]
        report = partial(reporter.add, spec.stage)
        tiles = StageTiles(spec, size, config, regions, scratch, report)
        moments, features = encode_pass(networks["encoder"], image, tiles)
        shape = (*(source.shape[:2] if last else size), 3)
        pixels = np.uint8 if levels and last else np.float32
        target = image
        # An image of ours of which only the features are needed is overwritten.
        if index == first or features is None or (image.shape, image.dtype) != (shape, pixels):
            target = scratch.empty(shape, pixels, in_memory(features) + in_memory(image))
        shown = content.chroma or (regions is not None and regions.masks)
        decode_pass(
            networks, image, features, maps[index](moments), target, tiles,
            source if last and shown else None, last and content.chroma,
        )  # fmt: skip
        image = target
        del features, target  # The next stage needs their memory.
        if resume is not None and not last and jax.process_index() == 0:
            try:
                resume.save(spec.stage, image)
            except OSError as error:  # The disk may still have room for the result.
                resume, reason = None, error.strerror or error
                message = f"an interruption would lose finished stages ({reason})"
                on_progress(Progress(reporter.task, reporter.done, reporter.total, message=message))
    scratch.release()
    return image if levels else np.clip(image, 0, 1, out=image)


def _maps(
    config: ModelConfig, styles: Sequence[Style], alpha: float, regularization: float
) -> list[StageMaps]:
    """The maps of all stages."""
    strength = jax.device_put(np.float32(alpha)), jax.device_put(np.float32(regularization))

    def maps(
        spec: Spec, of_styles: tuple[Moments, ...], of_contents: tuple[Moments, ...]
    ) -> tuple[Affine, ...]:
        pairs = zip(of_contents, of_styles, strict=True)
        return tuple(stage_map(config, spec, *pair, strength) for pair in pairs)

    of_stages = zip(*(style.moments for style in styles), strict=True)
    return [partial(maps, *stage) for stage in zip(config.specs, of_stages, strict=True)]


def _raster(image: Any, name: str) -> Raster:
    if isinstance(image, jax.Array) or not hasattr(image, "shape"):
        image = np.asarray(image)
    check_pixels(image, name)
    if len(image.shape) != 3:
        raise ValueError(f"{name} must be one image (H, W, 3), not {image.shape}")
    if isinstance(image, np.ndarray):
        check_range(image, name)
    return image
