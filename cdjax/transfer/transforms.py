"""Transforms: `Moments` of content and style features in, an affine map of features out.

Whitening and colouring (WCT; paper, section 3.1; Li et al. 2017), linear optimal transport (OT; Lu
et al. 2019) and AdaIN (Huang and Belongie 2017) are all `(features - centre) @ matrix + offset`. A
new transform is a function like `wct` and an entry in `TRANSFORMS`; whole images, windows and
several hosts then use it. Its name is also in `TRANSFORM_NAMES`, and the command line lists it in
`cdjax/cli/parser.py`, which imports no JAX.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import ArrayLike

from cdjax.model import Model, check_transforms
from cdjax.ops.matmul import product
from cdjax.transfer.statistics import ADAIN_EPSILON, Moments, channel_statistics

RELATIVE_FLOOR = 5e-7
"""Eigenvalues below this fraction of the largest are float32 rounding errors of the scatter, not
variance. They occur where there are fewer pixels than channels."""

RELATIVE_NOISE = 3e-8
"""Variances below this fraction of the squared mean are rounding errors in an image of one colour:
a stage before has decoded it, and 1e-8 has been seen there. Whitening would make them contrast."""

LOW_CONTRAST = 1e-3
"""An image is of one colour, but for such errors or little else, if its largest variance is below
this fraction of the squared mean. Photographs have at least 0.01 at every stage."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Affine:
    """The map f -> (f - centre) @ matrix + offset of feature vectors (rows).

    Subtracting the centre first keeps the large entries of a whitening matrix from multiplying
    large means.

    Attributes:
        centre: (..., C), float32.
        matrix: (..., C, C), float32; or (..., 1, C), the diagonal of a matrix that has no more.
        offset: (..., C), float32.
    """

    centre: Array
    matrix: Array
    offset: Array

    def __call__(self, features: Array) -> Array:
        """Maps features (..., H, W, C) to the same shape and dtype; computes in float32."""
        apart = features.astype(jnp.float32) - self.centre[..., None, None, :]
        if self.matrix.shape[-2] == 1:
            mapped = apart * self.matrix[..., None, :, :]
        else:
            mapped = jnp.einsum("...hwc,...cd->...hwd", apart, self.matrix, precision="highest")
        return (mapped + self.offset[..., None, None, :]).astype(features.dtype)


Scalar = Array | float
Transform = Callable[[Moments, Moments, Scalar, Scalar], Affine]
"""From the moments of content and style, alpha and the regularization to the map of the content's
features."""


def _shift(content: Moments, style: Moments, regularization: Scalar) -> Array:
    """What regularization adds to variances: a share of the mean variance of both images."""
    variances = [jnp.diagonal(part.covariance, axis1=-2, axis2=-1) for part in (content, style)]
    return regularization * (variances[0].mean(-1) + variances[1].mean(-1)) / 2


def _roots_of(statistics: Moments, shift: Scalar = 0.0) -> tuple[Array, Array]:
    """The symmetric square root of a covariance, (..., C, C), and its pseudo-inverse.

    `shift`, (...), is added to all variances before.
    """
    size = jnp.sum(statistics.mean**2, axis=-1)
    return _roots(statistics.covariance, size, jnp.asarray(shift, size.dtype))


@jax.custom_jvp
def _roots(covariance: Array, size: Array, shift: Array) -> tuple[Array, Array]:
    root, inverse, *_ = _roots_and_spectrum(covariance, size, shift)
    return root, inverse


# One matrix after the other: JAX's batched eigh shares a CPU's threads with other operations, and
# two of them at once (content and style) can deadlock.
@partial(jnp.vectorize, signature="(c,c)->(c),(c,c)")
@jax.custom_batching.sequential_vmap
def _spectrum(covariance: Array) -> tuple[Array, Array]:
    """Eigenvalues, (..., C), and eigenvectors, (..., C, C)."""
    # In float32 the cascade's results would differ from the original implementation's by more than
    # tests/transfer/test_parity.py allows. No float64 product here: under `jax.vmap` it would lose
    # its type.
    with jax.enable_x64(True):
        spectrum = jnp.linalg.eigh(lax.convert_element_type(covariance, jnp.float64))
        values, vectors = (lax.convert_element_type(array, jnp.float32) for array in spectrum)
    return values, vectors


def _roots_and_spectrum(covariance: Array, size: Array, shift: Array) -> tuple[Array, ...]:
    values, vectors = _spectrum(covariance)
    # A multiple of the identity moves the eigenvalues alone. The eigenvectors take the shape of
    # `shift`'s batch, because products of other shapes have other last bits, and windows differ
    # from whole images in these shapes.
    values = values + shift[..., None]
    vectors = jnp.broadcast_to(vectors, (*values.shape, values.shape[-1]))
    largest = values[..., -1]
    noise = jnp.where(largest < LOW_CONTRAST * size, RELATIVE_NOISE * size, 0)
    kept = values > jnp.maximum(RELATIVE_FLOOR * largest, noise)[..., None]
    scale = jnp.sqrt(jnp.where(kept, values, 0))
    inverse_scale = jnp.where(kept, 1 / jnp.where(kept, scale, 1), 0)

    compose = partial(jnp.einsum, "...ck,...k,...dk->...cd", precision="highest")
    root, inverse = (compose(vectors, diagonal, vectors) for diagonal in (scale, inverse_scale))
    return root, inverse, vectors, scale, inverse_scale


