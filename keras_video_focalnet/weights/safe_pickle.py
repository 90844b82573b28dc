"""An unpickler that builds plain containers and calls nothing but what its caller lists.

A pickle is a program: it may name any importable callable and call it. Here a name that is not listed becomes a
`Placeholder`, which keeps only its own name: calling it, creating an instance of it, or giving it state or items yields
placeholders and does nothing else. So a checkpoint that carries a configuration object of some package loads without
that package, and one that carries an attack loads without the attack.

It is built on the standard library's unpickler in pure Python. The one in C allocates a memo table of gigabytes where a
few bytes of the pickle say so, and its opcodes cannot be replaced one by one.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from keras_video_focalnet.weights.errors import WeightsFileError

# Real checkpoints have far less than a megabyte of pickle, and some 40 operations a tensor. An operation of one byte
# may make an empty set of 216 bytes.
MAX_PICKLE_BYTES = 8 << 20
MAX_OPERATIONS = 600_000
# Numbers take little memory, and the history of a long run has a million of them.
NUMBER_COST = 0.25
_NUMBERS = {
    operation[0] for operation in (pickle.BINFLOAT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1)
}
# No parameter and no class has a longer name. What is done with a key or a name takes as long as it is.
MAX_NAME_LENGTH = 1000
# Python hashes integers modulo a prime, so of longer ones any number may share a hash, which takes quadratic time.
MAX_KEY_BITS = 64
# No function that is called takes as many. Each call copies its arguments.
MAX_ARGUMENTS = 16

_SIMPLE_KEYS = (str, int, float, bytes, bool, type(None))


class Placeholder:
    """Stands for an object of a class that is not read; it has the class's dotted name and does nothing.

    Args:
        parts: The parts of the name, which are joined where it is asked for: a pickle may make many names of one part.
    """

    __slots__ = ("_parts",)

    def __init__(self, *parts: str):
        """Keeps the name."""
        self._parts = parts

    @property
    def name(self) -> str:
        """The dotted name of the class or function, as `"yacs.config.CfgNode"`."""
        return ".".join(self._parts) or "unknown"

    def __call__(self, *args, **kwargs) -> "Placeholder":
        """Calling a placeholder gives a placeholder."""
        return Placeholder(*self._parts)

    def __setitem__(self, key, value):
        """Ignores the item."""

    def append(self, value):
        """Ignores the value."""

    def extend(self, values):
        """Ignores the values."""

    def add(self, value):
        """Ignores the value."""

    def set_state(self, state):
        """Ignores the state."""

    def __repr__(self) -> str:
        """Shows the name."""
        return f"Placeholder({self.name!r})"


class Builder:
    """A function that a pickle may call; nothing else is ever called.

    Attributes:
        function: The function that the pickle's arguments are given to.
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable):
        """Keeps the function."""
        self.function = function

    def __call__(self, args: Any) -> Any:
        """Calls the function with the arguments that a pickle gives, if those are arguments."""
        if isinstance(args, (tuple, list)) and len(args) <= MAX_ARGUMENTS:
            return self.function(*args)
        return Placeholder("a call without valid arguments")


class BoundedReader:
    """A file as the unpickler needs it, which refuses to ask for more bytes than there are.

    The `read(n)` of a binary file may allocate n bytes before it looks how many there are.

    Attributes:
        operations: How many operations the pickles of this file may still have, all together; numbers count less.
    """

    def __init__(self, file: BinaryIO, end: int, limit: int = MAX_PICKLE_BYTES):
        """Reads `file` from where it stands up to the offset `end`, and at most `limit` bytes."""
        self._file = file
        available = end - file.tell()
        self._left = min(available, limit)
        self.operations = MAX_OPERATIONS
        self._reason = "the file is cut short" if available <= limit else f"the pickle is longer than {limit:,} bytes"

    def _take(self, count: int):
        if count > self._left:
            raise EOFError(self._reason)
        self._left -= count

    def read(self, count: int) -> bytes:
        """Reads exactly `count` bytes."""
        self._take(count)
        return self._file.read(count)

    def readline(self) -> bytes:
        """Reads to the end of a line."""
        line = self._file.readline(self._left)
        self._take(len(line))
        return line


class _Counted(dict):
    """The unpickler's table of operations, which counts how often it is asked."""

    def __init__(self, operations: Mapping[int, Callable], file: BoundedReader):
        super().__init__(operations)
        self._file = file

    def __getitem__(self, operation: int) -> Callable:
        self._file.operations -= NUMBER_COST if operation in _NUMBERS else 1
        if self._file.operations < 0:
            raise WeightsFileError(f"its pickle has more than {MAX_OPERATIONS:,} operations, which no checkpoint has")
        return super().__getitem__(operation)


