"""The folder in which downloads and compiled programs are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads are kept: `CDJAX_CACHE`, else `XDG_CACHE_HOME`/cdjax, else ~/.cache/cdjax.

    Raises:
        OSError: if none of them is set and the user has no home folder.
    """
    if chosen := os.environ.get("CDJAX_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "cdjax"
    except RuntimeError as error:
        raise OSError("no home folder for downloads; CDJAX_CACHE chooses a folder") from error
