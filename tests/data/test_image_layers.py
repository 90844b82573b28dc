"""Keras's image layers on clips: one draw for all frames of a clip, another for the next clip."""

import inspect
import random

import keras
import numpy as np
import pytest

from keras_video_focalnet.data.image_layers import ClipAugmentation

BACKEND = keras.backend.backend()

ARGUMENTS = {
    "AugMix": {"num_chains": 1, "chain_depth": 1, "all_ops": False},
    "RandAugment": {"num_ops": 1},
    "RandomBrightness": {"factor": 0.5},
    "RandomColorDegeneration": {"factor": 1.0},
    "RandomColorJitter": {
        "brightness_factor": 0.5,
        "contrast_factor": 0.5,
        "saturation_factor": 0.5,
        "hue_factor": 0.5,
    },
    "RandomContrast": {"factor": 0.5},
    "RandomCrop": {"height": 8, "width": 8},
    "RandomElasticTransform": {"factor": (1.0, 1.0)},
    "RandomErasing": {"factor": (1.0, 1.0)},
    "RandomGaussianBlur": {"factor": 1.0},
    "RandomHue": {"factor": 1.0},
    "RandomInvert": {"factor": 1.0},
    "RandomPerspective": {"factor": (1.0, 1.0)},
    "RandomPosterization": {"factor": (1, 5)},
    "RandomRotation": {"factor": 0.3},
    "RandomSaturation": {"factor": 1.0},
    "RandomSharpness": {"factor": 1.0},
    "RandomShear": {"x_factor": 0.5, "y_factor": 0.5},
    "RandomTranslation": {"height_factor": 0.4, "width_factor": 0.4},
    "RandomZoom": {"height_factor": 0.4},
    "Solarization": {"addition_factor": 0.5, "threshold_factor": 0.5},
}
MIXES_BATCHES = ("CutMix", "MixUp")
# Everything that they draw, they draw once for the whole batch.
ONE_DRAW_A_BATCH = ("AugMix", "RandomCrop")


def random_image_layers():
    """Every layer of Keras that changes images at random, by name."""
    base = keras.layers.RandomFlip.__mro__[1]
    found = []
    for name, kind in inspect.getmembers(keras.layers, inspect.isclass):
        if issubclass(kind, base) and "seed" in inspect.signature(kind.__init__).parameters:
            found.append(name)
    return sorted(set(found) - set(MIXES_BATCHES))


def make(name, seed=1):
    return getattr(keras.layers, name)(**ARGUMENTS.get(name, {}), seed=seed)


def still_clips(clips=4, frames=2, side=16):
    """Clips of one repeated frame, which is the same in all of them."""
    y, x = np.mgrid[0:side, 0:side] / side
    frame = np.stack([x, y, (3 * x + y) % 1], -1) * 255
    return np.broadcast_to(frame, (clips, frames, side, side, 3)).astype("float32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def frames_agree(clips):
    return np.array_equal(clips, np.broadcast_to(clips[:, :1], clips.shape))


def clips_agree(clips):
    return np.array_equal(clips, np.broadcast_to(clips[:1], clips.shape))


def test_all_random_layers_are_known():
    assert len(random_image_layers()) >= 20
    assert set(ARGUMENTS) <= set(random_image_layers())


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize("name", random_image_layers())
def test_one_draw_for_all_frames_of_a_clip(name):
    random.seed(0)
    layer = ClipAugmentation(make(name))
    results = [array(layer(still_clips(), training=True)) for _ in range(4)]
    for result in results:
        assert frames_agree(result)
    # The next call draws anew.
    assert any(not np.array_equal(results[0], result) for result in results[1:])
    if name not in ONE_DRAW_A_BATCH:
        assert any(not clips_agree(result) for result in results)
    assert results[0].shape == layer.compute_output_shape((4, 2, 16, 16, 3))


@pytest.mark.parametrize("name", ["RandomRotation", "RandomErasing", "RandomColorJitter"])
def test_a_clip_is_changed_as_the_layer_changes_its_frames(name):
    # What the bare layer does to the first frames is what the wrapper does to the clips.
    clips = np.random.default_rng(0).uniform(0, 255, still_clips().shape).astype("float32")
    wrapped = array(ClipAugmentation(make(name))(clips, training=True))
    for index in range(clips.shape[1]):
        assert np.allclose(wrapped[:, index], array(make(name)(clips[:, index], training=True)))


def test_the_state_after_a_clip_is_that_after_an_image():
    wrapped, bare = ClipAugmentation(make("RandomRotation")), make("RandomRotation")
    for _ in range(2):
        wrapped(still_clips(), training=True)
        bare(still_clips()[:, 0], training=True)
    assert array(wrapped.layer.generator.state.value).tolist() == array(bare.generator.state.value).tolist()
    assert [variable.path for variable in wrapped.variables] == [wrapped.layer.generator.state.path]


@pytest.mark.parametrize("clips", [still_clips()[0], still_clips()[0].astype("uint8")], ids=["float32", "uint8"])
def test_a_single_clip(clips):
    result = array(ClipAugmentation(make("RandomBrightness"))(clips, training=True))
    assert result.shape == clips.shape
    assert result.dtype == np.float32
    assert frames_agree(result[None])
    assert (result != clips).any()


def test_inference_changes_nothing():
    clips = still_clips()
    assert np.array_equal(array(ClipAugmentation(make("RandomRotation"))(clips, training=False)), clips)


@pytest.mark.slow_on("tensorflow", "jax")
def test_layers_that_change_the_size_and_a_pipeline():
    layer = ClipAugmentation(keras.layers.Pipeline([make("RandomRotation"), keras.layers.Resizing(6, 7)]))
    result = array(layer(still_clips(), training=True))
    assert result.shape == (4, 2, 6, 7, 3)
    assert frames_agree(result)
    assert not clips_agree(result)


def model(layer, frames=2, side=12):
    return keras.Sequential(
        [
            keras.Input((frames, side, side, 3)),
            ClipAugmentation(layer),
            keras.layers.GlobalAveragePooling3D(),
            keras.layers.Dense(2),
        ]
    )


def test_in_fit_and_in_a_saved_model(tmp_path):
    trained = model(make("RandomBrightness"))
    trained.compile(optimizer="sgd", loss="mse")
    clips = still_clips(side=12) / 255
    before = array(trained.layers[0].layer.generator.state.value)
    trained.fit(clips, np.ones((4, 2), "float32"), batch_size=2, epochs=2, verbose=0)
    # One draw for each of the four batches, in compiled code too.
    assert (array(trained.layers[0].layer.generator.state.value) - before).tolist() == [0, 4]
    trained.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.layers[0], ClipAugmentation)
    assert loaded.layers[0].layer.get_config() == trained.layers[0].layer.get_config()
    assert np.allclose(loaded.predict(clips, verbose=0), trained.predict(clips, verbose=0), atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly, which the other tests show")
def test_in_compiled_code():
    layer = ClipAugmentation(make("RandomColorJitter"))
    clips = still_clips()
    if BACKEND == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda x: layer(x, training=True))
        results = [compiled(clips).numpy() for _ in range(3)]
    else:
        import jax

        layer.build(clips.shape)
        compiled = jax.jit(lambda state, x: layer.stateless_call([], state, x, training=True))
        state, results = [variable.value for variable in layer.non_trainable_variables], []
        for _ in range(3):
            result, state = compiled(state, clips)
            results.append(np.asarray(result))
    for result in results:
        # Compiled, the same frame at another place can differ in its last bit.
        assert np.allclose(result, result[:, :1], atol=1e-3)
    assert not np.array_equal(results[0], results[1]) or not np.array_equal(results[1], results[2])


