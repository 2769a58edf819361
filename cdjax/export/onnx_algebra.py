"""Decompositions of batches of small matrices as nodes of an ONNX graph, which has none.

All are float64. Directions are found by the one-sided method of Jacobi (Hestenes 1958): rows are
rotated in pairs until each is orthogonal to each.
"""

import numpy as np
from numpy.typing import NDArray

from cdjax.export.graph import Graph

_COSINE = 1e-6
"""Rows whose angle has a smaller cosine are rotated a last time. A sweep squares small cosines, so
what then remains is near float64's rounding."""

_NEGLIGIBLE = 1e-7
"""Rows shorter than this fraction of the matrix's norm may stay askew. It is below the fraction at
which transforms leave directions out."""

_SWEEPS = 40
"""How often each row meets each, at most. Covariances of photographs need less than half of it."""

_TINY = 1e-150
"""Keeps divisors from 0. Its square is still a float64 number."""


def number(graph: Graph, value: float) -> str:
    """The name of a float64 constant."""
    return graph.constant(np.array(value, np.float64))


def decompose(graph: Graph, matrices: str, channels: int) -> tuple[str, str]:
    """Singular values and right singular vectors, in any order.

    Args:
        graph: gets the nodes.
        matrices: (N, C, C), float64.
        channels: C.

    Returns:
        (N, R, 1) and, as rows, (N, R, C); R is C, or one more if C is odd. They are the eigenvalues
        and eigenvectors of a matrix that is symmetric and has no negative ones. Vectors whose
        values are less than 1e-7 of the largest are inaccurate.
    """
    if channels % 2:
        matrices = graph.add("Pad", matrices, graph.constant([0, 0, 0, 0, 1, 0]))
    count = channels + channels % 2
    squares = graph.add("ReduceSumSquare", matrices, graph.constant([1, 2]))
    least = graph.add("Mul", squares, number(graph, _NEGLIGIBLE**2))
    least = graph.add("Max", least, number(graph, _TINY))
    order, axis = graph.constant(_moves(count)), graph.constant([2])
    zero, one, rounds = (graph.constant(np.array(value)) for value in (0, 1, count - 1))

    def step(_: str, rows: str, calm: str) -> tuple[str, ...]:
        first, second = graph.split(graph.add("Gather", rows, order, axis=1), 2, axis=1)
        squares = [graph.add("ReduceSumSquare", each, axis) for each in (first, second)]
        product = graph.add("ReduceSum", graph.add("Mul", first, second), axis)
        cosine, sine = _rotation(graph, squares[0], squares[1], product)
        turned = (
            graph.add("Sub", graph.add("Mul", cosine, first), graph.add("Mul", sine, second)),
            graph.add("Add", graph.add("Mul", sine, first), graph.add("Mul", cosine, second)),
        )
        lengths = graph.add("Mul", *(graph.add("Max", each, least) for each in squares))
        askew = graph.add("Div", graph.add("Mul", product, product), lengths)
        worst = graph.add("ReduceMax", askew, keepdims=0)
        turning = graph.add("Greater", worst, number(graph, _COSINE**2))
        calm = graph.add("Where", turning, zero, graph.add("Add", calm, one))
        return graph.add("Less", calm, rounds), graph.add("Concat", *turned, axis=1), calm

    rows, _ = graph.loop(_SWEEPS * (count - 1), step, matrices, zero)
    values = graph.add("Sqrt", graph.add("ReduceSumSquare", rows, axis))
    return values, graph.add("Div", rows, graph.add("Max", values, number(graph, _TINY)))


def compose(graph: Graph, values: str, vectors: str) -> str:
    """The symmetric matrices (N, C, C) of eigenvalues and eigenvectors, as `decompose` has them."""
    return graph.add("Einsum", vectors, graph.add("Mul", values, vectors), equation="nri,nrj->nij")


def _moves(count: int) -> NDArray[np.int64]:
    """Where each row comes from before it meets another, so that all meet in count - 1 rounds.

    Row k of the first half meets row k of the second. As at a round-robin tournament, row 0 stays,
    and the others move around the table by one place.
    """
    half = count // 2
    ring = [*range(1, half), *range(count - 1, half - 1, -1)]
    order = np.arange(count)
    order[ring] = np.roll(ring, 1)
    return order


def _rotation(graph: Graph, first: str, second: str, product: str) -> tuple[str, str]:
    """Cosine and sine of the smaller angle that makes two rows orthogonal.

    It follows from their squared lengths and their inner product. Rows that are orthogonal, or 0,
    stay.
    """
    apart = graph.add("Sub", second, first)
    twice = graph.add("Add", product, product)
    hypotenuse = graph.add(
        "Sqrt", graph.add("Add", graph.add("Mul", apart, apart), graph.add("Mul", twice, twice))
    )
    length = graph.add("Add", graph.add("Abs", apart), hypotenuse)
    backwards = graph.add("Less", apart, number(graph, 0))
    signed = graph.add("Where", backwards, graph.add("Neg", twice), twice)
    tangent = graph.add("Div", signed, graph.add("Max", length, number(graph, _TINY)))
    secant = graph.add("Add", graph.add("Mul", tangent, tangent), number(graph, 1))
    cosine = graph.add("Reciprocal", graph.add("Sqrt", secant))
    return cosine, graph.add("Mul", cosine, tangent)
