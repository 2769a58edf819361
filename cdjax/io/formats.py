"""Formats of image files: which are written, which are read, and which suffixes they have."""

from pathlib import Path

FORMATS = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Suffixes of files that can be written, and Pillow's names of their formats."""


def _of_own_suffix(*names: str) -> dict[str, str]:
    return {f".{name.lower()}": name for name in names}


READABLE = {
    **FORMATS,
    **dict.fromkeys((".jfif", ".jif", ".jpe", ".mpo"), "JPEG"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **_of_own_suffix("BMP"),
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIF"),
    **dict.fromkeys((".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"), "JPEG2000"),
    **dict.fromkeys((".pbm", ".pfm", ".pgm", ".pnm", ".ppm"), "PPM"),
    **dict.fromkeys((".icb", ".tga", ".vda", ".vst"), "TGA"),
    **dict.fromkeys((".bw", ".rgb", ".rgba", ".sgi"), "SGI"),
    ".apng": "PNG",
    **_of_own_suffix("BLP", "CUR", "DCX", "DDS", "DIB"),
    **dict.fromkeys((".fit", ".fits"), "FITS"),
    **dict.fromkeys((".flc", ".fli"), "FLI"),
    **_of_own_suffix("GIF", "ICNS", "ICO", "IM", "MSP", "PCD", "PCX", "PSD", "QOI"),
    ".ras": "SUN",
    **_of_own_suffix("XBM", "XPM"),
}
"""Suffixes of files that can be read; the format of most is recognised by their content."""

RECOGNISED = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP", "GIF", "PPM", "JPEG2000", "PSD", "QOI")
"""Formats that are recognised whatever the suffix; MPO, a JPEG of several pictures, is read as one.

EPS is not read: Pillow would run Ghostscript.
"""

HEIF_HINT = "HEIC needs the package pillow-heif: pip install 'cdjax[heif]'"
"""What to do if the optional package is missing."""

_UNREADABLE = {
    **dict.fromkeys(
        (
            *(".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".nef", ".nrw"),
            *(".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
        ),
        "a raw photograph",
    ),
    **dict.fromkeys((".ai", ".emf", ".eps", ".pdf", ".ps", ".svg", ".svgz", ".wmf"), "a drawing"),
    **dict.fromkeys((".dpx", ".exr", ".hdr", ".jxl", ".jxr", ".psb", ".xcf"), ""),
    **dict.fromkeys((".bpg", ".djvu", ".flif", ".jls", ".kra", ".pct", ".pict"), ""),
}
_HOW = "save it as JPEG, PNG or TIFF"


def likely_format(path: str | Path) -> str:
    """The format that a file probably has, by its suffix."""
    return READABLE.get(Path(path).suffix.lower(), "JPEG")


def unreadable_picture(path: Path) -> str | None:
    """Why a picture cannot be read, by its suffix; None if the suffix is of no such picture."""
    kind = _UNREADABLE.get(path.suffix.lower())
    return None if kind is None else f"{kind or 'a format that is not read'}; {_HOW}"
