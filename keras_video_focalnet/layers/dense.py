"""A dense layer on this package's fastest matrix product."""

import gc
import itertools

import keras
from keras import ops

from keras_video_focalnet.ops.gelu import gelu
from keras_video_focalnet.ops.linear import linear, linears


@keras.saving.register_keras_serializable(package="keras_video_focalnet")
class Dense(keras.layers.Dense):
    """Keras's dense layer with the bias added in the same pass, and its output in several tensors where asked for.

    Args:
        units: int, or several: then the output is as many tensors, each from a product of its own, which costs less
            than to split one.
        activate: bool, exact GELU of the output.
        **kwargs: of `keras.layers.Dense`, without `activation` and `use_bias`.

    Input shape: `(..., channels)`, floating.

    Returns: `(..., units)`, or a list of such.

    Example:
    >>> query, context = Dense((4, 2))(np.ones((1, 8, 49, 4), "float32"))
    >>> context.shape
    (1, 8, 49, 2)
    """

    def __init__(self, units, activate=False, **kwargs):
        self._several = isinstance(units, (list, tuple))
        self.groups = tuple(units) if self._several else (units,)
        super().__init__(sum(self.groups), **kwargs)
        if not self.use_bias or self.activation is not keras.activations.linear:
            raise ValueError(
                f"use_bias must be True and activation None, received use_bias={self.use_bias!r}, "
                f"activation={self.activation!r}; pass activate=True for a GELU or take keras.layers.Dense."
            )
        self.activate = activate

    def call(self, inputs, training=None):
        kernel, bias = self.kernel, self.bias
        if not self._several:
            return linear(inputs, kernel, bias, self.activate)
        ends = list(itertools.accumulate(self.groups))
        columns = [slice(end - units, end) for end, units in zip(ends, self.groups, strict=True)]
        return linears(inputs, [(kernel[:, some], bias[some]) for some in columns], self.activate)

    def quantize(self, mode=None, type_check=True, **kwargs):
        """As Keras's own, which by `type_check` would refuse every subclass.

        Keras looks for garbage in the whole process after every layer, though reference counts free the kernel: 48 of
        48.5 s for Tiny. What is frozen is not looked through.
        """
        freeze = not gc.get_freeze_count()
        if freeze:
            gc.freeze()
        try:
            super().quantize(mode, type_check=False, **kwargs)
        finally:
            if freeze:
                gc.unfreeze()

    def quantized_call(self, *args, **kwargs):
        """The product of quantized matrices, which Keras does in one."""
        output = super().quantized_call(*args, **kwargs)
        if self.activate:
            output = gelu(output)
        return ops.split(output, list(itertools.accumulate(self.groups))[:-1], axis=-1) if self._several else output

    def compute_output_shape(self, input_shape):
        shapes = [(*input_shape[:-1], units) for units in self.groups]
        return shapes if self._several else shapes[0]

    def get_config(self):
        config = super().get_config()
        del config["activation"]
        return {**config, "units": self.groups if self._several else self.units, "activate": self.activate}
