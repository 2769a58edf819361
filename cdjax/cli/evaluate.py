"""`cdjax evaluate`: models beside each other and beside their teacher, on unseen photographs.

Measures the fraction of the variance of the teacher's features that a model's features leave
unexplained, the quality of its reconstructions and of stylised pairs, and its size;
`cdjax.evaluation` computes all of it. Prints Markdown; `--json` writes all figures.
"""

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.parser import Parser, new_file, within
from cdjax.errors import EvaluationError
from cdjax.progress import OnProgress

if TYPE_CHECKING:
    from cdjax.evaluation.compare import Photographs
    from cdjax.model import Images


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.cli.evaluation_report import report
    from cdjax.cli.progress import ProgressBar
    from cdjax.cli.report import about, as_json
    from cdjax.io.atomic import write_text

    use_compilation_cache()
    with ProgressBar(show=True) as on_progress:
        results = about("cdjax evaluate", arguments) | _measure(options, on_progress)
    print(report(results), end="")
    if options.json:
        try:
            write_text(options.json.resolve(), as_json(results))
        except OSError as error:
            raise EvaluationError(f"{options.json} was not written: {error}") from error
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(
        prog="cdjax evaluate",
        description="Measure models against their teacher on photographs that they never saw.",
    )
    add, count = parser.add_argument, within(int, 1, 1_000_000)
    what = "a name (see cdjax models), a checkpoint, or a folder or file of PyTorch weights"
    add("models", nargs="+", metavar="MODEL", help=what)
    add("--teacher", required=True, help="the same; an ImageNet network is normalised first")
    add("--images", type=Path, required=True, metavar="FOLDER", help="photographs to measure on")
    add("--styles", type=Path, metavar="FOLDER", help="styles of pairs (default: no pairs)")
    fit = "photographs that embeddings are fitted to (default: the first half of --images)"
    add("--fit-images", type=Path, metavar="FOLDER", help=fit)
    add("--count", type=count, default=100, help="images of each folder, at most (100)")
    add("--size", type=count, default=256, help="pixels a side (256)")
    add("--pairs", type=count, default=16, help="pairs of a content and a style (16)")
    add("--stages", type=int, nargs="+", choices=range(1, 6), help="measure only these stages")
    add("--batch", type=count, default=4, help="images at a time (4)")
    add("--json", type=new_file, metavar="OUT", help="file for all figures")
    options = parser.parse_args(arguments)
    if len(set(options.models)) != len(options.models):
        parser.error("a model is given twice")
    if options.fit_images and options.fit_images.resolve() == options.images.resolve():
        parser.error("--fit-images must be another folder than --images, or be left out")
    return options


def _measure(options: argparse.Namespace, on_progress: OnProgress) -> dict[str, Any]:
    from cdjax.checkpoints.load import load_model
    from cdjax.cli.evaluation_report import figures
    from cdjax.evaluation.compare import check_comparable, compare, with_stages
    from cdjax.networks.teachers import normalized_teacher

    short = [Path(name).resolve().name for name in options.models]
    given = short if len(set(short)) == len(short) else options.models
    names = dict(zip(given, options.models, strict=True))
    models = {name: load_model(text) for name, text in names.items()}
    for name in models if options.stages else ():
        try:
            models[name] = with_stages(models[name], options.stages)
        except EvaluationError as error:
            raise EvaluationError(f"{names[name]}: {error}") from error
    teacher = load_model(options.teacher)
    # Before anything that takes time.
    check_comparable(models, teacher, size=options.size, pairs=options.styles is not None)
    photographs = _read(options, on_progress)
    fit, test = photographs["fit"].images, photographs["test"].images
    # Names and files are networks as trained on ImageNet; a checkpoint is normalised already.
    normalized = options.teacher == "vgg16" or Path(options.teacher).is_file()
    if normalized:
        teacher = normalized_teacher(teacher, fit, batch=options.batch)
    pairs: dict[str, Any] = {}
    if "styles" in photographs:
        contents, styles = pairs_in_turn(test, photographs["styles"].images, options.pairs)
        pairs = {"contents": contents, "styles": styles}
    comparison = compare(
        models, teacher, fit, test, **pairs, batch=options.batch, on_progress=on_progress
    )
    read = {
        name: {"count": len(part.images), "skipped": part.skipped}
        for name, part in photographs.items()
    }
    counts = ", ".join(f"{name} {len(part.images)}" for name, part in photographs.items())
    settings = {
        "teacher": f"{options.teacher}{', normalised on the photographs to fit' * normalized}",
        "photographs": f"central squares of {options.size} pixels; {counts}",
        "skipped as broken": sum(len(part.skipped) for part in photographs.values()),
    }
    found = {"settings": settings, "photographs": read, "pairs": len(pairs.get("contents", ()))}
    return found | figures(comparison, names | {"teacher": options.teacher})


def _read(options: argparse.Namespace, on_progress: OnProgress) -> "dict[str, Photographs]":
    """The photographs to fit to, those to measure on, and the styles if there are any."""
    from cdjax.evaluation.compare import Photographs, read_photographs

    read = partial(
        read_photographs, size=options.size, count=options.count, on_progress=on_progress
    )
    test = read(options.images)
    half = len(test.images) // 2
    if options.fit_images:
        found = {"fit": read(options.fit_images, name="photographs to fit to"), "test": test}
    elif half:
        measured = Photographs(test.images[half:], test.skipped)
        found = {"fit": Photographs(test.images[:half]), "test": measured}
    else:
        raise EvaluationError(
            f"{options.images}: one photograph is too few to fit to and to measure on; "
            "give more, or --fit-images"
        )
    return found | ({"styles": read(options.styles, name="styles")} if options.styles else {})


def pairs_in_turn(contents: "Images", styles: "Images", count: int) -> "tuple[Images, Images]":
    """At most `count` pairs of contents and styles, both taken in turn; no pair is repeated."""
    import numpy as np

    turns = np.arange(min(count, len(contents) * len(styles)))
    # One style further each time both begin again, else pairs would repeat.
    shift = turns // math.lcm(len(contents), len(styles))
    return contents[turns % len(contents)], styles[(turns + shift) % len(styles)]
