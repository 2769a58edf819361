"""Which pictures a command line asks for: contents and styles -> (content, style, output)."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cdjax.errors import UsageError
from cdjax.io.images import FORMATS, READABLE, check_suffix


@dataclass(frozen=True)
class Job:
    """One picture to make of a content and a style, or of several styles to mix."""

    content: Path
    styles: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class Settings:
    """How every picture is made.

    Attributes:
        alpha: strength of the style, 0 to 1.
        transform: as for `cdjax.stylize`.
        regularization: as for `cdjax.stylize`.
        content_size: shorter side that contents are scaled to, or None to leave them as they are.
        style_size: the same for styles.
        style_weights: shares of the styles of a mixture; None: equal ones.
        dtype: `"float32"` or `"bfloat16"`, the networks' compute dtype.
        quality: of JPEG and WebP, 1 to 100.
        memory: bytes of device memory that a picture may take; a larger one is made in windows.
            None: as `cdjax.tiling.budget` finds.
        host_memory: bytes of host memory for a picture that is made in windows; None: as above.
        deepzoom: whether outputs are folders with a Deep Zoom pyramid and a page that shows it.
    """

    alpha: float = 1.0
    transform: str | None = None
    regularization: float = 0.0
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

    Raises:
        UsageError: if there is nothing at `path`, which has the given role, or no image in it.
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


def plan(
    contents: Sequence[Path],
    styles: Sequence[Path],
    output: str,
    *,
    mix: bool = False,
    deepzoom: bool = False,
) -> list[Job]:
    """Every content with every style, the styles one after the other; touches no file.

    One file of each makes the file `output`, or a file in it if it is a folder or ends with `/`.
    With more files, or a folder, among them, `output` is a folder, made if it does not exist. The
    files in a folder are named {content}__{style}.{suffix}, with the content's suffix or, if that
    cannot be written, .png; inputs that differ only by their suffix keep it in the name, a.jpg as
    a_jpg.

    Args:
        contents: files and folders of images.
        styles: the same.
        output: the file or folder to write.
        mix: whether all styles are mixed, and count as one.
        deepzoom: whether `output` is a folder for a single picture.

    Raises:
        UsageError: if an input does not exist or is given twice, there is nothing to mix, the
            output is not what it has to be or would replace an input, or two jobs would write the
            same file.
        ImageError: if a single output's suffix names no format.
    """
    images, files = _files(contents, "content"), _files(styles, "style")
    if mix and len(files) < 2:
        raise UsageError(f"--mix needs at least two styles, not only {files[0]}; give more with -s")
    mixtures = [tuple(files)] if mix else [(path,) for path in files]
    target = Path(output)
    one_file = [len(paths) == 1 and paths[0].is_file() for paths in (contents, styles)]
    single = one_file[0] and (mix or one_file[1])
    if deepzoom and not single:
        raise UsageError("--deepzoom takes one content and one style, both files, or --mix")
    if deepzoom or (single and not target.is_dir() and not output.endswith(("/", os.sep))):
        jobs = [Job(images[0], mixtures[0], target)]
        _check_single(target, deepzoom)
    else:
        names, labels = _labels(images), _labels(files)
        jobs = []
        for paths, content in itertools.product(mixtures, images):
            suffix = content.suffix if content.suffix.lower() in FORMATS else ".png"
            name = f"{names[content]}__{'+'.join(labels[path] for path in paths)}{suffix}"
            jobs.append(Job(content, paths, target / name))
        if target.suffix.lower() in FORMATS and not target.exists() and not output.endswith("/"):
            raise UsageError(
                f"output {output}: {len(jobs)} pictures need a folder; end it with / if it is one"
            )
        _check_folder(target)
    _check_outputs(jobs)
    return jobs


def _check_single(target: Path, deepzoom: bool) -> None:
    if deepzoom and target.is_file():
        raise UsageError(f"output {target}: --deepzoom makes a folder, but this is a file")
    if not deepzoom and not target.suffix:
        raise UsageError(
            f"output {target}: without suffix; give an image's ({', '.join(FORMATS)}), or "
            "end it with / for a folder"
        )
    if not deepzoom:
        check_suffix(target)
    if not target.parent.is_dir():
        raise UsageError(f"output {target}: the folder {target.parent} does not exist")
    _check_folder(target.parent)


def _files(paths: Sequence[Path], role: str) -> list[Path]:
    """The files, and those in the folders."""
    found = [file for path in paths for file in images_in(path, role)]
    for file, count in Counter(found).items():
        if count > 1:
            more = "; a weight after --mix gives it a greater share" if role == "style" else ""
            raise UsageError(f"{role} {file}: given twice{more}")
    return found


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    stems = Counter(path.stem for path in paths)
    return {p: p.stem if stems[p.stem] == 1 else p.name.replace(".", "_") for p in paths}


def _check_folder(folder: Path) -> None:
    """Refuses, before anything is computed, a folder that cannot be made or written to."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
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
