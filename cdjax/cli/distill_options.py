"""The options of `cdjax distill`, made from the recipe's dataclasses."""

import io
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

import tyro

from cdjax.cli.parser import Parser
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
        quiet: print errors only.
    """

    recipe: Annotated[DistillationConfig, tyro.conf.FlagConversionOff, tyro.conf.arg(name="")]
    preset: Preset = "quick"
    output: Path = Path("runs/quick")
    hosts: Hosts = field(default_factory=Hosts)
    quiet: Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(aliases=["-q"])] = False


def parse(arguments: Sequence[str]) -> Command:
    """The command line as a configuration; exits with status 2 if it is wrong."""
    # Preset and method decide the defaults of all other options.
    first = Parser(prog="cdjax distill", add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=get_args(Preset), default="quick")
    first.add_argument("--method", choices=list(PRESETS), default="wct")
    given, _ = first.parse_known_args(arguments)
    name = f"adain-{given.preset}" if given.method == "adain" else given.preset
    default = Command(PRESETS[given.method][given.preset], output=Path("runs") / name)
    return parse_like(default, arguments, "cdjax distill")


def parse_like(default: _Command, arguments: Sequence[str], program: str) -> _Command:
    """A dataclass with the options on a command line in place of its own values.

    Wrong use is reported as other commands do it: in one line, with status 2.
    """
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return tyro.cli(type(default), args=list(arguments), default=default, prog=program)
    except SystemExit as done:
        if done.code:
            Parser(prog=program).error(_reason(said.getvalue()))
        raise


def _reason(box: str) -> str:
    """What is wrong, from the box that tyro draws: its first paragraph."""
    lines = [line.strip("│╭╮╰╯─ ") for line in box.splitlines()[1:]]
    text = " ".join(lines[: lines.index("")] if "" in lines else lines)
    for vague in ("Error parsing ", "recipe."):
        text = text.removeprefix(vague)
    return text.rstrip(".") or "wrong use"
