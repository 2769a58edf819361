from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cdjax import Spec, student
from cdjax.checkpoints.pytorch import convert_wct_vgg19
from cdjax.checkpoints.torch_file import read_torch_file
from cdjax.distillation.config import Start
from cdjax.distillation.initialization.initialize import initialize_decoder, initialize_encoder
from cdjax.evaluation.metrics import psnr
from cdjax.networks.decoder import Decoder
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.teachers import normalize
from tests.evaluated import unexplained_variance
from tests.models import random_image, random_model

DEPTHS = (2, 2, 1, 1, 1)
TEACHER = Spec(2, (12, 16), DEPTHS)
STUDENT = Spec(2, (5, 7), DEPTHS)
KEY = jax.random.key(0)
EVERYWHERE = 24 * 32 * 32
START = Start(positions=EVERYWHERE, iterations=15, image_weight=0.0)


def teacher_pair():
    """A teacher that looks at contrasts alone, so that no unit is dead; normalised."""
    params = random_model([TEACHER]).params["stage2"]
    encoder = {
        name: {
            "kernel": layer["kernel"] - layer["kernel"].mean((0, 1, 2)),
            "bias": 0 * layer["bias"],
        }
        for name, layer in params["encoder"].items()
    }
    encoder["conv0"] = {
        "kernel": 4 * jnp.eye(3)[None, None],
        "bias": jnp.full(3, -2.0),
    }
    encoder = normalize(TEACHER, encoder, random_image(8, 32, 32, seed=5))
    return TEACHER, params | {"encoder": encoder}


def encoder_of(pair):
    return pair[0], pair[1]["encoder"]


@pytest.fixture(scope="module")
def images():
    return random_image(24, 32, 32)


@pytest.fixture(scope="module")
def fitted(images):
    return initialize_encoder(KEY, STUDENT, encoder_of(teacher_pair()), images, start=START)


def test_lsq_explains_more_of_the_teacher_than_pruning_and_chance(images, fitted):
    teacher = encoder_of(teacher_pair())
    test = random_image(8, 32, 32, seed=7)

    def unexplained(params):
        return unexplained_variance((STUDENT, params["encoder"]), teacher, images, test)

    results = {
        method: unexplained(initialize_encoder(KEY, STUDENT, teacher, images, start=Start(method)))
        for method in ("random", "l1")
    }
    for tap, value in unexplained(fitted).items():
        assert value < 0.95 * min(result[tap] for result in results.values()), tap


def test_lsq_descends_from_its_linear_start(images, fitted):
    teacher = encoder_of(teacher_pair())
    start = initialize_encoder(KEY, STUDENT, teacher, images, start=replace(START, iterations=0))
    test = random_image(8, 32, 32, seed=7)
    before, after = (
        unexplained_variance((STUDENT, p["encoder"]), teacher, images, test)
        for p in (start, fitted)
    )
    assert all(after[tap] < before[tap] for tap in before)


def test_lsq_channels_have_a_mean_activation_of_one(images, fitted):
    # The last eighth of the images is not fitted.
    _, taps = apply(Encoder(STUDENT), fitted["encoder"], images[:21].astype(np.float32) / 255)
    for features in taps.values():
        np.testing.assert_allclose(features.mean((0, 1, 2)), 1, atol=0.01)


def test_lsq_embeddings_are_near_the_best_ones(images, fitted):
    spec, params = teacher = encoder_of(teacher_pair())
    values = images.astype(np.float32) / 255
    _, taps = apply(Encoder(STUDENT), fitted["encoder"], values)
    _, targets = apply(Encoder(spec), params, values)
    embedded = apply(Embedding(STUDENT, spec.widths), fitted["embedding"], taps)
    best = unexplained_variance((STUDENT, fitted["encoder"]), teacher, images, images)
    for tap, value in best.items():
        target = np.asarray(targets[tap], np.float64)
        error = np.square(np.asarray(embedded[tap]) - target).sum()
        assert error / np.square(target - target.mean((0, 1, 2))).sum() < 1.1 * value + 1e-3


def test_image_weight_makes_features_that_tell_more_of_the_image(images, fitted):
    weighted = initialize_encoder(
        KEY, STUDENT, encoder_of(teacher_pair()), images, start=replace(START, image_weight=10.0)
    )
    values = images.astype(np.float32)[:, ::2, ::2].reshape(-1, 3)

    def residual(params):
        features, _ = apply(Encoder(STUDENT), params, images.astype(np.float32) / 255)
        columns = np.asarray(features).reshape(len(values), -1)
        design = np.concatenate([columns, np.ones_like(columns[:, :1])], -1)
        return np.linalg.lstsq(design, values)[1].sum()

    assert residual(weighted["encoder"]) < residual(fitted["encoder"])


@pytest.mark.parametrize("method", ["random", "l1", "lsq"])
def test_every_method_makes_all_parameters(method, images, fitted):
    teacher, start = teacher_pair(), replace(START, method=method, iterations=1)
    made = initialize_encoder(KEY, STUDENT, encoder_of(teacher), images, start=start)
    big = TEACHER, teacher[1]["decoder"]
    decoder = initialize_decoder(KEY, STUDENT, made["encoder"], images, start=start, teacher=big)
    small = random_model([STUDENT]).params["stage2"]
    assert jax.tree.map(jnp.shape, made["encoder"]) == jax.tree.map(jnp.shape, small["encoder"])
    assert jax.tree.map(jnp.shape, decoder) == jax.tree.map(jnp.shape, small["decoder"])
    assert {k: v["kernel"].shape for k, v in made["embedding"].items()} == {
        "relu1_1": (5, 12),
        "relu2_1": (7, 16),
    }
    leaves = jax.tree.leaves((made, decoder))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
    for part in ("kernel", "bias"):
        np.testing.assert_array_equal(
            made["encoder"]["conv0"][part], teacher[1]["encoder"]["conv0"][part]
        )


