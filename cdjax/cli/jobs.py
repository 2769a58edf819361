"""Which pictures a command line asks for: contents and styles -> (content, style, output)."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cdjax.cli.outputs import is_an_input
from cdjax.errors import ImageError, UsageError
from cdjax.io.folders import describe, list_folder
from cdjax.io.formats import FORMATS
from cdjax.io.images import check_suffix
from cdjax.io.remote import Address, path_of
from cdjax.progress import OnProgress, Progress, ignore_progress

STANDARD = Path("-")
"""Stands for standard output."""
STDIN = Path("/dev/stdin")
"""The file that standard input is."""
_LONGEST_NAME = 255
"""Bytes of a file name, on nearly all file systems."""


@dataclass(frozen=True)
class Job:
    """One picture to make of a content and a style, or of several styles.

    Attributes:
        content: the photograph.
        styles: a style, or several to mix or, with as many masks, for regions of the content.
        output: what is written.
        masks: of the content: none, one, or one for each style.
        style_masks: one for each style, or none.
    """

    content: Path
    styles: tuple[Path, ...]
    output: Path
    masks: tuple[Path, ...] = ()
    style_masks: tuple[Path, ...] = ()

    @property
    def inputs(self) -> tuple[Path, ...]:
        """All files that are read."""
        return (self.content, *self.styles, *self.masks, *self.style_masks)

    @property
    def masked_styles(self) -> list[tuple[Path, Path | None]]:
        """The styles with their masks."""
        masks = self.style_masks or (None,) * len(self.styles)
        return list(zip(self.styles, masks, strict=True))

    @property
    def mixed(self) -> bool:
        """Whether several styles are mixed."""
        return len(self.styles) > 1 and len(self.masks) < 2

    def check_name(self) -> None:
        """Raises `ImageError` if no file can have the output's name."""
        if len(os.fsencode(self.output.name)) > _LONGEST_NAME:
            raise ImageError(f"{self.output}: a name of more than {_LONGEST_NAME} bytes")


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: what was to be made.
        status: whether it was.
        error: why not; None if nothing failed.
        seconds: that it took.
        size: width and height of the picture in pixels, if it was made.
    """

    job: Job
    status: Literal["made", "already there", "failed"]
    error: str | None = None
    seconds: float = 0.0
    size: tuple[int, int] | None = None

    def to_json(self) -> str:
        """One line: an object with input, style (a list of several), output and the attributes."""
        content, *styles = (
            str(STANDARD if path == STDIN else path)
            for path in (self.job.content, *self.job.styles)
        )
        return json.dumps(
            {
                "input": content,
                "style": styles[0] if len(styles) == 1 else styles,
                "output": str(self.job.output),
                "status": self.status,
                "error": self.error,
                "seconds": round(self.seconds, 3),
                "size": self.size,
            }
        )


@dataclass(frozen=True)
class Settings:
    """How every picture is made.

    Attributes:
        alpha: strength of the style, 0 to 2, as for `cdjax.stylize`.
        transform: as for `cdjax.stylize`.
        regularization: as for `cdjax.stylize`.
        preserve_color: as for `cdjax.stylize`.
        content_size: shorter side that contents are scaled to, or None to leave them as they are.
        style_size: the same for styles.
        style_weights: shares of the styles of a mixture; None: equal ones.
        dtype: `"float32"` or `"bfloat16"`, the networks' compute dtype.
        quality: of JPEG and WebP, 1 to 100.
        memory: bytes of device memory that a picture may take; a larger one is made in windows.
            None: as `cdjax.tiling.budget` finds.
        host_memory: bytes of host memory for a picture that is made in windows; None: as above.
        deepzoom: whether outputs are folders with a Deep Zoom pyramid and a page that shows it.
        strip: whether results keep no metadata of their contents.
        quiet: whether only errors are printed.
        overwrite: whether an output that exists by the time it is written is replaced.
        on_progress: called with the progress of pictures that are made in windows, even if `quiet`.
    """

    alpha: float = 1.0
    transform: str | None = None
    regularization: float = 0.0
    preserve_color: Literal["luminance", "match"] | None = None
    content_size: int | None = None
    style_size: int | None = None
    style_weights: tuple[float, ...] | None = None
    dtype: str = "float32"
    quality: int = 95
    memory: int | None = None
    host_memory: int | None = None
    deepzoom: bool = False
    strip: bool = False
    quiet: bool = False
    overwrite: bool = False
    on_progress: OnProgress = ignore_progress


def images_in(path: Path, role: str) -> list[Path]:
    """The file itself, or the image files of a folder (by suffix, sorted, not deeper, not hidden).

    Raises:
        UsageError: if there is nothing at `path`, which has the given role, or no image in it.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        if path.exists():
            raise UsageError(f"{role} {path}: neither a file nor a folder; - reads a pipe")
        raise UsageError(f"{role} {path}: no such file or folder")
    found, others = list_folder(path)
    if not found:
        kinds, named = ", ".join(FORMATS), "".join(f"; {describe(file)}" for file in others[:3])
        raise UsageError(f"{role} {path}: no images ({kinds}, ...) in this folder{named}")
    return found


