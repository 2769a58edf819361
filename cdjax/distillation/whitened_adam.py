"""Adam in coordinates in which every layer's inputs are white.

The inputs of a VGG layer are so correlated that plain Adam needs tens of thousands of steps. Let G
be the second moments of a layer's inputs (3x3 patches and a constant) and L L^T = G. In the
coordinates V = L^T W of the kernel, every direction changes the layer's output equally, and
hundreds of steps suffice.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jax import Array
from numpy.typing import NDArray

from cdjax.distillation.initialization import layer_samples
from cdjax.model import Images, Params
from cdjax.networks.layers import run_layers
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import product

Factors = dict[str, dict[str, dict[str, Array]]]
_DAMPING = 1e-3
"""Added to G, as a fraction of each input's mean square, to damp directions that hardly occur."""


def _gram(inputs: Array) -> Array:
    vectors = inputs.reshape(-1, inputs.shape[-1])
    vectors = jnp.concatenate([vectors, jnp.ones_like(vectors[:, :1])], -1)
    return product(vectors.T, vectors)


@partial(jax.jit, static_argnames="student")
def _grams(
    networks: dict[str, Params], images: Array, where: dict[str, tuple[Array, ...]], student: Spec
) -> dict[str, dict[str, Array]]:
    """The Gram matrices of the inputs of each convolution, and of each tap, by network."""
    found: dict[str, dict[str, Array]] = {"embedding": {}}
    features = layer_samples.coloured(networks["encoder"], images)
    for network, convs in (("encoder", student.encoder), ("decoder", student.decoder)):
        if network not in networks:
            continue
        params, grams = networks[network], found.setdefault(network, {})
        features, layers = run_layers(params, convs, features, padding=student.padding)
        for conv, positions in zip(convs, where[network], strict=True):
            inputs, outputs = layers[conv.name]
            vectors = layer_samples.patches(inputs, positions, conv, student.padding)
            grams[conv.name] = _gram(vectors)
            if conv.is_tap and network == "encoder":
                tap = layer_samples.positions_of(outputs, positions)
                found["embedding"][conv.layer] = _gram(tap)
    return found


def input_factors(
    networks: Mapping[str, Params],
    images: Images,
    *,
    student: Spec,
    samples: int = 60_000,
    batch: int = 8,
) -> Factors:
    """The whitening of every layer's inputs, estimated from images.

    Args:
        networks: `"encoder"`, and those of `"embedding"` and `"decoder"` that are trained.
        images: (N, H, W, 3) uint8 RGB.
        student: their spec.
        samples: positions of each layer over all images, at most.
        batch: images at a time.

    Returns:
        For every layer but conv0 `{"inverse": (D, D), "scale": (O,)}`, float32: the inverse of
        the Cholesky factor L of the second moments of its D inputs (the constant last), and the
        root mean square of each column of L^T W, at least a tenth of their median. Keys as in
        `networks`.
    """
    generator = np.random.default_rng(0)
    where = {
        network: layer_samples.sample_positions(generator, convs, images.shape[:3], most=samples)
        for network, convs in (("encoder", student.encoder), ("decoder", student.decoder))
    }
    total: Any = None
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        here = jax.tree.map(lambda positions: positions[part], where)  # noqa: B023
        grams = _grams(dict(networks), images[part], here, student)
        wide = jax.tree.map(lambda gram: np.asarray(gram, np.float64), grams)
        total = wide if total is None else jax.tree.map(np.add, total, wide)
    return {
        network: {
            name: _factor(gram, networks[network][name])
            for name, gram in layers.items()
            if name in networks.get(network, {})
        }
        for network, layers in total.items()
        if network in networks
    }


def _factor(gram: NDArray[np.float64], layer: Params) -> dict[str, Array]:
    gram = gram / gram[-1, -1]
    square = np.append(np.diag(gram)[:-1], 0.0)
    factor = np.linalg.cholesky(gram + np.diag(_DAMPING * square + 1e-6 * square.mean()))
    inverse = scipy.linalg.solve_triangular(factor, np.eye(len(gram)), lower=True)
    # For each output separately: with lsq, some are rarely active, but then in the thousands.
    size = np.sqrt(np.mean(np.square(factor.T @ np.asarray(_matrix(layer), np.float64)), axis=0))
    size = np.maximum(size, np.median(size) / 10)
    return {"inverse": jnp.asarray(inverse, jnp.float32), "scale": jnp.asarray(size, jnp.float32)}


def _matrix(layer: Params) -> Array:
    """A layer as (D, O), the bias its last row."""
    kernel = layer["kernel"]
    return jnp.concatenate([kernel.reshape(-1, kernel.shape[-1]), layer["bias"][None]])


def _each(function: Callable[..., Any], factors: Factors, *trees: Any) -> Any:
    return {
        network: {
            name: function(factor, *(tree[network][name] for tree in trees))
            for name, factor in layers.items()
        }
        for network, layers in factors.items()
    }


def whitened_adam(rate: optax.ScalarOrSchedule) -> optax.GradientTransformationExtraArgs:
    """Adam over V = L^T W of every layer.

    Args:
        rate: the learning rate, relative to the size of each column of V.

    Returns:
        A transformation whose `update` takes `factors` of `input_factors`. Layers without factors
        (conv0) are not changed.
    """
    adam = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(rate))

    def trained(params: Any) -> Any:
        return {
            network: {name: _matrix(layer) for name, layer in layers.items() if name != "conv0"}
            for network, layers in params.items()
        }

    def update(gradients: Any, state: Any, params: Any, *, factors: Factors) -> tuple[Any, Any]:
        def turn(factor: dict[str, Array], gradient: Params) -> Array:
            return product(factor["inverse"], _matrix(gradient))

        def back(factor: dict[str, Array], step: Array, layer: Params) -> Params:
            move = factor["scale"] * product(factor["inverse"].T, step)
            return {"kernel": move[:-1].reshape(layer["kernel"].shape), "bias": move[-1]}

        steps, state = adam.update(_each(turn, factors, gradients), state)
        moved = _each(back, factors, steps, gradients)
        still = jax.tree.map(jnp.zeros_like, gradients)
        return {name: {**still[name], **moved[name]} for name in still}, state

    return optax.GradientTransformationExtraArgs(lambda params: adam.init(trained(params)), update)
