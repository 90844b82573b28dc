"""Kernels, one function each; inside stands the fastest formulation for the running backend.

What lets a kernel choose a formulation and bring gradients of its own is in `keras_video_focalnet.ops.autodiff`.
"""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
"""A tensor of the running backend, or what Keras converts to one: a NumPy array, a variable, a symbolic tensor."""
