"""Views of a video: the reference's tables of frames and boxes, and one decode for all views of any model."""

import json
from unittest import mock

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import keras_video_focalnet as kvf
from keras_video_focalnet.data.clip_rule import ClipRule
from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.evaluation.views import Views, class_scores, read_views, score_views, three_boxes
from tests.clips import encode, number_of, numbered_frames
from tests.golden import golden

# What is tested here is the same on every backend but for the model; `make verify` runs it on all.
pytestmark = pytest.mark.slow_on("tensorflow", "jax")


def golden_rows(name):
    return json.loads((golden("sampling") / "expected.json").read_text())[name]


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """100 frames, wider than high, that show their numbers."""
    return encode(tmp_path_factory.mktemp("views") / "numbered.mp4", numbered_frames(100, 64, 96))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """20 frames of noise, higher than wide, without loss."""
    frames = np.random.default_rng(0).integers(0, 256, (20, 80, 48, 3), np.uint8)
    path = tmp_path_factory.mktemp("views") / "noise.mkv"
    return encode(path, frames, codec="ffv1", pix_fmt="bgr0"), frames


# ---- Which frames


@pytest.mark.backend_free
def test_frames_of_one_clip_are_those_of_the_reference():
    rows = [row for row in golden_rows("test_mode") if row["frame_interval"] == 1]
    assert len(rows) > 50
    for row in rows:
        assert Views(1, 3).indices(row["total_frames"], row["num_frames"]).tolist() == [row["indices"]]


@pytest.mark.backend_free
def test_frames_of_several_clips_are_together_those_that_the_reference_takes_of_so_many():
    rows = [row for row in golden_rows("test_mode") if row["frame_interval"] == 1 and row["num_frames"] == 32]
    for row in rows:
        four = Views(4, 3).indices(row["total_frames"], 8)
        assert four.shape == (4, 8)
        assert sorted(four.ravel()) == row["indices"]
        assert (np.diff(four, axis=0) >= 0).all() and (np.diff(four, axis=1) >= 0).all()


@pytest.mark.backend_free
def test_drawn_frames_lie_where_the_reference_draws_them():
    for row in golden_rows("train_mode_ranges"):
        if row["frame_interval"] != 1:
            continue
        drawn = np.concatenate([Views(4).indices(row["total_frames"], row["num_frames"], seed) for seed in range(100)])
        assert (drawn >= row["min_index"]).all() and (drawn <= row["max_index"]).all()


@pytest.mark.backend_free
@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 12), st.integers(0, 2**32))
def test_every_clip_takes_a_frame_of_each_segment(total, frames, clips, seed):
    spread, drawn = Views(clips).indices(total, frames), Views(clips).indices(total, frames, seed)
    for indices in (spread, drawn):
        assert indices.shape == (clips, frames) and indices.dtype == np.int64
        assert indices.min() >= 0 and indices.max() < total
    edges = np.arange(frames + 1) * total / frames
    assert (spread >= np.floor(edges[:-1])).all() and (spread < np.ceil(edges[1:])).all()
    np.testing.assert_array_equal(drawn, Views(clips).indices(total, frames, seed))


@pytest.mark.backend_free
def test_a_draw_depends_on_its_seed_and_its_clip():
    first, second = (Views(4).indices(1000, 8, [7, video]) for video in (0, 1))
    assert len({tuple(clip) for clip in [*first, *second]}) == 8


# ---- Which crops


@pytest.mark.backend_free
def test_boxes_are_those_of_the_reference():
    for row in golden_rows("three_crop"):
        boxes = three_boxes(row["height"], row["width"], row["crop"], row["crop"])
        assert [list(box) for box in boxes] == row["order_xyxy"]


