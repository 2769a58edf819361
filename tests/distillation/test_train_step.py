"""Losses, gradients and steps, against the original code's and against NumPy."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cdjax import Spec
from cdjax.checkpoints.pytorch import convert_paper_16x, convert_wct_vgg19
from cdjax.distillation.config import (
    STAGE_PHASES,
    Phase,
    PhaseConfig,
    TrainTask,
    Weights,
)
from cdjax.distillation.losses import tap_losses
from cdjax.distillation.presets import PRESETS
from cdjax.distillation.train_step import initial_state, loss, optimizer, train_step
from cdjax.distillation.whitened_adam import input_factors
from cdjax.model import Params
from cdjax.networks.spec import student, teacher
from tests import models

PAPER = PRESETS["wct"]["paper"]
TEACHER, STUDENT = Spec(2, (6, 8)), Spec(2, (3, 4))


def task(
    phase: Phase, *, microbatches: int = 1, dtype: str = "float32", **changes: Any
) -> TrainTask:
    """A phase of the small networks, with the paper's weights unless others are given."""
    config = PhaseConfig(**{"weights": PAPER.phase(phase).weights, **changes})
    return TrainTask(phase, (STUDENT,), TEACHER, config, microbatches=microbatches, dtype=dtype)


def networks(phase: Phase) -> tuple[dict[str, Params], dict[str, Params]]:
    """What a phase trains and what it holds still, with random parameters."""
    big = models.random_model([TEACHER], seed=1).params["stage2"]
    small = models.random_model([STUDENT], seed=2).params["stage2"]
    generator = np.random.default_rng(3)
    embedding = {
        name: {
            "kernel": jnp.asarray(generator.normal(size=(width, wide)) / 2, jnp.float32),
            "bias": jnp.asarray(generator.normal(size=wide) / 9, jnp.float32),
        }
        for (name, width), wide in zip(STUDENT.taps, TEACHER.widths, strict=True)
    }
    frozen = {"teacher": big["encoder"]}
    if phase == "teacher_decoder":
        return {"decoder": big["decoder"]}, frozen
    if phase == "student_encoder":
        trained = {"encoder": small["encoder"], "embedding": embedding}
        return trained, frozen | {"decoder": big["decoder"]}
    if phase == "student_autoencoder":
        return {**small, "embedding": embedding}, frozen
    return {"decoder": small["decoder"]}, frozen | {"encoder": small["encoder"]}


def recorded(golden: dict[str, np.ndarray], prefix: str) -> dict[str, Params]:
    """Tensors of the original's names and layout as our trees."""
    tree: dict[str, Params] = {"encoder": {}, "embedding": {}}
    for name in golden:
        if not name.startswith(f"{prefix}/"):
            continue
        layer, part = name.removeprefix(f"{prefix}/").split(".")
        value = golden[name]
        if part == "weight":
            value = value.transpose(2, 3, 1, 0)
        block = layer.removeprefix("conv").removesuffix("_aux")
        if layer.endswith("_aux"):
            network, key = "embedding", f"relu{block[0]}_1"
            value = value[0, 0] if part == "weight" else value
        else:
            network, key = "encoder", "conv0" if block == "0" else f"conv{block[0]}_{block[1]}"
        kind = "kernel" if part == "weight" else "bias"
        tree[network].setdefault(key, {})[kind] = jnp.asarray(value)
    return tree


