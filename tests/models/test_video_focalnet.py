"""The model as Keras people use it."""

import json
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.features import feature_extractor, feature_taps
from keras_video_focalnet.models.macs import count_macs
from keras_video_focalnet.models.video_focalnet.model import (
    VideoFocalNet,
    VideoFocalNetB,
    VideoFocalNetNano,
    VideoFocalNetS,
    VideoFocalNetT,
)
from keras_video_focalnet.ops.autodiff import formulation

SMALL = {"embed_dim": 8, "depths": (1, 1, 1, 1), "classes": 5, "input_shape": (4, 32, 48, 3)}
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 48, 3), dtype="uint8")


def small(**kwargs):
    return VideoFocalNet(**{**SMALL, **kwargs})


def to_numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


@pytest.mark.parametrize(
    "builder,parameters,gmac,drop_path",
    [
        (VideoFocalNetT, 49_553_272, 63.00, 0.2),
        (VideoFocalNetS, 88_735_168, 124.33, 0.3),
        (VideoFocalNetB, 157_389_216, 220.65, 0.5),
    ],
)
def test_published_sizes(builder, parameters, gmac, drop_path):
    model = builder(weights=None)
    assert model.count_params() == parameters
    assert abs(count_macs(model) / 1e9 - gmac) / gmac < 5e-3
    rates = [layer.drop_path_rate for layer in model.layers if hasattr(layer, "drop_path_rate")]
    assert rates[0] == 0 and rates[-1] == pytest.approx(drop_path)
    np.testing.assert_allclose(np.diff(rates), drop_path / (len(rates) - 1))
    assert model.input_shape == (None, 8, 224, 224, 3) and model.output_shape == (None, 400)


def test_multiply_adds_grow_linearly_in_tokens():
    def macs(frames, side):
        return count_macs(small(input_shape=(frames, side, side, 3), include_top=False))

    assert macs(16, 64) == 2 * macs(8, 64) == 2 * macs(2, 128)


def test_count_macs_of_operations_and_of_a_sequential_model():
    x = keras.Input((4, 6))
    left = np.ones((3, 4), "float32")
    assert count_macs(keras.Model(x, keras.ops.matmul(left, x))) == 3 * 4 * 6
    assert count_macs(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])) == 12

    class Own(keras.Operation):
        def call(self, x):
            return x

        def compute_output_spec(self, x):
            return keras.KerasTensor(x.shape, x.dtype)

    for operation in (Own(), keras.ops.linalg.inv if hasattr(keras.ops, "linalg") else keras.ops.inv):
        with pytest.raises(ValueError, match="multiply-adds of the operation .* are not known"):
            square = keras.Input((4, 4))
            count_macs(keras.Model(square, operation(square)))


def test_logits_need_a_classifier():
    with pytest.raises(ValueError, match="has no classifier; build it with include_top=True"):
        small(include_top=False).logits(np.ones((1, 64), "float32"))


def test_count_macs_needs_a_fixed_number_of_frames():
    with pytest.raises(ValueError, match="any number of frames"):
        count_macs(small(input_shape=(None, 32, 32, 3)))


def test_no_inner_tensor_has_more_than_four_dimensions():
    model = small(include_top=False)
    ranks = {
        layer.name: len(np.shape(layer.output[0]) if isinstance(layer.output, list) else layer.output.shape)
        for layer in model.layers
    }
    assert {name for name, rank in ranks.items() if rank > 4} == {"clip", "grid"}


@pytest.mark.slow_on("tensorflow")
def test_pixels_of_any_dtype_give_the_same_scores():
    model = small()
    scores = model.predict(PIXELS, verbose=0)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores.sum(-1), 1, atol=1e-5)
    for dtype in ("float32", "float64", "int32", "int64"):
        np.testing.assert_allclose(model.predict(PIXELS.astype(dtype), verbose=0), scores, atol=1e-6)


