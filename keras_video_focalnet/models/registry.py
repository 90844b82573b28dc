"""Which architectures there are, as data: their builders, default weights, published weights and recipes.

A *family* is one folder of `keras_video_focalnet.models`, whose `__init__.py` registers a `Family`. Nothing here
imports Keras, so that the command line can list everything at once. An architecture outside this package registers
itself in the same way, by calling `register` or by the entry point group `keras_video_focalnet.families`, whose modules
are imported when the registry is first read.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import os
import pkgutil
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from keras_video_focalnet.labels import find_data_set
from keras_video_focalnet.utils.checks import did_you_mean

if TYPE_CHECKING:
    from keras_video_focalnet.models.classifier import VideoClassifier

ENTRY_POINTS = "keras_video_focalnet.families"
"""Entry point group in which other packages name modules that register a family."""

_VARIANT = re.compile(r"_(\d+)x(\d+)$")
# The folder that the package is named after: first in lists, and where several families have a recipe of a name.
_FIRST = "video_focalnet"


@dataclass(frozen=True)
class Builder:
    """A function that builds one configuration of an architecture.

    Attributes:
        name: Name of the function, as `"VideoFocalNetT"`.
        aliases: Further names; the first one is what the command line calls it, as `"tiny"`.
        weights: Published name that the builder loads by default; None for random weights.
        input_shape: Default `(frames, height, width, 3)`.

    Example:
        >>> Builder("MyNetSmall", ("my_net_small",), "shapes", (6, 40, 56, 3)).short_name
        'my_net_small'
    """

    name: str
    aliases: tuple[str, ...] = ()
    weights: str | None = None
    input_shape: tuple[int, int, int, int] = (8, 224, 224, 3)

    @property
    def short_name(self) -> str:
        """What the command line calls the builder."""
        return self.aliases[0] if self.aliases else self.name


@dataclass(frozen=True)
class Entry:
    """One published set of weights.

    Attributes:
        architecture: Name of the builder, as `"VideoFocalNetT"`.
        data_set: Short name of the data set that it was trained on, as `"k400"`.
        long_name: The data set's name in words.
        classes: Number of classes of the classifier; None for weights without a fixed number (zero-shot).
        labels: Class names, or the name of the data set that has them; None: no names.
        input_shape: What it was trained on, `(frames, height, width, 3)`; an image model has 1 frame.
        variant: None for the usual one of several entries of the same builder and data set, else `(frames, side)`.
        parameters: Number of parameters with this classifier; None: not counted here.
        gmac: Multiply-adds in 10^9 of one view of `input_shape`; None: not counted here.
        top1: Accuracy in percent that the paper of the architecture reports; None: it reports none.
        views: `(clips, crops)` a video that `top1` is the mean of; None: no `top1`.
        url: Address of the published file, `https://...`, `hf://user/repo/file` or, of the file that is chosen there,
            `hf://user/repo`; None: it ships with the package, or is on Google Drive alone.
        bundled: Path of the file inside the package; None: it is downloaded.
        licence: Licence of the published file.
        source: Who made the file.
        sha256: Digest of the published file; None: not known, so it is recorded at the first download.
        google_drive: Id of the authors' own file on Google Drive, which a script cannot fetch; None: it has none.

    Example:
        >>> Entry("MyNetSmall", "shapes", "Moving shapes", classes=3, variant=(16, 224)).name
        'shapes_16x224'
    """

    architecture: str
    data_set: str
    long_name: str
    classes: int | None
    labels: str | Sequence[str] | None = None
    input_shape: tuple[int, int, int, int] = (8, 224, 224, 3)
    variant: tuple[int, int] | None = None
    parameters: int | None = None
    gmac: float | None = None
    top1: float | None = None
    views: tuple[int, int] | None = None
    url: str | None = None
    bundled: Path | None = None
    licence: str = ""
    source: str = ""
    sha256: str | None = None
    google_drive: str | None = None

    @property
    def name(self) -> str:
        """What `weights=` takes: the data set, with `_FRAMESxSIDE` where the entry is a variant."""
        return self.data_set if self.variant is None else "{}_{}x{}".format(self.data_set, *self.variant)

    @property
    def file_name(self) -> str:
        """Name of the published or bundled file, or of the repository that it is chosen in; "" where it is unknown."""
        return self.bundled.name if self.bundled else PurePosixPath(urlsplit(self.url or "").path).name

    @property
    def page(self) -> str | None:
        """Address of the page on Google Drive where a person can download the authors' own file; None: it has none."""
        return f"https://drive.google.com/file/d/{self.google_drive}/view" if self.google_drive else None

    @property
    def cache_name(self) -> str:
        """Name of the converted file in the cache."""
        return f"{self.architecture}_{self.name}.safetensors"


