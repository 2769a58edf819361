"""Statistics and the affine maps made of them."""

import argparse
import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.typing import ArrayLike
from numpy.typing import NDArray

from cdjax.cli.parser import add_transform_option
from cdjax.model import TRANSFORM_NAMES
from cdjax.transfer.statistics import Moments, moments
from cdjax.transfer.transforms import TRANSFORMS, Transform, adain, ot, wct


def features(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    mix = generator.normal(size=(shape[-1], shape[-1]))
    return (np.maximum(generator.normal(size=shape) @ mix, 0) + seed).astype(np.float32)


def covariance(features: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.cov(np.asarray(features, np.float64).reshape(-1, features.shape[-1]).T)


def original_wct(content: NDArray[np.float32], style: NDArray[np.float32]) -> NDArray[np.float64]:
    """The paper's formula in float64, with singular values."""

    def flat(image: NDArray[np.float32]) -> NDArray[np.float64]:
        return image.reshape(-1, image.shape[-1]).T.astype(np.float64)

    def power(matrix: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
        vectors, values, _ = np.linalg.svd(matrix)
        kept = values > 1e-12 * values[0]
        return (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T

    c, s = flat(content), flat(style)
    whitened = power(np.cov(c), -0.5) @ (c - c.mean(1, keepdims=True))
    coloured = power(np.cov(s), 0.5) @ whitened + s.mean(1, keepdims=True)
    return coloured.T.reshape(content.shape)


def test_moments_equal_numpy() -> None:
    image = features(7, 9, 4)
    result = moments(jnp.asarray(image))
    assert result.count == 63
    np.testing.assert_allclose(result.mean, image.reshape(-1, 4).mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.covariance, covariance(image), rtol=1e-4)


def test_weights_count_as_repetitions_do() -> None:
    image, times = features(5, 6, 4), np.random.default_rng(1).integers(0, 4, (5, 6))
    result = moments(jnp.asarray(image), jnp.asarray(times, jnp.float32))
    repeated = np.repeat(image.reshape(-1, 4), times.ravel(), axis=0)
    assert result.count == len(repeated)
    np.testing.assert_allclose(result.mean, repeated.mean(0), rtol=1e-5)
    np.testing.assert_allclose(result.covariance, covariance(repeated), rtol=1e-4)
    half = moments(jnp.asarray(image), jnp.asarray(times / 2, jnp.float32))
    np.testing.assert_allclose(half.mean, result.mean, rtol=1e-6)
    np.testing.assert_allclose(2 * half.scatter, result.scatter, rtol=1e-6)


def test_gradients_of_weighted_moments_equal_those_of_plain_sums() -> None:
    image, weights = jnp.asarray(features(5, 6, 4)), jnp.asarray(features(5, 6, 1)[..., 0])
    factor = jnp.asarray(features(1, 4, 4)[0])

    def loss(count: jax.Array, mean: jax.Array, scatter: jax.Array) -> jax.Array:
        return count**2 + jnp.sum(mean**3) + jnp.sum(factor * scatter)

    def plainly(image: jax.Array, weights: jax.Array) -> jax.Array:
        count = weights.sum()
        mean = jnp.einsum("hw,hwc->c", weights, image) / count
        apart = image - mean
        return loss(count, mean, jnp.einsum("hw,hwc,hwd->cd", weights, apart, apart))

    def found(image: jax.Array, weights: jax.Array) -> jax.Array:
        result = moments(image, weights)
        return loss(result.count, result.mean, result.scatter)

    wanted = jax.jit(jax.grad(plainly, (0, 1)))(image, weights)
    gradients = jax.jit(jax.grad(found, (0, 1)))(image, weights)
    for gradient, expected in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(
            gradient, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max()
        )


def test_wct_equals_the_formula_and_gives_the_styles_mean_and_covariance() -> None:
    content, style = features(20, 30, 8), features(25, 15, 8, seed=1)
    result = wct(moments(jnp.asarray(content)), moments(jnp.asarray(style)))(jnp.asarray(content))
    expected = original_wct(content, style)
    assert np.abs(result - expected).max() < 1e-4 * np.abs(expected).max()
    np.testing.assert_allclose(result.mean((0, 1)), style.mean((0, 1)), atol=1e-3)
    np.testing.assert_allclose(covariance(np.asarray(result)), covariance(style), atol=1e-2)


def test_optimal_transport_is_the_formula_and_moves_features_less_than_wct() -> None:
    content, style = features(20, 30, 8), features(25, 15, 8, seed=1)
    pair = moments(jnp.asarray(content)), moments(jnp.asarray(style))
    found = ot(*pair)
    before, after = (covariance(image) for image in (content, style))
    root = scipy.linalg.sqrtm(before)
    inverse = np.linalg.inv(root)
    wanted = inverse @ scipy.linalg.sqrtm(root @ after @ root) @ inverse
    np.testing.assert_allclose(found.matrix, wanted, atol=1e-3 * np.abs(wanted).max())
    result = np.asarray(found(jnp.asarray(content)))
    np.testing.assert_allclose(result.mean((0, 1)), style.mean((0, 1)), atol=1e-3)
    np.testing.assert_allclose(covariance(result), after, atol=1e-2)
    moved = [np.square(image - content).mean() for image in (result, wct(*pair)(content))]
    assert moved[0] < 0.99 * moved[1]


@pytest.mark.parametrize("transform", [wct, ot])
def test_regularization_adds_to_the_variances_of_both(transform: Transform) -> None:
    pair = [moments(jnp.asarray(features(9, 9, 4, seed=seed))) for seed in (1, 2)]
    shift = 0.1 * sum(np.trace(part.covariance) / 4 for part in pair) / 2
    shifted = [
        replace(part, scatter=part.scatter + shift * (part.count - 1) * jnp.eye(4)) for part in pair
    ]
    found, wanted = transform(*pair, 1.0, 0.1), transform(*shifted, 1.0, 0.0)
    np.testing.assert_allclose(found.matrix, wanted.matrix, rtol=1e-4, atol=1e-5)
    assert np.abs(found.matrix - transform(*pair, 1.0, 0.0).matrix).max() > 1e-2


def test_adain_gives_the_styles_mean_and_deviation_only() -> None:
    content, style = features(20, 30, 8), features(25, 15, 8, seed=1)
    result = adain(moments(jnp.asarray(content)), moments(jnp.asarray(style)))(jnp.asarray(content))
    np.testing.assert_allclose(result.mean((0, 1)), style.mean((0, 1)), atol=1e-3)
    np.testing.assert_allclose(result.std((0, 1)), style.std((0, 1)), rtol=2e-3)
    correlation = np.corrcoef(np.asarray(result).reshape(-1, 8).T)
    np.testing.assert_allclose(correlation, np.corrcoef(content.reshape(-1, 8).T), atol=1e-3)


@pytest.mark.parametrize("transform", [wct, ot, adain])
def test_alpha_blends_from_identity(transform: Transform) -> None:
    content, style = jnp.asarray(features(9, 9, 4)), jnp.asarray(features(9, 9, 4, seed=2))
    pair = moments(content), moments(style)
    none, half, full = (transform(*pair, alpha, 0.0)(content) for alpha in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(none, content, atol=1e-5)
    np.testing.assert_allclose(half, (none + full) / 2, atol=1e-3)


DEGENERATE = {
    "constant": np.full((6, 6, 8), 0.7, np.float32),
    "zero": np.zeros((6, 6, 8), np.float32),
    "one position": features(1, 1, 8),
    "fewer positions than channels": features(2, 2, 8),
    "dead channels": features(6, 6, 8) * np.array([1, 1, 0, 1, 0, 0, 1, 1], np.float32),
    "linearly dependent": np.concatenate([features(6, 6, 4)] * 2, axis=-1),
}


@partial(jax.jit, static_argnums=0)
def mapped_with_gradients(
    transform: Transform, content: jax.Array, style: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The content with the style's statistics, and the gradients of the sum of its squares."""

    def loss(content: jax.Array, style: jax.Array) -> tuple[jax.Array, jax.Array]:
        mapped = transform(moments(content), moments(style), 1.0, 0.0)(content)
        return jnp.sum(mapped**2), mapped

    gradients, mapped = jax.grad(loss, (0, 1), has_aux=True)(content, style)
    return mapped, gradients


@pytest.mark.parametrize("transform", [wct, ot, adain])
@pytest.mark.parametrize("content", DEGENERATE)
@pytest.mark.parametrize("style", ["constant", "one position", "dead channels"])
def test_degenerate_features_stay_finite_with_finite_gradients(
    transform: Transform, content: str, style: str
) -> None:
    pair = DEGENERATE[content], DEGENERATE[style]
    found, gradients = mapped_with_gradients(transform, *pair)
    mapped = np.asarray(found)
    assert np.isfinite(mapped).all()
    assert mapped.any()
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    # The mean of the style is reached whatever the content's rank.
    np.testing.assert_allclose(mapped.mean((0, 1)), pair[1].mean((0, 1)), atol=2e-2)
    limit = 20 * (np.abs(pair[1]).max() + 1)
    assert np.abs(mapped).max() < limit


@pytest.mark.parametrize("transform", [wct, ot])
def test_rounding_errors_of_one_colour_do_not_become_contrast(transform: Transform) -> None:
    shape, noise = (12, 12, 6), np.random.default_rng(4).normal(size=(12, 12, 6))
    colour = np.broadcast_to(np.linspace(0.2, 2, 6), shape)
    style = jnp.asarray(features(12, 12, 6, seed=2))

    @jax.jit
    def contrast(content: ArrayLike) -> jax.Array:
        return jnp.std(transform(moments(content), moments(style), 1.0, 0.0)(content), (0, 1))

    rounded = np.asarray(colour + 2e-5 * noise, np.float32)
    assert contrast(rounded).max() < 1e-3
    # What is faint and no rounding error becomes as strong as in the style, and the errors do not.
    rounded[..., :2] += 0.02 * np.asarray(noise[::-1, :, :2], np.float32)
    assert contrast(rounded).max() > 0.3
    varied = np.asarray(transform(moments(rounded), moments(style), 1.0, 0.0)(rounded))
    assert np.linalg.matrix_rank(np.cov(varied.reshape(-1, 6).T), tol=1e-3) == 2


@pytest.mark.parametrize("transform", [wct, ot])
def test_gradients_equal_finite_differences(transform: Transform) -> None:
    content, style = jnp.asarray(features(12, 12, 5)), jnp.asarray(features(12, 12, 5, seed=3))
    weights = jnp.asarray(np.random.default_rng(5).normal(size=content.shape), jnp.float32)

    @jax.jit
    @jax.value_and_grad
    def loss(content: jax.Array) -> jax.Array:
        return jnp.sum(weights * transform(moments(content), moments(style), 1.0, 0.0)(content))

    _, gradient = loss(content)
    slope = np.linalg.norm(gradient)
    step = 0.01 * gradient / slope
    difference = (loss(content + step)[0] - loss(content - step)[0]) / 0.02
    np.testing.assert_allclose(slope, difference, rtol=2e-2)


def test_eigenvalues_of_a_batch_are_not_found_at_once() -> None:
    """Two batched decompositions in one program can wait for each other for ever on a CPU."""
    batch = Moments(jnp.full((2,), 9.0), jnp.zeros((2, 4)), jnp.stack([jnp.eye(4)] * 2))
    found = re.findall(r":f64\[([\d,]*)\].* = eigh", str(jax.make_jaxpr(wct)(batch, batch)))
    assert found
    assert {shape.count(",") for shape in found} == {1}


def test_every_transform_has_one_name_everywhere() -> None:
    parser = argparse.ArgumentParser()
    add_transform_option(parser)
    (option,) = (action for action in parser._actions if action.dest == "transform")
    assert list(option.choices or ()) == list(TRANSFORM_NAMES) == list(TRANSFORMS)
