"""A restricted interpreter of pickles: it builds plain data and executes nothing of the file.

A pickle is not given to `pickle`. The standard library's `pickletools` parses its opcodes, and the
interpreter understands only those that dictionaries of numbers, strings and arrays consist of. The
name of a function or class is an inert `Name`; a subclass says which names it knows and what their
calls return. Calls of other names are refused, or return an inert `Foreign`. So there is no import,
no `__setstate__` and no extension registry to abuse.

A small hostile pickle can describe an enormous object, such as a tuple of two references to a tuple
of two references, forty levels deep. The number of opcodes and the lengths of names and integers
are limited, and objects of the pickle are never compared, hashed or formatted before their type is
known.
"""

import pickletools
import struct
import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from cdjax.checkpoints.bounded import MAX_TENSOR, MAX_TENSORS, TOO_LARGE, bounded
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

_MAX_ARRAYS = 2**16
# Bytes of a pickle in memory, and of a string in the file, which may be an array. The largest of
# VGG-19 has 411 million. A string takes up to four times its bytes.
_MAX_TEXT = 5 * 2**27
_MAX_PIECE = 420_000_000
_MAX_NAME = 512  # Characters of a function's or class's name.
_MAX_INTEGER = 2**128  # The magic number of old PyTorch files has 80 bits.

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


@dataclass(frozen=True)
class Foreign:
    """An object of a function or class that is not known; it has no state and does nothing."""

    text: str


def printable(text: str | bytes) -> str:
    """The beginning of a text out of a file, safe to print on one line."""
    return ascii(text[:120])[1:-1][:120]


def _is_key(key: object) -> bool:
    # Large integers and floats are not keys: many of them have one hash.
    return key is None or isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**61 - 1)


