"""Two commands at once in one folder: each result is whole and that of one alone."""

import shutil
import time
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np

from experiments.fault_suite.scenarios import (
    CONVERT,
    DISTILL,
    OPTIMIZE,
    SECONDS,
    STYLIZE,
    Scenario,
    is_hidden,
    models_in,
)
from experiments.fault_suite.verdicts import (
    Tally,
    difference_faults,
    different,
    files_in,
    said_faults,
    wrong_files,
)

_CHECKPOINT = Scenario("convert to a folder", ("convert", "{inputs}/model", "-o", "out"), models_in)
_ALL = (*STYLIZE, *OPTIMIZE, *CONVERT, _CHECKPOINT, *DISTILL)


def two_processes(
    context: ForkServerContext, inputs: Path, folder: Path, tries: int, seed: int
) -> Tally:
    """Starts every scenario in turn twice, the second time a moment later."""
    tally, generator = Tally("two processes in one folder"), np.random.default_rng([seed, 4])
    expected: dict[str, dict[str, str]] = {}
    for number in range(tries):
        scenario = _ALL[number % len(_ALL)]
        if scenario.name not in expected:
            _begin(folder, scenario, context, inputs)
            scenario.run(context, inputs, folder)
            expected[scenario.name] = dict(scenario.results(folder))
        _begin(folder, scenario, context, inputs)
        first = scenario.start(context, inputs, folder)
        moment = float(generator.uniform(0, 1))
        time.sleep(moment)
        second = scenario.start(context, inputs, folder)
        ended = [command.wait(SECONDS) for command in (first, second)]
        # A line says that the other one was faster; then the result is there.
        faults = [fault for each in ended for fault in said_faults(each, errors=False)]
        if all(each.status for each in ended):
            faults.append(different(f"both failed: {ended[0].said[-200:]} {ended[1].said[-200:]}"))
        found = files_in(folder)
        faults += [wrong_files(f"{name} left") for name in found if is_hidden(name)]
        # Where the other one was faster, the picture so far is all that is left of the work.
        results = {n: of for n, of in scenario.results(folder).items() if ".preview" not in n}
        faults += difference_faults(expected[scenario.name], results)
        tally.add(f"{scenario.name}, {moment:.2f} s apart", faults, made=True)
    shutil.rmtree(folder, ignore_errors=True)
    return tally


def _begin(folder: Path, scenario: Scenario, context: ForkServerContext, inputs: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if scenario.before:
        scenario.run(context, inputs, folder, first=True)
