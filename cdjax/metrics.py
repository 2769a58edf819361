"""How near a student comes to its teacher, and a picture to another: pure functions.

`unexplained_variance` is the measure of an encoder: |F - Q F'|^2 / |F - mean F|^2 at every tap, on
held-out images, with the best map Q of the student's features F' to the teacher's F that other
images give. `psnr`, `ssim` and `style_distance` measure pictures.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike
from numpy.typing import NDArray

from cdjax.encoder import Encoder
from cdjax.layers import apply
from cdjax.least_squares import Floats, error, fit_rectified, ridge
from cdjax.model import Params
from cdjax.rows import make_rows
from cdjax.spec import Spec

Form = Literal["affine", "relu"]
Network = tuple[Spec, Params]
_RIDGE = 1e-6
_WINDOW = 11
_SIGMA = 1.5


def psnr(images: ArrayLike, references: ArrayLike) -> Array:
    """Peak signal-to-noise ratio in dB: (N, H, W, C) in [0, 1] each, to (N,).

    Values outside [0, 1] are clipped, as a file would; equal images give infinity.
    """
    difference = jnp.clip(jnp.asarray(images), 0, 1) - jnp.clip(jnp.asarray(references), 0, 1)
    return -10 * jnp.log10(jnp.mean(jnp.square(difference), axis=(-3, -2, -1)))


def _blurred(images: Array, window: Array) -> Array:
    """The valid part of a separable filter over the axes -3 and -2."""
    for axis in (-3, -2):
        size = images.shape[axis] - len(window) + 1
        parts = [
            weight * jax.lax.slice_in_dim(images, i, i + size, axis=axis % images.ndim)
            for i, weight in enumerate(window)
        ]
        images = sum(parts[1:], parts[0])
    return images


def ssim(images: ArrayLike, references: ArrayLike) -> Array:
    """Structural similarity (Wang et al. 2004): (N, H, W, C) in [0, 1] each, to (N,).

    Gaussian windows of 11 pixels and deviation 1.5 that lie wholly inside, every channel by itself,
    constants 0.01 and 0.03; values outside [0, 1] are clipped.

    Raises:
        ValueError: if the images are smaller than a window.
    """
    x, y = (jnp.clip(jnp.asarray(a, jnp.float32), 0, 1) for a in (images, references))
    if min(x.shape[-3:-1]) < _WINDOW:
        raise ValueError(f"ssim needs images of at least 11x11 pixels, not {x.shape}")
    offsets = jnp.arange(_WINDOW) - _WINDOW // 2
    window = jnp.exp(-0.5 * jnp.square(offsets / _SIGMA))
    window = window / window.sum()
    blurred = partial(_blurred, window=window)
    mean_x, mean_y = blurred(x), blurred(y)
    variance_x = blurred(x * x) - mean_x**2
    variance_y = blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    contrast = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return jnp.mean(luminance * contrast, axis=(-3, -2, -1))


def gram(features: Array) -> Array:
    """Mean over positions of f f^T: (N, h, w, C) to (N, C, C)."""
    positions = features.shape[-3] * features.shape[-2]
    product = jnp.einsum("...hwi,...hwj->...ij", features, features, precision="highest")
    return product / positions


def style_distance(taps: Mapping[str, Array], references: Mapping[str, Array]) -> dict[str, Array]:
    """Mean squared difference of Gram matrices at each tap (Gatys et al. 2016).

    Args:
        taps: {name: (N, h, w, C)}.
        references: the same names; their sizes in pixels may differ.

    Returns:
        {name: (N,)}, each |G - G'|^2 / C^2 with Gram matrices averaged over positions.

    Raises:
        KeyError: if a tap has no reference.
    """
    return {
        name: jnp.mean(jnp.square(gram(features) - gram(references[name])), axis=(-2, -1))
        for name, features in taps.items()
    }


@partial(jax.jit, static_argnames="specs")
def _taps(
    specs: tuple[Spec, Spec], params: tuple[Params, Params], images: Array
) -> dict[str, tuple[Array, Array]]:
    """Rows of both networks at every tap, a constant behind the student's."""
    images = images.astype(jnp.float32) / 255
    small, large = (apply(Encoder(s), p, images)[1] for s, p in zip(specs, params, strict=True))
    rows = {}
    for name, features in small.items():
        flat = features.reshape(-1, features.shape[-1])
        flat = jnp.concatenate([flat, jnp.ones_like(flat[:, :1])], -1)
        rows[name] = flat, large[name].reshape(-1, large[name].shape[-1])
    return rows


