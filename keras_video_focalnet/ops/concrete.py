"""Whether a tensor has values already, and where they lie."""

from typing import Any

import keras
import numpy as np


def is_concrete(x: Any) -> bool:
    """Whether `x` is an array or a tensor whose values are there, and not one of a graph that is being traced."""
    if isinstance(x, np.ndarray):
        return True
    if not keras.ops.is_tensor(x):
        return False
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return not tf.is_symbolic_tensor(x) and hasattr(x, "numpy")
    if backend == "jax":
        import jax

        return not isinstance(x, jax.core.Tracer)
    import torch

    # Tensors of transformations and of graphs have no memory of their own, or are of a class of their own.
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not traced and type(x) in (torch.Tensor, torch.nn.Parameter) and not _transformed(x) and not x.is_meta


def _transformed(x):
    import torch

    return torch._C._functorch.is_functorch_wrapped_tensor(x)


def in_host_memory(x: Any) -> bool:
    """Whether the values of a concrete array or tensor can be read without waiting for an accelerator."""
    if isinstance(x, np.ndarray):
        return True
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return x.device.upper().endswith("CPU:0")
    if backend == "jax":
        return all(device.platform == "cpu" for device in x.devices())
    return x.device.type == "cpu"
