"""Two commands at once in one folder: each result is whole and that of one alone."""

import time

import numpy as np

from experiments.fault_suite.scenarios import (
    CONVERT,
    DISTILL,
    OPTIMIZE,
    SECONDS,
    STYLIZE,
    Runs,
    Scenario,
    left_faults,
    models_in,
)
from experiments.fault_suite.verdicts import Tally, difference_faults, different, said_faults

_CHECKPOINT = Scenario("convert to a folder", "convert {inputs}/model -o out", models_in)
_ALL = (*STYLIZE, *OPTIMIZE, *CONVERT, _CHECKPOINT, *DISTILL)


def two_processes(runs: Runs, tries: int, seed: int) -> Tally:
    """Starts every scenario in turn twice, the second time a moment later."""
    tally, generator = Tally("two processes in one folder"), np.random.default_rng([seed, 4])
    for number in range(tries):
        scenario = _ALL[number % len(_ALL)]
        expected, folder = runs.expected(scenario), runs.begin(scenario, runs.folder / "both")
        first = runs.start(scenario.arguments, folder)
        moment = float(generator.uniform(0, 1))
        time.sleep(moment)
        second = runs.start(scenario.arguments, folder)
        ended = [command.wait(SECONDS) for command in (first, second)]
        # A line says that the other one was faster; then the result is there.
        faults = [fault for each in ended for fault in said_faults(each, errors=False)]
        if all(each.status for each in ended):
            faults.append(different(f"both failed: {ended[0].said[-200:]} {ended[1].said[-200:]}"))
        faults += left_faults(folder)
        # Where the other one was faster, the picture so far is all that is left of the work.
        results = {n: of for n, of in scenario.results(folder).items() if ".preview" not in n}
        faults += difference_faults(expected, results)
        tally.add(f"{scenario.name}, {moment:.2f} s apart", faults, made=True)
    return tally
