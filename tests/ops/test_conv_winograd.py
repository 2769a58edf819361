"""Winograd's convolution is the convolution, and so are its gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax.ops import conv_winograd
from cdjax.ops.conv import Algorithm, convolve
from cdjax.ops.padding import Padding
from cdjax.ops.upsample import upsample
from tests import models

WIDE = 64
"""Channels from which on it is taken."""


def arrays(height: int, width: int, *channels: int, seed: int) -> tuple[jax.Array, ...]:
    """Images, a kernel, a bias and a gradient of the result."""
    generator = np.random.default_rng(seed)
    features_in, features_out = channels
    shapes = (
        (2, height, width, features_in),
        (3, 3, features_in, features_out),
        (features_out,),
        (2, height, width, features_out),
    )
    return tuple(jnp.asarray(generator.normal(size=shape), jnp.float32) for shape in shapes)


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from([4, 8, 20]),
    st.sampled_from([4, 12, 16]),
    st.sampled_from([(64, 72), (80, 64)]),
    st.sampled_from(["reflect", "zero"]),
)
def test_it_equals_sums_over_pixels_spelled_out(
    height: int, width: int, channels: tuple[int, int], padding: Padding
) -> None:
    images, kernel, bias, _ = arrays(height, width, *channels, seed=height * width)
    assert conv_winograd.is_supported(images, kernel)
    found = convolve(images, kernel, bias, padding=padding, algorithm="winograd")
    mode = "reflect" if padding == "reflect" else "constant"
    double = [np.asarray(array, np.float64) for array in (images, kernel, bias)]
    wanted = np.stack([models.convolve(image, *double[1:], mode=mode) for image in double[0]])
    np.testing.assert_allclose(found, wanted, atol=2e-5 * np.abs(wanted).max())
    assert np.abs(found - convolve(images, kernel, bias, padding=padding)).max() > 0


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("size", [(4, 4), (16, 8)])
def test_gradients_are_those_of_the_plain_convolution(
    size: tuple[int, int], padding: Padding
) -> None:
    images, kernel, bias, gradient = arrays(*size, WIDE, 80, seed=7)

    def gradients(algorithm: str) -> tuple[jax.Array, ...]:
        def function(*inputs: jax.Array) -> jax.Array:
            return convolve(*inputs, padding=padding, algorithm=algorithm)  # type: ignore[arg-type]

        return jax.vjp(function, images, kernel, bias)[1](gradient)

    for found, wanted in zip(gradients("winograd"), gradients("direct"), strict=True):
        assert np.abs(found - wanted).max() < 2e-5 * np.abs(wanted).max()


@pytest.mark.parametrize("channels", [(WIDE, 80), (WIDE, 3), (8, 16)])
@pytest.mark.parametrize("upsampled", [False, True])
def test_relu_on_the_way_is_relu_behind_it(channels: tuple[int, int], upsampled: bool) -> None:
    images, kernel, bias, gradient = arrays(8, 12, *channels, seed=2)
    if upsampled:
        gradient = upsample(gradient)

    def on_the_way(*inputs: jax.Array, algorithm: Algorithm) -> jax.Array:
        return convolve(*inputs, algorithm=algorithm, rectified=True, upsampled=upsampled)

    def behind(*inputs: jax.Array) -> jax.Array:
        return jax.nn.relu(convolve(*inputs, upsampled=upsampled))

    result, pull = jax.vjp(behind, images, kernel, bias)
    assert 0.2 < np.mean(result > 0) < 0.8
    wanted = (result, *pull(gradient))
    for algorithm in ("winograd", "direct"):
        found, pull = jax.vjp(partial(on_the_way, algorithm=algorithm), images, kernel, bias)
        for one, other in zip((found, *pull(gradient)), wanted, strict=True):
            assert np.abs(one - other).max() < 2e-5 * np.abs(other).max()


@pytest.mark.parametrize(
    ("height", "channels", "dtype"),
    [(6, (WIDE, WIDE), "float32"), (8, (WIDE - 1, WIDE), "float32"), (8, (WIDE, WIDE), "bfloat16")],
)
def test_what_does_not_suit_is_convolved_directly(
    height: int, channels: tuple[int, int], dtype: str
) -> None:
    inputs = [a.astype(dtype) for a in arrays(height, 8, *channels, seed=3)[:3]]
    assert not conv_winograd.is_supported(inputs[0], inputs[1])
    found, wanted = (convolve(*inputs, algorithm=name) for name in ("winograd", "direct"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, wanted)