def test_the_same_key_makes_the_same_parameters(images):
    def make(seed):
        return initialize_encoder(
            jax.random.key(seed), STUDENT, encoder_of(teacher_pair()), images,
            start=Start(positions=2000, iterations=0),
        )  # fmt: skip

    first, again, other = make(1), make(1), make(2)
    same = jax.tree.map(lambda a, b: bool((a == b).all()), first, again)
    assert all(jax.tree.leaves(same))
    kernels = [p["encoder"]["conv2_1"]["kernel"] for p in (first, other)]
    assert not np.array_equal(*kernels)


def test_lsq_decoder_beats_the_others(images, fitted):
    test = random_image(8, 32, 32, seed=7).astype(np.float32) / 255
    encoder = fitted["encoder"]
    features, _ = apply(Encoder(STUDENT), encoder, test)

    def quality(method):
        decoder = initialize_decoder(
            KEY, STUDENT, encoder, images,
            start=replace(START, method=method), teacher=(TEACHER, teacher_pair()[1]["decoder"]),
        )  # fmt: skip
        return float(psnr(apply(Decoder(STUDENT), decoder, features), test).mean())

    constant = float(psnr(np.broadcast_to(test.mean((0, 1, 2)), test.shape), test).mean())
    assert quality("lsq") > max(constant, quality("random"), quality("l1")) + 1


def test_zero_padding_is_fitted_as_it_is_run():
    spec, small = (Spec(1, (width,), DEPTHS, padding="zero") for width in (8, 8))
    params = random_model([spec]).params["stage1"]["encoder"]
    images = random_image(12, 16, 16)
    start = Start(positions=4000, iterations=5, image_weight=0.0)
    made = initialize_encoder(KEY, small, (spec, params), images, start=start)
    # A student as wide as its teacher has nothing to lose.
    found = unexplained_variance((small, made["encoder"]), (spec, params), images, images)
    assert max(found.values()) < 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "method must be one of"),
        ({"images": np.zeros((3, 16, 16, 3), np.float32)}, "uint8 images"),
        ({"images": np.zeros((1, 16, 16, 3), np.uint8)}, "at least two"),
        ({"student": Spec(3, (5, 7, 9), DEPTHS)}, "cannot be made from"),
        ({"student": Spec(2, (5, 17), DEPTHS)}, "exceeds its teacher's"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    arguments = {
        "student": STUDENT,
        "images": random_image(4, 16, 16),
        "method": "lsq",
    } | change
    with pytest.raises(ValueError, match=message):
        initialize_encoder(
            KEY, arguments["student"], encoder_of(teacher_pair()), arguments["images"],
            start=Start(arguments["method"]),
        )  # fmt: skip


def test_l1_decoder_needs_a_teacher(images):
    with pytest.raises(ValueError, match="no teacher"):
        initialize_decoder(KEY, STUDENT, {}, images, start=Start("l1"))


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_l1_equals_the_published_initialisation(shared: Path, stage: int):
    model = convert_wct_vgg19(shared / "reference/vgg19_normalised")
    spec = next(spec for spec in model.config.specs if spec.stage == stage)
    params = model.params[f"stage{stage}"]
    nothing = np.zeros((0, 8, 8, 3), np.uint8)
    small = student(stage)
    start, big = Start("l1"), (spec, params["decoder"])
    encoder = initialize_encoder(KEY, small, (spec, params["encoder"]), nothing, start=start)
    decoder = initialize_decoder(KEY, small, encoder["encoder"], nothing, start=start, teacher=big)
    for letter, made in (("e", encoder["encoder"]), ("d", decoder)):
        published = read_torch_file(shared / f"reference/wct16x_l1_init/{letter}{stage}_base.pth")
        names = {name.replace("_", ""): layer for name, layer in made.items()}
        wanted = {name for name in published if "aux" not in name}
        assert wanted == {f"{name}.{part}" for name in names for part in ("weight", "bias")}
        for name, layer in names.items():
            kernel = np.asarray(layer["kernel"]).transpose(3, 2, 0, 1)
            np.testing.assert_array_equal(kernel, published[f"{name}.weight"])
            np.testing.assert_array_equal(layer["bias"], published[f"{name}.bias"])


def test_lsq_on_photographs_beats_pruning(shared: Path):
    model = convert_wct_vgg19(shared / "reference/vgg19_normalised")
    teacher = model.config.specs[1], model.params["stage2"]["encoder"]
    files = sorted((shared / "images/content").glob("*.jpg"))[::60][:56]
    crops = [np.asarray(Image.open(file).convert("RGB"))[40:88, 40:88] for file in files]
    images = np.stack(crops)
    fit, test = images[:48], images[48:]

    def unexplained(method):
        made = initialize_encoder(
            KEY, student(2), teacher, fit,
            start=replace(START, method=method, positions=4_000, iterations=4),
        )  # fmt: skip
        return unexplained_variance((student(2), made["encoder"]), teacher, fit, test)

    lsq, l1 = unexplained("lsq"), unexplained("l1")
    assert lsq["relu1_1"] < 0.12 < l1["relu1_1"]
    assert lsq["relu2_1"] < 0.3 < l1["relu2_1"]
