"""The baseline: WCT, AdaIN and a training step in PyTorch, as one would first write them.

    python -m experiments.benchmarks.torch_networks TASK

stylises the photographs of a folder as `cdjax stylize` does. The task, JSON, is that of
`stylization`, with `contents`, `style` and `output`, two folders and a file.

Every layer is a `torch.nn` module; WCT is computed in float64 with an SVD on the CPU, as in the
original code. With `tuned` in the task, weights and inputs are in the memory format
`channels_last`; otherwise nothing about PyTorch is changed.

A task has `weights`, a .npz in PyTorch's layout with an array each under, for example,
`stage5/encoder/conv1_1/weight`; `device`; and `dtype`, in which the networks compute. This module
imports neither JAX nor cdjax.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from experiments.benchmarks.worker import Answer, Run

Layers = dict[str, dict[str, Tensor]]
"""Weight and bias of every layer of a network by name, first layer first."""
Statistics = tuple[Tensor, Tensor]
"""What a stage needs to know of a style."""


def _convolution(tensors: dict[str, Tensor]) -> nn.Conv2d:
    features_out, features_in, size, _ = tensors["weight"].shape
    layer = nn.Conv2d(features_in, features_out, size)
    layer.load_state_dict(tensors)
    return layer


def _network(name: str, layers: Layers) -> nn.Module:
    """A network of layers that are sorted by name; the decoder runs them in reverse."""
    if name.endswith("embedding"):
        return nn.ModuleList(map(_convolution, layers.values()))
    decoder, block = name.endswith("decoder"), None
    modules: list[nn.Module] = []
    for layer, tensors in reversed(layers.items()) if decoder else layers.items():
        if layer == "conv0":
            modules.append(_convolution(tensors))
            continue
        if block not in (None, layer[:5]):  # conv3 of conv3_1: the resolution changes.
            modules.append(nn.Upsample(scale_factor=2) if decoder else nn.MaxPool2d(2))
        block = layer[:5]
        modules += [nn.ReflectionPad2d(1), _convolution(tensors), nn.ReLU()]
    return nn.Sequential(*modules)


def _centred(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    flat = features[0].double().flatten(1)
    mean = flat.mean(1, keepdim=True)
    flat = flat - mean
    return flat, mean, flat @ flat.T / (flat.shape[1] - 1)


def _power(covariance: Tensor, exponent: float) -> Tensor:
    _, values, vectors = torch.linalg.svd(covariance.cpu())
    kept = int((values > 1e-100).sum())
    vectors = vectors[:kept].T
    power = vectors @ torch.diag(values[:kept] ** exponent) @ vectors.T
    return power.to(covariance.device)


def _wct_style(features: Tensor) -> Statistics:
    _, mean, covariance = _centred(features)
    return _power(covariance, 0.5), mean


def _wct(content: Tensor, style: Statistics) -> Tensor:
    flat, _, covariance = _centred(content)
    colouring, mean = style
    target = colouring @ (_power(covariance, -0.5) @ flat) + mean
    return target.reshape(content.shape).to(content.dtype)


def _ot(content: Tensor, style: Statistics) -> Tensor:
    flat, _, covariance = _centred(content)
    colouring, mean = style
    root, whitening = _power(covariance, 0.5), _power(covariance, -0.5)
    between = _power(root @ colouring @ colouring @ root, 0.5)
    target = whitening @ (between @ (whitening @ flat)) + mean
    return target.reshape(content.shape).to(content.dtype)


_variance_and_mean = partial(torch.var_mean, dim=(2, 3), keepdim=True)


def _adain(content: Tensor, style: Statistics) -> Tensor:
    (variance, mean), (new_variance, new_mean) = _variance_and_mean(content), style
    scale = ((new_variance + 1e-5) / (variance + 1e-5)).sqrt()
    return (content - mean) * scale + new_mean


_TRANSFORMS: dict[str, Any] = {
    "wct": (_wct_style, _wct),
    "ot": (_wct_style, _ot),
    "adain": (_variance_and_mean, _adain),
}


def _prepared(task: Mapping[str, Any]) -> tuple[dict[str, Any], Any, Any]:
    """The networks, their dtype and the memory format; PyTorch is told to use every core."""
    if task["device"] == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("JAX runs on a GPU and this PyTorch cannot; set JAX_PLATFORMS=cpu")
    torch.set_num_threads(os.cpu_count() or 1)
    # The default on a GPU is TensorFloat-32, which is not what cdjax computes.
    torch.backends.cudnn.allow_tf32 = False
    memory_format = torch.channels_last if task["tuned"] else torch.contiguous_format
    layers: dict[str, Layers] = {}
    with np.load(task["weights"]) as arrays:
        for path in sorted(arrays.files):
            network, layer, part = path.rsplit("/", 2)
            tensor = torch.from_numpy(arrays[path])
            layers.setdefault(network, {}).setdefault(layer, {})[part] = tensor
    networks: dict[str, Any] = {
        name: _network(name, of).to(task["device"]).to(memory_format=memory_format)
        for name, of in layers.items()
    }
    return networks, getattr(torch, task["dtype"]), memory_format


def _images(pixels: NDArray[np.uint8], device: str) -> Tensor:
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 255


def counters() -> Answer:
    """No seconds of compilation, and the most bytes that a GPU ever held, or 0."""
    return {"compiling": 0.0, "peak": torch.cuda.max_memory_allocated()}


def about(task: Mapping[str, Any]) -> Answer:
    """What the worker is."""
    device = torch.cuda.get_device_name() if task["device"] == "cuda" else "cpu"
    return {"device": device, "platform": task["device"], "version": torch.__version__}


def stylization(
    task: Mapping[str, Any],
) -> tuple[
    Callable[[NDArray[np.uint8]], list[Statistics]],
    Callable[[NDArray[np.uint8], list[Statistics]], NDArray[np.float32]],
]:
    """Two functions: one encodes a style, the other stylises a content with what that returns.

    Both take (H, W, 3) uint8; the picture is (H, W, 3) float32. Contents of any size are padded and
    cropped as cdjax does it. The task also has `transforms`, their names at every stage, deepest
    first, and `strengths`, their shares.
    """
    networks, dtype, memory_format = _prepared(task)
    device, transforms = task["device"], [_TRANSFORMS[name] for name in task["transforms"]]
    stages = [
        [networks[f"{stage}/{name}"].to(dtype).eval() for name in ("encoder", "decoder")]
        for stage in sorted({name.split("/")[0] for name in networks}, reverse=True)
    ]
    stride = 2 ** sum(isinstance(layer, nn.MaxPool2d) for layer in stages[0][0].children())

    def padded(pixels: NDArray[np.uint8]) -> Tensor:
        image = _images(pixels[None], device).to(dtype)
        for axis in (2, 3):
            if more := -image.shape[axis] % stride:
                mirrored = image.narrow(axis, image.shape[axis] - more, more).flip(axis)
                image = torch.cat([image, mirrored], axis)
        return image.contiguous(memory_format=memory_format)

    @torch.inference_mode()
    def encode(pixels: NDArray[np.uint8]) -> list[Statistics]:
        image = padded(pixels)
        return [
            of(encoder(image)) for (encoder, _), (of, _) in zip(stages, transforms, strict=True)
        ]

    @torch.inference_mode()
    def stylize(pixels: NDArray[np.uint8], style: list[Statistics]) -> NDArray[np.float32]:
        image, (height, width) = padded(pixels), pixels.shape[:2]
        of_stages = zip(stages, transforms, style, task["strengths"], strict=True)
        for (encoder, decoder), (_, transform), of, share in of_stages:
            features = encoder(image)
            changed = transform(features, of)
            changed = changed if share == 1 else features.lerp(changed, share)
            image = decoder(changed.contiguous(memory_format=memory_format))
        image = image[..., :height, :width].clamp(0, 1)[0].permute(1, 2, 0).float().cpu()
        return np.ascontiguousarray(image.numpy())

    return encode, stylize


def stylizer(task: Mapping[str, Any]) -> Run:
    """Stylises a content, or frames one by one, with a style; the result is the last picture."""
    encode, stylize = stylization(task)

    def run(content: NDArray[np.uint8], style: NDArray[np.uint8]) -> tuple[NDArray[Any], Answer]:
        encoded = encode(style)
        for pixels in content if content.ndim == 4 else [content]:
            result = stylize(pixels, encoded)
        return result, {}

    return run


def _taps(encoder: nn.Module, image: Tensor) -> list[Tensor]:
    """relu1_1, relu2_1 and so on, the first ReLU of each block; the last is the output."""
    taps: dict[int, Tensor] = {}
    block = 1
    for layer in encoder.children():
        image = layer(image)
        block += isinstance(layer, nn.MaxPool2d)
        if isinstance(layer, nn.ReLU):
            taps.setdefault(block, image)
    return list(taps.values())


def _mean_squares(taps: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    pairs = zip(taps, targets, strict=True)
    return torch.stack([functional.mse_loss(a.float(), b.float()) for a, b in pairs]).sum()


def trainer(task: Mapping[str, Any]) -> Run:
    """Makes steps of a student's encoder (paper, section 3) on (N, H, W, 3) uint8 images.

    The networks are `teacher`, its frozen `decoder`, the student's `encoder` and `embedding`;
    parameters stay float32.
    """
    networks, dtype, memory_format = _prepared(task)
    device, student, embedding = task["device"], networks["encoder"], networks["embedding"]
    teacher, decoder = (networks[name].requires_grad_(False) for name in ("teacher", "decoder"))
    student[0].requires_grad_(False)  # conv0
    trained = (p for of in (student, embedding) for p in of.parameters() if p.requires_grad)
    adam = torch.optim.Adam(trained, lr=1e-4)

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], Answer]:
        images = _images(pixels, device).contiguous(memory_format=memory_format)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            with torch.no_grad():
                targets = _taps(teacher, images)
            taps = _taps(student, images)
            embedded = [layer(tap) for layer, tap in zip(embedding, taps, strict=True)]
            reconstruction = decoder(embedded[-1])
            reconstructed = _taps(teacher, reconstruction)
        # The weights of the paper, section 3.3.
        loss = 10 * _mean_squares(embedded, targets) + _mean_squares(reconstructed, targets)
        loss = loss + functional.mse_loss(reconstruction.float(), images)
        adam.zero_grad()
        loss.backward()
        adam.step()
        value = float(loss.detach())  # Waits for the step, too, on a GPU.
        return np.array(value), {"loss": value}

    return run


def _read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def main() -> None:
    """Writes a JPEG file for every photograph, of the quality that cdjax writes by default."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    encode, stylize = stylization(task)
    style = encode(_read(Path(task["style"])))
    for path in sorted(Path(task["contents"]).iterdir()):
        levels = np.rint(stylize(_read(path), style) * 255).astype(np.uint8)
        target = Path(task["output"], path.name)
        Image.fromarray(levels).save(target, quality=95, subsampling="4:4:4")


if __name__ == "__main__":
    main()
