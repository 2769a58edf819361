"""One layer as a least-squares problem: kernels whose rectified outputs span given targets.

Everything works on `Rows`: pairs of input and target vectors, cut into chunks of one size so that
each layer compiles once. What is summed over rows is summed in float64; what is solved is small,
and solved in float64 on the host.

`fit_layer` is the heart of the initialisation `lsq`: a linear start (channels of the teacher,
chosen greedily and regressed on the student's inputs), then variable projection: the output map Q
is eliminated by ridge regression at every evaluation, and L-BFGS sees the kernel alone, in
coordinates whitened by the inputs' Gram matrix (Golub and Pereyra 1973).
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
import scipy.optimize
from jax import Array
from numpy.typing import NDArray

from cdjax.distillation.initialization.samples import (
    Rows,
    columns,
    forgiven_moments,
    moments,
    projection,
    projection_slope,
    rectified_loss,
    rectified_moments,
    turned,
)

Floats = NDArray[np.float64]

_RIDGES = 10.0 ** np.arange(-7, 0)
"""Candidates for the ridge of a regression, as fractions of each input's mean square."""
_OUTPUT_RIDGE = 1e-5
_FORGIVING_PASSES = 4
_CHECK_EVERY = 3
_PATIENCE = 3
_KEPT_VARIANCE = 0.995
_DEAD = 1e-6


def _factor(gram: Floats, strength: float) -> Floats:
    """The Cholesky factor of G + s diag G, the constant (last row) not damped."""
    square = np.append(np.diag(gram)[:-1], 0.0)
    # Inputs that are always zero, or nearly, are pinned down too.
    floor = 1e-12 * square.mean() + np.finfo(float).tiny
    while True:
        try:
            return np.asarray(np.linalg.cholesky(gram + np.diag(strength * square + floor)))
        except np.linalg.LinAlgError:
            # Fewer rows than inputs, and products rounded to float32: not definite by a hair.
            if strength > 1:
                raise
            strength *= 10


def ridge(gram: Floats, cross: Floats, strength: float) -> Floats:
    """Solves (G + s diag G) B = C, the constant (last row) left out of the ridge.

    Args:
        gram: (D, D), positive semidefinite.
        cross: (D, C).
        strength: s; the result does not depend on the units of the inputs.

    Returns:
        B, (D, C), float64.
    """
    return np.asarray(scipy.linalg.cho_solve((_factor(gram, strength), True), cross))


def error(gram: Floats, cross: Floats, square: float, solution: Floats) -> float:
    """|T - H B|^2 from the moments H^T H, H^T T and |T|^2."""
    return float(square + np.sum(solution * (gram @ solution - 2 * cross)))


def select_columns(covariance: Floats, metric: Floats, count: int) -> NDArray[np.int64]:
    """Greedy column-subset selection.

    Args:
        covariance: (C, C) of the features.
        metric: (C, R); features times this matrix are what is to be explained.
        count: how many columns, at most C.

    Returns:
        Indices of features, ascending, each chosen to explain, with those before it, the most
        variance.
    """
    rest = covariance.copy()
    floor = 1e-9 * max(np.diag(rest).max(), np.finfo(float).tiny)
    chosen: list[int] = []
    for _ in range(count):
        spread = np.diag(rest)
        gain = np.where(
            spread > floor, np.square(metric.T @ rest).sum(0) / np.maximum(spread, floor), -1
        )
        gain[chosen] = -2
        best = int(np.argmax(gain))
        chosen.append(best)
        if spread[best] > floor:
            rest = rest - np.outer(rest[best], rest[best]) / spread[best]
    return np.sort(np.array(chosen))


def _narrow(values: Floats) -> Array:
    return jnp.asarray(values, jnp.float32)


