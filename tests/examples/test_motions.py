"""The clips show the motion that their label says: proved by measuring them, not by the code that made them."""

import numpy as np
import pytest

from examples.camera_motion.motions import (
    CAMERA_MOTIONS,
    FLIPPED_HORIZONTALLY,
    OPPOSITE,
    ROTATED_BY_QUARTER,
    SPEEDS,
    camera_path,
)
from examples.camera_motion.synthesis import augment, move_window, synthesize_clip
from examples.camera_motion.windowed_picture import Picture

pytestmark = pytest.mark.backend_free

MOVING = CAMERA_MOTIONS[1:]
# How the picture moves: to the right, downwards, its growth, its clockwise turn. The reverse of what the camera does.
SEEN = {
    "static": (0, 0, 0, 0),
    "pan left": (1, 0, 0, 0),
    "pan right": (-1, 0, 0, 0),
    "tilt up": (0, 1, 0, 0),
    "tilt down": (0, -1, 0, 0),
    "zoom in": (0, 0, 1, 0),
    "zoom out": (0, 0, -1, 0),
    "roll clockwise": (0, 0, 0, -1),
    "roll counter-clockwise": (0, 0, 0, 1),
}


@pytest.fixture(scope="module")
def photograph():
    """A smooth random landscape, 240 x 320: bright and dark patches of every size from 8 pixels up."""
    rng = np.random.default_rng(7)
    total = np.zeros((240, 320))
    for cell in (8, 16, 40, 80):
        coarse = rng.normal(size=(240 // cell + 2, 320 // cell + 2))
        rows, columns = np.arange(240) / cell, np.arange(320) / cell
        by_row = np.stack([np.interp(rows, np.arange(len(coarse)), column) for column in coarse.T], 1)
        total += np.stack([np.interp(columns, np.arange(by_row.shape[1]), row) for row in by_row]) * np.sqrt(cell)
    total = 255 * (total - total.min()) / np.ptp(total)
    return np.stack([total, total[::-1] * 0.5 + total * 0.5, 255 - total], -1).astype(np.uint8)


def measured(clip):
    """Fits, by least squares on brightness alone, how the picture moves between frames; summed over the clip.

    Returns the displacement to the right and down in sides of the frame, the growth (natural logarithm) and the
    clockwise turn in radians: all small between two frames, so that the equation of optical flow holds.
    """
    grey = clip.astype(float).mean(-1)
    size = grey.shape[1]
    y, x = (np.mgrid[0:size, 0:size] + 0.5) / size - 0.5
    total = np.zeros(4)
    for before, after in zip(grey, grey[1:], strict=False):
        down, right = np.gradient((before + after) / 2, 1 / size)
        columns = [right, down, right * x + down * y, down * x - right * y]
        inner = slice(3, -3)
        equations = np.stack([column[inner, inner].ravel() for column in columns], 1)
        total += np.linalg.lstsq(equations, (before - after)[inner, inner].ravel(), rcond=None)[0]
    return total


def motion_shown(clip):
    """Which motion a clip shows, by `measured`."""
    found = measured(clip) * [1, 1, 0.5, 0.5]
    if np.abs(found).max() < 0.01:
        return "static"
    kind = np.abs(found).argmax()
    return next(motion for motion, seen in SEEN.items() if seen[kind] == np.sign(found[kind]))


def test_classes_are_those_of_the_weights():
    assert CAMERA_MOTIONS == (
        "static",
        "pan left",
        "pan right",
        "tilt up",
        "tilt down",
        "zoom in",
        "zoom out",
        "roll clockwise",
        "roll counter-clockwise",
    )


@pytest.mark.parametrize("motion", CAMERA_MOTIONS)
def test_window_moves_as_named_and_as_far_as_asked(photograph, motion):
    amount = {"pan": 0.12, "tilt": 0.12, "zoom": 1.2, "roll": 9.0}.get(motion.split()[0])
    clip = move_window(photograph, motion, amount, coverage=0.6)
    expected = {"pan": 0.12, "tilt": 0.12, "zoom": np.log(1.2), "roll": np.radians(9)}.get(motion.split()[0], 0)
    np.testing.assert_allclose(measured(clip), np.array(SEEN[motion]) * expected, atol=0.02)
    assert motion_shown(clip) == motion


def test_picture_moves_right_when_camera_pans_left():
    dot = np.zeros((100, 200, 3), np.uint8)
    dot[45:55, 95:105] = 255
    columns = [frame[..., 0].sum(0).argmax() for frame in move_window(dot, "pan left", 0.4, size=50)]
    assert np.all(np.diff(columns) > 0) and columns[-1] - columns[0] == pytest.approx(0.4 * 50, abs=3)


def test_phase_correlation_agrees_on_pan_and_tilt(photograph):
    for motion, axis, sign in (("pan left", 1, 1), ("pan right", 1, -1), ("tilt up", 0, 1), ("tilt down", 0, -1)):
        clip = move_window(photograph, motion, 0.25, coverage=0.8).astype(float).mean(-1)
        window = np.hanning(64)[:, None] * np.hanning(64)
        first, last = (np.fft.fft2((frame - frame.mean()) * window) for frame in (clip[0], clip[-1]))
        cross = last * first.conj()
        peak = np.array(np.unravel_index(np.fft.ifft2(cross / (np.abs(cross) + 1e-6)).real.argmax(), (64, 64)))
        shift = (peak + 32) % 64 - 32
        assert shift[axis] == pytest.approx(sign * 16, abs=2) and abs(shift[1 - axis]) <= 2


def test_zoom_grows_and_roll_turns_a_cross():
    cross = np.zeros((201, 201, 3), np.uint8)
    cross[95:106, 60:141] = 255
    zoomed = move_window(cross, "zoom in", 1.5, size=100)
    widths = [(frame[50, :, 0] > 127).sum() for frame in zoomed]
    assert np.all(np.diff(widths) > 0) and widths[-1] / widths[0] == pytest.approx(1.5, rel=0.1)
    rolled = move_window(cross, "roll clockwise", 40, size=100)[-1, ..., 0] > 127
    y, x = np.nonzero(rolled)
    # In the last frame the bar's right end is up (y counts downwards): counter-clockwise, by half of the 40 degrees.
    slope = np.polyfit(x, y, 1)[0]
    assert np.degrees(np.arctan(slope)) == pytest.approx(-20, abs=2)


@pytest.mark.parametrize("motion", CAMERA_MOTIONS)
@pytest.mark.parametrize(
    ("mapping", "change"),
    [
        (OPPOSITE, lambda clip: clip[::-1]),
        (FLIPPED_HORIZONTALLY, lambda clip: clip[:, :, ::-1]),
        (ROTATED_BY_QUARTER, lambda clip: np.rot90(clip, axes=(1, 2))),
    ],
    ids=["reversed", "flipped", "rotated"],
)
def test_label_changes_as_the_picture_does(photograph, motion, mapping, change):
    clip = move_window(photograph, motion, {"zoom": 1.25, "roll": 12.0}.get(motion.split()[0], 0.12), coverage=0.6)
    assert motion_shown(clip) == motion
    assert motion_shown(change(clip)) == mapping[motion]


def test_mappings_are_permutations():
    for mapping in (OPPOSITE, FLIPPED_HORIZONTALLY, ROTATED_BY_QUARTER):
        assert sorted(mapping) == sorted(mapping.values()) == sorted(CAMERA_MOTIONS)
    for motion in CAMERA_MOTIONS:
        assert OPPOSITE[OPPOSITE[motion]] == FLIPPED_HORIZONTALLY[FLIPPED_HORIZONTALLY[motion]] == motion
        rotated_by_half = ROTATED_BY_QUARTER[ROTATED_BY_QUARTER[motion]]
        assert rotated_by_half == (OPPOSITE[motion] if motion.startswith(("pan", "tilt")) else motion)


def test_augmented_labels_stay_true(photograph):
    amounts = {"zoom": 1.25, "roll": 12.0}
    clips = np.stack(
        [move_window(photograph, m, amounts.get(m.split()[0], 0.12), coverage=0.6) for m in CAMERA_MOTIONS * 6]
    )
    labels = np.arange(len(clips)) % 9
    changed, new_labels = augment(clips, labels, np.random.default_rng(0))
    assert changed.shape == clips.shape and changed.dtype == np.uint8
    assert len(np.unique(new_labels[labels == 1])) > 1
    assert [motion_shown(clip) for clip in changed] == [CAMERA_MOTIONS[label] for label in new_labels]
    assert np.array_equal(labels, np.arange(len(clips)) % 9)


def test_easy_clips_show_their_label(photograph):
    rng = np.random.default_rng(3)
    for motion in CAMERA_MOTIONS:
        for _ in range(4):
            clip = synthesize_clip(photograph, motion, rng, difficulty=0.0, size=48, num_frames=24)
            assert motion_shown(clip) == motion


def test_clip_is_a_function_of_the_seed(photograph):
    first, second, third = (
        synthesize_clip(photograph, "zoom out", np.random.default_rng(seed), others=[photograph]) for seed in (5, 5, 6)
    )
    assert np.array_equal(first, second) and not np.array_equal(first, third)


@pytest.mark.parametrize(("frames", "size"), [(8, 64), (5, 33)])
def test_shapes_and_types(photograph, frames, size):
    rng = np.random.default_rng(0)
    for motion in CAMERA_MOTIONS:
        for clip in (
            synthesize_clip(photograph, motion, rng, num_frames=frames, size=size),
            move_window(photograph, motion, rng=rng, num_frames=frames, size=size),
        ):
            assert clip.shape == (frames, size, size, 3) and clip.dtype == np.uint8


def test_window_stays_within_the_picture():
    white = np.full((150, 220, 3), 255, np.uint8)
    rng = np.random.default_rng(1)
    for motion in MOVING:
        for speed in SPEEDS[motion.split()[0]]:
            assert move_window(white, motion, speed, rng=rng, coverage=1.0).min() == 255


def test_footage_gives_one_frame_each_and_keeps_its_own_motion(photograph):
    footage = np.stack([np.full((90, 120, 3), level, np.uint8) for level in (10, 20, 30, 40, 50)])
    clip = move_window(footage, "pan left")
    assert clip.shape == (5, 64, 64, 3)
    assert clip.mean((1, 2, 3)).tolist() == [10, 20, 30, 40, 50]


def test_static_window_repeats_the_photograph_exactly(photograph):
    clip = move_window(photograph, "static")
    assert np.array_equal(clip, np.broadcast_to(clip[:1], clip.shape))


def test_path_follows_its_easing():
    even, gentle = camera_path("pan right", 0.3), camera_path("pan right", 0.3, easing="ease")
    assert np.ptp(np.diff(even.x)) < 1e-12
    assert gentle.x[-1] - gentle.x[0] == pytest.approx(0.3)
    assert np.diff(gentle.x)[0] < np.diff(gentle.x)[3]


@pytest.mark.parametrize(
    ("call", "remedy"),
    [
        (lambda p: move_window(p, "dolly"), "pass one of static, pan left"),
        (lambda p: move_window(p, "pan left", 0.0), "positive amount"),
        (lambda p: move_window(p, "zoom in", 0.9), "factor above 1"),
        (lambda p: move_window(p, "pan left", coverage=1.5), "at most 1"),
        (lambda p: move_window(p, "pan left", easing="bounce"), "pass one of linear"),
        (lambda p: move_window(p, "pan left", num_frames=1), "pass 2 or more"),
        (lambda p: move_window(p[..., 0], "pan left"), "footage"),
        (lambda p: move_window(p[..., 0].astype(float)[..., None], "pan left"), "uint8"),
        (lambda p: Picture(p.astype(np.float32)), "scale floats to 0-255"),
        (lambda p: synthesize_clip(p, "dolly", np.random.default_rng(0)), "pass one of static"),
        (lambda p: synthesize_clip(p, "static", np.random.default_rng(0), 2.0), "from 0 to 1.5"),
        (lambda p: augment(np.zeros((1, 8, 4, 5, 3)), [0], np.random.default_rng(0)), "square"),
    ],
)
def test_errors_tell_the_remedy(photograph, call, remedy):
    with pytest.raises(ValueError, match=remedy):
        call(photograph)
