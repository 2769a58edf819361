"""Deep Zoom: an image of any size as a folder of tiles with a page that shows it in a browser.

The page works from the disk, without a server or a network. Its viewer is OpenSeadragon, which is
fetched once with npm into the user's cache.
"""

import errno
import html
import itertools
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cdjax.errors import ImageError, first_line
from cdjax.io.atomic import Ours, StrPath, atomic_folder, finish_replacing, replace_folder
from cdjax.io.cache import cache_folder
from cdjax.io.digest import sha256
from cdjax.io.vips import VipsImage, reported
from cdjax.io.vips_writer import image_of

VERSION = "6.1.1"
"""Version of OpenSeadragon."""

_SHA256 = "14d587cd3ee7c4861f1a41077ce642029364a21029956ba635bd8fb1202cf9ad"
_SCRIPT, _BUTTONS, _LICENSE = "openseadragon.min.js", "images", "LICENSE.txt"
_PAGES = ("index.html", "image.dzi", "image_files")
_FILES = (*_PAGES, _SCRIPT, f"openseadragon.{_LICENSE}")
_TILES = re.compile(r"image_files/\d+/\d+_\d+\.jpg")
_TILE, _OVERLAP = 254, 1
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>html, body, #viewer {{ height: 100%; margin: 0; background: #111; }}</style>
</head>
<body>
<div id="viewer"></div>
<script src="{script}"></script>
<script>OpenSeadragon({options});</script>
</body>
</html>
"""


def viewer_files() -> Path:
    """The folder of OpenSeadragon's script and buttons, fetched with npm unless it exists.

    It is in `cdjax.io.cache.cache_folder()`. The script is checked against its SHA-256 each time.

    Raises:
        ImageError: if it does not exist and cannot be fetched; the message says what to do.
    """
    folder = cache_folder() / f"openseadragon-{VERSION}"
    reason = "npm is not installed"
    if not _whole(folder) and (npm := shutil.which("npm")):
        try:
            _fetch(npm, folder)
        except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
            reason = first_line(error)
    if _whole(folder):  # If fetching failed, another process may have succeeded in the meantime.
        return folder
    raise ImageError(
        f"{folder}: needs npm (Node.js) and a network once, but {reason}; or copy {_SCRIPT} and "
        f"{_BUTTONS}/ of OpenSeadragon {VERSION} into this folder"
    )


def _whole(folder: Path) -> bool:
    with suppress(OSError):
        return sha256(folder / _SCRIPT) == _SHA256 and (folder / _BUTTONS).is_dir()
    return False


def _fetch(npm: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".openseadragon-") as name:
        beside = Path(name)
        command = [npm, "pack", f"openseadragon@{VERSION}", "--ignore-scripts", "--silent"]
        done = subprocess.run(
            command, cwd=beside, capture_output=True, text=True, timeout=120, check=False
        )
        archives = list(beside.glob("*.tgz"))
        if done.returncode or len(archives) != 1:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise OSError(f"npm pack failed{f': {said[0]}' if said else ''}")
        fresh = beside / "fresh"
        fresh.mkdir()
        _unpack(archives[0], fresh)
        if not _whole(fresh):
            raise OSError(f"npm fetched another {_SCRIPT} than expected")
        ours = {path.relative_to(fresh) for path in fresh.rglob("*")}
        replace_folder(fresh, folder, ours=ours.__contains__)


def _unpack(archive: Path, folder: Path) -> None:
    """Writes the viewer's files of a package of npm; nothing else in it is looked at."""
    built = "package/build/openseadragon"
    with tarfile.open(archive) as package:
        for member in package:
            parent, _, name = member.name.rpartition("/")
            if parent == f"{built}/{_BUTTONS}":
                target = folder / _BUTTONS / name
            elif member.name in (f"{built}/{_SCRIPT}", f"package/{_LICENSE}"):
                target = folder / name
            else:
                continue
            if (
                member.isreg()
                and name not in ("", ".", "..")
                and (data := package.extractfile(member))
            ):
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(data.read())


