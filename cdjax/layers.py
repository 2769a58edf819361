"""What the encoder and the decoder are both made of: a convolution's parameters as a module."""

from typing import Any

import flax.linen as nn
from jax import Array

from cdjax.model import Params


class Parameters(nn.Module):
    """Kernel and bias of one convolution, as `{"kernel", "bias"}` under the module's name.

    Attributes:
        shape: the kernel's shape, HWIO or (I, O).
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns the kernel, `shape`, and the bias, (O,), both float32."""
        kernel = self.param("kernel", nn.initializers.he_normal(), self.shape)
        bias = self.param("bias", nn.initializers.zeros_init(), self.shape[-1:])
        return kernel, bias


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """What a module makes of its inputs with the given parameters."""
    return module.apply({"params": params}, *inputs)
