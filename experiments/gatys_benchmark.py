"""Optimising a picture with the student's encoder and with its teacher's (`benchmark --gatys`)."""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax import Model, Optimization, Spec, load_model, save_model
from cdjax.cli.allocator import TRAINING
from cdjax.data.dead_leaves import dead_leaves
from cdjax.evaluation.metrics import ssim, style_distance
from cdjax.model import Params
from cdjax.networks.teachers import normalized_teacher
from cdjax.optimization.losses import features_of
from cdjax.optimization.optimize import check_layers, check_start, scale_sizes
from experiments.gatys_report import ENCODERS, Course, GatysComparison, gatys_report
from experiments.measure import BenchmarkError, Worker, worker
from experiments.picture_pairs import Pairs, add_pair_options, read_pairs

_MODULE = "experiments.measure_optimization"
_NORMAL_SIZE, _NORMAL_IMAGES = 256, 62
"""Beside the pictures: without many others, channels that hardly answer to these would
count for more than all the rest."""
_PAUSE = 0.5


def add_gatys_options(parser: argparse.ArgumentParser) -> None:
    """Adds what only `--gatys` knows."""
    add = parser.add_argument_group("optimising a picture").add_argument
    add("--gatys", action="store_true", help="optimise a picture instead: student and teacher")
    add("--teacher", default="vgg16", help="of --gatys, as experiments.evaluate takes it")
    add_pair_options(add, pairs=1)
    add("--steps", type=int, default=50, help="of --gatys, at every scale")
    add("--finish-steps", type=int, default=0, help="of the student's, made with the teacher")
    add("--scales", type=int, help="of --gatys")
    add(
        "--start",
        choices=["content", "stylized"],
        default="content",
        help="of the student's course; the teacher's starts from the content",
    )


def _answer(process: Worker) -> dict[str, Any]:
    time.sleep(_PAUSE)
    return process.ask("next")


def run_courses(folder: Path, *, dtype: str) -> dict[str, tuple[list[dict[str, Any]], int]]:
    """Both optimisations, in turns a chunk at a time, in fresh processes.

    Args:
        folder: as `experiments/measure_optimization.py` describes it; gets the results.
        dtype: "float32".

    Returns:
        By encoder the answers of its worker, and the bytes it held at first.

    Raises:
        WorkerError: if one of the processes comes to a bad end.
    """
    start = partial(worker, folder=folder, dtype=dtype, module=_MODULE, allocator=TRAINING)
    with start("student") as student, start("teacher") as teacher:
        pair = dict(zip(ENCODERS, (student, teacher), strict=True))
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in pair}
        while underway := [
            name for name, given in answers.items() if not (given and given[-1]["last"])
        ]:
            for name in underway:
                answers[name].append(_answer(pair[name]))
        for process in pair.values():
            process.ask("save")
        return {name: (answers[name], process.about["held"]) for name, process in pair.items()}


def fill_cache(folder: Path, settings: Optimization, *, dtype: str) -> None:
    """Has other processes compile what `run_courses` needs: they make a step of every encoder."""
    last = min(1, settings.finish_steps)
    write_settings(folder, dataclasses.replace(settings, steps=1 + last, finish_steps=last))
    for name in ENCODERS:
        with worker(name, folder, dtype=dtype, module=_MODULE) as throwaway:
            while not throwaway.ask("next")["last"]:
                pass


def write_settings(folder: Path, settings: Optimization) -> None:
    """Writes settings.json."""
    (folder / "settings.json").write_text(json.dumps(dataclasses.asdict(settings)))


def judge(
    teacher: Model, layers: tuple[str, ...], picture: NDArray[Any], style: NDArray[np.uint8]
) -> dict[str, float]:
    """Style distance of a picture, float in [0, 1], in a teacher's features, layer by layer."""
    spec = teacher.config.specs[0]
    params = teacher.params[f"stage{spec.stage}"]["encoder"]
    both = picture.astype(np.float32), style.astype(np.float32) / 255
    return {
        name: float(distance[0])
        for name, distance in _style_distance(spec, params, layers, *both).items()
    }


@partial(jax.jit, static_argnames=("spec", "layers"))
def _style_distance(
    spec: Spec, params: Params, layers: tuple[str, ...], picture: Array, style: Array
) -> dict[str, Array]:
    features = (features_of(spec, params, layers, image) for image in (picture, style))
    return style_distance(*features)


