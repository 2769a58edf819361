"""`python -m experiments.bundle MODEL OUT.npz`: a checkpoint as a file to ship with the package."""

import sys
from collections.abc import Sequence
from pathlib import Path

from cdjax import load_model
from cdjax.checkpoints.pretrained import write_bundled
from cdjax.cli.main import exit_status
from cdjax.cli.parser import Parser


def main(arguments: Sequence[str]) -> int:
    """Runs the program; returns the exit status."""
    parser = Parser(prog="python -m experiments.bundle", description=__doc__)
    parser.add_argument("model", help="a checkpoint's folder")
    parser.add_argument("output", type=Path, help="file to write, e.g. cdjax/weights/wct-16x.npz")
    options = parser.parse_args(arguments)
    write_bundled(options.output, load_model(options.model))
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
