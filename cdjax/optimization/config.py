"""How a picture is optimised: layers, weights and steps (Gatys et al. 2016)."""

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array

from cdjax.errors import OptimizationError
from cdjax.optimization.losses import Weights
from cdjax.optimization.minimize import Method


@dataclass(frozen=True)
class Optimization:
    """How a picture is optimised.

    Attributes:
        content_layers: relu{b}_{i} whose features are to stay the content's.
        style_layers: those whose Gram matrices are to become the style's.
        content_shares: of the content layers in `content_weight`; None: all alike.
        style_shares: likewise of the style layers.
        content_weight: what the content loss counts.
        style_weight: what the style loss counts.
        tv_weight: what the total variation counts, which smoothes.
        optimizer: `"lbfgs"` or `"adam"`.
        learning_rate: Adam's, of pixels in [0, 1]; L-BFGS needs none.
        steps: at every scale.
        finish_steps: how many of them, the last ones, are made with the losses of the model to
            finish with.
        scales: how many sizes, each half of the next, up to the content's. Those too small for
            the encoder are left out. None: 3, but of a stylized start its full size alone.
        start: of the coarsest scale: the content, noise, or the content as `cdjax.stylize` gives
            it with the model's decoders.
        seed: of the noise.

    Raises:
        OptimizationError: if one of them makes no sense.
    """

    content_layers: tuple[str, ...] = ("relu4_2",)
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_shares: tuple[float, ...] | None = None
    style_shares: tuple[float, ...] | None = None
    content_weight: float = 1.0
    style_weight: float = 100.0
    tv_weight: float = 0.0
    optimizer: Method = "lbfgs"
    learning_rate: float = 0.02
    steps: int = 100
    finish_steps: int = 0
    scales: int | None = None
    start: Literal["content", "noise", "stylized"] = "content"
    seed: int = 0

    def __post_init__(self) -> None:
        for role in ("content", "style"):
            layers, shares = getattr(self, f"{role}_layers"), getattr(self, f"{role}_shares")
            if len(set(layers)) < len(layers):
                raise OptimizationError(f"a {role} layer is given twice")
            if shares is not None and len(shares) != len(layers):
                raise OptimizationError(f"{len(shares)} shares of {len(layers)} {role} layers")
            if shares and not (_weighs(*shares) and any(shares)):
                raise OptimizationError(f"shares of {role} layers must be 0 or more, and not all 0")
        if not _weighs(self.content_weight, self.style_weight, self.tv_weight):
            raise OptimizationError("weights of losses must be 0 or more")
        if not (self.content_layers and self.content_weight) and not (
            self.style_layers and self.style_weight
        ):
            raise OptimizationError("neither a content nor a style layer counts anything")
        if self.steps < 1 or self.scale_count < 1:
            raise OptimizationError("there must be a step and a scale at least")
        if not 0 <= self.finish_steps <= self.steps:
            raise OptimizationError(f"{self.finish_steps} of {self.steps} steps cannot finish")
        if self.optimizer not in ("lbfgs", "adam"):
            raise OptimizationError(f"optimizer must be lbfgs or adam, not {self.optimizer}")
        if self.start not in ("content", "noise", "stylized"):
            raise OptimizationError(f"start must be content, noise or stylized, not {self.start}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise OptimizationError("the learning rate must be above 0")

    @property
    def scale_count(self) -> int:
        """How many scales there are, also where none are asked for."""
        if self.scales is not None:
            return self.scales
        # Large shapes are what coarse scales are for; a stylized start has them.
        return 1 if self.start == "stylized" else 3


def _weighs(*weights: float) -> bool:
    return all(weight >= 0 and math.isfinite(weight) for weight in weights)


def weights_of(settings: Optimization) -> Weights:
    """What each loss of `cdjax.optimization.losses` counts, layer by layer."""

    def each(
        weight: float, layers: tuple[str, ...], shares: tuple[float, ...] | None
    ) -> dict[str, Array]:
        shares = shares or (1.0,) * len(layers)
        parts = zip(layers, shares, strict=True)
        return {name: jnp.float32(weight * share / sum(shares)) for name, share in parts}

    return Weights(
        each(settings.content_weight, settings.content_layers, settings.content_shares),
        each(settings.style_weight, settings.style_layers, settings.style_shares),
        jnp.float32(settings.tv_weight),
    )
