"""Convolution, encoder, embedding and decoder against NumPy in float64."""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdjax import Spec
from cdjax.model import Params
from cdjax.networks.decoder import Decoder
from cdjax.networks.embedding import Embedding
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import run_layers
from cdjax.networks.spec import VGG16_DEPTHS
from cdjax.ops.conv import _borders_corrected, _padded, convolve, max_pool
from cdjax.ops.conv_xla import convolve_plainly
from cdjax.ops.padding import Padding
from tests import models


@settings(max_examples=8, deadline=None)
@given(
    size=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    channels=st.sampled_from([(1, 1), (3, 8), (8, 3), (5, 7), (3, 3)]),
)
def test_convolution_reflects_at_every_border(
    size: tuple[int, int], channels: tuple[int, int]
) -> None:
    generator = np.random.default_rng(sum(size))
    image, kernel = (
        generator.normal(size=(*size, channels[0])),
        generator.normal(size=(3, 3, *channels)),
    )
    bias = generator.normal(size=channels[1])
    expected = models.convolve(image, kernel, bias)
    image, kernel, bias = (jnp.asarray(a, jnp.float32) for a in (image, kernel, bias))
    np.testing.assert_allclose(convolve(image[None], kernel, bias)[0], expected, atol=2e-5)
    # Both backends' paths, whichever backend this machine has.
    corrected = partial(_borders_corrected, convolve=convolve_plainly)
    for path in (corrected, partial(_padded, padding="reflect")):
        np.testing.assert_allclose(path(image[None], kernel)[0] + bias, expected, atol=2e-5)


def test_convolution_refuses_an_image_too_small_to_reflect() -> None:
    with pytest.raises(ValueError, match="2 rows and columns"):
        convolve(jnp.zeros((1, 1, 5, 3)), jnp.zeros((3, 3, 3, 4)), jnp.zeros(4))


def test_pooling_drops_the_odd_row_and_column() -> None:
    image = jnp.arange(15.0).reshape(1, 3, 5, 1)
    np.testing.assert_array_equal(max_pool(image)[0, :, :, 0], [[6, 8]])


