"""The share of a teacher's variance that a student does not explain, against NumPy."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cdjax import Spec
from cdjax.checkpoints.pytorch import convert_paper_16x, convert_wct_vgg19
from tests.evaluated import DEPTHS, unexplained_variance
from tests.models import encode, random_image, random_model


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
    with pytest.raises(ValueError, match="images to fit"):
        unexplained_variance(small, large, images[:0], images)


def test_the_published_model_measures_as_recorded(shared: Path):
    # METHOD.md: 0.034, 0.197, 0.389 affine; these few crops scatter around that.
    teacher = convert_wct_vgg19(shared / "reference/vgg19_normalised")
    published = convert_paper_16x(shared / "reference/wct16x")
    files = sorted((shared / "images/content").glob("*.jpg"))[::60]
    crops = [np.asarray(Image.open(file).convert("RGB"))[40:104, 40:104] for file in files]
    images = np.stack(crops)
    spec = next(s for s in published.config.specs if s.stage == 3)
    found = unexplained_variance(
        (spec, published.params["stage3"]["encoder"]),
        (teacher.config.specs[0], teacher.params["stage3"]["encoder"]),
        images[:45],
        images[45:],
    )
    np.testing.assert_allclose(list(found.values()), [0.034, 0.197, 0.389], rtol=0.2)