def test_preprocessing_inside_equals_preprocess_input_outside():
    inside = small(classifier_activation=None)
    outside = small(classifier_activation=None, include_preprocessing=False)
    outside.set_weights(inside.get_weights())
    np.testing.assert_allclose(
        inside.predict(PIXELS, verbose=0), outside.predict(kvf.preprocess_input(PIXELS), verbose=0), atol=1e-5
    )


@pytest.mark.parametrize("pooling,shape", [(None, (2, 4, 1, 1, 64)), ("avg", (2, 64)), ("max", (2, 64))])
def test_pooling(pooling, shape):
    grid = small(include_top=False)
    model = small(include_top=False, pooling=pooling)
    model.set_weights(grid.get_weights())
    features = model.predict(PIXELS, verbose=0)
    assert features.shape == shape == (2, *model.output_shape[1:])
    reduce = {None: lambda x: x, "avg": lambda x: x.mean((1, 2, 3)), "max": lambda x: x.max((1, 2, 3))}[pooling]
    np.testing.assert_allclose(features, reduce(grid.predict(PIXELS, verbose=0)), atol=1e-5)


@pytest.mark.slow_on("tensorflow", "torch")
def test_keras_file_clone_and_config_keep_scores_taps_and_labels(tmp_path):
    model = small(labels=["a", "b", "c", "d", "e"], depths=(1, 1, 2, 1), drop_rate=0.1, use_layerscale=True)
    scores = model.predict(PIXELS, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    cloned = keras.models.clone_model(model)
    rebuilt = VideoFocalNet.from_config(model.get_config())
    assert loaded.labels == rebuilt.labels == ("a", "b", "c", "d", "e")
    assert loaded.get_config() == rebuilt.get_config() == model.get_config()
    json.dumps(model.get_config())
    for copy in (loaded, cloned, rebuilt):
        copy.set_weights(model.get_weights())
        np.testing.assert_allclose(copy.predict(PIXELS, verbose=0), scores, atol=1e-6)
        assert list(feature_taps(copy)) == list(feature_taps(model))
        assert len(feature_taps(copy)) == 3 * 5
    taps = ["stage2_block1", "stage3_block0/temporal_modulator"]
    ours, theirs = (feature_extractor(m, taps).predict(PIXELS, verbose=0) for m in (model, cloned))
    for tap in taps:
        np.testing.assert_allclose(ours[tap], theirs[tap], atol=1e-6)


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    "imports", ["import keras, keras_video_focalnet", "from keras_video_focalnet import FocalBlock; import keras"]
)
def test_a_keras_file_loads_where_only_the_package_was_imported(imports, tmp_path):
    model = small()
    model.save(tmp_path / "model.keras")
    code = f"{imports}; import sys; print(keras.saving.load_model(sys.argv[1]).output_shape)"
    run = subprocess.run([sys.executable, "-c", code, tmp_path / "model.keras"], capture_output=True, text=True)
    assert "(None, 5)" in run.stdout, run.stderr


