"""What is particular to the layers that came with SIFA: the numbers they give, and what they refuse."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.layers import (
    DenseHeads,
    InterFrameAttention,
    PatchMerging,
    RelativePositionBias,
    UnbiasedBatchNormalization,
    WindowAttention,
)
from keras_video_focalnet.layers.window_attention import APART, fit_window, region_mask

RNG = np.random.default_rng(0)


def to_numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def numpy_attention(clips, size):
    """Inter-frame attention without offsets, place by place."""
    output, half = np.zeros_like(clips), size // 2
    frames, height, width, channels = clips.shape
    for frame in range(frames - 1):
        padded = np.pad(clips[frame + 1], ((half, half), (half, half), (0, 0)))
        for row in range(height):
            for column in range(width):
                window = padded[row : row + size, column : column + size].reshape(-1, channels)
                output[frame, row, column] = (window @ clips[frame, row, column] / channels) @ window
    return output


def test_every_frame_attends_to_the_next_one_and_the_last_to_none():
    clips = RNG.normal(size=(2, 3, 4, 5, 6))
    given, similarities = InterFrameAttention((4, 5))(clips.reshape(2, 3, 20, 6).astype("float32"))
    wanted = np.stack([numpy_attention(clip, 3) for clip in clips])
    np.testing.assert_allclose(to_numpy(given).reshape(wanted.shape), wanted, atol=1e-5)
    assert not to_numpy(given)[:, -1].any() and similarities.shape == (2, 2, 20, 9)


def test_offsets_move_taps_down_and_then_to_the_right():
    clip = RNG.normal(size=(1, 2, 20, 6)).astype("float32")
    offsets = np.zeros((1, 1, 20, 2), "float32")
    offsets[..., 0] = 1.0
    given, _ = InterFrameAttention((4, 5), kernel_size=1)(clip, offsets)
    below = np.zeros((20, 6))
    below[:15] = clip[0, 1, 5:]
    wanted = (below * clip[0, 0]).mean(-1, keepdims=True) * below
    np.testing.assert_allclose(to_numpy(given)[0, 0], wanted, atol=1e-6)


def test_the_number_of_frames_may_be_unknown():
    tokens, offsets = keras.Input((None, 20, 6)), keras.Input((None, 20, 18))
    output, similarities = InterFrameAttention((4, 5))(tokens, offsets)
    assert output.shape == (None, None, 20, 6) and similarities.shape == (None, None, 20, 9)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"kernel_size": 2}, "kernel_size must be an odd integer, received 2; a window of an even side"),
        ({"kernel_size": 0}, "kernel_size must be an integer of at least 1, received 0"),
        ({"dilation": 0}, "dilation must be an integer of at least 1, received 0"),
        ({"grid_size": 0}, "grid_size must be a positive integer or .height, width., received 0"),
    ],
)
def test_inter_frame_attention_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        InterFrameAttention(**{"grid_size": 4, **arguments})


def test_inter_frame_attention_refuses_inputs():
    layer = InterFrameAttention((4, 5))
    with pytest.raises(ValueError, match="needs at least 2 frames, received 1; pass longer clips"):
        layer(np.zeros((1, 1, 20, 6), "float32"))
    with pytest.raises(ValueError, match="Reshape .batch, frames, height, width, channels."):
        layer(np.zeros((1, 2, 21, 6), "float32"))
    clips = np.zeros((1, 3, 20, 6), "float32")
    for shape in ((1, 3, 20, 18), (1, 2, 20, 9), (1, 2, 20, 3, 6)):
        with pytest.raises(ValueError, match=r"offsets must be of shape .* = \(1, 2, 20, 18\), received .*every tap"):
            layer(clips, np.zeros(shape, "float32"))


def numpy_window_attention(x, layer, grid, window, shift):
    """Window attention of one frame `(height * width, channels)`, query by query."""
    kernel, bias, table, out, out_bias = (to_numpy(weight).astype("float64") for weight in weights_of(layer))
    (height, width), channels, heads = grid, x.shape[-1], layer.num_heads
    depth = channels // heads
    places = [(row, column) for row in range(height) for column in range(width)]
    queries, keys, values = np.split(x @ kernel + bias, 3, axis=-1)
    result = np.zeros_like(x)
    for i, (row, column) in enumerate(places):
        rolled = (row - shift) % height, (column - shift) % width
        for head in range(heads):
            part, logits, seen = slice(head * depth, (head + 1) * depth), [], []
            for j, (other_row, other_column) in enumerate(places):
                other = (other_row - shift) % height, (other_column - shift) % width
                if any(a // window != b // window for a, b in zip(rolled, other, strict=True)):
                    continue
                # In a rolled grid, a window may hold both ends of the grid.
                torn = any(
                    (a >= side - shift) != (b >= side - shift) for a, b, side in zip(rolled, other, grid, strict=True)
                )
                step = [a - b + window - 1 for a, b in zip(rolled, other, strict=True)]
                logit = queries[i, part] @ keys[j, part] * depth**-0.5
                logits.append(logit + table[step[0] * (2 * window - 1) + step[1], head] + (APART if torn else 0))
                seen.append(j)
            result[i, part] = softmax(np.array(logits)) @ values[seen, part]
    return result @ out + out_bias


def weights_of(layer):
    return layer.qkv.kernel, layer.qkv.bias, layer.position_bias.table, layer.proj.kernel, layer.proj.bias


@pytest.mark.parametrize("shift", [0, 1])
def test_window_attention(shift):
    layer, x = WindowAttention(2, (6, 9), 3, shift), RNG.normal(size=(1, 1, 54, 4))
    layer.build(x.shape)
    for weight in weights_of(layer):
        weight.assign(RNG.normal(size=weight.shape))
    wanted = numpy_window_attention(x[0, 0], layer, (6, 9), 3, shift)
    np.testing.assert_allclose(to_numpy(layer(x.astype("float32")))[0, 0], wanted, atol=1e-4)


def test_windows_of_a_small_grid_are_not_shifted():
    assert [fit_window((14, 28), 7, block) for block in (0, 1)] == [(7, 0), (7, 3)]
    assert [fit_window((7, 14), 7, block) for block in (0, 1)] == [(7, 0), (7, 0)]
    assert fit_window((2, 4), 4, 1) == (2, 0)


def test_mask_parts_what_the_roll_brought_together():
    mask = region_mask((4, 4), 2, 1)
    assert mask.shape == (4, 4, 4) and set(np.unique(mask)) == {0.0, APART}
    assert not mask[0].any() and (mask[3][np.eye(4) == 0] == APART).all()


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({"window_size": 4}, "window_size must divide the height and width of the grid, .6, 9., received 4; choose"),
        ({"shift_size": 3}, "shift_size must be an integer from 0 to 2, received 3"),
        ({"num_heads": 0}, "num_heads must be an integer of at least 1, received 0"),
    ],
)
def test_window_attention_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        WindowAttention(**{"num_heads": 2, "grid_size": (6, 9), "window_size": 3, **arguments})
    with pytest.raises(ValueError, match="num_heads must be a divisor of the 4 channels, received 3"):
        WindowAttention(3, (6, 9), 3)(np.zeros((1, 1, 54, 4), "float32"))


def test_window_attention_can_be_quantized_and_configured_again():
    layer, x = WindowAttention(2, (6, 9), 3, 1), RNG.normal(size=(1, 2, 54, 8)).astype("float32")
    before = to_numpy(layer(x))
    layer.qkv.quantize("int8")
    after = to_numpy(layer(x))
    assert 0 < np.abs(after - before).max() < 0.05 * np.abs(before).max()
    again = WindowAttention.from_config(layer.get_config())
    again.build(x.shape)
    assert again.qkv.quantization_mode == "int8"


def test_position_bias_of_windows_of_three_axes():
    """Tokens with the same relative position share a number, and no others do."""
    layer = RelativePositionBias((2, 3, 2), 1)
    layer.build((None, 1, 12, 12))
    layer.table.assign(np.arange(3 * 5 * 3)[:, None])
    given = to_numpy(layer(np.zeros((1, 1, 12, 12), "float32")))[0, 0]
    places = np.stack(np.meshgrid(range(2), range(3), range(2), indexing="ij"), -1).reshape(-1, 3)
    step = places[:, None] - places[None] + (1, 2, 1)
    np.testing.assert_array_equal(given, step @ (15, 3, 1))
    with pytest.raises(ValueError, match="window_size must be a sequence of the window's sides"):
        RelativePositionBias(7, 1)


def test_merging_joins_squares_column_by_column():
    layer, x = PatchMerging((2, 4)), np.arange(8, dtype="float32").reshape(1, 1, 8, 1)
    layer.build(x.shape)
    layer.norm.call = lambda joined: joined
    layer.kernel.assign(np.eye(4, 2))
    given = to_numpy(layer(x))
    np.testing.assert_array_equal(given[0, 0], [[0, 4], [2, 6]])
    with pytest.raises(ValueError, match="grid_size must have an even height and width, received .3, 4."):
        PatchMerging((3, 4))


def test_moving_variance_is_the_unbiased_one():
    layer, x = UnbiasedBatchNormalization(momentum=0.75), RNG.normal(size=(3, 2, 4)).astype("float32")
    given = to_numpy(layer(x, training=True))
    rows = x.reshape(-1, 4).astype("float64")
    wanted = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    np.testing.assert_allclose(given.reshape(-1, 4), wanted, atol=1e-5)
    np.testing.assert_allclose(to_numpy(layer.moving_mean), 0.25 * rows.mean(0), atol=1e-6)
    np.testing.assert_allclose(to_numpy(layer.moving_variance), 0.75 + 0.25 * rows.var(0, ddof=1), atol=1e-6)
    layer.trainable = False
    before = to_numpy(layer.moving_variance)
    layer(x, training=True)
    np.testing.assert_array_equal(to_numpy(layer.moving_variance), before)
    with pytest.raises(ValueError, match="axis=1 cannot be set.*take keras.layers.BatchNormalization"):
        UnbiasedBatchNormalization(axis=1)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_heads_average_the_shares_and_logits_give_them_back(activation):
    features = RNG.normal(size=(3, 8)).astype("float32")
    layer = DenseHeads(5, 2, activation)
    scores = to_numpy(layer(features))
    shares = []
    for head, (kernel, bias) in enumerate(zip(layer.kernels, layer.biases, strict=True)):
        logits = features[:, 4 * head : 4 * head + 4] @ to_numpy(kernel) + to_numpy(bias)
        shares.append(softmax(logits) if activation == "softmax" else 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(scores, np.mean(shares, 0), atol=1e-6)
    joined = to_numpy(layer.joined(layer.logits_of_heads(keras.ops.convert_to_tensor(features))))
    again = softmax(joined) if activation == "softmax" else 1 / (1 + np.exp(-joined))
    np.testing.assert_allclose(again, scores, atol=1e-6)


def test_heads_tell_the_loss_their_own_scores_once():
    layer, features = DenseHeads(5, 2, None), RNG.normal(size=(3, 8)).astype("float32")
    assert layer.take_scores(layer(features, training=False)) is None
    joined = layer(features, training=True)
    assert layer.take_scores(features) is None
    joined = layer(features, training=True)
    each = layer.take_scores(joined)
    for given, wanted in zip(each, layer.logits_of_heads(keras.ops.convert_to_tensor(features)), strict=True):
        np.testing.assert_allclose(to_numpy(given), to_numpy(wanted), atol=1e-6)
    assert layer.take_scores(joined) is None
    with pytest.raises(ValueError, match="a multiple of heads=2 channels, received 7"):
        DenseHeads(5).build((None, 7))
    with pytest.raises(ValueError, match='activation must be "softmax", "sigmoid" or None, received .relu.'):
        DenseHeads(5, activation="relu")
