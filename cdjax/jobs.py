"""Which pictures a command line asks for: content and style files -> (content, style, output)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cdjax.image import FORMATS, check_suffix


class UsageError(ValueError):
    """Arguments that cannot be followed; the message is one line that says why."""


@dataclass(frozen=True)
class Job:
    """One picture to be made: content and style files, and the file to write."""

    content: Path
    style: Path
    output: Path


def images_in(path: Path, role: str) -> list[Path]:
    """The file itself, or the image files of a folder (by suffix, sorted, not deeper).

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
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in FORMATS and p.is_file())
    if not found:
        raise UsageError(f"{role} {path}: no images ({', '.join(FORMATS)}) in this folder")
    return found


def plan(content: Path, style: Path, output: Path) -> list[Job]:
    """Every content with every style, the styles one after the other.

    Two files make the file `output`, or a file in it if it is a folder. With a folder among
    them `output` is a folder, made if it is not there, of files {content}__{style}.{suffix},
    where the suffix is the content's or, if that cannot be written, .png.

    Args:
        content: a file or a folder of images.
        style: likewise.
        output: the file or folder to write.

    Raises:
        UsageError: if an input is not there, the output cannot be what it has to be, or two jobs
            would write the same file.
        ImageError: if a single output's suffix names no format.
    """
    contents, styles = images_in(content, "content"), images_in(style, "style")
    if content.is_file() and style.is_file() and not output.is_dir():
        check_suffix(output)
        if not output.parent.is_dir():
            raise UsageError(f"output {output}: the folder {output.parent} is not there")
        if any(output.exists() and output.samefile(source) for source in (content, style)):
            raise UsageError(f"output {output}: is one of the inputs, which are never replaced")
        return [Job(content, style, output)]
    if output.exists() and not output.is_dir():
        raise UsageError(f"output {output}: must be a folder where an input is one")
    jobs = [Job(c, s, output / _name(c, s, contents, styles)) for s in styles for c in contents]
    taken: dict[Path, Job] = {}
    for job in jobs:
        other = taken.setdefault(job.output, job)
        if other is not job:
            raise UsageError(f"{job.output}: is the result of two pairs; rename one of the inputs")
    return jobs


def _name(content: Path, style: Path, contents: Sequence[Path], styles: Sequence[Path]) -> str:
    def unique(path: Path, among: Sequence[Path]) -> str:
        # a.jpg and a.png in one folder are told apart by their suffixes.
        shared = sum(other.stem == path.stem for other in among) > 1
        return path.name.replace(".", "_") if shared else path.stem

    suffix = content.suffix if content.suffix.lower() in FORMATS else ".png"
    return f"{unique(content, contents)}__{unique(style, styles)}{suffix}"
