"""The implementations that are compared: cdjax, tuned PyTorch and plain PyTorch."""

import importlib.util
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cdjax.model import Model
from experiments.benchmarks.inputs import write_torch_weights
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


def torch_task(model: Model, dtype: str, folder: Path) -> dict[str, Any]:
    """What PyTorch needs to stylise with a model, whose weights are written to `folder`.

    Raises:
        ValueError: if the model cannot stylise, or pads otherwise than PyTorch here.
    """
    config, weights = model.config, folder / "weights.npz"
    if config.method == "encoder" or any(spec.padding != "reflect" for spec in config.specs):
        raise ValueError("the model must have decoders and reflection padding")
    write_torch_weights(weights, model.params)
    strengths = [config.strength_of(spec.stage) for spec in config.specs]
    task = {"method": config.method, "dtype": dtype, "strengths": strengths}
    return task | {"weights": str(weights)}


def compare(
    task: Mapping[str, Any],
    inputs: Sequence[Path],
    *,
    folder: Path,
    tunables: str,
    turns: int,
    repeats: int = 1,
) -> tuple[dict[str, Answer], dict[str, list[Answer]], dict[str, Answer]]:
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
        By way the summary, every answer, and what the worker reported of itself.
    """

    def start(way: str, device: str = "cpu") -> Any:
        module = "cdjax_tasks" if way == "cdjax" else "torch_networks"
        own: dict[str, Any] = {"load": f"experiments.benchmarks.{module}:{task['load']}"}
        own |= {"tuned": way == "tuned", "device": device}
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
    return {way: summary(answers[way]) for way in workers}, answers, about
