"""Results of the original PyTorch code, recorded in ../shared, against ours on the same weights.

Where ../shared is absent, `test_networks`, `test_transform`, `test_stylization` and `test_convert`
check the same paths against independent NumPy versions on weights made on the spot.
"""

import dataclasses
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from cdjax import Model, load_model, save_model, stylize
from cdjax.checkpoints.pytorch import convert_paper_16x, convert_vgg, convert_wct_vgg19
from cdjax.networks.decoder import Decoder
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.spec import TEACHER_WIDTHS, Spec

Golden = dict[str, NDArray[np.float32]]


def load(path: Path) -> Golden:
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def paper(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The published model, by way of the converter and a checkpoint."""
    path = tmp_path_factory.mktemp("models") / "paper-16x"
    save_model(path, convert_paper_16x(shared / "reference" / "wct16x"))
    return load_model(path)


@pytest.fixture(scope="module")
def vgg19(shared: Path) -> Model:
    return convert_wct_vgg19(shared / "reference" / "vgg19_normalised")


def assert_close(ours: object, golden: NDArray[np.float32]) -> None:
    difference = np.abs(np.asarray(ours) - golden).max()
    assert difference <= 1e-4 * np.abs(golden).max()


def assert_same_picture(ours: object, golden: NDArray[np.float32]) -> None:
    """At most 2 grey levels anywhere and a PSNR of at least 60 dB, as 8-bit images."""
    left, right = (np.round(255 * np.clip(np.asarray(image), 0, 1)) for image in (ours, golden))
    assert np.abs(left - right).max() <= 2
    assert 10 * np.log10(255**2 / max(np.mean((left - right) ** 2), 1e-9)) >= 60


def spec_of(model: Model, stage: int) -> Spec:
    return next(spec for spec in model.config.specs if spec.stage == stage)


@pytest.mark.parametrize("stage", range(1, 6))
def test_published_student_networks(shared: Path, paper: Model, stage: int) -> None:
    golden = load(shared / "reference/golden/wct16x_a.npz")
    spec, params = spec_of(paper, stage), paper.params[f"stage{stage}"]
    image = jnp.asarray(golden["feature_image"], jnp.float32)[None] / 255
    features, taps = jax.jit(Encoder(spec).apply)({"params": params["encoder"]}, image)
    assert_close(features[0], golden[f"se{stage}"])
    embedding = Embedding(spec, TEACHER_WIDTHS[:stage])
    embedded = embedding.apply({"params": params["embedding"]}, taps)[f"relu{stage}_1"]
    assert_close(embedded[0, ::4, ::4], golden[f"aux{stage}"])
    decoded = jax.jit(Decoder(spec).apply)({"params": params["decoder"]}, features)
    assert_close(decoded[0], golden[f"sd{stage}"])


@pytest.mark.parametrize(("name", "file"), [("paper", "wct16x_a"), ("vgg19", "vgg19_stages123")])
def test_cascades_stage_by_stage(
    shared: Path, name: str, file: str, request: pytest.FixtureRequest
) -> None:
    model: Model = request.getfixturevalue(name)
    golden = load(shared / f"reference/golden/{file}.npz")
    image = golden["content"]
    for spec in model.config.specs:
        config = dataclasses.replace(model.config, specs=(spec,))
        recorded = golden[f"stage{spec.stage}"]
        stage = Model(model.params, config)
        # Traced, because concrete pixels above 1 are refused.
        result = jax.jit(partial(stylize, stage))(image, golden["style"])
        assert_same_picture(result, recorded)
        # Not our result, which is clipped: between stages the original keeps values above 1.
        image = recorded


@pytest.mark.parametrize(("name", "alpha"), [("stage1", 1.0), ("stylized_alpha06", 0.6)])
def test_published_cascade(shared: Path, paper: Model, name: str, alpha: float) -> None:
    # Another pair than the one that goes stage by stage.
    golden = load(shared / "reference/golden/wct16x_b.npz")
    result = stylize(paper, golden["content"], golden["style"], alpha=alpha)
    assert_same_picture(result, golden[name])


def test_published_model_counts_as_in_the_paper(paper: Model) -> None:
    networks = [
        network[name] for network in paper.params.values() for name in ("encoder", "decoder")
    ]
    assert sum(leaf.size for leaf in jax.tree.leaves(networks)) == 2_146_003


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_teacher_networks(shared: Path, vgg19: Model, stage: int) -> None:
    golden = load(shared / "reference/golden/vgg19_stages123.npz")
    spec, params = spec_of(vgg19, stage), vgg19.params[f"stage{stage}"]
    image = jnp.asarray(golden["feature_image"], jnp.float32)[None] / 255
    features, _ = jax.jit(Encoder(spec).apply)({"params": params["encoder"]}, image)
    assert_close(features[0, ::2, ::2], golden[f"be{stage}"])
    decoded = jax.jit(Decoder(spec).apply)({"params": params["decoder"]}, features)
    assert_close(decoded[0], golden[f"bd{stage}"])


def test_vgg16_with_zero_padding_as_torchvision_computes_it(shared: Path) -> None:
    golden = load(shared / "reference/golden/vgg16.npz")
    model = convert_vgg(shared / "reference/vgg16/vgg16_to_relu5_1.pth", "vgg16")
    spec = dataclasses.replace(spec_of(model, 5), padding="zero")
    image = jnp.asarray(golden["image"], jnp.float32)[None] / 255
    params = {"params": model.params["stage5"]["encoder"]}
    _, taps = jax.jit(Encoder(spec).apply)(params, image)
    for name, _ in spec.taps:
        assert_close(taps[name][0], golden[name])
