"""Convolution over time (paper Eq. 6, temporal branch)."""

from keras import ops


def temporal_conv(x, kernel):
    """Convolve over frames, full in channels, stride 1, zero padding that keeps the number of frames, no bias.

    A 2-D convolution with a `(k, 1)` window over `(frames, tokens)`: the network's temporal view needs no transpose.

    Args:
        x: `(batch, frames, tokens, channels)`, floating.
        kernel: `(k, 1, channels, filters)`, `k` odd, same dtype as `x`.

    Returns:
        `(batch, frames, tokens, filters)`, the dtype of `x`.

    Example:
    >>> temporal_conv(np.ones((1, 8, 49, 2), "float32"), np.ones((3, 1, 2, 4), "float32")).shape
    (1, 8, 49, 4)
    """
    return ops.conv(x, kernel, strides=1, padding="same", data_format="channels_last")
