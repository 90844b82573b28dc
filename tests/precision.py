"""float64 on every backend, and float32 in which operations round once."""

import contextlib
import functools
import types
from unittest import mock

import keras
from keras import ops
from keras.src.backend.common import dtypes

from keras_video_focalnet.layers import (
    focal_block,
    focal_modulation,
    fused_dense,
    fused_layer_normalization,
    patch_embedding,
)

# The operations that sum over channels, windows or tokens, some with a GELU in between.
OPERATIONS = {
    fused_dense: ("linear", "linears"),
    focal_modulation: ("aggregate", "modulator", "product", "projected_product", "depthwise_conv2d"),
    focal_block: ("mlp",),
    fused_layer_normalization: ("layer_norm",),
}
OF_KERAS = {patch_embedding: "conv"}


@contextlib.contextmanager
def double_precision():
    """Let a model with `dtype="float64"` compute in it.

    On JAX and PyTorch Keras takes float64 for float32 wherever it works a type out, so that such a model loses half of
    its digits on the way; JAX has to be told besides.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.dict(dtypes.BIT64_TO_BIT32_DTYPE, float64="float64"))
        if keras.backend.backend() == "jax":
            import jax

            stack.enter_context(jax.enable_x64(True))
        yield


@contextlib.contextmanager
def rounded_once():
    """Let the operations of a float32 model, and their gradients, work in float64 and round their results to float32.

    What a backend's kernels add by rounding every partial sum is then gone. Left as they are, in float32: the mean
    before the classifier, the classifier, the loss, and the sums in the gradients of biases of convolutions and of
    layer scales.
    """
    with double_precision(), contextlib.ExitStack() as stack:
        for module, names in OPERATIONS.items():
            for name in names:
                stack.enter_context(mock.patch.object(module, name, _rounding_once(getattr(module, name))))
        for module, name in OF_KERAS.items():
            namespace = types.SimpleNamespace(**{**vars(ops), name: _rounding_once(getattr(ops, name))})
            stack.enter_context(mock.patch.object(module, "ops", namespace))
        yield


def _rounding_once(operation):
    @functools.wraps(operation)
    def rounded(*arguments, **options):
        options = {name: _cast(value, "float32", "float64") for name, value in options.items()}
        return _cast(operation(*_cast(arguments, "float32", "float64"), **options), "float64", "float32")

    return rounded


def _cast(value, old, new):
    """`value`, or all in it if it is a sequence, cast to the type `new` where its type is `old`."""
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        sequence = tuple if isinstance(value, tuple) else list
        return sequence(_cast(each, old, new) for each in value)
    is_tensor = isinstance(value, keras.Variable) or keras.ops.is_tensor(value)
    return ops.cast(value, new) if is_tensor and keras.backend.standardize_dtype(value.dtype) == old else value
