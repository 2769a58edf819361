"""`python -m experiments.gatys`: the same as `cdjax optimize`."""

import sys

from cdjax.cli.main import command

if __name__ == "__main__":
    command(["optimize", *sys.argv[1:]])
