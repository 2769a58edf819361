"""Optimisation-based style transfer of two files (Gatys et al. 2016), with any encoder.

    python -m experiments.gatys CONTENT STYLE -o OUT [--model wct-16x] [--finish vgg16]

Shows the losses while it runs, and the picture so far in a file beside OUT (for out.png
out.preview.png), which is removed once OUT is written. `cdjax.optimize_image` does the work.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cdjax.cli.allocator import TRAINING, start_again_tuned
from cdjax.cli.interrupts import Gate
from cdjax.cli.jobs import (
    Job,
    plan,
)
from cdjax.errors import ImageError, UsageError
from cdjax.io.images import (
    Picture,
    check_size,
    read_image,
    resize,
    write_image,
)
from experiments.gatys_options import parse, settings_of

if TYPE_CHECKING:
    from cdjax import Optimization
    from cdjax.optimization.optimize import Progress


def _job(options: argparse.Namespace) -> Job:
    for role in ("content", "style"):
        path = getattr(options, role)
        if path.is_dir():
            raise UsageError(f"{role} {path}: is a folder; give one image")
    job = plan(options.content, [options.style], options.output)[0]
    if job.output.exists() and not options.overwrite:
        raise UsageError(f"output {job.output}: is there already; --overwrite replaces it")
    return job


def _read(path: Path, shorter_side: int | None) -> Picture:
    picture = read_image(path)
    return resize(picture, shorter_side) if shorter_side else picture


class _Watch:
    """A progress bar with the losses, and the picture so far in a file."""

    def __init__(self, steps: int, preview: Path, every: int, gate: Gate) -> None:
        self._steps, self._preview, self._every, self._gate = steps, preview, every, gate
        self._bar: Any = None
        self._shown = 0

    def __call__(self, progress: "Progress") -> None:
        from tqdm import tqdm

        total = progress.scales * self._steps
        done = progress.scale * self._steps + progress.step
        with self._gate.passed():
            if self._bar is None:
                self._bar = tqdm(total=total, unit="step", file=sys.stderr, dynamic_ncols=True)
            self._bar.update(done - self._bar.n)
            height, width = progress.size
            end = ", finishing" if progress.finishing else ""
            self._bar.set_description(f"{width}x{height}{end}", refresh=False)
            self._bar.set_postfix({name: f"{loss:.3g}" for name, loss in progress.losses.items()})
            if self._every and done - self._shown >= self._every and done < total:
                self._shown = done
                write_image(self._preview, Picture(np.asarray(progress.picture())))

    def silence(self) -> None:
        """Has the bar not even close: the last word has been said."""
        if self._bar is not None:
            self._bar.disable = True

    def close(self) -> None:
        """Leaves the bar as it is."""
        if self._bar is not None:
            self._bar.close()


def _run(options: argparse.Namespace, job: Job, settings: "Optimization", gate: Gate) -> None:
    import jax

    from cdjax import load_model, optimize_image
    from cdjax.cli.main import use_compilation_cache

    use_compilation_cache()
    model = load_model(options.model)
    finish = load_model(options.finish) if options.finish is not None else None
    content = _read(job.content, options.content_size)
    style = _read(job.styles[0], options.style_size)
    height, width = content.pixels.shape[:2]
    check_size(job.output, height, width)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    preview = job.output.with_name(f"{job.output.stem}.preview.png")
    watch = _Watch(settings.steps, preview, options.preview_every, gate)
    try:
        result = np.asarray(
            optimize_image(
                model, content.pixels, style.pixels, settings=settings, finish=finish, note=watch
            )
        )
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ImageError(
            f"{job.content}: {width}x{height} pixels do not fit in memory; --content-size or "
            "--style-size makes them fewer"
        ) from error
    except KeyboardInterrupt:
        watch.silence()
        raise
    finally:
        watch.close()
    with gate.passed():
        write_image(job.output, Picture(result, content.alpha), quality=options.quality)
        preview.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Returns:
        The exit status: 0 done, 2 bad input (with a line on stderr), 130 interrupted: nothing will
        be written any more, but the steps under way go on in their thread.
    """
    options = parse(sys.argv[1:] if arguments is None else arguments)
    gate = Gate()
    # In a thread of its own, as in `cdjax.cli.main`: in the midst of JAX the main one would take
    # note of Ctrl-C only after many steps.
    worker = ThreadPoolExecutor(1, "gatys")
    try:
        job, settings = _job(options), settings_of(options)
        worker.submit(_run, options, job, settings, gate).result()
    except (ValueError, OSError) as error:
        print(f"gatys: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        gate.close()
        print("\ngatys: interrupted", file=sys.stderr, flush=True)
        return 130
    finally:
        worker.shutdown(wait=False)
    return 0


if __name__ == "__main__":
    start_again_tuned(TRAINING)
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
