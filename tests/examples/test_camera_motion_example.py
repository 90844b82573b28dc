"""The camera-motion example: its split, its batches, its footage, and what its weights say of clear cases."""

import numpy as np
import pytest

from examples.camera_motion.footage import SHOTS, STILL_SHOTS
from examples.camera_motion.motions import CAMERA_MOTIONS, FLIPPED_HORIZONTALLY, OPPOSITE, ROTATED_BY_QUARTER
from examples.camera_motion.photographs import HELD_OUT, TRAINING, installed_file, load_photographs, vary_photographs
from examples.camera_motion.synthesis import move_window
from tests.clips import encode


@pytest.mark.backend_free
def test_no_photograph_is_both_trained_on_and_held_out():
    assert not set(TRAINING) & set(HELD_OUT)
    assert len(set(TRAINING)) == len(TRAINING) and len(set(HELD_OUT)) == len(HELD_OUT) == 5
    for photograph in load_photographs(TRAINING + HELD_OUT):
        assert photograph.dtype == np.uint8 and photograph.shape[2] == 3 and min(photograph.shape[:2]) >= 150


@pytest.mark.backend_free
def test_varied_photographs_are_a_function_of_the_seed():
    photographs = load_photographs(TRAINING[:3])
    first, second = (vary_photographs(photographs, 12, np.random.default_rng(4)) for _ in range(2))
    assert len(first) == 15
    views = [[np.asarray(p.window((100, 90), 120)) for p in pictures] for pictures in (first, second)]
    assert np.array_equal(*views)
    assert not np.array_equal(views[0][3], views[0][4])


@pytest.mark.backend_free
def test_missing_package_is_named_with_its_remedy():
    with pytest.raises(FileNotFoundError, match="pip install"):
        installed_file("no_such_package/picture.png")
    with pytest.raises(FileNotFoundError, match="no_such_picture.png"):
        installed_file("skimage/data/no_such_picture.png")


@pytest.mark.backend_free
def test_shots_do_not_overlap_and_bear_known_labels():
    assert set(STILL_SHOTS) <= set(SHOTS)
    assert all(shot.motion in CAMERA_MOTIONS for shot in SHOTS)
    for before, after in zip(SHOTS, SHOTS[1:], strict=False):
        assert before.video != after.video or before.last == after.first


@pytest.mark.backend_free
def test_shot_is_cut_at_its_frames():
    shot = SHOTS[5]
    assert shot.clip(num_frames=4, size=32).shape == (4, 32, 32, 3)
    frames = shot.frames()
    assert frames.shape == (8, 272, 640, 3)
    # A neighbouring shot in it would differ from its first frame as much as any two pictures do.
    assert np.abs(frames.astype(int) - frames[0]).mean((1, 2, 3)).max() < 25


def test_batches_are_balanced_and_a_function_of_the_seed():
    from examples.camera_motion.train import MotionClips

    photographs = vary_photographs(load_photographs(TRAINING[:2]), 2, np.random.default_rng(0))
    first, second = (MotionClips(photographs, steps=10, scenes=2, seed=3, easy=0.5) for _ in range(2))
    clips, targets = first.batch(7)
    assert clips.shape == (18, 8, 64, 64, 3) and clips.dtype == np.uint8
    assert targets.sum(0).tolist() == [2] * 9
    assert np.array_equal(second.batch(7)[0], clips) and not np.array_equal(first.batch(8)[0], clips)


@pytest.mark.slow_on("tensorflow", "jax")
@pytest.mark.parametrize(
    "name,frames",
    [
        pytest.param("sifa_net_nano", 16, marks=pytest.mark.slow),
        pytest.param("sifa_transformer_nano", 8, marks=pytest.mark.slow),
        ("nano", 8),
    ],
)
def test_a_model_is_trained_by_the_name_of_its_builder(name, frames):
    from examples.camera_motion.train import MotionClips, build_model, motion_recipe

    model = build_model(name, seed=1)
    assert model.input_shape == (None, frames, 64, 64, 3) and model.output_shape == (None, 9)
    photographs = vary_photographs(load_photographs(TRAINING[:1]), 0, np.random.default_rng(0))
    clips, targets = MotionClips(photographs, steps=10, scenes=1, seed=3, easy=0.5, num_frames=frames).batch(0)
    assert clips.shape == (9, frames, 64, 64, 3)
    recipe = motion_recipe(200, 3e-3, 9)
    recipe.compile(model, steps_per_epoch=100, batch_size=9, jit_compile=False)
    before = [np.array(weight) for weight in model.get_weights()]
    model.train_on_batch(clips, targets)
    after = model.get_weights()
    assert all(np.isfinite(weight).all() for weight in after)
    assert sum(not np.array_equal(*pair) for pair in zip(before, after, strict=True)) > len(before) // 3


