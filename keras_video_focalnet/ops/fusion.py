"""What XLA on a CPU would fuse too much, or not at all."""

import functools

import keras
from keras import ops

from keras_video_focalnet.ops.formulation import compiled_by_xla, on_cpu


def compiled_apart(function):
    """Have XLA on JAX on a CPU compile `function` as a computation of its own: inputs and outputs lie in memory.

    There XLA fuses cheap operations into each of their consumers, and so computes them again for each: a sum over
    shortcuts once for every later block, a gradient once for every tap of a kernel.

    Args:
        function: from tensors to a tensor or a tuple of them.

    Returns:
        A function of the same arguments and results.

    Example:
    >>> double = compiled_apart(lambda x: x + x)
    >>> float(double(ops.convert_to_tensor(2.0)))
    4.0
    """

    @functools.wraps(function)
    def apart(*tensors):
        if keras.backend.backend() != "jax" or not on_cpu(None):
            return function(*tensors)
        import jax

        try:
            from jax.experimental.xla_metadata import set_xla_metadata
        except ImportError:  # an older JAX: slower, no more
            return function(*tensors)

        with set_xla_metadata(inlineable="false"):
            return jax.jit(function)(*tensors)

    return apart


def region_pays(x):
    """Whether an operation on `x` gains by `xla_region`: in a TensorFlow graph on several GPUs.

    Under `MirroredStrategy` a step cannot be compiled as a whole; on a CPU TensorFlow's own graph is the faster.
    """
    if keras.backend.backend() != "tensorflow" or compiled_by_xla():
        return False
    import tensorflow as tf

    distributed = tf.distribute.has_strategy() and tf.distribute.get_strategy().num_replicas_in_sync > 1
    return tf.inside_function() and distributed and not on_cpu(x)


def xla_region(function):
    """`function` as a region of a TensorFlow graph that XLA compiles; anywhere else an error.

    Args:
        function: from a tensor to tensors.

    Raises:
        RuntimeError: if the backend is another, or the region would not be part of a graph.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"A region compiled by XLA is part of a TensorFlow graph; on {keras.backend.backend()} "
            'compile the whole step, or force(modulation="inline").'
        )
    import tensorflow as tf

    if not tf.inside_function():
        raise RuntimeError("A region compiled by XLA is part of a TensorFlow graph; call the layer in a tf.function.")
    return tf.function(function, jit_compile=True, autograph=False)


def sums_in_one_pass(tensors, axes):
    """Sums of several tensors of one shape in one loop of XLA's; where XLA does not compile, one by one.

    Args:
        tensors: list of floating tensors of one shape.
        axes: tuple of int, the axes to sum over.

    Returns:
        A list of tensors, float32 if the tensors were of half precision.

    Example:
    >>> [float(total) for total in sums_in_one_pass([ops.ones(3), ops.zeros(3)], (0,))]
    [3.0, 0.0]
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
