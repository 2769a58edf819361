"""Converts PyTorch weights into a checkpoint of cdjax: `python convert_weights.py --help`."""

import argparse
import sys
from collections.abc import Sequence

from cdjax.checkpoints.download import torchvision_weights
from cdjax.checkpoints.layer_table import Row, layer_rows
from cdjax.checkpoints.pytorch import SOURCES
from cdjax.checkpoints.store import save_model
from cdjax.errors import DownloadError

_EPILOG = """\
sources:
  vgg19, vgg16  a file of torchvision, whole or up to some relu{k}_1; downloaded without PATH
  wct-vgg19     a folder of vgg_normalised_conv{k}_1.pth and feature_invertor_conv{k}_1.pth
  paper-16x     a folder of {k}SE.pth and {k}SD.pth
"""


def table(rows: Sequence[Row]) -> str:
    """An aligned table of layers with a total per network and of everything."""
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
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (0, 4) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(
        description="Convert PyTorch weights into a checkpoint of cdjax.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", choices=list(SOURCES), metavar="SOURCE", help="see below")
    parser.add_argument("path", nargs="?", metavar="PATH", help="the file or folder to convert")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="directory to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a checkpoint at OUT")
    options = parser.parse_args(arguments)
    try:
        path = options.path
        if path is None and options.source not in ("vgg19", "vgg16"):
            raise ValueError(f"{options.source} needs the PATH of the folder to convert")
        if path is None:
            path = torchvision_weights(options.source)
        model = SOURCES[options.source](path)
        save_model(options.output, model, overwrite=options.overwrite)
    except (ValueError, OSError, DownloadError) as error:
        print(f"convert_weights.py: {error}", file=sys.stderr)
        return 2
    print(table(layer_rows(model)))
    print(f"wrote {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
