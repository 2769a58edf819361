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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cdjax import Model, load_model
from cdjax.cli.main import use_compilation_cache
from cdjax.errors import EvaluationError, ImageError
from cdjax.evaluation.compare import with_stages
from cdjax.io.images import (
    Picture,
    write_image,
)
from cdjax.model import ModelConfig
from experiments.measure import WorkerError
from experiments.model_files import models_there, short_names, stored_bytes
from experiments.picture_pairs import read_pairs
from experiments.picture_sheet import draw_sheet
from experiments.table_measurements import Taken, Ways, Worker, measure_model
from experiments.table_options import parse, ways_of
from experiments.table_pictures import sheet_columns, sheet_notes
from experiments.table_report import Table, figures, markdown
from experiments.table_rows import (
    Pair,
    Row,
    Sorted,
    gatys_model,
    original_name,
    original_of,
    row_of,
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
        model = load_model(text)
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
    found: Sorted, stored: Mapping[str, int | None], ways: Ways | None, methods: Sequence[str]
) -> tuple[Pair, ...]:
    """Every model and its original; originals that models share are measured once."""
    known: dict[tuple[str, ModelConfig], Taken] = {}

    def row(name: str, model: Model, *, trained: bool, folder: Path) -> Row:
        key = name, model.config
        gatys = model.config.method == "encoder"
        if ways is not None and key not in known:
            label = f"{name} ({'gatys' if gatys else model.config.method})"
            kind = Worker("gatys", "experiments.measure_gatys") if gatys else Worker()
            known[key] = measure_model(
                folder, model, ways, say=lambda line: _say(f"{label} {line}"), kind=kind
            )
        size = stored[name] if trained else None
        return row_of(name, model, trained=trained, stored=size, taken=known.get(key))

    pairs = []
    with tempfile.TemporaryDirectory(prefix="cdjax-table-") as text:
        folder = Path(text)
        for name, model, trained, original in _systems(found, methods):
            compressed = row(name, model, trained=True, folder=folder)
            called = trained or original_name(original.config.specs)
            above = row(called, original, trained=bool(trained), folder=folder)
            pairs.append(Pair(above, compressed))
    return tuple(pairs)


def _systems(found: Sorted, methods: Sequence[str]) -> Iterator[tuple[str, Model, str, Model]]:
    """Name and model of what is compressed, and the same of its original, method by method."""
    for method in methods:
        for name, model in found.compressed.items():
            trained, original = original_of(model, found.originals)
            if method == model.config.method:
                yield name, model, trained, original
            elif method == "gatys":
                lone, lone_original = gatys_model(model), gatys_model(original)
                if lone is not None and lone_original is not None:
                    yield name, lone, trained, lone_original


def _run(options: argparse.Namespace, command: str) -> int:
    # Before anything that takes time.
    pictures = (
        read_pairs(options.contents, options.styles, size=options.sheet_size, count=options.pairs)
        if options.sheet
        else None
    )
    found, stored = _load(options)
    ways = ways_of(options)
    rows = _measure(found, stored, ways, options.methods)
    notes = sheet_notes(found, options.methods) if options.sheet else []
    name = str(options.sheet) if options.sheet else None
    result = Table(command, rows, ways, found.left_out, tuple(notes), name)
    # Before the pictures and files: what took minutes to measure is not lost by a full disk.
    print(markdown(result), end="", flush=True)
    try:
        if options.json:
            write_text(options.json.resolve(), json.dumps(figures(result), indent=1) + "\n")
        if pictures is not None:
            use_compilation_cache()
            columns = sheet_columns(
                found,
                pictures,
                methods=options.methods,
                dtype=options.dtype,
                gatys_steps=options.gatys_steps,
                say=_say,
            )
            sheet = draw_sheet(columns, pictures.names, size=options.sheet_size)
            write_image(options.sheet, Picture(sheet))
    except (OSError, ImageError) as error:
        print(f"evaluate: the table is there, but not all files are: {error}", file=sys.stderr)
        return 1
    return 0


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
        return _run(options, f"python -m experiments.evaluate {shlex.join(arguments)}")
    except (ValueError, OSError, WorkerError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 1 if isinstance(error, WorkerError) else 2
