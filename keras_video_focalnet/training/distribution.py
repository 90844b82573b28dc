"""Training on several devices or in several processes, by the way that the running backend has."""

import contextlib
import functools
import importlib

import keras

from keras_video_focalnet.layers.validation import choice

_BACKENDS = {"mirrored": "tensorflow", "multi_worker": "tensorflow", "data_parallel": "jax", "process_group": "torch"}
_TITLES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def choose(distribute="auto"):
    """How a model is to be trained on several devices or in several processes.

    All ways are data parallel: every replica holds the whole model and sees its share of each batch, and what comes out
    is the model that a single device would have trained on the whole batches.

    Args:
        distribute: one of

            - None: one process, one device.
            - `"mirrored"` (TensorFlow): `tf.distribute.MirroredStrategy` over the GPUs of this machine; where there is
              none, over its logical CPUs.
            - `"multi_worker"` (TensorFlow): `tf.distribute.MultiWorkerMirroredStrategy` over the processes that the
              environment variable `TF_CONFIG` lists.
            - `"data_parallel"` (JAX): `keras.distribution.DataParallel` over all devices of all processes. Processes
              are joined here if `KERAS_DISTRIBUTION_JOB_ADDRESSES`, `KERAS_DISTRIBUTION_NUM_PROCESSES` and
              `KERAS_DISTRIBUTION_PROCESS_ID` tell of them; under Slurm, Open MPI or on TPUs call
              `keras.distribution.initialize()` before.
            - `"process_group"` (PyTorch): a process for every GPU, as `torchrun` starts them.
            - `"auto"`: the processes that the environment tells of, else the devices that are there.

    Returns:
        A `Distribution`; the same one whenever a process asks for it again.

    Raises:
        ValueError: the name is unknown, the running backend has another way, or what it needs is missing; the message
            names the remedy.

    Example:
        >>> distribution = choose(None)
        >>> with distribution.scope():
        ...     model = VideoFocalNet(embed_dim=8, depths=(1, 1, 1, 1), input_shape=(4, 32, 32, 3), classes=3)
        ...     model.compile("sgd", "categorical_crossentropy")
        >>> model = distribution.prepare(model)
        >>> distribution.process_index, distribution.process_count, distribution.replicas
        (0, 1, 1)
    """
    backend = keras.backend.backend()
    if choice("distribute", distribute, ("auto", None, *_BACKENDS)) == "auto":
        distribute = _of_backend(backend).suited()
    if distribute is None:
        return Distribution()
    if _BACKENDS[distribute] != backend:
        possible = " or ".join(f"'{name}'" for name, needed in _BACKENDS.items() if needed == backend)
        raise ValueError(
            f"distribute='{distribute}' needs the {_TITLES[_BACKENDS[distribute]]} backend; on {_TITLES[backend]} use "
            f"{possible}."
        )
    return _made(distribute)


@functools.cache
def _made(name):
    """Made once: a process can join the others once, and variables belong to the strategy they were made in."""
    return _of_backend(_BACKENDS[name]).WAYS[name]()


def _of_backend(backend):
    return importlib.import_module(f"keras_video_focalnet.training.distribution_{backend}")


class Distribution:
    """One process and one device; the other ways are its subclasses. `choose` makes them.

    Args:
        process_index: int, number of this process among those that train together.
        process_count: int, how many those are.
        replicas: int, devices that hold the model, over all processes.

    Example:
        >>> Distribution(process_index=1, process_count=2, replicas=4).process_batch(512)
        256
    """

    def __init__(self, process_index=0, process_count=1, replicas=1):
        self.process_index = process_index
        self.process_count = process_count
        self.replicas = replicas

    def scope(self):
        """The context in which to build a model and its optimizer, and to compile it."""
        return contextlib.nullcontext()

    def prepare(self, model):
        """Make `fit`, `evaluate` and `predict` of a model those of the distribution.

        What the model is saved as does not change, nor do its weights, but for those of other processes than the first,
        which become those of the first.

        All processes must give `fit`, `evaluate` and `predict` the same number of batches, each its own share (see
        `dataset`); all get the same logs and the predictions for the shares of all, batch by batch.

        Args:
            model: a Keras model that was built in `scope()`, compiled or to be compiled there.

        Returns:
            The model that was given.

        Raises:
            ValueError: the model was not built in `scope()`.
        """
        if not getattr(model, "_distributed", False):
            self._adapt(model)
            model._distributed = True
        self.synchronize(model)
        return model

    def synchronize(self, model):
        """Have all replicas start from the state of the first; to be called whenever variables were assigned.

        Weights, optimizer and metrics become equal. The seeds of random layers are drawn from the first replica's,
        another for each: two replicas must not drop the same. They depend on nothing else, so a run that goes on from
        the state of the first process draws what it would have drawn.

        Args:
            model: a Keras model that was prepared.
        """

    def dataset(self, batches):
        """What to give to `fit`, `evaluate` and `predict`.

        Args:
            batches: the batches of this process, of `process_batch(batch_size)` clips, as Keras takes them without a
                distribution; for `"multi_worker"` a `tf.data.Dataset`.

        Returns:
            The batches, as Keras takes them within the distribution.

        Raises:
            TypeError: the batches are not what the distribution can take.
        """
        return batches

    def process_batch(self, batch_size):
        """How many clips of every batch this process is to read.

        Args:
            batch_size: int, clips that a step sees over all replicas.

        Returns:
            int.

        Raises:
            ValueError: replicas would get unequal shares, whose mean gradient is not that of the batch.
        """
        if batch_size % self.replicas:
            raise ValueError(
                f"batch_size is {batch_size}, which {self.replicas} replicas cannot share equally; pass a multiple of "
                f"{self.replicas}."
            )
        return batch_size // self.process_count

    def _adapt(self, model):
        """Change the methods of a model that is prepared for the first time."""


def seed_states(model):
    """The variables of a model that hold the seeds of its random layers: `[seed, draws so far]` each."""
    known = {id(weight) for weight in model.weights}
    return list({id(v): v for v in model.variables if id(v) not in known}.values())


def seed_of_replica(seed, replica):
    """A seed for each replica, that of the first for the first.

    PyTorch's generator gets the sum of a seed and the number of draws, so neighbouring seeds would give the same draws
    a few steps apart.

    Args:
        seed: integer or integer tensor.
        replica: likewise, from 0.

    Example:
        >>> [seed_of_replica(7, replica) for replica in range(3)]
        [7, 1640531534, 1133579413]
    """
    return (seed + 1640531527 * replica) % 2**31