def _start(fit: Rows, stop: Rows, gram: Floats, chosen: NDArray[np.int64]) -> tuple[Floats, float]:
    """Ridge regression of the chosen pre-activations, then forgiving passes; and its ridge."""
    wanted, held = (columns(rows.targets, chosen) for rows in (fit, stop))
    cross = np.asarray(moments(fit.inputs, wanted))
    gram_stop = np.asarray(moments(stop.inputs, stop.inputs))
    cross_stop = np.asarray(moments(stop.inputs, held))
    # The ridge is the one with which the start does best on photographs that were kept out.
    solutions = [ridge(gram, cross, strength) for strength in _RIDGES]
    errors = [error(gram_stop, cross_stop, 0.0, solution) for solution in solutions]
    best = int(np.argmin(errors))
    kernel, strength = solutions[best], float(_RIDGES[best])
    for _ in range(_FORGIVING_PASSES):
        cross = np.asarray(forgiven_moments(fit.inputs, wanted, _narrow(kernel)))
        kernel = ridge(gram, cross, strength)
    return kernel, strength


def _whitener(gram: Floats, count: int, strength: float) -> Floats:
    """The Cholesky factor of the inputs' damped second moments."""
    return _factor(gram / count, max(strength, 1e-7))


def _minimize(
    value: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    factor: Floats,
    iterations: int,
    watch: Callable[[Floats], bool] = lambda kernel: False,
) -> tuple[Floats, float, int]:
    """L-BFGS over L^T W, where L is `factor`; ends early when `watch` says so."""

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


@dataclass
class _Projected:
    """min over Q, q of |T - Q relu(X W) - q|^2: the loss that remains a function of W alone."""

    fit: Rows
    stop: Rows
    matrix: Floats
    mean: Floats

    def __post_init__(self) -> None:
        self.targets, square = self._turn(self.fit)
        self.stop_targets, stop_square = self._turn(self.stop)
        self.square, self.stop_square = float(square), float(stop_square)

    def _turn(self, rows: Rows) -> tuple[Array, Array]:
        return turned(rows.inputs, rows.targets, _narrow(self.matrix), _narrow(self.mean))

    def _solve(self, kernel: Floats) -> tuple[float, Floats]:
        gram, cross = map(np.asarray, projection(self.fit.inputs, self.targets, _narrow(kernel)))
        solution = ridge(gram, cross, _OUTPUT_RIDGE)
        penalty = _OUTPUT_RIDGE * (np.diag(gram)[:-1] @ np.square(solution[:-1])).sum()
        return (error(gram, cross, self.square, solution) + penalty) / self.square, solution

    def value(self, kernel: Floats) -> tuple[float, Floats]:
        """The unexplained share of the targets, and its gradient."""
        loss, solution = self._solve(kernel)
        arguments = (_narrow(kernel), _narrow(solution))
        slope = np.asarray(projection_slope(self.fit.inputs, self.targets, *arguments))
        return loss, 2 * slope / self.square

    def held_out(self, kernel: Floats) -> float:
        """The unexplained share of the rows kept out, under the Q of those that were fitted."""
        _, solution = self._solve(kernel)
        arguments = (self.stop.inputs, self.stop_targets, _narrow(kernel))
        gram, cross = map(np.asarray, projection(*arguments))
        return error(gram, cross, self.stop_square, solution) / self.stop_square


@dataclass
class _Watch:
    """Remembers the kernel that does best on the rows kept out; says when to stop."""

    held_out: Callable[[Floats], float]
    kernel: Floats
    seen: int = 0
    waited: int = 0

    def __post_init__(self) -> None:
        self.first = self.error = self.held_out(self.kernel)

    def __call__(self, kernel: Floats) -> bool:
        self.seen += 1
        if self.seen % _CHECK_EVERY:
            return False
        now = self.held_out(kernel)
        if now < self.error:
            self.kernel, self.error, self.waited = kernel, now, 0
        else:
            self.waited += 1
        return self.waited == _PATIENCE


@dataclass(frozen=True)
class Layer:
    """A fitted layer.

    Attributes:
        kernel: (D, W); its last row is the bias.
        solution: (W + 1, C), the best ridge map of its rectified outputs to the rectified targets.
        summary: what the fit came to, for people.
    """

    kernel: Floats
    solution: Floats
    summary: str


