"""Transforms in ONNX are those of cdjax, also where content or style vary in few directions."""

from functools import cache

import jax
import numpy as np
import pytest

from cdjax.export.graph import Graph
from cdjax.export.onnx_transforms import TRANSFORMS
from cdjax.transfer.statistics import Moments, moments
from cdjax.transfer.transforms import TRANSFORMS as EXPECTED

pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")

CHANNELS = 7


def features(seed: int, *, size: tuple[int, int] = (9, 11), rank: int = CHANNELS) -> np.ndarray:
    """Two feature maps with correlated channels, (2, height, width, CHANNELS)."""
    generator = np.random.default_rng(seed)
    mixed = generator.normal(size=(rank, CHANNELS)) * np.geomspace(3, 0.1, CHANNELS)
    values = generator.normal(size=(2, *size, rank)) @ mixed + generator.random(CHANNELS)
    return values.astype(np.float32)


KINDS = {
    "ordinary": features(1),
    "other": features(2),
    "many positions": features(3, size=(100, 90)),
    "few positions": features(4, size=(1, 3)),
    "one position": features(5, size=(1, 1)),
    "constant": np.full_like(features(1), 0.7),
    "rounding errors": np.nextafter(np.float32(0.7), np.sign(features(1)), dtype=np.float32),
    "almost constant": (0.7 + 3e-5 * features(8)).astype(np.float32),
    "faint": (0.7 + 3e-3 * features(8, rank=2) + 1e-5 * features(9)).astype(np.float32),
    "zero": np.zeros_like(features(1)),
    "dead channels": features(6) * (np.arange(CHANNELS) % 3 > 0).astype(np.float32),
    "three directions": features(7, rank=3),
}
PAIRS = [
    *((content, "other") for content in KINDS if content != "other"),
    *(("ordinary", style) for style in KINDS if style != "other"),
    ("three directions", "dead channels"),
    ("dead channels", "three directions"),
]
moments_of = cache(lambda kind: jax.jit(moments)(KINDS[kind]))


@pytest.fixture(scope="module", params=["wct", "ot"])
def transform(request: pytest.FixtureRequest) -> tuple[str, onnxruntime.InferenceSession]:
    graph = Graph()
    content, style = (
        graph.add("Transpose", name, perm=[0, 3, 1, 2]) for name in ("content", "style")
    )
    mapped = TRANSFORMS[request.param](graph, content, style, "share", CHANNELS)
    result = graph.add("Transpose", mapped, perm=[0, 2, 3, 1])
    shape = ("n", "h", "w", CHANNELS)
    data = graph.to_model(
        {"content": shape, "style": ("styles", "y", "x", CHANNELS), "share": ()},
        {"result": (result, shape)},
        name="test",
        about="",
        metadata={},
    )
    providers = ["CPUExecutionProvider"]
    return request.param, onnxruntime.InferenceSession(data, providers=providers)


@pytest.mark.parametrize(("content", "style"), PAIRS)
def test_features_are_those_of_cdjax(
    content: str, style: str, transform: tuple[str, onnxruntime.InferenceSession]
) -> None:
    name, session = transform
    values, of_style = KINDS[content], moments_of(style)
    first: Moments = jax.tree.map(lambda leaf: leaf[:1], of_style)
    for share, number, goal in ((1.0, 2, of_style), (0.4, 1, first)):
        affine = jax.jit(EXPECTED[name])(moments_of(content), goal, share)
        inputs = {
            "content": values,
            "style": KINDS[style][:number],
            "share": np.array(share, np.float32),
        }
        (result,) = session.run(None, inputs)
        np.testing.assert_allclose(result, affine(values), rtol=0, atol=5e-5)