@dataclass(frozen=True)
class Family:
    """An architecture with all that belongs to it.

    Attributes:
        name: Name of the family, as `"video_focalnet"`.
        title: Its name in words, as `"Video-FocalNet"`.
        module: Module that defines the classifier's class and the builders; it is imported when a model is needed.
        classifier: Name of the class in that module.
        builders: The builders, in the order of lists.
        entries: Published weights.
        recipes: Training recipes by name, each a dict from attributes of `Recipe` to values.
        readers: For formats whose layout depends on the architecture (`"keras2"`, `"keras3"`), `"module:function"` from
            a file's path to a state in the reference's names, with the class names or None.

    Example:
        >>> family = find_family("tiny")
        >>> family.title, family.classifier, [builder.short_name for builder in family.builders]
        ('Video-FocalNet', 'VideoFocalNet', ['tiny', 'small', 'base', 'nano'])
    """

    name: str
    title: str
    module: str
    classifier: str
    builders: tuple[Builder, ...]
    entries: tuple[Entry, ...] = ()
    recipes: Mapping[str, Mapping] = field(default_factory=lambda: MappingProxyType({}))
    readers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def architecture(self) -> type[VideoClassifier]:
        """The classifier's class; this imports Keras."""
        return getattr(importlib.import_module(self.module), self.classifier)

    def function(self, builder: Builder) -> Callable[..., VideoClassifier]:
        """The function of one of the builders; this imports Keras."""
        return getattr(importlib.import_module(self.module), builder.name)

    def reader(self, kind: str) -> Callable | None:
        """The function that reads files of a format in this family's layout, or None where it has none."""
        if kind not in self.readers:
            return None
        module, _, name = self.readers[kind].partition(":")
        return getattr(importlib.import_module(module), name)


_families: dict[str, Family] = {}


def register(family: Family) -> Family:
    """Add a family to the registry, or replace the one of the same name, and return it.

    Raises:
        ValueError: A name or alias of one of its builders belongs to another family's builder, or an entry names a
            builder that the family does not have.

    Example:
        >>> from keras_video_focalnet.models import registry
        >>> registry.register(registry.find_family("tiny")).title
        'Video-FocalNet'
    """
    for other in _families.values():
        taken = {_plain(name) for builder in other.builders for name in (builder.name, *builder.aliases)}
        for builder in family.builders:
            for name in (builder.name, *builder.aliases):
                if other.name != family.name and _plain(name) in taken:
                    raise ValueError(f"the builder name {name!r} is taken by the family {other.name!r}; use another.")
    names = {builder.name for builder in family.builders}
    for entry in family.entries:
        if entry.architecture not in names:
            raise ValueError(f"the entry {entry.architecture}/{entry.name} is of no builder of {family.name!r}.")
    _families[family.name] = family
    return family


def unregister(name: str) -> None:
    """Take a family, by its name, out of the registry."""
    _families.pop(name, None)


def families() -> tuple[Family, ...]:
    """All registered families in the order of registration, those of this package first."""
    own_families()
    _load_entry_points()
    return tuple(_families.values())


@functools.cache
def own_families() -> tuple[Family, ...]:
    """The families of this package: the folders beside this file, each of which registers itself when imported."""
    package = importlib.import_module(__package__)
    folders = [module.name for module in pkgutil.iter_modules(package.__path__) if module.ispkg]
    for name in sorted(folders, key=lambda name: (name != _FIRST, name)):
        importlib.import_module(f"{__package__}.{name}")
    return tuple(family for family in _families.values() if family.module.startswith(f"{__package__}."))


@functools.cache
def _load_entry_points() -> None:
    """Import the modules in which other packages register families."""
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINTS):
        try:
            entry_point.load()
        except Exception as error:  # Another package must not take this one down with it.
            warnings.warn(f"the entry point {entry_point.value!r} of {ENTRY_POINTS} fails: {error!r}", stacklevel=2)


def architectures() -> tuple[type, ...]:
    """The classes of all families, without those of other packages that cannot be imported, which warn."""
    found = []
    for family in families():
        try:
            found.append(family.architecture())
        except ImportError as error:
            warnings.warn(f"{family.module} of the family {family.name!r} fails: {error!r}", stacklevel=2)
    return tuple(found)


def builders() -> dict[str, Builder]:
    """All builders by name, `"VideoFocalNetT"` and so on."""
    return {builder.name: builder for family in families() for builder in family.builders}


def entries() -> tuple[Entry, ...]:
    """All published weights, family by family."""
    return tuple(entry for family in families() for entry in family.entries)


def find_builder(name: str) -> Builder:
    """Find a builder by its name or an alias, however spaced and spelled; a `ValueError` lists those that exist."""
    return _find(name)[1]


