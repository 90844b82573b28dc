"""What the model that a `.keras` file describes may take: little more than the numbers that lie in the file."""

import json
import math
import os
import zipfile
from typing import Any

from keras_video_focalnet.weights.errors import WeightsFileError, named_errors
from keras_video_focalnet.weights.keras3_file import check_keras_file

# Half-precision numbers double in memory, and a layer that is quantized is built whole beforehand.
_GROWTH = 8
_SLACK_BYTES = 64 << 20
_SLACK_VARIABLES = 1000
# Keras's list of the variables that wait for their first values.
_WAITING = "uninitialized_variables"


class _Waiting(list):
    """A list of variables that refuses more than a number of them, or of their bytes."""

    def __init__(self, count: int, size: int):
        super().__init__()
        self._count, self._bytes = count, size

    def append(self, variable: Any) -> None:
        """Adds a variable."""
        super().append(variable)
        self._bytes -= 4 * math.prod(variable.shape)
        if self._bytes < 0 or len(self) > self._count:
            raise WeightsFileError("its configuration describes a model of far more numbers than the file holds")


def check_whole_model(path: str | os.PathLike) -> None:
    """Check that Keras can load a `.keras` file of any model, and that doing so takes memory in proportion to the file.

    The model is built once without values: its variables have shapes alone and are counted as they are made. A
    `WeightsFileError` names the file. Nothing of the kind can be done where `keras.saving.load_model` is called without
    this: it makes the model before it looks at the numbers, and hands the configuration alone to the model's class.
    """
    tensors = check_keras_file(path)
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json")) | {"compile_config": None}
    check_described_model(path, config, tensors)


def check_described_model(path: str | os.PathLike, config: dict[str, Any], tensors: int) -> None:
    """Check that a model, as Keras serialized it, takes little more than the `tensors` arrays that a file holds of it.

    A `WeightsFileError` names the file.
    """
    import keras
    from keras.src.backend.common import global_state

    before = global_state.get_global_attribute(_WAITING)
    limits = _GROWTH * tensors + _SLACK_VARIABLES, _GROWTH * os.path.getsize(path) + _SLACK_BYTES
    global_state.set_global_attribute(_WAITING, _Waiting(*limits))
    try:
        with named_errors(path), keras.StatelessScope(initialize_variables=False):
            keras.saving.deserialize_keras_object(config)
    finally:
        global_state.set_global_attribute(_WAITING, before)
