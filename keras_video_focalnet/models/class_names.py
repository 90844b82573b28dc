"""Architectures that are told in words what to look for: those whose constructor takes `class_names`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from keras_video_focalnet.labels import load_labels
from keras_video_focalnet.models import registry
from keras_video_focalnet.models.arguments import constructor_arguments

Names = Sequence[str] | str | os.PathLike


class ToldByNames(keras.Model):
    """What the contract says of class names: by default, that classes are those which a classifier was trained for."""

    @classmethod
    def takes_class_names(cls) -> bool:
        """Whether models of this architecture score clips against any names, which the constructor takes."""
        return "class_names" in constructor_arguments(cls)

    @classmethod
    def check_class_names(cls, names: Names) -> tuple[str, ...]:
        """Check names, of a list, a data set or a file, before anything is downloaded or built."""
        return tuple(load_labels(names))

    @classmethod
    def arguments_for_names(
        cls, names: Sequence[str], state: Mapping[str, Any] | None, labels: Sequence[str] | None
    ) -> dict[str, Any]:
        """The constructor's arguments with which weights score clips against names, without any training.

        Args:
            names: What the classes are called.
            state: The weights, by the reference's names.
            labels: The names that the weights were trained for, or None where they do not say it.
        """
        return {"class_names": names}

    def set_class_names(self, names: Names) -> Any:
        """Give a new model with this one's weights that scores clips against other names, where the architecture can.

        Raises:
            ValueError: The classes of this architecture are those that it was trained for.
        """
        raise ValueError(_of_its_own(f"the model {self.name!r}"))

    def told_names(self, names: Names) -> Any:
        """As `set_class_names`, and warns where what was learned for the model's own names is of no use for others."""
        return self.set_class_names(names)

    def with_learned(self, state: Mapping[str, Any], labels: Sequence[str] | None) -> Any:
        """Give a model of `arguments_for_names` whatever its weights learned for its names beside other ones.

        Args:
            state: The weights, by the reference's names.
            labels: The names that the weights were trained for, or None where they do not say it.
        """
        return self


def build_for_names(name: str, names: Names, weights: str | os.PathLike) -> keras.Model:
    """Build a model of weights that scores clips against names, without any training.

    Args:
        name: Any name of a builder.
        names: What the classes are called, as a list, the name of a data set or a file.
        weights: What the builder takes.

    Raises:
        ValueError: The architecture takes no names; or the names or the weights do not fit.
    """
    from keras_video_focalnet.models.building import layout_of
    from keras_video_focalnet.weights.loading import open_weights

    family, builder = registry.find_family(name), registry.find_builder(name)
    architecture = family.architecture()
    if not architecture.takes_class_names():
        raise ValueError(_of_its_own(builder.name))
    names = architecture.check_class_names(names)
    opened = open_weights(weights, layout_of(builder.name))
    arguments = architecture.arguments_for_names(names, opened.state, opened.labels)
    model = family.function(builder)(weights=weights, **arguments)
    return model.with_learned(opened.state, opened.labels)


def with_names(model: keras.Model, names: Names) -> keras.Model:
    """A model that scores clips against names: the given one where it has these, else a new one of its weights.

    Raises:
        ValueError: The model's architecture takes no names, or the names do not fit.
    """
    if not (isinstance(model, ToldByNames) and model.takes_class_names()):
        raise ValueError(_of_its_own(f"the model {model.name!r}"))
    names = model.check_class_names(names)
    return model if names == model.labels else model.told_names(names)


def _of_its_own(what):
    able = {registry.family_of(cls).name: cls for cls in registry.architectures() if cls.takes_class_names()}
    shown = ", ".join(builder.name for cls in able.values() for builder in registry.family_of(cls).builders)
    return (
        f"class_names is for models that compare clips with names ({shown or 'there are none'}), and the classes of "
        f"{what} are those that it was trained for; leave it out."
    )
