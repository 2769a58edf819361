"""`cdjax serve`: a page in the browser on which photographs are painted."""

import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdjax.cli.parser import Parser, require, size, within
from cdjax.cli.progress import print_line
from cdjax.errors import UsageError

if TYPE_CHECKING:
    import argparse


_SWEEP = 60.0
"""Seconds between two searches for files that nobody uses any more."""
_OFFLINE = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def run(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    options = _parse(arguments)
    require("cdjax serve", "gradio")
    options.port = _usable_port(options.host, options.port)
    from cdjax.checkpoints.load import find_model

    for model in options.weights:
        find_model(model)  # Raises if there is none.
    from cdjax.cli.backend import start_backend
    from cdjax.cli.compilation_cache import use_compilation_cache

    use_compilation_cache()
    start_backend()
    # Ends as by Ctrl-C, with the folder removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="cdjax-serve-", ignore_cleanup_errors=True) as folder:
        _serve(options, Path(folder))
    return 0


def _parse(arguments: Sequence[str]) -> "argparse.Namespace":
    parser = Parser(
        prog="cdjax serve",
        description="Serve a page on which photographs are painted, until Ctrl-C. It needs no "
        "network: it listens on this machine only, and contacts no other.",
    )
    add = parser.add_argument
    where = "address to listen on; 0.0.0.0 lets everyone in who reaches this machine (%(default)s)"
    add("--host", default="127.0.0.1", metavar="ADDRESS", help=where)
    port = within(int, 0, 65535)
    add("--port", type=port, default=7860, metavar="N", help="port; 0 takes a free one (7860)")
    models = "models to choose from, see cdjax models (wct-16x adain-16x)"
    add("--weights", nargs="+", default=["wct-16x", "adain-16x"], metavar="MODEL", help=models)
    upload = "largest file that is accepted (100MB)"
    add("--max-upload", type=size, default=100 * 10**6, metavar="SIZE", help=upload)
    queue = "requests that wait at most; one picture is made at a time (%(default)s)"
    add("--queue", type=within(int, 1, 10_000), default=20, metavar="N", help=queue)
    memory = "device memory for a picture; one that needs more is made in windows"
    add("--memory", type=size, metavar="SIZE", help=memory)
    return parser.parse_args(arguments)


def _usable_port(host: str, port: int) -> int:
    """The port, or a free one for 0; `UsageError` if it cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise UsageError(
            f"{host}:{port}: cannot listen there ({error.strerror}); --port 0 takes a free port"
        ) from error


def _serve(options: "argparse.Namespace", folder: Path) -> None:
    """Serves the page until the process is interrupted or terminated."""
    # Gradio reads these when it is imported.
    os.environ.update(_OFFLINE, GRADIO_TEMP_DIR=str(folder))
    tempfile.tempdir = str(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from cdjax.cli import page
    from cdjax.cli.page_files import Sessions

    sessions = Sessions(folder)
    config = page.PageConfig(tuple(options.weights), options.memory, options.queue)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    refuse_other_machines(options.host)
    blocks = page.build(config, sessions)
    try:
        _, url, _ = blocks.launch(
            server_name=options.host,
            server_port=options.port,
            max_file_size=options.max_upload,
            **page.LAUNCH,
        )
        print_line(f"cdjax: {url} (Ctrl-C ends)", sys.stdout)
        while not ended.wait(_SWEEP):
            sessions.sweep()
    finally:
        sessions.end_all()
        blocks.close(verbose=False)


def refuse_other_machines(host: str) -> None:
    """Has every connection of this process to another machine fail, whatever library tries it."""

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.connect" or not isinstance(arguments[1], tuple):
            return
        address = str(arguments[1][0])
        if address != host and not _is_local(address):
            raise PermissionError(f"cdjax serve connects to no other machine, not to {address}")

    sys.addaudithook(check)


def _is_local(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    return found.is_loopback or found.is_unspecified
