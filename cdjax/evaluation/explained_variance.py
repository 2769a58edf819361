"""The variance of a teacher's features that students do not explain.

The measure of an encoder is |F - e(F')|^2 / |F - mean F|^2 at every tap, on held-out images, where
F are the teacher's features and e is the best embedding of the student's features F', fitted to
other images. A teacher costs far more than its students, and the taps of its deepest encoder serve
every stage, so it sees each photograph once for all students, stages and forms of embedding.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

from cdjax.model import Images, Params
from cdjax.networks.encoder import Encoder
from cdjax.networks.layers import apply
from cdjax.networks.spec import Spec
from cdjax.ops.least_squares import fit_relu, ridge, squared_error
from cdjax.ops.matmul import product
from cdjax.ops.samples import make_samples, moments
from cdjax.progress import OnProgress, Progress, ignore_progress

Form = Literal["affine", "relu"]
Network = tuple[Spec, Params]

_RIDGE = 1e-6


@dataclass
class _Sums:
    """Moments of the inputs H of a regression, and of H with its targets T."""

    gram: Any = 0.0
    cross: Any = 0.0

    def add(self, features: Array, targets: Array) -> Array:
        """Adds a batch of (N, h, w, C); returns H: its features with the constant appended."""
        inputs = _with_constant(features)
        with jax.enable_x64(True):
            self.gram += np.asarray(moments(inputs, inputs))
            self.cross += np.asarray(moments(inputs, targets.reshape(-1, *targets.shape[2:])))
        return inputs


@dataclass
class _Tap:
    """One tap of one student: its embeddings, and sums over the images to fit and to test."""

    fit: _Sums = field(default_factory=_Sums)
    samples: list[NDArray[np.float32]] = field(default_factory=list)
    affine: Any = None
    relu: Any = None
    test: _Sums = field(default_factory=_Sums)
    square: float = 0.0
    relu_error: float = 0.0

    def solve(self, targets: Sequence[NDArray[np.float32]]) -> None:
        self.affine = ridge(self.fit.gram, self.fit.cross, _RIDGE)
        samples = make_samples(np.concatenate(self.samples), np.concatenate(targets))
        self.relu = jnp.asarray(fit_relu(samples, strength=_RIDGE), jnp.float32)
        self.samples.clear()

    def measure(self, features: Array, targets: Array) -> None:
        inputs = self.test.add(features, targets)
        with jax.enable_x64(True):
            self.square += float(_square(targets))
            self.relu_error += float(_relu_error(inputs, targets, self.relu))

    def fraction(self, form: Form) -> float:
        gram, cross = self.test.gram, self.test.cross
        variance = self.square - float(np.square(cross[-1]).sum() / gram[-1, -1])
        if form == "relu":
            return self.relu_error / variance
        # Rounding may make the error slightly negative.
        return max(squared_error(gram, cross, self.square, self.affine), 0.0) / variance


@partial(jax.jit, static_argnames="spec")
def _features(spec: Spec, params: Params, images: Array) -> dict[str, Array]:
    return apply(Encoder(spec), params, images.astype(jnp.float32) / 255)[1]


@jax.jit
def _with_constant(features: Array) -> Array:
    """(N, h, w, C) -> (N h, w, C + 1): chunks whose products may be summed in float32."""
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
    images: NDArray[Any], batch: int, *, task: str, on_progress: OnProgress
) -> Iterator[tuple[NDArray[Any], int]]:
    """Batches of one size, for which programs are compiled once, and the number of images in each.

    The last batch is padded with its last image. Progress is reported before every batch and at
    the end, under the name `task`.
    """
    batch = min(batch, len(images))
    for start in range(0, len(images), batch):
        on_progress(Progress(task, start, len(images)))
        part = images[start : start + batch]
        filling = np.repeat(part[-1:], batch - len(part), axis=0)
        yield np.concatenate([part, filling]), len(part)
    on_progress(Progress(task, len(images), len(images)))


def _every_tap(network: Network, images: Images, count: int) -> dict[str, Array]:
    return {name: tap[:count] for name, tap in _features(*network, images).items()}


def fraction_variance_unexplained(
    students: Sequence[Network],
    teacher: Network,
    fit_images: Images,
    test_images: Images,
    *,
    batch: int = 4,
    samples: int = 60_000,
    on_progress: OnProgress = ignore_progress,
) -> list[Mapping[Form, dict[str, float]]]:
    """The fraction of each tap's variance that the best embeddings do not explain.

    Args:
        students: spec and parameters of each encoder.
        teacher: spec and parameters of their teacher, of a stage as deep as theirs or deeper.
        fit_images: (N, H, W, 3) uint8 RGB, for fitting the embeddings.
        test_images: other photographs, all of one size, for measuring.
        batch: images at a time.
        samples: approximate number of positions of each tap, the same for all students, that fits
            of the ReLU form use.
        on_progress: called during the loops over images and fits.

    Returns:
        For every student `{"affine": {tap: fraction}, "relu": {tap: fraction}}` over all positions
        of the test images: `"affine"` for embeddings Q F' + q by ridge regression over every
        position of the images to fit; `"relu"` for relu(Q F' + q), fitted by L-BFGS to the samples.

    Raises:
        ValueError: if there are no images.
    """
    if not len(fit_images) or not len(test_images):
        raise ValueError("unexplained variance needs images to fit and images to test")
    taps = [{name: _Tap() for name, _ in spec.taps} for spec, _ in students]
    targets: dict[str, list[NDArray[np.float32]]] = {name: [] for name, _ in teacher[0].taps}
    per_batch = max(1, samples // -(-len(fit_images) // batch))
    generator = np.random.default_rng(0)
    for images, count in in_full_batches(
        fit_images, batch, task="features for the embeddings", on_progress=on_progress
    ):
        wanted = _every_tap(teacher, images, count)
        positions = {}
        for name, target in wanted.items():
            size = target.size // target.shape[-1]
            positions[name] = generator.choice(size, min(size, per_batch), replace=False)
            targets[name].append(np.asarray(_chosen(target, positions[name])))
        for name, tap, features in _each(students, taps, images, count):
            tap.fit.add(features, wanted[name])
            tap.samples.append(np.asarray(_chosen(features, positions[name])))
    everything = [item for of_student in taps for item in of_student.items()]
    for done, (name, tap) in enumerate(everything):
        on_progress(Progress("embeddings", done, len(everything)))
        tap.solve(targets[name])
    task = "features of the test images"
    for images, count in in_full_batches(test_images, batch, task=task, on_progress=on_progress):
        wanted = _every_tap(teacher, images, count)
        for name, tap, features in _each(students, taps, images, count):
            tap.measure(features, wanted[name])
    return [_fractions(of_student) for of_student in taps]


def _each(
    students: Sequence[Network], taps: Sequence[Mapping[str, _Tap]], images: Images, count: int
) -> Iterator[tuple[str, _Tap, Array]]:
    """Every tap of every student, with its features of a batch."""
    for student, of_student in zip(students, taps, strict=True):
        found = _every_tap(student, images, count)
        yield from ((name, tap, found[name]) for name, tap in of_student.items())


def _fractions(taps: Mapping[str, _Tap]) -> Mapping[Form, dict[str, float]]:
    forms: tuple[Form, ...] = get_args(Form)
    return {form: {name: tap.fraction(form) for name, tap in taps.items()} for form in forms}
