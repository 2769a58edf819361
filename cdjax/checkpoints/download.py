"""Downloads weights, such as torchvision's VGG, and checks them by their hash."""

import urllib.request
from http.client import HTTPException
from pathlib import Path

from cdjax.errors import DownloadError
from cdjax.io.atomic import StrPath, atomic_file
from cdjax.io.digest import sha256
from cdjax.io.leftovers import remove_leftovers
from cdjax.progress import OnProgress, Progress, ignore_progress

TORCHVISION = {
    "vgg19": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "vgg16": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
"""Addresses of torchvision's official VGG weights (575 and 553 MB)."""
_TIMEOUT = 30.0  # Seconds without an answer.


def download(url: str, folder: StrPath, *, on_progress: OnProgress = ignore_progress) -> Path:
    """The path of a file in a folder, downloaded unless it exists.

    A file that exists is checked, and fetched again if it is damaged.

    Args:
        url: its name must end in `-{first hexadecimal digits of the file's SHA-256}.{suffix}`.
        folder: where to keep the file; made if it does not exist.
        on_progress: called with the bytes fetched and, if known, the bytes in total.

    Raises:
        DownloadError: if the file cannot be fetched or written, or is not the expected one.
    """
    path = Path(folder) / url.rpartition("/")[2]
    prefix = path.stem.rpartition("-")[2]
    try:
        if path.is_file() and sha256(path).startswith(prefix):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers([path])
        with atomic_file(path) as part:
            with (
                urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
                open(part, "wb") as file,
            ):
                total = int(response.headers.get("Content-Length") or 0) or None
                while block := response.read(1 << 20):
                    file.write(block)
                    on_progress(Progress(path.name, file.tell(), total))
            if not sha256(part).startswith(prefix):
                raise DownloadError(f"{url}: damaged; its SHA-256 does not begin with {prefix}")
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(
            f"cannot download {path.name} ({reason}): fetch {url} elsewhere and pass its path"
        ) from error
    return path
