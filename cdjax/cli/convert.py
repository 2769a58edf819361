"""`cdjax convert`: weights of any kind, or stages of several models, become a model of cdjax."""

import argparse
import os
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdjax.cli.outputs import already_exists, is_an_input
from cdjax.cli.parser import Parser
from cdjax.cli.quiet import only_our_lines
from cdjax.cli.report import aligned
from cdjax.errors import UsageError

if TYPE_CHECKING:
    from cdjax.checkpoints.layer_table import Row
    from cdjax.model import Model

_DOWNLOADED = ("vgg19", "vgg16")
_SOURCES = (*_DOWNLOADED, "wct-vgg19", "paper-16x", "combine")
_EPILOG = """\
OUT is a folder for an Orbax checkpoint, or a file if its name ends in .safetensors.

sources:
  vgg19, vgg16  a file of torchvision, whole or up to some relu{k}_1; downloaded without PATH
  wct-vgg19     a folder of vgg_normalised_conv{k}_1.pth and feature_invertor_conv{k}_1.pth
  paper-16x     a folder of {k}SE.pth and {k}SD.pth
  combine       two or more models: names, checkpoints or PyTorch files, as of cdjax models; stages
                of later ones replace those of earlier ones
  MODEL         one model that is a name, a checkpoint, or a file, as of cdjax models
Files of weights are those of PyTorch, or safetensors with the same names.
"""


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="cdjax convert",
        description="Convert weights, or combine models, into a checkpoint or a safetensors file.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="see below")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="what to read, see below")
    parser.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder or file to write"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint at OUT")
    options = parser.parse_args(arguments)
    from cdjax.checkpoints.layer_table import layer_rows
    from cdjax.checkpoints.store import save_model
    from cdjax.cli.backend import start_backend
    from cdjax.io.leftovers import remove_leftovers

    _check_output(options)
    remove_leftovers([options.output])
    start_backend()
    model = _read(options.source, options.paths)
    with only_our_lines():
        save_model(options.output, model, overwrite=options.overwrite)
    print(_table(layer_rows(model)))
    print(f"wrote {options.output}")
    return 0


def _check_output(options: argparse.Namespace) -> None:
    """Refuses, before anything is read, an output that exists or is one of the inputs."""
    if not os.path.lexists(options.output):
        return
    if not options.overwrite:
        raise already_exists(options.output)
    if any(os.path.realpath(path) == os.path.realpath(options.output) for path in options.paths):
        raise is_an_input(options.output)


def _read(source: str, paths: Sequence[str]) -> "Model":
    from cdjax.checkpoints.load import load_model

    if source not in _SOURCES:
        if paths:
            known = ", ".join(_SOURCES)
            raise UsageError(
                f"{source!r} is none of the sources {known}, and one model has no PATH"
            )
        return load_model(source)
    if source == "combine" and len(paths) < 2:
        raise UsageError("combine needs at least two models")
    if source != "combine" and len(paths) > 1:
        raise UsageError(f"{source} takes one PATH, not {len(paths)}")
    if not paths and source not in _DOWNLOADED:
        raise UsageError(f"{source} needs the PATH of the folder to convert")
    if source == "combine":
        from cdjax.checkpoints.combine import combine_models

        return combine_models([load_model(path) for path in paths])
    from cdjax.checkpoints.download import TORCHVISION, download
    from cdjax.checkpoints.pytorch import SOURCES
    from cdjax.io.cache import cache_folder

    path = paths[0] if paths else download(TORCHVISION[source], cache_folder())
    return SOURCES[source](path)


def _table(rows: "Sequence[Row]") -> str:
    """An aligned table of layers, with a total of each network and of everything."""
    lines = [("stage", "network", "layer", "shape", "parameters")]
    totals: Counter[tuple[int, str]] = Counter()
    for row in rows:
        shape = "x".join(map(str, row.shape))
        lines.append((str(row.stage), row.network, row.layer, shape, f"{row.parameters:,}"))
        totals[row.stage, row.network] += row.parameters
    for (stage, network), count in totals.items():
        lines.append((str(stage), network, "total", "", f"{count:,}"))
    lines.append(("", "", "total", "", f"{totals.total():,}"))
    return aligned(lines, right=(0, 4))