@pytest.mark.parametrize(
    "spec",
    [
        Spec(1, (7,)),
        Spec(3, (4, 5, 6)),
        Spec(5, (3, 4, 5, 6, 7)),
        Spec(5, (3, 4, 5, 6, 7), VGG16_DEPTHS),
        Spec(4, (3, 4, 5, 6), VGG16_DEPTHS, "zero"),
    ],
)
def test_encoder_and_decoder_equal_numpy(spec: Spec) -> None:
    stage = models.random_model([dataclasses.replace(spec, padding="reflect")]).params
    params = stage[f"stage{spec.stage}"]
    image = models.random_image(2 * spec.stride + 5, 3 * spec.stride + 2) / 255
    expected = models.encode(spec, params["encoder"], image)
    encode, decode = jax.jit(Encoder(spec).apply), jax.jit(Decoder(spec).apply)
    features, taps = encode({"params": params["encoder"]}, jnp.asarray(image, jnp.float32)[None])
    assert list(taps) == [name for name, _ in spec.taps]
    for name, tap in taps.items():
        np.testing.assert_allclose(tap[0], expected[name], rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(features, taps[f"relu{spec.stage}_1"])
    if spec.padding == "reflect":
        decoded = decode({"params": params["decoder"]}, features)
        reference = models.decode(spec, params["decoder"], expected[f"relu{spec.stage}_1"])
        np.testing.assert_allclose(decoded[0], reference, rtol=1e-4, atol=1e-5)


@settings(max_examples=10, deadline=None)
@given(
    size=st.tuples(st.integers(2, 7), st.integers(2, 8)),
    channels=st.sampled_from([(1, 1), (3, 8), (8, 3), (5, 7)]),
    padding=st.sampled_from(["reflect", "zero"]),
)
def test_gradients_are_those_of_padding_and_convolving(
    size: tuple[int, int], channels: tuple[int, int], padding: Padding
) -> None:
    generator = np.random.default_rng(sum(size))
    image, kernel, bias, weights = (
        jnp.asarray(generator.normal(size=shape), jnp.float32)
        for shape in ((2, *size, channels[0]), (3, 3, *channels), channels[1:], (2, *size, 1))
    )

    def plain(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        mode = "reflect" if padding == "reflect" else "constant"
        padded = jnp.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
        layout = ("NHWC", "HWIO", "NHWC")
        result = jax.lax.conv_general_dilated(
            padded, kernel, (1, 1), "VALID", dimension_numbers=layout
        )
        return jnp.sum(weights * jnp.sin(result + bias))

    def ours(image: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
        return jnp.sum(weights * jnp.sin(convolve(image, kernel, bias, padding=padding)))

    expected = jax.jit(jax.grad(plain, (0, 1, 2)))(image, kernel, bias)
    found = jax.jit(jax.grad(ours, (0, 1, 2)))(image, kernel, bias)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(left, right, atol=2e-4)


def test_bfloat16_stays_near_float32() -> None:
    spec = Spec(3, (8, 8, 8))
    params = models.random_model([spec]).params["stage3"]["encoder"]
    image = jnp.asarray(models.random_image(1, 32, 32) / 255, jnp.float32)
    exact, _ = jax.jit(Encoder(spec).apply)({"params": params}, image)
    rounded, _ = jax.jit(Encoder(spec, jnp.bfloat16).apply)({"params": params}, image)
    assert rounded.dtype == jnp.bfloat16
    difference = jnp.abs(rounded.astype(jnp.float32) - exact).max()
    assert 0 < difference < 0.03 * exact.max()


def test_embedding_is_a_biased_linear_map_without_relu() -> None:
    spec = Spec(2, (3, 4))
    module = Embedding(spec, (5, 6))
    taps = {"relu1_1": jnp.ones((1, 2, 2, 3)), "relu2_1": jnp.ones((1, 1, 1, 4))}
    params = module.init(jax.random.key(0), taps)
    embedded = module.apply(params, taps)
    kernel = np.asarray(params["params"]["relu2_1"]["kernel"])
    np.testing.assert_allclose(embedded["relu2_1"][0, 0, 0], kernel.sum(0), rtol=1e-5)
    assert embedded["relu1_1"].shape == (1, 2, 2, 5)
    assert (np.asarray(embedded["relu2_1"]) < 0).any()


def test_parameters_of_other_networks_are_refused() -> None:
    image = jnp.zeros((1, 8, 8, 3))
    params = models.random_model([Spec(1, (5,))]).params["stage1"]["encoder"]
    with pytest.raises(ValueError, match=r"conv1_1.*\(3, 3, 3, 6\)"):
        Encoder(Spec(1, (6,))).apply({"params": params}, image)
    with pytest.raises(ValueError, match="conv0"):
        Encoder(Spec(1, (5,))).apply({"params": {"conv1_1": params["conv1_1"]}}, image)


def test_layers_are_those_of_a_whole_run_wherever_it_is_cut() -> None:
    spec = Spec(3, (4, 5, 6))
    networks = models.random_model([spec]).params["stage3"]
    images = jnp.asarray(models.random_image(1, 16, 20) / 255, jnp.float32)

    @jax.jit
    def run_all(params: Params, features: jax.Array) -> Any:
        run = partial(run_layers, params, padding="reflect")
        encoded, layers = run(spec.encoder, features)
        _, before = run(spec.encoder, features, pre_activations=True)
        part, _ = run(spec.encoder[:2], features)
        joined, _ = run(spec.encoder[2:], part)
        return encoded, layers, before, joined

    encoded, layers, before, joined = run_all(networks["encoder"], images)
    np.testing.assert_allclose(joined, encoded, rtol=1e-6)
    assert list(layers) == [conv.name for conv in spec.encoder]
    for name, layer in layers.items():
        assert (np.asarray(before[name].outputs) < 0).any()
        np.testing.assert_allclose(layer.outputs, jnp.maximum(before[name].outputs, 0), rtol=1e-6)
    # What a convolution reads is what the one before it makes, pooled where pooling follows.
    np.testing.assert_array_equal(layers["conv2_2"].inputs, layers["conv2_1"].outputs)
    np.testing.assert_array_equal(layers["conv3_1"].inputs, max_pool(layers["conv2_2"].outputs))
