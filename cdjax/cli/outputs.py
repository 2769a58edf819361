"""The errors of outputs that would replace something."""

from cdjax.errors import UsageError
from cdjax.io.atomic import StrPath
from cdjax.io.remote import Address


def already_exists(output: StrPath) -> UsageError:
    """The error of an output that exists and is not to be replaced."""
    return UsageError(f"output {output}: already exists; --overwrite replaces it")


def is_an_input(output: StrPath) -> UsageError:
    """The error of an output that would replace what the command reads."""
    return UsageError(f"output {output}: is one of the inputs, which are never replaced")


def check_local(output: StrPath) -> None:
    """Raises `UsageError` for an output at an address."""
    if isinstance(output, Address):
        raise UsageError(f"output {output}: only cdjax stylize writes to addresses; give a file")
