"""Teachers: the encoder of a stage out of a larger network, and the normalisation of its filters.

A teacher is a `Model` whose deepest encoder serves every stage. ImageNet networks are normalised
before they teach (Gatys et al. 2016): each filter is rescaled so that its mean activation over
natural images is 1, which makes the losses of all layers and channels commensurate.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cdjax.errors import TeacherError
from cdjax.model import Model, Params
from cdjax.networks.encoder import convolve_colour
from cdjax.networks.layers import run_layers
from cdjax.networks.spec import Spec

_DEAD = 1e-4
"""A filter whose mean activation is below this fraction of its layer's mean has no scale."""


def normalize(spec: Spec, params: Params, images: NDArray[np.uint8], *, batch: int = 8) -> Params:
    """Rescales an encoder so that the mean activation (after ReLU) of every filter is 1.

    ReLU and max-pooling are homogeneous: dividing a filter by its mean activation and multiplying
    the next layer's weights for it by the same number changes the features of this layer only, by
    that scale. Filters that are (almost) never active are not changed.

    Args:
        spec: the encoder's spec.
        params: its parameters.
        images: (N, H, W, 3), uint8 RGB photographs, over which the means are taken.
        batch: number of images per call.

    Returns:
        New parameters, float32: every tap is the old one divided by its channels' means.

    Raises:
        ValueError: if there are no images, or they are not uint8 RGB.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != 3 or not len(images):
        raise ValueError(f"normalize needs uint8 images (N, H, W, 3), not {images.shape}")

    @jax.jit
    def means(params: Params, part: jax.Array) -> list[jax.Array]:
        features = convolve_colour(params["conv0"], part.astype(jnp.float32) / 255)
        _, layers = run_layers(
            params, spec.encoder, features, padding=spec.padding, pre_activations=True
        )
        return [jnp.maximum(layer.outputs, 0).mean((1, 2)).sum(0) for layer in layers.values()]

    parts = [
        jax.device_get(means(params, images[i : i + batch])) for i in range(0, len(images), batch)
    ]
    totals = [np.sum(layer, axis=0, dtype=np.float64) for layer in zip(*parts, strict=True)]
    normalized = {"conv0": jax.tree.map(jnp.asarray, params["conv0"])}
    scale_in = np.ones(3)
    for conv, total in zip(spec.encoder, totals, strict=True):
        mean = total / len(images)
        scale = np.where(mean > _DEAD * mean.mean(), mean, 1.0)
        layer = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params[conv.name])
        normalized[conv.name] = {
            "kernel": jnp.asarray(layer["kernel"] * scale_in[:, None] / scale, jnp.float32),
            "bias": jnp.asarray(layer["bias"] / scale, jnp.float32),
        }
        scale_in = scale
    return normalized


def normalized_teacher(model: Model, images: NDArray[np.uint8], *, batch: int = 8) -> Model:
    """The deepest encoder of a model, normalised (see `normalize`), as a model of its own.

    `-normalised` is appended to its teacher's name. Decoders of the old features are left out.
    """
    spec, params = deepest_encoder(model)
    name = f"{model.config.teacher_of(spec.stage)}-normalised"
    config = dataclasses.replace(
        model.config, method="encoder", specs=(spec,), teacher=name, teachers=()
    )
    encoder = normalize(spec, params, images, batch=batch)
    return Model({f"stage{spec.stage}": {"encoder": encoder}}, config)


def deepest_encoder(model: Model) -> tuple[Spec, Params]:
    """The spec and the parameters of a model's deepest encoder."""
    return teacher_encoder(model, model.config.specs[0].stage)


def teacher_encoder(model: Model, stage: int) -> tuple[Spec, Params]:
    """The encoder of a stage: the model's own, or its next deeper one cut after relu{stage}_1.

    Returns:
        The encoder's spec and parameters.

    Raises:
        TeacherError: if the model has no such stage and no deeper one.
    """
    deeper = [spec for spec in model.config.specs if spec.stage >= stage]
    if not deeper or stage < 1:
        deepest = model.config.specs[0].stage
        raise TeacherError(f"{model.config.teacher} reaches stage {deepest}, not stage {stage}")
    whole = deeper[-1]
    spec = dataclasses.replace(whole, stage=stage, widths=whole.widths[:stage])
    params = model.params[f"stage{whole.stage}"]["encoder"]
    return spec, {name: params[name] for name in ("conv0", *(c.name for c in spec.encoder))}