@pytest.mark.parametrize("name", ["RandomRotation", "RandomColorJitter"])
def test_in_a_map_of_tf_data(name):
    tf = pytest.importorskip("tensorflow")
    layer = ClipAugmentation(make(name))
    # Side by side, so that draws of one clip could get among those of another.
    data = tf.data.Dataset.from_tensors(still_clips()[0]).repeat(24)
    data = data.map(lambda clip: layer(clip, training=True), num_parallel_calls=4)
    results = np.stack([clip.numpy() for clip in data])
    assert results.shape == (24, 2, 16, 16, 3)
    assert frames_agree(results)
    assert not clips_agree(results)


def test_in_a_map_of_grain():
    grain = pytest.importorskip("grain")
    layer = ClipAugmentation(make("RandomBrightness"))
    data = grain.MapDataset.source([still_clips()[0]] * 8).map(lambda clip: array(layer(clip, training=True)))
    results = np.stack(list(data.to_iter_dataset()))
    assert frames_agree(results)
    assert not clips_agree(results)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomRotation", {"factor": 0.3}),
        ("RandomColorJitter", {"value_range": (0, 255)} | ARGUMENTS["RandomColorJitter"]),
        ("RandomChannelShift", {"value_range": (0, 255), "factor": 0.5}),
    ],
)
def test_layers_of_keras_cv(name, arguments):
    keras_cv = pytest.importorskip("keras_cv")
    layer = ClipAugmentation(getattr(keras_cv.layers, name)(**arguments))
    results = [array(layer(still_clips(), training=True)) for _ in range(2)]
    assert frames_agree(results[0])
    assert not clips_agree(results[0])
    assert not np.array_equal(*results)
    single = array(layer(still_clips()[0], training=True))
    assert frames_agree(single[None])
    with pytest.raises(ValueError, match=r"layer=RandAugment of KerasCV draws inside of branches"):
        ClipAugmentation(keras_cv.layers.RandAugment(value_range=(0, 255)))


def test_config_comes_back():
    layer = ClipAugmentation(make("RandomZoom"), name="zoom")
    again = ClipAugmentation.from_config(layer.get_config())
    assert again.name == "zoom"
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("name", MIXES_BATCHES)
def test_layers_that_mix_batches_are_refused(name):
    with pytest.raises(ValueError, match=rf"layer={name} mixes .* use keras_video_focalnet\.data\.mixing\.Mixing"):
        ClipAugmentation(getattr(keras.layers, name)())


def test_bad_arguments_are_refused():
    with pytest.raises(TypeError, match=r"layer must be a Keras layer, received 'RandomFlip'"):
        ClipAugmentation("RandomFlip")
    layer = ClipAugmentation(make("RandomFlip"))
    with pytest.raises(ValueError, match=r"takes clips of shape .* received shape \(16, 16, 3\)"):
        layer(still_clips()[0, 0])
    with pytest.raises(ValueError, match=r"number of frames must be known, received shape \(None, None, 16, 16, 3\)"):
        layer(keras.Input((None, 16, 16, 3)))
