"""What the encoder and the decoder are both made of: a convolution's parameters as a module."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import flax.linen as nn
from jax import Array

from cdjax.model import Params
from cdjax.networks.spec import Conv

Kernels = dict[str, tuple[Array, Array]]
"""Kernel and bias by the name of the convolution."""


class Parameters(nn.Module):
    """Kernel and bias of one convolution, as `{"kernel", "bias"}` under the module's name.

    Attributes:
        shape: the kernel's shape, HWIO or (I, O).
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns the kernel, `shape`, and the bias, (O,), both float32.

        Raises:
            ValueError: if the parameters given are missing or of another shape.
        """
        if self.is_initializing():
            initial = self.param("kernel", nn.initializers.he_normal(), self.shape)
            return initial, self.param("bias", nn.initializers.zeros_init(), self.shape[-1:])
        # `self.param` would trace the initialiser to learn its shape, for every layer, in every
        # process.
        kernel: Array | None = self.get_variable("params", "kernel")
        bias: Array | None = self.get_variable("params", "bias")
        shapes = [None if part is None else part.shape for part in (kernel, bias)]
        if kernel is None or bias is None or shapes != [self.shape, self.shape[-1:]]:
            raise ValueError(f"the parameters of {self.name} are missing or not {self.shape}")
        return kernel, bias


def kernels_of(convs: Sequence[Conv]) -> Kernels:
    """Those of a network's 3x3 convolutions; to be called in the network's `__call__`."""
    return {
        conv.name: Parameters((3, 3, conv.features_in, conv.features_out), name=conv.name)()
        for conv in convs
    }


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """What a module makes of its inputs with the given parameters."""
    return module.apply({"params": params}, *inputs)


def blocks(convs: Sequence[Conv]) -> list[tuple[Conv, ...]]:
    """The convolutions between two changes of resolution, together."""
    return [tuple(group) for _, group in groupby(convs, key=lambda conv: conv.level)]
