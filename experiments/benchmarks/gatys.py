"""Optimising a picture (Gatys) with the student's encoder and with its teacher's."""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from cdjax import Model, Optimization, load_model, save_model
from cdjax.cli.allocator import TRAINING
from cdjax.data.dead_leaves import dead_leaves
from cdjax.evaluation.metrics import style_distance
from cdjax.networks.teachers import deepest_encoder, normalized_teacher
from cdjax.optimization.losses import features_of
from experiments.benchmarks.cdjax_tasks import shortened
from experiments.benchmarks.inputs import Pixels, read_pairs
from experiments.benchmarks.report import add_row, comparison, median
from experiments.benchmarks.worker import summary, worker

_NORMAL_SIZE, _NORMAL_IMAGES = 256, 62
"""Dead leaves that the teacher is normalised on, beside the pictures: without many others, channels
that hardly respond to these would dominate."""


def _open(options: argparse.Namespace, pictures: Sequence[Pixels]) -> dict[str, Model]:
    """Student and teacher; an ImageNet network is normalised on the pictures and dead leaves."""
    names = {"student": options.weights or "wct-16x", "teacher": options.teacher}
    models = {name: load_model(text) for name, text in names.items()}
    if options.teacher == "vgg16" or Path(options.teacher).is_file():
        leaves = [dead_leaves(0, index, size=_NORMAL_SIZE) for index in range(_NORMAL_IMAGES)]
        models["teacher"] = normalized_teacher(models["teacher"], np.stack([*pictures, *leaves]))
    return models


def _measure_pair(
    images: Sequence[Pixels], courses: Mapping[str, Optimization], teacher: Model, folder: Path
) -> dict[str, Any]:
    """A row of the results: what both encoders take, and distances to the style by layer."""
    inputs = [folder / "content.npy", folder / "style.npy"]
    for path, image in zip(inputs, images, strict=True):
        np.save(path, image)
    taken = {}
    for name, settings in courses.items():
        finish = str(folder / "teacher") if settings.finish_steps else None
        task: dict[str, Any] = {"load": "cdjax_tasks:optimizer", "model": str(folder / name)}
        task |= {"finish": finish, "settings": dataclasses.asdict(settings)}
        with worker(name, task, cache=folder / "cache", allocator=TRAINING) as (_, run):
            taken[name] = summary([run(*inputs, save=folder / f"{name}.npy")])
    content, style = (jnp.asarray(image, jnp.float32) / 255 for image in images)
    pictures = {"content": content, **{name: jnp.load(folder / f"{name}.npy") for name in taken}}
    features = partial(features_of, *deepest_encoder(teacher), courses["teacher"].style_layers)
    wanted = features(style)
    distances = {
        name: {tap: float(of[0]) for tap, of in style_distance(features(picture), wanted).items()}
        for name, picture in pictures.items()
    }
    figures = {f"distance of the {name}": sum(of.values()) for name, of in distances.items()}
    return {"taken": taken, "figures": figures, "distances": distances}


def measure(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Measures both encoders on every pair at every size; yields the results after each pair.

    Finishing steps and a stylised start are the student's; the teacher starts with the content.
    """
    if options.dtype != "float32":
        raise ValueError("--gatys computes in float32 only")
    fields = ("steps", "finish_steps", "scales", "start")
    settings = Optimization(**{name: getattr(options, name) for name in fields})
    own = dataclasses.replace(settings, finish_steps=0, start="content")
    courses = {"student": settings, "teacher": own}
    short = {name: shortened(of) for name, of in courses.items()}
    pairs = partial(read_pairs, options.contents, options.styles, count=options.pairs)
    _, contents, styles = zip(*pairs(size=_NORMAL_SIZE), strict=True)
    models = _open(options, [*contents, *styles])
    for name, model in models.items():
        save_model(folder / name, model)
    about = {
        "teacher": models["teacher"].config.teacher,
        "optimisation": f"{settings.optimizer}, {settings.steps} steps a scale, "
        f"{settings.scale_count} (student) and {own.scale_count} (teacher) scales",
        "GLIBC_TUNABLES": TRAINING,
    }
    names = {name: name for name in courses}
    title = "Optimising a picture: student and teacher"
    results = comparison(title, "pixels, pair", names, _NOTE, about)
    for size in options.sizes or [512, 1024]:
        rows: list[dict[str, Any]] = []
        for name, *images in pairs(size=size):
            if not rows:  # Compiles.
                _measure_pair(images, short, models["teacher"], folder)
            rows.append(_measure_pair(images, courses, models["teacher"], folder))
            add_row(results, f"{size}, {name}", **rows[-1])
            yield results
        if len(rows) > 1:
            results["rows"][f"{size}, {len(rows)} pairs"] = together(rows)
            yield results


def together(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of several pairs: the seconds of all, and means of the figures."""
    ways, figures = rows[0]["taken"], rows[0]["figures"]
    return {
        "taken": {way: {"seconds": [median(row["taken"][way]) for row in rows]} for way in ways},
        "figures": {key: statistics.mean(row["figures"][key] for row in rows) for key in figures},
    }


_NOTE = """\
Seconds are those of a step at full size, with programs compiled before; where the teacher finishes,
the mean over the steps of both encoders. Distances to the style are in the teacher's features,
summed over the layers: mean squared differences of Gram matrices. Of several pairs: medians of the
seconds, means of the distances.
"""
