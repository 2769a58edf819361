"""`cdjax samples`: a computed landscape and painting, to try style transfer without own images.

The landscape resembles a photograph (clouds, mountains that pale with distance, water that mirrors
them); the painting has a palette and strokes that flow around vortices.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cdjax.cli.parser import Parser
from cdjax.errors import UsageError

_Floats = NDArray[np.float64]
_SEED = 7
_SKY, _GLOW = np.array((0.25, 0.42, 0.75)), np.array((1.0, 0.72, 0.42))
_FAR, _NEAR = np.array((0.62, 0.6, 0.75)), np.array((0.08, 0.2, 0.12))
_PALETTE = np.array(
    [(16, 24, 72), (28, 62, 140), (52, 118, 190), (120, 176, 196), (232, 200, 96), (248, 232, 170)]
)


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    from cdjax.io.images import Picture, write_image

    parser = Parser(
        prog="cdjax samples",
        description="Write content.png, a landscape, and style.png, a painting, to FOLDER.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it does not exist")
    folder: Path = parser.parse_args(arguments).folder
    targets = {folder / "content.png": landscape, folder / "style.png": painting}
    for path in targets:
        if os.path.lexists(path):
            raise UsageError(f"output {path}: already exists")
    folder.mkdir(parents=True, exist_ok=True)
    for path, make in targets.items():
        write_image(path, Picture(make()), overwrite=False)
        print(path)
    return 0


def _noise(rng: np.random.Generator, height: int, width: int, exponent: float) -> _Floats:
    """A field in [0, 1] whose amplitudes fall with frequency to the power of `exponent`."""
    frequency = np.hypot(
        np.fft.fftfreq(height, 1 / height)[:, None], np.fft.rfftfreq(width, 1 / width)
    )
    phases = np.exp(2j * np.pi * rng.random(frequency.shape))
    field = np.fft.irfft2(np.maximum(frequency, 1) ** -exponent * phases, s=(height, width))
    return np.interp(field, np.percentile(field, (2, 98)), (0, 1))


def landscape(height: int = 512, width: int = 768) -> NDArray[np.uint8]:
    """Mountains over a lake at sunset: (height, width, 3) RGB, both sides at least 64."""
    rng = np.random.default_rng(_SEED)
    y = np.linspace(0, 1, height)[:, None, None]
    clouds = _noise(rng, height, width, 1.7)[..., None].clip(0.4) - 0.4
    image = _SKY + (_GLOW - _SKY) * (y / 0.45).clip(0, 1) + clouds * (1 - y)
    light = 0.75 + 0.5 * _noise(rng, height, width, 1.1)[..., None]
    for near in np.linspace(0, 1, 6):  # Ranges of mountains pale with distance.
        ridge = _noise(rng, 2, width, 1.25 + 0.2 * near)[0, :, None]
        inside = y >= 0.62 - (0.42 - 0.3 * near) * ridge
        image = np.where(inside, (_FAR + (_NEAR - _FAR) * near) * light, image)
    shore = round(0.62 * height)
    depth, waves = np.arange(height - shore)[:, None], _noise(rng, height - shore, width, 0.9) - 0.5
    mirrored = shore - 1 - depth + 0.25 * depth * waves
    across = (np.arange(width) + 0.1 * depth * waves) % width
    image[shore:] = 0.7 * image[mirrored.clip(0, shore - 1).astype(int), across.astype(int)]
    return np.asarray((image.clip(0, 1) * 255).astype(np.uint8))


def painting(height: int = 512, width: int = 512) -> NDArray[np.uint8]:
    """Short strokes in blues and golds that flow around vortices: (height, width, 3) RGB."""
    rng = np.random.default_rng(_SEED + 1)
    # Drawn at twice the size: no jagged edges.
    high, wide = 2 * height, 2 * width
    slope_y, slope_x = np.gradient(_noise(rng, high, wide, 2.6))
    angle, tone = np.arctan2(slope_x, -slope_y), _noise(rng, high, wide, 1.9)
    picture = Image.new("RGB", (wide, high), "steelblue")
    draw = ImageDraw.Draw(picture)
    # Broad strokes first, as a painter would.
    for length in np.linspace(90, 22, high * wide // 60):
        x, y = rng.random() * wide, rng.random() * high
        level = tone[int(y), int(x)] * (len(_PALETTE) - 1) + rng.normal(0.5, 0.5)
        colour = _PALETTE[int(level.clip(0, len(_PALETTE) - 1))] + rng.normal(size=3) * 12
        line = [(x, y)]
        for _ in range(6):
            along = angle[int(y) % high, int(x) % wide]
            x, y = x + np.cos(along) * length / 6, y + np.sin(along) * length / 6
            line.append((x, y))
        red, green, blue = map(int, colour.clip(0, 255))
        draw.line(line, fill=(red, green, blue), width=round(length / 5), joint="curve")
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
