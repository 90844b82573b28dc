"""Inter-frame attention as a layer on the tokens of a clip."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_video_focalnet.layers.serialization import saved_as
from keras_video_focalnet.layers.tokens import check_called_on, check_tokens
from keras_video_focalnet.layers.widening import widening
from keras_video_focalnet.ops.inter_frame_attention import inter_frame_attention
from keras_video_focalnet.utils.checks import check_integer, check_size, fail


@saved_as("InterFrameAttention")
@widening
class InterFrameAttention(keras.layers.Layer):
    """Lets every place of a frame attend to a window of the next frame (SIFA, Long et al., CVPR 2022).

    The similarity of a place to a tap of the window is the mean over channels of the products of both; the output is
    the sum of the taps, each weighted by its similarity. No softmax makes shares of the similarities, and nothing is
    projected: the input is query, key and value. Offsets displace the taps, which are then read bilinearly. What lies
    outside the frame is zero. The last frame, which has no next one, gets zeros.

    Args:
        grid_size: `(height, width)` of the tokens of a frame, or one integer for both.
        kernel_size: Side of the window, an odd integer; 3 by default.
        dilation: Distance of neighbouring taps, an integer of at least 1; 1 by default.
        **kwargs: Arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: `(batch, frames, height * width, channels)`, floating.
        offsets: `(batch, frames - 1, height * width, 2 * kernel_size**2)`, floating: for every frame but the last, how
            far the taps in the next frame are displaced, in places; of each tap first down, then right, taps in
            row-major order. None, the default, displaces none.

    Returns:
        The output, of the shape of `inputs`, and the similarities, `(batch, frames - 1, height * width,
        kernel_size**2)`.

    Raises:
        ValueError: An argument is out of its range, the input does not fit `grid_size` or has less than 2 frames, or
            `offsets` is of another shape.

    Example:
    >>> output, similarities = InterFrameAttention(grid_size=7)(np.ones((1, 4, 49, 16), "float32"))
    >>> output.shape, similarities.shape
    ((1, 4, 49, 16), (1, 3, 49, 9))
    """

    def __init__(self, grid_size: int | tuple[int, int], kernel_size: int = 3, dilation: int = 1, **kwargs: Any):
        super().__init__(**kwargs)
        self.grid_size = check_size("grid_size", grid_size)
        self.kernel_size = check_odd("kernel_size", kernel_size)
        self.dilation = check_integer("dilation", dilation, minimum=1)
        self._build_at_init()

    def call(self, inputs: Any, offsets: Any = None) -> tuple[Any, Any]:
        check_called_on(self, inputs)
        self._check_shapes(inputs.shape, None if offsets is None else offsets.shape)
        height, width = self.grid_size
        channels, taps = inputs.shape[-1], self.kernel_size**2
        batch, frames = ops.shape(inputs)[:2]
        queries = ops.reshape(inputs[:, :-1], (-1, height, width, channels))
        keys = ops.reshape(inputs[:, 1:], (-1, height, width, channels))
        if offsets is not None:
            offsets = ops.reshape(offsets, (-1, height, width, 2 * taps))
        sums, similarities = inter_frame_attention(queries, keys, offsets, self.kernel_size, self.dilation)
        # The batch stands in the shapes: -1 tells nothing where there are no frames.
        sums = ops.reshape(sums, (batch, frames - 1, height * width, channels))
        similarities = ops.reshape(similarities, (batch, frames - 1, height * width, taps))
        return ops.pad(sums, ((0, 0), (0, 1), (0, 0), (0, 0))), similarities

    def _check_shapes(self, shape, offsets_shape):
        frames = shape[1]
        if isinstance(frames, int) and frames < 2:
            raise ValueError(
                f"InterFrameAttention needs at least 2 frames, received {frames}; pass longer clips, so that a frame "
                "has a next one."
            )
        if offsets_shape is None:
            return
        known = frames - 1 if isinstance(frames, int) else None
        wanted = (shape[0], known, shape[2], 2 * self.kernel_size**2)
        fits = len(offsets_shape) == 4 and all(
            not isinstance(size, int) or not isinstance(given, int) or size == given
            for size, given in zip(wanted, offsets_shape, strict=True)
        )
        if not fits:
            raise ValueError(
                f"offsets must be of shape (batch, frames - 1, height * width, 2 * kernel_size**2) = {wanted}, "
                f"received {tuple(offsets_shape)}; give every tap of the window a displacement down and one to "
                "the right, for every frame but the last."
            )

    def compute_output_shape(
        self, inputs_shape: Sequence[int | None], offsets_shape: Sequence[int | None] | None = None
    ) -> tuple[tuple[int | None, ...], tuple[int | None, ...]]:
        check_tokens(self, inputs_shape)
        batch, frames, places, _ = inputs_shape
        following = None if frames is None else frames - 1
        return tuple(inputs_shape), (batch, following, places, self.kernel_size**2)

    def count_macs(self, input_shape: Sequence[int], with_offsets: bool = False) -> int:
        """Counts the multiply-adds of one call, given the static shape of its input.

        For each tap and channel one compares and one sums, and four read where there are offsets. Every frame is
        counted, as in the paper's code, though the last one attends to nothing.
        """
        return (6 if with_offsets else 2) * math.prod(input_shape) * self.kernel_size**2

    def get_config(self) -> dict[str, Any]:
        arguments = ("grid_size", "kernel_size", "dilation")
        return {**super().get_config(), **{name: getattr(self, name) for name in arguments}}


def check_odd(name: str, value: Any) -> int:
    """Checks the side of a window that has a place in its middle."""
    if check_integer(name, value, minimum=1) % 2 == 0:
        raise fail(name, "an odd integer", value, "a window of an even side has no place in its middle")
    return int(value)
