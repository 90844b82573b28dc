"""What a model gives where it is run once, and compiling it would take longer than it runs."""

from typing import Any

import keras
import numpy as np


def run_once(model: keras.Model, inputs: np.ndarray) -> Any:
    """Compute what a model infers for one batch, without gradients.

    `predict` lets XLA compile the model on TensorFlow, for minutes where it is large. JAX compiles it as a whole: one
    by one, it compiles every operation for every shape.

    Args:
        model: The model.
        inputs: An array that it takes.

    Returns:
        NumPy arrays in the structure of the model's output.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return model.predict_on_batch(inputs)
    if backend == "torch":
        import torch

        with torch.no_grad():
            given = model(inputs, training=False)
    else:
        given = model(inputs, training=False)
    return keras.tree.map_structure(lambda tensor: np.asarray(keras.ops.convert_to_numpy(tensor)), given)
