"""Training on several devices or in several processes with JAX: `keras.distribution`."""

import functools
import os

import keras

from keras_video_focalnet.training.distribution import Distribution

_RUNS = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")


def suited():
    """The name of the way that fits the processes that are told of and the devices that are there, or None."""
    import jax

    return "data_parallel" if _told_of_processes() or jax.device_count() > 1 else None


def _told_of_processes():
    return int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", 1)) > 1


class DataParallel(Distribution):
    """`keras.distribution.DataParallel` over the devices of all processes, each of which feeds its own.

    Random layers draw for the whole batch at once, so their seeds are one for all replicas.
    """

    def __init__(self):
        import jax

        if _told_of_processes() and not jax.distributed.is_initialized():
            keras.distribution.initialize()
        super().__init__(jax.process_index(), jax.process_count(), jax.device_count())
        self._devices = keras.distribution.DataParallel(auto_shard_dataset=False)

    def scope(self):
        return self._devices.scope()

    def _adapt(self, model):
        import jax

        if any(isinstance(v.value.sharding, jax.sharding.SingleDeviceSharding) for v in model.variables):
            raise ValueError("model was built outside the distribution; build it inside `with distribution.scope():`.")
        predict_step = model.predict_step

        def predict_everywhere(state, data):
            outputs, variables = predict_step(state, data)
            return keras.tree.map_structure(self._on_every_device, outputs), variables

        model.predict_step = predict_everywhere
        # Keras looks at the distribution when it runs, too.
        for name in _RUNS:
            setattr(model, name, self._within_scope(getattr(model, name)))

    def _on_every_device(self, tensor):
        """A process can read what lies on its own devices alone."""
        layout = keras.distribution.TensorLayout((None,) * len(tensor.shape), self._devices.device_mesh)
        return keras.distribution.distribute_tensor(tensor, layout)

    def _within_scope(self, run):
        @functools.wraps(run)
        def within(*args, **kwargs):
            with self.scope():
                return run(*args, **kwargs)

        return within


WAYS = {"data_parallel": DataParallel}
