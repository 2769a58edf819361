"""`cdjax convert`: PyTorch weights become a checkpoint of cdjax."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cdjax.cli.parser import Parser
from cdjax.cli.report import aligned
from cdjax.errors import UsageError

if TYPE_CHECKING:
    from cdjax.checkpoints.layer_table import Row

_DOWNLOADED = ("vgg19", "vgg16")
_SOURCES = ("vgg19", "vgg16", "wct-vgg19", "paper-16x")
_EPILOG = """\
sources:
  vgg19, vgg16  a file of torchvision, whole or up to some relu{k}_1; downloaded without PATH
  wct-vgg19     a folder of vgg_normalised_conv{k}_1.pth and feature_invertor_conv{k}_1.pth
  paper-16x     a folder of {k}SE.pth and {k}SD.pth
"""


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="cdjax convert",
        description="Convert PyTorch weights into a checkpoint of cdjax.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", choices=_SOURCES, metavar="SOURCE", help="see below")
    parser.add_argument("path", nargs="?", metavar="PATH", help="the file or folder to convert")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint at OUT")
    options = parser.parse_args(arguments)
    path = options.path
    if path is None and options.source not in _DOWNLOADED:
        raise UsageError(f"{options.source} needs the PATH of the folder to convert")
    from cdjax.checkpoints.download import TORCHVISION, download
    from cdjax.checkpoints.layer_table import layer_rows
    from cdjax.checkpoints.pytorch import SOURCES
    from cdjax.checkpoints.store import save_model
    from cdjax.io.cache import cache_folder

    if path is None:
        path = download(TORCHVISION[options.source], cache_folder())
    model = SOURCES[options.source](path)
    save_model(options.output, model, overwrite=options.overwrite)
    print(_table(layer_rows(model)))
    print(f"wrote {options.output}")
    return 0


def _table(rows: "Sequence[Row]") -> str:
    """An aligned table of layers, with a total of each network and of everything."""
    lines = [("stage", "network", "layer", "shape", "parameters")]
    totals: dict[tuple[int, str], int] = {}
    for row in rows:
        shape = "x".join(map(str, row.shape))
        lines.append((str(row.stage), row.network, row.layer, shape, f"{row.parameters:,}"))
        key = (row.stage, row.network)
        totals[key] = totals.get(key, 0) + row.parameters
    for (stage, network), count in totals.items():
        lines.append((str(stage), network, "total", "", f"{count:,}"))
    lines.append(("", "", "total", "", f"{sum(totals.values()):,}"))
    return aligned(lines, right=(0, 4))
