"""Makes every picture of the documentation again.

    python docs/make_pictures.py --shared ../shared [--only NAME...]

Photographs and paintings are read from the shared folder, and only results of cdjax are written.
The teacher of the picture `methods` comes with the extra `vgg16`. On two idle cores all of it takes
about ten minutes.
"""

import argparse
import io
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

import cdjax
from cdjax.cli.main import main as command
from cdjax.cli.samples import landscape, painting

Pixels = NDArray[np.uint8]

PICTURES = Path(__file__).parent / "pictures"
BUTTERFLY = "david-clode-Oq9JrJb6K7M-unsplash.jpg"
ROOF = "andrew-ridley-jR4Zf-riEjI-unsplash.jpg"
PAINTINGS = {
    "starry_night": 768,
    "the_scream": 512,
    "composition_vii": 512,
    "udnie": 512,
    "woman_with_hat_matisse": 512,
    "mondrian": 512,
}
"""Names of files of paintings whose painters died before 1955, and the shorter sides to use."""
SIDE = 768
"""Pixels of a side of the pictures that are computed; they are shown smaller."""


class Inputs:
    """The photographs and paintings of the shared folder."""

    def __init__(self, shared: Path) -> None:
        self._images = shared / "images"

    def photograph(self, name: str) -> Image.Image:
        """One of the two Unsplash photographs."""
        return Image.open(self._images / "uhd" / name).convert("RGB")

    def butterfly(self, side: int = SIDE) -> Pixels:
        """The butterfly on its flower, a square."""
        part = self.photograph(BUTTERFLY).crop((0, 200, 2626, 2826))
        return np.asarray(scaled(part, side))

    def roof(self) -> Pixels:
        """A square part of the roof's tiles."""
        part = self.photograph(ROOF).crop((1300, 900, 3300, 2900))
        return np.asarray(scaled(part, SIDE))

    def painting(self, name: str, side: int | None = None) -> Pixels:
        """A painting, its shorter side scaled to `side` pixels, or as in PAINTINGS."""
        path = self._images / "style" / f"{name}.jpg"
        return np.asarray(scaled(Image.open(path), side or PAINTINGS[name]))


