"""What functions compiled with our settings have of them, also inside other transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cdjax.ops.conv import convolve
from cdjax.ops.jit import EXACT, FAST, compiled


def squared(values: jax.Array) -> jax.Array:
    return jnp.sum(values * values)


def test_it_composes_with_other_transformations() -> None:
    function, values = compiled(squared, settings=FAST), jnp.arange(6.0).reshape(2, 3)
    constant = np.asarray(values)
    assert float(function(values)) == 55
    assert float(jax.jit(function)(values)) == 55
    # Traced, though none of its arguments is.
    assert float(jax.jit(lambda: function(constant))()) == 55
    np.testing.assert_array_equal(jax.vmap(function)(values), [5, 50])
    np.testing.assert_array_equal(jax.grad(function)(values), 2 * values)


def test_the_fast_settings_do_without_ynnpack() -> None:
    """XLA would give this product to YNNPACK."""
    values = jnp.ones((64, 64))
    plain, ours = (
        jax.jit(jnp.dot, compiler_options=options).lower(values, values).compile().as_text() or ""
        for options in ({}, dict(FAST))
    )
    if "ynn_fusion" not in plain:
        pytest.skip("this XLA does without YNNPACK")
    assert "ynn_fusion" not in ours


@pytest.mark.parametrize("widths", [(3, 4), (3, 16), (4, 6), (16, 16), (16, 3), (16, 32), (64, 64)])
def test_exact_convolutions_do_not_depend_on_the_cut(widths: tuple[int, int]) -> None:
    """On a CPU with AVX2 but without AVX-512, XLA's default settings fail this."""
    rng = np.random.default_rng(0)
    height, width = 66, 70
    image = rng.normal(size=(1, height, width, widths[0])).astype(np.float32)
    kernel = rng.normal(size=(3, 3, *widths)).astype(np.float32)
    exact = compiled(convolve, settings=EXACT)
    whole = np.asarray(exact(image, kernel, np.zeros(widths[1], np.float32)))
    for top, bottom, left, right in (
        (0, 64, 0, 64),
        (34, 66, 35, 70),
        (0, 66, 60, 70),
        (9, 25, 3, 20),
    ):
        piece = image[:, top:bottom, left:right].copy()
        part = np.asarray(exact(piece, kernel, np.zeros(widths[1], np.float32)))
        # What lies next to a cut sees the reflected cut in place of the image.
        inner = (
            slice(None),
            slice(int(top > 0), bottom - top - int(bottom < height)),
            slice(int(left > 0), right - left - int(right < width)),
        )
        np.testing.assert_array_equal(part[inner], whole[:, top:bottom, left:right][inner])
