"""Commands that are killed at random moments, and started again; the results are compared."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments.fault_suite.scenarios import (
    OURS,
    SECONDS,
    Runs,
    Scenario,
    is_hidden,
    left_faults,
)
from experiments.fault_suite.verdicts import (
    Fault,
    Files,
    Tally,
    difference_faults,
    different,
    file_faults,
    files_in,
    said_faults,
    wrong_files,
)

_MOST = 4
"""Kills of one run at most, before it may end."""


class Kills:
    """Kills of commands.

    Args:
        runs: of the commands.
        seed: of the moments.
    """

    def __init__(self, runs: Runs, seed: int) -> None:
        self._runs, self._generator = runs, np.random.default_rng([seed, 2])

    def run(self, kind: str, scenarios: Sequence[Scenario], kills: int) -> Tally:
        """Kills the scenarios in turn; a kill that comes after the end counts as one."""
        tally, given = Tally(kind), files_in(self._runs.inputs)
        for index, scenario in enumerate(scenarios):
            count = kills // len(scenarios) + (index < kills % len(scenarios))
            if count:
                self._scenario(scenario, count, tally)
        if faults := file_faults(given, files_in(self._runs.inputs)):
            tally.add("inputs", faults, made=False)
        return tally

    def _scenario(self, scenario: Scenario, kills: int, tally: Tally) -> None:
        runs, place = self._runs, self._runs.folder / "work"
        folder = runs.begin(scenario, place)
        old = scenario.results(folder)
        ended = runs.run(scenario, folder)
        expected, seconds = scenario.results(folder), ended.seconds
        if ended.status:
            tally.add(f"{scenario.name}, not killed", said_faults(ended, errors=False), made=False)
            return
        # Once more, because the first run has compiled the programs.
        runs.begin(scenario, place)
        seconds = min(seconds, runs.run(scenario, folder).seconds)
        while kills:
            runs.begin(scenario, place)
            several = min(kills, int(self._generator.integers(1, _MOST + 1)))
            for _ in range(several):
                moment = float(self._generator.uniform(0, 1.1 * seconds))
                command = runs.start(scenario.arguments, folder)
                if command.running(moment):
                    command.kill()
                command.wait(SECONDS)
                faults = _killed(scenario, folder, old, expected)
                tally.add(f"{scenario.name}, killed after {moment:.2f} s", faults, made=True)
            kills -= several
            if faults := _resumed(runs, scenario, folder, expected):
                tally.add(f"{scenario.name}, continued", faults, made=True)
        shutil.rmtree(folder)


def _killed(scenario: Scenario, folder: Path, old: Files, expected: Files) -> list[Fault]:
    """Faults right after a kill: results are whole, old or new, and other files untouched."""
    faults: list[Fault] = []
    if scenario.name == "distill":  # Its folder is a work in progress.
        return faults if (folder / OURS).is_file() else [wrong_files(f"{OURS} is gone")]
    found = scenario.results(folder)
    for name, content in found.items():
        known = (old.get(name), expected.get(name))
        if not is_hidden(name) and ".preview" not in name and content not in known:
            faults.append(wrong_files(f"{name} is not whole"))
    return faults + [wrong_files(f"{name} is gone") for name in old if name not in found]


def _resumed(runs: Runs, scenario: Scenario, folder: Path, expected: Files) -> list[Fault]:
    """Faults after the command was started again and ended by itself."""
    for path in folder.glob("*.preview*.png"):  # Of a run that was killed; they stay.
        path.unlink()
    before = scenario.results(folder)
    ended = runs.run(scenario, folder)
    faults: list[Fault] = []
    whole = {name for name in expected if before.get(name) == expected[name]}
    if not (ended.status == 2 and whole == set(expected)):  # "already exists"
        faults += said_faults(ended, errors=False)
        if ended.status:
            faults.append(different(f"ended with {ended.status}: {ended.said[-300:]}"))
    found = scenario.results(folder)
    shown = {name: text for name, text in found.items() if not is_hidden(name)}
    return faults + difference_faults(expected, shown) + left_faults(folder)
