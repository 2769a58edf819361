"""Decompositions in ONNX find the singular values and directions that NumPy finds."""

import numpy as np
import pytest

from cdjax.export.graph import Graph
from cdjax.export.onnx_algebra import compose, decompose

pytest.importorskip("onnx", reason="needs the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def session(channels: int) -> onnxruntime.InferenceSession:
    """From matrices to what `decompose` gives and to what `compose` makes of it."""
    graph = Graph()
    matrices = graph.add("Cast", "matrices", to=11)
    found = decompose(graph, matrices, channels)
    parts = {
        name: graph.add("Cast", value, to=1)
        for name, value in zip(
            ("values", "vectors", "composed"), (*found, compose(graph, *found)), strict=True
        )
    }
    rows = channels + channels % 2
    shapes = (("n", rows, 1), ("n", rows, channels), ("n", channels, channels))
    outputs = {name: (parts[name], shape) for name, shape in zip(parts, shapes, strict=True)}
    data = graph.to_model(
        {"matrices": ("n", channels, channels)}, outputs, name="test", about="", metadata={}
    )
    return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def covariances(channels: int) -> np.ndarray:
    """Symmetric matrices: of much and little spread, of equal eigenvalues, of low rank, and 0."""
    generator = np.random.default_rng(channels)
    spectra = (
        np.geomspace(1e-5, 3, channels),
        np.linspace(1, 2, channels),
        np.full(channels, 0.7),
        (np.arange(channels) // 2 + 1) / channels,
        np.arange(channels) == 0,
        np.arange(channels) < channels // 2,
        np.zeros(channels),
    )
    found = []
    for spectrum in spectra:
        turn, _ = np.linalg.qr(generator.normal(size=(channels, channels)))
        found.append(turn * spectrum @ turn.T)
    return np.stack(found).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 12])
def test_singular_values_and_directions(channels: int) -> None:
    generator = np.random.default_rng(1)
    symmetric = covariances(channels)
    others = generator.normal(size=(3, channels, channels)).astype(np.float32)
    matrices = np.concatenate([symmetric, others])
    values, vectors, composed = session(channels).run(None, {"matrices": matrices})
    expected = np.linalg.svd(matrices.astype(np.float64), compute_uv=False)
    ordered = -np.sort(-values[..., 0], axis=-1)[:, :channels]
    np.testing.assert_allclose(ordered, expected, rtol=1e-5, atol=1e-7)
    for rows, lengths, matrix in zip(vectors, values[..., 0], matrices, strict=True):
        kept = lengths > 1e-6 * lengths.max()
        np.testing.assert_allclose(rows[kept] @ rows[kept].T, np.eye(kept.sum()), atol=1e-6)
        stretched = np.linalg.norm(rows[kept] @ matrix.T, axis=-1)
        np.testing.assert_allclose(stretched, lengths[kept], atol=2e-6)
    np.testing.assert_allclose(composed[: len(symmetric)], symmetric, atol=1e-6)
