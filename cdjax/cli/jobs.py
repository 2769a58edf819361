"""Which pictures a command line asks for: content and style files -> (content, style, output)."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cdjax.errors import UsageError
from cdjax.io.images import FORMATS, READABLE, check_suffix


@dataclass(frozen=True)
class Job:
    """One picture to be made: content file, the style's or those to be mixed, file to write."""

    content: Path
    styles: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class Settings:
    """How every picture is made.

    Attributes:
        alpha: strength of the style, 0 to 1.
        content_size: shorter side that contents are scaled to, or None to leave them as they are.
        style_size: likewise for styles.
        style_weights: shares of the styles of a mixture; None: all alike.
        dtype: `"float32"` or `"bfloat16"`, the networks' compute dtype.
        quality: of JPEG and WebP, 1 to 100.
        memory: bytes of the device that a picture may take; a larger one goes by windows. None:
            what `cdjax.tiling.budget` finds.
        host_memory: bytes of host memory for a picture that goes by windows, likewise.
        deepzoom: whether outputs are folders with a Deep Zoom pyramid and a page that shows it.
    """

    alpha: float = 1.0
    content_size: int | None = None
    style_size: int | None = None
    style_weights: tuple[float, ...] | None = None
    dtype: str = "float32"
    quality: int = 95
    memory: int | None = None
    host_memory: int | None = None
    deepzoom: bool = False


def images_in(path: Path, role: str) -> list[Path]:
    """The file itself, or the image files of a folder (by suffix, sorted, not deeper, not hidden).

    Args:
        path: a file or a folder.
        role: `"content"` or `"style"`, for the message.

    Raises:
        UsageError: if there is nothing at `path`, or no image in the folder.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UsageError(f"{role} {path}: no such file or folder")
    found = sorted(
        p
        for p in path.iterdir()
        if p.suffix.lower() in READABLE and not p.name.startswith(".") and p.is_file()
    )
    if not found:
        raise UsageError(f"{role} {path}: no images ({', '.join(READABLE)}) in this folder")
    return found


def plan(content: Path, styles: Sequence[Path], output: str) -> list[Job]:
    """Every content with every style, the styles one after the other; touches no file.

    Several styles are files that are mixed, and count as one. Two files make the file `output`, or
    a file in it if it is a folder or ends with `/`. With a folder among them `output` is a folder,
    made if it is not there. The files in a folder are named {content}__{style}.{suffix}, where the
    suffix is the content's or, if that cannot be written, .png; inputs that differ only by their
    suffix keep it in the name, a.jpg as a_jpg.

    Args:
        content: a file or a folder of images.
        styles: likewise, or several files.
        output: the file or folder to write.

    Raises:
        UsageError: if an input is not there, the output cannot be what it has to be or would
            replace an input, or two jobs would write the same file.
        ImageError: if a single output's suffix names no format.
    """
    contents, mixtures = images_in(content, "content"), _mixtures(styles)
    target = Path(output)
    both_files = content.is_file() and all(style.is_file() for style in styles)
    if both_files and not target.is_dir() and not output.endswith(("/", os.sep)):
        jobs = [Job(content, mixtures[0], target)]
        if not target.suffix:
            raise UsageError(
                f"output {output}: without suffix; give an image's ({', '.join(FORMATS)}), or "
                "end it with / for a folder"
            )
        check_suffix(target)
        if not target.parent.is_dir():
            raise UsageError(f"output {output}: the folder {target.parent} is not there")
        _check_folder(target.parent)
    else:
        names, labels = _labels(contents), _labels([path for paths in mixtures for path in paths])
        jobs = [
            Job(c, paths, target / f"{names[c]}__{'+'.join(labels[s] for s in paths)}{_suffix(c)}")
            for paths in mixtures
            for c in contents
        ]
        _check_folder(target)
    _check_outputs(jobs)
    return jobs


def _mixtures(styles: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The styles of each row of jobs: those of a folder one by one, several given all at once."""
    if len(styles) == 1:
        return [(path,) for path in images_in(styles[0], "style")]
    for style in styles:
        if not style.is_file():
            raise UsageError(f"style {style}: several styles are mixed, and each must be a file")
    if len(set(styles)) < len(styles):
        raise UsageError("a style is given twice; --style-weights gives it a greater share")
    return [tuple(styles)]


def plan_folder(content: Path, styles: Sequence[Path], output: str) -> Job:
    """One picture of a content and its styles, to become a folder.

    Args:
        content: an image file.
        styles: likewise, one or several to be mixed.
        output: the folder, made anew.

    Raises:
        UsageError: if an input is no file or not there, or the output is a file or its parent is
            missing or not to be written to.
    """
    for path, role in ((content, "content"), *((style, "style") for style in styles)):
        if not path.is_file():
            raise UsageError(f"{role} {path}: --deepzoom takes one file, and this is none")
    target = Path(output)
    if target.is_file():
        raise UsageError(f"output {output}: --deepzoom makes a folder, but this is a file")
    if not target.parent.is_dir():
        raise UsageError(f"output {output}: the folder {target.parent} is not there")
    _check_folder(target.parent)
    return Job(content, _mixtures(styles)[0], target)


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    stems = Counter(path.stem for path in paths)
    return {p: p.stem if stems[p.stem] == 1 else p.name.replace(".", "_") for p in paths}


def _suffix(content: Path) -> str:
    return content.suffix if content.suffix.lower() in FORMATS else ".png"


def _check_folder(folder: Path) -> None:
    """Refuses, before anything is computed, a folder that is none or can take no file."""
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise UsageError(f"output {folder}: must be a folder, but {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"output {folder}: no permission to write in {existing}")


def _check_outputs(jobs: Sequence[Job]) -> None:
    inputs = {path.resolve() for job in jobs for path in (job.content, *job.styles)}
    taken: set[Path] = set()
    for job in jobs:
        if job.output.resolve() in inputs:
            raise UsageError(f"output {job.output}: is one of the inputs, which are never replaced")
        if job.output in taken:
            raise UsageError(
                f"output {job.output}: is the result of two pairs; rename one of the inputs"
            )
        taken.add(job.output)
