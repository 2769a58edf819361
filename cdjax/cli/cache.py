"""`cdjax cache`: where compiled programs are kept, how much they take, and removing them."""

import os
from collections.abc import Sequence

from cdjax.cli.parser import Parser, printable
from cdjax.cli.report import aligned
from cdjax.io.program_cache import LIMIT, clear, made_files, programs_folder


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="cdjax cache",
        description="Show the folder of compiled programs and its size. Programs are kept so that "
        "the next process need not compile them; the least recently used are removed as the folder "
        "grows. CDJAX_CACHE chooses another folder.",
    )
    parser.add_argument("--clear", action="store_true", help="remove the programs")
    options = parser.parse_args(arguments)
    folder = programs_folder()
    if options.clear:
        count, size = clear(folder)
        print(f"removed {count} files, {_megabytes(size)}, from {printable(str(folder))}")
        return 0
    sizes = [status.st_size for _, status in made_files(folder)]
    rows = [
        ("folder", printable(str(folder))),
        ("files", str(len(sizes))),
        ("size", f"{_megabytes(sum(sizes))} of at most {_megabytes(LIMIT)}"),
    ]
    if other := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        rows.append(("not used", f"JAX_COMPILATION_CACHE_DIR chooses {printable(other)}"))
    print(aligned(rows))
    return 0


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
