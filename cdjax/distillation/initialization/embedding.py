"""The linear embeddings of an encoder that is there already (paper, section 3.2)."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from cdjax.distillation.initialization.layer_samples import (
    Images,
    in_batches,
    pre_activations,
    sample_positions,
)
from cdjax.distillation.initialization.least_squares import ridge
from cdjax.distillation.initialization.samples import make_rows, moments
from cdjax.model import Params
from cdjax.networks.spec import Spec

_RIDGE = 1e-5


def fit_embedding(
    generator: np.random.Generator,
    student: tuple[Spec, Params],
    teacher: tuple[Spec, Params],
    images: Images,
    *,
    positions: int = 100_000,
    batch: int = 8,
) -> Params:
    """The affine maps from a student's taps that come nearest to the teacher's, by least squares.

    Args:
        generator: chooses the positions.
        student: spec and parameters of the encoder.
        teacher: the same of its teacher, of the same stage and depths.
        images: (N, H, W, 3) uint8 RGB.
        positions: of every tap's regression, of all images together.
        batch: images at a time.

    Returns:
        `{"relu{k}_1": {"kernel" (in, out), "bias" (out,)}, ...}`, float32.
    """
    where = sample_positions(generator, student[0].encoder, images.shape[:3], most=positions)
    features, targets = (
        in_batches(partial(pre_activations, params, spec=spec), batch, images, where)
        for spec, params in (student, teacher)
    )
    embedding = {}
    for conv, inputs, wanted in zip(student[0].encoder, features, targets, strict=True):
        if not conv.is_tap:
            continue
        after = (np.maximum(rows, 0).reshape(-1, rows.shape[-1]) for rows in (inputs, wanted))
        rows = make_rows(*after)
        with jax.enable_x64(True):
            gram = np.asarray(moments(rows.inputs, rows.inputs))
            cross = np.asarray(moments(rows.inputs, rows.targets))
        solution = jnp.asarray(ridge(gram, cross, _RIDGE), jnp.float32)
        embedding[conv.layer] = {"kernel": solution[:-1], "bias": solution[-1]}
    return embedding