def assert_gradients_close(ours: object, golden: object) -> None:
    def check(path: object, left: jax.Array, right: jax.Array) -> None:
        error = np.abs(np.asarray(left) - np.asarray(right)).max()
        assert error <= 1e-3 * np.abs(right).max(), (path, error)

    jax.tree_util.tree_map_with_path(check, ours, golden)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_step_of_the_original_code(shared: Path, stage: int) -> None:
    with np.load(shared / f"reference/golden/train_stage{stage}.npz") as file:
        golden = dict(file)
    big = convert_wct_vgg19(shared / "reference/vgg19_normalised").params[f"stage{stage}"]
    frozen = {"teacher": big["encoder"], "decoder": big["decoder"]}
    phase: Phase = "student_encoder"
    work = TrainTask(
        phase, (student(stage),), teacher(stage), PhaseConfig(weights=PAPER.phase(phase).weights)
    )
    params = recorded(golden, "se_init")
    step = jax.jit(jax.value_and_grad(partial(loss, task=work), has_aux=True))
    (total, parts), gradients = step(params, frozen, golden["images"])
    np.testing.assert_allclose(total, golden["total_loss"], rtol=1e-4)
    np.testing.assert_allclose(parts["embedding"], golden["feat_loss"], rtol=1e-4)
    np.testing.assert_allclose(parts["pixel"], golden["pixel_loss"], rtol=1e-4)
    np.testing.assert_allclose(parts["perceptual"], golden["perceptual_loss"], rtol=1e-4)
    assert_gradients_close(gradients, recorded(golden, "se_grad"))
    # The original leaves conv0 unfrozen, so its step is plain Adam over everything.
    adam = optax.adam(1e-4)
    updates, _ = adam.update(gradients, adam.init(params), params)
    after = optax.apply_updates(params, updates)
    for left, right in zip(
        jax.tree.leaves(after), jax.tree.leaves(recorded(golden, "se_after")), strict=True
    ):
        # Adam's first step is the gradient's sign, which is undecided where the gradient is 0.
        np.testing.assert_allclose(left, right, atol=2.1e-4)
        assert np.mean(np.abs(left - right) > 1e-6) < 0.01


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_one_decoder_gradient_of_the_original_code(shared: Path, stage: int) -> None:
    from cdjax.checkpoints.torch_file import read_torch_file

    with np.load(shared / f"reference/golden/train_stage{stage}.npz") as file:
        golden = dict(file)
    big = convert_wct_vgg19(shared / "reference/vgg19_normalised").params[f"stage{stage}"]
    small = convert_paper_16x(shared / "reference/wct16x").params[f"stage{stage}"]
    start = read_torch_file(shared / f"reference/wct16x_l1_init/d{stage}_base.pth")
    decoder = recorded({f"x/{name}": value for name, value in start.items()}, "x")["encoder"]
    phase: Phase = "student_decoder"
    work = TrainTask(
        phase, (student(stage),), teacher(stage), PhaseConfig(weights=PAPER.phase(phase).weights)
    )
    frozen = {"teacher": big["encoder"], "encoder": small["encoder"]}
    step = jax.jit(jax.value_and_grad(partial(loss, task=work), has_aux=True))
    (total, parts), gradients = step({"decoder": decoder}, frozen, golden["images"])
    np.testing.assert_allclose(total, golden["sd_total_loss"], rtol=1e-4)
    np.testing.assert_allclose(parts["pixel"], golden["sd_pixel_loss"], rtol=1e-4)
    np.testing.assert_allclose(parts["perceptual"], golden["sd_perceptual_loss"], rtol=1e-4)
    assert_gradients_close(gradients["decoder"], recorded(golden, "sd_grad")["encoder"])


@pytest.mark.parametrize(
    ("phase", "relu_embedding"),
    [*((phase, False) for phase in STAGE_PHASES), ("student_encoder", True)],
)
def test_losses_equal_numpy(phase: Phase, relu_embedding: bool) -> None:
    params, frozen = networks(phase)
    images = models.random_image(2, 12, 16)
    work = task(phase, relu_embedding=relu_embedding)
    total, parts = jax.jit(partial(loss, task=work))(params, frozen, images)
    sums = {"embedding": 0.0, "pixel": 0.0, "perceptual": 0.0}
    for image in images / 255:
        targets = models.encode(TEACHER, frozen["teacher"], image)
        if phase == "teacher_decoder":
            rebuilt = models.decode(TEACHER, params["decoder"], targets["relu2_1"])
        elif phase in ("student_encoder", "student_autoencoder"):
            taps = models.encode(STUDENT, params["encoder"], image)
            embedded = {
                name: tap @ np.asarray(params["embedding"][name]["kernel"], np.float64)
                + np.asarray(params["embedding"][name]["bias"])
                for name, tap in taps.items()
            }
            if relu_embedding:
                embedded = {name: np.maximum(values, 0) for name, values in embedded.items()}
            sums["embedding"] += sum(
                np.mean((embedded[name] - targets[name]) ** 2) for name in taps
            )
            rebuilt = (
                models.decode(TEACHER, frozen["decoder"], embedded["relu2_1"])
                if phase == "student_encoder"
                else models.decode(STUDENT, params["decoder"], taps["relu2_1"])
            )
        else:
            taps = models.encode(STUDENT, frozen["encoder"], image)
            rebuilt = models.decode(STUDENT, params["decoder"], taps["relu2_1"])
        sums["pixel"] += np.mean((rebuilt - image) ** 2)
        again = models.encode(TEACHER, frozen["teacher"], rebuilt)
        sums["perceptual"] += sum(np.mean((again[n] - targets[n]) ** 2) for n in targets)
    weights = PAPER.phase(phase).weights
    expected = sum(getattr(weights, name) * value / 2 for name, value in sums.items())
    np.testing.assert_allclose(total, expected, rtol=1e-4)
    for name, value in parts.items():
        np.testing.assert_allclose(value, expected if name == "loss" else sums[name] / 2, rtol=1e-4)