def write_deepzoom(
    folder: StrPath,
    pixels: NDArray[np.uint8],
    *,
    title: str,
    quality: int = 90,
    like: VipsImage | None = None,
    overwrite: bool = False,
) -> None:
    """Writes a folder, whole or not at all, whose index.html shows an image of any size.

    The folder contains this page, `image.dzi` and `image_files/` (Deep Zoom, JPEG tiles in sRGB),
    and the viewer: `openseadragon.min.js`, `images/` and its licence.

    Args:
        folder: folder to make; its parents are made.
        pixels: (H, W, 3) uint8 in sRGB, an array or a file mapped to memory.
        title: title of the page; any text.
        quality: JPEG quality of the tiles, 1 to 100.
        like: the image it was made from; where that is transparent, the picture is composed over
            white.
        overwrite: whether the picture in a folder that this function wrote may be replaced; its
            other files are kept, and any other folder is refused. Of a symbolic link to a folder,
            the folder is written.

    Raises:
        ImageError: if the folder exists and may not be replaced, it cannot be written, or the
            viewer does not exist and cannot be fetched.
        TypeError: if the pixels are not uint8.
        ValueError: if their shape is not (H, W, 3), or `like` has alpha and another size.
    """
    folder = Path(folder)
    finish_replacing(folder, lambda _: _ours(viewer_files()))
    replaces = check_replaceable(folder, overwrite)
    image = image_of(pixels, like, flat=True)
    viewer = viewer_files()
    what = f"{folder}: cannot be written"
    ours = _ours(viewer) if replaces else None
    with reported(what), atomic_folder(folder, ours=ours) as temporary:
        shutil.copyfile(viewer / _SCRIPT, temporary / _SCRIPT)
        if (viewer / _LICENSE).is_file():
            shutil.copyfile(viewer / _LICENSE, temporary / f"openseadragon.{_LICENSE}")
        shutil.copytree(viewer / _BUTTONS, temporary / _BUTTONS)
        target, suffix = str(temporary / "image"), f".jpg[Q={quality}]"
        with reported(what, decoding=True):
            image.dzsave(target, suffix=suffix, tile_size=_TILE, overlap=_OVERLAP)
            _check_tiles(temporary, image.height, image.width)
        (temporary / "image_files" / "vips-properties.xml").unlink(missing_ok=True)
        (temporary / "index.html").write_text(_page(title, *pixels.shape[:2]), "utf-8")


def check_replaceable(folder: Path, overwrite: bool) -> bool:
    """Whether there is a picture in a folder that is to be replaced.

    Raises:
        ImageError: if the folder exists and may not be replaced.
    """
    if not os.path.lexists(folder):
        return False
    if not overwrite:
        raise ImageError(f"{folder}: already exists; name another folder or remove this one")
    if not all((folder / name).exists() for name in _PAGES):
        raise ImageError(f"{folder}: is not a Deep Zoom folder and is not replaced; name another")
    return True


def _ours(viewer: Path) -> Ours:
    """Recognises the files that `write_deepzoom` writes into a folder."""
    buttons = {path.relative_to(viewer).as_posix() for path in (viewer / _BUTTONS).iterdir()}

    def ours(path: Path) -> bool:
        name = path.as_posix()
        return name in _FILES or name in buttons or _TILES.fullmatch(name) is not None

    return ours


def _check_tiles(folder: Path, height: int, width: int) -> None:
    """Raises OSError if a tile is missing or cut off, which libvips may not notice."""
    level = (max(height, width) - 1).bit_length()
    ends = {folder / "image.dzi": b"</Image>"}
    while level >= 0:
        rows, columns = -(-height // _TILE), -(-width // _TILE)
        for row, column in itertools.product(range(rows), range(columns)):
            ends[folder / "image_files" / str(level) / f"{column}_{row}.jpg"] = b"\xff\xd9"
        height, width, level = -(-height // 2), -(-width // 2), level - 1
    for path, end in ends.items():
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - len(end) - 2))
            if not file.read().rstrip().endswith(end):
                raise OSError(errno.ENOSPC, f"{path.name} was cut off; is the disk full?")


def _page(title: str, height: int, width: int) -> str:
    # The numbers of image.dzi are in the page, because browsers do not fetch files from the disk.
    # For the same reason tiles are drawn on a canvas: WebGL may not use images from there.
    options = {
        "id": "viewer",
        "prefixUrl": f"{_BUTTONS}/",
        "drawer": "canvas",
        "showNavigator": True,
        "maxZoomPixelRatio": 4,
        "tileSources": {
            "Image": {
                "xmlns": "http://schemas.microsoft.com/deepzoom/2008",
                "Url": "image_files/",
                "Format": "jpg",
                "Overlap": str(_OVERLAP),
                "TileSize": str(_TILE),
                "Size": {"Height": str(height), "Width": str(width)},
            }
        },
    }
    return _PAGE.format(title=html.escape(title), script=_SCRIPT, options=json.dumps(options))
