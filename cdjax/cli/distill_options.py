"""The options of `cdjax distill`, made from the recipe's dataclasses."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from cdjax.distillation.config import DistillationConfig
from cdjax.distillation.presets import PRESETS

Preset = Literal["quick", "paper", "bundled"]
_Command = TypeVar("_Command")


@dataclass(frozen=True)
class Hosts:
    """A run on several machines: the same command on each, with another index.

    Attributes:
        coordinator: ADDRESS:PORT of the first one.
        processes: how many there are.
        index: which one this is, from 0.
    """

    coordinator: str | None = None
    processes: int | None = None
    index: int | None = None


@dataclass(frozen=True)
class Command:
    """Compresses a style-transfer network by collaborative distillation.

    Attributes:
        preset: the defaults of all other settings: "quick", a few minutes without photographs;
            "paper", the paper's recipe; "bundled", how the model in the package was made.
        output: folder of all results, by default runs/PRESET, or runs/adain-PRESET. What it
            contains already is not made again.
        recipe: what is done.
        hosts: for a run on several machines.
    """

    recipe: Annotated[DistillationConfig, tyro.conf.arg(name="")]
    preset: Preset = "quick"
    output: Path = Path("runs/quick")
    hosts: Hosts = field(default_factory=Hosts)


def parse(arguments: Sequence[str]) -> Command:
    """The command line as a configuration; exits with status 2 if it is wrong."""
    # Preset and method decide the defaults of all other options.
    preset, method = _given(arguments, "preset", "quick"), _given(arguments, "method", "wct")
    presets = PRESETS["adain" if method == "adain" else "wct"]
    recipe = presets[preset if preset in presets else "quick"]
    name = f"adain-{preset}" if method == "adain" else preset
    default = Command(recipe, "quick", Path("runs") / name)
    return parse_like(default, arguments, "cdjax distill")


def parse_like(default: _Command, arguments: Sequence[str], program: str) -> _Command:
    """A dataclass with the options on a command line in place of its own values."""
    config = (tyro.conf.FlagConversionOff,)
    return tyro.cli(
        type(default), args=list(arguments), default=default, prog=program, config=config
    )


def _given(arguments: Sequence[str], option: str, default: str) -> str:
    """The value of an option, found before the others are parsed."""
    for i, argument in enumerate(arguments):
        if argument == f"--{option}" and i + 1 < len(arguments):
            default = arguments[i + 1]
        elif argument.startswith(f"--{option}="):
            default = argument.partition("=")[2]
    return default
