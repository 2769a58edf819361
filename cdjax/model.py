"""The value that the rest of the library passes around: parameters and what they mean."""

from dataclasses import dataclass, field
from typing import Any, Literal

import jax

from cdjax.networks.spec import Spec

Method = Literal["wct", "adain", "encoder"]
Params = dict[str, Any]


@dataclass(frozen=True)
class ModelConfig:
    """What a model is: hashable, so that it passes through `jax.jit` as static.

    Attributes:
        method: `"wct"` or `"adain"`, the feature transform the networks were made for;
            `"encoder"` for a lone encoder (a teacher without decoders), which cannot stylise.
        specs: one `Spec` a stage, in the order in which the cascade runs them (deepest first).
        teacher: name of the network that the features come from, e.g. `"vgg19-normalised"`; all
            names, separated by commas, where they differ by stage.
        sources: (file name, SHA-256) of every file the parameters were read from.
        teachers: (stage, teacher) of every stage where teachers differ by stage, else empty.
    """

    method: Method
    specs: tuple[Spec, ...]
    teacher: str
    sources: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    teachers: tuple[tuple[int, str], ...] = ()

    def __post_init__(self) -> None:
        stages = [spec.stage for spec in self.specs]
        if not stages or stages != sorted(set(stages), reverse=True):
            raise ValueError(f"specs must be of distinct stages, deepest first, not {stages}")

    def teacher_of(self, stage: int) -> str:
        """Name of the network that a stage's features come from."""
        return dict(self.teachers).get(stage, self.teacher)


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