@_roots.defjvp
def _roots_jvp(
    primals: tuple[Array, Array, Array], tangents: tuple[Array, Array, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    # The divided differences of the square root (Daleckii and Krein) divide by sums of roots, where
    # the derivative of `eigh` divides by differences of eigenvalues, which may be equal.
    root, inverse, vectors, scale, inverse_scale = _roots_and_spectrum(*primals)
    total = scale[..., :, None] + scale[..., None, :]
    both = (scale[..., :, None] > 0) & (scale[..., None, :] > 0)
    divided = jnp.where(both, 1 / jnp.where(both, total, 1), 0)
    einsum = partial(jnp.einsum, precision="highest")
    turned = einsum("...ck,...cd,...dl->...kl", vectors, tangents[0], vectors)
    turned = turned + tangents[2][..., None, None] * jnp.eye(turned.shape[-1], dtype=turned.dtype)

    def rotate(matrix: Array) -> Array:
        return einsum("...ck,...kl,...dl->...cd", vectors, matrix, vectors)

    inverses = inverse_scale[..., :, None] * inverse_scale[..., None, :]
    return (root, inverse), (rotate(divided * turned), rotate(-divided * inverses * turned))


def _blend(matrix: Array, content: Moments, style: Moments, alpha: Scalar) -> Affine:
    """The map from the content's mean to the style's, mixed with the identity by alpha."""
    whole = matrix.shape[-2] > 1
    identity = jnp.eye(matrix.shape[-1], dtype=matrix.dtype) if whole else jnp.ones_like(matrix)
    offset = alpha * style.mean + (1 - alpha) * content.mean
    return Affine(content.mean, alpha * matrix + (1 - alpha) * identity, offset)


def stage_alpha(alpha: Scalar, strength: float) -> Array:
    """Share of the transform at a stage of a model: alpha times its strength, at most 1."""
    share = jnp.asarray(alpha * strength)
    return jnp.where(share > 1, 1.0, share)  # Its derivative at 1 is that below.


def wct(
    content: Moments, style: Moments, alpha: Scalar = 1.0, regularization: Scalar = 0.0
) -> Affine:
    """Whitening by the content's covariance, colouring by the style's (Li et al. 2017).

    Directions in which the content does not vary (a constant image, fewer pixels than channels,
    dead channels) are left out instead of divided by zero, so the result and its derivatives are
    always finite.

    Args:
        content: moments of the features to be mapped, of C channels.
        style: moments that the mapped features are to have, of C channels.
        alpha: share of the transform, from 0 (identity) to 1.
        regularization: share of the mean variance of both images that is added to the variances
            of both. Directions in which both vary little are then changed less. 0 is the paper's
            transform.

    Returns:
        The map. At alpha 1 without regularization, content features get the style's mean and, as
        far as their own rank allows, its covariance.
    """
    shift = _shift(content, style, regularization)
    colouring, _ = _roots_of(style, shift)
    _, whitening = _roots_of(content, shift)
    return _blend(product(whitening, colouring), content, style, alpha)


def ot(
    content: Moments, style: Moments, alpha: Scalar = 1.0, regularization: Scalar = 0.0
) -> Affine:
    """Optimal transport between the two Gaussians (Lu et al. 2019, eq. 8; Mroueh 2019).

    Of all linear maps that give content features the style's mean and covariance, the one that
    moves them least, so it keeps more of the content's structure than `wct`. With the symmetric
    roots C and S of both covariances and the orthogonal polar factor U of S C, its matrix is
    C^-1 U^T S, which equals C^-1 (C S^2 C)^(1/2) C^-1 but squares no rounding errors.

    Arguments and result are those of `wct`.
    """
    shift = _shift(content, style, regularization)
    colouring, _ = _roots_of(style, shift)
    root, whitening = _roots_of(content, shift)
    matrix = product(whitening, product(_rotation(product(colouring, root)), colouring))
    return _blend(matrix, content, style, alpha)


@jax.custom_jvp
def _rotation(matrix: Array) -> Array:
    """U^T of the polar decomposition M = U P, (..., C, C), without directions of no influence."""
    return _polar_parts(matrix)[0]


@partial(jnp.vectorize, signature="(c,c)->(c,c),(c,c),(c),(c,c)")
@jax.custom_batching.sequential_vmap
def _polar_parts(matrix: Array) -> tuple[Array, Array, Array, Array]:
    """U^T and the singular value decomposition A S B^T of M = U P, with U = A B^T."""
    # In float64, so that U is the same in every program, as windows need.
    with jax.enable_x64(True):
        left, values, right = jnp.linalg.svd(lax.convert_element_type(matrix, jnp.float64))
        kept = (values > RELATIVE_FLOOR * values[0]) & (values > 0)
        left, values = jnp.where(kept, left, 0), jnp.where(kept, values, 0)
        rotation = lax.dot_general(right, left, (((0,), (1,)), ((), ())))
        parts = (rotation, left, values, right)
        rotation, left, values, right = (lax.convert_element_type(p, jnp.float32) for p in parts)
    return rotation, left, values, right


@_rotation.defjvp
def _rotation_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # It divides by sums of singular values, where the derivative of the SVD divides by differences.
    rotation, left, values, right = _polar_parts(primals[0])
    total = values[..., :, None] + values[..., None, :]
    turned = product(product(left.swapaxes(-1, -2), tangents[0]), right.swapaxes(-1, -2))
    both = (values[..., :, None] > 0) & (values[..., None, :] > 0)
    skew = jnp.where(both, (turned - turned.swapaxes(-1, -2)) / jnp.where(both, total, 1), 0)
    return rotation, product(product(left, skew), right).swapaxes(-1, -2)


def _deviation(statistics: Moments) -> Array:
    variance = jnp.diagonal(statistics.covariance, axis1=-2, axis2=-1)
    return jnp.sqrt(variance + ADAIN_EPSILON)


def adain(
    content: Moments, style: Moments, alpha: Scalar = 1.0, regularization: Scalar = 0.0
) -> Affine:
    """AdaIN: the mean and standard deviation of each channel (Huang and Belongie 2017, eq. 8).

    Arguments and result are those of `wct`; the regularization has no effect.
    """
    scale = _deviation(style) / _deviation(content)
    return _blend(scale[..., None, :], content, style, alpha)


def mixed_roots(styles: Sequence[Moments], shares: Array) -> Array:
    """The covariance, (C, C), with which `wct` colours by the weighted mean of square roots."""
    roots = [share * _roots_of(style)[0] for share, style in zip(shares, styles, strict=True)]
    root = jnp.stack(roots).sum(0)
    return product(root, root)


def mixed_deviations(styles: Sequence[Moments], shares: Array) -> Array:
    """The diagonal covariance with which `adain` scales to the weighted mean of deviations."""
    parts = [share * _deviation(style) for share, style in zip(shares, styles, strict=True)]
    return jnp.diag(jnp.maximum(jnp.square(jnp.stack(parts).sum(0)) - ADAIN_EPSILON, 0))


TRANSFORMS: Mapping[str, Transform] = {"wct": wct, "ot": ot, "adain": adain}
"""Transforms by name. A model's method is the name of that for which most stages were trained."""


def check_model(model: Model) -> None:
    """Checks that a model can stylise; ValueError if it has no decoders."""
    if model.config.method not in TRANSFORMS:
        raise ValueError(
            f"this model is a lone {model.config.teacher} encoder and cannot stylise; "
            "distil or convert one with decoders (method wct or adain)"
        )


def with_transform(model: Model, name: str | None, regularization: ArrayLike = 0.0) -> Model:
    """The model with the named transform at all stages, by default with its own.

    Raises:
        ValueError: if there is no such transform, or it does not fit the regularization.
    """
    check_model(model)
    if name is not None:
        check_transforms([name])
        stages = [] if name == model.config.method else [spec.stage for spec in model.config.specs]
        transforms = tuple((stage, name) for stage in stages)
        model = replace(model, config=replace(model.config, transforms=transforms))
    used = {model.config.transform_of(spec.stage) for spec in model.config.specs}
    traced = isinstance(regularization, jax.core.Tracer)
    if used == {"adain"} and not traced and np.any(regularization):
        raise ValueError("adain has no regularization; choose the transform wct or ot")
    return model


MIXED_COVARIANCES: Mapping[str, Callable[[Sequence[Moments], Array], Array]] = {
    "wct": mixed_roots,
    "ot": mixed_roots,
    "adain": mixed_deviations,
}
"""By the name of the transform: from moments of several styles and their shares, which sum to 1, to
the covariance with which the transform interpolates between them."""


def adain_features(features: Array) -> Array:
    """AdaIN of a batch of pairs, for training.

    Args:
        features: (2N, h, w, C), those of N contents before those of their N styles.

    Returns:
        (N, h, w, C), the contents' features with the styles' channel statistics, same dtype.
    """
    content, style = jnp.split(features.astype(jnp.float32), 2)
    (mean, deviation), (new_mean, new_deviation) = map(channel_statistics, (content, style))
    scale = (new_deviation / deviation)[:, None, None]
    moved = (content - mean[:, None, None]) * scale + new_mean[:, None, None]
    return moved.astype(features.dtype)
