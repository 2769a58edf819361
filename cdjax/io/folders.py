"""Which files of a folder are images, and why the others are not."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cdjax.io.formats import READABLE, unreadable_picture

_JUNK = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin", "@eadir"}
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
}
_CONTAINERS = {b"WEBP": "WebP", b"avif": "AVIF", b"heic": "HEIC", b"mif1": "HEIC"}


@dataclass(frozen=True)
class Skipped:
    """An entry of a folder that is not read.

    Attributes:
        path: the entry.
        reason: why, in a few words.
        picture: whether it is a picture.
    """

    path: Path
    reason: str
    picture: bool


def list_folder(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """The images of a folder, by suffix, and its other entries, both sorted; not deeper.

    Hidden files and those that systems leave behind, such as Thumbs.db, are in neither.

    Raises:
        OSError: if the folder cannot be read.
    """
    images, others = [], []
    for path in sorted(folder.iterdir()):
        if is_junk(path.name):
            continue
        if (skipped := _skipped(path)) is not None:
            others.append(skipped)
        else:
            images.append(path)
    return images, others


def skipped_in(paths: Iterable[Path]) -> list[Skipped]:
    """What is skipped of those of the paths that are folders."""
    return [skipped for path in paths if path.is_dir() for skipped in list_folder(path)[1]]


def is_junk(name: str) -> bool:
    """Whether a name is of a hidden file, or of one that a system leaves behind."""
    return name.startswith(".") or name.lower() in _JUNK


def _skipped(path: Path) -> Skipped | None:
    """Why an entry is not read; None if it is."""
    known = path.suffix.lower() in READABLE
    if path.is_dir():
        return Skipped(path, "a folder", picture=False)
    if not path.is_file():
        kind = "a link to nothing" if path.is_symlink() else "not a regular file"
        return Skipped(path, kind, picture=known or unreadable_picture(path) is not None)
    if known:
        return None
    if (reason := unreadable_picture(path)) is not None:
        return Skipped(path, reason, picture=True)
    if found := _sniffed(path):
        return Skipped(path, f"{found} without its suffix; rename it", picture=True)
    return Skipped(path, "not a picture", picture=False)


def _sniffed(path: Path) -> str | None:
    """The format of a picture whose suffix does not say so."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return None
    for signature, kind in _SIGNATURES.items():
        if start.startswith(signature):
            return kind
    contained = start.startswith(b"RIFF") or start[4:8] == b"ftyp"
    return _CONTAINERS.get(start[8:12]) if contained else None


def describe(skipped: Skipped) -> str:
    """One line about it."""
    return f"{os.fspath(skipped.path)}: not read: {skipped.reason}"
