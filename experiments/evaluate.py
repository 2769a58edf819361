"""Models beside each other and beside their teacher, on photographs that they never saw.

    python -m experiments.evaluate MODEL... --teacher TEACHER --images FOLDER [--styles FOLDER]
    python -m experiments.evaluate --table [MODEL...] [--sheet OUT.png]

Measures the variance of the teacher's features that a model's features do not explain, the quality
of its reconstructions and of stylised pairs, and its size (`cdjax.evaluation` computes all of it).
Prints Markdown; `--json` writes all figures. `--table` is the paper's table instead: what models
and their originals take (`experiments.benchmarks.paper_table`).
"""

import argparse
import dataclasses
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cdjax import Model, load_model
from cdjax.checkpoints.load import find_model
from cdjax.cli.main import _Parser as Parser
from cdjax.cli.main import _within as within
from cdjax.cli.main import use_compilation_cache
from cdjax.errors import EvaluationError
from cdjax.evaluation.compare import (
    Comparison,
    Photographs,
    check_comparable,
    compare,
    read_photographs,
    with_stages,
)
from cdjax.io.atomic import write_text
from cdjax.networks.teachers import normalized_teacher
from experiments.benchmarks.report import about, as_json
from experiments.evaluation_report import report


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="python -m experiments.evaluate",
        description="Measure models on photographs that they never saw.",
        epilog="--table [MODEL...] makes the paper's table instead (--table --help)",
    )
    add, count = parser.add_argument, within(int, 1, 1_000_000)
    what = "a checkpoint, a bundled model, a folder of published .pth files, vgg16 or a VGG's file"
    add("models", nargs="+", metavar="MODEL", help=what)
    add("--teacher", required=True, help="such a model; an ImageNet network is normalised")
    add("--images", type=Path, required=True, metavar="FOLDER", help="photographs to measure on")
    add("--styles", type=Path, metavar="FOLDER", help="styles of pairs; none: no such part")
    add(
        "--fit-images",
        type=Path,
        metavar="FOLDER",
        help="photographs to fit embeddings to; otherwise the first half of --images is",
    )
    add("--count", type=count, default=100, help="images of each folder, at most (100)")
    add("--size", type=count, default=256, help="pixels a side (256)")
    add("--pairs", type=count, default=16, help="pairs of a content and a style (16)")
    add("--stages", type=int, nargs="+", choices=range(1, 6), help="measure only these stages")
    add("--batch", type=count, default=4, help="images at a time (4)")
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


def _load(name: str, stages: Sequence[int] | None) -> Model:
    try:
        return with_stages(load_model(name), stages) if stages else load_model(name)
    except EvaluationError as error:
        raise EvaluationError(f"{name}: {error}") from error


def _stored_bytes(name: str) -> int | None:
    """Bytes of the files that a model is read from; None where it has none of its own."""
    path = find_model(name)[1]
    files = sorted(path.glob("*.pth")) or [f for f in [path, *path.rglob("*")] if f.is_file()]
    return sum(file.stat().st_size for file in files) or None


def _read(options: argparse.Namespace) -> dict[str, Photographs]:
    """The photographs to fit to, those to measure on, and the styles if there are any."""

    def read(folder: Path, name: str) -> Photographs:
        size, count = options.size, options.count
        return read_photographs(folder, size=size, count=count, name=name, progress=_progress)

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
    return found | ({"styles": read(options.styles, "styles")} if options.styles else {})


def _pairs(photographs: dict[str, Photographs], count: int) -> dict[str, Any]:
    """Contents and styles, each in turn, so that as many as there are take part."""
    if "styles" not in photographs:
        return {}
    contents, styles = (photographs[name].images for name in ("test", "styles"))
    turns = np.arange(min(count, len(contents) * len(styles)))
    # One style further each time the contents begin again, else pairs would repeat.
    shift = turns // math.lcm(len(contents), len(styles))
    return {
        "contents": contents[turns % len(contents)],
        "styles": styles[(turns + shift) % len(styles)],
    }


def _finite(value: Any) -> Any:
    """Replaces infinity, the PSNR of equal images, which JSON does not have, by None."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _figures(comparison: Comparison, names: dict[str, str]) -> dict[str, Any]:
    """The comparison as JSON, with the bytes of the models' files."""
    figures = dataclasses.asdict(comparison)
    for name, of in (comparison.models | {"teacher": comparison.teacher}).items():
        row = figures["teacher"] if of is comparison.teacher else figures["models"][name]
        row["size"]["float32_bytes"] = of.size.float32_bytes
        row["size"]["stored_bytes"] = _stored_bytes(names[name])
    return figures


def _measure(options: argparse.Namespace) -> dict[str, Any]:
    short = [Path(name).resolve().name for name in options.models]
    given = short if len(set(short)) == len(short) else options.models
    names = dict(zip(given, options.models, strict=True))
    models = {name: _load(text, options.stages) for name, text in names.items()}
    teacher = load_model(options.teacher)
    # Before anything that takes time.
    check_comparable(models, teacher, size=options.size, pairs=options.styles is not None)
    photographs = _read(options)
    fit, test = photographs["fit"].images, photographs["test"].images
    # Networks as ImageNet's training left them; a checkpoint is already what it should be.
    normalized = options.teacher == "vgg16" or Path(options.teacher).is_file()
    if normalized:
        teacher = normalized_teacher(teacher, fit, batch=options.batch)
    pairs = _pairs(photographs, options.pairs)
    shared: Any = {"batch": options.batch, "progress": _progress}
    comparison = compare(models, teacher, fit, test, **pairs, **shared)
    read: dict[str, dict[str, Any]] = {
        name: {"count": len(part.images), "skipped": list(part.skipped)}
        for name, part in photographs.items()
    }
    counts = ", ".join(f"{name} {of['count']}" for name, of in read.items())
    settings = {
        "teacher": f"{options.teacher}{', normalised on the photographs to fit' * normalized}",
        "photographs": f"central squares of {options.size} pixels; {counts}",
        "skipped as broken": sum(len(of["skipped"]) for of in read.values()),
    }
    found = {"settings": settings, "photographs": read, "pairs": len(pairs.get("contents", ()))}
    return found | _figures(comparison, names | {"teacher": options.teacher})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 2 after one line on stderr for bad input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--table" in arguments:
        from experiments.benchmarks import paper_table

        return paper_table.main(arguments)
    options = _parse(arguments)
    use_compilation_cache()
    try:
        results = about("experiments.evaluate", arguments) | _measure(options)
    except (ValueError, OSError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    print(report(results), end="")
    try:
        if options.json:
            write_text(options.json, as_json(_finite(results)))
    except OSError as error:
        print(f"evaluate: {options.json} was not written: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
