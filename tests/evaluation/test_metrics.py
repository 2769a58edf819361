import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.evaluation.metrics import psnr, ssim, style_distance
from cdjax.transfer.statistics import gram
from tests.models import random_image


def numpy_ssim(x, y):
    """The definition, one window at a time, for (H, W, C) in float64."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for channel in range(x.shape[-1]):
        for row in range(x.shape[0] - 10):
            for column in range(x.shape[1] - 10):
                a, b = (v[row : row + 11, column : column + 11, channel] for v in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                variances = (window * (a - mean_a) ** 2).sum() + (window * (b - mean_b) ** 2).sum()
                covariance = (window * (a - mean_a) * (b - mean_b)).sum()
                first = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
                values.append(first * (2 * covariance + 9e-4) / (variances + 9e-4))
    return np.mean(values)


def test_ssim_equals_its_definition():
    images = random_image(2, 18, 24).astype(np.float64) / 255
    noisy = np.clip(images + 0.1 * np.random.default_rng(0).normal(size=images.shape), 0, 1)
    wanted = [numpy_ssim(a, b) for a, b in zip(images, noisy, strict=True)]
    found = ssim(images.astype(np.float32), noisy.astype(np.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(ssim(images, images), 1, atol=1e-6)
    np.testing.assert_allclose(ssim(noisy, images), found, atol=1e-6)


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="11x11"):
        ssim(np.zeros((1, 10, 20, 3)), np.zeros((1, 10, 20, 3)))


def test_psnr():
    images = np.full((2, 4, 4, 3), 0.5, np.float32)
    np.testing.assert_allclose(psnr(images, images + 0.1), 20, atol=1e-3)
    assert np.isinf(psnr(images, images)).all()
    # A file cannot hold 1.5.
    assert np.isinf(psnr(images + 1, np.ones_like(images))).all()


def test_style_distance_sees_statistics_and_not_places():
    features = jnp.asarray(np.random.default_rng(0).random((1, 4, 6, 3)), jnp.float32)
    moved = jnp.roll(features, (1, 2), axis=(1, 2))
    assert float(style_distance({"relu1_1": moved}, {"relu1_1": features})["relu1_1"][0]) < 1e-12
    doubled = style_distance({"a": 2 * features}, {"a": features})["a"]
    flat = np.asarray(features, np.float64).reshape(-1, 3)
    wanted = np.square(3 * flat.T @ flat / 24).mean()
    np.testing.assert_allclose(doubled, [wanted], rtol=1e-5)
    assert gram(features).shape == (1, 3, 3)
    with pytest.raises(KeyError):
        style_distance({"a": features}, {})


def test_metrics_can_be_compiled():
    images = jnp.asarray(random_image(1, 16, 16), jnp.float32) / 255
    assert jax.jit(ssim)(images, images).shape == (1,)
    assert jax.jit(psnr)(images, images + 0.1).shape == (1,)
