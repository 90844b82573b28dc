"""The names by which our classes are known in files."""

from collections.abc import Callable
from typing import Any, TypeVar

import keras

T = TypeVar("T", bound=type)
_PACKAGE = "keras_video_focalnet"


def with_remedy(build_config: dict[str, Any] | None, cls: type) -> dict[str, Any] | None:
    """What Keras writes of a built layer or model, with what must be imported before the file can be read.

    Keras imports no package of others for a file. Its error shows all that the file tells of the class that is missing.
    """
    if build_config is None:
        return None
    # A name taken from this package registers all its classes; elsewhere a class is registered by its own module.
    ours = cls.__module__.startswith(f"{_PACKAGE}.")
    remedy = f"from {_PACKAGE} import VideoClassifier" if ours else f"import {cls.__module__}"
    return {**build_config, "to_load": f"{remedy}, before keras.saving.load_model"}


def saved_as(name: str, group: str | None = None) -> Callable[[T], T]:
    """Makes a decorator that registers a layer with Keras under a name, which may differ from the class's own.

    Keras finds a class by its registered name, which a `.keras` file holds in its configuration. The variables of a
    functional model's layer are in a group of the file that is named after the `__name__` of the layer's class, such as
    `layers/layer_normalization_1`, and counted together with all layers whose class has that name, Keras's own
    included. So a file that has such a layer can only be read into classes that still have that `__name__`. Python
    finds and pickles a class by its `__qualname__`, which stays as it is.

    `group` is the `__name__` where it is not `name`: of two classes that only differ in how they train, each reads the
    other's variables under one `__name__`, and a configuration tells them apart.
    """

    def register(cls: T) -> T:
        cls.__name__ = group or name
        inherited = cls.get_build_config
        cls.get_build_config = lambda self: with_remedy(inherited(self), type(self))
        return keras.saving.register_keras_serializable(package=_PACKAGE, name=name)(cls)

    return register
