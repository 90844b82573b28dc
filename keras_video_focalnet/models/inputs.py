"""The way of a clip into a network: its shape checked, its two spatial axes joined, its pixels normalized."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.constant_normalization import ConstantNormalization
from keras_video_focalnet.models.preprocessing import Preprocessing
from keras_video_focalnet.utils.checks import check_integer

FRAMES = "frames"
"""Name of the layer that gives a clip as `(batch, frames, height * width, 3)`."""
NORMALIZATION = "normalization"
"""Name of the layer that normalizes pixels, where the model does that itself."""


def clip_shape(
    input_tensor: Any, input_shape: Any, default: tuple[int, ...], least_size: int = 32, **multiple: int
) -> tuple[int | None, int, int, int]:
    """The shape `(frames, height, width, 3)` that a model is built for; frames may be None.

    It is that of the Keras tensor `input_tensor`, else `input_shape`, else `default`. A `ValueError` says what does not
    fit: sides below `least_size` pixels, frames that the argument in `multiple` does not divide, and so on.
    """
    if keras.config.image_data_format() == "channels_first":
        raise ValueError(
            'image_data_format is "channels_first", but clips are channels last: (batch, frames, height, width, 3). '
            'Call keras.config.set_image_data_format("channels_last").'
        )
    given = default if input_shape is None else input_shape
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise ValueError(
                f"input_tensor must be a Keras tensor, such as keras.Input gives, received a "
                f"{type(input_tensor).__name__}; to run the model on data, call it."
            )
        given = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != given:
            raise ValueError(
                f"input_shape={tuple(input_shape)} differs from the shape of input_tensor, {given}; pass only one."
            )
    if not isinstance(given, (tuple, list)) or len(given) != 4:
        raise ValueError(f"input_shape must be (frames, height, width, 3), without the batch; received {given!r}.")
    frames, height, width, channels = given
    if channels != 3:
        raise ValueError(
            f"input_shape must end in 3 channels (RGB, channels last), received {given}; a grey clip can be repeated "
            "three times along its last axis."
        )
    if height is None or width is None:
        raise ValueError(f"input_shape needs a fixed height and width, received {given}; only frames may be None.")
    height, width = (check_integer("Height and width in input_shape", side, 1) for side in (height, width))
    if min(height, width) < least_size:
        raise ValueError(
            f"input_shape needs a height and width of at least {least_size} pixels, received {given}; resize the "
            "frames."
        )
    frames = None if frames is None else check_integer("The number of frames in input_shape", frames, 1)
    for name, count in multiple.items():
        if frames is not None and frames % count:
            raise ValueError(
                f"input_shape has {frames} frames, which {name}={count} does not divide; pass a multiple of {count}."
            )
    return frames, height, width, 3


def exact_dtype(policy: keras.dtype_policies.DTypePolicy) -> str:
    """What preprocessing and scores compute in: at least float32, whatever the policy of the layers between."""
    return "float64" if policy.compute_dtype == "float64" else "float32"


def enter(
    input_tensor: Any,
    shape: tuple[int | None, int, int, int],
    preprocessing: Preprocessing,
    include_preprocessing: bool,
    policy: keras.dtype_policies.DTypePolicy,
) -> tuple[Any, Any]:
    """Begin a functional model: from a clip to what the stem takes.

    A clip leaves its five axes at once, since a tensor of a rank above 4 would keep an exported model off mobile GPU
    delegates.

    Args:
        input_tensor: A Keras tensor to build upon, or None for a new input.
        shape: `(frames, height, width, 3)`, see `clip_shape`.
        preprocessing: The architecture's mean and standard deviation.
        include_preprocessing: Whether the model normalizes pixels itself.
        policy: The dtype policy of the model's layers.

    Returns:
        The clip, `(batch, frames, height, width, 3)`, and its pixels as `(batch, frames, height * width, 3)`.

    Example:
        >>> clip, x = enter(None, (8, 32, 48, 3), Preprocessing(), True, keras.dtype_policies.get("float32"))
        >>> clip.shape, x.shape
        ((None, 8, 32, 48, 3), (None, 8, 1536, 3))
    """
    frames, height, width, channels = shape
    dtype = exact_dtype(policy)
    clip = input_tensor
    if clip is None:
        clip = keras.Input(shape, dtype="float32", name="clip")
    tokens = (-1 if frames is None else frames, height * width, channels)
    x = keras.layers.Reshape(tokens, dtype=dtype, name=FRAMES)(clip)
    if include_preprocessing:
        mean, variance = list(preprocessing.mean), [std**2 for std in preprocessing.std]
        x = ConstantNormalization(mean=mean, variance=variance, dtype=dtype, name=NORMALIZATION)(x)
    elif not keras.backend.is_float_dtype(clip.dtype):
        x = ops.cast(x, dtype)
    return clip, x
