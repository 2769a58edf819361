"""Matrix products that are float32 wherever float32 goes in: a GPU's default is TensorFloat-32."""

import jax.numpy as jnp
from jax import Array, lax


def product(left: Array, right: Array) -> Array:
    """`left @ right`, of the operands' dtype, without rounding them first."""
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def inner(left: Array, right: Array) -> Array:
    """The sum of the products of two arrays' elements, likewise; a scalar."""
    return jnp.vdot(left, right, precision=lax.Precision.HIGHEST)


def mean_squared_error(values: Array, targets: Array) -> Array:
    """Mean over every element of the squared difference of two arrays of one shape."""
    apart = jnp.ravel(values.astype(jnp.float32) - targets.astype(jnp.float32))
    # As a product with itself: XLA's mean reads the millions of elements of a shallow tap in more
    # passes on a CPU, and loses digits.
    return inner(apart, apart) / apart.size
