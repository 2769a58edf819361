"""The command `cdjax stylize`: parse, read, stylise, write, report.

Heavy modules are imported only once the arguments are known to be good.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from cdjax.image import ImageError, Picture, read_image, resize, write_image
from cdjax.jobs import Job, UsageError, plan

if TYPE_CHECKING:
    from cdjax.model import Model
    from cdjax.stylization import Style

_BAD_INPUT = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: as on the command line; those of the process by default.

    Returns:
        The exit status: 0 done, 2 wrong use or bad input (with a line on stderr that says what is
        wrong), 130 interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        return _stylize(options)
    except (ValueError, OSError) as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("cdjax: interrupted", file=sys.stderr)
        return _INTERRUPTED


def _refuse(message: str) -> int:
    print(f"cdjax: error: {' '.join(message.split())}", file=sys.stderr)
    return _BAD_INPUT


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of pixels")
    return value


def _quality(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text} is not between 1 and 100")
    return value


class _Parser(argparse.ArgumentParser):
    """One line for wrong use, as for every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Prints the line and exits with status 2."""
        self.exit(_BAD_INPUT, f"cdjax: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cdjax", description="Universal style transfer in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stylize = commands.add_parser(
        "stylize",
        help="repaint photographs in the style of paintings",
        description="Repaint CONTENT in the style of STYLE: files, or folders for every pair.",
    )
    add = stylize.add_argument
    add("content", type=Path, metavar="CONTENT", help="an image, or a folder of images")
    add("style", type=Path, metavar="STYLE", help="an image, or a folder of images")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="file or folder to write")
    add("--weights", required=True, metavar="MODEL", help="checkpoint of convert_weights.py")
    add("--alpha", type=_fraction, default=1.0, help="strength of the style, 0 to 1 (default 1)")
    add("--content-size", type=_positive, metavar="PX", help="scale content to this shorter side")
    add("--style-size", type=_positive, metavar="PX", help="scale style to this shorter side")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="compute in this type")
    add("--quality", type=_quality, default=95, help="of JPEG and WebP, 1 to 100 (default 95)")
    add("--overwrite", action="store_true", help="replace outputs that are there already")
    return parser


def _stylize(options: argparse.Namespace) -> int:
    jobs = plan(options.content, options.style, options.output)
    todo = [job for job in jobs if options.overwrite or not job.output.exists()]
    if not todo and len(jobs) == 1:
        raise UsageError(f"output {jobs[0].output}: is there already; --overwrite replaces it")
    if not Path(options.weights).exists():
        raise UsageError(
            f"weights {options.weights}: no such checkpoint; convert_weights.py makes one"
        )
    with ThreadPoolExecutor(2, "cdjax-read") as pool:
        try:
            failed = _run(todo, options, pool)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    skipped = len(jobs) - len(todo)
    if len(jobs) > 1:
        parts = [f"{len(todo) - failed} written"]
        parts += [f"{skipped} skipped (already there)"] if skipped else []
        parts += [f"{failed} failed"] if failed else []
        print(f"cdjax: {', '.join(parts)}", file=sys.stderr)
    return _BAD_INPUT if failed else 0


def _run(jobs: Sequence[Job], options: argparse.Namespace, pool: ThreadPoolExecutor) -> int:
    """Makes the pictures; returns how many could not be made."""
    contents = _read_ahead([job.content for job in jobs], options.content_size, pool)
    changes = [
        job.style
        for job, before in zip(jobs, (None, *jobs), strict=False)
        if before is None or job.style != before.style
    ]
    styles = _read_ahead(changes, options.style_size, pool)
    # The first files are being read while JAX is imported and the weights are loaded.
    from tqdm import tqdm

    from cdjax.checkpoint import load_model
    from cdjax.stylization import encode_style

    use_compilation_cache()
    model = load_model(options.weights)
    failed = 0
    current: Path | None = None
    style: Style | ImageError = ImageError("no style")
    quiet = len(jobs) == 1 and not sys.stderr.isatty()
    with tqdm(jobs, unit="image", disable=quiet, leave=False) as progress:
        for job in progress:
            progress.set_postfix_str(job.output.name)
            content = next(contents)
            if job.style != current:
                current, picture = job.style, next(styles)
                style = (
                    picture
                    if isinstance(picture, ImageError)
                    else encode_style(model, picture.pixels, dtype=options.dtype)
                )
            try:
                if isinstance(content, ImageError):
                    raise content
                if isinstance(style, ImageError):
                    raise style
                _make(model, job, content, style, options)
            except ImageError as error:
                if len(jobs) == 1:
                    raise
                failed += 1
                progress.write(f"cdjax: error: {error}", file=sys.stderr)
    return failed


def _read_ahead(
    paths: Sequence[Path], shorter_side: int | None, pool: ThreadPoolExecutor
) -> Iterator[Picture | ImageError]:
    """The pictures of the paths in order, each being read while the one before is in use."""

    def read(path: Path) -> Picture | ImageError:
        try:
            picture = read_image(path)
            return resize(picture, shorter_side) if shorter_side else picture
        except ImageError as error:
            return error

    def pictures(ahead: Future[Picture | ImageError]) -> Iterator[Picture | ImageError]:
        for path in paths[1:]:
            current, ahead = ahead, pool.submit(read, path)
            yield current.result()
        yield ahead.result()

    return pictures(pool.submit(read, paths[0])) if paths else iter(())


def _make(
    model: "Model",
    job: Job,
    content: Picture,
    style: "Style",
    options: argparse.Namespace,
) -> None:
    import jax
    import numpy as np

    from cdjax.stylization import stylize

    height, width = content.pixels.shape[:2]
    try:
        result = np.asarray(
            stylize(model, content.pixels, style, alpha=options.alpha, dtype=options.dtype)
        )
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            raise ImageError(
                f"{job.content}: {width}x{height} pixels do not fit in memory; "
                "--content-size makes them fewer"
            ) from error
        raise
    job.output.parent.mkdir(parents=True, exist_ok=True)
    write_image(job.output, Picture(result, content.alpha), quality=options.quality)


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the next process need not compile them again.

    In the folder `xla` of CDJAX_CACHE, or of `cdjax` in the user's cache folder, unless JAX's own
    JAX_COMPILATION_CACHE_DIR names another. A folder that cannot be written to is done without.
    """
    import jax

    from cdjax.download import cache_folder

    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


if __name__ == "__main__":
    sys.exit(main())
