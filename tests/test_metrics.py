from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cdjax import Spec
from cdjax.convert import convert_paper_16x, convert_wct_vgg19
from cdjax.metrics import gram, psnr, ssim, style_distance, unexplained_variance
from tests.models import encode, random_image, random_model

DEPTHS = (2, 1, 1, 1, 1)


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


def networks(shared_first=0):
    large, small = Spec(2, (6, 8), DEPTHS), Spec(2, (3, 4), DEPTHS)
    params = [
        random_model([s], seed=i).params["stage2"]["encoder"] for i, s in enumerate((small, large))
    ]
    return (small, params[0]), (large, params[1])


def test_unexplained_variance_is_that_of_the_least_squares_fit():
    small, large = networks()
    fit, test = random_image(5, 12, 16), random_image(3, 16, 12, seed=3)
    found = unexplained_variance(small, large, fit, test, batch=2)

    def rows(network, images, tap):
        taps = [encode(*network, image.astype(np.float64) / 255)[tap] for image in images]
        return np.concatenate([t.reshape(-1, t.shape[-1]) for t in taps])

    for tap in ("relu1_1", "relu2_1"):
        x, t = (rows(network, fit, tap) for network in (small, large))
        solution = np.linalg.lstsq(np.c_[x, np.ones(len(x))], t)[0]
        x, t = (rows(network, test, tap) for network in (small, large))
        residual = np.square(np.c_[x, np.ones(len(x))] @ solution - t).sum()
        wanted = residual / np.square(t - t.mean(0)).sum()
        np.testing.assert_allclose(found[tap], wanted, rtol=1e-3)


def test_a_network_explains_itself():
    _, large = networks()
    fit, test = random_image(4, 16, 16), random_image(2, 16, 16, seed=3)
    assert max(unexplained_variance(large, large, fit, test).values()) < 1e-5


def test_a_relu_behind_the_embedding_finds_a_rectified_map():
    # The teacher's relu1_1 here is relu of an affine map of the student's, which only `relu` sees.
    spec = Spec(1, (4,), DEPTHS)
    small = random_model([spec], seed=0).params["stage1"]["encoder"]
    small["conv1_1"]["bias"] = small["conv1_1"]["bias"] + 10  # So that no channel is ever cut off.
    mixing = np.random.default_rng(1).normal(size=(4, 9))
    kernel = np.asarray(small["conv1_1"]["kernel"]) @ mixing
    fit, test = random_image(6, 24, 24), random_image(3, 24, 24, seed=3)
    values = encode(spec, small, fit[0].astype(np.float64) / 255)["relu1_1"] @ mixing
    bias = np.asarray(small["conv1_1"]["bias"]) @ mixing - np.median(values, (0, 1))
    large = {
        "conv0": small["conv0"],
        "conv1_1": {
            "kernel": jnp.asarray(kernel, jnp.float32),
            "bias": jnp.asarray(bias, jnp.float32),
        },
    }
    pair = (spec, small), (Spec(1, (9,), DEPTHS), large)
    affine = unexplained_variance(*pair, fit, test)["relu1_1"]
    relu = unexplained_variance(*pair, fit, test, form="relu")["relu1_1"]
    assert relu < 0.02 < 0.1 < affine


def test_wrong_arguments_are_refused():
    small, large = networks()
    images = random_image(2, 16, 16)
    with pytest.raises(ValueError, match="form must be one of"):
        unexplained_variance(small, large, images, images, form="cubic")
    with pytest.raises(ValueError, match="images to fit"):
        unexplained_variance(small, large, images[:0], images)


def test_the_published_model_measures_as_recorded(shared: Path):
    # METHOD.md: 0.034, 0.197, 0.389 affine; these few crops scatter around that.
    teacher = convert_wct_vgg19(shared / "reference/vgg19_normalised")
    published = convert_paper_16x(shared / "reference/wct16x")
    files = sorted((shared / "images/content").glob("*.jpg"))[::60]
    crops = [np.asarray(Image.open(file).convert("RGB"))[40:136, 40:136] for file in files]
    images = np.stack(crops)
    spec = next(s for s in published.config.specs if s.stage == 3)
    found = unexplained_variance(
        (spec, published.params["stage3"]["encoder"]),
        (teacher.config.specs[0], teacher.params["stage3"]["encoder"]),
        images[:45],
        images[45:],
    )
    np.testing.assert_allclose(list(found.values()), [0.034, 0.197, 0.389], rtol=0.2)


def test_metrics_can_be_compiled():
    images = jnp.asarray(random_image(1, 16, 16), jnp.float32) / 255
    assert jax.jit(ssim)(images, images).shape == (1,)
    assert jax.jit(psnr)(images, images + 0.1).shape == (1,)
