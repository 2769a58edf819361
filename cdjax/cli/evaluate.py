"""`cdjax evaluate`: models beside each other and beside their teacher, on unseen photographs.

Measures the fraction of the variance of the teacher's features that a model's features leave
unexplained, the quality of its reconstructions and of stylised pairs, and its size;
`cdjax.evaluation` computes all of it. Prints Markdown; `--json` writes all figures.
"""

import argparse
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.outputs import already_exists, is_an_input
from cdjax.cli.parser import BAD_INPUT, Parser, error_line, new_file, within
from cdjax.errors import EvaluationError, UsageError
from cdjax.io.images import check_suffix
from cdjax.progress import OnProgress

if TYPE_CHECKING:
    from cdjax.evaluation.compare import Photographs
    from cdjax.evaluation.explained_variance import Network
    from cdjax.model import Images, Model


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    from cdjax.cli.backend import start_backend
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.cli.evaluation_report import report
    from cdjax.cli.progress import ProgressBar
    from cdjax.cli.quiet import silence_decoders
    from cdjax.cli.report import about, as_json

    use_compilation_cache()
    start_backend()
    silence_decoders()
    with ProgressBar(quiet=options.quiet) as on_progress:
        found, pictures = _measure(options, on_progress)
    results = about("cdjax evaluate", arguments) | found
    try:
        print(report(results), end="")
    finally:  # What can be written is written.
        _write(options, as_json(results), pictures)
    return BAD_INPUT if _name_broken(options, found["photographs"]) else 0


def _name_broken(options: argparse.Namespace, read: "Mapping[str, Mapping[str, Any]]") -> bool:
    """Prints which photographs and styles could not be read; whether there are any."""
    from cdjax.cli.progress import print_line

    folders = {"fit": options.fit_images, "test": options.images, "styles": options.styles}
    lines = {
        f"{folders[name]}/{line}": None for name, part in read.items() for line in part["skipped"]
    }
    for line in lines:  # A folder may have two uses.
        print_line(error_line(line))
    return bool(lines)


