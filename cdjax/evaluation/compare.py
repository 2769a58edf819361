"""Measures models on photographs that they were not trained on: features, pictures, size.

Everything is computed in batches of one shape, so the batch bounds the memory. Results depend only
on the images; the samples of the fits of the ReLU form are chosen with a fixed seed.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cdjax.checkpoints.layer_table import layer_rows
from cdjax.data.sources import Folder
from cdjax.errors import BrokenImageError, EvaluationError
from cdjax.evaluation.explained_variance import Form, fraction_variance_unexplained
from cdjax.evaluation.image_quality import Quality, Stylized, reconstruction, stylization_quality
from cdjax.model import Images, Model, ModelConfig
from cdjax.networks.teachers import deepest_encoder, teacher_encoder
from cdjax.progress import OnProgress, Progress, ignore_progress

FLOPS_SIZE = 3000
"""Side in pixels of the content and the style of `Size.gflops`."""

Unexplained = dict[Form, dict[int, dict[str, float]]]
"""{form of the embedding: {stage: {tap: fraction of the teacher's variance}}}"""


@dataclass(frozen=True)
class Photographs:
    """Square crops of the images of a folder.

    Attributes:
        images: (N, size, size, 3), uint8 RGB.
        skipped: one line for each image that could not be read.
    """

    images: Images
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Size:
    """Size of a model.

    Attributes:
        parameters: number of parameters of its encoders (with conv0) and decoders.
        embedding_parameters: number of parameters of its embeddings, which only training uses.
        gflops: 1e9 operations to stylise a content with a style, 3000x3000 pixels each: for every
            stage the encoder twice and the decoder once, two operations per multiply-accumulate of
            the 3x3 convolutions; without conv0, pooling and transforms. None for a lone encoder.
    """

    parameters: int
    embedding_parameters: int
    gflops: float | None


@dataclass(frozen=True)
class Evaluation:
    """Measurements of one model.

    Attributes:
        config: of the model.
        size: of the model.
        unexplained: for the stages of `explained_stages`; empty for the teacher itself.
        reconstruction: {stage: quality of decoder(encoder(image))}; empty for a lone encoder, and
            for AdaIN, whose decoder is trained for transfer instead.
        cascade: quality of images after all stages without transforms (alpha 0).
        stylized: quality of the stylised pairs; None without pairs.
    """

    config: ModelConfig
    size: Size
    unexplained: Unexplained = field(default_factory=dict)
    reconstruction: dict[int, Quality] = field(default_factory=dict)
    cascade: Quality | None = None
    stylized: Stylized | None = None


@dataclass(frozen=True)
class Comparison:
    """Measurements of models and their teacher.

    Attributes:
        models: by name, in the order given.
        teacher: of the teacher, without unexplained variance.
        unstylized: of the contents in place of results; None without pairs.
    """

    models: dict[str, Evaluation]
    teacher: Evaluation
    unstylized: Stylized | None = None


def read_photographs(
    folder: str | os.PathLike[str],
    *,
    size: int,
    count: int | None = None,
    name: str = "photographs",
    on_progress: OnProgress = ignore_progress,
) -> Photographs:
    """Reads the images of a folder, scaled to a shorter side of `size` and cropped to the centre.

    Args:
        folder: searched to any depth.
        size: in pixels.
        count: number of images, at most, evenly spaced in the order of their paths; None for all.
        name: of the task in reports of progress.
        on_progress: called for every image.

    Raises:
        DataError: if there is no such folder, or no image file in it.
        EvaluationError: if none of them can be read.
    """
    source = Folder(folder)
    if source.not_read:
        on_progress(Progress(name, message=f"cdjax: {source.not_read}"))
    count = len(source) if count is None else min(count, len(source))
    crops, skipped = [], []
    for step in range(count):
        on_progress(Progress(name, step + 1, count))
        try:
            image = source.read(step * len(source) // count, shorter_side=size)
        except BrokenImageError as error:
            skipped.append(str(error))
            continue
        top, left = ((side - size) // 2 for side in image.shape[:2])
        crops.append(image[top : top + size, left : left + size])
    if not crops:
        raise EvaluationError(f"{folder}: none of {count} images can be read: {skipped[-1]}")
    return Photographs(np.stack(crops), tuple(skipped))


def with_stages(model: Model, stages: Sequence[int]) -> Model:
    """A model with only some of its stages; a lone encoder is cut after the deepest of them.

    Raises:
        EvaluationError: if it lacks one of them.
    """
    if model.config.method == "encoder" and model.config.specs[0].stage >= max(stages):
        spec, encoder = teacher_encoder(model, max(stages))
        config = dataclasses.replace(model.config, specs=(spec,))
        return Model({f"stage{spec.stage}": {"encoder": encoder}}, config)
    specs = tuple(spec for spec in model.config.specs if spec.stage in stages)
    if len(specs) != len(set(stages)):
        there = ", ".join(str(spec.stage) for spec in model.config.specs)
        asked = ", ".join(map(str, stages))
        raise EvaluationError(f"the model has the stages {there}, not all of {asked}")
    params = {f"stage{spec.stage}": model.params[f"stage{spec.stage}"] for spec in specs}
    return Model(params, dataclasses.replace(model.config, specs=specs))


def measured_size(model: Model) -> Size:
    """Counts parameters and operations; see `Size`."""
    rows = layer_rows(model)
    networks = sum(row.parameters for row in rows if row.network != "embedding")
    gflops = 2 * sum(3 * spec.encoder_macs for spec in model.config.specs) * FLOPS_SIZE**2 / 1e9
    embeddings = sum(row.parameters for row in rows) - networks
    return Size(networks, embeddings, None if model.config.method == "encoder" else gflops)


def explained_stages(model: Model, teacher: Model) -> list[int]:
    """The stages of a model whose features can explain the teacher's.

    The teacher must reach as deep, with as many convolutions in every block before, such as
    VGG-16's students and VGG-16.
    """
    deepest = teacher.config.specs[0].stage
    return [
        spec.stage
        for spec in model.config.specs
        if spec.stage <= deepest
        and teacher_encoder(teacher, spec.stage)[0].depths[: spec.stage - 1]
        == spec.depths[: spec.stage - 1]
    ]


def check_comparable(
    models: Mapping[str, Model], teacher: Model, *, size: int, pairs: bool = False
) -> None:
    """Checks that models can be measured against a teacher on images of a size.

    Args:
        models: by name.
        teacher: whose features they imitate.
        size: height and width of the images.
        pairs: whether there are pairs to stylise.

    Raises:
        EvaluationError: if nothing of a model could be measured, or the images do not fit the
            networks.
    """
    for name, model in models.items():
        if model.config.method == "encoder" and not explained_stages(model, teacher):
            raise EvaluationError(
                f"{name}: a lone encoder of none of whose stages the teacher "
                f"{teacher.config.teacher} has the features; nothing of it can be measured"
            )
    everything = [*models.values(), teacher]
    stride = max(model.config.specs[0].stride for model in everything)
    least = max(2 * stride, 16)
    if size % stride or size < least:
        wanted = f"a multiple of {stride} pixels and at least {least}"
        raise EvaluationError(f"sides of images must be {wanted}, not {size}")
    if pairs and all(model.config.method == "encoder" for model in everything):
        raise EvaluationError("styles are given, but no model has decoders to stylise with")


def compare(
    models: Mapping[str, Model],
    teacher: Model,
    fit_images: Images,
    test_images: Images,
    *,
    contents: Images | None = None,
    styles: Images | None = None,
    batch: int = 4,
    on_progress: OnProgress = ignore_progress,
) -> Comparison:
    """Measures models and, as far as it has decoders, their teacher.

    Args:
        models: by name. Only the features of lone encoders (method `"encoder"`) are measured.
        teacher: whose features they should explain; of stages that it lacks, only reconstructions
            are measured.
        fit_images: (N, H, W, 3) uint8, to which the embeddings are fitted.
        test_images: other photographs, for all measurements.
        contents: of the pairs to stylise, (N, H, W, 3) uint8; None for no pairs.
        styles: of the pairs, of the same shape.
        batch: images at a time.
        on_progress: called during every loop.

    Raises:
        EvaluationError: as for `check_comparable`.
    """
    pairs = None if contents is None or styles is None else (contents, styles)
    check_comparable(models, teacher, size=test_images.shape[1], pairs=pairs is not None)
    measuring = deepest_encoder(teacher)
    options: Any = {"batch": batch, "on_progress": on_progress}
    unexplained = _unexplained(models, teacher, fit_images, test_images, **options)

    def evaluation(name: str, model: Model, explained: Unexplained) -> Evaluation:
        result = Evaluation(model.config, measured_size(model), explained)
        if model.config.method == "encoder":
            return result
        specs = model.config.specs
        alone = [(spec,) for spec in specs] if model.config.method == "wct" else []
        task = f"{name}: reconstruction"
        qualities = {
            part: reconstruction(model, part, test_images, name=task, **options)
            for part in dict.fromkeys([*alone, specs])
        }
        task = f"{name}: pairs"
        return dataclasses.replace(
            result,
            reconstruction={part[0].stage: qualities[part] for part in alone},
            cascade=qualities[specs],
            stylized=pairs and stylization_quality(model, measuring, *pairs, name=task, **options),
        )

    return Comparison(
        {name: evaluation(name, model, unexplained[name]) for name, model in models.items()},
        evaluation("teacher", _beside(teacher, models), {}),
        pairs and stylization_quality(None, measuring, *pairs, batch=batch),
    )


def _beside(teacher: Model, models: Mapping[str, Model]) -> Model:
    """The teacher with the stages that the models have, so that cascades are comparable."""
    wanted = {spec.stage for model in models.values() for spec in model.config.specs}
    stages = [spec.stage for spec in teacher.config.specs if spec.stage in wanted]
    return with_stages(teacher, stages) if stages else teacher


def _unexplained(
    models: Mapping[str, Model], teacher: Model, *images: Images, **options: Any
) -> dict[str, Unexplained]:
    """By name; images and options are those of `fraction_variance_unexplained`."""
    found: dict[str, Unexplained] = {name: {} for name in models}
    covered = [
        (name, stage) for name in models for stage in explained_stages(models[name], teacher)
    ]
    if not covered:
        return found
    students = [teacher_encoder(models[name], stage) for name, stage in covered]
    measuring = teacher_encoder(teacher, max(stage for _, stage in covered))
    shares = fraction_variance_unexplained(students, measuring, *images, **options)
    for (name, stage), forms in zip(covered, shares, strict=True):
        for form, taps in forms.items():
            found[name].setdefault(form, {})[stage] = taps
    return found
