"""Options of `benchmark --ultra`: refused in one line before anything is measured."""

import argparse
import importlib.util
import math

from cdjax.tiling.budget import parse_size
from experiments.measure import BenchmarkError


def add_ultra_options(parser: argparse.ArgumentParser) -> None:
    """Adds what only `--ultra` knows."""
    add = parser.add_argument
    add("--ultra", action="store_true", help="large images instead: windows, whole, PyTorch")
    add("--megapixels", type=float, nargs="+", default=[1, 4, 16, 40, 100], help="of --ultra")
    add("--memory", default="1GB", help="of the device for windows, such as 500MB")
    add("--host-memory", default="4GB", help="of the host for windows, likewise")


def check_ultra_options(options: argparse.Namespace) -> dict[str, int]:
    """Bytes of `memory` and `host_memory` for windows.

    Raises:
        BenchmarkError: if the options cannot be followed.
    """
    if options.training:
        raise BenchmarkError("--ultra and --training are two benchmarks; choose one")
    if not all(megapixels > 0 and math.isfinite(megapixels) for megapixels in options.megapixels):
        raise BenchmarkError("--megapixels must be positive")
    if options.output and options.output.suffix in (".json", ".png"):
        raise BenchmarkError("--output is the report, which gets a .json and a .png beside it")
    if options.output and importlib.util.find_spec("matplotlib") is None:
        raise BenchmarkError("the plot needs matplotlib: pip install 'cdjax[train]'")
    limits = {}
    for name in ("memory", "host_memory"):
        try:
            limits[name] = parse_size(getattr(options, name))
        except ValueError as error:
            raise BenchmarkError(f"--{name.replace('_', '-')}: {error}") from error
    return limits
