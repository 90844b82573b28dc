"""Training on several devices or in several processes, by a method of the running backend."""

import contextlib
import functools
import importlib
import types
from contextlib import AbstractContextManager
from typing import Any

import keras

from keras_video_focalnet.utils.checks import check_choice

_BACKENDS = {"mirrored": "tensorflow", "multi_worker": "tensorflow", "data_parallel": "jax", "process_group": "torch"}
_BACKEND_TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def choose(distribute: str | None = "auto") -> "Distribution":
    """Choose how a model is trained on several devices or in several processes.

    All methods are data parallel: every replica holds the entire model and sees its part of each batch, and the result
    is the model that a single device would train on the same batches. `distribute` is one of

    - None: one process, one device.
    - `"mirrored"` (TensorFlow): `tf.distribute.MirroredStrategy` over the GPUs of this machine; without one its logical
      CPUs.
    - `"multi_worker"` (TensorFlow): `tf.distribute.MultiWorkerMirroredStrategy` over the processes that the environment
      variable `TF_CONFIG` lists.
    - `"data_parallel"` (JAX): `keras.distribution.DataParallel` over all devices of all processes. Processes are joined
      here if `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `KERAS_DISTRIBUTION_NUM_PROCESSES` and `KERAS_DISTRIBUTION_PROCESS_ID`
      describe them; under Slurm, Open MPI or on TPUs call `keras.distribution.initialize()` before.
    - `"process_group"` (PyTorch): a process for every GPU, as `torchrun` starts them.
    - `"auto"` (the default): the processes that the environment describes, otherwise the devices of this process.

    A process that asks again gets the same distribution.
    """
    backend = keras.backend.backend()
    if check_choice("distribute", distribute, ("auto", None, *_BACKENDS)) == "auto":
        distribute = _backend_module(backend).suitable_method()
    if distribute is None:
        return Distribution()
    if _BACKENDS[distribute] != backend:
        possible = " or ".join(f"'{name}'" for name, needed in _BACKENDS.items() if needed == backend)
        raise ValueError(
            f"distribute='{distribute}' needs the {_BACKEND_TITLES[_BACKENDS[distribute]]} backend; on "
            f"{_BACKEND_TITLES[backend]} use {possible}."
        )
    return _make(distribute)


@functools.cache
def _make(name: str) -> "Distribution":
    """Make a distribution, once: a process can join the others only once, and variables belong to their strategy."""
    return _backend_module(_BACKENDS[name]).METHODS[name]()


def _backend_module(backend: str) -> types.ModuleType:
    return importlib.import_module(f"keras_video_focalnet.training.distribution_{backend}")


class Distribution:
    """One process and one device; the other methods are its subclasses. `choose` makes them."""

    def __init__(self, process_index: int = 0, process_count: int = 1, replicas: int = 1):
        self.process_index = process_index
        self.process_count = process_count
        self.replicas = replicas

    def scope(self) -> AbstractContextManager:
        """Give the context in which to build a model and its optimizer, and to compile it."""
        return contextlib.nullcontext()

    def prepare(self, model: keras.Model) -> keras.Model:
        """Make `fit`, `evaluate` and `predict` of a model that was built in `scope()` work within the distribution.

        The weights of the first process are given to all others; the file that the model is saved as does not change.
        All processes must give `fit`, `evaluate` and `predict` the same number of batches, each its own part of them
        (see `dataset`); all get the same logs, and the predictions for the parts of all processes, batch by batch.
        """
        if not getattr(model, "_distributed", False):
            self._adapt(model)
            model._distributed = True
        self.synchronize(model)
        return model

    def synchronize(self, model: keras.Model) -> None:
        """Have all replicas of a prepared model start from the state of the first, after variables were assigned.

        Weights, optimizer and metrics become equal. Each replica gets seeds of its own for its random layers, because
        two replicas must not drop the same. They depend on the seeds of the first replica alone, so that a run that
        continues from the state of the first process draws the same numbers as a run that was never stopped.
        """

    def dataset(self, batches: Any) -> Any:
        """Turn batches of this process, of `process_batch(batch_size)` clips, into what `fit` takes within the
        distribution; for `"multi_worker"` they must be a `tf.data.Dataset`.
        """
        return batches

    def process_batch(self, batch_size: int) -> int:
        """Count the clips that this process must read of every batch; ValueError where replicas would get unequal
        parts, whose mean gradient is not that of the batch.
        """
        if batch_size % self.replicas:
            raise ValueError(
                f"batch_size is {batch_size}, which {self.replicas} replicas cannot share equally; pass a multiple of "
                f"{self.replicas}."
            )
        return batch_size // self.process_count

    def _adapt(self, model: keras.Model) -> None:
        """Change the methods of a model that is prepared for the first time."""


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """List the variables that hold the seeds of a model's random layers, each `[seed, number of draws]`."""
    weights = {id(weight) for weight in model.weights}
    return list({id(v): v for v in model.variables if id(v) not in weights}.values())


def replica_seed(seed: Any, replica: Any) -> Any:
    """Derive a seed for each replica, both integers or integer tensors; the first one keeps the seed.

    PyTorch's generator gets the sum of a seed and the number of draws, so neighbouring seeds would give the same draws
    a few steps apart.
    """
    return (seed + 1640531527 * replica) % 2**31
