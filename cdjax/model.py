"""The central value of the library: a model's parameters with their configuration."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import numpy as np
from numpy.typing import NDArray

from cdjax.networks.spec import Spec, check_strengths

Method = Literal["wct", "adain", "encoder"]
TRANSFORM_NAMES = ("wct", "ot", "adain")
"""The transforms of features, which `cdjax.transfer.transforms` defines."""
Params = dict[str, Any]
Images = NDArray[np.uint8]
"""Images of one size, (N, H, W, 3), RGB."""


@dataclass(frozen=True)
class ModelConfig:
    """The configuration of a model; hashable, so `jax.jit` takes it as a static argument.

    Attributes:
        method: `"wct"` or `"adain"`, the transform for which the networks were trained;
            `"encoder"` for a lone encoder (a teacher without decoders), which cannot stylise.
        specs: one `Spec` per stage, in the order in which the cascade runs them, deepest first.
        teacher: name of the network that the features come from, e.g. `"vgg19-normalised"`; all
            names, separated by commas, where they differ by stage.
        sources: (file name, SHA-256) of every file from which the parameters were read.
        teachers: (stage, teacher) of every stage where teachers differ by stage, else empty.
        strengths: (stage, share of the transform when alpha is 1), from 0 to 1, of stages that make
            less than the whole transform. Deep stages move the layout of a picture, and shallow
            ones its strokes.
        transforms: (stage, name of the transform) of stages whose transform is not the method.

    Raises:
        ValueError: if the stages are not distinct and deepest first, a strength is out of range, or
            there is no such transform.
    """

    method: Method
    specs: tuple[Spec, ...]
    teacher: str
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    teachers: tuple[tuple[int, str], ...] = ()
    strengths: tuple[tuple[int, float], ...] = ()
    transforms: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        stages = [spec.stage for spec in self.specs]
        if not stages or stages != sorted(set(stages), reverse=True):
            raise ValueError(f"stages must be distinct and deepest first, not {stages}")
        check_strengths([strength for _, strength in self.strengths])
        check_transforms([transform for _, transform in self.transforms])

    def teacher_of(self, stage: int) -> str:
        """Name of the network that a stage's features come from."""
        return dict(self.teachers).get(stage, self.teacher)

    def strength_of(self, stage: int) -> float:
        """Share of the transform at a stage when alpha is 1."""
        return dict(self.strengths).get(stage, 1.0)

    def transform_of(self, stage: int) -> str:
        """Name of the transform at a stage, in `cdjax.transfer.transforms.TRANSFORMS`."""
        return dict(self.transforms).get(stage, self.method)


def check_transforms(names: Sequence[str]) -> None:
    """ValueError if a transform does not exist."""
    if unknown := [name for name in names if name not in TRANSFORM_NAMES]:
        raise ValueError(f"no transform {unknown[0]!r}; there are {', '.join(TRANSFORM_NAMES)}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Model:
    """Parameters with their configuration; a pytree whose leaves are the parameters.

    Attributes:
        params: `{"stage{k}": {"encoder": ..., "decoder": ..., "embedding": ...}}`, float32
            arrays. `encoder` is `{"conv0": {"kernel" (1,1,3,3), "bias"}, "conv1_1": {"kernel"
            (3,3,in,out), "bias"}, ...}`, `decoder` the same without conv0, `embedding`
            `{"relu1_1": {"kernel" (in,out), "bias"}, ...}`. `embedding` is there only where
            the weights came with it; `decoder` is absent when `config.method` is `"encoder"`.
        config: the `ModelConfig`, static.
    """

    params: dict[str, dict[str, Params]]
    config: ModelConfig = field(metadata={"static": True})
