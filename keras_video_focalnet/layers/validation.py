"""Checks that several layers share."""


def grid_of(grid_size):
    """`(height, width)` as a tuple of positive integers, from one integer or a pair."""
    grid = (grid_size, grid_size) if isinstance(grid_size, int) else tuple(grid_size)
    if len(grid) != 2 or not all(isinstance(side, int) and side > 0 for side in grid):
        raise ValueError(f"grid_size must be a positive integer or (height, width), received {grid_size!r}.")
    return grid


def check_tokens(layer, input_shape):
    """Raise unless `input_shape` is `(batch, frames, height * width, channels)` for the layer's `grid_size`."""
    height, width = layer.grid_size
    if len(input_shape) != 4 or input_shape[2] != height * width or input_shape[3] is None:
        raise ValueError(
            f"{type(layer).__name__} takes inputs of shape (batch, frames, height * width, channels) = "
            f"(batch, frames, {height * width}, channels) for grid_size={layer.grid_size}, received shape "
            f"{tuple(input_shape)}. Reshape (batch, frames, height, width, channels) so that the two spatial axes are "
            "one, or pass the grid_size of your input."
        )


def choice(name, value, choices):
    """`value`, one of `choices` and of its type: 1 is not True."""
    if not any(type(value) is type(item) and value == item for item in choices):
        listed = ", ".join('"' + item + '"' if isinstance(item, str) else str(item) for item in choices)
        raise ValueError(f"{name} must be one of {listed}; received {value!r}.")
    return value
