"""3x3 convolution by Winograd's F(4x4, 3x3): four times fewer multiplications."""

from functools import wraps

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata
from numpy.typing import NDArray

TILE = 4
_POINTS = 6

_INPUT = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
_KERNEL = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float32,
)
_OUTPUT = np.array(
    [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]],
    np.float32,
)


def suits(images, kernel):
    _, height, width, _ = images.shape
    return height % TILE == 0 and width % TILE == 0 and min(kernel.shape[2:]) >= 64 and images.dtype == jnp.float32


def _apart(function):
    """Has XLA compile a function apart from its neighbours, which it would otherwise fuse."""
    compiled = jax.jit(function, static_argnums=(1, 2))

    @wraps(function)
    def call(*arguments):
        with set_xla_metadata(inlineable="false"):
            return compiled(*arguments)

    return call


def _sum(terms):
    total = None
    for coefficients, shape, part, axis in terms:
        term = jnp.asarray(coefficients).reshape(shape) * jnp.expand_dims(part, axis)
        total = term if total is None else total + term
    return total


def _combined(parts, matrix, axis):
    """`[sum_m matrix[i, m] parts[m] for i]`, stacked as a new axis."""
    shape = [1] * (parts[0].ndim + 1)
    shape[axis] = len(matrix)
    return _sum((column, shape, part, axis) for part, column in zip(parts, matrix.T, strict=True))


def _split(a, axis):
    return [lax.index_in_dim(a, i, axis, keepdims=False) for i in range(a.shape[axis])]


def _edge(a, axis, last=False):
    i = a.shape[axis] - 1 if last else 0
    return lax.slice_in_dim(a, i, i + 1, axis=axis)


def _butlast(a, axis):
    return lax.slice_in_dim(a, 0, a.shape[axis] - 1, axis=axis)


def _butfirst(a, axis):
    return lax.slice_in_dim(a, 1, a.shape[axis], axis=axis)


@_apart
def _before_after(blocks, axis, padding):
    blocks = _split(blocks, axis + 1)
    first, last = _edge(blocks[1], axis), _edge(blocks[2], axis, True)
    if padding == "zero":
        first, last = jnp.zeros_like(first), jnp.zeros_like(last)
    before = lax.concatenate([first, _butlast(blocks[3], axis)], axis)
    after = lax.concatenate([_butfirst(blocks[0], axis), last], axis)
    return before, after


@_apart
def _input_points(operands, axis, _):
    blocks, before, after = operands
    return _combined([before, *_split(blocks, axis + 1), after], _INPUT, 0)


@_apart
def _output_from_points(points, axis, _):
    return _combined(_split(points, 0), _OUTPUT, axis + 1)


@_apart
def _points_of_output(blocks, axis, _):
    return _combined(_split(blocks, axis + 1), _OUTPUT.T, 0)


@_apart
def _leading_trailing(points, axis, _):
    points = _split(points, 0)
    leading = lax.concatenate([_edge(points[0], axis), _butlast(points[5], axis)], axis)
    trailing = lax.concatenate([_butfirst(points[0], axis), _edge(points[5], axis, True)], axis)
    return leading, trailing


@_apart
def _input_from_points(operands, axis, padding):
    """Transpose of _input_points."""
    points, leading, trailing = operands
    points = _split(points, 0)
    tiles = leading.shape[axis]
    lead = np.zeros((tiles, TILE), np.float32)
    tail = np.zeros((tiles, TILE), np.float32)
    reflected = float(padding == "reflect")
    lead[0, 1], lead[1:, 0] = reflected * _INPUT[0, 0], _INPUT[5, 5]
    tail[-1, 2], tail[:-1, 3] = reflected * _INPUT[5, 5], _INPUT[0, 0]
    shape = [1] * (points[0].ndim + 1)
    shape[axis + 1] = TILE
    terms = [(row[1:5], shape, p, axis + 1) for row, p in zip(_INPUT.T.copy().T, points, strict=True)]
    shape = shape.copy()
    shape[axis] = tiles
    terms += [(lead, shape, leading, axis + 1), (tail, shape, trailing, axis + 1)]
    return _sum(terms)


@_apart
def _kernel_points(kernel, axis, _):
    return _combined(_split(kernel, axis), _KERNEL, axis)


def transform_kernel(kernel):
    return _kernel_points(_kernel_points(kernel, 0, None), 1, None)


def _product(points, kernel, dimension):
    i, j, n, th, tw, c = points.shape
    r = lax.dot_general(
        points.reshape(36, -1, c),
        kernel.reshape(36, *kernel.shape[2:]),
        (((2,), (dimension,)), ((0,), (0,))),
        precision=lax.Precision.HIGHEST,
    )
    return r.reshape(i, j, n, th, tw, -1)


def _blocks(images):
    n, height, width, c = images.shape
    return images.reshape(n, height // TILE, TILE, width // TILE, TILE, c)


def convolve(images, kernel, padding):
    blocks = _blocks(images)
    # j n th 4 tw c
    points = _input_points((blocks, *_before_after(blocks, 3, padding)), 3, None)
    # i j n th tw c
    points = _input_points((points, *_before_after(points, 3 - 1, padding)), 2, None)
    points = _product(points, kernel, 1)  # i j n th tw k
    rows = _output_from_points(points, 2, None)  # j n th 4 tw k
    result = _output_from_points(rows, 3, None)  # n th 4 tw 4 k
    return result.reshape(*images.shape[:3], -1)


def image_gradient(gradient, kernel, padding):
    blocks = _blocks(gradient)
    points = _points_of_output(blocks, 3, None)  # j n th 4 tw c
    points = _points_of_output(points, 2, None)  # i j n th tw c
    points = _product(points, kernel, 2)  # i j n th tw c
    rows = _input_from_points((points, *_leading_trailing(points, 2, None)), 2, padding)
    result = _input_from_points((rows, *_leading_trailing(rows, 3, None)), 3, padding)
    return result.reshape(*gradient.shape[:3], -1)
