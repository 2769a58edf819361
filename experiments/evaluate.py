"""`python -m experiments.evaluate`: `cdjax evaluate`, or with `--table` the paper's table."""

import sys

from cdjax.cli.main import command

if __name__ == "__main__":
    if "--table" in sys.argv:
        from experiments.benchmark import main

        sys.exit(main())
    command(["evaluate", *sys.argv[1:]])
