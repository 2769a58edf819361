"""SHA-256 of files."""

import hashlib

from cdjax.io.atomic import StrPath


def sha256(path: StrPath) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits; OSError if it is unreadable."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
