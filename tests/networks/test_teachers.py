import jax
import numpy as np
import pytest

from cdjax.errors import TeacherError
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.networks.teachers import normalize, normalized_teacher, teacher_encoder
from tests.models import random_image, random_model

SPEC = Spec(3, (6, 8, 10), (2, 2, 1, 1, 1))


def network():
    params = random_model([SPEC]).params["stage3"]["encoder"]
    scale = 10.0 ** np.random.default_rng(0).uniform(-2, 2, 8).astype(np.float32)
    params["conv2_1"] = jax.tree.map(lambda leaf: leaf * scale, params["conv2_1"])
    return params


def taps(params, images, spec=SPEC):
    return apply(Encoder(spec), params, images.astype(np.float32) / 255)[1]


def test_normalised_taps_are_the_old_ones_over_their_means():
    images = random_image(5, 16, 20)
    params = network()
    normalized = normalize(SPEC, params, images, batch=2)
    before, after = taps(params, images), taps(normalized, images)
    for name, values in before.items():
        mean = np.asarray(values, np.float64).mean((0, 1, 2))
        alive = mean > 0
        assert alive.sum() > 2
        wanted = (values / np.where(alive, mean, 1))[..., alive]
        np.testing.assert_allclose(after[name][..., alive], wanted, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(np.mean(after[name], (0, 1, 2))[alive], 1, rtol=1e-4)
    np.testing.assert_array_equal(normalized["conv0"]["kernel"], params["conv0"]["kernel"])


def test_dead_filters_stay_as_they_are():
    images = random_image(3, 16, 16)
    params = network()
    params["conv1_2"]["bias"] = params["conv1_2"]["bias"].at[2].set(-1e6)
    normalized = normalize(SPEC, params, images)
    assert float(normalized["conv1_2"]["bias"][2]) == -1e6
    assert all(bool(np.isfinite(leaf).all()) for leaf in jax.tree.leaves(normalized))
    means = np.mean(taps(normalized, images)["relu3_1"], (0, 1, 2))
    np.testing.assert_allclose(means[means > 0], 1, rtol=1e-4)


def test_normalising_needs_images():
    with pytest.raises(ValueError, match="uint8"):
        normalize(SPEC, network(), np.zeros((0, 16, 16, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        normalize(SPEC, network(), np.zeros((1, 16, 16, 3), np.float32))


def test_a_normalised_teacher_says_so():
    model = random_model([SPEC], method="encoder")
    made = normalized_teacher(model, random_image(2, 16, 16))
    assert made.config.teacher == "random-normalised"
    assert made.config.method == "encoder"
    assert set(made.params["stage3"]) == {"encoder"}


def test_a_stage_is_cut_from_a_deeper_encoder():
    model = random_model([SPEC], method="encoder")
    spec, params = teacher_encoder(model, 2)
    assert (spec.stage, spec.widths) == (2, (6, 8))
    assert set(params) == {"conv0", "conv1_1", "conv1_2", "conv2_1"}
    images = random_image(1, 16, 16)
    whole, cut = taps(model.params["stage3"]["encoder"], images), taps(params, images, spec)
    np.testing.assert_allclose(cut["relu2_1"], whole["relu2_1"], rtol=1e-5)
    with pytest.raises(TeacherError, match="reaches stage 3, not stage 4"):
        teacher_encoder(model, 4)


def test_a_stage_of_its_own_comes_before_a_deeper_one():
    model = random_model()
    spec, params = teacher_encoder(model, 1)
    assert spec == model.config.specs[-1]
    kernel = model.params["stage1"]["encoder"]["conv1_1"]["kernel"]
    np.testing.assert_array_equal(params["conv1_1"]["kernel"], kernel)
