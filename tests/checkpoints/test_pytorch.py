"""PyTorch weights become models with every number in its place, or are refused by name."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

from cdjax.checkpoints.layer_table import layer_rows
from cdjax.checkpoints.pytorch import (
    SOURCES,
    convert_paper_16x,
    convert_vgg,
    convert_wct_vgg19,
    vgg_model,
)
from cdjax.checkpoints.store import abstract_params
from cdjax.errors import ConversionError, TorchFileError
from cdjax.model import Model
from cdjax.networks.decoder import Decoder
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.spec import TEACHER_WIDTHS, Spec
from tests.torch_files import paper_files, random_tensors, wct_files, write_zip

# torchvision's own numbering, written down instead of derived: conv1_1, conv1_2, conv2_1, ...
VGG = {
    "vgg19": ((0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28), (30, 32, 34)),
    "vgg16": ((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24), (26, 28)),
}
VGG_ENDS = {"vgg19": (1, 3, 5, 9, 13), "vgg16": (1, 3, 5, 8, 11)}


def vgg_tensors(name: str, stage: int) -> dict[str, Any]:
    widths = [64, 64, 128, 128, *[256] * (4 if name == "vgg19" else 3)]
    widths += [512] * 8
    layers: dict[str, tuple[int, ...]] = {}
    for n in range(VGG_ENDS[name][stage - 1]):
        before = 3 if n == 0 else widths[n - 1]
        layers[f"features.{VGG[name][0][n]}"] = (widths[n], before, 3, 3)
    return random_tensors(layers)


def check_structure(model: Model) -> None:
    """The parameters are float32 JAX arrays of exactly the shapes that the specs imply."""
    embeddings = [s.stage for s in model.config.specs if "embedding" in stage_of(model, s.stage)]
    expected = abstract_params(model.config, embeddings=embeddings)
    found = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), model.params)
    assert found == expected
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(model.params))


def stage_of(model: Model, stage: int) -> dict[str, Any]:
    return model.params[f"stage{stage}"]


def check_layer(layer: dict[str, Any], tensors: dict[str, Any], name: str) -> None:
    """Element by element, so that no pair of axes can be exchanged unnoticed."""
    kernel, weight = np.asarray(layer["kernel"]), tensors[f"{name}.weight"]
    np.testing.assert_array_equal(layer["bias"], tensors[f"{name}.bias"])
    kernel = kernel.reshape(weight.shape[2:] + kernel.shape[-2:])
    for out, inside, y, x in [(0, 0, 0, 0), (2, 1, 0, 0), (1, 2, 0, 0)]:
        assert kernel[y, x, inside, out] == weight[out, inside, y, x]
    for y, x in np.ndindex(*weight.shape[2:]):
        np.testing.assert_array_equal(kernel[y, x], weight[:, :, y, x].T)


def test_paper_16x(tmp_path: Path) -> None:
    files = {stage: paper_files(tmp_path, stage) for stage in (1, 2)}
    model = convert_paper_16x(tmp_path)
    check_structure(model)
    config = model.config
    assert [spec.stage for spec in config.specs] == [2, 1]
    assert [spec.widths for spec in config.specs] == [(16, 32), (24,)]
    assert (config.method, config.teacher) == ("wct", "vgg19-normalised")
    assert [name for name, _ in config.sources] == ["2SE.pth", "2SD.pth", "1SE.pth", "1SD.pth"]
    for name, digest in config.sources:
        assert digest == hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    for stage, (encoder, decoder) in files.items():
        found = stage_of(model, stage)
        for layer in found["encoder"]:
            check_layer(found["encoder"][layer], encoder, layer.replace("_", ""))
        for layer in found["decoder"]:
            check_layer(found["decoder"][layer], decoder, layer.replace("_", ""))
        for tap in found["embedding"]:
            check_layer(found["embedding"][tap], encoder, f"conv{tap[4]}1_aux")


def test_embeddings_are_kept_where_they_are_there(tmp_path: Path) -> None:
    paper_files(tmp_path, 2, embeddings=False)
    paper_files(tmp_path, 1)
    model = convert_paper_16x(tmp_path)
    check_structure(model)
    assert [row.stage for row in layer_rows(model) if row.network == "embedding"] == [1]
    encoder, _ = paper_files(tmp_path, 2)
    del encoder["conv11_aux.bias"]
    write_zip(tmp_path / "2SE.pth", {"model": encoder})
    with pytest.raises(ConversionError, match=r"2SE\.pth: missing: conv11_aux\.bias$"):
        convert_paper_16x(tmp_path)


def test_wct_vgg19(tmp_path: Path) -> None:
    files = {stage: wct_files(tmp_path, stage) for stage in (1, 2)}
    model = convert_wct_vgg19(tmp_path)
    check_structure(model)
    assert (model.config.method, model.config.teacher) == ("wct", "vgg19-normalised")
    assert [spec.widths for spec in model.config.specs] == [(64, 128), (64,)]
    numbers = {
        "encoder": {"conv0": "0", "conv1_1": "2", "conv1_2": "5", "conv2_1": "9"},
        "decoder": {"conv2_1": "1", "conv1_2": "5", "conv1_1": "8"},
    }
    for network, tensors in zip(numbers, files[2], strict=True):
        for layer, number in numbers[network].items():
            check_layer(stage_of(model, 2)[network][layer], tensors, number)
    check_layer(stage_of(model, 1)["decoder"]["conv1_1"], files[1][1], "1")


@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_truncated_vgg(name: str, stage: int, tmp_path: Path) -> None:
    tensors = vgg_tensors(name, stage)
    model = convert_vgg(write_zip(tmp_path / "vgg.pth", tensors), name)
    check_structure(model)
    [spec] = model.config.specs
    assert (spec.stage, spec.padding) == (stage, "reflect")
    assert (model.config.method, model.config.teacher) == ("encoder", name)
    encoder = stage_of(model, stage)["encoder"]
    for conv, number in zip(spec.encoder, VGG[name][0], strict=False):
        check_layer(encoder[conv.name], tensors, f"features.{number}")


@pytest.mark.parametrize("name", ["vgg19", "vgg16"])
def test_whole_vgg(name: str) -> None:
    tensors = vgg_tensors(name, 5)
    small = np.zeros(2, np.float32)
    behind = [f"features.{number}" for number in VGG[name][1]]
    behind += ["classifier.0", "classifier.3", "classifier.6"]
    whole = tensors | {f"{key}.{part}": small for key in behind for part in ("weight", "bias")}
    model = vgg_model(whole, name)
    check_structure(model)
    assert model.config.specs[0].stage == 5
    last = f"features.{VGG[name][0][-1]}"
    check_layer(stage_of(model, 5)["encoder"]["conv5_1"], tensors, last)
    with pytest.raises(ConversionError, match=r"unknown: features\.1\.weight, classifier\.1\.bias"):
        vgg_model(whole | {"features.1.weight": small, "classifier.1.bias": small}, name)
    for gap in (2, 12):
        missing = f"features.{gap}.weight"
        with pytest.raises(ConversionError, match=rf"missing: features\.{gap}\.weight$"):
            vgg_model({key: value for key, value in whole.items() if key != missing}, name)


def test_vgg_colours_are_those_of_imagenet() -> None:
    model = vgg_model(vgg_tensors("vgg19", 1), "vgg19")
    colour = stage_of(model, 1)["encoder"]["conv0"]
    image = np.array([[0.485, 0.456, 0.406], [0.485 + 0.229, 0.456 - 0.224, 0.406]])
    found = image @ np.asarray(colour["kernel"])[0, 0] + np.asarray(colour["bias"])
    np.testing.assert_allclose(found, [[0, 0, 0], [1, -1, 0]], atol=1e-6)


def test_the_other_vgg_is_refused() -> None:
    with pytest.raises(ConversionError, match=r"missing: .*features\.16\.weight.*unknown: .*17"):
        vgg_model(vgg_tensors("vgg16", 5), "vgg19")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_other_precisions_become_float32(dtype: Any, tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 1)
    encoder["conv11.weight"] = encoder["conv11.weight"].astype(dtype)
    write_zip(tmp_path / "1SE.pth", encoder)  # A plain state dict, without the key `model`.
    model = convert_paper_16x(tmp_path)
    check_structure(model)
    expected = encoder["conv11.weight"].astype(np.float32)
    kernel = np.asarray(stage_of(model, 1)["encoder"]["conv1_1"]["kernel"])
    np.testing.assert_array_equal(kernel, expected.transpose(2, 3, 1, 0))


def test_all_faults_are_named_in_one_line(tmp_path: Path) -> None:
    encoder, _ = paper_files(tmp_path, 2)
    del encoder["conv0.bias"], encoder["conv21_aux.weight"]
    encoder["conv31.weight"] = encoder["two\nlines"] = np.zeros(1, np.float32)
    encoder["conv11.weight"] = encoder["conv11.weight"].transpose(1, 0, 2, 3)
    encoder["conv11.bias"] = encoder["conv11.bias"].astype(np.int32)
    encoder["conv12.weight"] = np.where(encoder["conv12.weight"] > 1, np.nan, 0)
    encoder["conv12.bias"] = encoder["conv12.bias"].astype(np.float64) * 1e300
    encoder["conv21.bias"] = "text"
    path = write_zip(tmp_path / "2SE.pth", {"model": encoder})
    with pytest.raises(ConversionError) as caught:
        convert_paper_16x(tmp_path)
    assert str(caught.value) == (
        f"{path}: missing: conv0.bias, conv21_aux.weight; unknown: conv31.weight, two\\nlines; "
        "misshapen: conv11.weight (3, 16, 3, 3), expected (16, 3, 3, 3); "
        "not floating-point: conv11.bias (int32), conv21.bias (str); "
        "not finite: conv12.weight, conv12.bias"
    )


def test_folders_that_lack_something(tmp_path: Path) -> None:
    for convert in (convert_paper_16x, convert_wct_vgg19):
        with pytest.raises(ConversionError, match="no such folder"):
            convert(tmp_path / "none")
        with pytest.raises(ConversionError, match=r"contains no weights; expected .*1.*\.pth and "):
            convert(tmp_path)
    paper_files(tmp_path, 1)
    wct_files(tmp_path, 1)
    (tmp_path / "1SD.pth").unlink()
    (tmp_path / "vgg_normalised_conv1_1.pth").unlink()
    with pytest.raises(ConversionError, match=r"1SD\.pth: missing, although 1SE\.pth exists"):
        convert_paper_16x(tmp_path)
    with pytest.raises(ConversionError, match=r"normalised_conv1_1\.pth: missing, although feat"):
        convert_wct_vgg19(tmp_path)
    write_zip(tmp_path / "1SD.pth", {"model": [1]})
    with pytest.raises(ConversionError, match=r"no tensors by name, only model; save"):
        convert_paper_16x(tmp_path)
    with pytest.raises(TorchFileError, match="no such file"):
        convert_vgg(tmp_path / "none.pth", "vgg16")


# ---- the published files compute what the original code computed


def close(found: Any, expected: Any) -> None:
    scale = np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found)[0] / scale, expected / scale, atol=2e-4)


def run(model: Model, spec: Spec, image: Any) -> tuple[Any, Any, Any]:
    """Features, taps (embedded where the model has embeddings), decoded image."""

    def compute(params: dict[str, Any]) -> tuple[Any, Any, Any]:
        features, taps = Encoder(spec).apply({"params": params["encoder"]}, image)
        decoded: Any = None
        if "embedding" in params:
            embedding = Embedding(spec, TEACHER_WIDTHS[: spec.stage])
            taps = embedding.apply({"params": params["embedding"]}, taps)
        if "decoder" in params:
            decoded = Decoder(spec).apply({"params": params["decoder"]}, features)
        return features, taps, decoded

    return jax.jit(compute)(stage_of(model, spec.stage))


def test_published_16x_students(shared: Path) -> None:
    model = SOURCES["paper-16x"](shared / "reference/wct16x")
    check_structure(model)
    networks = [row.parameters for row in layer_rows(model) if row.network != "embedding"]
    assert sum(networks) == 2_146_003 == sum(s.parameter_count for s in model.config.specs)
    golden = np.load(shared / "reference/golden/wct16x_a.npz")
    image = golden["feature_image"][None].astype(np.float32) / 255
    for spec in (model.config.specs[0], model.config.specs[-1]):
        k = spec.stage
        features, embedded, decoded = run(model, spec, image)
        close(features, golden[f"se{k}"])
        close(embedded[f"relu{k}_1"][:, ::4, ::4], golden[f"aux{k}"])
        close(decoded, golden[f"sd{k}"])


def test_published_teacher(shared: Path) -> None:
    model = SOURCES["wct-vgg19"](shared / "reference/vgg19_normalised")
    check_structure(model)
    assert [spec.stage for spec in model.config.specs] == [3, 2, 1]
    golden = np.load(shared / "reference/golden/vgg19_stages123.npz")
    image = golden["feature_image"][None].astype(np.float32) / 255
    features, _, decoded = run(model, model.config.specs[0], image)
    close(features[:, ::2, ::2], golden["be3"])
    close(decoded, golden["bd3"])


def test_published_vgg16(shared: Path) -> None:
    model = SOURCES["vgg16"](shared / "reference/vgg16/vgg16_to_relu5_1.pth")
    check_structure(model)
    golden = np.load(shared / "reference/golden/vgg16.npz")
    spec = replace(model.config.specs[0], padding="zero")
    image = golden["image"][None].astype(np.float32) / 255
    _, taps, _ = run(model, spec, image)
    for tap, _ in spec.taps:
        close(taps[tap], golden[tap])
