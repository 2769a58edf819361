"""Features -> image: the decoder that mirrors an encoder."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.model import Params
from cdjax.networks.layers import blocks, parameters_of, run_layers
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.conv import Algorithm
from cdjax.ops.row_bands import by_bands


class Decoder(nn.Module):
    """The encoder of the same spec in reverse: 3x3 convolutions, ReLU, nearest upsampling.

    Attributes:
        spec: the network.
        dtype: float32 or bfloat16, of all convolutions but the last; parameters stay float32.
        in_bands: whether a CPU runs large images through blocks of layers band by band (see
            `cdjax.ops.row_bands`), which is faster and takes less memory. Not for training.
        algorithm: of the convolutions, as for `cdjax.ops.conv.convolve`.
    """

    spec: Spec
    dtype: DTypeLike = jnp.float32
    in_bands: bool = False
    algorithm: Algorithm = "direct"

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Decodes features.

        Args:
            features: (N, h, w, C) at relu{stage}_1; h and w at least 2.

        Returns:
            Images, (N, h * stride, w * stride, 3), float32, RGB, at least 0 and not clipped above.

        Raises:
            ValueError: if the features are too small for reflection padding.
        """
        params = parameters_of(self.spec.decoder)
        images = features
        for convs in blocks(self.spec.decoder):
            in_bands = self.in_bands and len(convs) > 1
            images = (self._by_bands if in_bands else self._block)(convs, params, images)
        return images

    def _block(self, convs: tuple[Conv, ...], params: Params, images: Array) -> Array:
        """The layers of one resolution and the upsampling that precedes them."""
        return run_layers(
            params,
            convs,
            images,
            padding=self.spec.padding,
            dtype=self.dtype,
            algorithm=self.algorithm,
        )[0]

    def _by_bands(self, convs: tuple[Conv, ...], params: Params, images: Array) -> Array:
        scale = 2 if convs[0].upsampled else 1
        widest = max(conv.features_in for conv in convs)
        return by_bands(
            partial(self._block, convs, params),
            images,
            halo=-(-len(convs) // scale),
            step=1,
            row_bytes=4 * len(images) * scale**2 * images.shape[2] * widest,
        )
