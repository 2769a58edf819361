"""Least squares on `Samples`: ridge regression, and fits through a ReLU by L-BFGS.

What is summed over samples is summed in float64; the small systems that remain are solved in
float64 on the host.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jax import Array
from numpy.typing import NDArray

from cdjax.ops.samples import Samples, moments, relu_loss, relu_masked_moments

Floats = NDArray[np.float64]

MASKED_PASSES = 4
"""Regressions whose targets are masked by the ReLU, after the linear one."""


def as_float32(values: Floats) -> Array:
    """The values as a float32 array of JAX."""
    return jnp.asarray(values, jnp.float32)


def _factor(gram: Floats, strength: float) -> Floats:
    """The Cholesky factor of G + s diag G, the constant (last row) not damped."""
    square = np.append(np.diag(gram)[:-1], 0.0)
    # Also damps inputs that are always zero or nearly so.
    floor = 1e-12 * square.mean() + np.finfo(float).tiny
    while True:
        try:
            return np.asarray(np.linalg.cholesky(gram + np.diag(strength * square + floor)))
        except np.linalg.LinAlgError:
            # Products rounded to float32 may be slightly indefinite.
            if strength > 1:
                raise
            strength *= 10


def ridge(gram: Floats, cross: Floats, strength: float) -> Floats:
    """Solves (G + s diag G) B = C without damping the constant (last row).

    Args:
        gram: G, (D, D), positive semidefinite.
        cross: C, (D, C).
        strength: s; the result does not depend on the units of the inputs.

    Returns:
        B, (D, C), float64.
    """
    return np.asarray(scipy.linalg.cho_solve((_factor(gram, strength), True), cross))


def squared_error(gram: Floats, cross: Floats, square: float, solution: Floats) -> float:
    """|T - H B|^2 from the moments H^T H, H^T T and |T|^2."""
    return float(square + np.sum(solution * (gram @ solution - 2 * cross)))


def whitener(gram: Floats, count: int, strength: float) -> Floats:
    """The Cholesky factor of the inputs' damped second moments."""
    return _factor(gram / count, max(strength, 1e-7))


def minimize_whitened(
    value: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    factor: Floats,
    iterations: int,
    watch: Callable[[Floats], bool] = lambda kernel: False,
) -> tuple[Floats, float, int]:
    """L-BFGS over L^T W: the last W, the value there, and the number of iterations.

    Args:
        value: the function of W, (D, C), and its gradient.
        start: the first W.
        factor: L, (D, D), lower triangular.
        iterations: at most.
        watch: called with W after every iteration; ends the descent by returning True.
    """

    def unwhitened(flat: Floats) -> Floats:
        return scipy.linalg.solve_triangular(factor, flat.reshape(start.shape), trans=1, lower=True)

    def whitened_value(flat: Floats) -> tuple[float, Floats]:
        loss, slope = value(unwhitened(flat))
        return loss, scipy.linalg.solve_triangular(factor, slope, lower=True).ravel()

    def callback(flat: Floats) -> None:
        if watch(unwhitened(flat)):
            raise StopIteration

    result = scipy.optimize.minimize(
        whitened_value,
        (factor.T @ start).ravel(),
        jac=True,
        method="L-BFGS-B",
        callback=callback,
        options={"maxiter": iterations, "maxcor": 20, "maxfun": 2 * iterations},
    )
    return unwhitened(result.x), float(result.fun), int(result.nit)


def fit_relu(samples: Samples, *, strength: float = 1e-6, iterations: int = 30) -> Floats:
    """Finds W that minimises |T - relu(X W)|^2 for non-negative targets T.

    Args:
        samples: inputs X and targets T.
        strength: of the ridge, as for `ridge`.
        iterations: of L-BFGS, at most, after a linear start and masked regressions.

    Returns:
        (D, C), float64.
    """
    inputs, targets = samples.inputs, samples.targets
    with jax.enable_x64(True):
        gram = np.asarray(moments(inputs, inputs))
        kernel = ridge(gram, np.asarray(moments(inputs, targets)), strength)
        for _ in range(MASKED_PASSES):
            cross = np.asarray(relu_masked_moments(inputs, targets, as_float32(kernel)))
            kernel = ridge(gram, cross, strength)
        factor = whitener(gram, samples.count, strength)

        def value(kernel: Floats) -> tuple[float, Floats]:
            loss, slope = relu_loss(inputs, targets, as_float32(kernel))
            return float(loss) / samples.count, 2 * np.asarray(slope) / samples.count

        return minimize_whitened(value, kernel, factor, iterations)[0] if iterations else kernel
