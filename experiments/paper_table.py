"""The paper's table, and a sheet of pictures: `python -m experiments.evaluate --table`.

For every model its parameters, storage, operations, seconds, peak memory and largest image, beside
those of its original (the same method and stages at VGG's widths) and their ratio. The sheet shows
what contents and styles become with each.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cdjax import Model, stylize
from cdjax.cli import use_compilation_cache
from cdjax.evaluation import EvaluationError, with_stages
from cdjax.image import Picture, levels, write_image
from cdjax.model import Config
from experiments.measure import WorkerError
from experiments.model_files import load_named, models_there, short_names, stored_bytes
from experiments.picture_sheet import Column, Pairs, Squares, draw_sheet, read_pairs
from experiments.table_measurements import Taken, Ways, measure_model
from experiments.table_options import parse, ways_of
from experiments.table_report import Table, figures, markdown
from experiments.table_rows import (
    Pair,
    Row,
    Sorted,
    model_row,
    original_name,
    original_of,
    sort_models,
)
from experiments.watch import write_text


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _load(options: argparse.Namespace) -> tuple[Sorted, dict[str, int | None]]:
    """The models, sorted, by the shortest names that tell them apart; the bytes of their files."""
    given = list(options.models) or models_there(options.folder)
    if options.teacher and options.teacher not in given:
        given.append(options.teacher)
    asked_for = {*options.models, options.teacher}
    names = dict(zip(given, short_names(given), strict=True))
    models: dict[str, Model] = {}
    unfit: dict[str, str] = {}
    for text, name in names.items():
        model = load_named(text)
        try:
            models[name] = with_stages(model, options.stages) if options.stages else model
        except EvaluationError as error:
            if text in asked_for:
                raise EvaluationError(f"{text}: {error}") from error
            unfit[name] = str(error)
    found = sort_models(models)
    found.left_out.update(unfit)
    if options.teacher and names[options.teacher] not in found.originals:
        raise EvaluationError(
            f"--teacher {options.teacher}: no original; that has decoders and VGG's widths"
        )
    if not found.compressed:
        raise EvaluationError(
            f"no compressed model among {', '.join(names) or 'none'}; name one, such as wct-16x"
        )
    return found, {name: stored_bytes(text) for text, name in names.items()}


def _measure(
    found: Sorted, stored: Mapping[str, int | None], ways: Ways | None
) -> tuple[Pair, ...]:
    """Every model and its original; originals that models share are measured once."""
    known: dict[tuple[str, Config], Taken] = {}

    def row(name: str, model: Model, *, trained: bool, folder: Path) -> Row:
        key = name, model.config
        if ways is not None and key not in known:
            label = f"{name} ({model.config.method})"
            known[key] = measure_model(
                folder, model, ways, say=lambda line: _say(f"{label} {line}")
            )
        size = stored[name] if trained else None
        return model_row(name, model, trained=trained, stored=size, taken=known.get(key))

    pairs = []
    with tempfile.TemporaryDirectory(prefix="cdjax-table-") as text:
        folder = Path(text)
        for name, model in found.compressed.items():
            trained, original = original_of(model, found.originals)
            called = trained or original_name(original.config.specs)
            compressed = row(name, model, trained=True, folder=folder)
            above = row(called, original, trained=bool(trained), folder=folder)
            pairs.append(Pair(above, compressed))
    return tuple(pairs)


def _stylized(name: str, model: Model, pairs: Pairs, dtype: str) -> Column:
    stages = " ".join(str(spec.stage) for spec in model.config.specs)
    pictures: list[Squares] = []
    for content, style in zip(pairs.contents, pairs.styles, strict=True):
        pictures.append(levels(np.asarray(stylize(model, content, style, dtype=dtype))))
    kind = "stage" if len(model.config.specs) == 1 else "stages"
    return Column(f"{name}\n{model.config.method}, {kind} {stages}", np.stack(pictures))


def _draw(found: Sorted, pairs: Pairs, options: argparse.Namespace) -> tuple[Picture, list[str]]:
    """The sheet, and what a reader must know of it."""
    columns = [Column("content", pairs.contents), Column("style", pairs.styles)]
    notes = []
    for role, models in (("teacher", found.originals), ("student", found.compressed)):
        for name, model in models.items():
            _say(f"{name}: pictures")
            column = _stylized(name, model, pairs, options.dtype)
            columns.append(Column(f"{role}\n{column.title}", column.pictures))
    if not found.originals:
        notes.append(
            "no teacher column: no original with trained decoders is there (convert_weights.py "
            "wct-vgg19 makes one; --teacher names it)"
        )
    stages = {tuple(spec.stage for spec in model.config.specs) for model in _wct(found)}
    if len(stages) > 1:
        notes.append("the cascades run different stages; --stages takes those that all have")
    return Picture(draw_sheet(columns, pairs.names, size=options.sheet_size)), notes


def _wct(found: Sorted) -> list[Model]:
    everything = [*found.originals.values(), *found.compressed.values()]
    return [model for model in everything if model.config.method == "wct"]


def _run(options: argparse.Namespace, command: str) -> None:
    # Before anything that takes time.
    pictures = (
        read_pairs(options.contents, options.styles, size=options.sheet_size, count=options.pairs)
        if options.sheet
        else None
    )
    found, stored = _load(options)
    ways = ways_of(options)
    rows = _measure(found, stored, ways)
    notes: list[str] = []
    if pictures is not None:
        use_compilation_cache()
        sheet, notes = _draw(found, pictures, options)
        write_image(options.sheet, sheet)
    name = str(options.sheet) if options.sheet else None
    result = Table(command, rows, ways, found.left_out, tuple(notes), name)
    print(markdown(result), end="")
    if options.json:
        write_text(options.json.resolve(), json.dumps(figures(result), indent=1) + "\n")


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status.

    Args:
        arguments: those of `experiments.evaluate`.

    Returns:
        0; 2 after one line on stderr for bad input; 1 for a process that failed.
    """
    options = parse(arguments)
    # This process, too, uses the GPU that the measured ones share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    try:
        _run(options, f"python -m experiments.evaluate {shlex.join(arguments)}")
    except (ValueError, OSError, WorkerError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1 if isinstance(error, WorkerError) else 2
    return 0