def one_job(content: Path, styles: Sequence[Path], output: str) -> Job:
    """The job of files, of which several styles are mixed; errors are those of `plan`."""
    for role, path in (("content", content), *(("style", path) for path in styles)):
        if path.is_dir():
            raise UsageError(f"{role} {path}: is a folder; give one image")
    return plan([content], styles, output, mix=len(styles) > 1)[0]


def plan(
    contents: Sequence[Path],
    styles: Sequence[Path],
    output: str,
    *,
    mix: bool = False,
    deepzoom: bool = False,
    on_progress: OnProgress = ignore_progress,
) -> list[Job]:
    """Every content with every style, the styles one after the other; touches no file.

    One file of each makes the file `output`, or a file in it if it is a folder or ends with `/`.
    With more files, or a folder, among them, `output` is a folder, made if it does not exist. The
    files in a folder are named {content}__{style}.{suffix}, with the content's suffix or, if that
    cannot be written, .png; inputs that differ only by their suffix keep it in the name, a.jpg as
    a_jpg. Inputs in the output's folder that are such results of other inputs are left out.

    Args:
        contents: files and folders of images.
        styles: the same.
        output: the file or folder to write, an address, or `-` for standard output.
        mix: whether all styles are used in one picture, and count as one.
        deepzoom: whether `output` is a folder for a single picture.
        on_progress: called with a message about the inputs that are left out.

    Raises:
        UsageError: if an input does not exist or is given twice, there is nothing to mix, the
            output is not what it has to be or would replace an input, or two jobs would write the
            same file.
        ImageError: if a single output's suffix names no format.
    """
    target = path_of(output)
    images, files = _without_results(
        files_in(contents, "content"), files_in(styles, "style"), target, on_progress
    )
    one_file = [len(paths) == 1 and paths[0].is_file() for paths in (contents, styles)]
    single = one_file[0] and (mix or one_file[1])
    if deepzoom and not single:
        raise UsageError("--deepzoom takes one content and one style, both files, or --mix")
    if mix and len(files) < 2:
        raise UsageError(f"--mix needs at least two styles, not only {files[0]}; give more with -s")
    mixtures: list[tuple[Path, ...]] = [tuple(files)] if mix else [(path,) for path in files]
    if output == str(STANDARD):
        if not single or deepzoom:
            raise UsageError("output -: standard output takes one picture; give a folder")
        return [Job(images[0], mixtures[0], STANDARD)]
    if deepzoom or (single and not target.is_dir() and not output.endswith(("/", os.sep))):
        jobs = [Job(images[0], mixtures[0], target)]
        check_file(target, deepzoom=deepzoom)
    else:
        jobs = _jobs_in(target, images, files, mixtures)
        if target.suffix.lower() in FORMATS and not target.exists() and not output.endswith("/"):
            many = f"{len(jobs)} pictures need" if len(jobs) > 1 else "results of a folder need"
            raise UsageError(f"output {output}: {many} a folder; end it with / if it is one")
        check_folder(target)
    _check_outputs(jobs)
    return jobs


def _jobs_in(
    target: Path, images: list[Path], files: list[Path], mixtures: list[tuple[Path, ...]]
) -> list[Job]:
    """The jobs whose results are named after their inputs."""
    names, labels = _labels(images), _labels(files)
    jobs = []
    for paths, content in itertools.product(mixtures, images):
        name = f"{names[content]}__{'+'.join(labels[path] for path in paths)}{_suffix(content)}"
        jobs.append(Job(content, paths, target / name))
    return jobs


