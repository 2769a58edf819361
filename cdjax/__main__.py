"""Makes `python -m cdjax` the command line."""

from cdjax.cli.main import command

if __name__ == "__main__":
    command()