@pytest.mark.backend_free
@pytest.mark.parametrize("shape", [(272, 640), (640, 272), (224, 224), (100, 120), (7, 500), (500, 7)])
@pytest.mark.parametrize("size", [(224, 224), (96, 160), (160, 96)])
def test_three_crops_are_cut_out_of_the_resized_picture(shape, size):
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    scale = max(size[0] / shape[0], size[1] / shape[1])
    rows, columns = (int(side * scale + 0.5) for side in shape)
    assert size[0] in (rows, columns) or size[1] in (rows, columns)
    whole = np.asarray(Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR))
    expected = [whole[top:bottom, left:right] for left, top, right, bottom in three_boxes(rows, columns, *size)]
    np.testing.assert_array_equal(Views(1, 3).crop(picture, *size, crop_fraction=0.875), expected)


# ---- Reading


@pytest.mark.backend_free
def test_views_of_a_video_are_each_what_reading_it_alone_gives(pictures):
    path, frames = pictures
    rule = ClipRule(num_frames=4, size=(32, 32), crop_fraction=0.8)
    views = Views(3, 3)
    together = read_views(path, rule, views)
    assert together.shape == (9, 4, 32, 32, 3) and together.dtype == np.uint8
    for clip, indices in enumerate(views.indices(20, 4)):
        for crop in range(3):
            alone = [views.crop(frames[index], 32, 32, 0.8)[crop] for index in indices]
            np.testing.assert_array_equal(together[3 * clip + crop], alone)


@pytest.mark.backend_free
def test_one_view_is_what_read_clip_reads(numbered, pictures):
    for path, rule in ((numbered, ClipRule(6, (40, 56))), (pictures[0], ClipRule(5, (32, 32), 1.0, "bicubic"))):
        sizes = {"num_frames": rule.num_frames, "size": rule.size, **rule.resize_rule}
        np.testing.assert_array_equal(read_views(path, rule)[0], kvf.read_clip(path, **sizes))


@pytest.mark.backend_free
@pytest.mark.parametrize("views", ["4x3", "4x1"])
def test_a_video_is_opened_once_and_every_frame_decoded_once(numbered, views):
    from keras_video_focalnet.data import video_reader
    from keras_video_focalnet.data.video import OpenVideo

    shown = []

    def decode(self, packet):
        frames = counted(self, packet)
        shown.extend(frame.pts for frame in frames)
        return frames

    counted = OpenVideo.decode
    with (
        mock.patch.object(video_reader, "open_video", wraps=video_reader.open_video) as opened,
        mock.patch.object(OpenVideo, "decode", decode),
    ):
        clips = read_views(numbered, ClipRule(8, (64, 64)), views)
    assert opened.call_count == 1
    assert len(set(shown)) == len(shown) <= 100
    middle = clips[2::3] if views == "4x3" else clips
    assert len(middle) == 4


@pytest.mark.backend_free
def test_parts_readers_and_frames_in_memory(numbered):
    rule = ClipRule(4, (64, 96), crop_fraction=1.0)
    with kvf.VideoReader(numbered) as reader:
        part = read_views(reader, rule, "2x1", start=2.0, end=6.0)
        np.testing.assert_array_equal(part, read_views(numbered, rule, "2x1", start=2.0, end=6.0))
    numbers = [[number_of(picture) for picture in clip] for clip in part]
    assert numbers == (20 + Views(2).indices(40, 4)).tolist()
    in_memory = read_views(numbered_frames(100, 64, 96), rule, "2x1", seed=3)
    assert [number_of(p) for p in in_memory[1]] == Views(2).indices(100, 4, 3)[1].tolist()


# ---- Scores


def small(**arguments):
    return kvf.VideoFocalNetNano(weights=None, classes=5, input_shape=(4, 32, 32, 3), **arguments)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return small()


