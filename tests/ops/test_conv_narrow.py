"""The convolution to an image's channels, tap by tap, is the convolution; so is its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax.ops import conv_narrow
from cdjax.ops.conv import convolve
from cdjax.ops.conv_xla import convolve_plainly
from cdjax.ops.jit import EXACT, compiled
from cdjax.ops.padding import Padding
from tests import models

MANY, FEW = 16, 3
"""Channels from which, and up to which, it is taken."""


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(2, 6), st.integers(2, 7)),
    st.sampled_from([(MANY, FEW), (24, 1)]),
    st.sampled_from(["reflect", "zero"]),
)
def test_it_equals_sums_over_pixels_spelled_out(
    size: tuple[int, int], channels: tuple[int, int], padding: Padding
) -> None:
    images, kernel, bias = normal(2, *size, channels[0]), normal(3, 3, *channels), normal(FEW)
    bias = bias[: channels[1]]
    assert conv_narrow.is_supported(*channels)
    found = convolve(images, kernel, bias, padding=padding)
    mode = "reflect" if padding == "reflect" else "constant"
    double = [np.asarray(array, np.float64) for array in (images, kernel, bias)]
    wanted = np.stack([models.convolve(image, *double[1:], mode=mode) for image in double[0]])
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("size", [(2, 2), (3, 5)])
@pytest.mark.parametrize("channels", [(MANY, FEW), (FEW, MANY)])
def test_gradients_are_those_of_the_plain_convolution(
    size: tuple[int, int], padding: Padding, channels: tuple[int, int]
) -> None:
    given = normal(2, *size, channels[0]), normal(3, 3, *channels), normal(channels[1])
    assert conv_narrow.is_supported(*channels) != conv_narrow.is_supported(*channels[::-1])
    gradient = normal(2, *size, channels[1])

    def plain(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        mode = "reflect" if padding == "reflect" else "constant"
        padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
        return convolve_plainly(padded, kernel, "VALID") + bias

    gradients = jax.vjp(lambda *inputs: convolve(*inputs, padding=padding), *given)[1](gradient)
    for found, wanted in zip(gradients, jax.vjp(plain, *given)[1](gradient), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max() + 1e-5)


def test_the_last_bits_are_those_of_the_whole_image() -> None:
    image, kernel, bias = normal(1, 40, 37, MANY), normal(3, 3, MANY, FEW), normal(FEW)
    whole = compiled(convolve, settings=EXACT)(image, kernel, bias)
    part = compiled(lambda *given: conv_narrow.convolve(*given, padding=None), settings=EXACT)
    np.testing.assert_array_equal(part(image[:, 7:25, 5:], kernel) + bias, whole[:, 8:24, 6:-1])
