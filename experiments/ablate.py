"""`python -m experiments.ablate`: the effect of each part of collaborative distillation.

One stage is distilled several times with the same budget: with everything, without the embedding
loss, without collaboration (the losses through the teacher's decoder), and from other starts. All
share one teacher and its decoder, and are measured on images that none of them has seen: their
features, and their reconstructions (WCT) or transfers (AdaIN).
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdjax.cli.distill import NEEDED
from cdjax.cli.extras import require
from cdjax.cli.main import exit_status
from cdjax.cli.report import table
from cdjax.errors import EvaluationError
from cdjax.io.atomic import atomic_folder, write_text

if TYPE_CHECKING:
    from cdjax.data.loader import DataConfig
    from cdjax.distillation.config import DistillationConfig
    from cdjax.evaluation.compare import Comparison, Evaluation
    from cdjax.model import Images
    from experiments.ablate_options import Command

_UNSEEN = 4
"""Added to the seed: training and its pictures use the seed and the ones that follow it."""


@dataclass(frozen=True)
class Variant:
    """One way to distil.

    Attributes:
        name: of its folder.
        about: what it does, for the table.
        recipe: of the distillation.
    """

    name: str
    about: str
    recipe: "DistillationConfig"


def variants(recipe: "DistillationConfig") -> list[Variant]:
    """The recipe, whose student_encoder phase has all losses, and copies without some part."""
    from cdjax.distillation.config import COLLABORATION_LOSSES

    whole, recipe = (
        recipe,
        replace(recipe, student_transfer=replace(recipe.student_transfer, steps=0)),
    )
    encoder = recipe.student_encoder
    weights = encoder.weights

    def with_weights(**changes: float) -> "DistillationConfig":
        return replace(
            recipe, student_encoder=replace(encoder, weights=replace(weights, **changes))
        )

    def from_start(method: Any) -> "DistillationConfig":
        return replace(recipe, start=replace(recipe.start, method=method))

    losses = COLLABORATION_LOSSES[recipe.method]
    own = recipe.start.method
    starts = [
        Variant(f"start_{method}", f"everything, from {method}", from_start(method))
        for method in ("lsq", "l1", "random")
        if method != own
    ]
    return [
        Variant("everything", f"everything, from {own}", recipe),
        Variant("no_embedding", "without the embedding loss", with_weights(embedding=0.0)),
        Variant(
            "no_collaboration",
            "without collaboration",
            with_weights(**dict.fromkeys(losses, 0.0)),
        ),
        *starts,
        *(
            [Variant("with_transfer", "everything, then student_transfer", whole)]
            if whole.student_transfer.steps
            else []
        ),
    ]


def _share(first: Path, folder: Path, stage: int) -> None:
    """Copies the teacher of the first variant, and its decoder if there is one."""
    for part in (Path("teacher"), Path(f"stage{stage}") / "teacher_decoder"):
        if (first / part).is_dir() and not (folder / part).is_dir():
            with atomic_folder(folder / part) as temporary:
                shutil.copytree(first / part, temporary, dirs_exist_ok=True)


def _images(command: "Command") -> "tuple[Images, Images]":
    """Images to fit embeddings to, and images to measure on."""
    from cdjax.evaluation.compare import read_photographs

    if command.images is not None:
        images = read_photographs(command.images, size=command.size, count=command.count).images
    else:
        images = _unseen(command, command.recipe.data, command.count)
    half = len(images) // 2
    return images[:half], images[half:]


def _unseen(command: "Command", data: "DataConfig", count: int) -> "Images":
    from cdjax.distillation.images import sample_images

    data = replace(data, seed=data.seed + _UNSEEN)
    start = replace(command.recipe.start, crop=command.size)
    return sample_images(replace(command.recipe, data=data, start=start), count)


def _pairs(command: "Command", contents: "Images") -> dict[str, Any]:
    """The pairs that transfers are measured on: contents and as many styles."""
    if command.recipe.method != "adain" and not command.recipe.student_transfer.steps:
        return {}
    styles = _unseen(command, command.recipe.style_data, len(contents))
    return {"contents": contents, "styles": styles[np.arange(len(contents)) % len(styles)]}


def _quality(result: "Evaluation", stage: int) -> dict[str, str]:
    """The quality of the pictures, for the table."""
    found = {}
    if quality := result.reconstruction.get(stage):
        found = {"PSNR, dB": f"{quality.psnr:.2f}", "SSIM": f"{quality.ssim:.3f}"}
    if result.stylized:
        found |= {
            "content loss": f"{result.stylized.content_loss:.4g}",
            "style loss": f"{result.stylized.style_loss:.4g}",
            "content SSIM": f"{result.stylized.content_ssim:.3f}",
        }
    return found


def _table(found: list[Variant], comparison: "Comparison", stage: int) -> str:
    first = comparison.models[found[0].name]
    taps = first.unexplained["affine"][stage]
    lines = []
    for variant in found:
        result = comparison.models[variant.name]
        shares = [
            f"{result.unexplained['affine'][stage][tap]:.3f} / "
            f"{result.unexplained['relu'][stage][tap]:.3f}"
            for tap in taps
        ]
        lines.append([variant.about, *shares, *_quality(result, stage).values()])
    head = ["", *(f"{tap}, affine / relu" for tap in taps), *_quality(first, stage)]
    return table(head, lines)


def _report(command: "Command", found: list[Variant], comparison: "Comparison") -> str:
    recipe, stage = command.recipe, command.recipe.stages[0]
    tested = command.count - command.count // 2
    pictures = (
        f"transfers to {recipe.styles.source}" if recipe.method == "adain" else "reconstructions"
    )
    return (
        f"# Ablation of stage {stage}\n\n"
        f"Teacher `{recipe.teacher}`, images `{recipe.data.source}`; "
        f"{recipe.student_encoder.steps} steps of the encoder and {recipe.student_decoder.steps} "
        f"of the decoder, batches of {recipe.data.batch} crops of {recipe.data.crop} pixels.\n"
        f"Measured on {tested} images of {command.images or recipe.data.source} that were not "
        "trained on: the share of the teacher's variance that is not explained, and "
        f"{pictures}.\n\n" + _table(found, comparison, stage)
    )


def run(arguments: Sequence[str]) -> int:
    """Runs the program; returns the exit status."""
    require("ablate", *NEEDED)
    from cdjax.checkpoints.load import load_model
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.cli.training_log import Watch
    from cdjax.distillation.pipeline import distill
    from cdjax.evaluation.compare import compare
    from experiments.ablate_options import parse

    command = parse(arguments)
    recipe = command.recipe
    if len(recipe.stages) != 1 or command.count < 4:
        raise EvaluationError("ablate takes one stage, and a count of at least 4 images")
    use_compilation_cache()
    watch, found = Watch(), variants(recipe)
    fit, test = _images(command)
    first = command.output / found[0].name
    models = {}
    for variant in found:
        watch.say(variant.about)
        folder = command.output / variant.name
        folder.mkdir(parents=True, exist_ok=True)
        _share(first, folder, recipe.stages[0])
        models[variant.name] = distill(variant.recipe, folder, watch)
    teacher = load_model(first / "teacher")
    comparison = compare(models, teacher, fit, test, **_pairs(command, test))
    text = _report(command, found, comparison)
    write_text(command.output / "ablation.md", text)
    figures = {"recipe": recipe.to_json(), "models": asdict(comparison)["models"]}
    write_text(command.output / "ablation.json", json.dumps(figures, indent=1) + "\n")
    print(text, end="")
    return 0


def main(arguments: Sequence[str]) -> int:
    """Runs the program; returns the exit status, after one line on stderr for bad input."""
    return exit_status(lambda: run(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
