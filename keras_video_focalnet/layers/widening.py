"""Layers of half precision that compute in float32 on a CPU where that is faster."""

import functools
from typing import Any, TypeVar

import keras

from keras_video_focalnet.ops.half_precision import cast_half, computes_in, is_widened, widened

T = TypeVar("T", bound=type)


def widening(cls: T) -> T:
    """Makes layers of a class compute in float32 where half precision does not pay, see `ops.half_precision`.

    What is called from outside widens its inputs and rounds its results; the layers of this kind that it calls compute
    in float32 throughout, whose `compute_dtype` is float32 as long. Policies and variables stay as they are.
    """
    inherited, call = cls.compute_dtype, cls.call

    @functools.wraps(call)
    def widening_call(self, *args: Any, **kwargs: Any) -> Any:
        dtype, tensor = inherited.fget(self), _first_tensor(args or tuple(kwargs.values()))
        if tensor is None or not is_widened(dtype, tensor):
            return call(self, *args, **kwargs)
        with widened():
            outputs = call(self, *cast_half(args, "float32"), **cast_half(kwargs, "float32"))
        return cast_half(outputs, dtype)

    cls.compute_dtype = property(lambda self: computes_in(inherited.fget(self)), doc=inherited.__doc__)
    cls.call = widening_call
    return cls


def _first_tensor(arguments):
    return next((leaf for leaf in keras.tree.flatten(arguments) if keras.ops.is_tensor(leaf)), None)
