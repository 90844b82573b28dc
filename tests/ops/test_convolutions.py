"""Convolutions, in every formulation, against plain NumPy: values and gradients."""

import itertools
import math

import keras
import numpy as np
import pytest

from keras_video_focalnet.ops import temporal
from keras_video_focalnet.ops.autodiff.formulation import force, on_cpu
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.temporal import temporal_conv
from keras_video_focalnet.ops.winograd import PRODUCTS, sequence_transforms, tile_transforms
from tests.ops.references import check, check_once, numpy_depthwise, numpy_temporal, run

BACKEND = keras.backend.backend()


@pytest.mark.parametrize("formulation", ["convolution", "shifted"])
@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_depthwise_conv2d(size, formulation):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, 6, 5, 4)), rng.normal(size=(size, size, 4, 1))
    with force(depthwise_conv2d=formulation):
        check(depthwise_conv2d, numpy_depthwise, x, kernel)


@pytest.mark.parametrize(
    "size,formulation", [(1, "convolution"), (3, "convolution"), (5, "convolution"), (3, "winograd"), (5, "winograd")]
)
@pytest.mark.parametrize("frames", [1, 2, 8, 11, 23])
def test_temporal_conv(size, formulation, frames):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, frames, 6, 4)), rng.normal(size=(size, 1, 4, 3))
    with force(temporal_conv=formulation):
        check(temporal_conv, numpy_temporal, x, kernel)


@pytest.mark.parametrize("size", PRODUCTS)
@pytest.mark.parametrize("frames", [1, 8, 11])
def test_unrolled_winograd(size, frames):
    rng = np.random.default_rng(size)
    x, kernel = rng.normal(size=(2, frames, 6, 4)), rng.normal(size=(size, 1, 4, 3))
    with force(temporal_conv="winograd", winograd="unrolled"):
        check_once(temporal_conv, numpy_temporal, (x, kernel), atol=2e-5, jit_compile=BACKEND == "tensorflow")


def rounding_bounds(x, kernel):
    """Elementwise bounds on the rounding errors of Winograd's filtering and of the direct sum, in any order of sums.

    A sum of n products in float32 errs by at most gamma(n) times the sum of their magnitudes (Higham, Accuracy and
    Stability of Numerical Algorithms, 3.1), and of steps in turn the n add up. The entries of the transform of the
    filter are rounded themselves; those of the other two are exact.
    """
    window, frames, channels = len(kernel), x.shape[1], x.shape[-1]
    inputs, taps, outputs = map(np.abs, sequence_transforms(window, frames))
    products = PRODUCTS[window]

    tiles = np.tensordot(inputs, np.abs(x[0]), 1).reshape(products, -1, *x.shape[2:])
    filters = np.tensordot(taps, np.abs(kernel[:, 0]), 1)
    sums = np.einsum("ptnc,pcf->ptnf", tiles, filters).reshape(outputs.shape[1], x.shape[2], -1)
    roundings = products + (window + 1) + channels + products
    winograd = gamma(roundings) * np.tensordot(outputs, sums, 1)[None]
    return winograd, direct_bound(x, kernel)


def direct_bound(x, kernel):
    """Elementwise bound on the rounding errors of the direct sum."""
    return gamma(kernel.shape[0] * kernel.shape[2]) * numpy_temporal(np.abs(x), np.abs(kernel))


def gamma(n):
    return n * 2.0**-24 / (1 - n * 2.0**-24)


@pytest.mark.parametrize("channels", [191, 192])
@pytest.mark.parametrize("window", [1, 3, 5, 7])
@pytest.mark.parametrize("frames", [3, 4, 20, 21, 64, 65])
def test_temporal_conv_at_the_ends_of_its_rules(frames, window, channels, monkeypatch):
    """Where few frames, channels or another window let the direct sum run, and where a clip is cut into segments."""
    filtered = []
    kept = temporal._winograd
    monkeypatch.setattr(temporal, "_winograd", lambda *ends: filtered.append(ends) or kept(*ends))
    rng = np.random.default_rng(frames)
    x, kernel = rng.normal(size=(1, frames, 2, channels)), rng.normal(size=(window, 1, channels, 3))
    x, kernel = (array.astype("float32").astype("float64") for array in (x, kernel))
    given = run(temporal_conv, x, kernel)
    # Segments end where tiles do, so the bound of the entire sequence is theirs.
    bounds = rounding_bounds(x, kernel) if window in PRODUCTS else (direct_bound(x, kernel),)
    assert (np.abs(given - numpy_temporal(x, kernel)) <= np.maximum.reduce(bounds)).all()
    runs = frames >= 4 and channels >= 192 and window in PRODUCTS and on_cpu(keras.ops.convert_to_tensor(given))
    assert len(filtered) == ({4: 1, 20: 1, 21: 2, 64: 4, 65: 4}[frames] if runs else 0)


@pytest.mark.parametrize("window", PRODUCTS)
def test_segments_are_whole_tiles_of_all_frames(window):
    outputs = PRODUCTS[window] - window + 1
    for frames in range(1, 200):
        parts = temporal.segments(frames, window)
        assert parts[0][0] == 0 and parts[-1][1] == frames
        assert all(before[1] == after[0] and before[1] % outputs == 0 for before, after in itertools.pairwise(parts))
        assert len({-(-(end - first) // outputs) for first, end in parts}) <= 2
        assert max(end - first for first, end in parts) <= 6 * outputs


@pytest.mark.parametrize("window", PRODUCTS)
def test_winograd_rounds_within_its_bound_and_the_bound_within_a_digit_of_the_direct_sums(window):
    """With as many channels as it is for."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 8, 4, 384)), rng.normal(size=(window, 1, 384, 16)) / math.sqrt(384 * window)
    x, kernel = (array.astype("float32").astype("float64") for array in (x, kernel))
    wanted = numpy_temporal(x, kernel)
    winograd, direct = rounding_bounds(x, kernel)
    # TensorFlow runs the unrolled form under XLA alone.
    for form in ("stacked", "unrolled") if BACKEND != "tensorflow" else ("stacked",):
        with force(temporal_conv="winograd", winograd=form):
            assert (np.abs(run(temporal_conv, x, kernel) - wanted) <= winograd).all(), form
    # So far apart are the points of the transforms, and no farther.
    assert winograd.mean() < 5 * direct.mean()


@pytest.mark.parametrize("window", PRODUCTS)
def test_tile_transforms_filter_exactly(window):
    a, g, b = tile_transforms(window)
    rng = np.random.default_rng(window)
    taps, inputs = rng.normal(size=window), rng.normal(size=len(b))
    wanted = [inputs[i : i + window] @ taps for i in range(len(a))]
    np.testing.assert_allclose(a @ ((g @ taps) * (b @ inputs)), wanted, rtol=1e-12)
    assert np.array_equal(b, np.round(b))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="unknown sizes in compiled training are TensorFlow's")
def test_temporal_conv_of_unknown_frames_has_gradients_under_xla():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    kernel = tf.constant(rng.normal(size=(3, 1, 4, 4)).astype("float32"))

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec((None, None, 6, 4))])
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            total = tf.reduce_sum(temporal_conv(x, kernel))
        return tape.gradient(total, kernel)

    for frames in (4, 7):
        x = rng.normal(size=(2, frames, 6, 4)).astype("float32")
        wanted = [x[:, :-1].sum((0, 1, 2)), x.sum((0, 1, 2)), x[:, 1:].sum((0, 1, 2))]
        np.testing.assert_allclose(gradient(x)[:, 0, :, 0], wanted, atol=1e-4)
