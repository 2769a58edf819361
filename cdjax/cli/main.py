"""The commands `cdjax stylize` and `cdjax samples`: parse, check, run, report.

Heavy modules are imported only once they are needed: wrong use is answered at once.
"""

import argparse
import gc
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from cdjax.cli.allocator import STYLISATION, start_again_tuned

if TYPE_CHECKING:
    from cdjax.cli.jobs import Job
    from cdjax.model import Model

DEFAULT_METHOD = "wct"
"""The method whose bundled model is taken unless `--method` or `--weights` says otherwise."""

_BAD_INPUT = 2
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: as on the command line; those of the process by default.

    Returns:
        The exit status: 0 done, 2 wrong use or bad input (with a line on stderr that says what is
        wrong), 130 interrupted: nothing will be written any more, but what is being computed goes
        on in its thread until the process ends.
    """
    try:
        options = _parser().parse_args(arguments)
        with warnings.catch_warnings():
            # What the user needs to know of a file or the cache is said in lines of our own.
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.filterwarnings("ignore", message="Error writing persistent compilation cache")
            status: int = options.run(options)
            return status
    except SystemExit as done:
        return int(done.code or 0)
    except (ValueError, OSError) as error:
        from cdjax.cli.batch import error_line

        print(error_line(error), file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print("\ncdjax: interrupted", file=sys.stderr, flush=True)  # below the progress bar
        return _INTERRUPTED


def command() -> NoReturn:
    """The console script: `main` between a quick start and a quick end.

    Else a good part of the cold start (`python -m experiments.benchmark` measures it) would be
    looking for garbage while JAX traces and makes none, and taking the interpreter apart when all
    files are written.
    """
    if "stylize" in sys.argv[1:2]:
        start_again_tuned(STYLISATION)
    gc.set_threshold(100_000)
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Parser(argparse.ArgumentParser):
    """One line for wrong use, as for every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        """Prints the line and exits with status 2."""
        self.exit(_BAD_INPUT, f"cdjax: error: {message} (see {self.prog} --help)\n")


def _within(number: type[int] | type[float], low: int, high: int) -> Callable[[str], float]:
    kind = "whole number" if number is int else "number"

    def parse(text: str) -> float:
        try:
            value = number(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is no {kind} from {low} to {high}")
        return value

    return parse


def _size(text: str) -> int:
    from cdjax.tiling.budget import parse_size

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cdjax", description="Universal style transfer in JAX.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    stylize = commands.add_parser(
        "stylize",
        help="repaint photographs in the style of paintings",
        description="Repaint CONTENT in the style of STYLE: files, or folders for every pair.",
    )
    size = _within(int, 1, 100_000)
    add = stylize.add_argument
    add("content", type=Path, metavar="CONTENT", help="an image, or a folder of images")
    add(
        "styles",
        type=Path,
        nargs="+",
        metavar="STYLE",
        help="an image, a folder of images, or several images to be mixed",
    )
    add("-o", "--output", required=True, metavar="OUT", help="file or folder to write")
    add(
        "--method",
        choices=["wct", "adain"],
        help=f"the transform, and its bundled model METHOD-16x (default {DEFAULT_METHOD}-16x)",
    )
    add(
        "--weights",
        metavar="MODEL",
        help="another model: a checkpoint of convert_weights.py or experiments.distill",
    )
    add(
        "--style-weights",
        type=_within(float, 0, 1_000_000),
        nargs="+",
        metavar="W",
        help="shares of several styles, in their order (default: all alike)",
    )
    add(
        "--alpha",
        type=_within(float, 0, 1),
        default=1.0,
        metavar="A",
        help="strength of the style, 0 to 1 (default 1)",
    )
    add("--content-size", type=size, metavar="PX", help="scale content to this shorter side")
    add("--style-size", type=size, metavar="PX", help="scale style to this shorter side")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="compute in this type")
    add(
        "--quality",
        type=_within(int, 1, 100),
        default=95,
        metavar="Q",
        help="of JPEG and WebP, 1 to 100 (default 95)",
    )
    add(
        "--memory",
        type=_size,
        metavar="SIZE",
        help="of the device for a picture, e.g. 2GB; one that needs more is made in windows "
        "(default: most of a GPU's, half of the free memory without one)",
    )
    add(
        "--host-memory",
        type=_size,
        metavar="SIZE",
        help="for pictures made in windows; the rest goes to files (default: half of the free)",
    )
    add(
        "--deepzoom",
        action="store_true",
        help="write OUT as a folder with a page that zooms into the result",
    )
    add("--overwrite", action="store_true", help="replace outputs that are there already")
    stylize.set_defaults(run=_stylize)
    samples = commands.add_parser(
        "samples",
        help="make two pictures to try it on",
        description="Write content.png, a landscape, and style.png, a painting, to FOLDER.",
    )
    samples.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is not there")
    samples.set_defaults(run=_samples)
    return parser