@pytest.mark.parametrize("phase", STAGE_PHASES)
def test_training_lowers_the_loss_and_leaves_conv0_alone(phase: Phase) -> None:
    params, frozen = networks(phase)
    before = jax.tree.map(np.asarray, params)
    images = models.random_image(4, 16, 16)
    work = task(phase, learning_rate=3e-3)
    state = initial_state(params, task=work)
    losses = []
    for _ in range(30):
        state, metrics = train_step(state, frozen, images, task=work)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert int(state.step) == 30
    assert float(metrics["gradient_norm"]) > 0
    changed = jax.tree_util.tree_map_with_path(
        lambda path, old, new: ("conv0" in str(path)) == bool(np.array_equal(old, new)),
        before,
        state.params,
    )
    assert all(jax.tree.leaves(changed))


def test_microbatches_make_the_same_step() -> None:
    images = models.random_image(4, 16, 16)
    results = []
    for parts in (1, 4):
        params, frozen = networks("student_encoder")
        work = task("student_encoder", microbatches=parts)
        _, metrics = train_step(initial_state(params, task=work), frozen, images, task=work)
        results.append((metrics["loss"], metrics["gradient_norm"]))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5)
    params, frozen = networks("student_encoder")
    work = task("student_encoder", microbatches=3)
    state = initial_state(params, task=work)
    with pytest.raises(ValueError, match="batch of 4 cannot be cut into 3"):
        train_step(state, frozen, images, task=work)


def test_bfloat16_computes_near_float32_with_float32_parameters() -> None:
    images = models.random_image(4, 16, 16)
    losses = []
    for dtype in ("float32", "bfloat16"):
        params, frozen = networks("student_encoder")
        work = task("student_encoder", dtype=dtype)
        state, metrics = train_step(initial_state(params, task=work), frozen, images, task=work)
        losses.append(float(metrics["loss"]))
        assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)


def test_losses_of_weight_0_are_not_computed_nor_what_only_they_need() -> None:
    params, frozen = networks("student_encoder")
    images = models.random_image(2, 16, 16)
    whole = loss(params, frozen, images, task=task("student_encoder"))[1]
    work = task("student_encoder", weights=Weights(embedding=0, perceptual=0))
    total, parts = loss(params, frozen, images, task=work)
    assert set(parts) == {"loss", "pixel"}
    np.testing.assert_allclose([total, parts["pixel"]], whole["pixel"], rtol=1e-6)
    work = task("student_encoder", weights=Weights(embedding=2, pixel=0, perceptual=0))
    total, parts = loss(params, {"teacher": frozen["teacher"]}, images, task=work)
    assert set(parts) == {"loss", "embedding"}
    np.testing.assert_allclose(total, 2 * whole["embedding"], rtol=1e-6)


def test_taps_before_the_deepest_can_count_less() -> None:
    params, frozen = networks("student_encoder")
    image = models.random_image(1, 16, 16)
    targets = models.encode(TEACHER, frozen["teacher"], image[0] / 255)
    embedded = {
        name: tap @ params["embedding"][name]["kernel"] + params["embedding"][name]["bias"]
        for name, tap in models.encode(STUDENT, params["encoder"], image[0] / 255).items()
    }
    shallow, deepest = (np.mean((embedded[name] - targets[name]) ** 2) for name, _ in STUDENT.taps)
    for share in (0.0, 0.25, 1.0):
        weights = Weights(embedding=1, pixel=0, perceptual=0, shallow_tap_weight=share)
        work = task("student_encoder", weights=weights)
        total, _ = loss(params, frozen, image, task=work)
        np.testing.assert_allclose(total, share * shallow + deepest, rtol=1e-4)


