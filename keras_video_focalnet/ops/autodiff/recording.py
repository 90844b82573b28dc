"""Whether somebody wants gradients of what is computed now."""

import keras


def records_gradients() -> bool:
    """Whether the backend records operations now, to differentiate them later.

    PyTorch does so unless it is told not to, and TensorFlow while a `GradientTape` is open. JAX records nothing: it
    traces what it differentiates.
    """
    backend = keras.backend.backend()
    if backend == "torch":
        import torch

        return torch.is_grad_enabled()
    if backend == "tensorflow":
        from tensorflow.python.eager import record

        return record.could_possibly_record()
    return False
