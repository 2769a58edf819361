"""Linear embeddings of an existing encoder, by least squares (paper, section 3.2)."""

from functools import partial

import jax
import numpy as np

from cdjax.distillation.initialization.fit_layer import as_params
from cdjax.distillation.initialization.layer_samples import (
    in_batches,
    pre_activations,
    sample_positions,
)
from cdjax.model import Images, Params
from cdjax.networks.spec import Spec
from cdjax.ops.least_squares import ridge
from cdjax.ops.samples import make_samples, moments

_RIDGE = 1e-5


def fit_embedding(
    generator: np.random.Generator,
    student: tuple[Spec, Params],
    teacher: tuple[Spec, Params],
    images: Images,
    *,
    positions: int,
) -> Params:
    """Affine maps from a student's taps to the teacher's, by least squares.

    Args:
        generator: of the random positions.
        student: spec and parameters of the encoder.
        teacher: spec and parameters of its teacher, of the same stage and depths.
        images: (N, H, W, 3) uint8 RGB.
        positions: samples of each tap's regression, over all images.

    Returns:
        `{"relu{k}_1": {"kernel" (in, out), "bias" (out,)}, ...}`, float32.
    """
    where = sample_positions(generator, student[0].encoder, images.shape[:3], most=positions)
    features, targets = (
        in_batches(partial(pre_activations, params, spec=spec), images, where)
        for spec, params in (student, teacher)
    )
    embedding = {}
    for conv, inputs, wanted in zip(student[0].encoder, features, targets, strict=True):
        if not conv.is_tap:
            continue
        after = (np.maximum(values, 0).reshape(-1, values.shape[-1]) for values in (inputs, wanted))
        samples = make_samples(*after)
        with jax.enable_x64(True):
            gram = np.asarray(moments(samples.inputs, samples.inputs))
            cross = np.asarray(moments(samples.inputs, samples.targets))
        embedding[conv.layer] = as_params(ridge(gram, cross, _RIDGE))
    return embedding
