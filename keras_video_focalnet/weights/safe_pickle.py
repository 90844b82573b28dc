"""An unpickler that builds plain containers and calls nothing but what its caller lists.

A pickle is a program: it may name any importable callable and call it. Here a name that is not listed becomes a
`Placeholder`, which keeps only its own name: calling it, creating an instance of it, giving it state or items yields
placeholders and does nothing else. So a checkpoint that carries a configuration object of some package loads without
that package, and one that carries an attack loads without the attack.

It stands on the standard library's pure-Python unpickler. The C one can be told by a few bytes to allocate a memo table
of gigabytes, and its opcodes cannot be replaced one by one.
"""

import pickle
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from keras_video_focalnet.weights.errors import WeightsFileError

# A pickle of containers grows some 70 times in memory; real checkpoints have far less than a megabyte of it.
MAX_PICKLE_BYTES = 8 << 20

_SIMPLE_KEYS = (str, int, float, bytes, bool, type(None))


class Placeholder:
    """Stands for an object of a class that is not read; it has the class's dotted name and does nothing.

    Attributes:
        name: dotted name of the class or function, as `"yacs.config.CfgNode"`.
    """

    __slots__ = ("name",)

    def __init__(self, name: str = "unknown"):
        """Keeps the name."""
        self.name = name

    def __call__(self, *args, **kwargs) -> "Placeholder":
        """Calling a placeholder gives a placeholder."""
        return Placeholder(self.name)

    def __setitem__(self, key, value):
        """Drops the item."""

    def append(self, value):
        """Drops the value."""

    def extend(self, values):
        """Drops the values."""

    def add(self, value):
        """Drops the value."""

    def __repr__(self) -> str:
        """Its name."""
        return f"Placeholder({self.name!r})"


class Builder:
    """A function that a pickle may call; nothing that is not one is ever called.

    Attributes:
        function: what the pickle's arguments are given to.
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable):
        """Keeps the function."""
        self.function = function


class BoundedReader:
    """A file as the unpickler needs it, which refuses to ask for more bytes than there are.

    A binary file given `read(n)` may allocate n bytes before it looks how many there are.
    """

    def __init__(self, file: BinaryIO, end: int, limit: int = MAX_PICKLE_BYTES):
        """Reads `file` from where it stands up to the offset `end`, and at most `limit` bytes."""
        self._file = file
        available = end - file.tell()
        self._left = min(available, limit)
        self._why = "the file is cut short" if available <= limit else f"the pickle is longer than {limit:,} bytes"

    def _take(self, count: int):
        if count > self._left:
            raise EOFError(self._why)
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


class SafeUnpickler(pickle._Unpickler):
    """Reads one pickle, calling only the `Builder`s that `names` lists.

    Args:
        file: a `BoundedReader`.
        names: what stands for a `(module, name)` of the pickle: a `Builder`, or any inert object.
    """

    # A copy: the opcodes replaced below must not leak into the standard library's class.
    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BoundedReader, names: Mapping[tuple[str, str], Any]):
        """Keeps the allow-list."""
        # Old checkpoints hold byte strings of Python 2; Latin-1 decodes any of them.
        super().__init__(file, fix_imports=False, encoding="latin1")
        self._names = names

    def load(self) -> Any:
        """Reads the pickle.

        Returns:
            The tree of plain containers, builders' results and placeholders.

        Raises:
            WeightsFileError: the pickle is damaged; the message does not name the file.
        """
        try:
            return super().load()
        except WeightsFileError:
            raise
        except Exception as error:  # Damage shows as nearly any exception: a missing mark, a bad opcode, no memory.
            why = str(error) or type(error).__name__
            raise WeightsFileError(f"its pickle cannot be read ({type(error).__name__}: {why[:200]})") from error

    def find_class(self, module: str, name: str) -> Any:
        """Gives what stands for a name: never the thing itself."""
        known = self._names.get((module, name))
        return Placeholder(f"{module}.{name}") if known is None else known

    def persistent_load(self, pid: Any) -> Any:
        """Refuses references outside the pickle; the reader of a format overrides this."""
        return Placeholder("persistent object")

    def _call(self, function: Any, args: Any) -> Any:
        if isinstance(function, Builder) and isinstance(args, (tuple, list)):
            return function.function(*args)
        if isinstance(function, Placeholder):
            return Placeholder(function.name)
        return Placeholder(type(function).__name__)

    def _instantiate(self, klass, args):
        self.append(self._call(klass, args))

    def load_reduce(self):
        """REDUCE calls a function with arguments: here a builder or nothing."""
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self):
        """NEWOBJ creates an instance: the same."""
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj_ex(self):
        """NEWOBJ_EX has keywords too, which no builder takes."""
        self.stack.pop()
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_build(self):
        """BUILD sets state: nothing here has any to set."""
        self.stack.pop()

    def load_setitem(self):
        """SETITEM stores one item of a dictionary."""
        value = self.stack.pop()
        key = self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self):
        """SETITEMS stores many."""
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
            target[_key(key)] = value

    def load_append(self):
        """APPEND adds one value to a list."""
        value = self.stack.pop()
        self._extend([value])

    def load_appends(self):
        """APPENDS adds many."""
        self._extend(self.pop_mark())

    def _extend(self, values: list):
        target = self.stack[-1]
        if not isinstance(target, (list, Placeholder)):
            raise pickle.UnpicklingError(f"values appended to a {type(target).__name__}")
        target.extend(values)

    def load_additems(self):
        """ADDITEMS adds to a set."""
        items = self.pop_mark()
        target = self.stack[-1]
        if not isinstance(target, (set, Placeholder)):
            raise pickle.UnpicklingError(f"items added to a {type(target).__name__}")
        for item in items:
            target.add(_key(item))

    def load_frozenset(self):
        """FROZENSET makes a set of all that lies above the mark."""
        self.append(frozenset(_key(item) for item in self.pop_mark()))

    def load_bytearray8(self):
        """BYTEARRAY8 gives a length first: read before allocating."""
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


def _key(value: Any) -> Any:
    # A tuple of tuples that share their members takes exponential time to hash.
    return value if isinstance(value, (*_SIMPLE_KEYS, Placeholder)) else Placeholder(type(value).__name__)
