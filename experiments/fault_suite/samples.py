"""Sound files: pictures of every format that Pillow writes, weights of every kind, a teacher.

Weights come from the writers and models of the tests, so the repository's root must be the current
folder, as it is for `python -m experiments.faults`.
"""

import pickle
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 53, 43
"""Of the small pictures; `experiments.fault_suite.mutations` looks for them."""
_LARGE = (4200, 4100)
_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "JPEG": ({"progressive": True}, {"quality": 30, "dpi": (72, 72), "comment": b"x" * 99}),
    "PNG": ({"optimize": True}, {"dpi": (300, 300)}),
    "TIFF": tuple(
        {"compression": f"tiff_{name}"}
        for name in ("lzw", "adobe_deflate", "jpeg", "packbits", "lzma", "zstd", "webp")
    ),
    "WEBP": ({"lossless": True}, {"quality": 10}),
    "JPEG2000": ({"irreversible": True, "quality_layers": [20]}, {"tile_size": (32, 32)}),
    "TGA": ({"compression": "tga_rle"},),
    "DDS": ({"pixel_format": "DXT1"}, {"pixel_format": "DXT5"}),
}
_MODES = ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16", "F", "LA", "YCbCr")


def painted(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3) of smooth colours with noise."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / 9
    waves = np.stack([np.sin(rows + k) * np.cos(columns * (1 + k / 2)) for k in range(3)], -1)
    noise = generator.normal(size=(height, width, 3))
    return np.clip(128 + 80 * waves + 15 * noise, 0, 255).astype(np.uint8)


def write_pictures(folder: Path, *, large: bool = True) -> list[Path]:
    """Writes a picture of every format, mode and option that Pillow can combine.

    Args:
        folder: an empty folder.
        large: whether to write some of 17 megapixels in few bytes, whose names begin with `large`.
    """
    Image.init()
    suffixes: dict[str, list[str]] = {}
    for suffix, name in Image.registered_extensions().items():
        suffixes.setdefault(name, []).append(suffix)
    base = Image.fromarray(painted(WIDTH, HEIGHT))
    for name in sorted(Image.SAVE):
        suffix = suffixes.get(name, [f".{name.lower()}"])[0]
        for mode in _MODES if name != "ICNS" else ("RGBA",):  # Icons of many sizes take long.
            image = base.convert("L").convert(mode) if mode in ("I;16", "F") else base.convert(mode)
            _save(image, folder / f"{name.lower()}-{mode.replace(';', '')}{suffix}", name)
        for number, options in enumerate(_OPTIONS.get(name, ())):
            _save(base, folder / f"{name.lower()}-option{number}{suffix}", name, **options)
        if name in Image.SAVE_ALL:
            frames = {"save_all": True, "append_images": [base.rotate(90), base.rotate(180)]}
            _save(base, folder / f"{name.lower()}-frames{suffix}", name, **frames)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    for name in ("JPEG", "PNG", "TIFF", "WEBP"):
        _save(base, folder / f"{name.lower()}-exif{suffixes[name][0]}", name, exif=exif)
    with suppress(ImportError):
        from pillow_heif import from_pillow

        from_pillow(base).save(folder / "heif.heic")
    if large:
        _write_large(folder, base)
    return sorted(folder.iterdir())


def _write_large(folder: Path, base: Image.Image) -> None:
    flat = Image.new("RGB", _LARGE, "teal")
    flat.paste(base, (0, 0))
    for suffix in (".png", ".jpg", ".webp", ".gif"):
        flat.save(folder / f"large{suffix}")
    flat.save(folder / "large.tif", compression="tiff_lzw")
    flat.convert("1").save(folder / "large-1.png")


def _save(image: Image.Image, path: Path, name: str, **options: Any) -> None:
    """Writes a file if Pillow can write an image of this mode, with these options."""
    try:
        image.save(path, name, **options)
    except Exception:  # Its encoders raise exceptions of many kinds.
        path.unlink(missing_ok=True)


def write_models(context: ForkServerContext, folder: Path) -> None:
    """Writes `model`, `teacher` and the folder `weights`, in a process that has imported JAX."""
    process = context.Process(target=_write_models, args=(folder,))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the models cannot be written (status {process.exitcode})")


def _write_models(folder: Path) -> None:
    """The models: each layout of weights that cdjax reads, of a few kilobytes."""
    from cdjax import Model, ModelConfig, Spec, save_model
    from cdjax.checkpoints.pretrained import write_bundled
    from cdjax.checkpoints.safetensors_file import write_safetensors
    from tests import torch_files
    from tests.models import random_model

    model = random_model((Spec(2, (4, 8)), Spec(1, (4,))))
    teacher = Spec(2, (64, 128), (1, 1, 1, 1, 1))
    config = ModelConfig("wct", (teacher,), "random-normalised")
    save_model(folder / "teacher", Model(random_model([teacher]).params, config))
    save_model(folder / "model", model)
    weights = folder / "weights"
    for name in ("checkpoint", "model.safetensors"):
        save_model(weights / name, model)
    write_bundled(weights / "model.npz", model)
    vgg = torch_files.random_tensors({"features.0": (64, 3, 3, 3), "features.2": (64, 64, 3, 3)})
    torch_files.write_zip(weights / "zip.pth", torch_files.Ordered(vgg))
    torch_files.write_legacy(weights / "legacy.pth", torch_files.Ordered(vgg))
    nested = {"epoch": 3, "state_dict": torch_files.Ordered(vgg), "rates": [(0.1, None)]}
    torch_files.write_zip(weights / "nested.pth", nested)
    write_safetensors(weights / "vgg.safetensors", vgg, {"format": "pt"})
    (weights / "arrays.ckpt").write_bytes(pickle.dumps(vgg, 4))
    for name, writer in (("paper-16x", torch_files.paper_files), ("wct", torch_files.wct_files)):
        (weights / name).mkdir()
        writer(weights / name, 1)


def weight_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Every file of the weights, and what is given to the command: it, or its folder."""
    for source in sorted(folder.iterdir()):
        files = [source] if source.is_file() else sorted(source.rglob("*"))
        yield from ((path, source) for path in files if path.is_file())
