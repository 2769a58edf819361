"""Photographs of many sizes: `cdjax stylize` as a process, without and with compiled programs."""

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cdjax import load_model
from cdjax.cli.allocator import STYLISATION
from cdjax.cli.samples import painting
from cdjax.io.images import read_image
from experiments.benchmarks.inputs import write_photographs
from experiments.benchmarks.processes import run_process
from experiments.benchmarks.report import median, say
from experiments.benchmarks.ways import NAMES, available, torch_task
from experiments.benchmarks.worker import Answer

SIZES = (
    (367, 545), (600, 400), (427, 640), (640, 480), (450, 800), (600, 600),
    (768, 512), (540, 810), (800, 600), (576, 1024), (683, 911), (1024, 683),
)  # fmt: skip
"""Heights and widths of the folder's photographs: 0.2 to 0.7 megapixels."""
FIRST, SEEN, NEW = (512, 768), (800, 600), (592, 811)
"""Of the first picture, of one of the folder's sizes, and of another one with as many pixels."""
STYLE = (512, 512)
_FEW = 5

_EMPTY, _FILLED = "empty cache", "programs cached"


def many_sizes(count: int) -> list[tuple[int, int]]:
    """So many small sizes, from 128 pixels a side."""
    return [(128 + 13 * (i % 20), 128 + 13 * (i // 20)) for i in range(count)]


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures folders and single pictures; yields the results after each."""
    weights = options.weights or f"{options.method}-16x"
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    task = torch_task(load_model(weights), options.dtype, folder) | {"device": device}
    # The processes run in another folder.
    task["model"] = str(Path(weights).resolve()) if Path(weights).exists() else weights
    write_photographs(folder / "style", [STYLE], options.styles, role="style", make=painting)
    task["style"] = str(folder / "style" / "0000.jpg")
    results: dict[str, Any] = {
        "title": "Photographs of many sizes: cdjax and PyTorch",
        "settings": {
            "weights": f"{weights}; {options.dtype}",
            "seconds": f"medians of {options.runs} processes (fastest to slowest), in turns, from "
            "their start to the last JPEG file; those of many small pictures run once",
            "style": f"one, {STYLE[0]} x {STYLE[1]}",
            "photographs": ", ".join(f"{width} x {height}" for height, width in SIZES),
            "GLIBC_TUNABLES of cdjax and tuned PyTorch": STYLISATION,
        },
        "first": "what",
        "names": available(),
        "note": _NOTE,
        "rows": {},
    }
    if "tuned" in available():
        results["settings"]["PyTorch"] = importlib.metadata.version("torch")
    for rows in _subjects(options, folder, task):
        for name, row in rows.items():
            shown = ", ".join(f"{way} {median(of):.3g} s" for way, of in row["taken"].items())
            say(f"{name}: {shown}")
        results["rows"] |= rows
        yield results


def _subjects(
    options: argparse.Namespace, folder: Path, task: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The rows of every subject in turn; the folder comes first, and fills the cache."""

    def rows(name: str, sizes: Any, caches: tuple[str, ...], turns: int) -> dict[str, Any]:
        contents = folder / name
        write_photographs(contents, sizes, options.contents)
        taken = _in_turns(task, contents, folder, caches, turns)
        return {f"{name}, {cache}": {"taken": of, "figures": {}} for cache, of in taken.items()}

    runs = options.runs
    found = rows(f"{len(SIZES)} pictures", SIZES, (_EMPTY, _FILLED), runs)
    if "tuned" in available():
        outputs = [folder / "output" / way for way in ("cdjax", "tuned")]
        for row in found.values():
            row["figures"]["mean difference, of 255"] = _difference(*outputs)
    yield found
    yield rows("first picture", [FIRST], (_EMPTY,), runs)
    seen = rows("a size seen before", [SEEN], (_FILLED,), runs)
    yield seen
    new = rows("a new size", [NEW], (_FILLED,), runs)
    [row], [before] = new.values(), seen.values()
    more = median(row["taken"]["cdjax"]) - median(before["taken"]["cdjax"])
    row["figures"]["cdjax, s more than a size seen before"] = more
    yield new
    if options.many:
        sizes = many_sizes(options.many)
        chosen = np.linspace(0, len(sizes) - 1, min(_FEW, len(sizes))).round().astype(int)
        few = rows(f"{len(chosen)} small pictures", [sizes[i] for i in chosen], (_EMPTY,), 1)
        yield few
        many = rows(f"{len(sizes)} small sizes", sizes, (_EMPTY,), 1)
        [row], [before] = many.values(), few.values()
        more = row["taken"]["cdjax"]["peak"] - before["taken"]["cdjax"]["peak"]
        row["figures"][f"cdjax, MiB more than {len(chosen)} pictures"] = more / 2**20
        yield many


def _in_turns(
    task: Mapping[str, Any], contents: Path, folder: Path, caches: tuple[str, ...], turns: int
) -> dict[str, dict[str, Answer]]:
    """By state of the cache, the summary of every way; PyTorch's runs count for all states."""
    answers: dict[str, dict[str, list[Answer]]] = {
        cache: {way: [] for way in available()} for cache in caches
    }
    for _ in range(turns):
        for cache in caches:
            _set_cache(folder, cache)
            answers[cache]["cdjax"].append(_run("cdjax", task, contents, folder))
            if not (folder / "filled").exists():  # By the first folder.
                shutil.copytree(folder / "cache", folder / "filled")
        for way in available():
            if way != "cdjax":
                answer = _run(way, task, contents, folder)
                for cache in caches:
                    answers[cache][way].append(answer)
    return {
        cache: {way: _summary(found) for way, found in of.items()} for cache, of in answers.items()
    }


def _summary(answers: list[Answer]) -> Answer:
    return {
        "seconds": [answer["seconds"] for answer in answers],
        "peak": max(answer["peak"] for answer in answers),
    }


def _set_cache(folder: Path, state: str) -> None:
    """Makes the cache as it was before a run: every run adds to it."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    if state == _FILLED:
        shutil.copytree(folder / "filled", folder / "cache")
    else:
        (folder / "cache").mkdir()


def _run(way: str, task: Mapping[str, Any], contents: Path, folder: Path) -> Answer:
    """Stylises the photographs of a folder in a fresh process; see `run_process`."""
    output = folder / "output" / way
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("GLIBC_TUNABLES", "JAX_COMPILATION_CACHE_DIR")
    }
    if way == "cdjax":  # It tunes itself.
        environment["CDJAX_CACHE"] = str(folder / "cache")
        arguments = ["cdjax", "stylize", str(contents), "-s", task["style"], "-o", str(output)]
        arguments += ["--weights", task["model"], "--dtype", task["dtype"], "--quiet"]
    else:
        environment |= {"GLIBC_TUNABLES": STYLISATION} if way == "tuned" else {}
        own = {"tuned": way == "tuned", "contents": str(contents), "output": str(output)}
        arguments = ["experiments.benchmarks.torch_folder", json.dumps({**task, **own})]
    command, files = [sys.executable, "-m", *arguments], len(list(contents.iterdir()))
    return run_process(NAMES[way], command, environment, output, files)


def _difference(*outputs: Path) -> float:
    """The mean difference of the pictures in two folders, in grey levels."""
    found = []
    for paths in zip(*(sorted(output.iterdir()) for output in outputs), strict=True):
        first, second = (read_image(path).pixels.astype(np.float64) for path in paths)
        found.append(np.abs(first - second).mean())
    return float(np.mean(found))


_NOTE = """
PyTorch is `experiments/benchmarks/torch_folder.py`, which encodes the style once, as cdjax does.
Plain: nothing is set. Tuned: weights and inputs are `channels_last`, and the process has the
GLIBC_TUNABLES of cdjax's. PyTorch has no cache; its runs stand in the rows of both states. Programs
cached: of the folder's sizes, before every run. Peak memory is the process's, without a GPU's.
Differences are between JPEG files.
"""
