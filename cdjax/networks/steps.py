"""The networks one convolution at a time, with pre-activations."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from cdjax.model import Params
from cdjax.networks.spec import Spec
from cdjax.ops.conv import convolve, max_pool
from cdjax.ops.matmul import product
from cdjax.ops.padding import Padding
from cdjax.ops.upsample import upsample


@dataclass(frozen=True)
class Step:
    """A convolution with what surrounds it.

    Attributes:
        name: of the convolution.
        level: how often the image has been halved where it runs.
        upsampled: whether its input is doubled in size first.
        pooled: whether its output is halved.
        kept: whether a change of resolution follows, before which features are kept.
    """

    name: str
    level: int
    upsampled: bool = False
    pooled: bool = False
    kept: bool = False


def encoder_steps(spec: Spec) -> tuple[Step, ...]:
    """The steps of an encoder, the colour convolution left out."""
    return tuple(Step(c.name, c.level, pooled=c.resample, kept=c.resample) for c in spec.encoder)


def decoder_steps(spec: Spec) -> tuple[Step, ...]:
    """The steps of a decoder."""
    before = (None, *spec.decoder[:-1])
    return tuple(
        Step(c.name, c.level, upsampled=b is not None and b.resample, kept=c.resample)
        for b, c in zip(before, spec.decoder, strict=True)
    )


def coloured(params: Params, images: Array) -> Array:
    """What the first 3x3 convolution reads: uint8 images through the colour convolution."""
    colour = params["conv0"]
    return product(images.astype(jnp.float32) / 255, colour["kernel"][0, 0]) + colour["bias"]


def run_step(features: Array, params: Params, step: Step, padding: Padding) -> tuple[Array, Array]:
    """One step: its pre-activations, and its rectified, perhaps pooled, output."""
    features = upsample(features) if step.upsampled else features
    layer = params[step.name]
    before = convolve(features, layer["kernel"], layer["bias"], padding=padding)
    return before, jax.nn.relu(max_pool(before) if step.pooled else before)
