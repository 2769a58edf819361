"""What the page of `cdjax serve` does with files, whatever it looks like: previews and pictures."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cdjax.cli.batch import run
from cdjax.cli.interrupts import InterruptGuard
from cdjax.cli.jobs import Settings, plan
from cdjax.cli.masks import with_masks
from cdjax.cli.page_files import Session
from cdjax.cli.page_regions import COLORS, write_masks
from cdjax.cli.samples import landscape, painting
from cdjax.errors import UsageError
from cdjax.io.images import Picture, image_size, write_image
from cdjax.io.streaming import read_picture

if TYPE_CHECKING:
    from cdjax.model import Model

MOST_STYLES = len(COLORS)
"""Paintings that are mixed at most."""
_THUMBNAIL, _CANVAS, _SHOWN = 320, 640, 900
"""Shorter sides of previews, in pixels: of paintings, photographs and results."""
_LONGEST = 4096
"""Longer side of what is painted on, in pixels, which browsers can show on a canvas."""


@dataclass(frozen=True)
class Painted:
    """A result and what the page shows of it.

    Attributes:
        output: the file at full size.
        before: a preview of the photograph.
        after: a preview of the result, of the same size.
        size: width and height of the result in pixels.
        seconds: that it took.
    """

    output: Path
    before: Path
    after: Path
    size: tuple[int, int]
    seconds: float


def take_content(session: Session, upload: Path) -> Path:
    """Makes an upload the photograph of a session; returns a preview.

    Raises:
        ImageError: if it is not an image or cannot be read; it is then removed.
    """
    with session.replacing("content") as folder:
        (content,) = session.take([upload], folder)
        size = image_size(content) or (1, 1)
        side = min(_CANVAS, max(1, _LONGEST * min(size) // max(size)))
        preview = _preview(content, folder / "preview", side)
        session.content, session.layer = content, None
    return preview


def take_styles(session: Session, uploads: list[Path]) -> list[Path]:
    """Makes uploads the paintings of a session; returns previews.

    Raises:
        UsageError: if there are too many.
        ImageError: if one is not an image or cannot be read; all are then removed.
    """
    with session.replacing("styles") as folder:
        styles = session.take(uploads, folder)
        if len(styles) > MOST_STYLES:
            raise UsageError(f"{len(styles)} paintings; at most {MOST_STYLES} are mixed")
        places = [folder / f"preview{number}" for number in range(len(styles))]
        previews = [
            _preview(path, place, _THUMBNAIL) for path, place in zip(styles, places, strict=True)
        ]
        session.styles = styles
    return previews


def take_layer(session: Session, uploads: list[Path]) -> None:
    """Makes an upload the layer on which regions are painted; without any, nothing is painted."""
    with session.replacing("layer") as folder:
        session.layer = next(iter(session.take(uploads[:1], folder)), None)


def take_samples(session: Session) -> tuple[Path, Path]:
    """Makes the landscape and the painting of `cdjax samples` what `take_content` makes uploads."""
    with session.replacing("samples") as folder:
        content, style = folder / "content.png", folder / "style.png"
        write_image(content, Picture(landscape()))
        write_image(style, Picture(painting()))
        return take_content(session, content), take_styles(session, [style])[0]


def paint(
    session: Session,
    guard: InterruptGuard,
    load: Callable[[], "Model"],
    settings: Settings,
    *,
    mixed: bool = False,
) -> Painted:
    """Paints the photograph of a session in its paintings, as `cdjax stylize` does.

    Several paintings are mixed or, unless that is asked for, go where their colours are painted. If
    it fails, the last result stays.

    Raises:
        CdjaxError: if something is missing, or cannot be read, made or written.
        KeyboardInterrupt: if the guard was interrupted.
    """
    if session.content is None:
        raise UsageError("drop a photograph first")
    if not session.styles:
        raise UsageError("drop a painting first")
    began = time.monotonic()
    with session.replacing("result") as folder:
        count = len(session.styles)
        masks = write_masks(session.layer, 1 if mixed else count, folder / "masks")
        if len(masks) > 1:
            settings = replace(settings, style_weights=None)
        jobs = plan([session.content], session.styles, f"{folder}/", mix=count > 1)
        jobs = with_masks(jobs, masks, {})
        run(jobs, load, settings, guard, strict=True)
        seconds, output = time.monotonic() - began, jobs[0].output
        height, width = image_size(output) or (1, 1)
        side = min(height, width, _SHOWN)
        before, after = (
            _preview(path, folder / name, side)
            for path, name in ((session.content, "before"), (output, "after"))
        )
    return Painted(output, before, after, (width, height), seconds)


def _preview(path: Path, folder: Path, shorter_side: int) -> Path:
    """A JPEG file of a picture for a browser; ImageError if the picture cannot be read."""
    size = image_size(path)
    picture = read_picture(path, min(shorter_side, *size) if size else shorter_side)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "preview.jpg"
    write_image(target, Picture(picture.pixels, picture.alpha), quality=88)
    return target
