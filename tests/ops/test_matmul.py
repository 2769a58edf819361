"""No product or convolution of float32 leaves it to a GPU to round what it multiplies."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from cdjax import (
    Optimization,
    Spec,
    optimize_image,
    stylize,
    stylize_by_windows,
)
from cdjax.distillation.config import PhaseConfig, Weights
from cdjax.distillation.pipeline import distill
from cdjax.evaluation.compare import compare
from cdjax.networks.encoder import Encoder
from cdjax.ops.matmul import inner, product
from tests.distillation.test_pipeline import SMALL, TEACHER, Notes, vgg
from tests.models import random_image, random_model

SPECS = (Spec(2, (6, 8)), Spec(1, (5,)))
HIGHEST = (lax.Precision.HIGHEST, lax.Precision.HIGHEST)


class Seen:
    """Products that were traced: how many of float32, and those that a GPU may round."""

    def __init__(self) -> None:
        self.count = 0
        self.rounded: list[str] = []


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Sees every product that is traced; what was traced before is traced anew."""
    found = Seen()
    for name in ("dot_general_p", "conv_general_dilated_p"):
        primitive = getattr(lax, name)
        bind = primitive.bind

        def watched(*arrays: Any, _bind: Any = bind, **params: Any) -> Any:
            if arrays[0].dtype == jnp.float32:
                found.count += 1
                if params["precision"] != HIGHEST:
                    shapes = " by ".join(str(array.shape) for array in arrays)
                    found.rounded.append(f"{params['precision']} for {shapes}")
            return _bind(*arrays, **params)

        monkeypatch.setattr(primitive, "bind", watched)
    jax.clear_caches()
    yield found
    jax.clear_caches()


def test_what_is_said_of_a_product(seen: Seen) -> None:
    left, right = jnp.ones((2, 3)), jnp.ones((3, 4))
    np.testing.assert_array_equal(product(left, right), np.full((2, 4), 3))
    assert inner(left, 2 * left) == 12
    assert (seen.count, seen.rounded) == (2, [])
    jnp.matmul(left, right)
    assert seen.rounded == ["None for (2, 3) by (3, 4)"]


@pytest.mark.parametrize("method", ["wct", "adain"])
def test_stylisation_and_its_gradient(seen: Seen, method: Any) -> None:
    model = random_model(SPECS if method == "wct" else SPECS[:1], method=method)
    content, style = (random_image(40, 32, seed=seed) for seed in (1, 2))
    stylize(model, content, style)
    stylize_by_windows(model, content, style, memory=10**6)
    jax.grad(lambda alpha: stylize(model, content, style, alpha=alpha).sum())(0.5)
    assert seen.count > 20
    assert not seen.rounded


def test_torchvisions_encoder(seen: Seen) -> None:
    spec = replace(SPECS[0], padding="zero")
    params = random_model((spec,)).params["stage2"]["encoder"]
    Encoder(spec).apply({"params": params}, jnp.ones((1, 16, 16, 3)))
    assert seen.count > 3
    assert not seen.rounded


def test_optimisation(seen: Seen) -> None:
    model = random_model(SPECS)
    settings = Optimization(("relu1_2",), ("relu1_1", "relu2_1"), steps=2, scales=1)
    optimize_image(model, random_image(20, 16), random_image(20, 16, seed=3), settings=settings)
    assert seen.count > 10
    assert not seen.rounded


LSQ = replace(
    SMALL,
    stages=(1,),
    teacher_decoder=PhaseConfig(1, Weights(0, 1, 1)),
    student_encoder=replace(SMALL.student_autoencoder, steps=1, weights=Weights(10, 1, 1)),
    student_autoencoder=replace(SMALL.student_autoencoder, steps=1),
    student_decoder=replace(SMALL.student_decoder, steps=1),
)


def test_distillation_and_evaluation(seen: Seen, tmp_path: Path) -> None:
    recipe = replace(LSQ, teacher=vgg(tmp_path / "vgg"))
    model = distill(recipe, tmp_path / "run", Notes())
    assert seen.count > 80
    assert not seen.rounded
    before = seen.count
    teacher = random_model((TEACHER,), seed=5)
    images = random_image(4, 16, 16)
    compare({"student": model}, teacher, images, images, contents=images[:1], styles=images[1:2])
    assert seen.count > before + 20
    assert not seen.rounded
