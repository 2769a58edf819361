"""The baseline of the benchmarks: WCT and AdaIN in plain PyTorch, as one would first write them.

Our own code after the description of the method, with nothing tuned: every layer a
`torch.nn` module, WCT in float64 with an SVD on the CPU as the original has it.
Weights come as a .npz, a tensor each under `stage5/encoder/conv1_1/weight` and so on, in the
order of the layers and in PyTorch's layout, and the transform's name under `method`. It imports
neither JAX nor cdjax, whose memory and start would count as its own; only the benchmarks use it,
and it needs the extra `bench`.

    python -m experiments.plain_torch WEIGHTS.npz CONTENT STYLE OUTPUT [DEVICE]
"""

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Layers = dict[str, dict[str, Tensor]]
"""Weight and bias of every layer of a network by name, first layer first."""

_SMALLEST_EIGENVALUE = 1e-100
_EPSILON = 1e-5


def _networks(arrays: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Layers]]:
    networks: dict[str, dict[str, Layers]] = {}
    for name, array in arrays.items():
        if name == "method":
            continue
        stage, network, layer, part = name.split("/")
        layers = networks.setdefault(stage, {}).setdefault(network, {})
        layers.setdefault(layer, {})[part] = torch.from_numpy(array)
    return networks


def _convolution(tensors: dict[str, Tensor]) -> nn.Conv2d:
    features_out, features_in, size, _ = tensors["weight"].shape
    layer = nn.Conv2d(features_in, features_out, size)
    layer.load_state_dict(tensors)
    return layer


def _network(layers: Layers, resample: nn.Module) -> nn.Sequential:
    modules: list[nn.Module] = []
    block = None
    for name, tensors in layers.items():
        if name == "conv0":
            modules.append(_convolution(tensors))
            continue
        if block not in (None, name[:5]):
            modules.append(resample)
        block = name[:5]  # conv3 of conv3_1: between blocks the resolution changes.
        modules += [nn.ReflectionPad2d(1), _convolution(tensors), nn.ReLU()]
    return nn.Sequential(*modules)


def encoder(layers: Layers) -> nn.Sequential:
    """The encoder as a PyTorch module, NCHW."""
    return _network(layers, nn.MaxPool2d(2))


def decoder(layers: Layers) -> nn.Sequential:
    """The decoder as a PyTorch module, NCHW."""
    return _network(layers, nn.Upsample(scale_factor=2))


def _centred(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flat = features[0].double().flatten(1)
    mean = flat.mean(1, keepdim=True)
    flat = flat - mean
    return flat, mean, flat @ flat.T / (flat.shape[1] - 1)


def _power(covariance: Tensor, exponent: float) -> Tensor:
    _, values, vectors = torch.linalg.svd(covariance.cpu())
    kept = int((values > _SMALLEST_EIGENVALUE).sum())
    vectors = vectors[:kept].T
    power = vectors @ torch.diag(values[:kept] ** exponent) @ vectors.T
    return power.to(covariance.device)


def wct(content: Tensor, style: Tensor, alpha: float) -> Tensor:
    """Whitening and colouring of content features (1, C, H, W) by style features."""
    flat, _, content_covariance = _centred(content)
    _, style_mean, style_covariance = _centred(style)
    target = _power(style_covariance, 0.5) @ (_power(content_covariance, -0.5) @ flat) + style_mean
    target = target.reshape(content.shape).to(content.dtype)
    return alpha * target + (1 - alpha) * content


def adain(content: Tensor, style: Tensor, alpha: float) -> Tensor:
    """Content features (1, C, H, W) with the channels' means and deviations of the style's."""

    def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(features, dim=(2, 3), keepdim=True)
        return (variance + _EPSILON).sqrt(), mean

    (deviation, mean), (new_deviation, new_mean) = statistics(content), statistics(style)
    target = (content - mean) / deviation * new_deviation + new_mean
    return alpha * target + (1 - alpha) * content


class Cascade:
    """All stages of a model; call it with content and style images, (H, W, 3) uint8 arrays.

    Args:
        arrays: the weights, as in the module's description; stages in the order they run in.
        device: where to compute, e.g. `"cpu"`.
        dtype: in which the networks compute.
    """

    def __init__(
        self,
        arrays: Mapping[str, NDArray[Any]],
        *,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.transform = {"wct": wct, "adain": adain}[str(arrays["method"])]
        self.stages = [
            (self._placed(encoder(stage["encoder"])), self._placed(decoder(stage["decoder"])))
            for stage in _networks(arrays).values()
        ]

    def _placed(self, network: nn.Sequential) -> nn.Sequential:
        return network.to(self.device, self.dtype).eval()

    def _image(self, pixels: NDArray[np.uint8]) -> Tensor:
        image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1)[None].float() / 255
        return image.to(self.dtype)

    @torch.inference_mode()
    def __call__(
        self, content: NDArray[np.uint8], style: NDArray[np.uint8], alpha: float = 1.0
    ) -> NDArray[np.float32]:
        """The stylised image, (H, W, 3), in [0, 1]."""
        image, painting = self._image(content), self._image(style)
        for encode, decode in self.stages:
            image = decode(self.transform(encode(image), encode(painting), alpha))
        result = image.clamp(0, 1)[0].permute(1, 2, 0).float().cpu()
        return np.ascontiguousarray(result.numpy())


def settle() -> None:
    """Makes PyTorch use every core, and compute convolutions in float32 on a GPU too."""
    torch.set_num_threads(os.cpu_count() or 1)
    # The default there is TensorFloat-32, which is not what cdjax computes.
    torch.backends.cudnn.allow_tf32 = False


def main(weights: str, content: str, style: str, output: str, device: str = "cpu") -> None:
    """Stylises one image file once, as a script of its own would."""
    from PIL import Image

    settle()
    with np.load(weights) as arrays:
        cascade = Cascade(arrays, device=device)
    pixels = [np.array(Image.open(name).convert("RGB")) for name in (content, style)]
    result = cascade(pixels[0], pixels[1])
    Image.fromarray(np.rint(result * 255).astype(np.uint8)).save(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
