"""How near students come to their teacher: the variance of its features that they do not explain.

The measure of an encoder is |F - e(F')|^2 / |F - mean F|^2 at every tap, on held-out images, with
the best embedding e of the student's features F' in the teacher's F that other images give. A
teacher costs far more than its students, and the taps of its deepest encoder are those of every
stage: it sees each photograph once, whatever the number of students, stages and forms of embedding.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax.distillation.initialization.layer_samples import Images
from cdjax.distillation.initialization.least_squares import Floats, error, fit_rectified, ridge
from cdjax.distillation.initialization.samples import make_rows, moments
from cdjax.model import Params
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.matmul import product

Form = Literal["affine", "relu"]
Network = tuple[Spec, Params]
Progress = Callable[[range, str], Iterable[int]]
"""Hands on the steps of a loop, whose name is given, and may show how far it is."""

_RIDGE = 1e-6
_Taps = dict[str, Array]


def no_progress(steps: range, name: str) -> Iterable[int]:
    """Shows nothing."""
    return steps


@dataclass
class _Fit:
    """What the embedding of one tap of one student needs and becomes."""

    gram: Floats | float = 0.0
    cross: Floats | float = 0.0
    rows: list[NDArray[np.float32]] = field(default_factory=list)
    affine: Any = None
    relu: Any = None


@dataclass
class _Test:
    """Sums over the test images: moments, the teacher's squares, the errors through a ReLU."""

    gram: Floats | float = 0.0
    cross: Floats | float = 0.0
    square: float = 0.0
    relu: float = 0.0


@partial(jax.jit, static_argnames="spec")
def _taps(spec: Spec, params: Params, images: Array) -> _Taps:
    taps: _Taps = apply(Encoder(spec), params, images.astype(jnp.float32) / 255)[1]
    return taps


@jax.jit
def _with_constant(features: Array) -> Array:
    """(N, h, w, C) -> (N h, w, C + 1): chunks whose products float32 may sum."""
    flat = features.reshape(-1, *features.shape[2:])
    return jnp.concatenate([flat, jnp.ones_like(flat[..., :1])], -1)


@jax.jit
def _chosen(features: Array, positions: Array) -> Array:
    return features.reshape(-1, features.shape[-1])[positions]


@jax.jit
def _square(features: Array) -> Array:
    return jnp.sum(jnp.square(features), dtype=jnp.float64)


@jax.jit
def _relu_error(inputs: Array, targets: Array, kernel: Array) -> Array:
    embedded = jnp.maximum(product(inputs, kernel), 0)
    return jnp.sum(jnp.square(embedded.reshape(targets.shape) - targets), dtype=jnp.float64)


def in_full_batches(
    images: NDArray[Any], batch: int, *, name: str, progress: Progress
) -> Iterator[tuple[NDArray[Any], int]]:
    """Batches of one size, and how many images at their start are not there to fill up the last.

    Programs are compiled for one shape; an image that fills up is the last one again.
    """
    batch = min(batch, len(images))
    for start in progress(range(0, len(images), batch), name):
        part = images[start : start + batch]
        filling = np.repeat(part[-1:], batch - len(part), axis=0)
        yield np.concatenate([part, filling]), len(part)


def _every_tap(network: Network, images: Images, count: int) -> _Taps:
    return {name: tap[:count] for name, tap in _taps(*network, images).items()}


def _fit_maps(fit: _Fit, targets: Sequence[NDArray[np.float32]]) -> None:
    assert isinstance(fit.gram, np.ndarray)
    assert isinstance(fit.cross, np.ndarray)
    fit.affine = ridge(fit.gram, fit.cross, _RIDGE)
    rows = make_rows(np.concatenate(fit.rows), np.concatenate(targets))
    fit.relu = jnp.asarray(fit_rectified(rows, strength=_RIDGE), jnp.float32)
    fit.rows.clear()


