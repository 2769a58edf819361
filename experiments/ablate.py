"""`python -m experiments.ablate`: what each part of collaborative distillation is worth.

One stage is distilled several times under one budget: with everything, without the embedding loss,
without collaboration (the losses through the teacher's decoder), and from other starts. All share
one teacher and one decoder of it, and are measured on images that none of them has seen.
"""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdjax.evaluation import Comparison
    from cdjax.layer_rows import Images
    from cdjax.recipe import Recipe
    from experiments.ablate_options import Command

_NEEDED = ("tyro", "matplotlib", "tensorboardX")


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
    """The recipe, whose student_encoder phase has all losses, and it with a part left out."""
    encoder = recipe.student_encoder
    weights = encoder.weights

    def with_weights(**changes: float) -> "Recipe":
        return replace(
            recipe, student_encoder=replace(encoder, weights=replace(weights, **changes))
        )

    def from_start(method: Any) -> "Recipe":
        return replace(recipe, start=replace(recipe.start, method=method))

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
            with_weights(pixel=0.0, perceptual=0.0),
        ),
        *starts,
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
    from cdjax.evaluation import read_photographs
    from cdjax.pipeline import sample_images

    if command.images is not None:
        images = read_photographs(command.images, size=command.size, count=command.count).images
    else:
        data = replace(command.recipe.data, seed=command.recipe.data.seed + 1)
        start = replace(command.recipe.start, crop=command.size)
        images = sample_images(replace(command.recipe, data=data, start=start), command.count)
    half = len(images) // 2
    return images[:half], images[half:]


def _table(found: list[Variant], comparison: "Comparison", stage: int) -> str:
    first = comparison.models[found[0].name].unexplained["affine"][stage]
    head = ["", *(f"{tap}, affine / relu" for tap in first), "PSNR, dB", "SSIM"]
    lines = [head, ["---"] * len(head)]
    for variant in found:
        result = comparison.models[variant.name]
        shares = [
            f"{result.unexplained['affine'][stage][tap]:.3f} / "
            f"{result.unexplained['relu'][stage][tap]:.3f}"
            for tap in first
        ]
        quality = result.reconstruction[stage]
        lines.append([variant.about, *shares, f"{quality.psnr:.2f}", f"{quality.ssim:.3f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _report(command: "Command", found: list[Variant], comparison: "Comparison") -> str:
    recipe, stage = command.recipe, command.recipe.stages[0]
    tested = command.count - command.count // 2
    return (
        f"# Ablation of stage {stage}\n\n"
        f"Teacher `{recipe.teacher}`, images `{recipe.data.source}`; "
        f"{recipe.student_encoder.steps} steps of the encoder and {recipe.student_decoder.steps} "
        f"of the decoder, batches of {recipe.data.batch} crops of {recipe.data.crop} pixels.\n"
        f"Measured on {tested} images of {command.images or recipe.data.source} that were not "
        "trained on: the share of the teacher's variance that is not explained, and "
        "reconstructions.\n\n" + _table(found, comparison, stage)
    )


def _run(command: "Command") -> None:
    from dataclasses import asdict

    from cdjax.cli import use_compilation_cache
    from cdjax.evaluation import EvaluationError, compare
    from cdjax.pipeline import distill
    from cdjax.teachers import load_teacher
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
    comparison = compare(models, load_teacher(first / "teacher"), fit, test)
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
    from cdjax.training import TrainingError
    from experiments.ablate_options import parse

    try:
        _run(parse(arguments))
    except (ValueError, OSError) as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 2
    except TrainingError as error:
        print(f"ablate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ablate: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
