"""Settings of optimisation-based style transfer: layers, weights and steps."""

import math
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jax import Array

from cdjax.errors import OptimizationError
from cdjax.optimization.losses import Weights
from cdjax.optimization.minimize import Method
from cdjax.transfer.color import PreserveColor, check_preserve_color


@dataclass(frozen=True)
class Optimization:
    """Settings of `cdjax.optimize_image`.

    Attributes:
        content_layers: layers relu{b}_{i} whose features are compared with the content's.
        style_layers: layers whose Gram matrices are compared with the style's.
        content_shares: how `content_weight` is divided among the content layers; None: equally.
        style_shares: how `style_weight` is divided among the style layers; None: equally.
        content_weight: of the content loss.
        style_weight: of the style loss.
        tv_weight: of the total variation, which smooths.
        optimizer: `"lbfgs"` or `"adam"`.
        learning_rate: of Adam, for pixels in [0, 1]; not used by L-BFGS.
        steps: at every scale.
        finish_steps: how many of them, the last ones, are made with the model to finish with.
        scales: number of sizes, each half of the next, up to the content's. Sizes that are too
            small for the encoder are left out. None: 3, or 1 for a stylized start.
        start: at the coarsest scale: the content, noise, or the result of `cdjax.stylize` with the
            model's decoders.
        seed: of the noise.
        preserve_color: as for `cdjax.stylize`; `"luminance"` takes effect at the end.

    Raises:
        OptimizationError: if a value is out of range, or values do not fit each other.
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
    preserve_color: PreserveColor | None = None

    def __post_init__(self) -> None:
        for role in ("content", "style"):
            layers, shares = getattr(self, f"{role}_layers"), getattr(self, f"{role}_shares")
            if len(set(layers)) < len(layers):
                raise OptimizationError(f"a {role} layer is given twice")
            if shares is not None and len(shares) != len(layers):
                raise OptimizationError(f"{len(shares)} shares for {len(layers)} {role} layers")
            if shares and not (_weighs(*shares) and any(shares)):
                raise OptimizationError(f"shares of {role} layers must be at least 0, not all 0")
        if not _weighs(self.content_weight, self.style_weight, self.tv_weight):
            raise OptimizationError("weights of losses must be at least 0")
        if not (self.content_layers and self.content_weight) and not (
            self.style_layers and self.style_weight
        ):
            raise OptimizationError("no content or style layer has a weight above 0")
        if self.steps < 1 or self.scale_count < 1:
            raise OptimizationError("steps and scales must be at least 1")
        if not 0 <= self.finish_steps <= self.steps:
            raise OptimizationError(
                f"finish_steps must be from 0 to {self.steps}, not {self.finish_steps}"
            )
        try:
            check_preserve_color(self.preserve_color, encoded=False)
        except ValueError as error:
            raise OptimizationError(str(error)) from None
        if self.optimizer not in ("lbfgs", "adam"):
            raise OptimizationError(f"optimizer must be lbfgs or adam, not {self.optimizer}")
        if self.start not in ("content", "noise", "stylized"):
            raise OptimizationError(f"start must be content, noise or stylized, not {self.start}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise OptimizationError("the learning rate must be above 0")

    @property
    def scale_count(self) -> int:
        """Number of scales; the default where `scales` is None."""
        if self.scales is not None:
            return self.scales
        # Coarse scales are for large shapes, which a stylized start has already.
        return 1 if self.start == "stylized" else 3


def _weighs(*weights: float) -> bool:
    return all(weight >= 0 and math.isfinite(weight) for weight in weights)


def weights_of(settings: Optimization) -> Weights:
    """The weight of each layer's loss in `cdjax.optimization.losses`."""

    def each(role: str) -> dict[str, Array]:
        weight, layers = getattr(settings, f"{role}_weight"), getattr(settings, f"{role}_layers")
        shares = getattr(settings, f"{role}_shares") or (1.0,) * len(layers)
        parts = zip(layers, shares, strict=True)
        return {name: jnp.float32(weight * share / sum(shares)) for name, share in parts}

    return Weights(each("content"), each("style"), jnp.float32(settings.tv_weight))