def test_the_mean_over_views_equals_doing_each_view_by_hand(model, pictures):
    path, frames = pictures
    by_hand = []
    for indices in sample_frame_indices(20, 16).reshape(4, 4).T:
        for offset in (0, 20, 10):
            # The short side, of 48 pixels, becomes 32, and the long one 53.
            clip = []
            for index in indices:
                resized = Image.fromarray(frames[index]).resize((32, 53), Image.Resampling.BILINEAR)
                clip.append(np.asarray(resized)[offset : offset + 32])
            by_hand.append(model.predict(np.stack(clip)[None], verbose=0)[0])
    scores = score_views(model, read_views(path, model, "4x3"))
    assert len(by_hand) == 12
    np.testing.assert_allclose(scores, np.mean(by_hand, axis=0), atol=1e-6)
    assert np.std(by_hand, axis=0).max() > 1e-5


def test_scores_are_averaged_after_the_softmax(model, pictures):
    clips = read_views(pictures[0], model, "2x3")
    logits_model = model.rebuild(classifier_activation=None)
    logits_model.set_weights(model.get_weights())
    # Another scale, so that the mean of logits would give something else.
    for network in (model, logits_model):
        head = network.classifier
        head.kernel.assign(head.kernel * 100)
    scores = score_views(logits_model, clips)
    np.testing.assert_allclose(scores, score_views(model, clips), atol=1e-5)
    logits = logits_model.predict(clips.astype("float32"), verbose=0).mean(0)
    exp = np.exp(logits - logits.max())
    assert np.abs(scores - exp / exp.sum()).max() > 1e-3
    for network in (model, logits_model):
        network.classifier.kernel.assign(network.classifier.kernel / 100)


def test_a_model_that_does_not_normalize_gets_its_clips_prepared(model, pictures):
    bare = small(include_preprocessing=False)
    bare.set_weights(model.get_weights())
    clips = read_views(pictures[0], bare, "1x3")
    assert clips.dtype == np.uint8
    np.testing.assert_allclose(score_views(bare, clips), score_views(model, clips), atol=1e-5)


@pytest.mark.slow
def test_an_exported_file(model, pictures, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("tensorflow")
    kvf.export(model, tmp_path / "small.onnx")
    exported = kvf.load_exported(tmp_path / "small.onnx")
    clips = read_views(pictures[0], exported, "4x3")
    np.testing.assert_array_equal(clips, read_views(pictures[0], model, "4x3"))
    np.testing.assert_allclose(score_views(exported, clips), score_views(model, clips), atol=1e-5)


def test_small_logits_are_not_taken_for_scores(pictures):
    inputs = keras.Input((4, 32, 32, 3))
    mean = keras.layers.Rescaling(1 / 255)(keras.layers.GlobalAveragePooling3D()(inputs))
    linear = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="identity")(mean))
    clips = read_views(pictures[0], linear)
    means = clips[0].mean((0, 1, 2)) / 255
    np.testing.assert_allclose(class_scores(linear, clips)[0], np.exp(means) / np.exp(means).sum(), rtol=1e-4)


# ---- Errors


@pytest.mark.backend_free
@pytest.mark.parametrize("views", ["4x2", "0x3", "x", "4", 4, (4, 3, 1), None, "1.5x3", (True, 3)])
def test_bad_views(views):
    with pytest.raises(ValueError, match="views must be clips x crops"):
        Views.parse(views)


@pytest.mark.backend_free
def test_views_in_many_forms():
    for views in ("4x3", "4 x 3", "4X3", "4×3", (4, 3), [4, 3], Views(4, 3), np.array([4, 3])):
        assert Views.parse(views) == Views(4, 3)
    assert (str(Views(4, 3)), Views(4, 3).count) == ("4x3", 12)


@pytest.mark.backend_free
def test_files_that_are_no_videos(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_views(tmp_path / "nothing.mp4", ClipRule())
    (tmp_path / "page.mp4").write_text("<html></html>" * 100)
    with pytest.raises(ValueError, match="is not a video"):
        read_views(tmp_path / "page.mp4", ClipRule(), "4x3")


def test_a_model_without_classes(pictures):
    features = kvf.VideoFocalNetNano(include_top=False, weights=None, input_shape=(4, 32, 32, 3))
    with pytest.raises(ValueError, match="pass one with its classifier"):
        score_views(features, read_views(pictures[0], features))
