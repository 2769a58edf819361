"""Matrix products in full float32 precision; the default on GPUs is TensorFloat-32."""

import jax.numpy as jnp
from jax import Array, lax


def product(left: Array, right: Array) -> Array:
    """`left @ right`, of the operands' dtype, without rounding the operands."""
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def product_of_rows(left: Array, right: Array) -> Array:
    """`left.T @ right`, float32, of arrays with equally many rows, without rounding them."""
    return lax.dot_general(
        left,
        right,
        (((0,), (0,)), ((), ())),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )


def inner(left: Array, right: Array) -> Array:
    """The inner product of two arrays of one shape, a scalar, without rounding the operands."""
    return jnp.vdot(left, right, precision=lax.Precision.HIGHEST)


def mean_squared_error(values: Array, targets: Array) -> Array:
    """Mean squared difference of float arrays, whose shapes broadcast: a float32 scalar."""
    apart = jnp.ravel(values.astype(jnp.float32) - targets.astype(jnp.float32))
    # As an inner product: on a CPU, XLA's mean reads the millions of elements of a shallow tap in
    # more passes and is less accurate.
    return inner(apart, apart) / apart.size
