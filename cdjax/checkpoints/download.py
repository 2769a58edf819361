"""Downloads torchvision's VGG weights into the user's cache and checks them by their hash."""

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path

from cdjax.errors import DownloadError
from cdjax.io.atomic import atomic_file
from cdjax.io.cache import cache_folder
from cdjax.progress import OnProgress, Progress, ignore_progress

TORCHVISION = "https://download.pytorch.org/models"
_FILES = {"vgg19": "vgg19-dcbb9e9d.pth", "vgg16": "vgg16-397923af.pth"}
_BLOCK = 1 << 20


def _matches(path: Path, prefix: str) -> bool:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(prefix)


def _fetch(url: str, path: Path, *, name: str, timeout: float, on_progress: OnProgress) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as response, open(path, "wb") as file:
        total = int(response.headers.get("Content-Length") or 0) or None
        done = 0
        while block := response.read(_BLOCK):
            file.write(block)
            done += len(block)
            on_progress(Progress(name, done, total))


def download(
    url: str,
    folder: str | os.PathLike[str],
    *,
    timeout: float = 30.0,
    on_progress: OnProgress = ignore_progress,
) -> Path:
    """The path of a file in a folder, downloaded unless it exists.

    A file that exists is checked, and fetched again if it is damaged.

    Args:
        url: its name must end in `-{first hexadecimal digits of the file's SHA-256}.{suffix}`.
        folder: where to keep the file; made if it does not exist.
        timeout: seconds without an answer after which the connection is given up.
        on_progress: called with the bytes fetched and, if known, the bytes in total.

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
        with atomic_file(path) as part:
            _fetch(url, part, name=path.name, timeout=timeout, on_progress=on_progress)
            if not _matches(part, prefix):
                raise DownloadError(f"{url}: damaged; its SHA-256 does not begin with {prefix}")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"cannot download {path.name} ({reason}): fetch {url} elsewhere and pass its path"
        ) from error
    return path


def torchvision_weights(
    name: str,
    *,
    base_url: str = TORCHVISION,
    cache: str | os.PathLike[str] | None = None,
    on_progress: OnProgress = ignore_progress,
) -> Path:
    """The path of torchvision's official VGG weights, downloaded unless they are in the cache.

    Args:
        name: `"vgg19"` (575 MB) or `"vgg16"` (553 MB).
        base_url: address of the folder of the files.
        cache: the folder to keep them in; `cache_folder()` if None.
        on_progress: as for `download`.

    Returns:
        The path of the file.

    Raises:
        DownloadError: if the file cannot be fetched or written, or is not the official one.
    """
    folder = cache_folder() if cache is None else cache
    return download(f"{base_url}/{_FILES[name]}", folder, on_progress=on_progress)