def find_family(name: str) -> Family:
    """Find the family of a builder, by any name of the builder."""
    return _find(name)[0]


def _find(name: str) -> tuple[Family, Builder]:
    wanted = _plain(name)
    for family in families():
        for builder in family.builders:
            if wanted in map(_plain, (builder.name, *builder.aliases)):
                return family, builder
    known = sorted(builders())
    names = [*known, *(alias for builder in builders().values() for alias in builder.aliases)]
    raise ValueError(
        f"architecture={name!r} is not known{did_you_mean(name, names) or '.'} Use one of {', '.join(known)}."
    )


def family_of(architecture: type[VideoClassifier]) -> Family:
    """The family of a classifier's class, or of the nearest class that it is derived from, else a `ValueError`."""
    for cls in architecture.__mro__:
        for family in families():
            if (family.module, family.classifier) == (cls.__module__, cls.__name__):
                return family
    raise ValueError(f"{architecture.__name__} belongs to no registered family; call registry.register.")


def find_entry(architecture: str, weights: str) -> Entry:
    """Find the published weights of a builder; a `ValueError` lists those that exist.

    `weights` is any name of a data set, see `labels.find_data_set`, alone or with a variant: `"k400_16x224"`.
    """
    builder = find_builder(architecture)
    published = [entry for entry in entries() if entry.architecture == builder.name]
    variant = _VARIANT.search(weights)
    name = weights[: variant.start()] if variant else weights
    wanted = find_data_set(name) or name
    for entry in published:
        if _plain(entry.data_set) == _plain(wanted) and entry.variant == (
            variant and tuple(map(int, variant.groups()))
        ):
            return entry
    names = ", ".join(repr(entry.name) for entry in published)
    beside = []
    # The working folder may be gone, or closed to us.
    with contextlib.suppress(OSError):
        beside = os.listdir()
    meant = did_you_mean(weights, [*(entry.name for entry in published), *beside])
    raise ValueError(
        f"weights={weights!r} is not published for {builder.name}{meant or '.'} "
        f"Use {f'one of {names}, or ' if names else ''}the path or URL of a weights file, or None for random weights."
    )


def list_models(architecture: str | None = None) -> list[str]:
    """List what is published.

    Args:
        architecture: Any name of a builder, see `find_builder`; None lists the weights of all builders.

    Returns:
        Names that `weights=` takes for that builder, or all as `"VideoFocalNetT/k400"`.

    Raises:
        ValueError: There is no such builder.

    Example:
        >>> list_models("tiny")
        ['k400', 'imagenet']
    """
    if architecture is None:
        return [f"{entry.architecture}/{entry.name}" for entry in entries()]
    name = find_builder(architecture).name
    return [entry.name for entry in entries() if entry.architecture == name]


def default_shape(architecture: str, weights: object = None) -> tuple[int, int, int, int]:
    """The shape of a clip that a builder takes by default: what its weights were trained on, else the builder's own.

    A file tells it where it holds a whole model or belongs to a training run.
    """
    builder = find_builder(architecture)
    if isinstance(weights, (str, os.PathLike)):
        # Listing the models needs no reader of files.
        from keras_video_focalnet.weights.formats import is_path
        from keras_video_focalnet.weights.run_folder import trained_shape

        if is_path(weights):
            return trained_shape(weights, builder.input_shape) or builder.input_shape
        with contextlib.suppress(ValueError):
            entry = find_entry(architecture, weights)
            # The weights of an image model are used for videos.
            if entry.input_shape[0] > 1:
                return entry.input_shape
    return builder.input_shape


def trained_builder(path: str | os.PathLike) -> Builder | None:
    """The builder of the model that a run trained, by the run's folder or a file of it; None where nothing says it."""
    from keras_video_focalnet.weights.run_folder import read_run, run_of

    path = Path(path).expanduser()
    run = read_run(path) if path.is_dir() else run_of(path)
    for name in (run.get("builder"), run.get("model")):
        if isinstance(name, str):
            with contextlib.suppress(ValueError):
                return find_builder(name)
    return None


def find_recipe(name: str, architecture: str | None = None) -> Mapping | None:
    """The values of a family's recipe, as a dict from attributes of `Recipe`; None where no family has such a recipe.

    `name` is that of the recipe or any of its data set. Of `architecture`, any name of a builder, the family's recipes
    are looked through first.
    """
    searched = list(families())
    if architecture is not None:
        first = find_family(architecture)
        searched = [first, *(family for family in searched if family is not first)]
    for family in searched:
        for key in (name, find_data_set(name)):
            if key in family.recipes:
                return family.recipes[key]
    return None


def _plain(name: str) -> str:
    return re.sub(r"[\s_.-]", "", str(name)).lower()
