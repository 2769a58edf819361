"""The losses of optimisation-based style transfer against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax import Spec
from cdjax.networks.encoder import Encoder
from cdjax.optimization.losses import (
    Weights,
    find_targets,
    image_losses,
    relative_loss,
    total_variation,
)
from cdjax.transfer.statistics import gram
from tests import models

SPEC = Spec(2, (4, 6))
PARAMS = models.random_model((SPEC,)).params["stage2"]["encoder"]
CONTENT, STYLE, IMAGE = (
    models.random_image(*size, seed=seed) / 255
    for seed, size in enumerate(((12, 10), (9, 15), (12, 10)))
)


def features(image: np.ndarray) -> dict[str, np.ndarray]:
    """relu1_1, relu1_2 before its pooling, and relu2_1."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), PARAMS)
    found = models.encode(SPEC, PARAMS, image)
    found["relu1_2"] = np.maximum(models.convolve(found["relu1_1"], **params["conv1_2"]), 0)
    return found


def numpy_gram(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(-1, values.shape[-1])
    return flat.T @ flat / len(flat)


def relative(values: np.ndarray, target: np.ndarray) -> float:
    return float(np.square(values - target).mean() / np.square(target).mean())


def test_any_layer_of_an_encoder_can_be_had() -> None:
    encoder = Encoder(SPEC, layers=("relu1_2",))
    image = jnp.asarray(IMAGE, jnp.float32)[None]
    last, taps = jax.jit(encoder.apply)({"params": PARAMS}, image)
    assert list(taps) == ["relu1_1", "relu1_2", "relu2_1"]
    for name, wanted in features(IMAGE).items():
        np.testing.assert_allclose(taps[name][0], wanted, rtol=1e-4, atol=1e-5)
    # Nothing else has changed by it.
    np.testing.assert_array_equal(last, jax.jit(Encoder(SPEC).apply)({"params": PARAMS}, image)[0])
    with pytest.raises(ValueError, match="no layer relu2_2"):
        Encoder(SPEC, layers=("relu2_2",)).apply({"params": PARAMS}, image)


def test_losses_are_relative_to_their_targets() -> None:
    generator = np.random.default_rng(0)
    values, target = generator.random((2, 1, 5, 6, 3))
    np.testing.assert_allclose(relative_loss(values, target), relative(values, target), rtol=1e-5)
    matrices = [numpy_gram(a) for a in (values, target)]
    found = relative_loss(*(gram(jnp.asarray(a, jnp.float32)) for a in (values, target)))
    np.testing.assert_allclose(found, relative(*matrices), rtol=1e-4)
    # A network scaled by 10 has the same losses.
    scaled = relative_loss(10 * values, 10 * target)
    np.testing.assert_allclose(scaled, relative_loss(values, target), rtol=1e-6)
    assert np.isfinite(relative_loss(values, 0 * target))


def test_total_variation() -> None:
    down = np.mean([(IMAGE[i + 1, j] - IMAGE[i, j]) ** 2 for i in range(11) for j in range(10)])
    across = np.mean([(IMAGE[i, j + 1] - IMAGE[i, j]) ** 2 for i in range(12) for j in range(9)])
    np.testing.assert_allclose(total_variation(IMAGE[None]), down + across, rtol=1e-5)
    assert float(total_variation(jnp.ones((1, 4, 4, 3)))) == 0


def test_losses_of_an_image() -> None:
    content, style, image = (jnp.asarray(a, jnp.float32) for a in (CONTENT, STYLE, IMAGE))
    layers = ("relu1_2",), ("relu1_1", "relu2_1")
    targets = find_targets(SPEC, PARAMS, content, style, layers)
    shares = {"relu1_1": 5.0, "relu2_1": 7.0}
    weights = Weights(
        {"relu1_2": jnp.float32(3)}, jax.tree.map(jnp.float32, shares), jnp.float32(2)
    )
    found = image_losses(SPEC, PARAMS, targets, weights, image)
    ours, contents, styles = (features(a) for a in (IMAGE, CONTENT, STYLE))
    assert list(found) == ["content", "style", "total_variation"]
    wanted = 3 * relative(ours["relu1_2"], contents["relu1_2"])
    np.testing.assert_allclose(found["content"], wanted, rtol=1e-3)
    wanted = sum(
        share * relative(numpy_gram(ours[name]), numpy_gram(styles[name]))
        for name, share in shares.items()
    )
    np.testing.assert_allclose(found["style"], wanted, rtol=1e-3)
    np.testing.assert_allclose(found["total_variation"], 2 * total_variation(image[None]))
    own = image_losses(SPEC, PARAMS, targets, weights, content)
    assert float(own["content"]) < 1e-9 < float(own["style"])


def test_losses_count_what_is_visible() -> None:
    content, style, image = (jnp.asarray(a, jnp.float32) for a in (CONTENT, STYLE, IMAGE))
    generator = np.random.default_rng(1)
    seen = [generator.integers(0, 3, a.shape[:2]) / 2 for a in (CONTENT, STYLE)]
    layers = ("relu1_2",), ("relu1_1",)
    visible = tuple(jnp.asarray(mask, jnp.float32) for mask in seen)
    targets = find_targets(SPEC, PARAMS, content, style, layers, visible)
    one = jnp.float32(1)
    weights = Weights({"relu1_2": one}, {"relu1_1": one}, jnp.float32(0))
    found = image_losses(SPEC, PARAMS, targets, weights, image)
    ours, contents, styles = (features(a) for a in (IMAGE, CONTENT, STYLE))
    root = np.sqrt(seen[0] / seen[0].mean())[..., None]
    wanted = relative(root * ours["relu1_2"], root * contents["relu1_2"])
    np.testing.assert_allclose(found["content"], wanted, rtol=1e-3)
    grams = [
        np.einsum("hw,hwi,hwj->ij", mask, a["relu1_1"], a["relu1_1"]) / mask.sum()
        for mask, a in zip(seen, (ours, styles), strict=True)
    ]
    np.testing.assert_allclose(found["style"], relative(*grams), rtol=1e-3)
