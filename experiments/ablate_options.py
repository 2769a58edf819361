"""The command line of `python -m experiments.ablate`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from cdjax.cli.distill_options import parse_like
from cdjax.distillation.config import DistillationConfig, PhaseConfig, Weights
from cdjax.distillation.presets import PRESETS

_STEPS = 40


@dataclass(frozen=True)
class Command:
    """Distils one stage in several ways with the same budget, and measures the results.

    Attributes:
        output: folder of the variants; what it contains already is not made again.
        recipe: of the complete variant; the others leave something out.
        images: photographs to measure on; by default, images of the recipe's data with another
            seed.
        count: how many of them; embeddings are fitted to the first half.
        size: their sides, in pixels.
    """

    recipe: Annotated[DistillationConfig, tyro.conf.FlagConversionOff, tyro.conf.arg(name="")]
    output: Path = Path("runs/ablation")
    images: Path | None = None
    count: int = 48
    size: int = 128


def default_recipe() -> DistillationConfig:
    """Stage 2 with the paper's losses, and few steps."""
    quick = PRESETS["wct"]["quick"]
    whitened = PhaseConfig(_STEPS, Weights(), 0.003, decay=True, whitened=True)
    return replace(
        quick,
        stages=(2,),
        teacher_decoder=PhaseConfig(3 * _STEPS, Weights(), 1e-3, decay=True),
        student_encoder=whitened,
        student_autoencoder=PhaseConfig(),
        student_decoder=replace(whitened, weights=Weights(perceptual=0.01)),
    )


def parse(arguments: Sequence[str]) -> Command:
    """The command line as a configuration; exits with status 2 if it is wrong."""
    return parse_like(Command(default_recipe()), arguments, "python -m experiments.ablate")