class SafeUnpickler(pickle._Unpickler):
    """Reads one pickle, calling only the `Builder`s that `names` lists.

    Args:
        file: The file, as a `BoundedReader`.
        names: What stands for a `(module, name)` of the pickle: a `Builder`, or any inert object.
    """

    # This is a copy, so that the opcodes replaced below do not leak into the standard library's class.
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BoundedReader, names: Mapping[tuple[str, str], Any]):
        """Keeps the allow-list."""
        # Old checkpoints hold byte strings of Python 2; Latin-1 decodes any of them.
        super().__init__(file, fix_imports=False, encoding="latin1")
        self._names = names
        self.dispatch = _Counted(type(self).dispatch, file)

    def load(self) -> Any:
        """Reads the pickle."""
        try:
            return super().load()
        except WeightsFileError:
            raise
        except Exception as error:  # Damage shows as nearly any exception: a missing mark, a bad opcode, no memory.
            reason = str(error) or type(error).__name__
            raise WeightsFileError(f"its pickle cannot be read ({type(error).__name__}: {reason[:200]})") from error

    def find_class(self, module: str, name: str) -> Any:
        """Gives what stands for a name, which is never the named thing itself."""
        if len(module) + len(name) > MAX_NAME_LENGTH:
            raise pickle.UnpicklingError(f"the name of a class is longer than {MAX_NAME_LENGTH:,} characters")
        known = self._names.get((module, name))
        return Placeholder(module, name) if known is None else known

    def persistent_load(self, pid: Any) -> Any:
        """Refuses references outside the pickle; the reader of a format overrides this."""
        return Placeholder("persistent object")

    def _call(self, function: Any, args: Any) -> Any:
        if isinstance(function, Builder):
            return function(args)
        if isinstance(function, Placeholder):
            return function()
        return Placeholder(type(function).__name__)

    def _instantiate(self, cls: Any, args: Any):
        self.append(self._call(cls, args))

    def load_reduce(self):
        """REDUCE calls a function with arguments; here only a builder is called."""
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self):
        """NEWOBJ creates an instance; here only a builder is called."""
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj_ex(self):
        """NEWOBJ_EX has keywords too; no builder takes any."""
        self.stack.pop()
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_build(self):
        """BUILD sets state, which plain containers do not have."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Placeholder):
            self.stack[-1].set_state(state)

    def load_setitem(self):
        """SETITEM stores one item of a dictionary."""
        value = self.stack.pop()
        key = self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self):
        """SETITEMS stores many items of a dictionary."""
        self._set_items(self.pop_mark())

    def load_dict(self):
        """DICT makes a dictionary of all that lies above the mark."""
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    def _set_items(self, items: list):
        target = self.stack[-1]
        if not isinstance(target, (dict, Placeholder)):
            raise pickle.UnpicklingError(f"items set on a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_hashable(key)] = value

    def load_append(self):
        """APPEND adds one value to a list."""
        value = self.stack.pop()
        self._extend([value])

    def load_appends(self):
        """APPENDS adds many values to a list."""
        self._extend(self.pop_mark())

    def _extend(self, values: list):
        target = self.stack[-1]
        if not isinstance(target, (list, Placeholder)):
            raise pickle.UnpicklingError(f"values appended to a {type(target).__name__}")
        target.extend(values)

    def load_additems(self):
        """ADDITEMS adds values to a set."""
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, (set, Placeholder)):
            raise pickle.UnpicklingError(f"items added to a {type(target).__name__}")
        for item in items:
            target.add(_hashable(item))

    def load_frozenset(self):
        """FROZENSET makes a set of all that lies above the mark."""
        self.append(frozenset(_hashable(item) for item in self.pop_mark()))

    def load_bytearray8(self):
        """BYTEARRAY8 begins with a length; here the bytes are read before memory is taken for them."""
        count = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(count)))

    def load_extension(self):
        """EXT1, EXT2, EXT4 look a class up in a registry of the process."""
        raise pickle.UnpicklingError("extension codes are not read")

    dispatch |= {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.EXT1[0]: load_extension,
        pickle.EXT2[0]: load_extension,
        pickle.EXT4[0]: load_extension,
    }


def _hashable(value: Any) -> Any:
    # A tuple of tuples that share their members takes exponential time to hash.
    if not isinstance(value, (*_SIMPLE_KEYS, Placeholder)):
        return Placeholder(type(value).__name__)
    if isinstance(value, (str, bytes)) and len(value) > MAX_NAME_LENGTH:
        raise pickle.UnpicklingError(f"a key is longer than {MAX_NAME_LENGTH:,} characters")
    if isinstance(value, int) and value.bit_length() > MAX_KEY_BITS:
        raise pickle.UnpicklingError(f"a key is an integer of more than {MAX_KEY_BITS} bits")
    return value
