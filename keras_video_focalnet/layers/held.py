"""Layers whose weights never train, whatever `trainable` says: those of pretrained towers."""

from typing import Any, TypeVar

from keras_video_focalnet.layers.fused_dense import FusedDense
from keras_video_focalnet.layers.fused_layer_normalization import FusedLayerNormalization
from keras_video_focalnet.layers.patch_embedding import PatchEmbedding
from keras_video_focalnet.layers.serialization import saved_as

T = TypeVar("T", bound=type)


class _Held:
    def add_weight(self, *args: Any, **kwargs: Any) -> Any:
        # Adapters of low rank exist to train beside a matrix that does not.
        name = kwargs.get("name") or ""
        return super().add_weight(*args, **(kwargs if name.startswith("lora_") else {**kwargs, "trainable": False}))


@saved_as("HeldDense", group="Dense")
class HeldDense(_Held, FusedDense):
    """A `FusedDense` whose matrix and bias never train; what `enable_lora` adds does.

    Example:
    >>> layer = HeldDense(2)
    >>> layer.build((None, 4))
    >>> len(layer.weights), len(layer.trainable_weights)
    (2, 0)
    """


@saved_as("HeldLayerNormalization", group="LayerNormalization")
class HeldLayerNormalization(_Held, FusedLayerNormalization):
    """A `FusedLayerNormalization` whose scale and shift never train."""


@saved_as("HeldPatchEmbedding", group="PatchEmbedding")
class HeldPatchEmbedding(_Held, PatchEmbedding):
    """A `PatchEmbedding` whose convolution never trains."""


_HELD = {
    FusedDense: HeldDense,
    FusedLayerNormalization: HeldLayerNormalization,
    PatchEmbedding: HeldPatchEmbedding,
}


def held(cls: T) -> T:
    """Gives the class of layers like those of `cls` whose weights do not train, also after `layer.trainable = True`.

    So a tower can be frozen and freed stage by stage, and of what it holds only the parts that should learn do. Both
    classes name their variables alike in files, so weights of one can be loaded into the other.

    Example:
    >>> from keras_video_focalnet.layers import FusedDense
    >>> held(FusedDense).__name__, held(FusedDense)(2).get_config()["units"]
    ('Dense', 2)
    """
    return _HELD[cls]


def held_unless(trains: bool, cls: T) -> T:
    """The class itself where its weights train, else as `held` makes it."""
    return cls if trains else held(cls)
