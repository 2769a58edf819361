"""The cascade: encode, transform, decode, stage by stage from deep to shallow (paper, section 3.1).

Stylisation, windows, previews, measurements and training all run a model's networks with these
functions. They differ in the transform alone.
"""

from collections.abc import Callable, Mapping, Sequence

import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.model import Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.conv import Algorithm

StageTransform = Callable[[Spec, Array], Array]
"""From the spec of a stage and its features (N, h, w, C) to the features to decode."""


def unchanged(spec: Spec, features: Array) -> Array:
    """The identity as a transform, for reconstruction."""
    return features


def encode_stage(
    params: Params,
    spec: Spec,
    images: Array,
    *,
    dtype: DTypeLike = jnp.float32,
    training: bool = False,
) -> Array:
    """Encodes images with the encoder of a stage.

    Args:
        params: of the encoder.
        spec: of the stage.
        images: (N, H, W, 3), float32, RGB in [0, 1]; H and W at least 2 * spec.stride.
        dtype: float32 or bfloat16, the compute dtype.
        training: whether gradients are needed: then layers do not run in bands and convolutions
            use the fastest algorithm, whose results may depend on the size of the image.

    Returns:
        The features relu{stage}_1, (N, H // stride, W // stride, C), of that dtype.
    """
    algorithm: Algorithm = "winograd" if training else "direct"
    encoder = Encoder(spec, dtype, in_bands=not training, algorithm=algorithm)
    return apply(encoder, params, images)[0]


def decode_stage(
    params: Params,
    spec: Spec,
    features: Array,
    *,
    dtype: DTypeLike = jnp.float32,
    training: bool = False,
) -> Array:
    """Decodes features (N, h, w, C) with the decoder of a stage; h and w at least 2.

    The other arguments are those of `encode_stage`, with the parameters of the decoder.

    Returns:
        Images, (N, h * stride, w * stride, 3), float32, at least 0 and not clipped above.
    """
    algorithm: Algorithm = "winograd" if training else "direct"
    decoder = Decoder(spec, dtype, in_bands=not training, algorithm=algorithm)
    return apply(decoder, params, features)


def run_cascade(
    params: Mapping[str, Mapping[str, Params]],
    specs: Sequence[Spec],
    images: Array,
    transform: StageTransform = unchanged,
    *,
    dtype: DTypeLike = jnp.float32,
    training: bool = False,
) -> Array:
    """Runs images through the stages one after the other.

    Args:
        params: `{"stage{k}": {"encoder": ..., "decoder": ...}}`, as `Model.params`.
        specs: of the stages, in the order in which they run.
        images: (N, H, W, 3), float32, RGB in [0, 1]; H and W multiples of the largest stride and
            at least twice it.
        transform: of every stage's features; by default none, which gives reconstructions.
        dtype: float32 or bfloat16, the compute dtype.
        training: as for `encode_stage`.

    Returns:
        Images of the same shape, float32, at least 0 and not clipped above.
    """
    for spec in specs:
        networks = params[f"stage{spec.stage}"]
        features = encode_stage(networks["encoder"], spec, images, dtype=dtype, training=training)
        features = transform(spec, features)
        images = decode_stage(networks["decoder"], spec, features, dtype=dtype, training=training)
    return images
