"""Features -> image: the decoder that mirrors an encoder."""

import flax.linen as nn
from jax import Array

from cdjax.networks.layers import Network, parameters_of


class Decoder(Network):
    """The encoder of the same spec in reverse: 3x3 convolutions, ReLU, nearest upsampling."""

    @nn.compact
    def __call__(self, features: Array) -> Array:
        """Decodes features relu{stage}_1, (N, h, w, C); ValueError if h or w is below 2.

        Returns:
            Images, (N, h * stride, w * stride, 3), float32, RGB, at least 0 and not clipped above.
        """
        convs = self.spec.decoder
        return self.run(parameters_of(convs), convs, features)[0]
