"""Models beside each other and beside their teacher, on photographs that they never saw.

    python -m experiments.evaluate MODEL... --teacher TEACHER --images FOLDER [--styles FOLDER]
    python -m experiments.evaluate --table [MODEL...] [--sheet OUT.png]

Measures the variance of the teacher's features that a model's features do not explain, the quality
of its reconstructions and of stylised pairs, and its size (all computed by
`cdjax.evaluation.compare`).
Prints Markdown; `--json` writes everything there is. `--table` is the paper's table instead: what
models and their originals take (`experiments.paper_table`).
"""

import argparse
import dataclasses
import json
import math
import platform
import shlex
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import jax
import numpy as np
from tqdm import tqdm

from cdjax import Model, load_model
from cdjax.cli.main import use_compilation_cache
from cdjax.errors import EvaluationError
from cdjax.evaluation.compare import (
    Photographs,
    Size,
    check_comparable,
    compare,
    read_photographs,
    with_stages,
)
from cdjax.networks.teachers import normalized_teacher
from experiments.evaluation_report import Measured, report
from experiments.model_files import short_names, stored_bytes
from experiments.whole_numbers import positive


class _Parser(argparse.ArgumentParser):
    """One line for wrong use, as for every other error."""

    def error(self, message: str) -> NoReturn:
        """Prints the line and exits with status 2."""
        self.exit(2, f"evaluate: {message} (see {self.prog} --help)\n")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser(
        prog="python -m experiments.evaluate",
        description="Measure models on photographs that they never saw.",
        epilog="--table [MODEL...] makes the paper's table instead: parameters, operations, "
        "seconds and memory of models, of their originals, and the ratio; with --sheet OUT.png a "
        "sheet of pictures. Its options: --table --help",
    )
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="checkpoint folder, folder of {k}SE.pth and {k}SD.pth, or name of a bundled model",
    )
    add(
        "--teacher",
        required=True,
        help="vgg16, a checkpoint, a PyTorch file of a VGG, or a folder of the original WCT's "
        "files; ImageNet networks from files are normalised on the photographs to fit",
    )
    add("--images", type=Path, required=True, metavar="FOLDER", help="photographs to measure on")
    add("--styles", type=Path, metavar="FOLDER", help="styles of pairs; none: no such part")
    add(
        "--fit-images",
        type=Path,
        metavar="FOLDER",
        help="photographs to fit embeddings to; otherwise the first half of --images is",
    )
    add("--count", type=positive, default=100, help="images of each folder, at most (100)")
    add("--size", type=positive, default=256, help="pixels a side (256)")
    add("--pairs", type=positive, default=16, help="pairs of a content and a style (16)")
    add("--stages", type=int, nargs="+", choices=range(1, 6), help="measure these stages alone")
    add("--batch", type=positive, default=4, help="images at a time (4)")
    add("--json", type=Path, metavar="OUT", help="file for all figures")
    options = parser.parse_args(arguments)
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json: there is no directory {options.json.resolve().parent}")
    if options.json and options.json.is_dir():
        parser.error(f"--json: {options.json} is a directory")
    if len(set(options.models)) != len(options.models):
        parser.error("a model is given twice")
    if options.fit_images and options.fit_images.resolve() == options.images.resolve():
        parser.error("--fit-images must be another folder than --images, or be left out")
    return options


def _progress(steps: range, name: str) -> Iterable[int]:
    return tqdm(steps, desc=name, file=sys.stderr, leave=False)


def _load_models(options: argparse.Namespace) -> tuple[dict[str, Model], dict[str, int | None]]:
    """Models by the shortest names that tell them apart, and the bytes of their files."""
    names = short_names(options.models)
    models, stored = {}, {}
    for name, text in zip(names, options.models, strict=True):
        models[name], stored[name] = load_model(text), stored_bytes(text)
        if options.stages:
            try:
                models[name] = with_stages(models[name], options.stages)
            except EvaluationError as error:
                raise EvaluationError(f"{text}: {error}") from error
    return models, stored


