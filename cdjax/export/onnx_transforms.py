"""The transforms of `cdjax.transfer.transforms` as nodes of an ONNX graph; arrays are NCHW."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cdjax.export.graph import Graph
from cdjax.export.onnx_algebra import compose, decompose, number
from cdjax.export.onnx_networks import SPATIAL, lengths
from cdjax.transfer.statistics import ADAIN_EPSILON
from cdjax.transfer.transforms import LOW_CONTRAST, RELATIVE_FLOOR, RELATIVE_NOISE

_FLOAT32, _FLOAT64 = 1, 11
"""ONNX's numbers of types."""

_POSITIONS_AT_ONCE = 2**13
"""Positions converted to float64 at a time. All of an image would need more memory than the rest of
the graph."""

Transform = Callable[[Graph, str, str, str, int], str]
"""From a graph, features of content and style, the share, and the number of channels to the new
features of the content."""


def adain(graph: Graph, content: str, style: str, share: str, channels: int) -> str:
    """Content features with a share of AdaIN, as `cdjax.transfer.transforms.adain`."""
    mean, apart, deviation = _statistics(graph, content)
    style_mean, _, style_deviation = _statistics(graph, style)
    ratio = graph.add("Div", style_deviation, deviation)
    scale = _blend(graph, share, ratio, graph.constant(1.0))
    return graph.add("Add", graph.add("Mul", apart, scale), _blend(graph, share, style_mean, mean))


def wct(graph: Graph, content: str, style: str, share: str, channels: int) -> str:
    """Content features with a share of WCT, as `cdjax.transfer.transforms.wct`."""
    of_content, of_style = (_moments(graph, each, channels) for each in (content, style))
    _, whitening = _roots(graph, of_content)
    colouring, _ = _roots(graph, of_style)
    matrix = graph.add("MatMul", colouring, whitening)
    return _mapped(graph, content, matrix, of_content, of_style, share)


def ot(graph: Graph, content: str, style: str, share: str, channels: int) -> str:
    """Content features with a share of optimal transport, as `cdjax.transfer.transforms.ot`."""
    of_content, of_style = (_moments(graph, each, channels) for each in (content, style))
    root, whitening = _roots(graph, of_content)
    colouring, _ = _roots(graph, of_style)
    # The polar factor of a matrix M = U P, with P = (M^T M)^(1/2), is M times the inverse of P.
    both = graph.add("MatMul", colouring, root)
    values, vectors = decompose(graph, both, channels)
    inverse = _inverse(graph, values, _kept(graph, values, number(graph, 0)))
    matrix = colouring
    for factor in (both, compose(graph, inverse, vectors), whitening):
        matrix = graph.add("MatMul", matrix, factor)
    return _mapped(graph, content, matrix, of_content, of_style, share)


TRANSFORMS: Mapping[str, Transform] = {"wct": wct, "ot": ot, "adain": adain}
"""By the names of `cdjax.transfer.transforms.TRANSFORMS`."""


def _blend(graph: Graph, share: str, new: str, old: str) -> str:
    left = graph.add("Sub", graph.constant(1.0), share)
    return graph.add("Add", graph.add("Mul", share, new), graph.add("Mul", left, old))


def _statistics(graph: Graph, features: str) -> tuple[str, str, str]:
    """Means of the channels, distances to them, and standard deviations as AdaIN defines them."""
    axes = graph.constant([*SPATIAL])
    mean = graph.add("ReduceMean", features, axes)
    apart = graph.add("Sub", features, mean)
    squares = graph.add("ReduceSum", graph.add("Mul", apart, apart), axes)
    height, width = lengths(graph, features)
    count = graph.add("Sub", graph.add("Mul", height, width), graph.constant([1]))
    variance = graph.add("Div", squares, graph.add("Cast", count, to=_FLOAT32))
    epsilon = graph.constant(ADAIN_EPSILON)
    return mean, apart, graph.add("Sqrt", graph.add("Add", variance, epsilon))


@dataclass(frozen=True)
class _Moments:
    """Means (N, C, 1) and covariances (N, C, C), float64; and C."""

    channels: int
    mean: str
    covariance: str


