"""Small models with random parameters, and independent NumPy versions of what they compute."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from cdjax import Model, ModelConfig, Spec
from cdjax.model import Method, Params

Floats = NDArray[np.float64]


def random_model(
    specs: Sequence[Spec] = (Spec(3, (6, 8, 10)), Spec(2, (6, 8)), Spec(1, (5,))),
    *,
    method: Method = "wct",
    seed: int = 0,
) -> Model:
    """A model whose features neither die nor grow and whose images are neither black nor white."""
    generator = np.random.default_rng(seed)

    def layer(*shape: int, gain: float = 1.0, bias: float = 0.1) -> Params:
        deviation = gain * np.sqrt(2 / np.prod(shape[:-1]))
        return {
            "kernel": jnp.asarray(deviation * generator.normal(size=shape), jnp.float32),
            "bias": jnp.asarray(bias * (1 + generator.random(shape[-1])), jnp.float32),
        }

    params: dict[str, dict[str, Params]] = {}
    for spec in specs:
        encoder = {
            conv.name: layer(3, 3, conv.features_in, conv.features_out) for conv in spec.encoder
        }
        decoder = {
            conv.name: layer(3, 3, conv.features_in, conv.features_out) for conv in spec.decoder
        }
        decoder["conv1_1"] = layer(*decoder["conv1_1"]["kernel"].shape, gain=0.2, bias=0.3)
        params[f"stage{spec.stage}"] = {
            "encoder": {"conv0": layer(1, 1, 3, 3), **encoder},
            "decoder": decoder,
        }
    return Model(params, ModelConfig(method, tuple(specs), "random"))


def same(one: Model, other: Model) -> bool:
    """Whether two models have equal configurations and parameters, bit for bit."""
    equal = jax.tree.map(np.array_equal, one.params, other.params)
    return one.config == other.config and all(jax.tree.leaves(equal))


def random_image(*shape: int, seed: int = 1) -> NDArray[np.uint8]:
    """Smooth colours with noise: uint8, of the given shape plus 3 channels."""
    generator = np.random.default_rng(seed)
    height, width = shape[-2:]
    rows, columns = np.mgrid[0:height, 0:width] / 16
    waves = np.stack(
        [np.sin(rows + phase) * np.cos(columns * (1 + phase)) for phase in range(3)], -1
    )
    noise = generator.normal(size=(*shape, 3))
    return np.clip(128 + 70 * waves + 25 * noise, 0, 255).astype(np.uint8)


def convolve(image: Floats, kernel: Floats, bias: Floats, mode: str = "reflect") -> Floats:
    """3x3 convolution of one (H, W, I) image in float64, pixel sums spelled out."""
    height, width, _ = image.shape
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)), mode=mode)  # type: ignore[call-overload]
    result = np.zeros((height, width, kernel.shape[-1])) + bias
    for row in range(3):
        for column in range(3):
            result += padded[row : row + height, column : column + width] @ kernel[row, column]
    return result


def encode(spec: Spec, params: Params, image: Floats) -> dict[str, Floats]:
    """Every relu{j}_1 of one (H, W, 3) image, layer by layer as the paper describes it."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    mode = "reflect" if spec.padding == "reflect" else "constant"
    features = image @ params["conv0"]["kernel"][0, 0] + params["conv0"]["bias"]
    taps = {}
    for conv in spec.encoder:
        features = np.maximum(convolve(features, **params[conv.name], mode=mode), 0)
        if conv.name.endswith("_1"):
            taps[f"relu{conv.name[4:]}"] = features
        if conv.pooled:
            height, width = features.shape[0] // 2 * 2, features.shape[1] // 2 * 2
            rows = np.maximum(features[0:height:2], features[1:height:2])
            features = np.maximum(rows[:, 0:width:2], rows[:, 1:width:2])
    return taps


def decode(spec: Spec, params: Params, features: Floats) -> Floats:
    """The image that one (h, w, C) feature map decodes to."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    for conv in spec.decoder:
        if conv.upsampled:
            features = features.repeat(2, axis=0).repeat(2, axis=1)
        features = np.maximum(convolve(features, **params[conv.name]), 0)
    return features
