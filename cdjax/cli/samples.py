"""`cdjax samples`: a computed landscape and painting, to try style transfer without own images.

The landscape resembles a photograph (clouds, mountains that pale with distance, water that mirrors
them, trees); the painting has a palette and strokes that flow around vortices. Both depend only on
their size.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cdjax.cli.parser import Parser
from cdjax.errors import UsageError

_Floats = NDArray[np.float64]
_SEED = 7
_RANGES = 6
_STROKES_A_MEGAPIXEL = 60_000
_MARGIN = 64
_PALETTE = (
    (16, 24, 72),
    (28, 62, 140),
    (52, 118, 190),
    (120, 176, 196),
    (232, 200, 96),
    (248, 232, 170),
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
        if path.exists():
            raise UsageError(f"output {path}: already exists")
    folder.mkdir(parents=True, exist_ok=True)
    for path, make in targets.items():
        write_image(path, Picture(make()))
        print(path)
    return 0


def _noise(rng: np.random.Generator, height: int, width: int, exponent: float) -> _Floats:
    """A field in [0, 1] whose amplitudes fall with frequency to the power of `exponent`."""
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None] * width
    amplitude = np.maximum(np.hypot(fy, fx), 1) ** -exponent
    spectrum = amplitude * np.exp(2j * np.pi * rng.random((height, fx.shape[1])))
    field = np.fft.irfft2(spectrum, s=(height, width))
    low, high = np.percentile(field, (2, 98))
    return np.asarray(np.clip((field - low) / (high - low), 0, 1))


def _ridge(rng: np.random.Generator, width: int, rough: float) -> _Floats:
    """Heights in [0, 1] along a horizon."""
    frequencies = np.arange(1, width // 2)
    waves = frequencies**-rough * np.exp(2j * np.pi * rng.random(len(frequencies)))
    line = np.fft.irfft(np.concatenate([[0], waves]), n=width)
    return np.asarray((line - line.min()) / (line.max() - line.min()))


def _mix(low: object, high: object, share: _Floats) -> _Floats:
    """Between two colours, by shares of any shape."""
    low, high = np.asarray(low, float), np.asarray(high, float)
    return np.asarray(low + (high - low) * share[..., None])


def landscape(height: int = 512, width: int = 768) -> NDArray[np.uint8]:
    """Mountains over a lake at sunset: (height, width, 3) RGB, both sides at least 64."""
    rng = np.random.default_rng(_SEED)
    horizon = round(0.62 * height)
    rows = np.arange(height)[:, None] / height * np.ones((1, width))
    columns = np.ones((height, 1)) * np.arange(width)[None] / width
    image = _mix((0.25, 0.42, 0.75), (1.0, 0.72, 0.42), (rows / 0.45).clip(0, 1) ** 1.4)
    clouds = _noise(rng, height, width, 1.7)[:, :] * (1 - 0.7 * rows)
    image = image + (_mix((0, 0, 0), (1, 0.9, 0.85), clouds.clip(0.4, 1) - 0.4) * 0.9)
    sun = np.hypot((columns - 0.7) * width / height, rows - 0.2)
    image = image + _mix((0, 0, 0), (1.0, 0.8, 0.4), np.exp(-((sun / 0.2) ** 2)) * 0.6)
    image[sun < 0.045] = (1.0, 0.97, 0.85)
    texture = _noise(rng, height, width, 1.1)
    for distance in range(_RANGES):
        near = distance / (_RANGES - 1)
        top = horizon - (0.42 - 0.3 * near) * height * _ridge(rng, width, 1.25 + 0.2 * near)
        inside = (np.arange(height)[:, None] >= top) & (rows * height < horizon)
        colour = _mix((0.62, 0.6, 0.75), (0.08, 0.2, 0.12), np.full((1, 1), near))
        lit = 0.75 + 0.5 * texture
        snow = inside & (rows * height - top < 0.05 * height * texture) & (near < 0.5)
        image = np.where(inside[..., None], colour * lit[..., None], image)
        image = np.where(snow[..., None], (0.95, 0.93, 0.97) * lit[..., None], image)
    _reflect(image, horizon, rng)
    picture = Image.fromarray((image.clip(0, 1) * 255 + 0.5).astype(np.uint8))
    _trees(picture, rng)
    return np.asarray(picture)


def _reflect(image: _Floats, horizon: int, rng: np.random.Generator) -> None:
    """Fills what is below the horizon with water, in place."""
    height, width, _ = image.shape
    depth = height - horizon
    waves = _noise(rng, depth, width, 0.9) - 0.5
    away = np.linspace(0.05, 1, depth)[:, None]
    mirrored = horizon - 1 - np.arange(depth)[:, None] + 0 * waves
    source = (mirrored + 30 * away * waves).clip(0, horizon - 1).astype(int)
    across = (np.arange(width)[None] + 12 * away * waves).astype(int) % width
    water = image[source, across]
    image[horizon:] = (
        _mix((0, 0, 0), (0.02, 0.06, 0.1), 1 + 0 * waves) + water * (0.85 - 0.3 * away)[..., None]
    )


def _trees(picture: Image.Image, rng: np.random.Generator) -> None:
    """Firs on the near shore."""
    draw = ImageDraw.Draw(picture)
    width, height = picture.size
    for x in np.sort(rng.random(40))[::-1] ** 1.5 * width:
        tall = height * rng.uniform(0.12, 0.4) * (1 - 0.5 * x / width)
        foot = height * rng.uniform(0.93, 1.04)
        for layer in np.linspace(0, 0.9, 9):
            half = tall * 0.24 * (1 - layer) * rng.uniform(0.8, 1.2)
            y = foot - tall * layer
            shade = int(18 + 40 * layer + rng.uniform(0, 14))
            draw.polygon(
                [(x - half, y), (x + half, y), (x, y - tall * 0.22)],
                fill=(shade // 2, shade, int(shade * 0.8)),
            )


def painting(height: int = 512, width: int = 512) -> NDArray[np.uint8]:
    """Short strokes in blues and golds that flow around vortices: (height, width, 3) RGB."""
    rng = np.random.default_rng(_SEED + 1)
    # Drawn at twice the size, with a margin: no jagged edges, no bare borders.
    high, wide = 2 * height + 2 * _MARGIN, 2 * width + 2 * _MARGIN
    slope_y, slope_x = np.gradient(_noise(rng, high, wide, 2.6))
    angle = np.arctan2(slope_x, -slope_y)
    tone = _noise(rng, high, wide, 1.9)
    picture = Image.new("RGB", (wide, high), _PALETTE[1])
    draw = ImageDraw.Draw(picture)
    # Broad strokes first, as a painter would.
    for length in np.linspace(90, 22, round(_STROKES_A_MEGAPIXEL * height * width / 2**20)):
        x, y = rng.random() * wide, rng.random() * high
        level = tone[int(y), int(x)] * (len(_PALETTE) - 1) + rng.normal() * 0.5
        colour = np.array(_PALETTE[int(np.clip(round(level), 0, len(_PALETTE) - 1))])
        line = [(x, y)]
        for _ in range(6):
            along = angle[int(y) % high, int(x) % wide]
            x, y = x + np.cos(along) * length / 6, y + np.sin(along) * length / 6
            line.append((x, y))
        red, green, blue = (int(c) for c in (colour + rng.normal(size=3) * 12).clip(0, 255))
        draw.line(line, fill=(red, green, blue), width=round(length / 5), joint="curve")
    inside = picture.crop((_MARGIN, _MARGIN, wide - _MARGIN, high - _MARGIN))
    return np.asarray(inside.resize((width, height), Image.Resampling.LANCZOS))
