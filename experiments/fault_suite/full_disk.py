"""Disks that fill up, by a limit of file sizes and, as root, by a small file system."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np

from experiments.fault_suite.processes import NO_LIMITS, Ended, Limits
from experiments.fault_suite.scenarios import (
    CONVERT,
    DISTILL,
    OPTIMIZE,
    STYLIZE,
    Scenario,
    is_hidden,
)
from experiments.fault_suite.verdicts import (
    Fault,
    Tally,
    difference_faults,
    files_in,
    said_faults,
    wrong_files,
)

_PAGE = 4096
_DISK = 64 * 2**20
_LEAST = 4096  # The lines on stderr are files, too.

_SINGLE = tuple(
    Scenario(
        f"stylize to {suffix}",
        (
            *("stylize", "{inputs}/c.png", "{inputs}/s.png", "-o", f"out{suffix}"),
            *("--weights", "{inputs}/model"),
        ),
    )
    for suffix in (".png", ".jpg", ".tif", ".webp")
)
_SAFETENSORS = Scenario(
    "convert to safetensors", ("convert", "{inputs}/model", "-o", "out.safetensors")
)
_ALL = (*_SINGLE, *STYLIZE, *OPTIMIZE, *CONVERT, _SAFETENSORS, *DISTILL)


def full_disk(
    context: ForkServerContext, inputs: Path, folder: Path, tries: int, seed: int
) -> Tally:
    """Runs every scenario in turn with too little space, and then with enough."""
    tally, generator = Tally("full disk"), np.random.default_rng([seed, 3])
    expected: dict[str, dict[str, str]] = {}
    with _small_disk(folder / "disk") as disk:
        if disk is None:
            tally.note = "no small file system (needs root): limits of file sizes only"
        for number in range(tries):
            scenario = _ALL[number % len(_ALL)]
            if scenario.name not in expected:
                place = _fresh(folder / "work", scenario, context, inputs)
                scenario.run(context, inputs, place)
                expected[scenario.name] = dict(scenario.results(place))
            small = disk is not None and number // len(_ALL) % 2 == 1
            place = _fresh((disk or folder) / "work", scenario, context, inputs)
            size = int(_LEAST * 2 ** generator.uniform(0, 5 if scenario in _SINGLE else 8))
            run = _full if small else _limited
            faults, made = run(scenario, context, inputs, place, size)
            faults += _then(scenario, context, inputs, place, expected[scenario.name])
            way = "of disk" if small else "a file"
            tally.add(f"{scenario.name}, {size} bytes {way}", faults, made=made)
    return tally


def _fresh(place: Path, scenario: Scenario, context: ForkServerContext, inputs: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    if scenario.before:
        scenario.run(context, inputs, place, first=True)
    return place


def _limited(
    scenario: Scenario, context: ForkServerContext, inputs: Path, place: Path, size: int
) -> tuple[list[Fault], bool]:
    limits = Limits(file_bytes=size)
    return _judged(scenario, place, lambda: scenario.run(context, inputs, place, limits))


def _full(
    scenario: Scenario, context: ForkServerContext, inputs: Path, place: Path, size: int
) -> tuple[list[Fault], bool]:
    filler = place.parent / "filler"
    free = shutil.disk_usage(place).free
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(_PAGE, free - size))
    try:
        return _judged(scenario, place, lambda: scenario.run(context, inputs, place, NO_LIMITS))
    finally:
        filler.unlink()


def _judged(scenario: Scenario, place: Path, run: Callable[[], Ended]) -> tuple[list[Fault], bool]:
    """Faults of a run in a full place, and whether it made everything all the same."""
    before = files_in(place)
    ended = run()
    # A batch has a line for every picture; an optimisation for a preview, and goes on.
    faults = said_faults(ended, errors=scenario in (*STYLIZE, *OPTIMIZE))
    after = files_in(place)
    if ended.status:  # A new checkpoint has arrays of other names.
        faults += [wrong_files(f"{name} is gone") for name in before if name not in after]
    return faults + [wrong_files(f"{name} left") for name in after if is_hidden(name)], (
        ended.status == 0
    )


def _then(
    scenario: Scenario,
    context: ForkServerContext,
    inputs: Path,
    place: Path,
    expected: dict[str, str],
) -> list[Fault]:
    """Faults of the results once there is space again."""
    if scenario.results(place) == expected:
        return []
    ended = scenario.run(context, inputs, place)
    return said_faults(ended, errors=False) + difference_faults(expected, scenario.results(place))


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    """A file system in memory; None where it cannot be made."""
    place.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        made = False
    try:
        yield place if made else None
    finally:
        if made:
            subprocess.run(["umount", "-l", str(place)], check=True)
