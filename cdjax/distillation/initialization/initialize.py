"""Student parameters before training: random, by L1 pruning, or by layer-wise least squares.

`l1` is what the published 16x models were trained from. `lsq` is this project's own: layer by
layer the student is fitted to the teacher's features by regression, on the features that the
student itself has made so far, and the decoder back to the image in the same way.
"""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.initialization.layerwise import Report, fit_decoder, fit_encoder
from cdjax.distillation.initialization.pruning import prune_decoder, prune_encoder
from cdjax.model import Params
from cdjax.networks.spec import Conv, Spec

Initialization = Literal["random", "l1", "lsq"]


def _random(key: Array, shape: tuple[int, ...]) -> Params:
    kernel = jax.nn.initializers.he_normal()(key, shape, jnp.float32)
    return {"kernel": kernel, "bias": jnp.zeros(shape[-1:], jnp.float32)}


def _random_layers(key: Array, convs: tuple[Conv, ...]) -> Params:
    return {
        conv.name: _random(
            jax.random.fold_in(key, index), (3, 3, conv.features_in, conv.features_out)
        )
        for index, conv in enumerate(convs)
    }


def _random_embedding(key: Array, student: Spec, widths: tuple[int, ...]) -> Params:
    return {
        name: _random(jax.random.fold_in(key, index), (features, width))
        for index, ((name, features), width) in enumerate(zip(student.taps, widths, strict=True))
    }


def generator_of(key: Array) -> np.random.Generator:
    """NumPy's generator of a random key, for what is drawn on the host."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())


def initialize_encoder(
    key: Array,
    student: Spec,
    teacher: tuple[Spec, Params],
    images: Images,
    *,
    method: Initialization = "lsq",
    positions: int = 100_000,
    iterations: int = 60,
    image_weight: float = 0.0,
    batch: int = 8,
    report: Report = lambda line: None,
) -> dict[str, Params]:
    """Parameters of a student's encoder, with the embeddings that go with them.

    Args:
        key: random key; `lsq` draws from it the positions it looks at, `l1` the embeddings alone.
        student: what to make.
        teacher: spec and parameters of the encoder to imitate, of the same stage and depths; best
            with filters of mean activation 1 (`cdjax.networks.teachers.normalize`).
        images: (N, H, W, 3) uint8 RGB; read by `lsq` only. The last eighth is kept out of every
            fit and ends it: crops of one photograph belong beside each other.
        method: `"random"` (He), `"l1"` (filters of the largest L1 norm) or `"lsq"`.
        positions: `lsq`: rows of each regression, spread evenly over the images; four bytes times
            1153 each at stage 5.
        iterations: `lsq`: L-BFGS steps a layer, at most.
        image_weight: `lsq`: how much the pixels under a position count in its fit, beside the
            teacher's features. At 0.05 a least-squares decoder gives images back 5 dB better at
            stage 3, for 0.03 more of relu2_1 unexplained.
        batch: images at a time.
        report: `lsq`: called with a line of text after each layer.

    Returns:
        `{"encoder": ..., "embedding": ...}`, float32. conv0 is the teacher's.

    Raises:
        ValueError: if the two specs do not match, the images are not uint8 RGB or fewer than two,
            or there is no such method.
    """
    _check_method(method)
    _check_teacher(student, teacher[0])
    embedding_key, key = jax.random.split(key)
    if method == "lsq":
        _check_images(images)
        encoder, embedding = fit_encoder(
            generator_of(key), student, teacher, images,
            positions=positions, iterations=iterations, image_weight=image_weight,
            batch=batch, report=report,
        )  # fmt: skip
        return {"encoder": encoder, "embedding": embedding}
    embedding = _random_embedding(embedding_key, student, teacher[0].widths)
    if method == "l1":
        return {"encoder": prune_encoder(student, teacher[1]), "embedding": embedding}
    conv0 = jax.tree.map(jnp.asarray, teacher[1]["conv0"])
    encoder = {"conv0": conv0, **_random_layers(key, student.encoder)}
    return {"encoder": encoder, "embedding": embedding}


def initialize_decoder(
    key: Array,
    student: Spec,
    encoder: Params,
    images: Images,
    *,
    method: Initialization = "lsq",
    teacher: tuple[Spec, Params] | None = None,
    positions: int = 100_000,
    iterations: int = 60,
    batch: int = 8,
    report: Report = lambda line: None,
) -> Params:
    """Parameters of a student's decoder, to go with its finished encoder.

    Args:
        key: random key.
        student: what to make.
        encoder: the student's encoder; `lsq` makes each layer of the decoder give back, from
            what the layers before it have made, what the encoder's layer of the same name has read.
        images: as for `initialize_encoder`; read by `lsq` only.
        method: `"random"` (He), `"l1"` or `"lsq"`.
        teacher: for `l1`: spec and parameters of the decoder to prune.
        positions: as for `initialize_encoder`.
        iterations: as for `initialize_encoder`.
        batch: images at a time.
        report: `lsq`: called with a line of text after each layer.

    Returns:
        `{"conv{k}_1": ..., "conv1_1": ...}`, float32.

    Raises:
        ValueError: if the images are not uint8 RGB or fewer than two, there is no such method, or
            `l1` lacks a teacher or has one of other depths.
    """
    _check_method(method)
    if method == "lsq":
        _check_images(images)
        return fit_decoder(
            generator_of(key), student, encoder, images,
            positions=positions, iterations=iterations, batch=batch, report=report,
        )  # fmt: skip
    if method == "random":
        return _random_layers(key, student.decoder)
    if teacher is None:
        raise ValueError("l1 prunes a teacher's decoder, and no teacher is given")
    _check_teacher(student, teacher[0])
    return prune_decoder(student, teacher[1])


def _check_method(method: str) -> None:
    if method not in get_args(Initialization):
        raise ValueError(f"method must be one of {get_args(Initialization)}, not {method!r}")


def _check_teacher(student: Spec, teacher: Spec) -> None:
    if (teacher.stage, teacher.depths[: teacher.stage - 1]) != (
        student.stage,
        student.depths[: student.stage - 1],
    ):
        raise ValueError(f"a student {student} cannot be made from a teacher {teacher}")
    if any(small > large for small, large in zip(student.widths, teacher.widths, strict=True)):
        raise ValueError(
            f"a student of widths {student.widths} exceeds its teacher's {teacher.widths}"
        )


def _check_images(images: Images) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or len(images) < 2:
        raise ValueError(
            f"lsq needs at least two uint8 images (N, H, W, 3), not {images.dtype} {images.shape}"
        )
