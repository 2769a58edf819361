"""The library libvips: whether it is installed, and its errors."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from cdjax.errors import ImageError

_ALL_LEVELS = 0xFF


def library() -> Any:
    """The module `pyvips`; ImageError if it is not installed, or does not find libvips."""
    try:
        import pyvips
    except (ImportError, OSError) as error:
        message = "images this large need libvips: pip install 'pyvips[binary]'"
        raise ImageError(message) from error
    # The cache of operations would keep files open and decoded images on the disk after their use.
    pyvips.cache_set_max(0)
    _log_all()
    return pyvips


@cache
def _log_all() -> None:
    """Sends what GLib logs to the logger of pyvips, which gets that of libvips alone.

    Otherwise GLib prints it, for instance about impossible sizes in the header of a broken file.
    """
    import pyvips

    with suppress(AttributeError):  # The callback is private to pyvips.
        for domain in (b"GLib", b"GLib-GObject", b"GLib-GIO"):
            pyvips.glib_lib.g_log_set_handler(
                domain, _ALL_LEVELS, pyvips._log_handler_cb, pyvips.ffi.NULL
            )


def available() -> bool:
    """Whether pyvips can be imported and finds libvips; never raises."""
    with suppress(ImageError):
        return bool(library())
    return False


@contextmanager
def reported(what: str, *, decoding: bool = False) -> Iterator[None]:
    """Turns errors of libvips and of the system into `ImageError`.

    Args:
        what: beginning of the message, to which the reason is added.
        decoding: whether pixels are read. libvips reads a broken tile of a TIFF file as black and
            writes to its error log only; this raises an error then.
    """
    pyvips = library()
    if decoding:
        pyvips.vips_lib.vips_error_clear()
    try:
        yield
        if decoding and (left := pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer())):
            pyvips.vips_lib.vips_error_clear()
            raise ImageError(f"{what} ({_reason(left.decode(errors='replace'))})")
    except OSError as error:
        raise ImageError(f"{what} ({error.strerror or error})") from error
    except pyvips.Error as error:
        raise ImageError(f"{what} ({_reason(error.detail)})") from error


def _reason(detail: str) -> str:
    # libvips gives one line per layer; the line of the system is the most helpful, then the first.
    lines = [line.strip() for line in detail.splitlines() if line.strip()]
    known = [line for line in lines if line.startswith("system error: ")]
    return (known or lines or ["unknown error"])[0].removeprefix("system error: ")
