"""ONNX files compute what `cdjax.stylize` computes, at any size, without cdjax."""

import json

import numpy as np
import pytest

from cdjax import Model, ModelConfig, Spec, load_model, stylize
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


@pytest.mark.parametrize("name", ["adain-16x", "wct-16x"])
def test_the_bundled_models_at_two_sizes_and_of_one_colour(name: str) -> None:
    model = load_model(name)
    program = session(model)
    for size, style_size, alpha in (((83, 110), (104, 97), 1.0), ((96, 50), (85, 90), 0.6)):
        content, style = pictures(1, *size), pictures(1, *style_size, seed=2)
        expected = stylize(model, content[0], style[0], alpha=alpha)
        result = run(program, content, style, alpha)
        assert result.shape == content.shape
        np.testing.assert_allclose(result[0], expected, rtol=0, atol=TOLERANCE)
        assert np.abs(result - content).mean() > 0.05
    # What an earlier stage decodes from one colour varies by rounding errors.
    grey = np.full((1, 50, 60, 3), 0.4, np.float32)
    found = stylize(model, grey[0], style[0]), run(program, grey, style, 1.0)
    for one_colour in found:
        np.testing.assert_allclose(np.ptp(one_colour, axis=(-3, -2)), 0, atol=TOLERANCE)
    np.testing.assert_allclose(found[1][0], found[0], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("transform", ["adain", "wct", "ot"])
def test_cascades_with_strengths_on_small_batches(transform: str, padding: str) -> None:
    specs = (Spec(3, (6, 8, 10), padding=padding), Spec(1, (5,), padding=padding))  # type: ignore[arg-type]
    found = random_model(specs, seed=1)
    model = Model(found.params, ModelConfig("wct", specs, "random", strengths=((3, 0.6),)))
    program = session(model, transform=transform)
    style = pictures(2, 7, 2, seed=2)
    for size, alpha, styles in (((1, 3), 0.9, style), ((9, 14), 1.8, style[:1])):
        content = pictures(2, *size)
        expected = stylize(model, content, styles, alpha=alpha, transform=transform)
        result = run(program, content, styles, alpha)
        np.testing.assert_allclose(result, expected, rtol=0, atol=TOLERANCE)
        assert np.abs(result - run(program, content, styles, 0.0)).max() > 0.05


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
