"""The student before training: random, pruned, fitted by least squares, or an existing model.

The published 16x models were trained from `l1`. `lsq` is this project's own: each layer of the
student is fitted to the teacher's features by regression on the features of the student's layers
before it, and the decoder in the same way back to the image.
"""

from collections.abc import Mapping
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.checkpoints.load import load_model
from cdjax.distillation.config import Initialization, Start
from cdjax.distillation.initialization import layerwise
from cdjax.distillation.initialization.pruning import prune_decoder, prune_encoder
from cdjax.model import Images, Params
from cdjax.networks.spec import Conv, Spec
from cdjax.progress import OnProgress, ignore_progress

_EMBEDDED_OVER = 1000


def _random(key: Array, shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """Layers with kernels of these shapes after He, and biases of 0."""
    params = {}
    for index, (name, shape) in enumerate(shapes.items()):
        own = jax.random.fold_in(key, index)
        kernel = jax.nn.initializers.he_normal()(own, shape, jnp.float32)
        params[name] = {"kernel": kernel, "bias": jnp.zeros(shape[-1:], jnp.float32)}
    return params


def _shapes(convs: tuple[Conv, ...]) -> dict[str, tuple[int, ...]]:
    return {conv.name: (3, 3, conv.features_in, conv.features_out) for conv in convs}


def _generator_of(key: Array) -> np.random.Generator:
    """A NumPy generator seeded by a random key, for random numbers on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def initialize_encoder(
    key: Array,
    student: Spec,
    teacher: tuple[Spec, Params],
    images: Images,
    *,
    start: Start,
    on_progress: OnProgress = ignore_progress,
) -> dict[str, Params]:
    """Initial parameters of a student's encoder and its embeddings.

    Args:
        key: random key.
        student: spec of the student.
        teacher: spec and parameters of the encoder to imitate, of the same stage and depths; best
            with filters of mean activation 1 (`cdjax.networks.teachers.normalize`).
        images: (N, H, W, 3) uint8 RGB; used by `lsq`, and for the embeddings of a `start.model`,
            whose own may belong to another teacher. `lsq` holds the last eighth out of every fit
            to decide when it ends, so crops of one photograph should be neighbours.
        start: the method and its settings.
        on_progress: `lsq`: called after each layer, with a message.

    Returns:
        `{"encoder": ..., "embedding": ...}`, float32. conv0 is the teacher's.

    Raises:
        CheckpointError: if `start.model` does not exist.
        ValueError: if the specs do not match, the images are not uint8 RGB or fewer than two, the
            method is unknown, or `start.model` has no such student.
    """
    if start.model is not None:
        encoder = existing_student(start.model, student)["encoder"]
        embedding = layerwise.fit_embedding(
            _generator_of(key), (student, encoder), teacher, images[:_EMBEDDED_OVER],
            positions=start.positions,
        )  # fmt: skip
        return {"encoder": encoder, "embedding": embedding}
    _check(start.method, images)
    _check_teacher(student, teacher[0])
    embedding_key, key = jax.random.split(key)
    if start.method == "lsq":
        return layerwise.fit_encoder(
            _generator_of(key), student, teacher, images, start=start, on_progress=on_progress
        )
    taps = zip(student.taps, teacher[0].widths, strict=True)
    embedding = _random(embedding_key, {name: (width, wide) for (name, width), wide in taps})
    if start.method == "l1":
        return {"encoder": prune_encoder(student, teacher[1]), "embedding": embedding}
    conv0 = jax.tree.map(jnp.asarray, teacher[1]["conv0"])
    encoder = {"conv0": conv0, **_random(key, _shapes(student.encoder))}
    return {"encoder": encoder, "embedding": embedding}


def initialize_decoder(
    key: Array,
    student: Spec,
    encoder: Params,
    images: Images,
    *,
    start: Start,
    teacher: tuple[Spec, Params] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Params:
    """Initial parameters of a decoder for a finished encoder, a student's or a teacher's.

    Args:
        key: random key.
        student: spec of both.
        encoder: parameters of the encoder. `lsq` fits each layer of the decoder to reconstruct,
            from the outputs of the layers before it, the inputs of the encoder's layer of the same
            name.
        images: as for `initialize_encoder`; `lsq` uses the first `start.decoder_images`.
        start: the method and its settings.
        teacher: spec and parameters of the teacher's decoder, which `l1` prunes.
        on_progress: `lsq`: called after each layer, with a message.

    Returns:
        `{"conv{k}_1": ..., "conv1_1": ...}`, float32.

    Raises:
        CheckpointError: if `start.model` does not exist.
        ValueError: as for `initialize_encoder`, or if `l1` has no teacher.
    """
    if start.model is not None:
        return existing_student(start.model, student)["decoder"]
    _check(start.method, images)
    if start.method == "lsq":
        return layerwise.fit_decoder(
            _generator_of(key), student, encoder, images, start=start, on_progress=on_progress
        )
    if start.method == "random":
        return _random(key, _shapes(student.decoder))
    if teacher is None:
        raise ValueError("l1 prunes a teacher's decoder, but no teacher is given")
    _check_teacher(student, teacher[0])
    return prune_decoder(student, teacher[1])


def existing_student(name: str, spec: Spec) -> dict[str, Params]:
    """The networks of one stage of an existing model, which `load_model` finds by its name.

    `{"encoder": ..., "decoder": ...}`, and `"embedding"` where the model has one.

    Raises:
        CheckpointError: if there is no such model.
        ValueError: if it has no student of this spec.
    """
    model = load_model(name)
    own = {each.stage: each for each in model.config.specs}
    if spec.stage not in own:
        raise ValueError(f"start.model {name} has no stage {spec.stage}, only {sorted(own)}")
    found = own[spec.stage]
    if (found.encoder, found.padding) != (spec.encoder, spec.padding):
        raise ValueError(f"start.model {name} has other layers than the student: {found}, {spec}")
    networks = model.params[f"stage{spec.stage}"]
    if "decoder" not in networks:
        raise ValueError(f"start.model {name} has no decoder; give a student with decoders")
    return networks


def _check(method: str, images: Images) -> None:
    if method not in get_args(Initialization):
        raise ValueError(f"method must be one of {get_args(Initialization)}, not {method!r}")
    few = images.dtype != np.uint8 or images.shape[3:] != (3,) or len(images) < 2
    if method == "lsq" and few:
        raise ValueError(
            f"lsq needs at least two uint8 images (N, H, W, 3), not {images.dtype} {images.shape}"
        )


def _check_teacher(student: Spec, teacher: Spec) -> None:
    blocks = student.stage - 1
    if (teacher.stage, teacher.depths[:blocks]) != (student.stage, student.depths[:blocks]):
        raise ValueError(f"a student {student} cannot be made from a teacher {teacher}")
    if any(small > large for small, large in zip(student.widths, teacher.widths, strict=True)):
        raise ValueError(
            f"a student of widths {student.widths} exceeds its teacher's {teacher.widths}"
        )
