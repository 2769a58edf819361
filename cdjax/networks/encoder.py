"""Image -> features and taps: the VGG encoder of any stage and width."""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from cdjax.model import Params
from cdjax.networks.layers import Network, Parameters, parameters_of
from cdjax.ops.matmul import product


def convolve_colour(colour: Params, images: Array) -> Array:
    """The 1x1 colour convolution conv0 by itself: (..., 3) -> (..., 3)."""
    return product(images, colour["kernel"][0, 0]) + colour["bias"]


def fold_colour(colour: Params, first: Params) -> Params:
    """Merges conv0 into conv1_1; exact under reflection padding, which commutes with conv0."""
    matrix, kernel = colour["kernel"][0, 0], first["kernel"]
    folded = jnp.einsum("ij,hwjo->hwio", matrix, kernel, precision="highest")
    shift = jnp.einsum("j,hwjo->o", colour["bias"], kernel, precision="highest")
    return {"kernel": folded, "bias": first["bias"] + shift}


class Encoder(Network):
    """VGG up to relu{stage}_1 (paper, section 3.1): the colour convolution conv0, then 3x3 ones.

    Attributes, beside those of `Network`:
        layers: names `"relu{b}_{i}"` of further layers to return beside the taps. A layer that
            pooling follows is returned at its size before pooling.
    """

    layers: tuple[str, ...] = ()

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
        if self.spec.padding == "reflect":
            params["conv1_1"] = fold_colour(colour, params["conv1_1"])
        else:
            images = convolve_colour(colour, images)
        features, layers = self.run(params, self.spec.encoder, images)
        taps = {
            conv.layer: layers[conv.name].outputs.astype(self.dtype)
            for conv in self.spec.encoder
            if conv.name in layers and (conv.is_tap or conv.layer in self.layers)
        }
        return features.astype(self.dtype), taps