def _suffix(content: Path) -> str:
    """The suffix of a content's results."""
    return content.suffix if content.suffix.lower() in FORMATS else ".png"


def _without_results(
    images: list[Path], files: list[Path], target: Path, on_progress: OnProgress
) -> tuple[list[Path], list[Path]]:
    """The contents and styles that are not results, in the folder `target`, of others of them."""
    folder = target.resolve()
    suffixes = {".png", *map(_suffix, images)}
    contents, styles = ({label for p in paths for label in _both(p)} for paths in (images, files))

    def is_result(path: Path, role: str) -> bool:
        if path.suffix not in suffixes or path.parent.resolve() != folder:
            return False
        parts = path.stem.split("__")
        pairs = [("__".join(parts[:i]), "__".join(parts[i:])) for i in range(1, len(parts))]
        if role == "contents":
            return any(content in contents for content, _ in pairs)
        return any(style in styles or styles.issuperset(style.split("+")) for _, style in pairs)

    kept: list[list[Path]] = []
    for paths, role in ((images, "contents"), (files, "styles")):
        left = [path for path in paths if "__" not in path.stem or not is_result(path, role)]
        if count := len(paths) - len(left):
            results = f"{count} result{'s' * (count > 1)} of an earlier run in {target}"
            on_progress(Progress("plan", message=f"cdjax: {results} not taken as {role}"))
        kept.append(left)
    return kept[0], kept[1]


def _both(path: Path) -> tuple[str, str]:
    """The labels that a file may have in names of results."""
    return path.stem, path.name.replace(".", "_")


def check_file(target: Path, *, deepzoom: bool = False) -> None:
    """Raises, before anything is computed, if no picture can be written to a path.

    Or, for `deepzoom`, no folder. Errors are those of `plan`.
    """
    if deepzoom and target.is_file():
        raise UsageError(f"output {target}: --deepzoom makes a folder, but this is a file")
    if not deepzoom and not target.suffix:
        raise UsageError(
            f"output {target}: without suffix; give an image's ({', '.join(FORMATS)}), or "
            "end it with / for a folder"
        )
    if not deepzoom:
        check_suffix(target)
    if not isinstance(target, Address) and not target.parent.is_dir():
        raise UsageError(f"output {target}: the folder {target.parent} does not exist")
    check_folder(target.parent)


def files_in(paths: Sequence[Path], role: str) -> list[Path]:
    """The files, and the images in folders; UsageError as `images_in`, or for one given twice."""
    found = [file for path in paths for file in images_in(path, role)]
    for file, count in Counter(found).items():
        if count > 1:
            more = "; a weight after --mix gives it a greater share" if role == "style" else ""
            raise UsageError(f"{role} {file}: given twice{more}")
    return found


def _labels(paths: Sequence[Path]) -> dict[Path, str]:
    stems = Counter(path.stem for path in paths)
    return {path: _both(path)[stems[path.stem] > 1] for path in paths}


def check_folder(folder: Path) -> None:
    """Raises `UsageError` for a folder that cannot be made or written to."""
    if isinstance(folder, Address):  # Whether it can be written shows when a picture is.
        if folder.is_file():
            raise UsageError(f"output {folder}: must be a folder, but is a file")
        return
    paths = (folder, *folder.parents)
    existing = next(path for path in paths if os.path.lexists(path))
    if existing.is_symlink() and not existing.exists():
        raise UsageError(f"output {folder}: {existing} is a link to nothing")
    if not existing.is_dir():
        raise UsageError(f"output {folder}: must be a folder, but {existing} is a file")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"output {folder}: no permission to write in {existing}")


def _check_outputs(jobs: Sequence[Job]) -> None:
    inputs = {path.resolve() for job in jobs for path in (job.content, *job.styles)}
    taken: set[Path] = set()
    for job in jobs:
        if job.output.resolve() in inputs:
            raise is_an_input(job.output)
        if job.output in taken:
            raise UsageError(
                f"output {job.output}: is the result of two pairs; rename one of the inputs"
            )
        taken.add(job.output)
