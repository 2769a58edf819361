"""`python -m experiments.distill`: the same as `cdjax distill`."""

import sys

from cdjax.cli.main import command

if __name__ == "__main__":
    command(["distill", *sys.argv[1:]])
