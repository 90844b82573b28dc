"""What XLA compiles as one: less than it would on a CPU, more than it would, or a part of a graph."""

import functools
from collections.abc import Callable, Sequence

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import compiled_by_xla, on_cpu


def compiled_apart(function: Callable) -> Callable:
    """Have JAX on a CPU compile `function` as a computation of its own, whose inputs and outputs lie in memory.

    XLA fuses cheap operations into each of their consumers there, and so computes them again for each: a sum over
    shortcuts once for every later block, a gradient once for every tap of a kernel.
    """

    @functools.wraps(function)
    def call(*tensors):
        if keras.backend.backend() != "jax" or not on_cpu(None):
            return function(*tensors)
        import jax

        try:
            from jax.experimental.xla_metadata import set_xla_metadata
        except ImportError:  # An older JAX has none; it is slower without, and as exact.
            return function(*tensors)

        with set_xla_metadata(inlineable="false"):
            return jax.jit(function)(*tensors)

    return call


def region_pays(x: Tensor) -> bool:
    """Whether an operation on `x` gains by `xla_region`: in a TensorFlow graph on several GPUs.

    Under `MirroredStrategy` a step cannot be compiled as one; on a CPU TensorFlow's own graph is faster.
    """
    if keras.backend.backend() != "tensorflow" or compiled_by_xla():
        return False
    import tensorflow as tf

    distributed = tf.distribute.has_strategy() and tf.distribute.get_strategy().num_replicas_in_sync > 1
    return tf.inside_function() and distributed and not on_cpu(x)


def xla_region(function: Callable) -> Callable:
    """`function` as a region of a TensorFlow graph that XLA compiles; anywhere else a RuntimeError."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"A region compiled by XLA is part of a TensorFlow graph; on {keras.backend.backend()} "
            'compile the entire step, or force(modulation="inline").'
        )
    import tensorflow as tf

    if not tf.inside_function():
        raise RuntimeError("A region compiled by XLA is part of a TensorFlow graph; call the layer in a tf.function.")
    return tf.function(function, jit_compile=True, autograph=False)


def sums_in_one_pass(tensors: Sequence[Tensor], axes: tuple[int, ...]) -> list[Tensor]:
    """Sum of floating tensors of one shape over some axes, in one loop if XLA compiles it and one by one otherwise; of
    half precision in float32.
    """
    dtype = keras.backend.result_type(keras.backend.standardize_dtype(tensors[0].dtype), "float32")
    tensors = [ops.cast(tensor, dtype) for tensor in tensors]
    if not compiled_by_xla():
        return [ops.sum(tensor, axis=axes) for tensor in tensors]
    count = len(tensors)
    if keras.backend.backend() == "jax":
        import jax

        def add(totals, values):
            return [a + b for a, b in zip(totals, values, strict=True)]

        return jax.lax.reduce(tensors, [jax.numpy.zeros((), dtype)] * count, add, axes)
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_variadic_reduce_v2

    scalars = [tf.TensorSpec((), dtype)] * 2 * count
    add = tf.function(lambda *values: [a + b for a, b in zip(values[:count], values[count:], strict=True)])
    return xla_variadic_reduce_v2(
        inputs=tensors,
        init_values=[tf.zeros((), dtype)] * count,
        dimensions_to_reduce=list(axes),
        reducer=add.get_concrete_function(*scalars),
    )
