"""What encoder and decoder have in common: parameters as modules, and a run of convolutions."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from cdjax.model import Params
from cdjax.networks.spec import Conv, Spec
from cdjax.ops.conv import Algorithm, convolve, max_pool
from cdjax.ops.padding import Padding
from cdjax.ops.row_bands import by_bands


class Parameters(nn.Module):
    """Kernel and bias of one convolution, as `{"kernel", "bias"}` under the module's name.

    Attributes:
        shape: the kernel's shape, HWIO or (I, O).
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Params:
        """Returns `{"kernel": shape, "bias": (O,)}`, float32.

        Raises:
            ValueError: if the given parameters are missing or have another shape.
        """
        if self.is_initializing():
            initial = self.param("kernel", nn.initializers.he_normal(), self.shape)
            bias = self.param("bias", nn.initializers.zeros_init(), self.shape[-1:])
            return {"kernel": initial, "bias": bias}
        # `self.param` would trace the initializer of every layer in every process, to check shapes.
        found: Params = {part: self.get_variable("params", part) for part in ("kernel", "bias")}
        shapes = [None if part is None else part.shape for part in found.values()]
        if shapes != [self.shape, self.shape[-1:]]:
            raise ValueError(f"the parameters of {self.name} are missing or not {self.shape}")
        return found


def parameters_of(convs: Sequence[Conv]) -> Params:
    """Parameters of 3x3 convolutions by name; to be called in a network's `__call__`."""
    return {
        conv.name: Parameters((3, 3, conv.features_in, conv.features_out), name=conv.name)()
        for conv in convs
    }


def apply(module: nn.Module, params: Params, *inputs: Any) -> Any:
    """Applies a module to inputs with the given parameters."""
    return module.apply({"params": params}, *inputs)


class Layer(NamedTuple):
    """What one convolution of a network reads and what it makes.

    Attributes:
        inputs: (N, h, w, I), before the upsampling that precedes some of a decoder's convolutions.
        outputs: (N, H, W, O), after ReLU, or pre-activations where those were asked for; before
            the pooling that follows some of an encoder's convolutions.
    """

    inputs: Array
    outputs: Array


def run_layers(
    params: Mapping[str, Params],
    convs: Sequence[Conv],
    features: Array,
    *,
    padding: Padding,
    dtype: DTypeLike = jnp.float32,
    algorithm: Algorithm = "direct",
    pre_activations: bool = False,
) -> tuple[Array, dict[str, Layer]]:
    """Runs consecutive convolutions of an encoder or a decoder with their ReLUs and resampling.

    The one definition of a forward pass: `Encoder` and `Decoder` run with it, and layer-wise fits
    run any part of them. Under `jax.jit`, unused layers in the result cost nothing.

    Args:
        params: `{"kernel", "bias"}` of every convolution by its name; others may be among them.
        convs: consecutive entries of `Spec.encoder` or `Spec.decoder`.
        features: (N, h, w, I), what the first of them reads; for conv1_1 of an encoder, images
            after the colour convolution.
        padding: of the convolutions.
        dtype: float32 or bfloat16, of all convolutions but conv1_1.
        algorithm: of the convolutions, as for `cdjax.ops.conv.convolve`.
        pre_activations: whether the layers hold what the convolutions make before ReLU, which is
            then not fused with them.

    Returns:
        The features after the last convolution, its ReLU and pooling, and every `Layer` by name.
    """
    run = partial(convolve, padding=padding, algorithm=algorithm, rectified=not pre_activations)
    layers: dict[str, Layer] = {}
    for conv in convs:
        # conv1_1 reads or makes the image, whose grey levels bfloat16 would round.
        compute = jnp.float32 if conv.name == "conv1_1" else dtype
        layer = params[conv.name]
        arrays = [array.astype(compute) for array in (features, layer["kernel"], layer["bias"])]
        outputs = run(*arrays, upsampled=conv.upsampled)
        layers[conv.name] = Layer(arrays[0], outputs)
        features = max_pool(outputs) if conv.pooled else outputs
        features = jax.nn.relu(features) if pre_activations else features
    return features, layers


class Network(nn.Module):
    """What `Encoder` and `Decoder` have in common.

    Attributes:
        spec: the network.
        dtype: float32 or bfloat16, of all convolutions but conv1_1; parameters stay float32.
        in_bands: whether a CPU runs large images through blocks of layers band by band (see
            `cdjax.ops.row_bands`), which is faster and takes less memory. An encoder then does not
            return the taps and layers of such blocks. Not for training, whose gradients need them.
        algorithm: of the convolutions, as for `cdjax.ops.conv.convolve`.
    """

    spec: Spec
    dtype: DTypeLike = jnp.float32
    in_bands: bool = False
    algorithm: Algorithm = "direct"

    def run(
        self, params: Mapping[str, Params], convs: Sequence[Conv], features: Array
    ) -> tuple[Array, dict[str, Layer]]:
        """Runs all convolutions, as `run_layers`, one resolution after the other."""
        padding, dtype, algorithm = self.spec.padding, self.dtype, self.algorithm
        layers: dict[str, Layer] = {}
        for _, group in groupby(convs, key=lambda conv: conv.level):
            block = tuple(group)
            run = partial(
                run_layers, params, block, padding=padding, dtype=dtype, algorithm=algorithm
            )
            if self.in_bands and len(block) > 1:
                features = _by_bands(run, block, features)
            else:
                features, found = run(features)
                layers |= found
        return features, layers


def _by_bands(
    run: Callable[[Array], tuple[Array, Any]], block: Sequence[Conv], features: Array
) -> Array:
    scale, step = 1 + block[0].upsampled, 1 + block[-1].pooled
    widest = max(max(conv.features_in, conv.features_out) for conv in block)
    return by_bands(
        lambda images: run(images)[0],
        features,
        halo=-(-len(block) // (scale * step)) * step,
        step=step,
        row_bytes=4 * len(features) * scale**2 * features.shape[2] * widest,
    )