def compare_encoders(
    folder: Path, pairs: Pairs, options: argparse.Namespace, teacher: Model, settings: Optimization
) -> Iterator[GatysComparison]:
    """Measures both encoders on pairs of one size; `folder` holds their checkpoints.

    Raises:
        WorkerError: if one of the processes comes to a bad end.
    """
    size, layers = pairs.contents.shape[1], settings.style_layers
    for index, (pixels, style) in enumerate(zip(pairs.contents, pairs.styles, strict=True)):
        np.save(folder / "content.npy", pixels)
        np.save(folder / "style.npy", style)
        if index == 0:
            fill_cache(folder, settings, dtype=options.dtype)
            write_settings(folder, settings)
        content, courses = pixels.astype(np.float32) / 255, {}
        for name, (answers, held) in run_courses(folder, dtype=options.dtype).items():
            result = np.load(folder / f"{name}.npy")
            courses[name] = Course(
                steps=_seconds_a_step([a for a in answers if a["size"] == [size, size]]),
                seconds=sum(answer["seconds"] for answer in answers),
                held=held,
                peak=answers[-1]["peak"],
                distance=judge(teacher, layers, result, style),
                similarity=float(ssim(result, content)),
            )
        pair = pairs.names[index].replace("\n", " in ")
        yield GatysComparison(size, pair, courses, judge(teacher, layers, content, style))


def _seconds_a_step(answers: list[dict[str, Any]]) -> tuple[float, ...]:
    """Of the chunks of one scale, in a course that is finished with the teacher their mean."""
    parts = [
        [answer for answer in answers if answer["finishing"] == finishing]
        for finishing in (False, True)
    ]
    chunks = [_chunks(part) for part in parts if part]
    if len(chunks) == 1:
        return chunks[0]
    steps = [part[-1]["step"] - part[0]["step"] for part in parts]
    seconds = sum(
        count * statistics.median(rates) for count, rates in zip(steps, chunks, strict=True)
    )
    return (seconds / sum(steps),)


def _chunks(answers: list[dict[str, Any]]) -> tuple[float, ...]:
    """Seconds a step in every chunk but the first; the first answer is that of the start."""
    rates = [
        after["seconds"] / (after["step"] - before["step"]) for before, after in pairwise(answers)
    ]
    return tuple(rates[1:] or rates)


def load_encoders(options: argparse.Namespace) -> tuple[Model, Model]:
    """Student and teacher; ImageNet networks are normalised on the pictures and dead leaves.

    Raises:
        ValueError: if there is none, it lacks a layer of the default losses, or it cannot read
            pictures of one of the sizes; or a picture cannot be read.
    """
    pictures = _pairs(options, _NORMAL_SIZE)
    student, teacher = load_model(options.weights or "wct-16x"), load_model(options.teacher)
    if options.teacher == "vgg16" or Path(options.teacher).is_file():
        leaves = [dead_leaves(0, index, size=_NORMAL_SIZE) for index in range(_NORMAL_IMAGES)]
        images = np.concatenate([pictures.contents, pictures.styles, leaves])
        teacher = normalized_teacher(teacher, images)
    for model in (student, teacher):
        check_layers(model.config.specs[0], Optimization())
        for size in options.sizes:
            scale_sizes((size, size), model.config.specs[0], scales=1)
    return student, teacher


def _pairs(options: argparse.Namespace, size: int) -> Pairs:
    return read_pairs(options.contents, options.styles, size=size, count=options.pairs)


def measure_gatys(options: argparse.Namespace, command: str, folder: Path) -> str:
    """The whole of `benchmark --gatys`: its report.

    Raises:
        BenchmarkError, ValueError: if options cannot be followed.
        WorkerError: if a process comes to a bad end.
    """
    if options.training or options.ultra:
        raise BenchmarkError("--gatys, --training and --ultra are benchmarks; choose one")
    if options.dtype != "float32":
        raise BenchmarkError("--gatys computes in float32 alone")
    settings = Optimization(
        steps=options.steps, finish_steps=options.finish_steps,
        scales=options.scales, start=options.start,
    )  # fmt: skip
    student, teacher = load_encoders(options)
    check_start(student, settings)
    for name, model in zip(ENCODERS, (student, teacher), strict=True):
        save_model(folder / name, model)
    results = []
    for size in options.sizes:
        pairs = _pairs(options, size)
        for result in compare_encoders(folder, pairs, options, teacher, settings):
            results.append(result)
            about = f"{result.faster:.2f} times faster, style distance {result.farther:.2f} times"
            print(f"{result.name}: {about}", file=sys.stderr)
    weights = options.weights or "wct-16x"
    names = {"student": f"{weights} (of {student.config.teacher})"}
    if settings.finish_steps:
        names["student"] += f", the teacher in its last {settings.finish_steps} steps of a scale"
    if settings.start == "stylized":
        names["student"] += ", from the content stylized with its decoders"
    names["teacher"] = teacher.config.teacher
    return gatys_report(command, settings, names, results)
