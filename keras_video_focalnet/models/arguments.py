"""What the constructors of all architectures take."""

from __future__ import annotations

import inspect

# What every constructor takes.
REQUIRED_ARGUMENTS = ("include_top", "input_tensor", "input_shape", "classes", "classifier_activation", "labels")
REQUIRED_ARGUMENTS += ("pooling", "include_preprocessing", "dtype", "name", "trainable")


def constructor_arguments(architecture: type) -> dict[str, inspect.Parameter]:
    """The arguments of an architecture's constructor by name, with those of its bases that it hands on."""
    found = {}
    for ancestor in architecture.__mro__:
        # The constructor of `VideoClassifier` itself takes a graph.
        if set(REQUIRED_ARGUMENTS) <= set(found) or ancestor.__module__ == f"{__package__}.classifier":
            break
        # Keras wraps a class's `__init__` and keeps its signature.
        for name, parameter in inspect.signature(ancestor.__init__).parameters.items():
            if name != "self" and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found.setdefault(name, parameter)
    return found