class PickleInterpreter:
    """Runs the opcodes of the pickles of one file.

    Args:
        file_length: bytes of the file, which bound what may be allocated.

    Attributes:
        names: the functions and classes that are known.
        allows_foreign: whether pickles may use other functions and classes, which become inert
            `Foreign` objects, and dictionary keys that are not plain, which are dropped with their
            values; otherwise both are refused.
    """

    names: Collection[str] = ()
    allows_foreign: bool = False

    def __init__(self, file_length: int) -> None:
        self._file_length = file_length
        self._opcodes_left = MAX_OBJECTS
        self._text_left = _MAX_TEXT
        self._arrays_left = _MAX_ARRAYS
        self._bytes_left = _MAX_COPIES * file_length
        self._most_left = MAX_TENSORS

    def allocate(self, size: int, what: str) -> None:
        """Refuses too many arrays, or arrays that need many times the file's size in bytes."""
        self._arrays_left -= 1
        if self._arrays_left < 0:
            raise PickleFileError(f"refused: more than {_MAX_ARRAYS} {what}")
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise PickleFileError(f"the {what} need more than {_MAX_COPIES} times the file's size")
        self._most_left -= size
        if size > MAX_TENSOR or self._most_left < 0:
            raise PickleFileError(f"the {what} need more memory than they should; {TOO_LARGE}")

    def call(self, function: str, arguments: tuple[Any, ...]) -> Any:
        """The value of calling a function of `names`; refuses arguments that do not fit."""
        raise PickleFileError(f"refused: the file wants to call {function}")

    def set_state(self, target: Any, state: Any) -> None:
        """Gives an object its state, or refuses; foreign objects have none."""
        if not isinstance(target, Foreign):
            raise PickleFileError("refused: the file wants to set an object's state")

    def finished(self, value: Any) -> Any:
        """What is put into a container in place of a value that is complete."""
        return value

    def update(self, target: object, items: list[Any]) -> None:
        """Sets items of a dictionary, given as key, value, key, value.

        Raises:
            PickleFileError: if it is not a dictionary, or a key is repeated or not plain.
        """
        if isinstance(target, Foreign):
            return
        if not isinstance(target, dict):
            raise PickleFileError("damaged: the pickle sets an item of what is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if _is_key(key):
                if key in target:
                    raise PickleFileError(f"the name {printable(str(key))} occurs twice")
                target[key] = self.finished(value)
            elif not self.allows_foreign:
                raise PickleFileError("damaged: a dictionary key is neither a string nor a number")

    def persistent(self, identifier: Any) -> Any:
        """The object of a persistent id; refuses unknown ones."""
        raise PickleFileError("refused: the file has persistent ids")

    def run(self, stream: Any) -> Any:
        """The value of the pickle at a stream's position; the stream stops behind its end.

        Args:
            stream: binary, with `read` and `readline`; what these raise is raised. They are asked
                for as many bytes as the file claims.

        Raises:
            PickleFileError: if the pickle is refused.
            DAMAGE: if it is damaged.
        """
        stack: list[Any] = []
        below: list[list[Any]] = []
        memo: dict[int, Any] = {}
        argument: Any
        stream = bounded(stream, self._file_length, at_once=_MAX_PIECE)
        for opcode, argument, _ in pickletools.genops(stream):
            self._opcodes_left -= 1
            self._text_left -= sys.getsizeof(argument)
            if self._text_left < 0:
                raise PickleFileError(f"refused: a pickle of more than {_MAX_TEXT:,} bytes")
            if self._opcodes_left < 0:
                raise PickleFileError(f"refused: more than {MAX_OBJECTS} pickle opcodes")
            match opcode.name:
                case "STOP":
                    return self.finished(stack.pop())
                case "MARK":
                    below.append(stack)
                    stack = []
                case "TUPLE" | "APPENDS" | "SETITEMS" | "ADDITEMS" | "FROZENSET":
                    items, stack = stack, below.pop()
                    self._gather(opcode.name, stack, items)
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
                if isinstance(argument, int) and abs(argument) >= _MAX_INTEGER:
                    raise PickleFileError("refused: an integer of more than 128 bits")
                stack.append(argument)
            case "BYTEARRAY8":
                stack.append(bytes(argument))
            case _ if opcode in _CONSTANTS:
                stack.append(_CONSTANTS[opcode])
            case "EMPTY_DICT":
                stack.append({})
            case "EMPTY_LIST":
                stack.append([])
            case _ if opcode in _LAST:
                items = stack[-_LAST[opcode] :]
                del stack[-_LAST[opcode] :]
                self._gather(opcode, stack, items)
            case "EMPTY_SET" if self.allows_foreign:
                stack.append(Foreign("set"))
            case "GLOBAL":
                stack.append(self._name(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                if not (isinstance(name, str) and isinstance(module, str)):
                    raise PickleFileError("damaged: a function's name is not a string")
                stack.append(self._name(module, name))
            case "BINPERSID":
                stack.append(self.persistent(stack.pop()))
            case "REDUCE" | "NEWOBJ":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "NEWOBJ_EX":
                _, arguments, function = stack.pop(), stack.pop(), stack.pop()
                stack.append(self._call(function, arguments))
            case "BUILD":
                state = stack.pop()
                self.set_state(stack[-1], state)
            case _:
                return False
        return True

    def _name(self, module: str, name: str) -> Name:
        if len(module) + len(name) > _MAX_NAME:
            raise PickleFileError(f"refused: a function's name of more than {_MAX_NAME} letters")
        text = f"{module}.{name}"
        if text not in self.names and not self.allows_foreign:
            raise PickleFileError(f"refused: the file wants to run {printable(text)}")
        return Name(text)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name | Foreign) or not isinstance(arguments, tuple):
            raise PickleFileError("refused: the file wants to call what is not a function")
        if function.text in self.names and isinstance(function, Name):
            return self.call(function.text, arguments)
        return Foreign(function.text)

    def _gather(self, opcode: str, stack: list[Any], items: list[Any]) -> None:
        if opcode == "FROZENSET":
            stack.append(Foreign("frozenset"))
        elif opcode.startswith("TUPLE"):
            stack.append(tuple(map(self.finished, items)))
        elif opcode.startswith("SETITEM"):
            self.update(stack[-1], items)
        elif isinstance(stack[-1], list) and opcode.startswith("APPEND"):
            stack[-1].extend(map(self.finished, items))
        elif not isinstance(stack[-1], Foreign):
            raise PickleFileError("damaged: the pickle appends to what is not a list")
