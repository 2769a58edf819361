"""Image -> features and taps: the VGG encoder of any stage and width, and the embeddings."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.networks.layers import Kernels, Parameters, blocks, kernels_of
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.conv import Algorithm, convolve, max_pool
from cdjax.ops.matmul import product
from cdjax.ops.row_bands import by_bands


def _fold_colour(colour: tuple[Array, Array], first: tuple[Array, Array]) -> tuple[Array, Array]:
    """Merges the 1x1 colour convolution into the 3x3 one behind it.

    Exact under reflection padding, which commutes with a map of single pixels.
    """
    (colour_kernel, colour_bias), (kernel, bias) = colour, first
    folded = jnp.einsum("ij,hwjo->hwio", colour_kernel[0, 0], kernel, precision="highest")
    shift = jnp.einsum("j,hwjo->o", colour_bias, kernel, precision="highest")
    return folded, bias + shift


class Encoder(nn.Module):
    """VGG up to relu{stage}_1 (paper, section 3.1): the colour convolution conv0, then 3x3s.

    Attributes:
        spec: which network.
        dtype: float32 or bfloat16, in which all convolutions but the first run and in which
            the results come; parameters stay float32.
        layers: further layers to be had, `"relu{b}_{i}"` (those behind a convolution that a
            pooling follows are of the size before it).
        in_bands: whether a CPU runs large images through blocks of layers band by band (see
            `cdjax.ops.row_bands`): faster, from less memory, and without the taps and layers of
            blocks that hold more than one convolution. Not for training, whose gradients need them
            all.
        algorithm: of the convolutions, as `cdjax.ops.conv.convolve` has it.
    """

    spec: Spec
    dtype: DTypeLike = jnp.float32
    layers: tuple[str, ...] = ()
    in_bands: bool = False
    algorithm: Algorithm = "direct"

    @nn.compact
    def __call__(self, images: Array) -> tuple[Array, dict[str, Array]]:
        """Encodes images.

        Args:
            images: (N, H, W, 3), float32, RGB in [0, 1]; H and W at least 2 * spec.stride.

        Returns:
            The features relu{stage}_1, (N, H // stride, W // stride, C), and the dictionary of
            all taps `{"relu1_1": ..., "relu{stage}_1": ...}`, the features among them, and of
            `layers`, shallowest first. Under `jax.jit`, what nobody reads costs nothing.

        Raises:
            ValueError: if the images are too small for the padding by reflection, or the network
                lacks a layer.
        """
        if unknown := set(self.layers) - set(self.spec.layers):
            raise ValueError(f"this encoder has no layer {min(unknown)}")
        colour = Parameters((1, 1, 3, 3), name="conv0")()
        kernels = kernels_of(self.spec.encoder)
        features = images
        if self.spec.padding == "reflect":
            kernels["conv1_1"] = _fold_colour(colour, kernels["conv1_1"])
        else:
            features = product(features, colour[0][0, 0]) + colour[1]
        taps: dict[str, Array] = {}
        for convs in blocks(self.spec.encoder):
            if self.in_bands and len(convs) > 1:
                features = self._by_bands(convs, kernels, features)
            else:
                features, found = self._block(convs, kernels, features)
                taps |= found
        return features.astype(self.dtype), taps

    def _block(
        self, convs: tuple[Conv, ...], kernels: Kernels, features: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The layers between two changes of resolution, the pooling behind them included."""
        taps = {}
        convolved = partial(
            convolve, padding=self.spec.padding, algorithm=self.algorithm, rectified=True
        )
        for conv in convs:
            kernel, bias = kernels[conv.name]
            # The first convolution reads the image itself, whose grey levels bfloat16
            # would round, and costs little in float32.
            if conv.name != "conv1_1":
                features, kernel, bias = (a.astype(self.dtype) for a in (features, kernel, bias))
            features = convolved(features, kernel, bias)
            layer = f"relu{conv.name[4:]}"
            if conv.name.endswith("_1") or layer in self.layers:
                taps[layer] = features.astype(self.dtype)
            features = max_pool(features) if conv.resample else features
        return features, taps

    def _by_bands(self, convs: tuple[Conv, ...], kernels: Kernels, features: Array) -> Array:
        widest = max(conv.features_out for conv in convs)
        return by_bands(
            lambda images: self._block(convs, kernels, images)[0],
            features,
            halo=len(convs) + len(convs) % 2,
            step=2,
            row_bytes=4 * len(features) * features.shape[2] * widest,
        )
