"""`train` and Vita-CLIP: the names of a data set's classes are its texts, and a run's files are all that it needs."""

import dataclasses
import shutil
import warnings

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.vita_clip.model import VitaCLIPB
from keras_video_focalnet.weights.errors import WeightsFileError
from keras_video_focalnet.weights.safetensors_file import read_safetensors, write_safetensors
from tests.clips import encode
from tests.models.vita_clip.models import SMALL

NAMES = ("a cat", "closing a door", "opening a door")
RECIPE = kvf.get_recipe("vita_clip", epochs=2, num_frames=4, size=32, stride=1, learning_rate=0.02, rate_batch=None)
OPTIONS = {"recipe": RECIPE, "batch_size": 3, "workers": 0, "progress": False}


pytestmark = pytest.mark.slow_on("tensorflow", "jax")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with six videos of three classes."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(6):
        (folder / NAMES[number % 3]).mkdir(exist_ok=True)
        encode(folder / NAMES[number % 3] / f"{number}.mp4", rng.integers(0, 256, (6, 40, 48, 3), "uint8"))
    return folder


@pytest.fixture(scope="module", autouse=True)
def small_by_default():
    """`train` builds what it is told by a name with the builder's own sizes."""
    signature = VitaCLIPB.__signature__
    sizes = {name: value for name, value in SMALL.items() if name != "input_shape"}
    parameters = [p.replace(default=sizes.get(p.name, p.default)) for p in signature.parameters.values()]
    VitaCLIPB.__signature__ = signature.replace(parameters=parameters)
    yield
    VitaCLIPB.__signature__ = signature


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    kvf.train("vita-clip", videos, videos, out=out, **OPTIONS)
    return out


@pytest.fixture(scope="module")
def clips(videos):
    return np.stack([kvf.read_clip(videos / NAMES[0] / f"{number}.mp4", 4, 32) for number in (0, 3)])


def live_scores(model, clips):
    """Scores by text features as the weights are now, whatever is kept."""
    head = model.classifier
    video = keras.ops.convert_to_tensor(model.video_features(clips))
    scores = keras.ops.softmax(head.compare(video, head.text_features()))
    return keras.ops.convert_to_numpy(keras.ops.stop_gradient(scores))


def scores(model, clips):
    return model.predict(clips, verbose=0)


def test_the_texts_are_the_names_of_the_data_set(run, clips):
    model = kvf.open_model(run)
    assert model.labels == model.class_names == model.classifier.class_names == NAMES
    assert (model.embed_dim, model.context, model.trains) == (SMALL["embed_dim"], "class", "prompts")
    np.testing.assert_allclose(scores(model, clips), live_scores(model, clips), atol=1e-5)
    assert (run / "labels.txt").read_text().splitlines() == list(NAMES)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_start_from_clip(videos, tmp_path):
    """That prompts are random is what training is for; what does not fit names what the recipe calls it."""
    from tests.clip_states import openai_state
    from tests.models.vita_clip.models import arrays, rendering

    write_safetensors(tmp_path / "clip.safetensors", arrays(openai_state(rendering())))
    options = {**OPTIONS, "weights": tmp_path / "clip.safetensors"}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "the weights are CLIP's")
        kvf.train("vita-clip", videos, videos, out=tmp_path / "run", **options)
    options["recipe"] = dataclasses.replace(RECIPE, size=48)
    with pytest.raises(WeightsFileError, match=r"such as 32 x 32 pixels\. In training .* and size: --set size=N\."):
        kvf.train("vita-clip", videos, videos, out=tmp_path / "other", **options)