def fit_layer(
    fit: Rows, stop: Rows, *, width: int, metric: Floats | None = None, iterations: int = 60
) -> Layer:
    """Kernels W such that Q relu(X W) + q comes nearest to relu(Z), for inputs X and targets Z.

    Args:
        fit: the rows to fit; targets Z are pre-activations, C of them.
        stop: rows of other photographs, which end the descent and choose the ridge.
        width: channels wanted, at most C.
        metric: (C, R); distances are measured between relu(Z) times this matrix. Identity if
            not given.
        iterations: of L-BFGS, at most; 0 for the linear start alone.

    Returns:
        The layer, every channel scaled to a mean activation of 1 over the rows to fit.
    """
    with jax.enable_x64(True):
        joint = np.asarray(rectified_moments(fit.inputs, fit.targets)) / fit.count
        mean = joint[-1, :-1]
        covariance = joint[:-1, :-1] - np.outer(mean, mean)
        metric = np.eye(len(mean)) if metric is None else metric
        gram = np.asarray(moments(fit.inputs, fit.inputs))
        kernel, strength = _start(fit, stop, gram, select_columns(covariance, metric, width))
        summary = "linear start"
        if iterations:
            matrix = _principal(metric, covariance)
            projected = _Projected(fit, stop, matrix, mean @ matrix)
            watch = _Watch(projected.held_out, kernel)
            factor = _whitener(gram, fit.count, strength)
            _, loss, steps = _minimize(projected.value, kernel, factor, iterations, watch)
            kernel = watch.kernel
            summary = (
                f"unexplained {watch.first:.3f}, after {steps} steps {watch.error:.3f} "
                f"({loss:.3f} where fitted)"
            )
        return _scaled(fit, kernel, summary)


def _principal(metric: Floats, covariance: Floats) -> Floats:
    """(C, r): the metric, turned and cut to the directions that hold nearly all variance."""
    values, vectors = np.linalg.eigh(metric.T @ covariance @ metric)
    values, vectors = values[::-1], vectors[:, ::-1]
    share = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
    kept = min(int(np.searchsorted(share, _KEPT_VARIANCE)) + 1, len(values))
    return metric @ vectors[:, :kept]


def _scaled(fit: Rows, kernel: Floats, summary: str) -> Layer:
    """The kernel with channels of mean activation 1, and the output map that goes with it."""
    identity, zero = np.eye(fit.targets.shape[-1]), np.zeros(fit.targets.shape[-1])
    positive, _ = turned(fit.inputs, fit.targets, _narrow(identity), _narrow(zero))
    gram, cross = map(np.asarray, projection(fit.inputs, positive, _narrow(kernel)))
    mean = gram[-1, :-1] / fit.count
    # A channel that never answers has no scale.
    scale = np.where(mean > _DEAD, mean, 1.0)
    solution = ridge(gram, cross, _OUTPUT_RIDGE)
    solution[:-1] *= scale[:, None]
    return Layer(kernel / scale, solution, summary)


def fit_rectified(rows: Rows, *, strength: float = 1e-6, iterations: int = 30) -> Floats:
    """The map W for which relu(X W) comes nearest to non-negative targets, in least squares.

    Args:
        rows: inputs and targets.
        strength: of the ridge, as in `ridge`.
        iterations: of L-BFGS, at most, after a linear start and passes that forgive negative
            predictions of zero.

    Returns:
        (D, C), float64.
    """
    with jax.enable_x64(True):
        gram = np.asarray(moments(rows.inputs, rows.inputs))
        kernel = ridge(gram, np.asarray(moments(rows.inputs, rows.targets)), strength)
        for _ in range(_FORGIVING_PASSES):
            cross = np.asarray(forgiven_moments(rows.inputs, rows.targets, _narrow(kernel)))
            kernel = ridge(gram, cross, strength)
        factor = _whitener(gram, rows.count, strength)

        def value(kernel: Floats) -> tuple[float, Floats]:
            loss, slope = rectified_loss(rows.inputs, rows.targets, _narrow(kernel))
            return float(loss) / rows.count, 2 * np.asarray(slope) / rows.count

        return _minimize(value, kernel, factor, iterations)[0] if iterations else kernel
