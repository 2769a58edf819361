"""Image -> features and taps: the VGG encoder of any stage and width."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.model import Params
from cdjax.networks.layers import Parameters, blocks, parameters_of, run_layers
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.conv import Algorithm
from cdjax.ops.matmul import product
from cdjax.ops.row_bands import by_bands


def convolve_colour(colour: Params, images: Array) -> Array:
    """The 1x1 colour convolution conv0 by itself: (..., 3) -> (..., 3)."""
    return product(images, colour["kernel"][0, 0]) + colour["bias"]


def _fold_colour(colour: Params, first: Params) -> Params:
    """Merges the 1x1 colour convolution into the 3x3 convolution that follows it.

    Exact under reflection padding, which commutes with a map of single pixels.
    """
    matrix, kernel = colour["kernel"][0, 0], first["kernel"]
    folded = jnp.einsum("ij,hwjo->hwio", matrix, kernel, precision="highest")
    shift = jnp.einsum("j,hwjo->o", colour["bias"], kernel, precision="highest")
    return {"kernel": folded, "bias": first["bias"] + shift}


class Encoder(nn.Module):
    """VGG up to relu{stage}_1 (paper, section 3.1): the colour convolution conv0, then 3x3 ones.

    Attributes:
        spec: the network.
        dtype: float32 or bfloat16, of all convolutions but the first and of the results;
            parameters stay float32.
        layers: names `"relu{b}_{i}"` of further layers to return beside the taps. A layer that
            pooling follows is returned at its size before pooling.
        in_bands: whether a CPU runs large images through blocks of layers band by band (see
            `cdjax.ops.row_bands`), which is faster and takes less memory. Taps and layers of
            blocks of several convolutions are then not returned. Not for training, whose
            gradients need them all.
        algorithm: of the convolutions, as for `cdjax.ops.conv.convolve`.
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
            The features relu{stage}_1, (N, H // stride, W // stride, C), and a dictionary of all
            taps `{"relu1_1": ..., "relu{stage}_1": ...}` and of `layers`, shallowest first. The
            features are the last tap. Under `jax.jit`, unused taps cost nothing.

        Raises:
            ValueError: if the images are too small for reflection padding, or the network does not
                have one of `layers`.
        """
        if unknown := set(self.layers) - set(self.spec.layers):
            raise ValueError(f"this encoder has no layer {min(unknown)}")
        colour = Parameters((1, 1, 3, 3), name="conv0")()
        params = parameters_of(self.spec.encoder)
        features = images
        if self.spec.padding == "reflect":
            params["conv1_1"] = _fold_colour(colour, params["conv1_1"])
        else:
            features = convolve_colour(colour, features)
        taps: dict[str, Array] = {}
        for convs in blocks(self.spec.encoder):
            if self.in_bands and len(convs) > 1:
                features = self._by_bands(convs, params, features)
            else:
                features, found = self._block(convs, params, features)
                taps |= found
        return features.astype(self.dtype), taps

    def _block(
        self, convs: tuple[Conv, ...], params: Params, features: Array
    ) -> tuple[Array, dict[str, Array]]:
        """The layers of one resolution and the pooling that follows them."""
        features, layers = run_layers(
            params,
            convs,
            features,
            padding=self.spec.padding,
            dtype=self.dtype,
            algorithm=self.algorithm,
        )
        taps = {
            conv.layer: layers[conv.name].outputs.astype(self.dtype)
            for conv in convs
            if conv.is_tap or conv.layer in self.layers
        }
        return features, taps

    def _by_bands(self, convs: tuple[Conv, ...], params: Params, features: Array) -> Array:
        widest = max(conv.features_out for conv in convs)
        return by_bands(
            lambda images: self._block(convs, params, images)[0],
            features,
            halo=len(convs) + len(convs) % 2,
            step=2,
            row_bytes=4 * len(features) * features.shape[2] * widest,
        )
