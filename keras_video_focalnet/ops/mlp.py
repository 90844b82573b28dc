"""Two dense layers with a GELU between them."""

from keras_video_focalnet.ops import Tensor
from keras_video_focalnet.ops.autodiff.gradients import computed_again, keeping, with_gradients
from keras_video_focalnet.ops.gelu import gelu, gelu_gradient
from keras_video_focalnet.ops.linear import linear, linear_gradients


def mlp(x: Tensor, hidden: tuple[Tensor, Tensor], output: tuple[Tensor, Tensor]) -> Tensor:
    """`linear(gelu(linear(x, *hidden)), *output)`, for training.

    The backward pass keeps `x` and what the GELU is given. What the GELU gives it computes again, which takes little
    time; the automatic gradient keeps both, and they are the largest tensors of a block.
    """
    return _mlp(x, *hidden, *output)


@with_gradients
def _mlp(x, kernel_1, bias_1, kernel_2, bias_2):
    hidden = linear(x, kernel_1, bias_1)
    return linear(gelu(hidden), kernel_2, bias_2), keeping(_gradients, x, hidden, kernel_1, kernel_2)


@computed_again
def _gradients(x, hidden, kernel_1, kernel_2, upstream):
    by_activated, by_kernel_2, by_bias_2 = linear_gradients(gelu(hidden), kernel_2, upstream)
    by_x, by_kernel_1, by_bias_1 = linear_gradients(x, kernel_1, gelu_gradient(hidden, by_activated))
    return by_x, by_kernel_1, by_bias_1, by_kernel_2, by_bias_2