def _write(options: argparse.Namespace, figures: str, pictures: "dict[str, Images]") -> None:
    """Writes the files of --json and --sheet, the second even if the first cannot be written."""
    import numpy as np

    from cdjax.cli.picture_grid import picture_grid
    from cdjax.io.atomic import write_text
    from cdjax.io.images import Picture, write_image
    from cdjax.io.leftovers import remove_leftovers

    overwrite: bool = options.overwrite
    remove_leftovers(path for path in (options.json, options.sheet) if path)
    try:
        if options.json:
            write_text(options.json, figures, overwrite=overwrite)
    except OSError as error:
        reason = error.strerror or error
        raise EvaluationError(f"{options.json}: cannot be written ({reason})") from error
    finally:
        if options.sheet:
            sheet = Picture(np.asarray(picture_grid(pictures)))
            write_image(options.sheet, sheet, overwrite=overwrite)


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
    judges = "networks, as models, that compare styles at equal content (default: the teacher)"
    add("--judges", nargs="+", default=[], metavar="NETWORK", help=judges)
    alphas = "at which they compare (1 0.8 0.6 0.4); the first is the first model's"
    add("--alphas", type=within(float, 0, 2), nargs="+", default=[1.0, 0.8, 0.6, 0.4], help=alphas)
    add("--stages", type=int, nargs="+", choices=range(1, 6), help="measure only these stages")
    add("--batch", type=count, default=4, help="images at a time (4)")
    add("-q", "--quiet", action="store_true", help="show no progress")
    add("--json", type=new_file, metavar="OUT", help="file for all figures")
    add("--sheet", type=new_file, metavar="OUT", help="picture of all pairs by all models")
    add("--overwrite", action="store_true", help="replace files of --json and --sheet that exist")
    options = parser.parse_args(arguments)
    if len(set(options.models)) != len(options.models):
        parser.error("a model is given twice")
    if options.fit_images and options.fit_images.resolve() == options.images.resolve():
        parser.error("--fit-images must be another folder than --images, or be left out")
    if (options.judges or options.sheet) and not options.styles:
        parser.error("--judges and --sheet need --styles")
    if options.sheet:
        check_suffix(options.sheet)
    _check_outputs(options)
    return options


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuses, before anything is measured, to replace files that are not to be replaced."""
    outputs = [path for path in (options.json, options.sheet) if path]
    if len(outputs) == 2 and outputs[0].resolve() == outputs[1].resolve():
        raise UsageError(f"output {outputs[0]}: given twice; --json and --sheet are two files")
    inputs = [options.images, options.styles, options.fit_images, options.teacher]
    inputs = [Path(path).resolve() for path in (*inputs, *options.models, *options.judges) if path]
    for path in outputs:
        if not os.path.lexists(path):
            continue
        if not options.overwrite:
            raise already_exists(path)
        if path.exists() and not path.is_file():
            raise UsageError(f"output {path}: is not a regular file and cannot be replaced")
        if any(path.resolve() == read or read in path.resolve().parents for read in inputs):
            raise is_an_input(path)


def _measure(
    options: argparse.Namespace, on_progress: OnProgress
) -> "tuple[dict[str, Any], dict[str, Images]]":
    """All figures, and the columns of the sheet if there is one."""
    from cdjax.checkpoints.load import load_model
    from cdjax.cli.evaluation_report import figures
    from cdjax.evaluation.compare import check_comparable, compare, with_stages
    from cdjax.networks.teachers import deepest_encoder, normalized_teacher

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
    judges = {name: deepest_encoder(load_model(name)) for name in options.judges}
    judges = judges or {options.teacher: deepest_encoder(teacher)}
    # Before anything that takes time.
    check_comparable(models, teacher, size=options.size, pairs=options.styles is not None)
    photographs = _read(options, on_progress)
    fit, test = photographs["fit"].images, photographs["test"].images
    # Names and files are networks as trained on ImageNet; a checkpoint is normalised already.
    normalized = options.teacher == "vgg16" or Path(options.teacher).is_file()
    if normalized:
        teacher = normalized_teacher(teacher, fit, batch=options.batch)
    pairs: dict[str, Images] = {}
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
    if uncompared := _uncompared(models, teacher):
        settings["not compared with the teacher's features"] = uncompared
    found = {"settings": settings, "photographs": read, "pairs": len(pairs.get("contents", ()))}
    found |= figures(comparison, names | {"teacher": options.teacher})
    if not pairs:
        return found, {}
    both, how = (contents, styles), {"batch": options.batch, "on_progress": on_progress}
    found["judges"] = _judged(models, judges, both, options.alphas, **how)
    sheet = _columns(models, both, options.alphas[0], **how) if options.sheet else {}
    return found, sheet


def _judged(
    models: "Mapping[str, Model]",
    judges: "Mapping[str, Network]",
    pairs: "tuple[Images, Images]",
    alphas: Sequence[float],
    **how: Any,
) -> dict[str, dict[str, Any]]:
    """Style against content of every model, as JSON by the name of the judge."""
    from cdjax.evaluation.style_content import trade_offs

    return {
        name: {model: asdict(trade_off) for model, trade_off in of_judge.items()}
        for name, of_judge in trade_offs(models, judges, *pairs, alphas, **how).items()
    }


def _uncompared(models: "Mapping[str, Model]", teacher: "Model") -> str:
    """The stages that do not explain the teacher's features, by model."""
    from cdjax.evaluation.compare import explained_stages

    parts = []
    for name, model in models.items():
        compared = explained_stages(model, teacher)
        others = [str(s.stage) for s in model.config.specs if s.stage not in compared]
        parts += [f"{name}: stages {', '.join(others)}"] if others else []
    return "; ".join(parts)


def _columns(
    models: "Mapping[str, Model]",
    both: "tuple[Images, Images]",
    alpha: float,
    *,
    batch: int,
    on_progress: OnProgress,
) -> "dict[str, Images]":
    """Contents, styles and what the models make of them, by name."""
    import numpy as np

    from cdjax.evaluation.explained_variance import in_full_batches
    from cdjax.io.images import levels
    from cdjax.transfer.stylize import stylize

    columns, pairs = dict(zip(("content", "style"), both, strict=True)), np.stack(both, axis=1)
    for name, model in models.items():
        if model.config.method == "encoder":
            continue
        task = f"sheet, {name}"
        columns[name] = np.concatenate(
            [
                levels(np.asarray(stylize(model, part[:, 0], part[:, 1], alpha=alpha)))[:count]
                for part, count in in_full_batches(pairs, batch, task=task, on_progress=on_progress)
            ]
        )
    return columns


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