def unexplained_variances(
    students: Sequence[Network],
    teacher: Network,
    fit_images: Images,
    test_images: Images,
    *,
    batch: int = 4,
    rows: int = 60_000,
    seed: int = 0,
    progress: Progress = no_progress,
) -> list[Mapping[Form, dict[str, float]]]:
    """The share of each tap's variance that the best embeddings do not explain, of many students.

    Args:
        students: spec and parameters of each encoder.
        teacher: the same of their teacher, of a stage at least as deep as every student's.
        fit_images: (N, H, W, 3) uint8 RGB, for fitting the embeddings.
        test_images: other photographs, of any one size, for measuring.
        batch: images at a time.
        rows: positions of each tap that the fits through a ReLU use, about; the same ones for all
            students, so that a student's result does not depend on those beside it.
        seed: of the choice of those.
        progress: sees the loop over the images to fit, that over the fits, and that over the
            images to test.

    Returns:
        For every student `{"affine": {tap: share}, "relu": {tap: share}}` over all positions of
        the test images: `"affine"` with Q F' + q, ridge regression over every position of the
        images to fit; `"relu"` with relu(Q F' + q), fitted by L-BFGS to some of them.

    Raises:
        ValueError: if there are no images.
    """
    if not len(fit_images) or not len(test_images):
        raise ValueError("unexplained variance needs images to fit and images to test")
    fits = [{name: _Fit() for name, _ in spec.taps} for spec, _ in students]
    targets: dict[str, list[NDArray[np.float32]]] = {name: [] for name, _ in teacher[0].taps}
    per_batch = max(1, rows // -(-len(fit_images) // batch))
    generator = np.random.default_rng(seed)
    for images, count in in_full_batches(
        fit_images, batch, name="features for the embeddings", progress=progress
    ):
        wanted = _every_tap(teacher, images, count)
        positions = {}
        for name, target in wanted.items():
            size = target.size // target.shape[-1]
            positions[name] = generator.choice(size, min(size, per_batch), replace=False)
            targets[name].append(np.asarray(_chosen(target, positions[name])))
        for student, of_taps in zip(students, fits, strict=True):
            found = _every_tap(student, images, count)
            for name, fit in of_taps.items():
                _add_moments(fit, found[name], wanted[name])
                fit.rows.append(np.asarray(_chosen(found[name], positions[name])))
    everything = [(name, fit) for of_taps in fits for name, fit in of_taps.items()]
    for index in progress(range(len(everything)), "embeddings"):
        name, fit = everything[index]
        _fit_maps(fit, targets[name])
    return _test(students, teacher, fits, test_images, batch=batch, progress=progress)


def _add_moments(sums: _Fit | _Test, features: Array, targets: Array) -> Array:
    """Adds the moments of one batch; returns the features' rows with their constant."""
    inputs = _with_constant(features)
    chunks = targets.reshape(-1, *targets.shape[2:])
    with jax.enable_x64(True):
        sums.gram = sums.gram + np.asarray(moments(inputs, inputs))
        sums.cross = sums.cross + np.asarray(moments(inputs, chunks))
    return inputs


def _test(
    students: Sequence[Network],
    teacher: Network,
    fits: Sequence[dict[str, _Fit]],
    test_images: Images,
    *,
    batch: int,
    progress: Progress,
) -> list[Mapping[Form, dict[str, float]]]:
    sums = [{name: _Test() for name in of_taps} for of_taps in fits]
    for images, count in in_full_batches(
        test_images, batch, name="features measured", progress=progress
    ):
        wanted = _every_tap(teacher, images, count)
        with jax.enable_x64(True):
            squares = {name: float(_square(target)) for name, target in wanted.items()}
        for student, of_taps, of_sums in zip(students, fits, sums, strict=True):
            found = _every_tap(student, images, count)
            for name, total in of_sums.items():
                inputs = _add_moments(total, found[name], wanted[name])
                total.square += squares[name]
                with jax.enable_x64(True):
                    apart = _relu_error(inputs, wanted[name], of_taps[name].relu)
                total.relu += float(apart)
    results: list[Mapping[Form, dict[str, float]]] = []
    for of_taps, of_sums in zip(fits, sums, strict=True):
        affine, relu = {}, {}
        for name, total in of_sums.items():
            assert isinstance(total.gram, np.ndarray)
            assert isinstance(total.cross, np.ndarray)
            mean_square = np.square(total.cross[-1]).sum() / total.gram[-1, -1]
            variance = total.square - float(mean_square)
            left = error(total.gram, total.cross, total.square, of_taps[name].affine)
            affine[name] = max(left, 0.0) / variance  # Rounding may leave less than nothing.
            relu[name] = total.relu / variance
        results.append({"affine": affine, "relu": relu})
    return results
