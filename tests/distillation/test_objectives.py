"""The losses of AdaIN's phases and their gradients, against float64 NumPy."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax.distillation.config import STAGE_PHASES, Phase, TrainTask, Weights
from cdjax.distillation.train_step import loss
from cdjax.model import Params
from cdjax.transfer.statistics import style_loss
from cdjax.transfer.transforms import adain_features
from tests import models
from tests.distillation.test_train_step import STUDENT, TEACHER, networks
from tests.distillation.test_train_step import task as train_task
from tests.models import Floats

WEIGHTS = Weights()
LAST = "relu2_1"
PAIRS = np.stack(
    [models.random_image(2, 12, 16, seed=5), models.random_image(2, 12, 16, seed=6)], axis=1
)


def task(phase: Phase, **changes: Any) -> TrainTask:
    return replace(train_task(phase, **{"weights": WEIGHTS, **changes}), method="adain")


def statistics(features: Floats) -> tuple[Floats, Floats]:
    flat = features.reshape(-1, features.shape[-1])
    return flat.mean(0), np.sqrt(flat.var(0, ddof=1) + 1e-5)


def adain(content: Floats, style: Floats) -> Floats:
    (mean, deviation), (new_mean, new_deviation) = statistics(content), statistics(style)
    return (content - mean) / deviation * new_deviation + new_mean


def embedded(taps: Mapping[str, Floats], embedding: Params) -> dict[str, Floats]:
    return {
        name: tap @ np.asarray(embedding[name]["kernel"], np.float64)
        + np.asarray(embedding[name]["bias"], np.float64)
        for name, tap in taps.items()
    }


def reference(
    work: TrainTask, params: dict[str, Params], frozen: dict[str, Params], pairs: NDArray[np.uint8]
) -> dict[str, float]:
    """Content, style and embedding loss as METHOD has them, pair by pair in float64."""
    sums = {"embedding": 0.0, "content": 0.0, "style": 0.0}
    networks = frozen | params
    for content, style in pairs / 255:
        both = content, style
        of_teacher = [models.encode(TEACHER, frozen["teacher"], image) for image in both]
        decoder_spec, decoder = STUDENT, networks["decoder"]
        if work.phase == "teacher_decoder":
            decoder_spec = TEACHER
            features = [taps[LAST] for taps in of_teacher]
        else:
            taps = [models.encode(STUDENT, networks["encoder"], image) for image in both]
            features = [tap[LAST] for tap in taps]
            if "embedding" in params:
                known = [embedded(tap, params["embedding"]) for tap in taps]
                sums["embedding"] += sum(
                    np.mean((mine[name] - theirs[name]) ** 2) / 2
                    for mine, theirs in zip(known, of_teacher, strict=True)
                    for name in mine
                )
            if work.phase == "student_encoder":
                decoder_spec = TEACHER
                features = [tap[LAST] for tap in known]
        made = models.decode(decoder_spec, decoder, adain(*features))
        judge = (TEACHER, frozen["teacher"])
        if work.config.perceptual_encoder == "student":
            judge = (STUDENT, networks["encoder"])
        found, of_content, of_style = (models.encode(*judge, x) for x in (made, content, style))
        target = adain(of_content[LAST], of_style[LAST])
        sums["content"] += np.mean((found[LAST] - target) ** 2)
        for name, tap in found.items():
            for mine, theirs in zip(statistics(tap), statistics(of_style[name]), strict=True):
                sums["style"] += np.mean((mine - theirs) ** 2)
    return {name: value / len(pairs) for name, value in sums.items()}


def weighted(losses: Mapping[str, float]) -> float:
    return sum(getattr(WEIGHTS, name) * value for name, value in losses.items())


CASES = [*((phase, "teacher") for phase in STAGE_PHASES), ("student_decoder", "student")]


@pytest.mark.parametrize(("phase", "judge"), CASES)
def test_losses_and_gradients_equal_numpy(phase: Phase, judge: str) -> None:
    params, frozen = networks(phase)
    work = task(phase, perceptual_encoder=judge)
    step = jax.jit(jax.value_and_grad(partial(loss, task=work), has_aux=True))
    (total, parts), gradients = step(params, frozen, PAIRS)
    expected = reference(work, params, frozen, PAIRS)
    if "embedding" not in params:
        del expected["embedding"]
    assert set(parts) == {"loss", *expected}
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=2e-4)
    np.testing.assert_allclose(total, weighted(expected), rtol=2e-4)

    # Along the gradient itself, a step of which changes the loss by its length.
    slope = float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(gradients))))
    sides = []
    for sign in (1, -1):
        moved = jax.tree.map(
            lambda leaf, gradient, sign=sign: (
                np.asarray(leaf, np.float64) + sign * 1e-6 * np.asarray(gradient) / slope
            ),
            params,
            gradients,
        )
        sides.append(weighted(reference(work, moved, frozen, PAIRS)))
    np.testing.assert_allclose((sides[0] - sides[1]) / 2e-6, slope, rtol=2e-3)


def test_adain_features_have_the_styles_means_and_deviations() -> None:
    generator = np.random.default_rng(0)
    content = generator.gamma(2.0, size=(3, 9, 7, 5)).astype(np.float32)
    style = (3 * generator.gamma(1.0, size=(3, 9, 7, 5)) + 1).astype(np.float32)
    result = np.asarray(adain_features(jnp.concatenate([content, style])))
    np.testing.assert_allclose(result.mean((1, 2)), style.mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(result.std((1, 2)), style.std((1, 2)), rtol=1e-4)
    # Each content by its own style, and nothing of it but scale and offset.
    for before, after in zip(content, result, strict=True):
        correlation = np.corrcoef(before.reshape(-1, 5).T, after.reshape(-1, 5).T)
        np.testing.assert_allclose(np.diag(correlation[:5, 5:]), 1, atol=1e-5)


def test_style_loss_is_0_of_the_style_itself_and_of_its_rearrangement_only() -> None:
    style = {"relu1_1": np.random.default_rng(1).gamma(2.0, size=(2, 6, 8, 4)).astype(np.float32)}
    turned = {"relu1_1": style["relu1_1"][:, ::-1].swapaxes(1, 2)}
    assert float(style_loss(style, style)) == 0
    assert float(style_loss(turned, style)) < 1e-9
    brighter = {"relu1_1": style["relu1_1"] + 0.5}
    np.testing.assert_allclose(style_loss(brighter, style), 0.25, rtol=1e-5)


def test_losses_of_weight_0_are_not_computed_nor_what_only_they_need() -> None:
    params, frozen = networks("student_encoder")
    work = task("student_encoder", weights=Weights(embedding=2, content=0, style=0))
    compute = jax.jit(loss, static_argnames="task")
    total, parts = compute(params, {"teacher": frozen["teacher"]}, PAIRS, task=work)
    assert set(parts) == {"loss", "embedding"}
    np.testing.assert_allclose(total, 2 * parts["embedding"], rtol=1e-6)
    work = task("student_encoder", weights=Weights(embedding=0, content=0))
    total, parts = compute(params, frozen, PAIRS, task=work)
    assert set(parts) == {"loss", "style"}
    np.testing.assert_allclose(total, 10 * parts["style"], rtol=1e-6)
