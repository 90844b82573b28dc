"""Batch normalization over channels (Ioffe and Szegedy 2015), in as few passes over memory as the backend has."""

import keras
from keras import ops

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.formulation import choose, compiled_by_xla


def batch_norm(x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """Normalize every channel of `(..., channels)` by a given mean and variance, then scale and shift it by `gamma` and
    `beta`; all four are of shape `(channels,)` and of the dtype of `x`.
    """
    x, *parameters = map(ops.convert_to_tensor, (x, mean, variance, gamma, beta))
    formulations = {"library": _library, "plain": _plain}
    return choose("batch_norm", formulations, "library" if _has_library(x) else "plain")(x, *parameters, epsilon)


def batch_norm_in_training(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """As `batch_norm` by the mean and the biased variance of `x` itself.

    Returns:
        The normalized tensor, the mean, and the unbiased variance, larger by `n / (n - 1)` for `n` values of a channel;
        of the latter two no gradient is taken.
    """
    x, gamma, beta = map(ops.convert_to_tensor, (x, gamma, beta))
    formulations = {"library": _library_in_training, "plain": _plain_in_training}
    return choose("batch_norm", formulations, "library" if _has_library(x) else "plain")(x, gamma, beta, epsilon)


def _has_library(x):
    """Whether the library takes `x`: TensorFlow wants pictures in float32, and XLA fuses what is written out."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return len(x.shape) == 4 and keras.backend.standardize_dtype(x.dtype) == "float32" and not compiled_by_xla()
    return backend == "torch"


def _plain(x, mean, variance, gamma, beta, epsilon):
    return (x - mean) * (gamma * ops.rsqrt(variance + epsilon)) + beta


def _plain_in_training(x, gamma, beta, epsilon):
    axes = tuple(range(len(x.shape) - 1))
    mean = ops.mean(x, axis=axes)
    variance = ops.mean(ops.square(x - mean), axis=axes)
    count = ops.cast(ops.prod(ops.shape(x)[:-1]), x.dtype)
    unbiased = variance * (count / ops.maximum(count - 1, 1))
    return _plain(x, mean, variance, gamma, beta, epsilon), ops.stop_gradient(mean), ops.stop_gradient(unbiased)


def _library(x, mean, variance, gamma, beta, epsilon):
    if keras.backend.backend() == "torch":
        from torch.nn.functional import batch_norm as library

        # Channels stay last in memory.
        return library(x.movedim(-1, 1), mean, variance, gamma, beta, eps=epsilon).movedim(1, -1)
    import tensorflow as tf

    options = {"mean": mean, "variance": variance, "epsilon": epsilon, "is_training": False}
    return tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, **options)[0]


def _library_in_training(x, gamma, beta, epsilon):
    if keras.backend.backend() == "torch":
        from torch.nn.functional import batch_norm as library

        # With a momentum of 1 these become the statistics of this batch.
        mean, variance = x.new_zeros(x.shape[-1]), x.new_ones(x.shape[-1])
        moved = library(x.movedim(-1, 1), mean, variance, gamma, beta, True, 1.0, epsilon)
        return moved.movedim(1, -1), mean, variance
    import tensorflow as tf

    normalized, mean, unbiased = tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)
    return normalized, tf.stop_gradient(mean), tf.stop_gradient(unbiased)
