"""The convolution of an upsampled image, without it, against the same in two steps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax.ops.conv import convolve
from cdjax.ops.jit import EXACT, compiled
from cdjax.ops.padding import Padding
from cdjax.ops.upsample import convolve_around_corners, upsample
from tests import models


def test_upsampling_repeats_every_pixel() -> None:
    image = jnp.asarray([[1.0, 2], [3, 4]]).reshape(1, 2, 2, 1)
    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(upsample(image)[0, :, :, 0], expected)


@settings(max_examples=10, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 7)),
    channels=st.sampled_from([(1, 1), (5, 3), (3, 8)]),
)
def test_it_equals_numpy(size: tuple[int, int], channels: tuple[int, int]) -> None:
    generator = np.random.default_rng(sum(size))
    shapes = ((*size, channels[0]), (3, 3, *channels), channels[1:])
    image, kernel, bias = (generator.normal(size=shape) for shape in shapes)
    expected = models.convolve(image.repeat(2, 0).repeat(2, 1), kernel, bias)
    image, kernel, bias = (jnp.asarray(a, jnp.float32) for a in (image, kernel, bias))
    found = convolve(image[None], kernel, bias, upsampled=True)[0]
    np.testing.assert_allclose(found, expected, atol=3e-5)


@pytest.mark.parametrize("padding", ["reflect", "zero"])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 3)])
def test_gradients_are_those_of_two_steps(size: tuple[int, int], padding: Padding) -> None:
    generator = np.random.default_rng(sum(size))
    shapes = ((2, *size, 5), (3, 3, 5, 4), (4,))
    given = tuple(jnp.asarray(generator.normal(size=s), jnp.float32) for s in shapes)
    weights = generator.normal(size=(2, 2 * size[0], 2 * size[1], 4)).astype(np.float32)

    def at_once(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        result = convolve(images, kernel, bias, padding=padding, upsampled=True)
        return jnp.sum(weights * jnp.sin(result))

    def in_two(images: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        result = convolve(upsample(images), kernel, bias, padding=padding)
        return jnp.sum(weights * jnp.sin(result))

    value, found = jax.value_and_grad(at_once, (0, 1, 2))(*given)
    wanted, expected = jax.value_and_grad(in_two, (0, 1, 2))(*given)
    assert float(value) == pytest.approx(float(wanted), rel=1e-4)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there it is done in two steps")
def test_the_upsampled_image_is_never_made() -> None:
    shapes = [(1, 8, 8, 16), (3, 3, 16, 16), (16,)]
    given = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    text = jax.jit(lambda *a: convolve(*a, upsampled=True)).lower(*given).compile().as_text()
    assert "2,2,16,64" in text  # The kernel around corners.


@pytest.mark.parametrize("channels", [(5, 3), (16, 16), (64, 64)])
def test_the_last_bits_are_those_of_the_whole_image(channels: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    shapes = (1, 20, 19, channels[0]), (3, 3, *channels), channels[1:]
    image, kernel, bias = (generator.normal(size=s).astype(np.float32) for s in shapes)
    whole = compiled(partial(convolve, upsampled=True), settings=EXACT)(image, kernel, bias)
    part = compiled(convolve_around_corners, settings=EXACT)(image[:, 4:15, 3:], kernel)
    np.testing.assert_array_equal(part + bias, whole[:, 9:29, 7:-1])
