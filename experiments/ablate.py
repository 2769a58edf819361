"""`python -m experiments.ablate`: the effect of each part of collaborative distillation.

One stage is distilled several times with the same budget: with everything, without the embedding
loss, without collaboration (the losses through the teacher's decoder), and from other starts. All
share one teacher and its decoder, and are measured as by `cdjax evaluate`, on images that none of
them has seen.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cdjax import load_model
from cdjax.cli.compilation_cache import use_compilation_cache
from cdjax.cli.distill import NEEDED
from cdjax.cli.evaluation_report import figures, report
from cdjax.cli.main import exit_status
from cdjax.cli.parser import require
from cdjax.cli.report import about, as_json
from cdjax.cli.training_log import Watch
from cdjax.data.loader import DataConfig
from cdjax.distillation.config import COLLABORATION_LOSSES, DistillationConfig
from cdjax.distillation.images import sample_images
from cdjax.distillation.pipeline import distill
from cdjax.errors import EvaluationError
from cdjax.evaluation.compare import compare, read_photographs
from cdjax.io.atomic import atomic_folder, write_text
from cdjax.model import Images

_UNSEEN = 4
"""Added to the seed: training and its pictures use the seed and the ones that follow it."""


def variants(recipe: DistillationConfig) -> dict[str, DistillationConfig]:
    """By name the recipe, whose student_encoder phase has all losses, and copies without a part."""
    everything = replace(recipe, student_transfer=replace(recipe.student_transfer, steps=0))
    encoder = recipe.student_encoder

    def with_weights(**changes: float) -> DistillationConfig:
        weights = replace(encoder.weights, **changes)
        return replace(everything, student_encoder=replace(encoder, weights=weights))

    found = {
        "everything": everything,
        "no_embedding": with_weights(embedding=0.0),
        "no_collaboration": with_weights(**dict.fromkeys(COLLABORATION_LOSSES[recipe.method], 0.0)),
    }
    others: Any = ("lsq", "l1", "random")
    for start in (replace(recipe.start, method=method) for method in others):
        if start != recipe.start:
            found[f"start_{start.method}"] = replace(everything, start=start)
    return found | ({"with_transfer": recipe} if recipe.student_transfer.steps else {})


def measured_images(
    recipe: DistillationConfig, folder: Path | None, *, count: int, size: int
) -> tuple[Images, Images, dict[str, Any]]:
    """Images to fit embeddings to, images to measure on, and the contents and styles of pairs.

    They are those in a folder or, without one, of the recipe's data with another seed. There are
    pairs if the variants are trained for transfers.
    """

    def unseen(data: DataConfig, number: int) -> Images:
        data = replace(data, seed=data.seed + _UNSEEN)
        start = replace(recipe.start, crop=size)
        return sample_images(replace(recipe, data=data, start=start), number)

    if folder is None:
        images = unseen(recipe.data, count)
    else:
        images = read_photographs(folder, size=size, count=count).images
    fit, test = images[: count // 2], images[count // 2 :]
    if recipe.method != "adain" and not recipe.student_transfer.steps:
        return fit, test, {}
    styles = unseen(recipe.style_data, len(test))
    return fit, test, {"contents": test, "styles": styles[np.arange(len(test)) % len(styles)]}


def run(arguments: Sequence[str]) -> int:
    """Runs the program; returns the exit status."""
    require("ablate", *NEEDED)
    from experiments.ablate_options import parse

    command = parse(arguments)
    recipe, output = command.recipe, command.output
    if len(recipe.stages) != 1 or command.count < 4:
        raise EvaluationError("ablate takes one stage, and a count of at least 4 images")
    use_compilation_cache()
    watch, models = Watch(), {}
    count, size = command.count, command.size
    fit, test, pairs = measured_images(recipe, command.images, count=count, size=size)
    for name, variant in variants(recipe).items():
        watch.say(name)
        # All variants have the teacher of the first one, and its decoder if there is one.
        for part in ("teacher", f"stage{recipe.stages[0]}/teacher_decoder"):
            made, copy = output / "everything" / part, output / name / part
            if made.is_dir() and not copy.is_dir():
                with atomic_folder(copy) as temporary:
                    shutil.copytree(made, temporary, dirs_exist_ok=True)
        models[name] = distill(variant, output / name, watch)
    teacher = output / "everything" / "teacher"
    comparison = compare(models, load_model(teacher), fit, test, **pairs)
    files = {name: str(output / name / "model") for name in models} | {"teacher": str(teacher)}
    settings = {
        "teacher": recipe.teacher,
        "trained on": f"`{recipe.data.source}`, {recipe.student_encoder.steps} steps of the "
        f"encoder and {recipe.student_decoder.steps} of the decoder, start {recipe.start.method}",
        "measured on": f"{len(test)} unseen images of `{command.images or recipe.data.source}`",
    }
    results = about("python -m experiments.ablate", arguments) | {
        "title": f"Ablation of stage {recipe.stages[0]}",
        "settings": settings,
        "recipe": recipe.to_json(),
        **figures(comparison, files),
    }
    text = report(results)
    write_text(output / "ablation.md", text)
    write_text(output / "ablation.json", as_json(results))
    print(text, end="")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Runs the program; returns the exit status, after one line on stderr for bad input."""
    return exit_status(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
