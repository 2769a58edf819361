"""Functions compiled with our options work inside other transformations as well."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.compilation import OPTIONS, compiled


def squared(values: jax.Array) -> jax.Array:
    return jnp.sum(values * values)


def test_it_composes_with_other_transformations() -> None:
    function, values = compiled(squared), jnp.arange(6.0).reshape(2, 3)
    constant = np.asarray(values)
    assert float(function(values)) == 55
    assert float(jax.jit(function)(values)) == 55
    # Traced, though none of its arguments is.
    assert float(jax.jit(lambda: function(constant))()) == 55
    np.testing.assert_array_equal(jax.vmap(function)(values), [5, 50])
    np.testing.assert_array_equal(jax.grad(function)(values), 2 * values)


def test_the_outermost_one_has_the_options() -> None:
    """XLA would give this product to YNNPACK."""
    values = jnp.ones((64, 64))
    plain, ours = (
        jax.jit(jnp.dot, compiler_options=options).lower(values, values).compile().as_text() or ""
        for options in ({}, OPTIONS)
    )
    if "ynn" not in plain:
        pytest.skip("this XLA does without YNNPACK")
    assert "ynn" not in ours
