"""Disks that fill up, by a limit of file sizes and, as root, by a small file system."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from experiments.fault_suite.processes import Limits
from experiments.fault_suite.scenarios import (
    CONVERT,
    DISTILL,
    OPTIMIZE,
    STYLIZE,
    Runs,
    Scenario,
    left_faults,
)
from experiments.fault_suite.verdicts import (
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
        "stylize {inputs}/c.png {inputs}/s.png --weights {inputs}/model -o out" + suffix,
    )
    for suffix in (".png", ".jpg", ".tif", ".webp")
)
_SAFETENSORS = Scenario("convert to safetensors", "convert {inputs}/model -o out.safetensors")
_ALL = (*_SINGLE, *STYLIZE, *OPTIMIZE, *CONVERT, _SAFETENSORS, *DISTILL)


def full_disk(runs: Runs, tries: int, seed: int) -> Tally:
    """Runs every scenario in turn with too little space, and then with enough."""
    tally, generator = Tally("full disk"), np.random.default_rng([seed, 3])
    with _small_disk(runs.folder / "disk") as disk:
        if disk is None:
            tally.note = "no small file system (needs root): limits of file sizes only"
        for number in range(tries):
            scenario = _ALL[number % len(_ALL)]
            expected = runs.expected(scenario)
            small = disk is not None and number // len(_ALL) % 2 == 1
            place = runs.begin(scenario, (disk if small and disk else runs.folder) / "work")
            size = int(_LEAST * 2 ** generator.uniform(0, 5 if scenario in _SINGLE else 8))
            before = files_in(place)
            if small:
                with _filled(place, size):
                    ended = runs.run(scenario, place)
            else:
                ended = runs.run(scenario, place, Limits(file_bytes=size))
            # A batch has a line for every picture; an optimisation for a preview, and goes on.
            faults = said_faults(ended, errors=scenario in (*STYLIZE, *OPTIMIZE))
            after = files_in(place)
            if ended.status:  # A new checkpoint has arrays of other names.
                faults += [wrong_files(f"{name} is gone") for name in before if name not in after]
            faults += left_faults(place)
            made = ended.status == 0
            if scenario.results(place) != expected:  # Once there is space again.
                ended = runs.run(scenario, place)
                faults += said_faults(ended, errors=False)
                faults += difference_faults(expected, scenario.results(place))
            way = "of disk" if small else "a file"
            tally.add(f"{scenario.name}, {size} bytes {way}", faults, made=made)
    return tally


@contextmanager
def _filled(place: Path, size: int) -> Iterator[None]:
    """Leaves so many bytes of the file system of a folder, until the context ends."""
    filler = place.parent / "filler"
    free = shutil.disk_usage(place).free
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(_PAGE, free - size))
    try:
        yield
    finally:
        filler.unlink()


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
