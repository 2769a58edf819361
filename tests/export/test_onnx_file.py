"""ONNX files compute what `cdjax.stylize` computes, at any size, without cdjax."""

import json

import numpy as np
import pytest

from cdjax import ExportError, Model, ModelConfig, Spec, load_model, stylize
from cdjax.export.onnx_file import TOLERANCE, to_onnx
from tests.models import random_image, random_model

onnx = pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def session(model: Model, **options: str) -> onnxruntime.InferenceSession:
    data = to_onnx(model, **options)
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def run(
    session: onnxruntime.InferenceSession, content: np.ndarray, style: np.ndarray, alpha: float
) -> np.ndarray:
    inputs = {"content": content, "style": style, "alpha": np.array(alpha, np.float32)}
    (result,) = session.run(["result"], inputs)
    return np.asarray(result)


def pictures(*shape: int, seed: int = 1) -> np.ndarray:
    return random_image(*shape, seed=seed) / np.float32(255)


def test_the_bundled_model_at_two_sizes() -> None:
    model = load_model("adain-16x")
    program = session(model)
    for size, style_size, alpha in (((43, 70), (64, 37), 1.0), ((96, 50), (25, 90), 0.6)):
        content, style = pictures(1, *size), pictures(1, *style_size, seed=2)
        expected = stylize(model, content[0], style[0], alpha=alpha)
        result = run(program, content, style, alpha)
        assert result.shape == content.shape
        np.testing.assert_allclose(result[0], expected, rtol=0, atol=TOLERANCE)
        assert np.abs(result - content).mean() > 0.05


@pytest.mark.parametrize("padding", ["reflect", "zero"])
def test_cascades_with_strengths_on_tiny_batches(padding: str) -> None:
    specs = (Spec(3, (6, 8, 10), padding=padding), Spec(1, (5,), padding=padding))  # type: ignore[arg-type]
    found = random_model(specs)
    model = Model(found.params, ModelConfig("wct", specs, "random", strengths=((3, 0.6),)))
    program = session(model, transform="adain")
    content, style = pictures(2, 1, 3), pictures(2, 7, 2, seed=2)
    for alpha, styles in ((0.9, style), (1.8, style[:1])):
        expected = stylize(model, content, styles, alpha=alpha, transform="adain")
        result = run(program, content, styles, alpha)
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)


def test_the_file_says_what_it_is() -> None:
    model = random_model((Spec(2, (4, 6)),), method="adain")
    file = onnx.load_from_string(to_onnx(model))
    assert [(entry.domain, entry.version) for entry in file.opset_import] == [("", 18)]
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*file.graph.input, *file.graph.output)
    }
    assert shapes == {
        "content": ["batch", "height", "width", 3],
        "style": ["styles", "style_height", "style_width", 3],
        "alpha": [],
        "result": ["batch", "height", "width", 3],
    }
    (about,) = (json.loads(p.value) for p in file.metadata_props if p.key == "cdjax")
    assert about["method"] == "adain"


def test_what_onnx_cannot_compute_is_refused() -> None:
    with pytest.raises(ExportError, match="no decompositions of matrices, which wct needs"):
        to_onnx(random_model((Spec(1, (4,)),)))
