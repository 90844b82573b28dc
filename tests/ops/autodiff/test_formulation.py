"""Which formulation runs, and what XLA compiles."""

import keras
import numpy as np
import pytest

from keras_video_focalnet.layers import FocalBlock
from keras_video_focalnet.ops import depthwise, temporal
from keras_video_focalnet.ops import linear as linear_module
from keras_video_focalnet.ops.autodiff import formulation
from keras_video_focalnet.ops.autodiff.formulation import compiled_by_xla, force
from keras_video_focalnet.ops.autodiff.fusion import xla_region
from keras_video_focalnet.ops.depthwise import depthwise_conv2d
from keras_video_focalnet.ops.temporal import temporal_conv
from tests.ops.references import numpy_temporal

BACKEND = keras.backend.backend()


@pytest.fixture
def chosen(monkeypatch):
    """The formulations that run, in turn, by operation."""
    seen = {}

    def choose(operation, formulations, default):
        seen.setdefault(operation, []).append(formulation.forced_choices().get(operation, default))
        return real(operation, formulations, default)

    real = formulation.choose
    for module in (depthwise, linear_module, temporal):
        monkeypatch.setattr(module, "choose", choose)
    return seen


def test_what_the_rules_choose(chosen):
    """On a CPU, where the tests run."""
    kernel, x = keras.ops.ones((3, 1, 192, 2)), keras.ops.ones((1, 8, 4, 192))
    temporal_conv(x, kernel)
    depthwise_conv2d(x, keras.ops.ones((3, 3, 192, 1)))
    assert chosen == {
        "winograd": ["stacked"],
        "temporal_conv": ["winograd"],
        "depthwise_conv2d": ["shifted" if BACKEND == "jax" else "convolution"],
    }


def test_rules_hold_in_training(chosen):
    """Keras calls a model on shapes alone before it trains: what is chosen there must not stay."""
    block = FocalBlock(192, grid_size=2)
    model = keras.Sequential([keras.Input((8, 4, 192)), keras.layers.Lambda(lambda x: block(x)[0])])
    model.compile("sgd", "mse", jit_compile=False)
    x = np.zeros((1, 8, 4, 192), "float32")
    model.train_on_batch(x, x)
    model.predict(x, verbose=0)
    assert set(chosen["temporal_conv"][-2:]) == {"winograd"}


@pytest.mark.parametrize("dtype,frames,channels", [("bfloat16", 8, 192), ("float32", 2, 192), ("float32", 8, 96)])
def test_winograd_is_left_where_it_does_not_pay(dtype, frames, channels, chosen):
    x = keras.ops.ones((1, frames, 1, channels), dtype)
    kernel = keras.ops.cast(np.random.default_rng(0).normal(size=(3, 1, channels, 2)), dtype)
    temporal_conv(x, kernel)
    assert chosen["temporal_conv"] == ["convolution"]


def test_rules_as_on_another_device():
    x = keras.ops.ones((1, 2))
    for name in ("cpu", "gpu"):
        with force(device=name):
            assert formulation.on_cpu(x) == (name == "cpu")
    with pytest.raises(ValueError, match="device must be cpu or gpu, received 'CPU'"), force(device="CPU"):
        pass


def test_winograd_takes_any_batch(chosen):
    model_input = keras.Input((8, 4, 192))

    class Convolve(keras.layers.Layer):
        def build(self, _):
            self.kernel = self.add_weight(shape=(3, 1, 192, 5))

        def call(self, x):
            return temporal_conv(x, self.kernel)

        def compute_output_shape(self, shape):
            return (*shape[:-1], 5)

    layer = Convolve()
    model = keras.Model(model_input, layer(model_input))
    x = np.random.default_rng(0).normal(size=(3, 8, 4, 192)).astype("float32")
    wanted = numpy_temporal(x, keras.ops.convert_to_numpy(layer.kernel))
    np.testing.assert_allclose(model.predict(x, verbose=0), wanted, atol=2e-5)
    assert set(chosen["temporal_conv"]) == {"winograd"}


def test_an_unknown_formulation_is_refused():
    with (
        force(temporal_conv="winograd"),
        pytest.raises(ValueError, match="temporal_conv has no formulation 'winograd'"),
    ):
        temporal_conv(keras.ops.ones((1, 8, 4, 2)), keras.ops.ones((7, 1, 2, 2)))


def test_a_region_for_xla_is_part_of_a_tensorflow_graph():
    if BACKEND == "tensorflow":
        import tensorflow as tf

        seen = []
        tf.function(lambda x: xla_region(lambda x: seen.append(compiled_by_xla()) or x + 1)(x))(tf.ones(2))
        assert seen == [True]
    with pytest.raises(RuntimeError, match="part of a TensorFlow graph"):
        xla_region(lambda x: x)


def test_xla_is_noticed_when_it_compiles():
    seen = {}

    def function(x):
        seen["xla"] = compiled_by_xla()
        return x + 1

    if BACKEND == "tensorflow":
        import tensorflow as tf

        for jit_compile in (False, True):
            tf.function(function, jit_compile=jit_compile)(tf.ones(2))
            assert seen["xla"] is jit_compile
            outer = tf.function(lambda x: tf.function(function)(x), jit_compile=jit_compile)
            outer(tf.ones(2))
            assert seen["xla"] is jit_compile
    else:
        function(0)
        assert seen["xla"] is (BACKEND == "jax")


def test_the_former_place_of_force_still_has_it():
    from keras_video_focalnet.ops import formulation as former

    with pytest.warns(DeprecationWarning, match="is keras_video_focalnet.ops.autodiff.formulation.force"):
        assert former.force is force
