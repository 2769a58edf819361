"""What is measured: images, networks, weights in PyTorch's layout."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cdjax import Model, ModelConfig, Spec
from cdjax.checkpoints.store import abstract_params
from cdjax.cli.jobs import images_in
from cdjax.cli.samples import landscape, painting
from cdjax.data.dead_leaves import dead_leaves
from cdjax.io.images import levels, read_image, resize
from cdjax.model import Method, Params

Pixels = NDArray[np.uint8]
_PERIOD = 512


def write_pair(folder: Path, height: int, width: int, style: int) -> list[Path]:
    """Writes a content and a square style of dead leaves, (H, W, 3) uint8, as .npy; the files."""
    paths = [folder / "content.npy", folder / "style.npy"]
    for seed, size in enumerate(((height, width), (style, style))):
        side = min(_PERIOD, max(size))
        rows, columns = (np.arange(length) % side for length in size)
        np.save(paths[seed], dead_leaves(seed, 0, size=side)[rows[:, None], columns])
    return paths


def write_photographs(
    folder: Path, sizes: Sequence[tuple[int, int]], make: Callable[[], Pixels]
) -> None:
    """Makes a folder of JPEG files with the heights and widths `sizes`, in this order by name.

    They are scaled and cropped from the picture that `make` returns.
    """
    folder.mkdir()
    picture = Image.fromarray(make())
    for number, (height, width) in enumerate(sizes):
        path = folder / f"{number:04}.jpg"
        ImageOps.fit(picture, (width, height)).save(path, quality=95)


def read_pairs(
    contents: Sequence[Path], styles: Sequence[Path], *, size: int, count: int
) -> list[tuple[str, Pixels, Pixels]]:
    """Names, contents and styles, at most `count`; of folders with more, evenly spaced ones.

    Both are taken in turn. Without files, the contents are a synthetic landscape, or the styles a
    synthetic painting. The shorter side of an image is scaled to `size`, in pixels, and the central
    square is taken, (size, size, 3) uint8.

    Raises:
        UsageError: if there is no such file or folder, or no image in a folder.
        ImageError: if an image cannot be read.
    """
    from_contents = _squares(contents, "content", landscape, size, count)
    from_styles = _squares(styles, "style", painting, size, count)
    rows = min(count, max(len(from_contents), len(from_styles)))
    turns = islice(zip(cycle(from_contents), cycle(from_styles), strict=False), rows)
    return [(f"{one} in {other}", content, style) for (one, content), (other, style) in turns]


def _squares(
    paths: Sequence[Path], role: str, make: Callable[[int, int], Pixels], size: int, count: int
) -> list[tuple[str, Pixels]]:
    """Names and central squares of at most `count` images of each path, or a synthetic one."""
    found = []
    for inside in (images_in(path, role) for path in paths):
        most = min(count, len(inside))
        for path in (inside[i * len(inside) // most] for i in range(most)):
            pixels = levels(resize(read_image(path), size).pixels)
            top, left = ((side - size) // 2 for side in pixels.shape[:2])
            found.append((path.stem, pixels[top : top + size, left : left + size]))
    return found or [(make.__name__, make(max(size, 64), max(size, 64))[:size, :size])]


def difference(first: Path, second: Path) -> dict[str, float]:
    """The largest difference of two results in .npy files, in grey levels of 255, with its name.

    If one of the two is uint8, the other, float in [0, 1], is rounded to grey levels too.
    """
    images = [np.load(path) for path in (first, second)]
    grey = [image * (1.0 if image.dtype == np.uint8 else 255.0) for image in images]
    if any(image.dtype == np.uint8 for image in images):
        grey = [np.rint(image) for image in grey]
    return {"largest difference, of 255": float(np.abs(grey[0] - grey[1]).max())}


def random_model(
    specs: tuple[Spec, ...], method: Method, *, seed: int = 0, embeddings: Collection[int] = ()
) -> Model:
    """A model with random weights, which take as long and as much memory as trained ones.

    `embeddings` are the stages that have them.
    """
    config, generator = ModelConfig(method, specs, "random"), np.random.default_rng(seed)

    def leaf(of: jax.ShapeDtypeStruct) -> NDArray[np.float32]:
        deviation = 0 if len(of.shape) == 1 else np.sqrt(2 / np.prod(of.shape[:-1]))
        return generator.normal(0, deviation, of.shape).astype(np.float32)

    return Model(jax.tree.map(leaf, abstract_params(config, embeddings=embeddings)), config)


def training_networks(student: Spec, teacher: Spec) -> dict[str, Params]:
    """Random networks of a training step: teacher, its decoder, the student and its embedding."""
    own, frozen = (
        random_model((spec,), "wct", seed=spec.widths[0], embeddings=[spec.stage]).params
        for spec in (student, teacher)
    )
    stage = f"stage{student.stage}"
    networks = {"teacher": frozen[stage]["encoder"], "decoder": frozen[stage]["decoder"]}
    return own[stage] | networks


def write_torch_weights(path: Path, params: Mapping[str, Any]) -> None:
    """Writes parameters in PyTorch's layout, as `torch_networks` reads them."""
    arrays = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, array = jax.tree_util.keystr(keys, simple=True, separator="/"), np.asarray(leaf)
        if name.endswith("/kernel"):
            array = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(3, 2, 0, 1)
        arrays[name.replace("kernel", "weight")] = np.ascontiguousarray(array)
    np.savez(path, **arrays)  # type: ignore[arg-type]