def test_our_modules_import_no_other_backend():
    code = (
        "import sys, keras; before = set(sys.modules); import keras_video_focalnet as kvf; "
        "model = kvf.VideoFocalNetNano(weights=None); "
        "heavy = {'tensorflow', 'jax', 'torch', 'av', 'click', 'matplotlib'}; "
        "print('new:', sorted(heavy & (set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "new: []" in run.stdout, run.stdout + run.stderr


def test_export_takes_what_any_device_knows(monkeypatch):
    """What is fastest on this machine's CPU would go with the file to a phone."""
    chosen = {}

    def trace(model, path, **kwargs):
        for operation in ("temporal_conv", "linear", "modulation"):
            names = {name: name for name in ("convolution", "winograd", "library", "onednn", "inline")}
            chosen[operation] = formulation.choose(operation, names, "by rule")

    monkeypatch.setattr(keras.Model, "export", trace)
    small().export("somewhere", format="tf_saved_model")
    assert chosen == {"temporal_conv": "convolution", "linear": "library", "modulation": "inline"}
    assert formulation.choose("linear", {"by rule": 1}, "by rule") == 1


def test_input_tensor_keeps_what_stands_before_it(tmp_path):
    source = keras.Input((4, 32, 48, 3), name="source")
    model = small(input_tensor=keras.layers.Rescaling(0.5, name="halve")(source), input_shape=None)
    reference = small()
    reference.set_weights(model.get_weights())
    half = (PIXELS // 2 * 2).astype("float32")
    scores = model.predict(half, verbose=0)
    np.testing.assert_allclose(scores, reference.predict(half / 2, verbose=0), atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.get_layer("halve").scale == 0.5
    np.testing.assert_allclose(loaded.predict(half, verbose=0), scores, atol=1e-6)


def test_with_classifier_keeps_the_rest():
    model = small()
    fresh = model.with_classifier(3, labels=["x", "y", "z"])
    assert fresh.output_shape == (None, 3) and fresh.labels == ("x", "y", "z") and model.output_shape == (None, 5)
    ours, theirs = (feature_extractor(m, ["stage3_block0"]).predict(PIXELS, verbose=0) for m in (model, fresh))
    np.testing.assert_allclose(ours["stage3_block0"], theirs["stage3_block0"], atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_keeps_preprocessing_and_scores_in_float32(policy):
    exact, model = small(classifier_activation=None), small(classifier_activation=None, dtype=policy)
    model.set_weights(exact.get_weights())
    assert model.get_layer("normalization").compute_dtype == model.get_layer("head").compute_dtype == "float32"
    assert model.get_layer("stage0_block0").modulation.f.compute_dtype == policy.removeprefix("mixed_")
    assert all(variable.dtype == "float32" for variable in model.trainable_variables)
    low, high = model.predict(PIXELS, verbose=0), exact.predict(PIXELS, verbose=0)
    assert low.dtype == np.float32
    assert np.abs(low - high).max() < 0.05 * np.abs(high).max() + 1e-3


@pytest.mark.parametrize(
    "default,pattern,other,low",
    [
        pytest.param(
            *("float32", "stage1_block0/.*", "mixed_bfloat16", "stage1_block0/fc1"),
            marks=pytest.mark.slow_on("tensorflow"),
        ),
        ("float32", "stage1_block0", "mixed_bfloat16", "stage1_block0"),
        ("mixed_bfloat16", "stage1_block0.*", "float32", "stage2_block0/fc1"),
        ("float32", "stage0_block0/modulation/f", "mixed_bfloat16", "stage0_block0/modulation/f"),
        ("float32", "stage0_block0/modulation/h_temporal", "mixed_bfloat16", "stage0_block0/modulation/h_temporal"),
        ("float32", "stage0_block0/modulation", "mixed_bfloat16", "stage0_block0/modulation"),
    ],
)
def test_dtype_policies_per_layer(default, pattern, other, low):
    policies = keras.dtype_policies.DTypePolicyMap(default_policy=default)
    policies[pattern] = keras.dtype_policies.DTypePolicy(other)
    model = small(dtype=policies)
    by_path = {layer.path: layer for layer in model._flatten_layers()}
    in_low = {path for path, layer in by_path.items() if layer.compute_dtype == "bfloat16"}
    assert low in in_low and "head" not in in_low and len(in_low) < len(by_path)
    assert np.isfinite(model.predict(PIXELS, verbose=0)).all()


@pytest.mark.slow_on("jax")
def test_layers_of_several_dtypes_train():
    policies = keras.dtype_policies.DTypePolicyMap(default_policy="mixed_bfloat16")
    for pattern in ("stage1_block0.*", "stage2_block0/modulation/f"):
        policies[pattern] = keras.dtype_policies.DTypePolicy("float32")
    model = small(dtype=policies, drop_path_rate=0.2)
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.train_on_batch(PIXELS, np.arange(2)))


class UntilAllAreRight(keras.callbacks.Callback):
    """Ends training after a few epochs in which every clip was classified as it should be."""

    def on_train_begin(self, logs=None):
        self.right = 0

    def on_epoch_end(self, epoch, logs=None):
        self.right = self.right + 1 if logs["accuracy"] == 1.0 else 0
        self.model.stop_training = self.right == 3


@pytest.mark.parametrize(
    "dtype", ["float32", pytest.param("mixed_bfloat16", marks=pytest.mark.slow_on("tensorflow", "jax"))]
)
def test_fit_overfits_eight_random_clips(dtype):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    clips, labels = rng.integers(0, 256, (8, 4, 32, 32, 3)).astype("uint8"), np.arange(8) % 4
    model = small(classes=4, input_shape=(4, 32, 32, 3), drop_path_rate=0.0, dtype=dtype)
    model.compile(keras.optimizers.AdamW(3e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)  # In the first step TensorFlow would trace that step twice.
    model.fit(clips, labels, batch_size=8, epochs=60, verbose=0, callbacks=[UntilAllAreRight()])
    assert model.evaluate(clips, labels, verbose=0, return_dict=True)["accuracy"] == 1.0


@pytest.mark.slow_on("torch")
def test_jit_compile_gives_the_same_scores():
    model = small()
    plain = to_numpy(model(PIXELS))
    model.compile(jit_compile=True)
    np.testing.assert_allclose(model.predict(PIXELS, verbose=0), plain, atol=1e-5)


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"input_shape": (32, 32, 3)}, r"\(frames, height, width, 3\), without the batch"),
        ({"input_shape": (4, 32, 32, 1)}, "3 channels"),
        ({"input_shape": (4, 31, 64, 3)}, "at least 32 pixels"),
        ({"input_shape": (4, None, 64, 3)}, "fixed height and width"),
        ({"input_shape": (5, 32, 32, 3), "tubelet_size": 2}, "5 frames, which tubelet_size=2 does not divide"),
        ({"pooling": "mean"}, 'pooling must be one of None, "avg", "max"; received \'mean\''),
        ({"classes": 0}, "classes must be an integer of at least 1, received 0"),
        ({"classes": True}, "classes must be an integer"),
        ({"depths": 2.5}, "depths must be an integer of at least 1, received 2.5"),
        ({"depths": (0, 1, 1, 1)}, "depths must be an integer of at least 1, received 0"),
        ({"tubelet_size": 0}, "tubelet_size must be an integer of at least 1"),
        ({"input_shape": (0, 32, 32, 3)}, "number of frames in input_shape must be an integer of at least 1"),
        ({"input_shape": (4, "32", 32, 3)}, "Height and width in input_shape must be an integer"),
        ({"input_shape": 5}, r"input_shape must be \(frames, height, width, 3\)"),
        ({"drop_path_rate": 2.0}, r"drop_path_rate must be a number in \[0, 1\), received 2.0"),
        ({"drop_rate": -0.1}, r"drop_rate must be a number in \[0, 1\), received -0.1"),
        ({"mlp_ratio": 0}, "mlp_ratio must be a number above 0"),
        (
            {"mlp_ratio": 0.001},
            "mlp_ratio must be a number that gives .* channels at least one hidden unit, received 0.001",
        ),
        ({"focal_windows": -1}, "focal_windows must be an integer of at least 1"),
        ({"input_tensor": np.zeros((1, 4, 32, 48, 3))}, "input_tensor must be a Keras tensor"),
        ({"labels": "k400"}, "labels has 400 names but classes=5"),
        ({"labels": ["a"]}, "labels has 1 names but classes=5"),
        ({"depths": (1, 1, 2)}, "depths must be one value or 4, one for each stage"),
        ({"focal_windows": 4}, "focal window must be odd"),
        ({"input_tensor": keras.KerasTensor((None, 4, 64, 64, 3))}, "differs from the shape of input_tensor"),
    ],
)
def test_bad_arguments_name_the_remedy(kwargs, message):
    with pytest.raises(ValueError, match=message):
        small(**kwargs)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="foo"):
        small(foo=1)
    with pytest.raises(TypeError, match="VideoFocalNetNano has no argument 'drop_path'.*drop_path_rate"):
        VideoFocalNetNano(weights=None, drop_path=0.5)


