"""A dense layer on this package's fastest matrix product."""

import gc
import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.autodiff.formulation import half_precision_by_context
from keras_video_focalnet.ops.gelu import ACTIVATIONS, activation
from keras_video_focalnet.ops.linear import linear, linears
from keras_video_focalnet.utils.checks import check_choice

# Where PyTorch keeps the hooks of a module.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def composes(layers: Sequence[keras.layers.Layer], x: Any, dtype: str) -> bool:
    """Whether all of these layers are dense layers of ours of which `FusedDense.composes` says so."""
    return all(isinstance(layer, FusedDense) and layer.composes(x, dtype) for layer in layers)


@saved_as("Dense")
@widening
class FusedDense(keras.layers.Dense):
    """Keras's dense layer, called `Dense` in files (see `saved_as`), with the bias added in the same pass.

    Args:
        units: Channels of the output, an integer of at least 1; or a sequence of several such, which gives a tuple of
            as many tensors, each from a product of its own, which costs less than to split one.
        activate: True passes the output through the exact GELU (Hendrycks and Gimpel 2016), `"quick_gelu"` through the
            approximation of it that is CLIP's, `x * sigmoid(1.702 x)`; False, the default, through none.
        **kwargs: Arguments of `keras.layers.Dense`, of which `use_bias` and `activation` stay as they are there by
            default.

    Input shape: `(..., channels)`, floating.

    Output shape: `(..., units)`, or a tuple of such.

    Raises:
        ValueError: `activate` is none of the above, `units` is no positive integer, `use_bias` is False, or there is an
            `activation`.

    Example:
    >>> FusedDense(6, activate=True)(keras.ops.ones((2, 4))).shape
    (2, 6)
    """

    def __init__(self, units: int | Sequence[int], activate: bool | str = False, **kwargs: Any):
        self._has_several_outputs = isinstance(units, (list, tuple))
        self.groups = tuple(units) if self._has_several_outputs else (units,)
        super().__init__(sum(self.groups), **kwargs)
        if not self.use_bias or self.activation is not keras.activations.linear:
            raise ValueError(
                f"use_bias must be True and activation None, received use_bias={self.use_bias!r}, "
                f"activation={self.activation!r}; pass activate=True for a GELU or take keras.layers.Dense."
            )
        self.activate = check_choice("activate", activate, ACTIVATIONS)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        kernel, bias = self.kernel, self.bias
        if not self._has_several_outputs:
            return linear(inputs, kernel, bias, self.activate)
        ends = list(itertools.accumulate(self.groups))
        columns = [slice(end - units, end) for end, units in zip(ends, self.groups, strict=True)]
        return tuple(linears(inputs, [(kernel[:, group], bias[group]) for group in columns], self.activate))

    def composes(self, x: Any, dtype: str) -> bool:
        """Whether another operation that computes in `dtype` may take the product over, and its gradients, given a
        tensor of what the operation gets.

        The layer trains, is neither quantized nor adapted by LoRA, computes in that dtype too, and PyTorch's autocast
        does not choose another; and nobody waits for the layer to be called: no subclass, no hook of PyTorch, no loss
        of its output, no layout of its output by `keras.distribution`.
        """
        plain = self.trainable and self.quantization_mode is None and not self.lora_enabled
        watched = any(getattr(self, hooks, None) for hooks in _HOOKS) or self.activity_regularizer is not None
        watched = watched or type(self) is not FusedDense or keras.distribution.distribution() is not None
        return plain and not watched and self.compute_dtype == dtype and not half_precision_by_context(x)

    def weights_of_product(self) -> tuple[Any, Any]:
        """The kernel and the bias, in the dtype that the layer computes in."""
        return ops.cast(self.kernel, self.compute_dtype), ops.cast(self.bias, self.compute_dtype)

    def quantize(self, mode: str | None = None, type_check: bool = True, **kwargs: Any) -> None:
        """Quantizes the kernel, as `keras.layers.Dense.quantize` does.

        Keras's `type_check` refuses every subclass, so it is not passed on. Keras also collects garbage in the whole
        process after every layer, though counted references already free the kernel: that took 48 of 48.5 s for
        Video-FocalNet-Tiny. Freezing what exists keeps the collector from looking through it.
        """
        freeze = not gc.get_freeze_count()
        if freeze:
            gc.freeze()
        try:
            super().quantize(mode, type_check=False, **kwargs)
        finally:
            if freeze:
                gc.unfreeze()

    def quantized_call(self, *args: Any, **kwargs: Any) -> Any:
        """Computes the product of quantized matrices, which Keras does in one."""
        output = activation(super().quantized_call(*args, **kwargs), self.activate)
        if not self._has_several_outputs:
            return output
        return tuple(ops.split(output, list(itertools.accumulate(self.groups))[:-1], axis=-1))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> Any:
        shapes = tuple((*input_shape[:-1], units) for units in self.groups)
        return shapes if self._has_several_outputs else shapes[0]

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["activation"]
        units = self.groups if self._has_several_outputs else self.units
        return {**config, "units": units, "activate": self.activate}
