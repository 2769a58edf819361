"""`python -m experiments.ablate`: what each part of collaborative distillation is worth.

One stage is distilled several times under one budget: with everything, without the embedding loss,
without collaboration (the losses through the teacher's decoder), and from other starts. All share
one teacher and one decoder of it, and are measured on images that none of them has seen: their
features, and what the method is for, reconstructions (WCT) or transfers (AdaIN).
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cdjax.data.loader import DataConfig
    from cdjax.distillation.config import Recipe
    from cdjax.distillation.initialization.layer_samples import Images
    from cdjax.evaluation.compare import Comparison, Evaluation
    from experiments.ablate_options import Command

_NEEDED = ("tyro", "matplotlib", "tensorboardX")

_UNSEEN = 4
"""Added to the seed: training and its pictures, of contents and of styles, have it and the next."""


@dataclass(frozen=True)
class Variant:
    """One way to distil.

    Attributes:
        name: of its folder.
        about: what it does, for the table.
        recipe: how.
    """

    name: str
    about: str
    recipe: "Recipe"


def variants(recipe: "Recipe") -> list[Variant]:
    """The recipe, whose student_encoder phase has all losses, and it with parts left out."""
    whole, recipe = recipe, replace(recipe, student_transfer=type(recipe.student_transfer)())
    encoder = recipe.student_encoder
    weights = encoder.weights

    def with_weights(**changes: float) -> "Recipe":
        return replace(
            recipe, student_encoder=replace(encoder, weights=replace(weights, **changes))
        )

    def from_start(method: Any) -> "Recipe":
        return replace(recipe, start=replace(recipe.start, method=method))

    losses = ("content", "style") if recipe.method == "adain" else ("pixel", "perceptual")
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
    """Gives a variant the teacher of the first, and the teacher's decoder if one was made."""
    for part in (Path("teacher"), Path(f"stage{stage}") / "teacher_decoder"):
        if (first / part).is_dir() and not (folder / part).is_dir():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            beside = (folder / part).with_name(f".{part.name}")
            shutil.rmtree(beside, ignore_errors=True)
            shutil.copytree(first / part, beside)
            beside.rename(folder / part)


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
    from cdjax.distillation.pipeline import sample_images

    data = replace(data, seed=data.seed + _UNSEEN)
    start = replace(command.recipe.start, crop=command.size)
    return sample_images(replace(command.recipe, data=data, start=start), count)


def _pairs(command: "Command", contents: "Images") -> dict[str, Any]:
    """What transfers are measured on: contents and as many styles."""
    if command.recipe.method != "adain" and not command.recipe.student_transfer.steps:
        return {}
    styles = _unseen(command, command.recipe.style_data, len(contents))
    return {"contents": contents, "styles": styles[np.arange(len(contents)) % len(styles)]}


def _quality(result: "Evaluation", stage: int) -> dict[str, str]:
    """How good the pictures are, for the table."""
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
    head = ["", *(f"{tap}, affine / relu" for tap in taps), *_quality(first, stage)]
    lines = [head, ["---"] * len(head)]
    for variant in found:
        result = comparison.models[variant.name]
        shares = [
            f"{result.unexplained['affine'][stage][tap]:.3f} / "
            f"{result.unexplained['relu'][stage][tap]:.3f}"
            for tap in taps
        ]
        lines.append([variant.about, *shares, *_quality(result, stage).values()])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


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


def _run(command: "Command") -> None:
    from dataclasses import asdict

    from cdjax.checkpoints.load import load_model
    from cdjax.cli.main import use_compilation_cache
    from cdjax.distillation.pipeline import distill
    from cdjax.errors import EvaluationError
    from cdjax.evaluation.compare import compare
    from experiments.watch import Watch, write_text

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


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        print(f"ablate: {', '.join(missing)} missing: pip install 'cdjax[train]'", file=sys.stderr)
        return 2
    from cdjax.errors import TrainingError
    from experiments.ablate_options import parse

    try:
        _run(parse(arguments))
    except TrainingError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError) as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablate: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
