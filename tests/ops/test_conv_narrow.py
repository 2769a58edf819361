"""The convolution to an image's channels, tap by tap, is the convolution; so is its gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax.ops import conv_narrow
from cdjax.ops.conv import convolve
from cdjax.ops.padding import Padding
from tests import models

MANY, FEW = 64, 3
"""Channels from which, and up to which, it is taken."""


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape), jnp.float32)


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(2, 6), st.integers(2, 7)),
    st.sampled_from([(MANY, FEW), (70, 1)]),
    st.sampled_from(["reflect", "zero"]),
)
def test_it_equals_sums_over_pixels_spelled_out(
    size: tuple[int, int], channels: tuple[int, int], padding: Padding
) -> None:
    images, kernel, bias = normal(2, *size, channels[0]), normal(3, 3, *channels), normal(FEW)
    bias = bias[: channels[1]]
    assert conv_narrow.is_supported(*channels)
    found = convolve(images, kernel, bias, padding=padding, algorithm="winograd")
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

    def gradients(algorithm: str) -> tuple[jax.Array, ...]:
        def function(*inputs: jax.Array) -> jax.Array:
            return convolve(*inputs, padding=padding, algorithm=algorithm)  # type: ignore[arg-type]

        return jax.vjp(function, *given)[1](gradient)

    for found, wanted in zip(gradients("winograd"), gradients("direct"), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max() + 1e-5)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere nothing is made by planes")
@pytest.mark.parametrize("channels", [(MANY, FEW), (FEW, MANY)])
def test_only_who_may_have_other_sums_gets_it(channels: tuple[int, int]) -> None:
    shapes = [(1, 8, 8, channels[0]), (3, 3, *channels), (channels[1],)]
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def compiled(algorithm: str) -> str:
        def summed(*inputs: jax.Array) -> jax.Array:
            return jnp.sum(jnp.sin(convolve(*inputs, algorithm=algorithm)))  # type: ignore[arg-type]

        return jax.jit(jax.grad(summed)).lower(*given).compile().as_text()

    # 64 pixels, 9 taps of 3 outputs.
    assert "f32[64,27]" in compiled("winograd")
    assert "f32[64,27]" not in compiled("direct")
