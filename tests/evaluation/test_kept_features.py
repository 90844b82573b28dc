"""Scores of a model that compares clips with texts run its vision tower alone."""

import keras
import numpy as np
import pytest

import keras_video_focalnet as kvf
from keras_video_focalnet.models.vita_clip.text_tower import TextTower
from tests.colours import COLOURS, colour_video
from tests.small_vita_clip import SIZES

torch = pytest.importorskip("torch")

# PyTorch alone calls a layer whenever it computes; the others trace it.
pytestmark = pytest.mark.skipif(keras.backend.backend() != "torch", reason="calls are counted where all are eager")

NAMES = ("green", "red", "a blue sky")


@pytest.fixture
def texts(monkeypatch):
    """The sizes of the batches of texts that passed a text tower."""
    seen, call = [], TextTower.call

    def counting(self, inputs, ends):
        seen.append(len(ends))
        return call(self, inputs, ends)

    monkeypatch.setattr(TextTower, "call", counting)
    return seen


@pytest.fixture(scope="module", params=["class", "shared", None])
def model(request):
    return kvf.VitaCLIP(NAMES, context=request.param, templates=("{}",), input_shape=(4, 32, 32, 3), **SIZES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name in ("red", "green"):
        (folder / name).mkdir()
        colour_video(folder / name / "0.mp4", (name, 8))
    colour_video(folder / "turning.mp4", *((name, 20) for name in COLOURS))
    return folder


def test_texts_are_read_once(model, folder, texts, tmp_path):
    features = keras.ops.convert_to_numpy(model.text_features)
    assert features.shape == (3, 6) and sum(texts) >= 3
    texts.clear()
    clips = np.random.default_rng(0).integers(0, 256, (5, 4, 32, 32, 3), "uint8")
    scores = model.predict(clips, batch_size=2, verbose=0)
    with torch.no_grad():
        np.testing.assert_allclose(keras.ops.convert_to_numpy(model(clips)), scores, atol=1e-6)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.evaluate(clips, np.zeros(5), batch_size=2, verbose=0)
    model.test_on_batch(clips, np.zeros(5))
    model.video_features(clips)
    views = kvf.read_views(folder / "turning.mp4", model, kvf.Views(2, 3))
    assert kvf.score_views(model, views).shape == (3,)
    assert kvf.timeline(model, folder / "turning.mp4").segments
    assert kvf.feature_extractor(model, ["block0"]).predict(clips, verbose=0)["block0"].shape[0] == 5
    model.save(tmp_path / "model.keras")
    assert texts == []
    # Where gradients are recorded somebody may want those of a context.
    model(clips)
    assert texts == ([] if model.context is None else [3])


def test_a_table_and_a_report_read_no_texts(model, folder, texts, tmp_path):
    for package in ("sklearn", "pyarrow", "matplotlib"):
        pytest.importorskip(package)
    model.text_features  # noqa: B018
    texts.clear()
    kvf.score_videos(folder / "red", model, tmp_path / "out.parquet", workers=0)
    kvf.score_videos(folder / "red", model, tmp_path / "features.parquet", features=True, workers=0)
    (tmp_path / "list.csv").write_text(f"path,label\n{folder}/red/0.mp4,red\n{folder}/green/0.mp4,green\n")
    report = kvf.evaluate_videos(model, tmp_path / "list.csv", kvf.Views(2, 1), tmp_path / "report")
    assert report["videos"]["scored"] == 2
    assert texts == []


def test_a_saved_model_reads_a_few_texts_to_know_that_what_it_kept_is_right(model, texts, tmp_path):
    model.save(tmp_path / "model.keras")
    clip = np.zeros((1, 4, 32, 32, 3), "uint8")
    texts.clear()
    opened = kvf.open_model(tmp_path / "model.keras")
    np.testing.assert_allclose(opened.predict(clip, verbose=0), model.predict(clip, verbose=0), atol=1e-6)
    seen = list(texts)
    assert len(seen) == 1 and sum(seen) <= 4
    opened.predict(clip, verbose=0)
    assert texts == seen


def test_other_names_and_a_changed_context_are_read_again(texts):
    model = kvf.VitaCLIP(NAMES, input_shape=(4, 32, 32, 3), **SIZES)
    clip = np.random.default_rng(0).integers(0, 256, (1, 4, 32, 32, 3), "uint8")
    before = model.predict(clip, verbose=0)
    texts.clear()
    model.classifier.ctx.assign(np.random.default_rng(0).normal(size=model.classifier.ctx.shape))
    after = model.predict(clip, verbose=0)
    assert texts == [3] and np.abs(after - before).max() > 1e-4
    other = model.set_class_names(["a", "b"])
    texts.clear()
    for _ in range(2):
        other.predict(clip, verbose=0)
    assert texts == [2]
