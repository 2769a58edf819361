"""Provokes faults: damaged files, kills, full disks, forbidden files, two processes in one folder.

    python -m experiments.faults [--mutants 1200] [--kills 200] [--kinds KIND ...] [--seed 0]
    python -m experiments.faults --slice

Commands of cdjax run in processes of their own. For each kind of fault a row of a table has the
tries, those that made their result, those that were refused in one line, and what was wrong. The
exit status is 1 if anything was.
"""

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.context import ForkServerContext
from pathlib import Path

from PIL import Image

from cdjax.cli.parser import Parser, within
from cdjax.cli.report import about, document, facts, table
from experiments.benchmarks.report import say
from experiments.fault_suite import mutants, samples
from experiments.fault_suite.films import films
from experiments.fault_suite.full_disk import full_disk
from experiments.fault_suite.kills import Kills
from experiments.fault_suite.masks import masks
from experiments.fault_suite.permissions import permissions
from experiments.fault_suite.processes import Worker, server
from experiments.fault_suite.scenarios import CONVERT, DISTILL, OPTIMIZE, STYLIZE, Runs
from experiments.fault_suite.tries import Tries
from experiments.fault_suite.two_processes import two_processes
from experiments.fault_suite.verdicts import FAULTS, Tally

_SLICE = (
    *("pictures", "weights", "stylize", "optimize", "distill", "convert"),
    *("disk", "permissions", "pairs"),
)
_KINDS = (*_SLICE, "masks", "films")
_SHARES = {"stylize": 0.5, "optimize": 0.2, "distill": 0.2, "convert": 0.1}
_KILLED = {"stylize": STYLIZE, "optimize": OPTIMIZE, "distill": DISTILL, "convert": CONVERT}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m experiments.faults", description=__doc__)
    add, count = parser.add_argument, within(int, 1, 10**6)
    damaged = "damaged pictures and weights (1200; with --slice 120); a tenth as many masks, films"
    add("--mutants", type=count, metavar="N", help=damaged)
    kills = "killed commands (200; 8); a third as often disks are full, a tenth as often two meet"
    add("--kills", type=count, metavar="N", help=kills)
    part = "a tenth of it, without large pictures, masks and films"
    add("--slice", action="store_true", help=part)
    add("--kinds", nargs="+", choices=_KINDS, metavar="KIND", help=f"{', '.join(_KINDS)} (all)")
    seed = within(int, 0, 10**6)
    add("--seed", type=seed, default=0, metavar="N", help="of what is chosen at random (0)")
    add("--first", type=seed, default=0, metavar="N", help="number of the first damaged file (0)")
    keep = "folder for the files of tries in which something was wrong"
    add("--keep", type=Path, metavar="FOLDER", help=keep)
    options = parser.parse_args(arguments)
    options.mutants = options.mutants or (120 if options.slice else 1200)
    options.kills = options.kills or (8 if options.slice else 200)
    options.kinds = options.kinds or (_SLICE if options.slice else _KINDS)
    return options


def _write_inputs(context: ForkServerContext, folder: Path) -> None:
    (folder / "contents").mkdir(parents=True)
    samples.write_models(context, folder)
    for name, seed in (("c", 1), ("s", 2), *((f"contents/{n}", n) for n in range(6))):
        size = samples.WIDTH, samples.HEIGHT
        Image.fromarray(samples.painted(*size, seed)).save(folder / f"{name}.png")
    Image.fromarray(samples.painted(150, 140, 9)).save(folder / "large.png")


def _tallies(options: argparse.Namespace, folder: Path) -> Iterator[Tally]:
    """Every kind, one after the other."""
    kinds, seed = options.kinds, options.seed
    train = {"distill", "disk", "permissions", "pairs"} & set(kinds)
    context = server(folder / "cache", train=bool(train) and options.kills > 1)
    inputs = folder / "inputs"
    _write_inputs(context, inputs)
    numbers = range(options.first, options.first + options.mutants)
    damaged = -(-options.mutants * 2 // 3) if "weights" in kinds else options.mutants
    damaged = damaged if "pictures" in kinds else 0
    with Worker(context) as worker:
        tries = Tries(worker, inputs, seed, options.keep)
        if "pictures" in kinds:
            (folder / "pictures").mkdir()
            pictures = samples.write_pictures(folder / "pictures", large=not options.slice)
            yield mutants.pictures(tries, pictures, numbers[:damaged])
        if "weights" in kinds:
            yield mutants.weights(tries, numbers[damaged:])
        tenth = range(options.first, options.first + -(-options.mutants // 10))
        if "masks" in kinds:
            yield masks(tries, tenth)
        if "films" in kinds:
            yield films(tries, tenth)
    runs = Runs(context, inputs, folder / "runs")
    kills = Kills(runs, seed)
    for name, scenarios in _KILLED.items():
        if name in kinds:
            count = math.ceil(options.kills * _SHARES[name])
            yield kills.run(f"kills of {name}", scenarios, count)
    if "disk" in kinds:
        yield full_disk(runs, math.ceil(options.kills / 3), seed)
    if "permissions" in kinds:
        yield permissions(runs)
    if "pairs" in kinds:
        yield two_processes(runs, math.ceil(options.kills / 10), seed)


def _report(tallies: Sequence[Tally], command: Sequence[str], seconds: float) -> str:
    rows = []
    for tally in tallies:
        counts = (tally.tries, tally.made, tally.refused, *(tally.faults[name] for name in FAULTS))
        rows.append([tally.kind, *map(str, counts)])
    head = ["kind", "tries", "made", "refused in one line", *FAULTS]
    notes = "".join(f"\n{tally.kind}: {tally.note}\n" for tally in tallies if tally.note)
    known = about("python -m experiments.faults", command)
    known["settings"] = {"seconds": f"{seconds:.0f}"}
    return document("Faults", facts(known), {"Kinds": table(head, rows) + notes})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suite; returns the exit status: 0; 1 if there was a fault."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options, began = _parse(arguments), time.monotonic()
    tallies: list[Tally] = []
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="cdjax-faults-", ignore_cleanup_errors=True)
        )
        for tally in _tallies(options, Path(folder)):
            tallies.append(tally)
            taken, found = time.monotonic() - began, sum(tally.faults.values())
            say(f"[{taken:6.0f} s] {tally.kind}: {tally.tries} tries, {found} faults")
    print(_report(tallies, arguments, time.monotonic() - began), end="")
    return int(any(tally.faults for tally in tallies))


if __name__ == "__main__":
    sys.exit(main())
