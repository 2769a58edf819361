"""What the models make of pairs of contents and styles: the columns of the table's sheet."""

from collections.abc import Callable, Sequence

import numpy as np

from cdjax import Model, stylize
from cdjax.io.images import levels
from cdjax.optimization.config import Optimization
from cdjax.optimization.optimize import optimize_image
from experiments.picture_pairs import Pairs
from experiments.picture_sheet import Column
from experiments.table_rows import Sorted, gatys_model


def sheet_columns(
    found: Sorted,
    pairs: Pairs,
    *,
    methods: Sequence[str],
    dtype: str,
    gatys_steps: int,
    say: Callable[[str], None],
) -> list[Column]:
    """Contents, styles, and results of teachers, students and the optimisation.

    Args:
        found: the models; originals are teachers.
        pairs: one a row.
        methods: of whose results there are columns.
        dtype: in which the networks compute; the optimisation is in float32.
        gatys_steps: of the optimisation at every scale.
        say: is told of every column, in a line.
    """
    columns = [Column("content", pairs.contents), Column("style", pairs.styles)]
    for role, models in (("teacher", found.originals), ("student", found.compressed)):
        for name, model in models.items():
            if model.config.method in methods:
                say(f"{name}: pictures")
                columns.append(_stylized(f"{role}\n{name}", model, pairs, dtype))
    if "gatys" in methods and (encoder := _gatys_encoder(found)):
        name, model = encoder
        say(f"{name}: pictures by optimisation")
        columns.append(_optimized(name, model, pairs, gatys_steps))
    return columns


def sheet_notes(found: Sorted, methods: Sequence[str]) -> list[str]:
    """What a reader must know of the sheet, a line each."""
    notes = []
    if not any(model.config.method in methods for model in found.originals.values()):
        notes.append(
            "no teacher column: no original with trained decoders is there (convert_weights.py "
            "wct-vgg19 makes one of the original WCT's files; --teacher names one)"
        )
    cascades = {
        tuple(spec.stage for spec in model.config.specs)
        for model in (*found.originals.values(), *found.compressed.values())
        if model.config.method == "wct"
    }
    if len(cascades) > 1 and "wct" in methods:
        notes.append("the cascades run different stages; --stages takes those that all have")
    if "gatys" in methods and not _gatys_encoder(found):
        notes.append("no column of Gatys, which needs an encoder of stage 5")
    return notes


def _gatys_encoder(found: Sorted) -> tuple[str, Model] | None:
    """The first compressed encoder that an optimisation can use, and its model's name."""
    for name, model in found.compressed.items():
        if (encoder := gatys_model(model)) is not None:
            return name, encoder
    return None


def _stylized(title: str, model: Model, pairs: Pairs, dtype: str) -> Column:
    stages = [str(spec.stage) for spec in model.config.specs]
    what = f"{model.config.method}, stage{'s' if len(stages) > 1 else ''} {' '.join(stages)}"
    pictures = [
        levels(np.asarray(stylize(model, content, style, dtype=dtype)))
        for content, style in zip(pairs.contents, pairs.styles, strict=True)
    ]
    return Column(f"{title}\n{what}", np.stack(pictures))


def _optimized(name: str, model: Model, pairs: Pairs, steps: int) -> Column:
    settings = Optimization(steps=steps)
    pictures = [
        levels(np.asarray(optimize_image(model, content, style, settings=settings)))
        for content, style in zip(pairs.contents, pairs.styles, strict=True)
    ]
    return Column(f"Gatys\nencoder of {name}\n{steps} steps a scale", np.stack(pictures))
