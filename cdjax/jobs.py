"""Which pictures a command line asks for: content and style files -> (content, style, output)."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cdjax.image import FORMATS, READABLE, check_suffix


class UsageError(ValueError):
    """Arguments that cannot be followed; the message is one line that says why."""


@dataclass(frozen=True)
class Job:
    """One picture to be made: content and style files, and the file to write."""

    content: Path
    style: Path
    output: Path


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


def plan(content: Path, style: Path, output: str) -> list[Job]:
    """Every content with every style, the styles one after the other; touches no file.

    Two files make the file `output`, or a file in it if it is a folder or ends with `/`. With a
    folder among them `output` is a folder, made if it is not there. The files in a folder are named
    {content}__{style}.{suffix}, where the suffix is the content's or, if that cannot be written,
    .png; inputs that differ only by their suffix keep it in the name, a.jpg as a_jpg.

    Args:
        content: a file or a folder of images.
        style: likewise.
        output: the file or folder to write.

    Raises:
        UsageError: if an input is not there, the output cannot be what it has to be or would
            replace an input, or two jobs would write the same file.
        ImageError: if a single output's suffix names no format.
    """
    contents, styles = images_in(content, "content"), images_in(style, "style")
    target = Path(output)
    both_files = content.is_file() and style.is_file()
    if both_files and not target.is_dir() and not output.endswith(("/", os.sep)):
        jobs = [Job(content, style, target)]
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
        names, labels = _labels(contents), _labels(styles)
        jobs = [
            Job(c, s, target / f"{names[c]}__{labels[s]}{_suffix(c)}")
            for s in styles
            for c in contents
        ]
        _check_folder(target)
    _check_outputs(jobs)
    return jobs


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
    inputs = {path.resolve() for job in jobs for path in (job.content, job.style)}
    taken: set[Path] = set()
    for job in jobs:
        if job.output.resolve() in inputs:
            raise UsageError(f"output {job.output}: is one of the inputs, which are never replaced")
        if job.output in taken:
            raise UsageError(
                f"output {job.output}: is the result of two pairs; rename one of the inputs"
            )
        taken.add(job.output)