@pytest.mark.slow_on("tensorflow", "jax")
def test_every_file_of_the_run_is_the_model(run, clips, tmp_path):
    wanted = scores(kvf.open_model(run), clips)
    lone = shutil.copy(run / "best.safetensors", tmp_path / "lone.safetensors")
    for model in (
        kvf.open_model(lone),
        VitaCLIPB(weights=run),
        VitaCLIPB(weights=lone),
        VitaCLIPB(weights=run, classes=3),
    ):
        assert model.labels == NAMES
        np.testing.assert_allclose(scores(model, clips), wanted, atol=1e-5)
    fresh = VitaCLIPB(weights=None, class_names=NAMES, input_shape=(4, 32, 32, 3))
    kvf.load_weights(fresh, run)
    np.testing.assert_allclose(scores(fresh, clips), wanted, atol=1e-5)
    body = VitaCLIPB(weights=lone, include_top=False, pooling="avg")
    tokens = keras.Model(fresh.input, fresh.get_layer("block0").output)
    others = keras.Model(body.input, body.get_layer("block0").output)
    np.testing.assert_allclose(scores(others, clips), scores(tokens, clips), atol=1e-6)


def test_vectors_that_were_learned_for_other_names_are_refused(run):
    for weights in (run, run / "model.keras", run / "best.safetensors"):
        with pytest.raises(
            WeightsFileError, match="is of other class names: its class 0 is 'a cat', the model's 'a dog'"
        ):
            VitaCLIPB(weights=weights, class_names=("a dog", *NAMES[1:]))
    # What the message tells to do.
    assert kvf.open_model(run).set_class_names(["a dog", *NAMES]).output_shape == (None, 4)


def test_a_run_of_texts_alone(videos, clips, tmp_path):
    """Without a context the names are scored by their texts, whose tower nothing trains."""
    model = VitaCLIPB(class_names=NAMES, context=None, input_shape=(4, 32, 32, 3), classifier_activation=None)
    texts = keras.ops.convert_to_numpy(model.text_features)
    kvf.train(model, videos, out=tmp_path, **OPTIONS)
    found = VitaCLIPB(weights=tmp_path)
    assert (found.context, found.labels) == (None, NAMES)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found.text_features), texts)
    np.testing.assert_allclose(scores(found, clips), scores(kvf.open_model(tmp_path), clips), atol=1e-6)
    np.testing.assert_allclose(scores(found, clips), live_scores(found, clips), atol=1e-5)


class Stop(keras.callbacks.Callback):
    """Ends training like a crash, in its third step."""

    steps = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("the power is gone")


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_run_that_was_stopped_comes_to_the_same(run, videos, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(RuntimeError, match="the power is gone"):
        kvf.train("vita-clip", videos, videos, out=out, callbacks=[Stop()], save_every=1, **OPTIONS)
    kvf.train(out=out, resume=True, progress=False)
    for name in ("best.safetensors", max(path.name for path in (run / "checkpoints").iterdir())):
        place = "" if name == "best.safetensors" else "checkpoints"
        ours, theirs = (read_safetensors(folder / place / name) for folder in (out, run))
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            np.testing.assert_array_equal(array, theirs[key], err_msg=key)


@pytest.mark.slow_on("tensorflow", "jax")
def test_a_run_is_trained_on(run, videos, tmp_path):
    history = kvf.train(run, videos, out=tmp_path, **OPTIONS)
    assert history["epoch"] == [1, 2]
    assert kvf.open_model(tmp_path).labels == NAMES


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize("averaged", [False, True])
def test_saved_text_features_are_of_the_saved_weights(videos, clips, tmp_path, averaged):
    """Also without validation, which would have them computed, and by moving averages."""
    recipe = kvf.get_recipe("vita_clip", **{**vars(RECIPE), "use_ema": averaged, "ema_momentum": 0.8})
    kvf.train("vita-clip", videos, out=tmp_path, **{**OPTIONS, "recipe": recipe})
    saved = read_safetensors(tmp_path / "best.safetensors")
    model = kvf.open_model(tmp_path / "best.safetensors")
    place = next(n for n, variable in enumerate(model.weights) if variable is model.classifier.kept.features)
    live = keras.ops.convert_to_numpy(keras.ops.stop_gradient(model.classifier.text_features()))
    np.testing.assert_allclose(saved[f"{place:05d}"], live, atol=1e-6 * np.abs(live).max())
