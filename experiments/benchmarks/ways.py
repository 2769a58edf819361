"""The implementations that are compared: cdjax, tuned PyTorch and plain PyTorch."""

import argparse
import importlib.util
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cdjax import Model, load_model, save_model
from experiments.benchmarks.inputs import write_torch_weights
from experiments.benchmarks.report import comparison
from experiments.benchmarks.worker import PAUSE, Answer, summary, worker

NAMES = {"cdjax": "cdjax", "tuned": "tuned PyTorch", "plain": "plain PyTorch"}
"""By way, in the order of the tables: the tuned ratio comes first."""

NOTE = """\
PyTorch is `experiments/benchmarks/torch_networks.py`. Plain: nothing is set. Tuned: weights and
inputs are `channels_last`, and the process has the GLIBC_TUNABLES of cdjax's. Peak memory is that
of a fresh process, or of its GPU, with programs compiled before. Differences are
those of tuned PyTorch from cdjax.
"""


def available() -> dict[str, str]:
    """Those of `NAMES` that can run here."""
    torch = importlib.util.find_spec("torch") is not None
    return {way: name for way, name in NAMES.items() if way == "cdjax" or torch}


def beside_pytorch(
    title: str, first: str, note: str, tunables: str, settings: Mapping[str, str]
) -> dict[str, Any]:
    """The `comparison` of a table with all implementations; `tunables` are as for `compare`."""
    tuned = {"GLIBC_TUNABLES of cdjax and tuned PyTorch": tunables}
    return comparison(
        f"{title}: cdjax and PyTorch", first, available(), note, {**settings, **tuned}
    )


def chosen_model(options: argparse.Namespace, folder: Path) -> tuple[str, Model, dict[str, Any]]:
    """The model that the options choose, after its name, and a task to stylise with it.

    It is written to `folder`, for cdjax and for PyTorch.

    Raises:
        ValueError: if the model cannot stylise, or pads otherwise than PyTorch here.
    """
    name = options.weights or f"{options.method}-16x"
    model, weights = load_model(name), folder / "weights.npz"
    config = model.config
    if config.method == "encoder" or any(spec.padding != "reflect" for spec in config.specs):
        raise ValueError("the model must have decoders and reflection padding")
    save_model(folder / "model", model)
    write_torch_weights(weights, model.params)
    stages = [spec.stage for spec in config.specs]
    task: dict[str, Any] = {"load": "stylizer", "model": str(folder / "model")}
    task |= {
        "weights": str(weights),
        "transforms": [config.transform_of(stage) for stage in stages],
        "dtype": options.dtype,
        "strengths": [config.strength_of(stage) for stage in stages],
    }
    return name, model, task


def compare(
    task: Mapping[str, Any],
    inputs: Sequence[Path],
    *,
    folder: Path,
    tunables: str,
    turns: int,
    repeats: int = 1,
) -> tuple[dict[str, Answer], dict[str, Answer]]:
    """Measures all implementations in turns, each in a fresh process.

    A process before them fills the compilation cache. The results of first, untimed runs are
    written to `folder/{way}.npy`.

    Args:
        task: of `load`, a function of `cdjax_tasks` and `torch_networks`, and what it needs.
        inputs: .npy files.
        folder: for results and compiled programs.
        tunables: GLIBC_TUNABLES of cdjax and tuned PyTorch.
        turns: of each implementation.
        repeats: timed runs of a turn; if there are several, one that is not timed comes first.

    Returns:
        By way the summary, and what the worker reported of itself.
    """

    def start(way: str, device: str = "cpu") -> Any:
        module = "cdjax_tasks" if way == "cdjax" else "torch_networks"
        own = {"load": f"{module}:{task['load']}", "tuned": way == "tuned", "device": device}
        allocator = "" if way == "plain" else tunables
        return worker(NAMES[way], {**task, **own}, cache=folder / "cache", allocator=allocator)

    with start("cdjax") as (first, run):
        run(*inputs)
    device = "cpu" if first["platform"] == "cpu" else "cuda"
    with ExitStack() as stack:
        workers = {way: stack.enter_context(start(way, device)) for way in available()}
        for way, (_, run) in workers.items():
            run(*inputs, save=folder / f"{way}.npy")
        answers: dict[str, list[Answer]] = {way: [] for way in workers}
        for _ in range(turns):
            for way, (_, run) in workers.items():
                time.sleep(PAUSE)
                if repeats > 1:
                    run(*inputs)
                answers[way] += [run(*inputs) for _ in range(repeats)]
        about = {way: told for way, (told, _) in workers.items()}
    return {way: summary(answers[way]) for way in workers}, about
