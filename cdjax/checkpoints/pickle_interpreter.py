"""A restricted interpreter of pickles: it builds plain data and executes nothing of the file.

A pickle is not given to `pickle`. The standard library's `pickletools` parses its opcodes, and the
interpreter understands only those that dictionaries of numbers, strings and arrays consist of. The
name of a function or class is an inert `Name`; a subclass says which names it knows and what their
calls return. So there is no import, no `__setstate__` and no extension registry to abuse.

A small hostile pickle can describe an enormous object, such as a tuple of two references to a tuple
of two references, forty levels deep. The number of opcodes is limited, and objects of the pickle
are never compared, hashed or formatted before their type is known.
"""

import pickletools
import struct
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cdjax.errors import PickleFileError

MAX_OBJECTS = 2**20
"""The most opcodes in a file, and items in its dictionaries; checkpoints have some thousands."""

MAX_DIMENSIONS = 32
"""The most dimensions of an array."""

DAMAGE: tuple[type[Exception], ...] = (
    ValueError, TypeError, LookupError, AttributeError, EOFError, OverflowError, RuntimeError,
    Warning, struct.error,
)  # fmt: skip
"""What this module and the standard library's parsers raise on a damaged file."""

# Tied weights are stored once and copied. A file that asks for more copies than this is an attack
# on memory.
_MAX_COPIES = 4
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_DATA = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}  # fmt: skip
_LAST = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "APPEND": 1, "SETITEM": 2}


@dataclass(frozen=True)
class Name:
    """A function or class that the pickle names, such as `"torch._utils._rebuild_tensor"`."""

    text: str


def printable(text: str | bytes) -> str:
    """The beginning of a text out of a file, safe to print on one line."""
    return ascii(text[:120])[1:-1][:120]


def update(target: object, items: list[Any]) -> None:
    """Sets items of a dictionary, given as key, value, key, value.

    Raises:
        PickleFileError: if it is not a dictionary, or a key is repeated or not plain.
    """
    if not isinstance(target, dict):
        raise PickleFileError("damaged: the pickle sets an item of what is not a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, str | int | float | None):
            raise PickleFileError("damaged: a dictionary key is neither a string nor a number")
        if key in target:
            raise PickleFileError(f"the name {printable(str(key))} occurs twice")
        target[key] = value


class PickleInterpreter:
    """Runs the opcodes of the pickles of one file.

    Args:
        file_length: bytes of the file, which bound what may be allocated.

    Attributes:
        names: the functions and classes that pickles may name; all others are refused.
    """

    names: Collection[str] = ()

    def __init__(self, file_length: int) -> None:
        self._opcodes_left = MAX_OBJECTS
        self._bytes_left = _MAX_COPIES * file_length

    def allocate(self, size: int, what: str) -> None:
        """Refuses arrays that together need many times the file's size in bytes."""
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise PickleFileError(f"the {what} need more than {_MAX_COPIES} times the file's size")

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """The value of calling a function of `names`; refuses arguments that do not fit."""
        raise PickleFileError(f"refused: the file wants to call {function}")

    def set_state(self, target: Any, state: Any) -> None:
        """Gives an object its state, or refuses."""
        raise PickleFileError("refused: the file wants to set an object's state")

    def persistent(self, identifier: Any) -> Any:
        """The object of a persistent id; refuses unknown ones."""
        raise PickleFileError("refused: the file has persistent ids")

    def run(self, stream: Any) -> Any:
        """The value of the pickle at a stream's position; the stream stops behind its end.

        Args:
            stream: binary, with `read` and `readline`. Its `read` is asked for as many bytes as
                the file claims and should allocate no more than there are, as those of `mmap` and
                `BytesIO` do.

        Raises:
            PickleFileError: if the pickle is refused.
            DAMAGE: if it is damaged.
        """
        stack: list[Any] = []
        below: list[list[Any]] = []
        memo: dict[int, Any] = {}
        argument: Any
        for opcode, argument, _ in pickletools.genops(stream):
            self._opcodes_left -= 1
            if self._opcodes_left < 0:
                raise PickleFileError(f"refused: more than {MAX_OBJECTS} pickle opcodes")
            match opcode.name:
                case "STOP":
                    return stack.pop()
                case "MARK":
                    below.append(stack)
                    stack = []
                case "TUPLE" | "APPENDS" | "SETITEMS":
                    items, stack = stack, below.pop()
                    _gather(opcode.name, stack, items)
                case "BINPUT" | "LONG_BINPUT":
                    memo[argument] = stack[-1]
                case "MEMOIZE":
                    memo[len(memo)] = stack[-1]
                case "BINGET" | "LONG_BINGET":
                    stack.append(memo[argument])
                case name:
                    if not self._step(name, argument, stack):
                        text = argument if isinstance(argument, str | bytes) else str(argument)
                        what = f"{name} {printable(text)}"
                        raise PickleFileError(f"refused: the file uses the pickle opcode {what}")
        raise PickleFileError("the pickle has no end")

    def _step(self, opcode: str, argument: Any, stack: list[Any]) -> bool:
        """Runs an opcode that uses nothing but the stack; whether it is known."""
        match opcode:
            case "PROTO" | "FRAME":
                pass
            case _ if opcode in _DATA:
                stack.append(argument)
            case _ if opcode in _CONSTANTS:
                stack.append(_CONSTANTS[opcode])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case _ if opcode in _LAST:
                items = stack[-_LAST[opcode] :]
                del stack[-_LAST[opcode] :]
                _gather(opcode, stack, items)
            case "GLOBAL":
                stack.append(self._name(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                if not (isinstance(name, str) and isinstance(module, str)):
                    raise PickleFileError("damaged: a function's name is not a string")
                stack.append(self._name(f"{module}.{name}"))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                if not isinstance(function, Name) or not isinstance(arguments, tuple):
                    raise PickleFileError("refused: the file wants to call what is not a function")
                stack.append(self.call(function.text, arguments))
            case "BUILD":
                state = stack.pop()
                self.set_state(stack[-1], state)
            case _:
                return False
        return True

    def _name(self, text: str) -> Name:
        if text not in self.names:
            raise PickleFileError(f"refused: the file wants to run {printable(text)}")
        return Name(text)


def _gather(opcode: str, stack: list[Any], items: list[Any]) -> None:
    if opcode.startswith("TUPLE"):
        stack.append(tuple(items))
    elif opcode.startswith("SETITEM"):
        update(stack[-1], items)
    elif isinstance(stack[-1], list):
        stack[-1].extend(items)
    else:
        raise PickleFileError("damaged: the pickle appends to what is not a list")
