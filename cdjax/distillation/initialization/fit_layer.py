"""One layer of a student, fitted by least squares: a kernel whose ReLU outputs span the targets.

The fit begins with a linear start: channels of the teacher are chosen greedily and regressed on the
student's inputs. Variable projection follows (Golub and Pereyra 1973): the output map Q is
eliminated by ridge regression at every evaluation, and L-BFGS varies the kernel alone, in
coordinates whitened by the Gram matrix of the inputs.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax.model import Params
from cdjax.ops import least_squares, samples
from cdjax.ops.least_squares import Floats, as_float32, ridge, squared_error
from cdjax.ops.samples import Samples, moments

_RIDGES = 10.0 ** np.arange(-7, 0)
"""Candidates for the ridge of a regression, as fractions of each input's mean square."""
_OUTPUT_RIDGE = 1e-5
_CHECK_EVERY = 3
_PATIENCE = 3
_KEPT_VARIANCE = 0.995
_DEAD = 1e-6


def as_params(solution: Floats, *sides: int) -> Params:
    """A solution (D, O), whose last row is the bias, as a layer with a kernel (*sides, I, O)."""
    kernel = solution[:-1].reshape(*sides, -1, solution.shape[-1])
    return {"kernel": jnp.asarray(kernel, jnp.float32), "bias": as_float32(solution[-1])}


def select_columns(covariance: Floats, metric: Floats, count: int) -> NDArray[np.int64]:
    """Greedy selection of the `count` features, at most C, that explain the most variance.

    The features have the covariance (C, C); what is explained are the features times the metric
    (C, R). Returns ascending indices.
    """
    rest = covariance.copy()
    floor = 1e-9 * max(np.diag(rest).max(), np.finfo(float).tiny)
    chosen: list[int] = []
    for _ in range(count):
        spread = np.diag(rest)
        explained = np.square(metric.T @ rest).sum(0) / np.maximum(spread, floor)
        gain = np.where(spread > floor, explained, -1)
        gain[chosen] = -2
        best = int(np.argmax(gain))
        chosen.append(best)
        if spread[best] > floor:
            rest = rest - np.outer(rest[best], rest[best]) / spread[best]
    return np.sort(np.array(chosen))


def _start(
    fit: Samples, stop: Samples, gram: Floats, chosen: NDArray[np.int64]
) -> tuple[Floats, float]:
    """Ridge regression of the chosen pre-activations, then masked passes; and its ridge."""
    wanted, held = (samples.columns(part.targets, chosen) for part in (fit, stop))
    cross = np.asarray(moments(fit.inputs, wanted))
    gram_stop = np.asarray(moments(stop.inputs, stop.inputs))
    cross_stop = np.asarray(moments(stop.inputs, held))
    # The ridge is chosen by the error on photographs that were held out.
    solutions = [ridge(gram, cross, strength) for strength in _RIDGES]
    errors = [squared_error(gram_stop, cross_stop, 0.0, solution) for solution in solutions]
    best = int(np.argmin(errors))
    kernel, strength = solutions[best], float(_RIDGES[best])
    for _ in range(least_squares.MASKED_PASSES):
        cross = np.asarray(samples.relu_masked_moments(fit.inputs, wanted, as_float32(kernel)))
        kernel = ridge(gram, cross, strength)
    return kernel, strength


@dataclass
class _Descent:
    """min over Q, q of |T - Q relu(X W) - q|^2, as a function of W alone.

    `kernel` is the W with the least error on the held-out samples so far.
    """

    fit: Samples
    stop: Samples
    matrix: Floats
    mean: Floats
    kernel: Floats
    seen: int = 0
    waited: int = 0

    def __post_init__(self) -> None:
        self.targets, self.square = self._project(self.fit)
        self.stop_targets, self.stop_square = self._project(self.stop)
        self.first = self.error = self.held_out(self.kernel)

    def _project(self, part: Samples) -> tuple[Array, float]:
        matrix, mean = as_float32(self.matrix), as_float32(self.mean)
        targets, square = samples.projected_relu(part.inputs, part.targets, matrix, mean)
        return targets, float(square)

    def _solve(self, kernel: Floats) -> tuple[float, Floats]:
        gram, cross = _hidden_moments(self.fit.inputs, self.targets, kernel)
        solution = ridge(gram, cross, _OUTPUT_RIDGE)
        penalty = _OUTPUT_RIDGE * (np.diag(gram)[:-1] @ np.square(solution[:-1])).sum()
        return (squared_error(gram, cross, self.square, solution) + penalty) / self.square, solution

    def value(self, kernel: Floats) -> tuple[float, Floats]:
        """The unexplained fraction of the targets, and its gradient."""
        loss, solution = self._solve(kernel)
        arguments = self.targets, as_float32(kernel), as_float32(solution)
        slope = np.asarray(samples.hidden_gradient(self.fit.inputs, *arguments))
        return loss, 2 * slope / self.square

    def held_out(self, kernel: Floats) -> float:
        """The unexplained fraction of the held-out samples, under the Q of the fitted ones."""
        _, solution = self._solve(kernel)
        gram, cross = _hidden_moments(self.stop.inputs, self.stop_targets, kernel)
        return squared_error(gram, cross, self.stop_square, solution) / self.stop_square

    def watch(self, kernel: Floats) -> bool:
        """Keeps the best kernel; whether to stop."""
        self.seen += 1
        if self.seen % _CHECK_EVERY:
            return False
        now = self.held_out(kernel)
        if now < self.error:
            self.kernel, self.error, self.waited = kernel, now, 0
        else:
            self.waited += 1
        return self.waited == _PATIENCE


