"""`python convert_weights.py`: the same as `cdjax convert`."""

import sys

from cdjax.cli.main import command

if __name__ == "__main__":
    command(["convert", *sys.argv[1:]])
