"""SHA-256 of files."""

import hashlib
import os


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits; OSError if it is unreadable."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
