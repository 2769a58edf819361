"""`python -m experiments.evaluate`: `cdjax evaluate`, or with `--table` the paper's table."""

import runpy
import sys

from cdjax.cli.main import command

if __name__ == "__main__":
    if "--table" in sys.argv:
        runpy.run_module("experiments.benchmark", run_name="__main__")
    command(["evaluate", *sys.argv[1:]])
