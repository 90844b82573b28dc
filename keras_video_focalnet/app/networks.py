"""Which models and weights the page offers, and the networks that are loaded; a browser names no file or address."""

import collections
import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_video_focalnet.app.messages import Refused, noted
from keras_video_focalnet.models import registry
from keras_video_focalnet.weights.errors import WeightsDownloadError

RANDOM = "random weights"
"""What weights that nobody trained are called."""
OWN = "its own"
"""What the weights of a file or run are called that the command was started with."""
MOST_NAMES = 500
MOST_LETTERS = 20_000
_KEPT = 2


@dataclass(frozen=True)
class Started:
    """The model that the page begins with.

    Attributes:
        model: Short name of a builder; for a model of a file or run what the page calls it.
        weights: Published name; None for a file or run.
        network: The loaded Keras model.
        names: Class names that it was told to look for, or ().
        labels: What its classes are called; None for its own names.
    """

    model: str
    weights: str | None
    network: Any
    names: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Loaded:
    """A network that is ready to be asked.

    Attributes:
        network: The Keras model.
        labels: Tuple of the names of its classes.
        title: What the page calls it, with its weights.
        is_random: Whether its weights are random.
        notes: What was warned of while it was made.
    """

    network: Any
    labels: tuple[str, ...]
    title: str
    is_random: bool = False
    notes: tuple[str, ...] = ()


@dataclass
class Networks:
    """The models that the page offers; the last two that were asked for are kept.

    Args:
        started: The model that the page begins with.
        read_names: Function of a text that gives the list of class names in it, or raises a `ValueError`.
    """

    started: Started
    read_names: Callable[[str], Sequence[str]]
    _kept: collections.OrderedDict = field(default_factory=collections.OrderedDict, repr=False)
    _turn: Any = field(default_factory=threading.Lock, repr=False)

    @property
    def _is_file(self):
        return self.started.weights is None

    def models(self) -> list[tuple[str, str]]:
        """Pairs of what stands on the page for a model and its value, that of a file or run first."""
        told = [
            (f"{builder.short_name} ({family.title})", builder.short_name)
            for family in registry.families()
            for builder in family.builders
        ]
        return [(self.started.model, OWN), *told] if self._is_file else told

    def model(self) -> str:
        """The value of the model that the page begins with."""
        return OWN if self._is_file else self.started.model

    def weights(self, model: str) -> list[tuple[str, str]]:
        """Pairs of what stands on the page for the weights of a model and their value; random ones come last.

        Raises:
            Refused: There is no such model.
        """
        if model == OWN and self._is_file:
            return [(OWN, OWN)]
        builder = self._builder(model)
        entries = [entry for entry in registry.entries() if entry.architecture == builder.name]
        told = [(f"{entry.name} ({entry.long_name})", entry.name) for entry in entries]
        return [*told, (RANDOM, RANDOM)]

    def default_weights(self, model: str) -> str:
        """The value of the weights that are chosen where a model is: those it is published with, else the first."""
        choices = [value for _, value in self.weights(model)]
        if model == self.model():
            return OWN if self._is_file else self.started.weights
        preferred = self._builder(model).weights
        if preferred is None:
            # Of models that compare clips with names, weights that are of no classes.
            architecture = self._builder(model).name
            free = (entry for entry in registry.entries() if entry.architecture == architecture and not entry.classes)
            preferred = next((entry.name for entry in free), None)
        return preferred if preferred in choices else choices[0]

    def takes_names(self, model: str) -> bool:
        """Whether a model compares videos with any class names."""
        if model == OWN and self._is_file:
            asked = getattr(self.started.network, "takes_class_names", None)
            return asked is not None and asked()
        return registry.find_family(self._builder(model).name).architecture().takes_class_names()

    def load(self, model: str, weights: str, text: str = "") -> Loaded:
        """Give a network, made anew where it is none of the last two.

        Args:
            model: Value of one of `models`.
            weights: Value of one of its `weights`.
            text: Class names for a model that takes them: a data set, or names with commas or line ends between.

        Raises:
            Refused: There is no such model or are no such weights, they are not on this machine, or names are missing.
            ValueError: The names do not fit.
        """
        if weights not in [value for _, value in self.weights(model)]:
            raise Refused(f"Weights: {model} has none that are called {weights!r}; choose some of the list.")
        notes = []
        names = self._names(text, notes) if self.takes_names(model) else ()
        with self._turn:
            return self._found((model, weights, names), notes)

    def _found(self, key, notes):
        if key not in self._kept:
            # Room is made before, since two large networks may be all that fits.
            while len(self._kept) >= _KEPT:
                self._kept.popitem(last=False)
            with noted(notes):
                self._kept[key] = self._made(*key)
        self._kept.move_to_end(key)
        found = self._kept[key]
        self._kept[key] = dataclasses.replace(found, notes=tuple(dict.fromkeys((*found.notes, *notes))))
        return self._kept[key]

    def _builder(self, model):
        try:
            return registry.find_builder(str(model))
        except ValueError:
            raise Refused(f"Model: there is none that is called {model!r}; choose one of the list.") from None

    def _names(self, text, notes):
        text = (text or "").strip()
        if len(text) > MOST_LETTERS:
            raise Refused(f"Class names: they have {len(text)} letters; write {MOST_LETTERS} or fewer.")
        if not text:
            raise Refused(
                "Class names: this model compares the video with names, and there are none; write what it may show, "
                "such as: opening a door, closing a door."
            )
        if text == "\n".join(self.started.names):
            # As they were given, also those with a comma inside.
            return self.started.names
        with noted(notes):
            names = tuple(self.read_names(text))
        if len(names) > MOST_NAMES:
            raise Refused(f"Class names: there are {len(names)}; write {MOST_NAMES} or fewer.")
        return names

    def _made(self, model, weights, names):
        from keras_video_focalnet.evaluation.timeline import class_names
        from keras_video_focalnet.models.class_names import build_for_names, with_names

        started = self.started
        if model == self.model() and weights in (OWN, started.weights):
            network = with_names(started.network, names) if names and names != started.names else started.network
            labels = started.labels if network is started.network else None
            title = started.model if self._is_file else f"{started.model}, {started.weights}"
            return Loaded(network, class_names(network, labels), title)
        builder = self._builder(model)
        build = registry.find_family(builder.name).function(builder)
        chosen = None if weights == RANDOM else weights
        try:
            if names and chosen is not None:
                network = build_for_names(builder.name, names, chosen)
            else:
                network = build(weights=chosen, **({"class_names": names} if names else {}))
        except WeightsDownloadError:
            raise Refused(
                f"Weights: {weights} of {model} are not on this machine, and a page fetches nothing; let who started "
                f"it run `video-focalnet predict VIDEO --model {model} --weights {weights}` once, or start the page "
                f"with --model {model} --weights {weights}."
            ) from None
        return Loaded(network, class_names(network), f"{builder.short_name}, {weights}", chosen is None)
