"""Speed and memory against PyTorch, of folders, films, windows, optimisation; the paper's table.

    python -m experiments.benchmark [--method adain] [--sizes 512 1024 2048]
    python -m experiments.benchmark --folder [--runs 3] [--many 200]
    python -m experiments.benchmark --video [--method adain] [--sizes 720]
    python -m experiments.benchmark --training [--stages 3 5]
    python -m experiments.benchmark --ultra [--megapixels 1 4 16 40 100]
    python -m experiments.benchmark --gatys [--sizes 512 1024]
    python -m experiments.benchmark --table [MODEL ...]

Prints Markdown; `--output` writes it to a file too, and `--json` every figure, both after each size
that is done. Each implementation has a fresh process. Without PyTorch cdjax is measured alone.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cdjax.cli.parser import Parser, new_file, size, within
from cdjax.cli.report import about, as_json
from cdjax.io.atomic import write_text
from experiments.benchmarks import folders, gatys, paper_table, stylization, tiles, training
from experiments.benchmarks.report import report, say
from experiments.benchmarks.ways import available
from experiments.benchmarks.worker import WorkerError

_SUBJECTS: dict[str, Any] = {
    "folder": folders.measure,
    "video": stylization.measure_films,
    "training": training.measure,
    "ultra": tiles.measure,
    "gatys": gatys.measure,
    "table": paper_table.measure,
}
"""What measures by name of the option that asks for it; without one, `stylization.measure`."""


def _chosen(options: argparse.Namespace) -> list[Any]:
    return [of for name, of in _SUBJECTS.items() if getattr(options, name) not in (None, False)]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = Parser(prog="python -m experiments.benchmark", description=__doc__)
    add = parser.add_argument
    pixels, count = within(int, 32, 100_000), within(int, 1, 10_000)
    add("--sizes", type=pixels, nargs="+", help="pixels a side")
    add("--runs", type=count, default=5, help="timed runs of each implementation (%(default)s)")
    add("--dtype", choices=["float32", "bfloat16"], default="float32", help="of the networks")
    add("--weights", help="a model, as experiments.evaluate takes it (METHOD-16x)")
    add("--method", choices=["wct", "adain"], default="wct", help="(wct)")
    paths: Any = {"type": Path, "nargs": "+", "default": [], "metavar": "PATH"}
    what = "images or folders, for --folder and --gatys (default: a synthetic"
    add("--contents", **paths, help=f"{what} landscape)")
    add("--styles", **paths, help=f"{what} painting)")
    add("--output", type=new_file, metavar="FILE", help="file for the Markdown")
    add("--json", type=new_file, metavar="FILE", help="file for all figures")
    add = parser.add_argument_group("photographs of many sizes").add_argument
    add("--folder", action="store_true", help="measure cdjax stylize of a folder instead")
    few = "also small pictures, each of another size, against 5"
    add("--many", type=within(int, 0, 10_000), default=0, metavar="N", help=few)
    add = parser.add_argument_group("a training step").add_argument
    add("--training", action="store_true", help="measure a step of the student's encoder instead")
    add("--stages", type=within(int, 1, 5), nargs="+", default=[3, 5], help="(3 5)")
    add("--batch", type=count, default=4, help="crops in a step (%(default)s)")
    add("--crop", type=within(int, 32, 4096), default=128, help="their side in pixels")
    add = parser.add_argument_group("films").add_argument
    add("--video", action="store_true", help="measure frames of --sizes lines instead")
    add("--frames", type=count, default=8, help="of a run (%(default)s)")
    add = parser.add_argument_group("pictures of many megapixels").add_argument
    add("--ultra", action="store_true", help="measure windows and whole pictures instead")
    add("--megapixels", type=within(float, 0, 10_000), nargs="+", default=[1, 4, 16, 40, 100])
    add("--memory", type=size, default="1GB", help="of the device for windows (%(default)s)")
    add("--host-memory", type=size, default="4GB", help="of the host for windows (%(default)s)")
    add = parser.add_argument_group("optimising a picture").add_argument
    add("--gatys", action="store_true", help="optimise a picture with student and teacher instead")
    add("--teacher", default="vgg16", help="as experiments.evaluate takes it (%(default)s)")
    add("--pairs", type=count, default=1, help="of both in turn, at most (%(default)s)")
    add("--steps", type=count, default=50, help="at every scale (%(default)s)")
    add("--finish-steps", type=int, default=0, help="of the student's, made with the teacher")
    add("--scales", type=count, help="as cdjax.Optimization has them by default")
    add("--start", choices=["content", "stylized"], default="content", help="of the student's")
    add = parser.add_argument_group("the paper's table").add_argument
    add("--table", nargs="*", metavar="MODEL", help="measure it of these models, or bundled ones")
    add("--table-size", type=within(int, 64, 100_000), default=1024, help="pixels a side (1024)")
    add("--limit", type=size, default="12GB", help="memory of the largest picture (12GB)")
    options = parser.parse_args(arguments)
    if len(_chosen(options)) > 1:
        parser.error(f"--{', --'.join(_SUBJECTS)} are different; choose one")
    if options.crop % 16:
        parser.error(f"--crop must be a multiple of 16, not {options.crop}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns the exit status: 0; 2 bad input, 1 a process that failed."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parse(arguments)
    [measure] = _chosen(options) or [stylization.measure]
    alone = measure in (tiles.measure, gatys.measure, paper_table.measure)
    if not alone and "plain" not in available():
        say("PyTorch is missing (pip install torch): cdjax is measured alone")
    # This process, too, uses the GPU that the workers share.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    machine, text = about("python -m experiments.benchmark", arguments), ""
    try:
        with tempfile.TemporaryDirectory(prefix="cdjax-benchmark-") as folder:
            for results in measure(options, Path(folder)):
                results = machine | results
                text = report(results)
                if options.output:
                    write_text(options.output, text)
                if options.json:
                    write_text(options.json, as_json(results))
    except (ValueError, WorkerError, OSError) as error:
        say(f"benchmark: {error}")
        return 2 if isinstance(error, ValueError) else 1
    finally:
        print(text, end="")  # What took long to measure is not lost by a full disk.
    return 0


if __name__ == "__main__":
    sys.exit(main())
