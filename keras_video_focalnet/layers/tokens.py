"""The check of their input that layers share which work on tokens of a grid."""

from collections.abc import Sequence
from typing import Any

import keras


def check_tokens(layer: keras.layers.Layer, input_shape: Sequence[int | None]) -> None:
    """Checks that an input is `(batch, frames, height * width, channels)` for the layer's `grid_size`."""
    height, width = layer.grid_size
    if len(input_shape) != 4 or input_shape[2] != height * width or input_shape[3] is None:
        raise ValueError(
            f"{type(layer).__name__} takes inputs of shape (batch, frames, height * width, channels) = "
            f"(batch, frames, {height * width}, channels) for grid_size={layer.grid_size}, received shape "
            f"{tuple(input_shape)}. Reshape (batch, frames, height, width, channels) so that the two spatial axes are "
            "one, or pass the grid_size of your input."
        )


def check_tubelets(frames: Any, tubelet_size: int) -> None:
    """Checks that frames, where their number is known, are a multiple of those of a tubelet."""
    if isinstance(frames, int) and frames % tubelet_size:
        raise ValueError(
            f"The clip has {frames} frames, which tubelet_size={tubelet_size} does not divide; pass a multiple of "
            f"{tubelet_size} frames."
        )


def check_called_on(layer: keras.layers.Layer, inputs: Any) -> None:
    """Checks the shape of what a layer is called on, as far as it is known.

    `torch.compile` traces sizes as symbols. The comparison makes the tokens' number a constant to it, without which
    its code generator cannot order the strides of what the layer reshapes.
    """
    shape = inputs.shape
    # A size is None where a graph of TensorFlow leaves it open, and a tensor while `torch.jit` traces.
    unknown = len(shape) == 4 and any(size is None or keras.ops.is_tensor(size) for size in shape[2:])
    if not unknown:
        check_tokens(layer, shape)
