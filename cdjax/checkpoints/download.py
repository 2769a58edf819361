"""Downloads torchvision's VGG weights, checked by the hash in their names, into a user's cache."""

import hashlib
import os
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from cdjax.errors import DownloadError
from cdjax.io.cache import cache_folder

TORCHVISION = "https://download.pytorch.org/models"
_FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
_BLOCK = 1 << 20


def _matches(path: Path, prefix: str) -> bool:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(prefix)


def _fetch(url: str, path: Path, *, timeout: float, progress: bool) -> None:
    from tqdm import tqdm

    with urllib.request.urlopen(url, timeout=timeout) as response, open(path, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        with tqdm(
            total=total, unit="B", unit_scale=True, desc=path.name, disable=not progress
        ) as bar:
            while block := response.read(_BLOCK):
                file.write(block)
                bar.update(len(block))


def download(
    url: str,
    folder: str | os.PathLike[str],
    *,
    timeout: float = 30.0,
    progress: bool = True,
) -> Path:
    """The path of a file in a folder, downloaded unless it is there.

    The file is written beside its place, checked and renamed, so that the folder never holds
    a part of it; one that is there already is checked too, and fetched again if damaged.

    Args:
        url: its name must end in `-{first hexadecimal digits of the file's SHA-256}.{suffix}`.
        folder: where to keep the file; made if it is not there.
        timeout: seconds after which a silent connection is given up.
        progress: whether to draw a progress bar on stderr.

    Returns:
        The path of the file.

    Raises:
        DownloadError: if the file cannot be fetched or written, or is not the expected one.
    """
    path = Path(folder) / url.rpartition("/")[2]
    prefix = path.stem.rpartition("-")[2]
    try:
        if path.is_file() and _matches(path, prefix):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as beside:
            part = Path(beside) / path.name
            _fetch(url, part, timeout=timeout, progress=progress)
            if not _matches(part, prefix):
                raise DownloadError(f"{url}: damaged, its SHA-256 does not begin with {prefix}")
            part.replace(path)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"cannot download {path.name} ({reason}): fetch {url} elsewhere and pass its path"
        ) from error
    return path


def torchvision_weights(
    name: str, *, base_url: str = TORCHVISION, cache: str | os.PathLike[str] | None = None
) -> Path:
    """The path of torchvision's official VGG weights, downloaded unless they are in the cache.

    Args:
        name: `"vgg19"` (575 MB) or `"vgg16"` (553 MB).
        base_url: where the files lie.
        cache: the folder to keep them in; `cache_folder()` if None.

    Returns:
        The path of the file.

    Raises:
        DownloadError: if the file cannot be fetched or written, or is not the official one.
    """
    return download(f"{base_url}/{_FILES[name]}", cache_folder() if cache is None else cache)