def test_the_students_own_encoder_can_judge_its_decoder() -> None:
    params, frozen = networks("student_decoder")
    image = models.random_image(1, 16, 16)
    work = task("student_decoder", perceptual_encoder="student")
    _, parts = loss(params, {"encoder": frozen["encoder"]}, image, task=work)
    targets = models.encode(STUDENT, frozen["encoder"], image[0] / 255)
    rebuilt = models.decode(STUDENT, params["decoder"], targets["relu2_1"])
    again = models.encode(STUDENT, frozen["encoder"], rebuilt)
    expected = sum(
        np.mean((again[name] - tap) ** 2) / np.mean(tap**2) for name, tap in targets.items()
    )
    np.testing.assert_allclose(parts["perceptual"], expected, rtol=1e-3)


def test_the_first_layer_can_go_slower_than_the_others() -> None:
    images = models.random_image(2, 16, 16)
    steps = []
    for rate in (1.0, 0.25):
        params, frozen = networks("student_encoder")
        before = jax.tree.map(np.asarray, params)
        work = task("student_encoder", learning_rate=1e-3, first_layer_lr_scale=rate)
        state, _ = train_step(initial_state(params, task=work), frozen, images, task=work)
        steps.append(jax.tree.map(np.subtract, state.params, before))
    whole, slowed = (step["encoder"].pop("conv1_1")["kernel"] for step in steps)
    np.testing.assert_allclose(slowed, whole / 4, rtol=1e-2, atol=1e-7)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), *steps)


def optimizer_case(whitened: bool) -> tuple[dict[str, Params], dict[str, Params], Any]:
    """Parameters, gradients and factors for the optimiser alone."""
    params, _ = networks("student_encoder")
    gradients = jax.tree.map(lambda leaf: jnp.sin(100 * leaf), params)
    images = models.random_image(2, 16, 16)
    return params, gradients, input_factors(params, images, student=STUDENT) if whitened else None


@pytest.mark.parametrize("whitened", [False, True])
def test_only_gradients_larger_than_the_clip_are_scaled_down(whitened: bool) -> None:
    params, gradients, factors = optimizer_case(whitened)
    norm = float(optax.tree.norm(gradients))
    moments = {}
    for clip in (0.0, 0.25 * norm, 1e6):
        adam = optimizer(task("student_encoder", clip=clip, whitened=whitened))
        _, state = adam.update(gradients, adam.init(params), params, factors=factors)
        moments[clip] = optax.tree.get(state, "mu")
    jax.tree.map(np.testing.assert_array_equal, moments[1e6], moments[0.0])
    scaled = jax.tree.map(lambda moment: moment / 4, moments[0.0])
    atol = 1e-7 if whitened else 0  # Whitening cancels.
    close = partial(np.testing.assert_allclose, rtol=1e-5, atol=atol)
    jax.tree.map(close, moments[0.25 * norm], scaled)


@pytest.mark.parametrize("whitened", [False, True])
def test_the_learning_rate_decays_to_0(whitened: bool) -> None:
    params, gradients, factors = optimizer_case(whitened)
    decaying = task("student_encoder", learning_rate=1e-3, steps=4, decay=True, whitened=whitened)
    adam = optimizer(decaying)
    state, moved = adam.init(params), []
    for _ in range(5):
        updates, state = adam.update(gradients, state, params, factors=factors)
        moved.append(max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(updates)))
    assert moved[0] > moved[2] > moved[3] > moved[4] == 0


def test_mismatched_taps_and_stages_are_refused() -> None:
    with pytest.raises(KeyError, match="relu2_1"):
        tap_losses({"relu2_1": jnp.zeros(3)}, {"relu1_1": jnp.zeros(3)})
    with pytest.raises(ValueError, match="one stage"):
        TrainTask("student_encoder", (Spec(1, (3,)),), TEACHER, PhaseConfig())