def _samples(options: argparse.Namespace) -> int:
    from cdjax.cli.samples import landscape, painting
    from cdjax.errors import UsageError
    from cdjax.io.images import Picture, write_image

    targets = {options.folder / "content.png": landscape, options.folder / "style.png": painting}
    for path in targets:
        if path.exists():
            raise UsageError(f"output {path}: is there already")
    options.folder.mkdir(parents=True, exist_ok=True)
    for path, make in targets.items():
        write_image(path, Picture(make()))
        print(path)
    return 0


def _stylize(options: argparse.Namespace) -> int:
    from cdjax.checkpoints.load import find_model
    from cdjax.cli.jobs import plan
    from cdjax.errors import UsageError

    _check_style_weights(options)
    if options.deepzoom:
        jobs = [_deepzoom_job(options)]
    else:
        jobs = plan(options.content, options.styles, options.output)
    single = all(path.is_file() for path in (options.content, *options.styles))
    todo = [job for job in jobs if options.overwrite or not job.output.exists()]
    if single and not todo:
        raise UsageError(f"output {jobs[0].output}: is there already; --overwrite replaces it")
    weights = options.weights or f"{options.method or DEFAULT_METHOD}-16x"
    find_model(weights)
    failed = _run(todo, weights, options, single) if todo else 0
    if not single:
        skipped = len(jobs) - len(todo)
        parts = [f"{len(todo) - failed} written"]
        parts += [f"{skipped} skipped (already there)"] if skipped else []
        parts += [f"{failed} failed"] if failed else []
        print(f"cdjax: {', '.join(parts)}", file=sys.stderr)
    return _BAD_INPUT if failed else 0


def _deepzoom_job(options: argparse.Namespace) -> "Job":
    from cdjax.cli.jobs import plan_folder
    from cdjax.errors import UsageError
    from cdjax.io import vips

    job = plan_folder(options.content, options.styles, options.output)
    if not vips.available():
        raise UsageError("--deepzoom needs libvips: pip install 'cdjax[ultra]'")
    from cdjax.io.deepzoom import viewer_files

    viewer_files()  # Before hours of work.
    return job


def _check_style_weights(options: argparse.Namespace) -> None:
    from cdjax.errors import UsageError

    weights = options.style_weights
    if weights is None:
        return
    if len(weights) != len(options.styles):
        raise UsageError(f"--style-weights: {len(weights)} for {len(options.styles)} style(s)")
    if not any(weights):
        raise UsageError("--style-weights: one at least must be above 0")


def _run(jobs: Sequence["Job"], weights: str, options: argparse.Namespace, single: bool) -> int:
    from cdjax.cli.batch import run
    from cdjax.cli.interrupts import Gate
    from cdjax.cli.jobs import Settings
    from cdjax.errors import UsageError

    def load() -> "Model":
        from cdjax.checkpoints.load import load_model

        use_compilation_cache()
        model = load_model(weights)
        method = model.config.method
        if options.method not in (None, method):
            raise UsageError(f"weights {weights}: a model of method {method}, not {options.method}")
        return model

    settings = Settings(
        alpha=options.alpha,
        content_size=options.content_size,
        style_size=options.style_size,
        style_weights=options.style_weights and tuple(options.style_weights),
        dtype=options.dtype,
        quality=options.quality,
        memory=options.memory,
        host_memory=options.host_memory,
        deepzoom=options.deepzoom,
    )
    gate = Gate()
    # In a thread of its own, because in the midst of JAX the main one takes note of Ctrl-C only
    # after minutes, or not at all: an exception out of a callback is ignored.
    worker = ThreadPoolExecutor(1, "cdjax-run")
    try:
        return worker.submit(run, jobs, load, settings, gate, strict=single).result()
    except KeyboardInterrupt:
        gate.close()
        raise
    finally:
        worker.shutdown(wait=False)


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the next process need not compile them again.

    In the folder `xla` of CDJAX_CACHE, or of `cdjax` in the user's cache folder, unless JAX has
    been told of another (JAX_COMPILATION_CACHE_DIR). One that cannot be written to is done without.
    """
    import jax

    from cdjax.io.cache import cache_folder

    setting = "jax_compilation_cache_dir"
    if not getattr(jax.config, setting):
        try:
            folder = cache_folder() / "xla"
            folder.mkdir(parents=True, exist_ok=True)
            # An empty entry, as a power cut leaves it, would be neither read nor replaced.
            for entry in folder.glob("*-cache"):
                if entry.stat().st_size == 0:
                    entry.unlink(missing_ok=True)
        except (OSError, RuntimeError):  # RuntimeError: a user without a home.
            return
        if not os.access(folder, os.W_OK | os.X_OK):
            return
        jax.config.update(setting, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
