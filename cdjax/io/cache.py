"""The folder in which downloads and compiled programs are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where downloads are kept: `CDJAX_CACHE`, else `XDG_CACHE_HOME`/cdjax, else ~/.cache/cdjax."""
    if chosen := os.environ.get("CDJAX_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cdjax"
