"""The library PyAV: whether it is installed, its errors, and films opened without surprises."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cdjax.errors import CdjaxError, VideoError, first_line

_FORMATS = (
    "mov,matroska,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,gif,apng,nut,mxf,h264,hevc,ivf,obu,m4v,rm,"
    "wtv,dv"
)
"""Formats that are read. Others, such as playlists, would open further files or addresses."""


def library() -> Any:
    """The module `av`; VideoError if it is not installed."""
    try:
        import av
    except (ImportError, OSError) as error:
        raise VideoError("films need PyAV: pip install 'cdjax[video]'") from error
    return av


@contextmanager
def reported(what: str) -> Iterator[None]:
    """Turns errors of PyAV and of the system into `VideoError`; the message begins with `what`."""
    av = library()
    try:
        yield
    except CdjaxError:
        raise
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise VideoError(f"{what} ({reason})") from error


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Opens a film for reading, an `av.container.InputContainer`.

    Raises:
        VideoError: if it cannot be opened, or something in the context raises an error of PyAV or
            of the system.
    """
    av = library()
    with reported(f"{path}: not a film, or broken"):
        # `file:` keeps a name such as `concat:a` from being taken for a protocol.
        source = f"file:{path}"
        options = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}
        try:
            container = av.open(source, options=options, metadata_errors="replace")
        except av.error.ArgumentError as error:
            raise VideoError(f"{path}: not a film of a format that is read") from error
        with container:
            yield container