def _read(options: argparse.Namespace) -> dict[str, Photographs]:
    """The photographs to fit to, those to measure on, and the styles if there are any."""

    def read(folder: Path, name: str) -> Photographs:
        return read_photographs(
            folder, size=options.size, count=options.count, name=name, progress=_progress
        )

    test = read(options.images, "photographs")
    if options.fit_images:
        found = {"fit": read(options.fit_images, "photographs to fit to"), "test": test}
    else:
        half = len(test.images) // 2
        if not half:
            raise EvaluationError(
                f"{options.images}: one photograph cannot be fitted to and measured on; "
                "give more, or --fit-images"
            )
        found = {"fit": Photographs(test.images[:half])}
        found["test"] = Photographs(test.images[half:], test.skipped)
    if options.styles:
        found["styles"] = read(options.styles, "styles")
    return found


def _pairs(photographs: dict[str, Photographs], count: int) -> dict[str, Any]:
    """Contents and styles, each in turn, so that as many as there are take part."""
    if "styles" not in photographs:
        return {}
    contents, styles = (photographs[name].images for name in ("test", "styles"))
    turns = np.arange(min(count, len(contents) * len(styles)))
    # One style further each time the contents begin anew, else some would meet the same again.
    return {
        "contents": contents[turns % len(contents)],
        "styles": styles[(turns + turns // math.lcm(len(contents), len(styles))) % len(styles)],
    }


def _size_figures(size: Size, stored: int | None) -> dict[str, Any]:
    return dataclasses.asdict(size) | {
        "float32_bytes": size.float32_bytes,
        "stored_bytes": stored,
    }


def _figures(measured: Measured) -> dict[str, Any]:
    """Everything as JSON: what was measured, on what, how, and what came out."""
    comparison, options = measured.comparison, measured.options
    everything = dataclasses.asdict(comparison)
    for name, model in comparison.models.items():
        everything["models"][name]["size"] = _size_figures(model.size, measured.stored[name])
    size = _size_figures(comparison.teacher.size, measured.teacher_stored)
    everything["teacher"] |= {"size": size, "normalized_on_fit_images": measured.normalized}
    device = jax.devices()[0]
    about = {
        "command": measured.command,
        "versions": {name: version(name) for name in ("cdjax", "jax")}
        | {"python": platform.python_version()},
        "device": f"{device.platform} {device.device_kind}",
        "size": options.size,
        "photographs": {
            name: {"count": len(part.images), "skipped": list(part.skipped)}
            for name, part in measured.photographs.items()
        },
        "pairs": measured.pairs,
    }
    return _finite(about | everything)


def _finite(value: Any) -> Any:
    """JSON knows no infinity, the PSNR of equal images."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, text: str) -> None:
    path = path.resolve()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as beside:
        part = Path(beside) / path.name
        part.write_text(text)
        part.replace(path)


def _measure(options: argparse.Namespace, command: str) -> Measured:
    models, stored = _load_models(options)
    teacher = load_model(options.teacher)
    # Before anything that takes time.
    check_comparable(models, teacher, size=options.size, pairs=options.styles is not None)
    photographs = _read(options)
    # Networks as ImageNet's training left them; a checkpoint is what somebody made of one.
    normalized = options.teacher == "vgg16" or Path(options.teacher).is_file()
    if normalized:
        teacher = normalized_teacher(teacher, photographs["fit"].images, batch=options.batch)
    pairs = _pairs(photographs, options.pairs)
    comparison = compare(
        models,
        teacher,
        photographs["fit"].images,
        photographs["test"].images,
        **pairs,
        batch=options.batch,
        progress=_progress,
    )
    return Measured(
        options,
        command,
        photographs,
        len(pairs.get("contents", ())),
        comparison,
        stored,
        stored_bytes(options.teacher),
        normalized,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 2 after one line on stderr for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--table" in arguments:
        from experiments import paper_table

        return paper_table.main(arguments)
    options = _parse(arguments)
    use_compilation_cache()
    command = f"python -m experiments.evaluate {shlex.join(arguments)}"
    try:
        measured = _measure(options, command)
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    print(report(measured), end="")
    try:
        if options.json:
            _write(options.json, json.dumps(_figures(measured), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        print(f"evaluate: {options.json} was not written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
