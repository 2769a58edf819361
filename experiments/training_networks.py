"""Random networks for one student-encoder step, and their two layouts: HWIO and PyTorch's OIHW."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cdjax import Spec
from cdjax.model import Params

Networks = dict[str, Params]


def training_networks(small: Spec, big: Spec, *, seed: int = 0) -> Networks:
    """`{"teacher", "decoder", "student", "embedding"}` with random weights, as NumPy arrays."""
    from experiments.benchmark import random_model

    name = f"stage{big.stage}"
    teacher = random_model((big,), seed=seed).params[name]
    student = random_model((small,), seed=seed + 1).params[name]
    generator = np.random.default_rng(seed + 2)
    embedding: Params = {}
    for (tap, width), out in zip(small.taps, big.widths, strict=True):
        kernel = generator.normal(size=(width, out)) / np.sqrt(width)
        embedding[tap] = {"kernel": kernel.astype(np.float32), "bias": np.zeros(out, np.float32)}
    return {
        "teacher": teacher["encoder"],
        "decoder": teacher["decoder"],
        "student": student["encoder"],
        "embedding": embedding,
    }


def to_torch_layout(networks: Networks) -> dict[str, NDArray[np.float32]]:
    """The arrays by `network/layer/part`, in the order of the layers."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for network, layers in networks.items():
        # The colour convolution comes first, the decoder's layers as the decoder has them.
        for name in sorted(layers, key=lambda layer: layer != "conv0"):
            kernel = np.asarray(layers[name]["kernel"])
            kernel = kernel.reshape((1,) * (4 - kernel.ndim) + kernel.shape)
            arrays[f"{network}/{name}/weight"] = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
            arrays[f"{network}/{name}/bias"] = np.asarray(layers[name]["bias"])
    return arrays


def from_torch_layout(arrays: Mapping[str, NDArray[np.float32]]) -> Networks:
    """The reverse of `to_torch_layout`."""
    networks: dict[str, Any] = {}
    for path, array in arrays.items():
        network, layer, part = path.split("/")
        if part == "weight":
            array = array.transpose(2, 3, 1, 0)
            array = array[0, 0] if network == "embedding" else array
        name = {"weight": "kernel", "bias": "bias"}[part]
        networks.setdefault(network, {}).setdefault(layer, {})[name] = array
    return networks
