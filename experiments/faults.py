"""Provokes faults: damaged files, kills, full disks, forbidden files, two processes in one folder.

    python -m experiments.faults [--mutants 1000] [--kills 200] [--seed 0]
    python -m experiments.faults --slice

Commands of cdjax run in processes of their own. For each kind of fault a row of a table has the
tries, those that made their result, those that were refused in one line, and what was wrong. The
exit status is 1 if anything was.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from PIL import Image

from cdjax.cli.parser import Parser, within
from cdjax.cli.report import about, document, facts, table
from experiments.benchmarks.report import say
from experiments.fault_suite import samples, scenarios
from experiments.fault_suite.full_disk import full_disk
from experiments.fault_suite.kills import Kills
from experiments.fault_suite.mutants import Mutants
from experiments.fault_suite.permissions import permissions
from experiments.fault_suite.processes import Worker, server
from experiments.fault_suite.two_processes import two_processes
from experiments.fault_suite.verdicts import FAULTS, Tally

_FEW = 5  # kills, none of which is of a distillation
_MANY = 100  # damaged files, for which it is worth to write large ones
_SLICE = {"mutants": 120, "kills": 8, "disks": 8, "forbidden": 8, "pairs": 3}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m experiments.faults", description=__doc__)
    add, count = parser.add_argument, within(int, 0, 10**6)
    add("--mutants", type=count, default=1200, metavar="N", help="damaged files (%(default)s)")
    add("--kills", type=count, default=200, metavar="N", help="killed commands (%(default)s)")
    add("--disks", type=count, default=60, metavar="N", help="full disks (%(default)s)")
    add("--forbidden", type=count, default=21, metavar="N", help="permissions (%(default)s)")
    add("--pairs", type=count, default=21, metavar="N", help="two processes (%(default)s)")
    add("--slice", action="store_true", help="a minute's worth of all, in place of these numbers")
    add("--seed", type=count, default=0, metavar="N", help="of what is chosen at random (0)")
    add("--first", type=count, default=0, metavar="N", help="number of the first damaged file")
    keep = "folder for the files of tries in which something was wrong"
    add("--keep", type=Path, metavar="FOLDER", help=keep)
    options = parser.parse_args(arguments)
    if options.slice:
        vars(options).update(_SLICE)
    return options


def _tallies(options: argparse.Namespace, folder: Path) -> Iterator[Tally]:
    """Every kind, one after the other."""
    context = server(folder / "cache", train=options.kills > _FEW)
    inputs, work = folder / "inputs", folder / "work"
    (inputs / "contents").mkdir(parents=True)
    samples.write_models(context, inputs)
    for name, seed in (("c", 1), ("s", 2), *((f"contents/{n}", n) for n in range(6))):
        size = samples.WIDTH, samples.HEIGHT
        Image.fromarray(samples.painted(*size, seed)).save(inputs / f"{name}.png")
    Image.fromarray(samples.painted(150, 140, 9)).save(inputs / "large.png")
    if options.mutants:
        (folder / "pictures").mkdir()
        pictures = samples.write_pictures(folder / "pictures", large=options.mutants > _MANY)
        numbers = range(options.first, options.first + options.mutants)
        with Worker(context) as worker:
            mutants = Mutants(worker, inputs, options.seed, options.keep)
            yield mutants.pictures(pictures, numbers[: -(-len(numbers) * 2 // 3)])
            yield mutants.weights(numbers[-(-len(numbers) * 2 // 3) :])
    kills = Kills(context, inputs, work, options.seed)
    shares = {
        "stylize": (scenarios.STYLIZE, 0.5),
        "optimize": (scenarios.OPTIMIZE, 0.2),
        "distill": (scenarios.DISTILL, 0.2),
        "convert": (scenarios.CONVERT, 0.1),
    }
    left = options.kills
    for name, (group, share) in shares.items():
        number = min(left, round(options.kills * share + 0.5))
        left -= number
        if number:
            yield kills.run(f"kills of {name}", group, number)
    if options.disks:
        yield full_disk(context, inputs, work, options.disks, options.seed)
    if options.forbidden:
        yield permissions(context, inputs, work, options.forbidden)
    if options.pairs:
        yield two_processes(context, inputs, work, options.pairs, options.seed)


def _report(tallies: Sequence[Tally], command: Sequence[str], seconds: float) -> str:
    rows = [
        [
            tally.kind,
            str(tally.tries),
            str(tally.made),
            str(tally.refused),
            *(str(tally.faults[name]) for name in FAULTS),
        ]
        for tally in tallies
    ]
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
