"""Photographs of many sizes: `cdjax stylize` as a process, without and with compiled programs."""

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from cdjax.cli.allocator import STYLISATION
from cdjax.cli.samples import landscape, painting
from experiments.benchmarks.inputs import write_photographs
from experiments.benchmarks.report import add_row
from experiments.benchmarks.ways import NAMES, available, beside_pytorch, chosen_model
from experiments.benchmarks.worker import Answer, run_process, summary

SIZES = (
    (367, 545), (600, 400), (427, 640), (640, 480), (450, 800), (600, 600),
    (768, 512), (540, 810), (800, 600), (576, 1024), (683, 911), (1024, 683),
)  # fmt: skip
"""Heights and widths of the folder's photographs: 0.2 to 0.7 megapixels."""
FIRST, SEEN, NEW = (512, 768), (800, 600), (592, 811)
"""Of the first picture, of one of the folder's sizes, and of another one with as many pixels."""
STYLE = (512, 512)

_EMPTY, _FILLED = "empty cache", "programs cached"


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures a folder and single pictures; yields the results after each."""
    name, _, task = chosen_model(options, folder)
    task["device"] = "cuda" if jax.default_backend() == "gpu" else "cpu"
    # As it was given: checkpoints and bundled files take unequally long to read. The processes run
    # in another folder.
    task["model"] = str(Path(name).resolve()) if Path(name).exists() else name
    write_photographs(folder / "style", [STYLE], painting)
    task["style"] = str(folder / "style" / "0000.jpg")
    settings = {
        "weights": f"{name}; {options.dtype}",
        "seconds": f"medians of {options.runs} processes (fastest to slowest), in turns, from "
        "their start to the last JPEG file",
        "style": f"one, {STYLE[0]} x {STYLE[1]}",
        "photographs": ", ".join(f"{width} x {height}" for height, width in SIZES),
    }
    results = beside_pytorch("Photographs of many sizes", "what", _NOTE, STYLISATION, settings)
    if "tuned" in results["names"]:
        results["settings"]["PyTorch"] = importlib.metadata.version("torch")
    subjects: list[tuple[str, Sequence[tuple[int, int]], tuple[str, ...]]] = [
        (f"{len(SIZES)} pictures", SIZES, (_EMPTY, _FILLED)),  # Fills the cache.
        ("first picture", [FIRST], (_EMPTY,)),
        ("a size seen before", [SEEN], (_FILLED,)),
        ("a new size", [NEW], (_FILLED,)),
    ]
    if options.many:  # Their peaks of memory are compared.
        many = [(128 + 13 * (i % 20), 128 + 13 * (i // 20)) for i in range(options.many)]
        few = many[:: max(1, options.many // 5)]
        subjects += [(f"{len(some)} small sizes", some, (_EMPTY,)) for some in (few, many)]
    for what, sizes, caches in subjects:
        contents = folder / what
        write_photographs(contents, sizes, landscape)
        for cache, taken in _in_turns(task, contents, folder, caches, options.runs).items():
            add_row(results, f"{what}, {cache}", taken, {})
        yield results


def _in_turns(
    task: Mapping[str, Any], contents: Path, folder: Path, caches: Sequence[str], turns: int
) -> dict[str, dict[str, Answer]]:
    """By state of the cache, the summary of every way; PyTorch's runs count for all states."""
    answers = defaultdict[tuple[str, str], list[Answer]](list)
    ways, filled = available(), folder / "filled"
    for _ in range(turns):
        for cache in caches:  # As it was before a run: every run adds to it.
            shutil.rmtree(folder / "cache", ignore_errors=True)
            if cache == _FILLED:
                shutil.copytree(filled, folder / "cache")
            else:
                (folder / "cache").mkdir()
            answers[cache, "cdjax"].append(_run("cdjax", task, contents, folder))
            if not filled.exists():  # By the first folder.
                shutil.copytree(folder / "cache", filled)
        for way in [*ways][1:]:
            answer = _run(way, task, contents, folder)
            for cache in caches:
                answers[cache, way].append(answer)
    return {cache: {way: summary(answers[cache, way]) for way in ways} for cache in caches}


def _run(way: str, task: Mapping[str, Any], contents: Path, folder: Path) -> Answer:
    """Stylises the photographs of a folder in a fresh process; see `run_process`."""
    output = folder / "output" / way
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    environment = dict(os.environ)
    for name in ("GLIBC_TUNABLES", "JAX_COMPILATION_CACHE_DIR"):
        environment.pop(name, None)
    if way == "cdjax":  # It tunes itself.
        environment["CDJAX_CACHE"] = str(folder / "cache")
        arguments = ["cdjax", "stylize", str(contents), "-s", task["style"], "-o", str(output)]
        arguments += ["--weights", task["model"], "--dtype", task["dtype"], "--quiet"]
    else:
        environment |= {"GLIBC_TUNABLES": STYLISATION} if way == "tuned" else {}
        own = {"tuned": way == "tuned", "contents": str(contents), "output": str(output)}
        arguments = ["experiments.benchmarks.torch_networks", json.dumps({**task, **own})]
    command, files = [sys.executable, "-m", *arguments], len(list(contents.iterdir()))
    return run_process(NAMES[way], command, environment, output, files)


_NOTE = """
PyTorch is `experiments/benchmarks/torch_networks.py`, which encodes the style once, as cdjax does.
Plain: nothing is set. Tuned: weights and inputs are `channels_last`, and the process has the
GLIBC_TUNABLES of cdjax's. PyTorch has no cache; its runs stand in the rows of both states. Programs
cached: of the folder's sizes, before every run. Peak memory is the process's, without a GPU's.
"""
