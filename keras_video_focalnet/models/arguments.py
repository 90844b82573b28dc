"""Checks of what a model is built from, before anything is built or downloaded."""

import operator

import keras

from keras_video_focalnet.layers.validation import choice

STAGES = 4
MIN_SIZE = 32
DEFAULT_SHAPE = (8, 224, 224, 3)


def whole(name, value, least):
    """`value` as an int of at least `least`."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer of at least {least}, received {value!r}.") from None
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, received {value!r}.")
    return number


def per_stage(name, value, least):
    """Four ints of at least `least`, from one or four."""
    return tuple(whole(name, item, least) for item in _four(name, value, "integer"))


def choices(name, value, allowed):
    """Four of `allowed`, from one or four."""
    return tuple(choice(name, item, allowed) for item in _four(name, value, "choice"))


def _four(name, value, kind):
    values = tuple(value) if hasattr(value, "__iter__") and not isinstance(value, str) else (value,) * STAGES
    if len(values) != STAGES:
        raise ValueError(f"{name} must be one {kind} or {STAGES}, one a stage; received {value!r}.")
    return values


def share(name, value):
    """`value` as a float in [0, 1)."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number in [0, 1), received {value!r}.") from None
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be in [0, 1), received {value!r}.")
    return number


def positive(name, value):
    """`value` as a float above 0."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a number above 0, received {value!r}.") from None
    if not number > 0:
        raise ValueError(f"{name} must be above 0, received {value!r}.")
    return number


def clip_shape(input_tensor, input_shape, tubelet_size):
    """The shape `(frames, height, width, 3)` that the model is built for."""
    if keras.config.image_data_format() == "channels_first":
        raise ValueError(
            'image_data_format is "channels_first", but clips are channels last: (batch, frames, height, width, 3). '
            'Call keras.config.set_image_data_format("channels_last").'
        )
    given = DEFAULT_SHAPE if input_shape is None else input_shape
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
    height, width = (whole("Height and width in input_shape", side, 1) for side in (height, width))
    if min(height, width) < MIN_SIZE:
        raise ValueError(
            f"input_shape needs a height and width of at least {MIN_SIZE} pixels, received {given}; resize the frames."
        )
    frames = None if frames is None else whole("The number of frames in input_shape", frames, 1)
    if frames is not None and frames % tubelet_size:
        raise ValueError(
            f"input_shape has {frames} frames, which tubelet_size={tubelet_size} does not divide; pass a multiple of "
            f"{tubelet_size}."
        )
    return frames, height, width, 3
