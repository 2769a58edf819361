"""What is measured: images, networks, weights in PyTorch's layout."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from cdjax import Model, ModelConfig, Spec
from cdjax.data.dead_leaves import dead_leaves
from cdjax.model import Method, Params
from cdjax.networks.spec import Conv

_PERIOD = 512


def write_image(path: Path, height: int, width: int, *, seed: int = 0) -> None:
    """Writes an image of dead leaves, (height, width, 3) uint8, as .npy."""
    side = min(_PERIOD, max(height, width))
    rows, columns = (np.arange(length) % side for length in (height, width))
    np.save(path, dead_leaves(seed, 0, size=side)[rows[:, None], columns])


def write_pair(folder: Path, height: int, width: int, style: int) -> list[Path]:
    """Writes a content and a square style with `write_image`; the two files."""
    paths = [folder / "content.npy", folder / "style.npy"]
    write_image(paths[0], height, width)
    write_image(paths[1], style, style, seed=1)
    return paths


def difference(first: Path, second: Path) -> tuple[float, float]:
    """The largest and the mean difference of two results in .npy files, in grey levels of 255.

    If one of the two is uint8, the other, float in [0, 1], is rounded to grey levels too.
    """
    images = [np.load(path, mmap_mode="r") for path in (first, second)]
    rounded = any(image.dtype == np.uint8 for image in images)

    def grey(row: NDArray[Any]) -> NDArray[np.float64]:
        values = row * (1.0 if row.dtype == np.uint8 else 255.0)
        return np.rint(values) if rounded else values

    rows = (np.abs(grey(one) - grey(other)) for one, other in zip(*images, strict=True))
    largest, means = np.transpose([(row.max(), row.mean()) for row in rows])
    return float(largest.max()), float(means.mean())


def _random_networks(student: Spec, teacher: Spec, seed: int) -> dict[str, Params]:
    generator = np.random.default_rng(seed)

    def layer(*shape: int) -> Params:
        kernel = generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        return {"kernel": kernel.astype(np.float32), "bias": np.zeros(shape[-1], np.float32)}

    def layers(convs: Iterable[Conv]) -> Params:
        return {conv.name: layer(3, 3, conv.features_in, conv.features_out) for conv in convs}

    pairs = zip(student.taps, teacher.widths, strict=True)
    return {
        "encoder": {"conv0": layer(1, 1, 3, 3), **layers(student.encoder)},
        "decoder": layers(student.decoder),
        "embedding": {name: layer(width, out) for (name, width), out in pairs},
    }


def random_model(specs: tuple[Spec, ...], method: Method) -> Model:
    """A model with random weights, which take as long and as much memory as trained ones."""
    parts = ("encoder",) if method == "encoder" else ("encoder", "decoder")
    params = {}
    for spec in specs:
        networks = _random_networks(spec, spec, spec.stage)
        params[f"stage{spec.stage}"] = {name: networks[name] for name in parts}
    return Model(params, ModelConfig(method, specs, "random"))


def training_networks(student: Spec, teacher: Spec) -> dict[str, Params]:
    """Random networks of a training step: teacher, its decoder, the student and its embedding."""
    small, big = _random_networks(student, teacher, 0), _random_networks(teacher, teacher, 1)
    return small | {"teacher": big["encoder"], "decoder": big["decoder"]}


def write_torch_weights(path: Path, params: Mapping[str, Any]) -> None:
    """Writes parameters in PyTorch's layout, as `torch_networks` reads them."""
    arrays = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        name, array = jax.tree_util.keystr(keys, simple=True, separator="/"), np.asarray(leaf)
        if name.endswith("/kernel"):
            array = array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(3, 2, 0, 1)
        arrays[name.replace("kernel", "weight")] = np.ascontiguousarray(array)
    np.savez(path, **arrays)  # type: ignore[arg-type]
