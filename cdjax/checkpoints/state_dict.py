"""Finds the tensors of a network among what else a file of weights contains.

Training programs save tensors under a key (`state_dict`, `model`, `params`), with a common prefix
of their names (`module.` of DataParallel), and beside optimizer states, options and epoch numbers.
The tensors are found by trying: exactly one of the dictionaries in a file must fit.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from cdjax.checkpoints.pickle_interpreter import printable
from cdjax.checkpoints.safetensors_file import has_suffix, read_safetensors
from cdjax.checkpoints.torch_file import read_torch_file
from cdjax.errors import ConversionError

Tensors = Mapping[str, Any]
"""Arrays by name, and objects of other kinds."""

_MAX_CANDIDATES = 64
_MAX_PREFIXES = 8
_MAX_LISTED = 10
_WHOLE = "the file itself"

T = TypeVar("T")


class MisfitError(ConversionError):
    """Tensors that are not those of the expected network; `faults` of them are wrong or missing."""

    def __init__(self, message: str, faults: int = 0) -> None:
        super().__init__(message)
        self.faults = faults


def convert_fitting(path: Path, convert: Callable[[Tensors], T]) -> T:
    """The result of converting the one dictionary of tensors in a file that fits.

    Args:
        path: a PyTorch or safetensors file.
        convert: called with tensors; raises `MisfitError` if they are not those it needs.

    Raises:
        ConversionError: if no dictionary of the file, or more than one, fits.
        TorchFileError: if the file cannot be read.
    """
    content: Tensors = read_safetensors(path)[0] if has_suffix(path) else read_torch_file(path)
    results: dict[str, T] = {}
    misfits: list[MisfitError] = []
    for where, tensors in _candidates(content, path).items():
        for stripped in _without_prefixes(tensors):
            try:
                results[where] = convert(stripped)
                break
            except MisfitError as error:
                misfits.append(error)
    if len(results) > 1:
        found = ", ".join(printable(where) for where in results)
        raise ConversionError(
            f"{path}: several of its entries fit: {found}; save the one that is meant by itself"
        )
    if results:
        return next(iter(results.values()))
    if not misfits:
        found = ", ".join(printable(name) for name in list(content)[:_MAX_LISTED]) or "nothing"
        raise ConversionError(
            f"{path}: contains no tensors by name, only {found}; save the network's state_dict()"
        )
    raise min(misfits, key=lambda error: error.faults)


def _candidates(content: Tensors, path: Path) -> dict[str, Tensors]:
    """The file itself and the dictionaries in it, by their key, which contain arrays."""
    found: dict[str, Tensors] = {}
    seen: set[int] = set()  # A hostile file may have many references to one large dictionary.
    for key, value in ((_WHOLE, content), *content.items()):
        if isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            has_arrays = any(isinstance(leaf, np.ndarray) for leaf in value.values())
            if has_arrays and all(isinstance(name, str) for name in value):
                found[key] = value
    if len(found) > _MAX_CANDIDATES:
        raise ConversionError(
            f"{path}: contains {len(found)} dictionaries of tensors; save the one that is meant"
        )
    return found


def _without_prefixes(tensors: Tensors) -> Iterator[Tensors]:
    """The tensors by their names, then without each prefix, such as `module.`, that all share."""
    yield tensors
    names = [name for name, value in tensors.items() if isinstance(value, np.ndarray)]
    prefix = ""
    ends = (name.split(".")[:-1][:_MAX_PREFIXES] for name in (min(names), max(names)))
    for first, last in zip(*ends, strict=False):
        if first != last:
            return
        prefix += f"{first}."
        yield {
            name.removeprefix(prefix): value
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
