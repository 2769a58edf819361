"""Features -> image: the decoder that mirrors an encoder."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.conv import Algorithm, convolve, upsample
from cdjax.layers import Parameters
from cdjax.spec import Spec


class Decoder(nn.Module):
    """The encoder of the same spec in reverse: 3x3 convolutions, ReLU, nearest upsampling.

    Attributes:
        spec: which network.
        dtype: float32 or bfloat16, in which all convolutions but the last run; parameters stay
            float32.
        algorithm: of the convolutions, as `cdjax.conv.convolve` has it.
    """

    spec: Spec
    dtype: DTypeLike = jnp.float32
    algorithm: Algorithm = "direct"

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Decodes features.

        Args:
            features: (N, h, w, C) at relu{stage}_1; h and w at least 2.

        Returns:
            Images, (N, h * stride, w * stride, 3), float32, RGB, at least 0 and not clipped above.

        Raises:
            ValueError: if the features are too small for the padding by reflection.
        """
        convs = self.spec.decoder
        images = features
        convolved = partial(convolve, padding=self.spec.padding, algorithm=self.algorithm)
        for conv in convs:
            kernel, bias = Parameters((3, 3, conv.features_in, conv.features_out), name=conv.name)()
            # The last convolution makes the image, whose grey levels bfloat16 would round.
            dtype = jnp.float32 if conv is convs[-1] else self.dtype
            images, kernel, bias = (a.astype(dtype) for a in (images, kernel, bias))
            images = nn.relu(convolved(images, kernel, bias))
            if conv.resample:
                images = upsample(images)
        return images
