"""`cdjax export`: a model becomes a program for other runtimes."""

import os
from collections.abc import Sequence
from pathlib import Path

from cdjax.cli.outputs import already_exists
from cdjax.cli.parser import Parser, add_transform_option, new_file, require
from cdjax.errors import UsageError

_PACKAGES = {".onnx": "onnx", ".stablehlo": "flatbuffers"}
"""What writes the formats, by the suffix of the file."""
_FOLDERS = r".*[/\\](?=cdjax[/\\])"


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="cdjax export",
        description="Write a model as one file that other runtimes run: ONNX, or StableHLO for "
        "jax.export on CPUs and NVIDIA GPUs. Pictures may have any size.",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="a name (see cdjax models), a checkpoint or a file")
    where = "file to write, with the suffix .onnx or .stablehlo"
    add("-o", "--output", required=True, type=new_file, metavar="OUT", help=where)
    add_transform_option(parser)
    add("--overwrite", action="store_true", help="replace a file at OUT")
    options = parser.parse_args(arguments)
    output: Path = options.output
    kind = output.suffix.lower()
    if kind not in _PACKAGES:
        known = " or ".join(_PACKAGES)
        raise UsageError(f"output {output}: the suffix is {kind!r}; give {known}")
    require(f"a {kind} file", _PACKAGES[kind])
    if os.path.lexists(output) and not options.overwrite:
        raise already_exists(output)

    from cdjax.checkpoints.load import find_model, load_model
    from cdjax.io.atomic import write_bytes

    find_model(options.model)  # Raises, before JAX starts, if there is none.
    import jax

    from cdjax.cli.backend import start_backend

    start_backend()
    # A program names its source files: not where they are on this machine.
    jax.config.update("jax_hlo_source_file_canonicalization_regex", _FOLDERS)
    model = load_model(options.model)
    if kind == ".onnx":
        from cdjax.export.onnx_file import to_onnx as convert
    else:
        from cdjax.export.stablehlo import to_stablehlo as convert
    data = convert(model, transform=options.transform)
    write_bytes(output, data, overwrite=options.overwrite)
    print(f"wrote {output} ({len(data) / 1e6:.1f} MB)")
    return 0
