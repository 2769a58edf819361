"""The model that the options --method and --weights of a command choose."""

import argparse
from typing import TYPE_CHECKING

from cdjax.errors import UsageError

if TYPE_CHECKING:
    from cdjax.model import Model


def model_name(options: argparse.Namespace) -> str:
    """The model's name or path; CheckpointError if there is none, before anything is computed."""
    from cdjax.checkpoints.load import find_model

    name: str | None = options.weights
    if name is None:
        name = f"{options.method or 'wct'}-16x"
    find_model(name)
    return name


def load_chosen(options: argparse.Namespace) -> "Model":
    """Starts JAX and loads the model.

    Raises:
        UsageError: if it is of another method than --method, or JAX does not start.
        ValueError: if --transform and --regularization do not fit it.
    """
    from cdjax.checkpoints.load import load_model
    from cdjax.cli.backend import start_backend
    from cdjax.cli.compilation_cache import use_compilation_cache
    from cdjax.transfer.transforms import with_transform

    name = model_name(options)
    use_compilation_cache()
    start_backend()
    model = load_model(name)
    if options.method not in (None, model.config.method):
        raise UsageError(
            f"--weights {name}: its method is {model.config.method}, not {options.method}"
        )
    with_transform(model, options.transform, options.regularization)
    return model
