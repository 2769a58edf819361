"""The objective that trains a whole cascade on the pictures it makes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Model, Spec, load_model, save_model, stylize
from cdjax.data.loader import DataConfig
from cdjax.distillation.config import (
    DistillationConfig,
    PhaseConfig,
    Start,
    Styles,
    TrainTask,
    TransferMethod,
    Weights,
)
from cdjax.distillation.losses import (
    correlation_loss,
    relative_style_loss,
    sliced_wasserstein_loss,
)
from cdjax.distillation.pipeline import Observer, PhaseObserver, distill
from cdjax.distillation.train_step import initial_state, train_step
from cdjax.distillation.transfer_objective import (
    alphas,
    as_trained,
    cascade,
)
from cdjax.model import Params
from cdjax.progress import Progress
from tests import models

METHODS: tuple[TransferMethod, ...] = ("wct", "adain")
WEIGHTS = Weights(pixel=100.0, content=3.0, style=1.0, sliced=1.0)
DEPTHS = (1, 1, 1, 1, 1)
CASCADES = {
    "wct": (Spec(2, (3, 4), DEPTHS), Spec(1, (3,), DEPTHS)),
    "adain": (Spec(2, (4, 3), DEPTHS), Spec(1, (4,), DEPTHS)),
}
PAIRS = np.stack([models.random_image(4, 16, 16, seed=seed) for seed in (5, 6)], axis=1)


def task(method: TransferMethod) -> TrainTask:
    specs = CASCADES[method]
    teacher = replace(specs[0], widths=(6, 8)[: specs[0].stage])
    config = PhaseConfig(weights=WEIGHTS, learning_rate=1e-2)
    return TrainTask("student_transfer", specs, teacher, config, method)


def networks(work: TrainTask) -> tuple[dict[str, Params], dict[str, Params]]:
    teacher = models.random_model([work.teacher], seed=1).params[f"stage{work.teacher.stage}"]
    params = as_trained(models.random_model(work.students, seed=4).params)
    return params, {"teacher": teacher["encoder"]}


def test_alphas_cover_the_range_and_are_a_function_of_the_step() -> None:
    many = np.ravel(jax.vmap(lambda step: alphas(step, 2))(jnp.arange(100_000, 100_500)))
    assert np.mean(many == 0) == pytest.approx(0.2, abs=0.01)
    assert np.mean(many == 1) == pytest.approx(0.3, abs=0.01)
    between = many[(many > 0) & (many < 1)]
    assert between.min() >= 0.4
    assert between.mean() == pytest.approx(0.7, abs=0.01)
    np.testing.assert_array_equal(alphas(7, 3), alphas(jnp.int32(7), 3))
    assert not np.array_equal(alphas(7, 3), alphas(8, 3))


@pytest.mark.parametrize("method", METHODS)
def test_the_cascade_makes_the_pictures_of_stylize(method: TransferMethod) -> None:
    work = task(method)
    strengths = tuple(0.6 + 0.2 * i for i in range(len(work.students)))
    transforms = (*[method] * (len(work.students) - 1), "ot")
    work = replace(work, strengths=strengths, transforms=transforms)
    params, _ = networks(work)
    unit = jnp.asarray(PAIRS, jnp.float32) / 255
    alpha = jnp.asarray([0.0, 0.4, 0.7, 1.0])
    made = jnp.clip(
        jax.jit(cascade, static_argnums=0)(work, params, *unit.swapaxes(0, 1), alpha), 0, 1
    )
    model = models.random_model(work.students, method=method, seed=4)
    pairs = tuple((s.stage, x) for s, x in zip(work.students, strengths, strict=True))
    of_stages = {"strengths": pairs, "transforms": ((work.students[-1].stage, "ot"),)}
    model = replace(model, config=replace(model.config, **of_stages))
    for i in range(len(PAIRS)):
        expected = stylize(model, PAIRS[i, 0], PAIRS[i, 1], alpha=alpha[i])
        np.testing.assert_allclose(made[i], expected, atol=2e-3)


def test_relative_style_loss_is_relative_to_the_styles_statistics() -> None:
    generator = np.random.default_rng(0)
    found, target = (np.abs(generator.normal(size=(2, 5, 6, 3))) * s for s in (1.0, 1.7))
    got = relative_style_loss({"relu1_1": jnp.asarray(found)}, {"relu1_1": jnp.asarray(target)})
    for i in range(2):
        a, b = (x[i].reshape(-1, 3) for x in (found, target))
        grams = [x.T @ x / len(x) for x in (a, b)]
        expected = np.linalg.norm(grams[0] - grams[1]) / np.linalg.norm(grams[1])
        errors = sum(np.sum((f(a, 0) - f(b, 0)) ** 2) for f in (np.mean, np.std))
        expected += errors / sum(np.sum(f(b, 0) ** 2) for f in (np.mean, np.std))
        assert float(got[i]) == pytest.approx(expected, rel=1e-3)


def test_sliced_wasserstein_loss_compares_distributions_whatever_their_order() -> None:
    generator = np.random.default_rng(0)
    features = jnp.asarray(generator.normal(size=(2, 8, 8, 4)), jnp.float32)
    same = {"relu1_1": features[:, ::-1]}, {"relu1_1": features}
    np.testing.assert_allclose(sliced_wasserstein_loss(*same), 0, atol=1e-6)
    # Of one mean and covariance, and yet another distribution.
    signs = jnp.sign(features)
    other = sliced_wasserstein_loss({"relu1_1": signs}, {"relu1_1": features}, seed=1)
    assert np.all(other > 0.01)
    # A shift by one standard deviation is one variance in every direction of unit length.
    moved = sliced_wasserstein_loss(
        {"relu1_1": features[..., :1] + 1}, {"relu1_1": features[..., :1]}
    )
    np.testing.assert_allclose(moved, 1 / features[..., 0].var((1, 2)), rtol=1e-3)


def test_correlation_loss_ignores_each_channels_mean_and_size() -> None:
    features = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8, 8, 4)), jnp.float32)
    moved = features * jnp.asarray([1, 2, 3, 9.0]) + 5
    other = jnp.flip(features, 1)
    assert np.all(np.abs(correlation_loss({"relu4_1": moved}, {"relu4_1": features})) < 5e-3)
    assert np.all(correlation_loss({"relu4_1": other}, {"relu4_1": features}) > 0.5)
    # Shallow taps do not count where there are deep ones.
    both = {"relu2_1": other, "relu4_1": features}
    same = {"relu2_1": features, "relu4_1": features}
    assert np.all(correlation_loss(both, same) < 5e-3)


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss_and_leaves_the_colour_convolution(method: TransferMethod) -> None:
    work = task(method)
    params, frozen = networks(work)
    before = jax.device_get(params)
    state = initial_state(params, task=work)
    losses = []
    for _ in range(25):
        state, metrics = train_step(state, frozen, PAIRS, task=work)
        assert set(metrics) >= {"loss", "style", "content", "pixel"}
        losses.append(float(metrics["loss"]))
    # The alphas of five steps of four pairs are spread alike.
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    for name, part in before.items():
        same = {
            layer: np.array_equal(part[layer]["kernel"], state.params[name][layer]["kernel"])
            for layer in part
        }
        assert {layer for layer, equal in same.items() if equal} == ({"conv0"} & set(part))


def test_microbatches_take_the_same_step() -> None:
    np.testing.assert_array_equal(jnp.concatenate([alphas(10, 2), alphas(11, 2)]), alphas(5, 4))
    work = task("adain")
    losses = []
    for parts in (1, 2):
        params, frozen = networks(work)
        state = initial_state(params, task=work)
        _, metrics = train_step(state, frozen, PAIRS, task=replace(work, microbatches=parts))
        losses.append((float(metrics["loss"]), float(metrics["gradient_norm"])))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


class StopsAtStep3(Observer):
    @contextmanager
    def phase(self, *args: Any, **options: Any) -> Iterator[PhaseObserver]:
        class Stops(PhaseObserver):
            def on_progress(self, progress: Progress) -> None:
                if progress.done == 3:
                    raise KeyboardInterrupt

        yield Stops()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DistillationConfig:
    folder = tmp_path_factory.mktemp("networks")
    specs = (Spec(2, (16, 32), DEPTHS), Spec(1, (24,), DEPTHS))
    save_model(folder / "start", models.random_model(specs, seed=2))
    big = models.random_model([Spec(2, (6, 8), DEPTHS)], seed=1)
    encoder = {"stage2": {"encoder": big.params["stage2"]["encoder"]}}
    of_teacher = replace(big.config, method="encoder", teacher="small-normalised")
    save_model(folder / "teacher", Model(encoder, of_teacher))  # type: ignore[arg-type]
    return DistillationConfig(
        teacher=str(folder / "teacher"),
        data=DataConfig("dead-leaves", crop=16, batch=2),
        styles=Styles(contents=0.5),
        stages=(2, 1),
        start=Start(model=str(folder / "start"), images=4, crop=16),
        strengths=(0.5, 1.0),
        transforms=("wct", "ot"),
        student_transfer=PhaseConfig(4, WEIGHTS, 1e-3, whitened=True),
        save_every=2,
        pictures_every=4,
    )


def test_a_distillation_ends_with_it_and_goes_on_after_a_stop(
    config: DistillationConfig, tmp_path: Path
) -> None:
    whole = distill(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        distill(config, tmp_path / "stopped", StopsAtStep3())
    again = distill(config, tmp_path / "stopped")
    jax.tree.map(np.testing.assert_array_equal, whole.params, again.params)
    first = load_model(config.start.model or "")
    for stage, parts in first.params.items():
        for part, network in parts.items():
            assert not np.array_equal(
                network["conv1_1"]["kernel"], whole.params[stage][part]["conv1_1"]["kernel"]
            )
    assert whole.config.specs == first.config.specs
    found = load_model(tmp_path / "whole/model").config
    assert found.strengths == ((2, 0.5), (1, 1.0))
    assert found.transforms == ((2, "wct"), (1, "ot"))
    begun = replace(config.start, model=str(tmp_path / "whole/model"))
    untrained = replace(
        config, strengths=(), transforms=(), start=begun, student_transfer=PhaseConfig()
    )
    inherited = distill(untrained, tmp_path / "inherited").config
    assert inherited.strengths == whole.config.strengths, "those of the model to start from"
    assert inherited.transforms == whole.config.transforms
