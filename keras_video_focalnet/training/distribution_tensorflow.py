"""Training on several devices or in several processes with TensorFlow: `tf.distribute` strategies."""

import json
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import keras

from keras_video_focalnet.training.distribution import Distribution, replica_seed, seed_states

if TYPE_CHECKING:
    import tensorflow as tf


def suitable_method() -> str | None:
    """Name the method that suits the processes of the environment and the devices of this one, if any does."""
    if len(_workers()) > 1:
        return "multi_worker"
    import tensorflow as tf

    return "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else None


def _workers() -> list[tuple[str, int]]:
    """List the processes of `TF_CONFIG`, `(type, index)` each, in the order of their replicas."""
    cluster = json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {})
    return [(kind, index) for kind in ("chief", "worker") for index in range(len(cluster.get(kind, ())))]


class _Strategy(Distribution):
    """A distribution by a strategy of TensorFlow's.

    With `jit_compile="auto"` XLA does not compile an entire step; on GPUs the layers compile regions of it.
    """

    def __init__(self, strategy: "tf.distribute.Strategy", process_index: int = 0, process_count: int = 1):
        super().__init__(process_index, process_count, strategy.num_replicas_in_sync)
        self.strategy = strategy

    def scope(self) -> AbstractContextManager:
        return self.strategy.scope()

    def synchronize(self, model: keras.Model) -> None:
        """Give each replica seeds of its own; the strategy itself keeps weights equal."""
        import tensorflow as tf

        states = seed_states(model)
        if not states:
            return

        def replica():
            return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, states[0].dtype)

        @tf.function(autograph=False)
        def states_or_zeros():
            return tf.where(replica() == 0, tf.stack([state.value for state in states]), 0)

        @tf.function(autograph=False)
        def assign(first_states):
            for state, (seed, draws) in zip(states, map(tf.unstack, tf.unstack(first_states)), strict=True):
                state.assign(tf.stack([replica_seed(seed, replica()), draws]))

        # The other replicas add zeros, so the sum is the states of the first.
        first_states = self.strategy.reduce("SUM", self.strategy.run(states_or_zeros), axis=None)
        self.strategy.run(assign, (first_states,))

    def _adapt(self, model: keras.Model) -> None:
        created_in_scope = self.strategy.extended.variable_created_in_scope
        if not all(created_in_scope(variable.value) for variable in model.variables):
            raise ValueError("model was built outside the distribution; build it inside `with distribution.scope():`.")
        train_step = model.train_step

        def step(data):
            _clip_sums(model.optimizer)
            return train_step(data)

        model.train_step = step


def _clip_sums(optimizer: keras.optimizers.Optimizer) -> None:
    """Have an optimizer clip the gradients once they are summed over the replicas, as a single device would.

    Keras clips the gradients of each replica, and sums the clipped ones.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if getattr(optimizer, "_clips_sums", False):
        return
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            f"gradient_accumulation_steps is {optimizer.gradient_accumulation_steps}, but under tf.distribute Keras "
            "cannot accumulate; take larger batches, or 'data_parallel' on JAX, 'process_group' on PyTorch."
        )
    clip, sum_over_replicas = optimizer._clip_gradients, optimizer._all_reduce_sum_gradients

    def sum_and_clip(grads_and_vars):
        grads, variables = zip(*sum_over_replicas(grads_and_vars), strict=True)
        return list(zip(clip(list(grads)), variables, strict=True))

    optimizer._clip_gradients = lambda grads: grads
    optimizer._all_reduce_sum_gradients = sum_and_clip
    optimizer._clips_sums = True


class Mirrored(_Strategy):
    """`tf.distribute.MirroredStrategy`: one process, several devices."""

    def __init__(self):
        import tensorflow as tf

        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        super().__init__(tf.distribute.MirroredStrategy([device.name for device in devices]))


class MultiWorker(_Strategy):
    """`tf.distribute.MultiWorkerMirroredStrategy`: several processes, each with all GPUs of its machine or its CPU.

    Keras 3 does not support it by itself: its `fit` may take a batch on another worker as the example of the data, and
    it cannot average scalar logs over workers.
    """

    def __init__(self):
        import tensorflow as tf

        workers = _workers()
        if len(workers) < 2:
            raise ValueError(
                "distribute='multi_worker' needs the environment variable TF_CONFIG to list two processes or more, "
                f"received {os.environ.get('TF_CONFIG')!r}; set it to "
                '{"cluster": {"worker": ["HOST0:PORT", "HOST1:PORT"]}, "task": {"type": "worker", "index": 0}} with '
                "the index of each process."
            )
        task = json.loads(os.environ["TF_CONFIG"])["task"]
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        super().__init__(strategy, workers.index((task["type"], int(task["index"]))), len(workers))

    def dataset(self, batches: "tf.data.Dataset") -> Any:
        import tensorflow as tf

        if not isinstance(batches, tf.data.Dataset):
            raise TypeError(
                f"batches must be a tf.data.Dataset, received {type(batches).__name__}; take tf_data() of a "
                "ClipDataset, or tf.data.Dataset.from_generator."
            )
        parts = self.replicas // self.process_count
        if parts > 1:
            batches = split_batches(batches, parts)
        return self.strategy.distribute_datasets_from_function(lambda context: batches)

    def _adapt(self, model: keras.Model) -> None:
        super()._adapt(model)
        build, train_step, test_step = model._maybe_symbolic_build, model.train_step, model.test_step

        def build_with_own_batch(iterator=None, data_batch=None):
            if model.jit_compile or model.steps_per_execution > 1:
                raise ValueError(
                    f"jit_compile is {model.jit_compile} and steps_per_execution {model.steps_per_execution}, but "
                    "distribute='multi_worker' can do neither; compile the model with False and 1."
                )
            if iterator is not None:
                _, _, batches = next(iter(iterator))
                local_results = self.strategy.experimental_local_results
                data_batch = keras.tree.map_structure(lambda values: local_results(values)[0], next(batches))
            build(data_batch=data_batch)

        model._maybe_symbolic_build = build_with_own_batch
        model.train_step = lambda data: _as_vectors(train_step(data))
        model.test_step = lambda data: _as_vectors(test_step(data))


def _as_vectors(logs: Any) -> Any:
    """Turn scalars into vectors of one element: the strategy needs an axis to average over workers."""
    return keras.tree.map_structure(lambda value: keras.ops.reshape(value, (1,)), logs)


def split_batches(batches: "tf.data.Dataset", parts: int) -> "tf.data.Dataset":
    """Split each batch of a data set into equal parts, which follow one another."""
    import tensorflow as tf

    def split(*batch):
        return tf.nest.map_structure(lambda array: tf.stack(tf.split(array, parts)), batch)

    return batches.map(split).unbatch()


METHODS = {"mirrored": Mirrored, "multi_worker": MultiWorker}
