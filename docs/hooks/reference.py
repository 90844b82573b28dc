"""The pages of the API reference: one for each public name, from the package's own lists of them."""

import ast
import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import keras_video_focalnet

PACKAGE = "keras_video_focalnet"
FOLDER = "reference"
INDEX = f"{FOLDER}/index.md"

# The sections of the menu in their order, by the room of the package that a name is of; further rooms come behind them.
GROUPS = {
    "models": "Models and features",
    "layers": "Layers",
    "data": "Videos, clips and data sets",
    "training": "Training",
    "evaluation": "Evaluation, scoring, timelines",
    "exporting": "Exported files",
    "labels": "Class names",
    "architectures": "For new architectures",
}
# Public names of further modules, by the section that they stand in: those that the guides use.
FURTHER = {
    "evaluation": {"evaluation.metrics": ("measure", "reliability_bins", "worst_confusions")},
    "architectures": {
        "models.registry": ("Builder", "Entry", "Family", "register"),
        "models.building": ("builder",),
        "models.network": ("LayerRole",),
        "models.preprocessing": ("Preprocessing",),
        "models.inputs": ("enter",),
        "models.head": ("classify_or_pool",),
        "weights.slots": ("Slot", "conv_slots", "dense_slots", "norm_slots", "vector_slot"),
    },
}


@dataclasses.dataclass(frozen=True)
class Name:
    """A public name.

    Attributes:
        name: The name itself.
        imported_from: The module that a user imports it from.
        module: The module that has it, by which mkdocstrings finds it.
        group: Its section of the menu, a key of `GROUPS`.
    """

    name: str
    imported_from: str
    module: str
    group: str

    @property
    def page(self) -> str:
        """The page's place among the sources of the site."""
        return f"{FOLDER}/{self.group}/{self.name}.md"

    def text(self) -> str:
        """The page in Markdown, in which mkdocstrings puts signature, docstring and code."""
        return (
            f"# {self.name}\n\n```python\nfrom {self.imported_from} import {self.name}\n```\n\n"
            f"::: {self.module}.{self.name}\n    options:\n      heading_level: 2\n"
        )

    def docstring(self) -> str:
        """What `help` prints of it, which imports Keras; "" where there is none."""
        return inspect.getdoc(getattr(importlib.import_module(self.module), self.name)) or ""


def names() -> list[Name]:
    """All public names, section by section, each once."""
    found = {name.name: name for name in _names()}.values()
    order = list(_titles({name.group for name in found}))
    return sorted(found, key=lambda name: (order.index(name.group), name.name.casefold()))


def _titles(groups):
    """Titles of the sections, in the order of the menu; a room that none is set for has its name for a title."""
    return {**GROUPS, **{group: group.capitalize() for group in sorted(groups) if group not in GROUPS}}


def sections() -> dict[str, list[Name]]:
    """All public names by the titles of their sections."""
    found = names()
    titles = _titles({name.group for name in found})
    return {title: [name for name in found if name.group == group] for group, title in titles.items()}


def _names() -> Iterator[Name]:
    for group, modules in FURTHER.items():
        for module, listed in modules.items():
            yield from (Name(name, f"{PACKAGE}.{module}", f"{PACKAGE}.{module}", group) for name in listed)
    layers = f"{PACKAGE}.layers"
    yield from (Name(name, layers, layers, "layers") for name in public_layers())
    for name, module in keras_video_focalnet._PUBLIC.items():
        yield Name(name, PACKAGE, f"{PACKAGE}.{module}", module.split(".")[0])


def public_layers() -> list[str]:
    """What `keras_video_focalnet.layers` lists, read without importing it, since that imports Keras."""
    source = Path(keras_video_focalnet.__file__).parent / "layers" / "__init__.py"
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return ast.literal_eval(node.value)
    raise ValueError(f"{source} has no list __all__.")


def index() -> str:
    """The first page of the reference: every public name with the first sentence of its docstring."""
    lines = [
        "# API reference",
        "",
        "Every page has the signature, shapes, an example that the tests run, and the code.",
    ]
    for title, listed in sections().items():
        lines += ["", f"## {title}", "", "| name | what it is |", "| --- | --- |"]
        for name in listed:
            summary = name.docstring().partition("\n")[0].replace("|", "\\|")
            lines.append(f"| [`{name.name}`]({name.page.removeprefix(f'{FOLDER}/')}) | {summary} |")
    return "\n".join(lines) + "\n"


def menu() -> list[dict]:
    """The menu's part below "API reference", as MkDocs takes it."""
    listed = [{title: [{name.name: name.page} for name in listed]} for title, listed in sections().items()]
    return [{"All names": INDEX}, *listed]
