"""The whitening of layers' inputs, and Adam behind it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cdjax import Spec
from cdjax.distillation.whitened_adam import input_factors, whitened_adam
from tests import models

STUDENT = Spec(2, (3, 4))


@pytest.fixture(scope="module")
def networks():
    params = models.random_model([STUDENT]).params["stage2"]
    generator = np.random.default_rng(0)
    params["embedding"] = {
        name: {
            "kernel": jnp.asarray(generator.normal(size=(width, 6)), jnp.float32),
            "bias": jnp.asarray(generator.normal(size=6), jnp.float32),
        }
        for name, width in STUDENT.taps
    }
    return params


@pytest.fixture(scope="module")
def images():
    return models.random_image(3, 16, 20)


@pytest.fixture(scope="module")
def factors(networks, images):
    # More samples than there are positions: every one counts.
    return input_factors(networks, images, student=STUDENT, samples=10**6, batch=2)


def patches_of(features):
    height, width, _ = features.shape
    padded = np.pad(features, ((1, 1), (1, 1), (0, 0)), mode="reflect")
    cut = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.concatenate(cut, -1).reshape(height * width, -1)


def with_constant(rows):
    return np.concatenate([rows, np.ones((len(rows), 1))], 1)


def assert_white(factor, rows):
    inverse = np.asarray(factor["inverse"], np.float64)
    second = rows.T @ rows / len(rows)
    # The damping alone keeps it from being the identity.
    values = np.linalg.eigvalsh(inverse @ second @ inverse.T)
    assert values.max() < 1.001
    assert np.median(values) > 0.9


def test_every_kind_of_layer_is_whitened(networks, images, factors):
    first, taps, last = [], [], []
    for image in images:
        unit = image / 255.0
        colour = networks["encoder"]["conv0"]
        first.append(
            patches_of(unit @ np.asarray(colour["kernel"][0, 0]) + np.asarray(colour["bias"]))
        )
        features = models.encode(STUDENT, networks["encoder"], unit)
        taps.append(features["relu2_1"].reshape(-1, 4))
        decoded = features["relu2_1"]
        for conv in STUDENT.decoder[:-1]:
            layer = jax.tree.map(np.asarray, networks["decoder"][conv.name])
            if conv.upsampled:
                decoded = decoded.repeat(2, axis=0).repeat(2, axis=1)
            decoded = np.maximum(models.convolve(decoded, **layer), 0)
        last.append(patches_of(decoded))
    assert_white(factors["encoder"]["conv1_1"], with_constant(np.concatenate(first)))
    assert_white(factors["embedding"]["relu2_1"], with_constant(np.concatenate(taps)))
    assert_white(factors["decoder"]["conv1_1"], with_constant(np.concatenate(last)))


def test_scale_is_that_of_the_output(networks, images, factors):
    rows = []
    for image in images:
        features = models.encode(STUDENT, networks["encoder"], image / 255.0)
        rows.append(features["relu2_1"].reshape(-1, 4))
    layer = networks["embedding"]["relu2_1"]
    embedded = np.concatenate(rows) @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    # A column of L^T W has 5 numbers, whose squares sum up to the mean square of that output.
    expected = np.sqrt(np.mean(embedded**2, axis=0) / 5)
    scale = np.asarray(factors["embedding"]["relu2_1"]["scale"])
    np.testing.assert_allclose(scale, expected, rtol=2e-3)


def test_factors_cover_what_can_be_trained(factors, networks):
    assert set(factors) == {"encoder", "embedding", "decoder"}
    assert set(factors["encoder"]) == set(networks["encoder"]) - {"conv0"}
    assert set(factors["decoder"]) == set(networks["decoder"])


def test_in_white_coordinates_it_is_adam(networks):
    """With the identity for every factor it is plain Adam; conv0 stays."""
    params = {"encoder": networks["encoder"]}
    identity = {
        name: {"inverse": jnp.eye(9 * layer["kernel"].shape[2] + 1), "scale": jnp.asarray(2.0)}
        for name, layer in networks["encoder"].items()
        if name != "conv0"
    }
    gradients = jax.tree.map(lambda leaf: jnp.sin(100 * leaf), params)
    ours, adam = whitened_adam(1e-3), optax.adam(2e-3)
    state, reference = ours.init(params), adam.init(params)
    for _ in range(3):
        moved, state = ours.update(gradients, state, params, factors={"encoder": identity})
        expected, reference = adam.update(gradients, reference, params)
    for name, layer in expected["encoder"].items():
        for part, value in layer.items():
            wanted = np.zeros_like(value) if name == "conv0" else value
            np.testing.assert_allclose(moved["encoder"][name][part], wanted, atol=1e-8)


def test_correlated_inputs_do_not_slow_it_down():
    """Regression on inputs of which one hides behind another, 100 times larger."""
    generator = np.random.default_rng(1)
    common = generator.normal(size=(400, 1))
    rows = np.concatenate([common, common + 0.05 * generator.normal(size=(400, 1))], 1)
    inputs = jnp.asarray(with_constant(rows), jnp.float32)
    targets = inputs @ jnp.asarray([[3.0], [-3.0], [0.5]])
    factor = np.linalg.cholesky(np.asarray(inputs.T @ inputs, np.float64) / 400)
    factors = {"embedding": {"q": {"inverse": jnp.asarray(np.linalg.inv(factor), jnp.float32),
                                   "scale": jnp.asarray(1.0)}}}  # fmt: skip

    def loss(params):
        layer = params["embedding"]["q"]
        return jnp.mean((inputs[:, :2] @ layer["kernel"] + layer["bias"] - targets) ** 2)

    def after(optimizer, **extra):
        params = {"embedding": {"q": {"kernel": jnp.zeros((2, 1)), "bias": jnp.zeros(1)}}}
        state = optimizer.init(params)
        for _ in range(150):
            moved, state = optimizer.update(jax.grad(loss)(params), state, params, **extra)
            params = optax.apply_updates(params, moved)
        return float(loss(params))

    assert after(whitened_adam(0.02), factors=factors) < 0.05 * after(optax.adam(0.02))