def test_what_cannot_be_built_is_refused_before_anything_is_downloaded(monkeypatch):
    monkeypatch.setenv("KERAS_VIDEO_FOCALNET_BASE_URL", "http://127.0.0.1:9/")
    with pytest.raises(ValueError, match="at least 32 pixels"):
        VideoFocalNetT(weights="k400", input_shape=(8, 16, 16, 3))
    with pytest.raises(ValueError, match='temporal_init must be one of "identity", "random"'):
        VideoFocalNetT(weights=None, temporal_init="zeros")


def test_tubelets_of_a_clip_of_unknown_length_are_never_mixed():
    model = small(tubelet_size=2, input_shape=(None, 32, 48, 3))
    assert model.predict(PIXELS, verbose=0).shape == (2, 5)
    for frames in (3, 5):
        with pytest.raises(Exception, match="tubelet_size=2|reshape|Reshape"):
            model(np.zeros((4, frames, 32, 48, 3), "float32"))


def test_frozen_layers_and_own_activations_survive(tmp_path):
    model = small(classifier_activation=keras.activations.sigmoid)
    model.get_layer("stage0_block0").trainable = False
    trainable = len(model.trainable_variables)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert len(loaded.trainable_variables) == trainable < len(model.variables)
    assert loaded.get_layer("head").activation is keras.activations.sigmoid
    model.trainable = False
    fresh = model.with_classifier(3)
    assert [variable.path for variable in fresh.trainable_variables] == ["head/kernel", "head/bias"]


