"""Takes off what wrappers of a model put before the names of its parameters.

Data-parallel training and averages put `module.` there, a compiled model `_orig_mod.`, frameworks the name of an
attribute such as `model.`, and each may stand inside another. Nothing is guessed: a prefix goes only where all names
share it and where more names that are expected come out.
"""

import os
from collections.abc import Collection, Mapping
from typing import TypeVar

T = TypeVar("T")

COUNTERS = ("n_averaged",)
"""What PyTorch's averaged models count beside their parameters."""

# PyTorch reserves this name for what it compiled, at any depth.
_COMPILED = "_orig_mod."


def without_prefix(state: Mapping[str, T], expected: Collection[str]) -> dict[str, T]:
    """Gives a state by the names that are expected, where all its names share a prefix that hides them."""
    inner = {name.replace(_COMPILED, ""): value for name, value in state.items() if name not in COUNTERS}
    shared = os.path.commonprefix([name.split(".") for name in inner])
    prefixes = [".".join([*shared[:end], ""]) if end else "" for end in range(len(shared) + 1)]
    fitting = {prefix: sum(name.removeprefix(prefix) in expected for name in inner) for prefix in prefixes}
    best = max(fitting, key=fitting.get)
    # Two names may have become one where a part of the model occurs compiled and not.
    collide = len(inner) < sum(name not in COUNTERS for name in state)
    if collide or fitting[best] <= sum(name in expected for name in state):
        return dict(state)
    return {name.removeprefix(best): value for name, value in inner.items()}


def beginnings(names: Collection[str]) -> str:
    """Says in words what names begin with, for messages: the first three of what stands before their first dots."""
    found = sorted({name.partition(".")[0] + "." for name in names if "." in name})
    return ", ".join(repr(beginning) for beginning in found[:3]) + (", ..." if len(found) > 3 else "")
