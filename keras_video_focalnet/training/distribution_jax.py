"""Training on several devices or in several processes with JAX: `keras.distribution`."""

import functools
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import keras

from keras_video_focalnet.training.distribution import Distribution

_RUN_METHODS = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")


def suitable_method() -> str | None:
    """Name the method that suits the processes of the environment and the devices of this one, if any does."""
    import jax

    return "data_parallel" if _environment_has_processes() or jax.device_count() > 1 else None


def _environment_has_processes() -> bool:
    return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", 1)) > 1


class DataParallel(Distribution):
    """`keras.distribution.DataParallel` over the devices of all processes, each of which feeds its own.

    Random layers draw for the entire batch at once, so all replicas have the same seeds.
    """

    def __init__(self):
        import jax

        if _environment_has_processes() and not jax.distributed.is_initialized():
            keras.distribution.initialize()
        super().__init__(jax.process_index(), jax.process_count(), jax.device_count())
        self._devices = keras.distribution.DataParallel(auto_shard_dataset=False)

    def scope(self) -> AbstractContextManager:
        return self._devices.scope()

    def _adapt(self, model: keras.Model) -> None:
        import jax

        if any(isinstance(v.value.sharding, jax.sharding.SingleDeviceSharding) for v in model.variables):
            raise ValueError("model was built outside the distribution; build it inside `with distribution.scope():`.")
        predict_step = model.predict_step

        def predict_everywhere(state, data):
            outputs, variables = predict_step(state, data)
            return keras.tree.map_structure(self._on_every_device, outputs), variables

        model.predict_step = predict_everywhere
        # Keras looks at the distribution when it runs the model too, and not only when it builds it.
        for name in _RUN_METHODS:
            setattr(model, name, self._within_scope(getattr(model, name)))

    def _on_every_device(self, tensor: Any) -> Any:
        """Copy a tensor to every device, because a process can read only what lies on its own devices."""
        layout = keras.distribution.TensorLayout((None,) * len(tensor.shape), self._devices.device_mesh)
        return keras.distribution.distribute_tensor(tensor, layout)

    def _within_scope(self, method: Callable) -> Callable:
        @functools.wraps(method)
        def method_within_scope(*args, **kwargs):
            with self.scope():
                return method(*args, **kwargs)

        return method_within_scope


METHODS = {"data_parallel": DataParallel}