def test_integer_input_tensor_without_preprocessing():
    clip = keras.Input((4, 32, 48, 3), dtype="uint8")
    model = small(input_tensor=clip, input_shape=None, include_preprocessing=False)
    assert np.isfinite(model.predict(PIXELS, verbose=0)).all()


def test_channels_first_is_refused():
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="channels last"):
            small()
    finally:
        keras.config.set_image_data_format("channels_last")


def test_unknown_weights_list_what_exists():
    with pytest.raises(ValueError, match="k400"):
        VideoFocalNetT(weights="kinetics")
    with pytest.raises(FileNotFoundError, match="no such file"):
        VideoFocalNetT(weights="nowhere/weights.pth")


def test_list_models():
    assert "VideoFocalNetB/k600" in kvf.list_models()
    assert kvf.list_models("VideoFocalNetT") == ["k400", "imagenet"]


def test_builders_default_classes_and_options():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = VideoFocalNetNano(weights=None, input_shape=(None, 64, 64, 3), mlp_ratio=2.0, name="mine")
    assert model.output_shape == (None, 400) and model.name == "mine"
    assert model.get_layer("stage0_block0").fc1.units == 32
    assert model(np.zeros((1, 3, 64, 64, 3), "uint8")).shape == (1, 400)


@pytest.mark.parametrize("extra", [{}, {"extra": 3}])
def test_a_subclass_of_an_architecture_hands_on_its_arguments(extra):
    class Mine(kvf.VideoFocalNet):
        def __init__(self, extra=None, **kwargs):
            super().__init__(**kwargs)
            self.extra = extra

        def get_config(self):
            return {**super().get_config(), "extra": self.extra}

    options = {"embed_dim": 8, "depths": (1, 1, 1, 1), "input_shape": (4, 32, 32, 3), "classes": 3}
    model = Mine(**options, **extra)
    assert model.embed_dim == 8 and model.classes == 3 and model.extra == extra.get("extra")
    again = Mine.from_config(model.get_config())
    assert again.get_config() == model.get_config()


def test_operations_that_hold_others_are_not_counted_as_nothing():
    clips = keras.Input((4, 6))
    mapped = keras.ops.map(lambda x: keras.ops.matmul(x, keras.ops.ones((6, 3))), clips)
    with pytest.raises(ValueError, match="are not known"):
        count_macs(keras.Model(clips, mapped))
    assert count_macs(keras.Model(clips, keras.ops.rsqrt(keras.ops.logsumexp(clips, axis=-1)))) == 0