def _moments(graph: Graph, features: str, channels: int) -> _Moments:
    """As `cdjax.transfer.statistics.moments`."""
    flat = graph.add("Reshape", features, graph.constant([0, 0, -1]))
    count = graph.add("Shape", flat, start=2, end=3)
    chunk = graph.constant([_POSITIONS_AT_ONCE])
    rounded = graph.add("Add", count, graph.constant([_POSITIONS_AT_ONCE - 1]))
    chunks = graph.add("Squeeze", graph.add("Div", rounded, chunk))

    def step(index: str, total: str, products: str) -> tuple[str, ...]:
        start = graph.add("Mul", index, chunk)
        part = graph.add("Slice", flat, start, graph.add("Add", start, chunk), graph.constant([2]))
        part = graph.add("Cast", part, to=_FLOAT64)
        total = graph.add("Add", total, graph.add("ReduceSum", part, graph.constant([2])))
        squares = graph.add("Einsum", part, part, equation="nip,njp->nij")
        always = graph.add("Identity", graph.constant(np.array(True)))
        return always, total, graph.add("Add", products, squares)

    zeros = (graph.constant(np.zeros((1, channels, length))) for length in (1, channels))
    total, products = graph.loop(chunks, step, *zeros)
    mean = graph.add("Div", total, graph.add("Cast", count, to=_FLOAT64))
    scatter = graph.add("Sub", products, graph.add("Einsum", total, mean, equation="nip,njp->nij"))
    others = graph.add("Max", graph.add("Sub", count, graph.constant([1])), graph.constant([1]))
    covariance = graph.add("Div", scatter, graph.add("Cast", others, to=_FLOAT64))
    return _Moments(channels, mean, covariance)


def _roots(graph: Graph, moments: _Moments) -> tuple[str, str]:
    """Symmetric square roots of covariances, (N, C, C), and their pseudo-inverses."""
    values, vectors = decompose(graph, moments.covariance, moments.channels)
    squares = graph.add("ReduceSumSquare", moments.mean, graph.constant([1]))
    kept = _kept(graph, values, squares)
    scale = graph.add("Sqrt", graph.add("Where", kept, values, number(graph, 0)))
    inverse = _inverse(graph, scale, kept)
    return compose(graph, scale, vectors), compose(graph, inverse, vectors)


def _kept(graph: Graph, values: str, size: str) -> str:
    """Which eigenvalues or singular values (N, R, 1) are more than rounding errors.

    The size is the squared mean, or 0.
    """
    largest = graph.add("ReduceMax", values, graph.constant([1]))
    low = graph.add("Less", largest, graph.add("Mul", size, number(graph, LOW_CONTRAST)))
    noise = graph.add("Mul", size, number(graph, RELATIVE_NOISE))
    noise = graph.add("Where", low, noise, number(graph, 0))
    floor = graph.add("Mul", largest, number(graph, RELATIVE_FLOOR))
    return graph.add("Greater", values, graph.add("Max", floor, noise))


def _inverse(graph: Graph, values: str, kept: str) -> str:
    """Their inverses, or 0."""
    return graph.add("Where", kept, graph.add("Reciprocal", values), number(graph, 0))


def _mapped(
    graph: Graph, features: str, matrix: str, content: _Moments, style: _Moments, share: str
) -> str:
    """Features (N, C, h, w) with a share of an affine map; the matrix multiplies from the left."""
    matrix, mean, goal = (
        graph.add("Cast", each, to=_FLOAT32) for each in (matrix, content.mean, style.mean)
    )
    identity = graph.constant(np.eye(content.channels, dtype=np.float32))
    flat = graph.add("Reshape", features, graph.constant([0, 0, -1]))
    apart = graph.add("Sub", flat, mean)
    turned = graph.add("MatMul", _blend(graph, share, matrix, identity), apart)
    mapped = graph.add("Add", turned, _blend(graph, share, goal, mean))
    return graph.add("Reshape", mapped, graph.add("Shape", features))
