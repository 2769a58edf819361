"""Packages that only some commands need: what to install if one is missing."""

from importlib.util import find_spec

from cdjax.errors import UsageError


def require(what: str, *modules: str) -> None:
    """Makes sure that optional packages are installed; imports none of them.

    Raises:
        UsageError: if modules are missing; the message has the command that installs them.
    """
    missing = [name.replace("_", "-") for name in modules if find_spec(name) is None]
    if missing:
        raise UsageError(f"{what} needs {', '.join(missing)}: pip install {' '.join(missing)}")
