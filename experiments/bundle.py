"""`python -m experiments.bundle MODEL OUT.npz`: a checkpoint as a file to ship with the package."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cdjax import load_model
from cdjax.checkpoints.pretrained import write_bundled


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m experiments.bundle", description=__doc__)
    parser.add_argument("model", help="checkpoint folder")
    parser.add_argument("output", type=Path, help="file to write, e.g. cdjax/weights/wct-16x.npz")
    options = parser.parse_args(arguments)
    try:
        write_bundled(options.output, load_model(options.model))
    except (ValueError, OSError) as error:
        print(f"bundle: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {options.output.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