def _hidden_moments(inputs: Array, targets: Array, kernel: Floats) -> tuple[Floats, Floats]:
    gram, cross = samples.hidden_moments(inputs, targets, as_float32(kernel))
    return np.asarray(gram), np.asarray(cross)


@dataclass(frozen=True)
class Layer:
    """A fitted layer.

    Attributes:
        kernel: (D, W); its last row is the bias.
        solution: (W + 1, C), the ridge regression of the targets after ReLU on its outputs after
            ReLU.
        summary: numbers of samples and steps, and errors, as text.
    """

    kernel: Floats
    solution: Floats
    summary: str


def fit_layer(fit: Samples, stop: Samples, width: int, metric: Floats, iterations: int) -> Layer:
    """Finds W that minimises |relu(Z) - Q relu(X W) - q|^2 for inputs X and targets Z.

    Args:
        fit: the samples to fit; targets Z are pre-activations of C channels.
        stop: samples of other photographs, which end the descent and choose the ridge.
        width: number of channels of W, at most C.
        metric: (C, R); distances are measured after multiplication by this matrix.
        iterations: of L-BFGS, at most; 0 for the linear start alone.

    Returns:
        The layer, every channel scaled to a mean activation of 1 over the samples to fit.
    """
    with jax.enable_x64(True):
        joint = np.asarray(samples.relu_moments(fit.inputs, fit.targets)) / fit.count
        mean = joint[-1, :-1]
        covariance = joint[:-1, :-1] - np.outer(mean, mean)
        gram = np.asarray(moments(fit.inputs, fit.inputs))
        kernel, strength = _start(fit, stop, gram, select_columns(covariance, metric, width))
        summary = "linear start"
        if iterations:
            matrix = _principal(metric, covariance)
            descent = _Descent(fit, stop, matrix, mean @ matrix, kernel)
            factor = least_squares.whitener(gram, fit.count, strength)
            _, loss, steps = least_squares.minimize_whitened(
                descent.value, kernel, factor, iterations, descent.watch
            )
            kernel = descent.kernel
            summary = (
                f"unexplained {descent.first:.3f}, after {steps} steps {descent.error:.3f} "
                f"({loss:.3f} where fitted)"
            )
        return _scaled(fit, kernel, f"{fit.count} + {stop.count} samples, {summary}")


def _principal(metric: Floats, covariance: Floats) -> Floats:
    """(C, r): the metric, rotated and cut to the directions of nearly all variance."""
    values, vectors = np.linalg.eigh(metric.T @ covariance @ metric)
    values, vectors = values[::-1], vectors[:, ::-1]
    share = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
    kept = min(int(np.searchsorted(share, _KEPT_VARIANCE)) + 1, len(values))
    return metric @ vectors[:, :kept]


def _scaled(fit: Samples, kernel: Floats, summary: str) -> Layer:
    """The kernel with channels of mean activation 1, and its output map."""
    identity, zero = np.eye(fit.targets.shape[-1]), np.zeros(fit.targets.shape[-1])
    arguments = fit.targets, as_float32(identity), as_float32(zero)
    positive, _ = samples.projected_relu(fit.inputs, *arguments)
    gram, cross = _hidden_moments(fit.inputs, positive, kernel)
    mean = gram[-1, :-1] / fit.count
    # A channel that is never active has no scale.
    scale = np.where(mean > _DEAD, mean, 1.0)
    solution = ridge(gram, cross, _OUTPUT_RIDGE)
    solution[:-1] *= scale[:, None]
    return Layer(kernel / scale, solution, summary)
