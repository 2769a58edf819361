"""The baseline of the training benchmark: the student-encoder step in plain PyTorch.

Our own code after the description of the method (paper, section 3), as one would first write it:
`torch.nn` modules, autograd, `torch.optim.Adam`. Weights come as a .npz, a tensor each under
`teacher/conv1_1/weight`, `decoder/...`, `student/...` and `embedding/relu1_1/weight`, in the order
of the layers and in PyTorch's layout. As `plain_torch`, it imports neither JAX nor cdjax.
"""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from experiments.plain_torch import Layers, decoder, encoder

EMBEDDING, PIXEL, PERCEPTUAL = 10.0, 1.0, 1.0
"""Weights of the three losses (paper, section 3.3)."""


class Tapped(nn.Module):
    """An encoder that also returns relu1_1, relu2_1 and so on."""

    def __init__(self, layers: Layers) -> None:
        super().__init__()
        self.layers = encoder(layers)
        # Each 3x3 convolution is reflection, convolution, ReLU; conv0 and poolings stand alone.
        names = [name for name in layers if name != "conv0"]
        relus = [i for i, layer in enumerate(self.layers) if isinstance(layer, nn.ReLU)]
        self.taps = {i for i, name in zip(relus, names, strict=True) if name.endswith("_1")}

    def forward(self, image: Tensor) -> list[Tensor]:
        """The taps, (N, C, H, W), shallowest first; the last one is what the encoder makes."""
        taps = []
        for index, layer in enumerate(self.layers):
            image = layer(image)
            if index in self.taps:
                taps.append(image)
        return taps


def _embedding(tensors: dict[str, Tensor]) -> nn.Conv2d:
    features_out, features_in = tensors["weight"].shape[:2]
    layer = nn.Conv2d(features_in, features_out, 1)
    layer.load_state_dict(tensors)
    return layer


class EncoderTraining:
    """Training of a student's encoder through the frozen teacher's decoder; call it for a step.

    Args:
        arrays: the weights, as in the module's description.
        device: where to compute, e.g. `"cpu"`.
        dtype: in which the networks compute; parameters stay float32.
    """

    def __init__(
        self, arrays: Mapping[str, NDArray[np.float32]], *, device: str, dtype: torch.dtype
    ) -> None:
        networks: dict[str, Layers] = {}
        for name, array in arrays.items():
            network, layer, part = name.split("/")
            networks.setdefault(network, {}).setdefault(layer, {})[part] = torch.from_numpy(array)
        self.device, self.dtype = device, dtype
        self.teacher = Tapped(networks["teacher"]).to(device).requires_grad_(False)
        self.decoder = decoder(networks["decoder"]).to(device).requires_grad_(False)
        self.student = Tapped(networks["student"]).to(device)
        self.student.layers[0].requires_grad_(False)  # conv0
        embeddings = [_embedding(tensors) for tensors in networks["embedding"].values()]
        self.embedding = nn.ModuleList(embeddings).to(device)
        trained = [*self.student.parameters(), *self.embedding.parameters()]
        self.adam = torch.optim.Adam([p for p in trained if p.requires_grad], lr=1e-4)

    def __call__(self, pixels: NDArray[np.uint8]) -> float:
        """One step on (N, H, W, 3) uint8 images; the loss before it."""
        images = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2).float() / 255
        half = self.dtype != torch.float32
        with torch.autocast(self.device, self.dtype, enabled=half):
            with torch.no_grad():
                targets = self.teacher(images)
            taps = self.student(images)
            embedded = [layer(tap) for layer, tap in zip(self.embedding, taps, strict=True)]
            reconstruction = self.decoder(embedded[-1])
            judged = self.teacher(reconstruction)
        pairs = zip(embedded, targets, strict=True)
        loss = EMBEDDING * sum(functional.mse_loss(a.float(), b.float()) for a, b in pairs)
        loss = loss + PIXEL * functional.mse_loss(reconstruction.float(), images)
        pairs = zip(judged, targets, strict=True)
        loss = loss + PERCEPTUAL * sum(functional.mse_loss(a.float(), b.float()) for a, b in pairs)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return float(loss.detach())
