"""Videos of plain colours, and a model that answers with the colour that a clip shows: exact, and quick."""

import keras
import numpy as np

from tests.clips import encode

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


def colour_model(activation="softmax", channels=3):
    """Answers with the colour that a clip shows."""
    inputs = keras.Input((4, 32, 32, 3))
    mean = keras.layers.GlobalAveragePooling3D()(inputs)
    mean = keras.layers.Rescaling(1 / 32)(mean)
    if channels > 3:
        mean = keras.layers.ZeroPadding1D((0, channels - 3))(keras.layers.Reshape((3, 1))(mean))
        mean = keras.layers.Flatten()(mean)
    return keras.Model(inputs, keras.layers.Activation(activation)(mean), name="colours")


def colour_frames(*stretches):
    """Frames, `(frames, 48, 64, 3)` uint8, of stretches `(colour, number of frames)`."""
    pictures = [np.broadcast_to(np.uint8(COLOURS[colour]), (count, 48, 64, 3)) for colour, count in stretches]
    return np.concatenate(pictures)


def colour_video(path, *stretches, rate=10):
    """Write stretches `(colour, number of frames)` as a video."""
    return encode(path, colour_frames(*stretches), options={"crf": "20"}, rate=rate)