def scaled(image: Image.Image, side: int) -> Image.Image:
    """An image whose shorter side has `side` pixels."""
    factor = side / min(image.size)
    size = (round(image.width * factor), round(image.height * factor))
    return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def in_rows(
    images: Sequence[jax.Array | NDArray[np.float32]], columns: int, side: int, gap: int = 8
) -> Image.Image:
    """Square results beside and below each other on white, each `side` pixels wide."""
    rows = -(-len(images) // columns)
    size = (columns * (side + gap) - gap, rows * (side + gap) - gap)
    sheet = Image.new("RGB", size, "white")
    for index, image in enumerate(images):
        levels = np.asarray(image * 255 + 0.5).astype(np.uint8)
        cell = Image.fromarray(levels).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(cell, (index % columns * (side + gap), index // columns * (side + gap)))
    return sheet


def save(name: str, picture: Image.Image, *, kilobytes: int) -> None:
    """Writes a JPEG of the best quality, at most 92, that keeps to a size."""
    for quality in range(92, 40, -2):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, optimize=True, progressive=True)
        if buffer.tell() <= kilobytes * 1000:
            break
    (PICTURES / f"{name}.jpg").write_bytes(buffer.getvalue())
    print(f"{name}.jpg: {picture.width}x{picture.height}, quality {quality}, {buffer.tell()} bytes")


def grid(inputs: Inputs) -> None:
    """One photograph in the style of six paintings."""
    model, content = cdjax.load_model("wct-16x"), inputs.butterfly()
    results = [cdjax.stylize(model, content, inputs.painting(name)) for name in PAINTINGS]
    save("grid", in_rows(results, 3, 400), kilobytes=480)


def alpha(inputs: Inputs) -> None:
    """The strength of the style, from reconstruction to full."""
    model, content = cdjax.load_model("wct-16x"), inputs.butterfly()
    style = cdjax.encode_style(model, inputs.painting("starry_night"))
    results = [
        cdjax.stylize(model, content, style, alpha=strength) for strength in (0, 0.25, 0.5, 0.75, 1)
    ]
    save("alpha", in_rows(results, 5, 300), kilobytes=196)


def style_size(inputs: Inputs) -> None:
    """The size of the style image sets the size of the strokes."""
    model, content = cdjax.load_model("wct-16x"), inputs.roof()
    results = [
        cdjax.stylize(model, content, inputs.painting("composition_vii", side))
        for side in (128, 320, 800)
    ]
    save("style-size", in_rows(results, 3, 400), kilobytes=280)


OUTLINE = (
    *((66, 58), (112, 60), (160, 88), (180, 48), (216, 4), (236, 12), (270, 76), (290, 118)),
    *((284, 152), (322, 148), (366, 184), (346, 216), (310, 236), (308, 262), (270, 270)),
    *((222, 264), (150, 266), (118, 236), (80, 150)),
)
"""Corners of the butterfly in a picture of 400 x 400 pixels, as (x, y)."""


def regions(inputs: Inputs) -> None:
    """A mask, the background in one style, and the butterfly in another."""
    model, content = cdjax.load_model("wct-16x"), inputs.butterfly()
    drawn = Image.new("L", (SIDE, SIDE))
    ImageDraw.Draw(drawn).polygon([(x * SIDE / 400, y * SIDE / 400) for x, y in OUTLINE], "white")
    butterfly = np.asarray(drawn.filter(ImageFilter.GaussianBlur(6)))
    night, other = (
        cdjax.encode_style(model, inputs.painting(name))
        for name in ("starry_night", "woman_with_hat_matisse")
    )
    results = [
        np.repeat(butterfly[..., None] / np.float32(255), 3, axis=2),
        cdjax.stylize(model, content, night, mask=255 - butterfly),
        cdjax.stylize(model, content, [other, night], masks=[butterfly, 255 - butterfly]),
    ]
    save("regions", in_rows(results, 3, 260), kilobytes=44)


def methods(inputs: Inputs) -> None:
    """WCT, AdaIN and optimisation, beside each other."""
    content, style = inputs.butterfly(512), inputs.painting("starry_night", 512)
    wct = cdjax.load_model("wct-16x")
    settings = cdjax.Optimization(steps=30, finish_steps=10)
    results = [
        cdjax.stylize(wct, content, style),
        cdjax.stylize(cdjax.load_model("adain-16x"), content, style),
        cdjax.optimize_image(
            wct, content, style, settings=settings, finish=cdjax.load_model("vgg16")
        ),
    ]
    save("methods", in_rows(results, 3, 400), kilobytes=250)


def textures(inputs: Inputs) -> None:
    """Textures of three paintings, and a tile of a fourth, laid twice in each direction."""
    model = cdjax.load_model("wct-16x")
    results = [
        cdjax.synthesize_texture(model, inputs.painting(name, 320), size=(304, 304))
        for name in ("starry_night", "composition_vii", "udnie")
    ]
    style = inputs.painting("mondrian", 256)
    tile = cdjax.synthesize_texture(model, style, size=(160, 160), tileable=True)
    save("textures", in_rows([*results, np.tile(tile, (2, 2, 1))], 4, 300), kilobytes=220)


def colors(inputs: Inputs) -> None:
    """The style's colours, the content's chroma, and the style in the content's colours."""
    model, content = cdjax.load_model("wct-16x"), inputs.butterfly(512)
    style = inputs.painting("starry_night", 512)
    ways: tuple[Literal["luminance", "match"] | None, ...] = (None, "luminance", "match")
    results = [cdjax.stylize(model, content, style, preserve_color=way) for way in ways]
    save("colors", in_rows(results, 3, 400), kilobytes=190)


def sheet(_: Inputs) -> None:
    """What `cdjax sheet` makes of computed pictures: it would show photographs as they are."""
    land, strokes = landscape(), painting()
    named = {
        "mountains.png": land[:, :512],
        "evening.png": land[:, :255:-1, ::-1],
        "blue.png": strokes,
        "red.png": strokes[::-1, :, ::-1],
        "green.png": strokes[:, ::-1, [1, 2, 0]],
    }
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in named]
        for path, pixels in zip(paths, named.values(), strict=True):
            cdjax.write_image(path, pixels)
        target = str(Path(folder, "sheet.png"))
        options = ["-o", target, "--size", "192", "--quiet"]
        command(["sheet", *paths[:2], "-s", *paths[2:], *options])
        save("sheet", Image.open(target), kilobytes=110)


def forty_megapixels(inputs: Inputs) -> None:
    """A picture of 40 megapixels, and a window of it at full size."""
    content = np.asarray(scaled(inputs.photograph(BUTTERFLY), 5334))
    result = cdjax.stylize_by_windows(
        cdjax.load_model("wct-16x"),
        content,
        inputs.painting("starry_night", 1024),
        memory=10**9,
        levels=True,
    )
    picture = Image.fromarray(result)
    print(f"{picture.width}x{picture.height} pixels")
    save("forty-megapixels", scaled(picture, 400), kilobytes=90)
    left, top = 1740, 3560
    save("forty-megapixels-window", picture.crop((left, top, left + 688, top + 480)), kilobytes=260)


BOXES = {
    "style image": (20, 30, 120),
    "encoder k": (180, 30, 110),
    "moments of the style": (330, 30, 180),
    "moments of the content": (330, 110, 180),
    "transform: WCT, AdaIN": (540, 70, 180),
    "content image": (20, 200, 120),
    "encoder k ": (180, 200, 110),
    "map of the features": (540, 200, 180),
    "decoder k": (750, 200, 90),
    "image": (880, 200, 70),
}
"""Left, top and width of the boxes of `flow`; all are 40 high."""

ARROWS = (
    "M140 50 H176",  # style image -> encoder
    "M290 50 H326",  # encoder -> moments of the style
    "M510 50 H525 V84 H536",  # -> transform
    "M510 130 H525 V98 H536",  # moments of the content -> transform
    "M140 220 H176",  # content image -> encoder
    "M290 220 H536",  # encoder -> map
    "M310 220 V130 H326",  # encoder -> moments of the content
    "M630 110 V196",  # transform -> map
    "M720 220 H746",  # map -> decoder
    "M840 220 H876",  # decoder -> image
    "M915 240 V280 H80 V244",  # image -> content image of the next stage
)
LABELS = {
    "affine map": (638, 160),
    "features": (400, 212),
    "next stage: k = 5, 4, 3, 2, 1": (380, 274),
}


def flow(_: Inputs) -> None:
    """How data flows through a stage of the cascade, as SVG."""
    lines = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 970 300" font-size="14"'
        ' font-family="sans-serif">',
        '<marker id="head" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="7" markerHeight="7"'
        ' orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#444"/></marker>',
        '<rect width="970" height="300" fill="#fff"/>',
    ]
    for path in ARROWS:
        lines.append(f'<path d="{path}" fill="none" stroke="#444" marker-end="url(#head)"/>')
    for text, (left, top, width) in BOXES.items():
        fill = "#fff3d6" if "image" in text else "#e3edfb"
        lines += [
            f'<rect x="{left}" y="{top}" width="{width}" height="40" rx="6" fill="{fill}"'
            ' stroke="#444"/>',
            f'<text x="{left + width / 2:g}" y="{top + 25}" text-anchor="middle">'
            f"{text.strip()}</text>",
        ]
    for text, (left, top) in LABELS.items():
        lines.append(f'<text x="{left}" y="{top}" font-style="italic">{text}</text>')
    (PICTURES / "flow.svg").write_text("\n".join([*lines, "</svg>", ""]))


DRAW: dict[str, Callable[[Inputs], None]] = {
    "grid": grid,
    "alpha": alpha,
    "style-size": style_size,
    "regions": regions,
    "methods": methods,
    "textures": textures,
    "colors": colors,
    "sheet": sheet,
    "forty-megapixels": forty_megapixels,
    "flow": flow,
}


def main() -> None:
    """Runs the program."""
    parser = argparse.ArgumentParser(description="Make the pictures of the documentation.")
    parser.add_argument("--shared", type=Path, required=True, help="folder with images/uhd, style")
    parser.add_argument("--only", nargs="+", choices=DRAW, default=list(DRAW), metavar="NAME")
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    for name in options.only:
        DRAW[name](Inputs(options.shared))


if __name__ == "__main__":
    main()