@pytest.mark.slow
def test_trained_models_are_compared_with_the_weights_that_ship(tmp_path):
    from click.testing import CliRunner

    from examples.camera_motion.compare import main
    from examples.camera_motion.train import build_model
    from keras_video_focalnet.weights.safetensors_file import write_safetensors

    # A model whose weights are in the folder is not trained again.
    model = build_model("sifa_transformer_nano")
    model.classifier.bias.assign(np.eye(9)[0] * 100)
    write_safetensors(tmp_path / "SIFATransformerNano.safetensors", model.state(), {})
    options = ["--model", "sifa-n", "--out", str(tmp_path), "--photograph-clips", "18", "--footage-places", "1"]
    result = CliRunner().invoke(main, options, catch_exceptions=False)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.output.splitlines()[2:]]
    assert [row[0] for row in rows] == ["SIFATransformerNano"] * 2 + ["VideoFocalNetNano"] * 2
    # What always says "static" is right of one motion in nine, and of every still clip.
    assert rows[0][3:] == ["8", "unseen photographs", "18", "11.1 %", "11.1 %", "100.0 %", "100.0 %"]
    assert float(rows[2][6].split()[0]) > 80


def test_first_weights_are_silent_on_a_still_clip():
    import keras

    from examples.camera_motion.first_weights import prepare
    from keras_video_focalnet.models.video_focalnet.model import VideoFocalNetNano

    model = VideoFocalNetNano(weights=None, classes=9)
    prepare(model, seed=0)
    temporal = keras.Model(model.input, model.get_layer("stage0_block0").output[2])
    photograph = load_photographs(HELD_OUT[:1])[0]
    middle = slice(3, 5)  # away from the zero padding at both ends of time
    still, moving = (temporal.predict(move_window(photograph, m)[None], verbose=0) for m in ("static", "pan left"))
    spread = [float(np.std(modulator[0, middle])) for modulator in (still, moving)]
    assert spread[0] < 0.3 * spread[1]


@pytest.mark.parametrize("name", ["VideoFocalNetNano", "SIFANetNano", "SIFATransformerNano"])
def test_weights_that_ship_tell_clear_motions_of_a_photograph_never_trained_on(name):
    import keras_video_focalnet

    model = getattr(keras_video_focalnet, name)(weights="camera_motion")
    photograph, frames = load_photographs(HELD_OUT[:1])[0], model.input_shape[1]
    clips = np.stack([move_window(photograph, motion, num_frames=frames) for motion in CAMERA_MOTIONS])

    def said(clips):
        return [CAMERA_MOTIONS[i] for i in model.predict(clips, verbose=0).argmax(-1)]

    assert said(clips) == list(CAMERA_MOTIONS)
    assert said(clips[:, ::-1]) == [OPPOSITE[motion] for motion in CAMERA_MOTIONS]
    assert said(np.repeat(clips[:, 4:5], frames, axis=1)) == ["static"] * 9


def test_views_together_say_the_same_of_a_rotated_and_mirrored_clip():
    from examples.camera_motion.evaluate import average_view_scores
    from keras_video_focalnet.models.video_focalnet.model import VideoFocalNetNano

    model = VideoFocalNetNano(weights="camera_motion")
    photograph = load_photographs(HELD_OUT[:1])[0]
    clips = np.stack([move_window(photograph, motion) for motion in CAMERA_MOTIONS])
    scores = average_view_scores(model, clips)
    assert scores.argmax(-1).tolist() == list(range(9))
    rotated = np.rot90(clips[:, :, :, ::-1], axes=(2, 3))
    # The motions of clips that were mirrored, then rotated by a quarter.
    moved = [ROTATED_BY_QUARTER[FLIPPED_HORIZONTALLY[motion]] for motion in CAMERA_MOTIONS]
    np.testing.assert_allclose(
        average_view_scores(model, rotated)[:, [CAMERA_MOTIONS.index(motion) for motion in moved]], scores, atol=1e-5
    )


@pytest.mark.slow
def test_the_clips_as_video_files_are_evaluated_as_the_example_evaluates_them(tmp_path):
    pytest.importorskip("sklearn")
    from examples.camera_motion.evaluate import measure
    from examples.camera_motion.train import unseen_photograph_clips
    from keras_video_focalnet import VideoFocalNetNano, evaluate_videos

    model = VideoFocalNetNano(weights="camera_motion")
    # Harder than those that the accuracy is promised for, so that some answers are wrong.
    clips, labels = unseen_photograph_clips(36, seed=5, difficulty=1.5)
    for motion in CAMERA_MOTIONS:
        (tmp_path / motion).mkdir()
    for number, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        encode(tmp_path / CAMERA_MOTIONS[label] / f"{number}.mkv", clip, codec="ffv1", pix_fmt="bgr0")
    by_hand, report = measure(model, clips, labels), evaluate_videos(model, tmp_path, "1x3")
    assert report["metrics"]["top1"] == pytest.approx(by_hand["accuracy"], abs=1e-6)
    assert report["confusion"] == by_hand["confusion"].tolist()
    assert 0.5 < by_hand["accuracy"] < 1
