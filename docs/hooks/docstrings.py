"""What Griffe, which reads the code for the reference, is told about this package's docstrings and builders."""

import inspect
import re
import textwrap

import griffe

from keras_video_focalnet.models import registry

_EXAMPLE = re.compile(r"^Example:\n", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Examples in the form that Griffe knows, and builders with the signature and docstring that `help` shows."""

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        """Changes what was read, once the whole package is."""
        if pkg.name != "keras_video_focalnet":
            return
        for family in registry.own_families():
            for builder in family.builders:
                _complete(pkg[family.module.removeprefix(f"{pkg.name}.")][builder.name], family.function(builder))
        for thing in _within(pkg):
            if thing.docstring is not None:
                thing.docstring.value = with_examples(thing.docstring.value)


def with_examples(docstring: str) -> str:
    """A docstring whose last section, `Example:`, has the name and the indentation of Google's style."""
    before, *after = _EXAMPLE.split(docstring, maxsplit=1)
    if not after:
        return docstring
    return f"{before}Examples:\n{textwrap.indent(textwrap.dedent(after[0]).strip(), '    ')}\n"


def _complete(function, live):
    """Gives a builder, whose decorator makes them, its parameters and its docstring."""
    function.parameters = griffe.Parameters(
        *(
            griffe.Parameter(name, kind=griffe.ParameterKind.positional_or_keyword, default=repr(parameter.default))
            for name, parameter in inspect.signature(live).parameters.items()
        )
    )
    function.docstring.value = inspect.getdoc(live)


def _within(parent):
    for member in parent.members.values():
        if not member.is_alias:
            yield member
            yield from _within(member)
