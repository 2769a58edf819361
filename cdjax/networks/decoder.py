"""Features -> image: the decoder that mirrors an encoder."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.networks.layers import Kernels, blocks, kernels_of
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.conv import Algorithm, convolve
from cdjax.ops.row_bands import by_bands
from cdjax.ops.upsample import convolve_upsampled


class Decoder(nn.Module):
    """The encoder of the same spec in reverse: 3x3 convolutions, ReLU, nearest upsampling.

    Attributes:
        spec: which network.
        dtype: float32 or bfloat16, in which all convolutions but the last run; parameters stay
            float32.
        in_bands: whether a CPU runs large images through blocks of layers band by band (see
            `cdjax.ops.row_bands`): faster, from less memory. Not for training.
        algorithm: of the convolutions, as `cdjax.ops.conv.convolve` has it.
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
            ValueError: if the features are too small for the padding by reflection.
        """
        kernels = kernels_of(self.spec.decoder)
        images = features
        for convs in blocks(self.spec.decoder):
            run = partial(self._block, convs, kernels)
            images = self._by_bands(convs, run, images) if self.in_bands else run(images)
        return images

    def _block(self, convs: tuple[Conv, ...], kernels: Kernels, images: Array) -> Array:
        """The layers between two changes of resolution, the upsampling before them included."""
        for conv in convs:
            behind = conv == convs[0] != self.spec.decoder[0]
            convolved = partial(
                convolve_upsampled if behind else convolve,
                padding=self.spec.padding,
                algorithm=self.algorithm,
            )
            # The last convolution makes the image, whose grey levels bfloat16 would round.
            dtype = jnp.float32 if conv.name == "conv1_1" else self.dtype
            images, kernel, bias = (a.astype(dtype) for a in (images, *kernels[conv.name]))
            images = convolved(images, kernel, bias, rectified=True)
        return images

    def _by_bands(
        self, convs: tuple[Conv, ...], run: Callable[[Array], Array], images: Array
    ) -> Array:
        if len(convs) == 1:
            return run(images)
        scale = 1 if convs[0] == self.spec.decoder[0] else 2
        widest = max(conv.features_in for conv in convs)
        row_bytes = 4 * len(images) * scale**2 * images.shape[2] * widest
        halo = -(-len(convs) // scale)
        return by_bands(run, images, halo=halo, step=1, row_bytes=row_bytes)
