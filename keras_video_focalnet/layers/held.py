"""Layers whose weights never train, whatever `trainable` says: those of pretrained towers."""

import functools
from typing import Any, TypeVar

T = TypeVar("T", bound=type)


@functools.cache
def held(cls: T) -> T:
    """Makes a class of layers whose weights do not train, also after `layer.trainable = True`.

    So a tower can be frozen and freed stage by stage, and of what it holds only the parts that should learn do.

    Example:
    >>> from keras_video_focalnet.layers import FusedDense
    >>> layer = held(FusedDense)(2)
    >>> layer.build((None, 4))
    >>> len(layer.weights), len(layer.trainable_weights)
    (2, 0)
    """

    class Held(cls):
        def add_weight(self, *args: Any, **kwargs: Any) -> Any:
            return super().add_weight(*args, **{**kwargs, "trainable": False})

    Held.__name__ = Held.__qualname__ = cls.__name__
    return Held


def held_unless(trains: bool, cls: T) -> T:
    """The class itself where its weights train, else as `held` makes it."""
    return cls if trains else held(cls)