@jax.jit
def _moments(taps: dict[str, tuple[Array, Array]]) -> dict[str, tuple[Array, ...]]:
    """Of every tap, in float64: H^T H, H^T T, the squares of T and its sums."""
    wide = {name: (h.astype(jnp.float64), t.astype(jnp.float64)) for name, (h, t) in taps.items()}
    return {name: (h.T @ h, h.T @ t, jnp.sum(t * t)) for name, (h, t) in wide.items()}


@jax.jit
def _relu_errors(taps: dict[str, tuple[Array, Array]], maps: dict[str, Array]) -> dict[str, Array]:
    return {
        name: jnp.sum(
            jnp.square(jnp.maximum(jnp.matmul(h, maps[name], precision="highest"), 0) - t),
            dtype=jnp.float64,
        )
        for name, (h, t) in taps.items()
    }


def _sum(trees: Any) -> Any:
    total: Any = None
    for tree in trees:
        host = jax.device_get(tree)
        total = host if total is None else jax.tree.map(np.add, total, host)
    return total


def _relu_maps(
    rows: Any, widths: Mapping[str, int], *, per_batch: int, seed: int
) -> dict[str, Floats]:
    """For every tap the map Q whose rectified output is nearest, from some rows of each batch."""
    generator = np.random.default_rng(seed)
    kept: dict[str, list[tuple[NDArray[Any], NDArray[Any]]]] = {name: [] for name in widths}
    for taps in rows:
        for name, (h, t) in taps.items():
            chosen = generator.choice(len(h), min(per_batch, len(h)), replace=False)
            kept[name].append((np.asarray(h[chosen, :-1]), np.asarray(t[chosen])))
    return {
        name: fit_rectified(
            make_rows(*(np.concatenate(part) for part in zip(*parts, strict=True))),
            strength=_RIDGE,
        )
        for name, parts in kept.items()
    }


def unexplained_variance(
    student: Network,
    teacher: Network,
    fit_images: NDArray[np.uint8],
    test_images: NDArray[np.uint8],
    *,
    form: Form = "affine",
    batch: int = 8,
    rows: int = 60_000,
    seed: int = 0,
) -> dict[str, float]:
    """The share of each tap's variance that the best embedding of the student's does not explain.

    Args:
        student: spec and parameters of an encoder.
        teacher: the same of its teacher, of a stage at least as deep and of the same strides.
        fit_images: (N, H, W, 3) uint8 RGB, for fitting the embeddings.
        test_images: other photographs, of any one size, for measuring.
        form: `"affine"`, Q F' + q by ridge regression over every position, or `"relu"`,
            relu(Q F' + q), fitted by L-BFGS to some of them.
        batch: images at a time.
        rows: positions that a `"relu"` fit of one tap uses, about.
        seed: of the choice of those.

    Returns:
        {tap: |F - embedded F'|^2 / |F - mean F|^2} over all positions of the test images, for
        every tap of the student; moments and solutions are float64.

    Raises:
        ValueError: if there is no such form, or no images.
    """
    if form not in get_args(Form):
        raise ValueError(f"form must be one of {get_args(Form)}, not {form!r}")
    if not len(fit_images) or not len(test_images):
        raise ValueError("unexplained_variance needs images to fit and images to test")
    specs, params = (student[0], teacher[0]), (student[1], teacher[1])

    def stream(images: NDArray[np.uint8]) -> Any:
        for start in range(0, len(images), batch):
            yield _taps(specs, params, images[start : start + batch])

    if form == "relu":
        batches = -(-len(fit_images) // batch)
        per_batch = max(1, rows // batches)
        maps = _relu_maps(stream(fit_images), dict(student[0].taps), per_batch=per_batch, seed=seed)
    with jax.enable_x64(True):
        measured = _sum(_moments(taps) for taps in stream(test_images))
        variances = {
            name: float(square - np.square(cross[-1]).sum() / gram[-1, -1])
            for name, (gram, cross, square) in measured.items()
        }
        if form == "affine":
            fitted = _sum(_moments(taps) for taps in stream(fit_images))
            errors = {}
            for name, (gram, cross, _) in fitted.items():
                test_gram, test_cross, square = measured[name]
                solution = ridge(gram, cross, _RIDGE)
                errors[name] = error(test_gram, test_cross, float(square), solution)
        else:
            narrow = {name: jnp.asarray(q, jnp.float32) for name, q in maps.items()}
            errors = _sum(_relu_errors(taps, narrow) for taps in stream(test_images))
    return {name: float(errors[name]) / variances[name] for name in variances}
