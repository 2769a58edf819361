"""Dead-leaves images: synthetic training data that needs no download.

Leaves of many shapes whose radii follow a power law occlude one another, as objects in a photograph
do. Edges, occlusions, the 1/f spectrum and the heavy-tailed differences of neighbouring pixels of
natural images follow from that (Lee, Mumford and Huang 2001), and networks learn useful features
from such images alone (Baradad et al. 2021). Each leaf has its own colours, shading and texture
(cloudy noise, stripes, checks, wood), so that all filters of a VGG are active.

First the number of the topmost leaf is painted into every subpixel, then all pixels are coloured at
once from a table of the leaves, which makes NumPy fast enough.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float32]
_Indices = NDArray[np.int64]
_Labels = NDArray[np.int16]

_SUBPIXELS = 2  # Per side; only pixels that an edge crosses are coloured more than once.
_MOST_LEAVES = 1500
_FIELDS = (1.0, 1.4, 2.0)  # Exponents of the amplitude spectra of the noise textures.
_SHAPES = ("ellipse", "rounded", "blob", "polygon", "polygon", "rectangle")
_REACH = np.array([1.0, 1.2, 1.3, 1.6, 1.6, 1.3])  # Of their corners, times the axes.


@dataclass(frozen=True)
class _Leaves:
    """A table of leaves, backmost first; the first is the ground, which covers everything."""

    centre: _Floats  # (L, 2), x and y in pixels
    axes: _Floats  # (L, 2), half-lengths in pixels
    angle: _Floats  # (L,)
    shape: _Indices  # (L,), index into `_SHAPES`
    colour: _Floats  # (L, 3) in [0, 1]
    contrast: _Floats  # (L, 3), the colour that texture adds
    light: _Floats  # (L, 2), brightness added per pixel, x and y
    wave: _Floats  # (L, 2), wave numbers of stripes, x and y, in radians per pixel
    weights: _Floats  # (L, 3), of noise, stripes and checks
    sharp: _Floats  # (L,), from sinusoidal (small) to hard-edged stripes
    warp: _Floats  # (L,), how far noise bends the stripes, in radians
    field: _Indices  # (L, 3), index of the noise and its offset


def dead_leaves(seed: int, index: int, *, size: int = 256) -> NDArray[np.uint8]:
    """Makes one image; the same arguments give the same image.

    Args:
        seed: of the whole series, at least 0.
        index: of the image in the series, at least 0.
        size: its sides in pixels.

    Returns:
        (size, size, 3) RGB.
    """
    rng = np.random.default_rng([seed, index])
    leaves = _draw(rng, size)
    labels = _paint(rng, leaves, size)
    noise = np.stack([_noise(rng, size, exponent) for exponent in _FIELDS])
    image = _colour(leaves, labels, noise)
    image *= _shadow(rng, labels[::_SUBPIXELS, ::_SUBPIXELS])[..., None]
    # Light varies across a scene; a camera blurs a little and adds noise.
    image *= (1 + rng.uniform(0, 0.3) * noise[2])[..., None]
    if rng.random() < 0.4:
        image = _blurred(image, rng.uniform(0.05, 0.25))
    image += rng.normal(0, rng.uniform(0, 0.02), image.shape[:2]).astype(np.float32)[..., None]
    return (np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)


def _draw(rng: np.random.Generator, size: int) -> _Leaves:
    # The density of radii is proportional to r**-3, which makes a scene scale-invariant.
    smallest = size * np.exp(rng.uniform(np.log(0.008), np.log(0.08)))
    largest = size * rng.uniform(0.25, 0.7)
    narrowed = smallest**-2 - largest**-2
    mean_area = 2 * np.pi * np.log(largest / smallest) / narrowed
    count = 1 + int(np.clip(rng.uniform(1.5, 3.5) * size**2 / mean_area, 20, _MOST_LEAVES))
    radius = (smallest**-2 - rng.random(count) * narrowed) ** -0.5
    radius[0] = size  # The ground
    narrow = rng.random(count) < 0.15
    aspect = np.where(narrow, rng.uniform(0.04, 0.2, count), rng.uniform(0.4, 1, count))
    axes = radius[:, None] * np.stack([aspect**-0.5, aspect**0.5], axis=1)
    axes = np.maximum(axes, 0.003 * size)

    # A scene has few materials, so leaves vary the colours of a palette. Colours of natural scenes
    # vary most in brightness, less from blue to orange, and least from green to purple.
    materials = rng.integers(3, 12)
    brightness = rng.beta(1.4, 1.7, (materials, 1))
    opponent = rng.laplace(0, rng.uniform(0.03, 0.2), (materials, 2)) * [1, 0.4]
    opponent += rng.normal(0, [0.06, 0.02])
    chroma = opponent @ np.array([[0.6, 0.1, -0.9], [0.4, -0.5, 0.4]])
    # Dark colours are less saturated in proportion.
    palette = brightness * (1 + 2 * chroma)
    varied = 1 + rng.normal(0, 0.12, (count, 1)) + rng.normal(0, 0.04, (count, 3))
    colour = np.clip(palette[rng.integers(0, materials, count)] * varied, 0.01, 0.95)

    # Most leaves have a texture, and most textures are irregular, as bark and stone are.
    kind = rng.choice(4, count, p=[0.3, 0.45, 0.15, 0.1])
    weights = np.zeros((count, 3))
    weights[:, 0] = np.where(kind == 1, 1, 0.15)
    weights[kind == 2, 1] = 1
    weights[kind == 3, 2] = 1
    tint = 1 + rng.normal(0, 0.25, (count, 3))
    contrast = rng.gamma(2, 0.12, (count, 1)) * tint * (0.05 + colour)
    period = np.exp(rng.uniform(np.log(3), np.log(40), count))
    direction = rng.uniform(0, 2 * np.pi, count)
    wave = 2 * np.pi / period[:, None] * np.stack([np.cos(direction), np.sin(direction)], axis=1)
    light = rng.normal(0, 0.15, (count, 2)) / np.maximum(radius, 0.03 * size)[:, None]

    def floats(values: NDArray[np.float64]) -> _Floats:
        return values.astype(np.float32)

    return _Leaves(
        centre=floats(rng.uniform(-0.05 * size, 1.05 * size, (count, 2))),
        axes=floats(axes),
        angle=floats(rng.uniform(0, np.pi, count)),
        shape=rng.integers(0, len(_SHAPES), count),
        colour=floats(colour),
        contrast=floats(contrast),
        light=floats(light),
        wave=floats(wave),
        weights=floats(weights),
        sharp=floats(np.exp(rng.uniform(-1, 2, count))),
        warp=floats(np.where(rng.random(count) < 0.5, rng.uniform(0, 3, count), 0)),
        field=rng.integers(0, [len(_FIELDS), size, size], (count, 3)),
    )


def _paint(rng: np.random.Generator, leaves: _Leaves, size: int) -> _Labels:
    """The number of the topmost leaf of every subpixel, (S*size, S*size)."""
    side = _SUBPIXELS * size
    labels = np.zeros((side, side), np.int16)
    grid = ((np.arange(side) + 0.5) / _SUBPIXELS - 0.5).astype(np.float32)
    cosine, sine = np.cos(leaves.angle), np.sin(leaves.angle)
    turned = np.abs(np.stack([np.stack([cosine, sine]), np.stack([sine, cosine])]))
    extent = np.einsum("xal,la,l->lx", turned, leaves.axes, _REACH[leaves.shape])
    low = np.clip((leaves.centre - extent) * _SUBPIXELS, 0, side).astype(int).tolist()
    high = np.clip((leaves.centre + extent) * _SUBPIXELS + 2, 0, side).astype(int).tolist()
    along = np.stack([cosine, sine]) / leaves.axes[:, 0]
    across = np.stack([-sine, cosine]) / leaves.axes[:, 1]
    corners = rng.uniform(-0.25, 0.25, (len(leaves.shape), 6)).astype(np.float32)
    for leaf in range(1, len(leaves.shape)):
        (left, top), (right, bottom) = low[leaf], high[leaf]
        x = grid[left:right] - leaves.centre[leaf, 0]
        y = (grid[top:bottom] - leaves.centre[leaf, 1])[:, None]
        p = along[0, leaf] * x, along[1, leaf] * y
        q = across[0, leaf] * x, across[1, leaf] * y
        inside = _inside(_SHAPES[leaves.shape[leaf]], p, q, corners[leaf])
        np.copyto(labels[top:bottom, left:right], np.int16(leaf), where=inside)
    return labels


def _inside(
    shape: str, p: tuple[_Floats, _Floats], q: tuple[_Floats, _Floats], corners: _Floats
) -> NDArray[np.bool_]:
    """Where p and q, each the sum of a row (W,) and a column (H, 1), lie in a shape of radius 1."""
    if shape == "rectangle":
        return (np.abs(p[0] + p[1]) < 0.9) & (np.abs(q[0] + q[1]) < 0.9)
    if shape == "polygon":
        # The first number also determines how many corners there are: 3 to 6.
        edges = 3 + int(8 * (corners[0] + 0.25)) % 4
        turns = 2 * np.pi * (np.arange(edges) + corners[:edges]) / edges
        inside = np.ones((len(q[1]), len(q[0])), np.bool_)
        for a, b in zip(np.cos(turns).tolist(), np.sin(turns).tolist(), strict=True):
            inside &= a * p[0] + b * q[0] < 0.8 - (a * p[1] + b * q[1])
        return inside
    u, v = p[0] + p[1], q[0] + q[1]
    u2, v2 = u * u, v * v
    if shape == "rounded":
        return u2 * u2 + v2 * v2 < 1
    if shape == "blob":
        return u2 + v2 + (1.2 * corners[0]) * u * (u2 - 3 * v2) < 1
    return u2 + v2 < 1


def _noise(rng: np.random.Generator, size: int, exponent: float) -> _Floats:
    """Periodic Gaussian noise with an amplitude spectrum of 1/f**exponent, of deviation 1."""
    y, x = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    frequency = np.maximum(np.hypot(y, x), 1 / size).astype(np.float32)
    parts = rng.standard_normal((2, *frequency.shape), np.float32)
    spectrum = (parts[0] + 1j * parts[1]) * frequency**-exponent
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (size, size))
    return np.clip(field / max(field.std(), 1e-6), -2.5, 2.5).astype(np.float32)


def _colour(leaves: _Leaves, labels: _Labels, noise: _Floats) -> _Floats:
    size = noise.shape[1]
    quads = labels.reshape(size, _SUBPIXELS, size, _SUBPIXELS).swapaxes(1, 2)
    cells = quads.reshape(size, size, _SUBPIXELS**2)
    y, x = (axis.ravel() for axis in np.indices((size, size)))
    image = _leaf_colours(leaves, cells[..., 0].ravel(), x, y, noise).reshape(size, size, 3)
    ys, xs = np.nonzero((cells[..., 1:] != cells[..., :1]).any(axis=2))
    for sample in range(1, _SUBPIXELS**2):
        image[ys, xs] += _leaf_colours(leaves, cells[ys, xs, sample], xs, ys, noise)
    image[ys, xs] /= _SUBPIXELS**2
    return image


def _leaf_colours(
    leaves: _Leaves, leaf: _Labels, x: _Indices, y: _Indices, noise: _Floats
) -> _Floats:
    """Colours (N, 3) of the points of given leaves."""
    size = noise.shape[1]
    which, left, top = (leaves.field[:, axis].take(leaf) for axis in range(3))
    rough = noise[which, (y + top) % size, (x + left) % size]
    dx = (x - leaves.centre[:, 0].take(leaf)).astype(np.float32)
    dy = (y - leaves.centre[:, 1].take(leaf)).astype(np.float32)
    kx, ky = leaves.wave[:, 0].take(leaf), leaves.wave[:, 1].take(leaf)
    stripes = np.sin(kx * dx + ky * dy + leaves.warp.take(leaf) * rough)
    checks = stripes * np.sin(ky * dx - kx * dy)
    sharp = leaves.sharp.take(leaf)
    cloudy, striped, chequered = (leaves.weights[:, axis].take(leaf) for axis in range(3))
    texture = cloudy * rough + np.tanh(sharp * (striped * stripes + chequered * checks))
    shade = leaves.light[:, 0].take(leaf) * dx + leaves.light[:, 1].take(leaf) * dy
    colour = leaves.colour.take(leaf, axis=0)
    colour *= (1 + np.clip(shade, -0.5, 0.5))[:, None]
    colour += leaves.contrast.take(leaf, axis=0) * texture[:, None]
    return colour


def _shadow(rng: np.random.Generator, labels: _Labels) -> _Floats:
    """Remaining light, (H, W), where a higher leaf shades lower ones."""
    size = len(labels)
    reach = max(1, round(size * rng.uniform(0.004, 0.02)))
    step = rng.integers(-reach, reach + 1, 2)
    towards = np.roll(labels, step, axis=(0, 1))
    shadow = _blurred((towards > labels).astype(np.float32), 0.25)
    return 1 - np.float32(rng.uniform(0, 0.5)) * shadow


def _blurred(image: _Floats, amount: float) -> _Floats:
    """The image blurred along both axes, each neighbour with the weight `amount`."""
    for axis in (0, 1):
        before, after = np.roll(image, 1, axis), np.roll(image, -1, axis)
        image = (1 - 2 * amount) * image + amount * (before + after)
    return image
