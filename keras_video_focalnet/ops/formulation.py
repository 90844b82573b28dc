"""The former place of `force`, which is in `keras_video_focalnet.ops.autodiff.formulation`."""

import warnings

from keras_video_focalnet.ops.autodiff import formulation


def __getattr__(name):
    value = getattr(formulation, name)
    if not name.startswith("__"):
        warnings.warn(
            f"keras_video_focalnet.ops.formulation.{name} is keras_video_focalnet.ops.autodiff.formulation.{name}.",
            DeprecationWarning,
            stacklevel=2,
        )
    return value
