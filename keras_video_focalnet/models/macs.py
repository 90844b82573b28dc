"""Cost of a model in multiply-adds."""

import keras


def count_macs(model):
    """Count the multiply-adds of one clip in the matrix products and convolutions of a model.

    Element-wise work (norms, gates, GELU) is left out, as in the figures that papers print.

    Args:
        model: a built `VideoFocalNet` with a fixed number of frames, or a model that has one inside.

    Returns:
        int, multiply-adds for a batch of one.

    Raises:
        ValueError: if the model's number of frames is None.

    Example:
    >>> count_macs(VideoFocalNetT(weights=None)) / 1e9
    63.0...
    """
    frames = model.inputs[0].shape[1]
    if frames is None:
        raise ValueError("The model takes any number of frames; build it with input_shape=(frames, height, width, 3).")
    total = 0
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            total += count_macs(layer)
        elif hasattr(layer, "count_macs"):
            total += layer.count_macs((1, *layer.input.shape[1:]))
        elif isinstance(layer, keras.layers.Dense):
            total += layer.kernel.shape[0] * layer.kernel.shape[1]
    return total
