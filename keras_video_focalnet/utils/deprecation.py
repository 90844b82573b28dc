"""Old names of arguments, attributes and functions, which keep working for one release and warn."""

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any


def warn_renamed(old: str, new: str, stacklevel: int = 1, otherwise: bool = False) -> None:
    """Warns that a name is old, `stacklevel` callers above the function that calls this one; 1 is its caller.

    Python hides a `DeprecationWarning` of what an imported module does. Where the old name does something `otherwise`
    than it did, so that code which goes on using it is wrong now, the warning is one that everybody sees.
    """
    message = f"{old} is an old name, which the next release does not know; use {new}."
    warnings.warn(message, FutureWarning if otherwise else DeprecationWarning, stacklevel=stacklevel + 2)


def rename_keys(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Gives values their current names, as in a file that an older version wrote.

    Where a value is given by both of its names, the old one counts: `dataclasses.replace` adds the value that is to be
    replaced under the current name.

    Example:
    >>> rename_keys({"base_rate": 0.1, "epochs": 3}, {"base_rate": "learning_rate"})
    {'epochs': 3, 'learning_rate': 0.1}
    """
    current = {name: value for name, value in values.items() if name not in names}
    return current | {names[name]: value for name, value in values.items() if name in names}


def current_arguments(values: Mapping[str, Any], names: Mapping[str, str], stacklevel: int = 1) -> dict[str, Any]:
    """Gives keyword arguments their current names, with a warning for each old one; see `warn_renamed`."""
    for name in values:
        if name in names:
            warn_renamed(name, names[name], stacklevel + 1)
    return rename_keys(values, names)


def renamed_arguments(names: Mapping[str, str], attributes: bool = True) -> Callable[[type], type]:
    """Has a class take the old names of its arguments and, with `attributes`, have attributes by the old names.

    A layer has none: Keras reads every attribute when it saves one, which would warn of names that nobody used.

    Example:
    >>> @renamed_arguments({"base_rate": "learning_rate"})
    ... class Schedule:
    ...     def __init__(self, learning_rate):
    ...         self.learning_rate = learning_rate
    >>> Schedule(base_rate=0.1).learning_rate
    0.1
    """

    def decorate(cls: type) -> type:
        initialize = cls.__init__

        @functools.wraps(initialize)
        def initialize_by_current_names(self, *args, **kwargs):
            initialize(self, *args, **current_arguments(kwargs, names))

        # Keras asks for the arguments of a layer in a way that does not look behind a decorator.
        initialize_by_current_names.__signature__ = inspect.signature(initialize)
        cls.__init__ = initialize_by_current_names
        for old, new in names.items() if attributes else ():
            setattr(cls, old, _alias(old, new))
        return cls

    return decorate


def _alias(old: str, new: str) -> property:
    """A property by an old name that reads the attribute by the current one."""

    def read(self):
        warn_renamed(old, new)
        return getattr(self, new)

    return property(read, doc=f"The old name of `{new}`.")
