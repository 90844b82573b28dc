"""Clip transforms: what they draw, that all frames share it, and what colours and places become."""

import colorsys
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from keras_video_focalnet.data.clip import resize_and_crop
from keras_video_focalnet.data.clip_transform import draw_box
from keras_video_focalnet.data.color import ColorJitter, RandomGray, from_sheet, shift_hue, to_sheet
from keras_video_focalnet.data.rand_augment import OPERATIONS, RandAugment
from keras_video_focalnet.data.transforms import (
    CenterCrop,
    Compose,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
    ScaleJitter,
    training_transforms,
)
from tests.clips import marked_frame, quadrants

pytestmark = pytest.mark.backend_free

EVERY = [
    RandomResizedCrop(24),
    RandomFlip(probability=1.0),
    ColorJitter(probability=1.0),
    RandomGray(probability=1.0),
    RandAugment(),
    RandomErasing(probability=1.0),
]


def name_of(transform):
    return type(transform).__name__


def picture(height=36, width=48):
    """Smooth colours, different everywhere."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 255 // width, y * 255 // height, (x + 2 * y) % 256], -1).astype(np.uint8)


def still(frames=4, **sides):
    return np.stack([picture(**sides)] * frames)


def moving(frames=4):
    return np.stack([np.roll(picture(), 3 * index, axis=1) for index in range(frames)])


def rng(seed=0):
    return np.random.default_rng(seed)


# ---- One draw for all frames


@pytest.mark.parametrize("transform", EVERY, ids=name_of)
def test_a_still_clip_stays_still_and_changes(transform):
    results = [transform(still(), rng(seed)) for seed in range(12)]
    for result in results:
        assert result.dtype == np.uint8
        assert (result == result[0]).all()
    distinct = {result.tobytes() for result in results}
    assert any(result.shape != still().shape or (result != still()).any() for result in results)
    assert len(distinct) > (1 if type(transform) in (RandomFlip, RandomGray) else 8) - 1


@pytest.mark.parametrize("transform", EVERY, ids=name_of)
def test_per_frame_draws_for_every_frame(transform):
    probability = {"probability": 0.5} if hasattr(transform, "probability") else {}
    transform = dataclasses.replace(transform, per_frame=True, **probability)
    results = [transform(still(8), rng(seed)) for seed in range(3)]
    assert any((result != result[0]).any() for result in results)
    assert results[0].shape[0] == 8


@pytest.mark.parametrize("transform", [*EVERY, ScaleJitter(), CenterCrop(24)], ids=name_of)
def test_is_a_function_of_the_clip_and_the_generator(transform):
    clip = moving()
    before = clip.copy()
    first = transform(clip, rng(5))
    assert (first == pickle.loads(pickle.dumps(transform))(clip, rng(5))).all()
    assert (clip == before).all()
    assert first.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("transform", [t for t in EVERY if hasattr(t, "probability")], ids=name_of)
def test_probability_is_the_share_of_clips_that_change(transform):
    never = dataclasses.replace(transform, probability=0.0)
    assert (never(moving(), rng()) == moving()).all()
    half = dataclasses.replace(transform, probability=0.5)
    generator, clip = rng(1), still(1)
    changed = np.mean([(half(clip, generator) != clip).any() for _ in range(400)])
    assert 0.42 < changed < 0.58


# ---- Places


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_boxes_lie_in_the_picture(height, width, seed):
    box = draw_box(rng(seed), height, width, (0.08, 1.0), (3 / 4, 4 / 3))
    if box is not None:
        top, left, rows, columns = box
        assert min(top, left) >= 0
        assert min(rows, columns) >= 1
        assert top + rows <= height
        assert left + columns <= width


def test_boxes_have_the_area_and_aspect_asked_for():
    generator = rng()
    boxes = np.array([draw_box(generator, 500, 500, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(2000)])
    areas, aspects = boxes[:, 2] * boxes[:, 3] / 500**2, boxes[:, 3] / boxes[:, 2]
    assert 0.078 < areas.min() < 0.09
    assert 0.95 < areas.max() <= 1
    assert 0.74 < aspects.min() < 0.76
    assert 1.32 < aspects.max() < 1.35
    # Evenly in the logarithm: as often wide as high.
    assert 0.45 < np.mean(aspects > 1) < 0.55
    assert 0 in boxes[:, 0]
    assert 500 in boxes[:, 0] + boxes[:, 2]


def test_a_crop_of_everything_is_a_resize():
    clip = still(2, height=30, width=30)
    result = RandomResizedCrop(15, area=(1.0, 1.0), aspect=(1.0, 1.0))(clip, rng())
    expected = np.asarray(Image.fromarray(clip[0]).resize((15, 15), Image.Resampling.BILINEAR))
    assert (result == expected).all()


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10)])
def test_a_picture_without_room_gives_its_middle(height, width):
    clip = np.zeros((1, height, width, 3), np.uint8)
    clip[:, height // 2 - 5 : height // 2 + 5, width // 2 - 5 : width // 2 + 5] = 255
    result = RandomResizedCrop(8, area=(0.9, 1.0), aspect=(1.0, 1.0))(clip, rng())
    assert (result == 255).all()


@pytest.mark.parametrize("size", [(20, 30), 1])
def test_sizes(size):
    expected = size if isinstance(size, tuple) else (size, size)
    assert RandomResizedCrop(size)(still(), rng()).shape == (4, *expected, 3)
    assert CenterCrop(size)(still()).shape == (4, *expected, 3)


def test_scale_jitter_keeps_the_aspect_and_reaches_its_range():
    generator, clip = rng(), still(1, height=60, width=90)
    heights, widths = np.array([ScaleJitter()(clip, generator).shape[1:3] for _ in range(300)]).T
    assert (heights.min(), heights.max()) == (45, 80)
    assert np.abs(widths - heights * 1.5).max() <= 1.5


def test_flip_mirrors():
    clip = np.stack([marked_frame()] * 2)
    assert quadrants(RandomFlip(probability=1.0)(clip, rng())[1]) == "GRWB"


def test_erasing_covers_the_share_asked_for_with_noise():
    clip = np.zeros((3, 100, 100, 3), np.uint8)
    generator = rng()
    shares = []
    for _ in range(200):
        covered = RandomErasing(probability=1.0)(clip, generator)
        box = covered[0].any(-1)
        rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
        shares.append(len(rows) * len(columns) / 10**4)
        assert covered[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() == pytest.approx(127.5, abs=12)
    assert 0.015 < min(shares) < 0.04
    assert 0.3 < max(shares) < 0.36


def test_center_crop_is_the_test_mode_preparation():
    result = CenterCrop((24, 32))(moving())
    assert (result == np.stack([resize_and_crop(frame, 24, 32) for frame in moving()])).all()


# ---- Colours


def test_a_sheet_and_back():
    assert (from_sheet(to_sheet(moving()), 4) == moving()).all()


@pytest.mark.parametrize(
    ("name", "strength", "range_"),
    [("brightness", 0.4, (0.6, 1.4)), ("saturation", 0.2, (0.8, 1.2)), ("brightness", 1.5, (0.0, 2.5))],
)
def test_factors_are_even_around_one(name, strength, range_):
    clip = np.full((1, 1, 1, 3), (100, 90, 80), np.uint8)
    jitter = ColorJitter(**{"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, name: strength}, probability=1.0)
    generator = rng()
    colors = np.array([jitter(clip, generator)[0, 0, 0] for _ in range(1000)], float)
    grey = 92 if name == "saturation" else 0
    factors = (colors[:, 0] - grey) / (100 - grey)
    # A level and a half: fractions are cut off.
    step = 1.5 / (100 - grey)
    assert factors.min() == pytest.approx(range_[0], abs=step)
    assert factors.max() == pytest.approx(range_[1], abs=step)
    assert factors.mean() == pytest.approx(sum(range_) / 2, abs=0.07)


def test_contrast_is_about_the_mean_grey_of_the_clip():
    clip = np.zeros((2, 4, 4, 3), np.uint8)
    clip[1] = 100
    jitter = ColorJitter(brightness=0, contrast=0.4, saturation=0, hue=0, probability=1.0)
    for seed in range(10):
        dark, light = jitter(clip, rng(seed))[:, 0, 0, 0].astype(int)
        # Dark is clipped at black when contrast grows.
        assert dark == pytest.approx(max(0, 100 - light), abs=1)
        assert 80 <= light <= 120


@given(st.tuples(*[st.integers(0, 255)] * 3), st.floats(-0.5, 0.5))
def test_hue_turns_as_the_colour_circle_does(color, shift):
    pixel = Image.fromarray(np.full((1, 1, 3), color, np.uint8))
    turned = np.asarray(shift_hue(pixel, shift))[0, 0]
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    expected = np.array(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value)) * 255
    # A step of hue is 1/255 of the circle, and saturation is rounded too: 6 levels at full colour.
    assert np.abs(turned - expected).max() <= 9


def test_order_of_the_four_is_drawn():
    clip = np.full((1, 1, 1, 3), (250, 120, 10), np.uint8)
    clip = np.concatenate([clip, clip // 3], 2)
    factors = {"brightness": 0.4, "contrast": 0.4, "saturation": 0, "hue": 0}
    differing = 0
    for seed in range(20):
        result = ColorJitter(**factors, probability=1.0)(clip, rng(seed))
        generator = rng(seed)
        generator.random()
        order = [index for index in generator.permutation(4) if index < 2]
        drawn = dict(zip(order, generator.uniform(0.6, 1.4, 2), strict=True))
        enhance = {0: ImageEnhance.Brightness, 1: ImageEnhance.Contrast}
        sheets = []
        for sequence in (order, order[::-1]):
            sheet = to_sheet(clip)
            for index in sequence:
                sheet = enhance[index](sheet).enhance(drawn[index])
            sheets.append(from_sheet(sheet, 1))
        assert (result == sheets[0]).all()
        differing += (sheets[0] != sheets[1]).any()
    assert differing > 5


def test_grey_has_three_equal_channels():
    result = RandomGray(probability=1.0)(moving(), rng())
    assert (result == result[..., :1]).all()
    assert (result[..., 0] == np.asarray(to_sheet(moving()).convert("L")).reshape(4, 36, 48)).all()


# ---- RandAugment


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_a_clip_at_full_strength_alone(name):
    operation = OPERATIONS[name]
    clip = moving() // 2 + 40
    strong = operation(clip, 1.0)
    assert strong.shape == clip.shape
    assert strong.dtype == np.uint8
    assert (strong != clip).any() == (name != "identity")
    measured = ("auto contrast", "equalize")
    assert (operation(clip, 0.0) == clip).all() == (name not in measured)
    directed = ("posterize", "solarize", "identity", *measured)
    assert (operation(clip, -1.0) == strong).all() == (name in directed)


def test_geometric_operations_move_what_they_should():
    clip = np.zeros((1, 41, 41, 3), np.uint8)
    clip[0, 20, 10] = 255

    def place(name, strength):
        moved = OPERATIONS[name](clip, strength)[0].astype(int)
        bright = np.where(moved.min(-1) > 100, moved[..., 0], 0) * (np.abs(moved - 128).max(-1) > 8)
        return np.argwhere(bright == bright.max()).mean(0)

    assert place("translate x", -10 / 41 / 0.45).tolist() == [20, 20]
    assert place("translate y", 10 / 41 / 0.45).tolist() == [10, 10]
    assert place("rotate", 1.0) == pytest.approx([20 + 10 * np.sin(np.pi / 6), 20 - 10 * np.cos(np.pi / 6)], abs=1)
    assert place("shear y", 1.0) == pytest.approx([20 + 3, 10], abs=1)


def test_rand_augment_draws_count_operations(monkeypatch):
    called = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda clip, strength, name=name: called.append((name, strength)) or clip)
    generator = rng()
    for _ in range(300):
        RandAugment(count=3, magnitude=7)(still(1), generator)
    assert len(called) == 900
    assert {name for name, _ in called} == set(OPERATIONS)
    assert {strength for _, strength in called} == {-0.7, 0.7}
    assert (RandAugment(count=0)(moving(), rng()) == moving()).all()


def test_rand_augment_can_leave_operations_out_and_draw_their_strength(monkeypatch):
    called = []
    for name in OPERATIONS:
        monkeypatch.setitem(OPERATIONS, name, lambda clip, strength: called.append(abs(strength)) or clip)
    generator = rng()
    for _ in range(300):
        RandAugment(count=4, magnitude=7, operation_probability=0.5, spread=0.5)(still(1), generator)
    assert 520 < len(called) < 680
    assert 0.69 < np.mean(called) < 0.71 and 0.04 < np.std(called) < 0.06
    for _ in range(300):
        RandAugment(count=4, magnitude=10, spread=5)(still(1), generator)
    assert min(called) >= 0 and max(called) == 1


@pytest.mark.parametrize(
    "arguments, message", [({"operation_probability": 1.5}, "operation_prob"), ({"spread": -1}, "spread")]
)
def test_rand_augment_refuses_what_is_no_chance(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**arguments)


# ---- The chain


def test_training_transforms_in_order():
    chain = training_transforms(24, scale_jitter=(0.75, 1.33), rand_augment=(2, 9), erasing=0.25)
    assert chain == Compose(
        [
            ScaleJitter(0.75, 1.33),
            RandomResizedCrop((24, 24)),
            RandomFlip(0.5),
            ColorJitter(probability=0.8),
            RandomGray(0.2),
            RandAugment(2, 9),
            RandomErasing(0.25),
        ]
    )
    only_crop = training_transforms(24, area=(0.5, 1.0), flip=0, color_jitter=0, gray=0)
    assert only_crop == Compose([RandomResizedCrop((24, 24), area=(0.5, 1.0))])
    assert chain(moving(), rng()).shape == (4, 24, 24, 3)
    assert training_transforms(24, per_frame=True).transforms[1].per_frame


def test_workers_load_neither_keras_nor_a_backend():
    code = (
        "import sys, numpy as np, keras_video_focalnet.data.transforms as t, keras_video_focalnet.data.mixing as m;"
        "chain = t.training_transforms(16, rand_augment=(2, 9), erasing=1.0);"
        "clip = chain(np.zeros((2, 32, 32, 3), np.uint8), np.random.default_rng(0));"
        "m.Mixing(2)(clip[None], np.array([0]), np.random.default_rng(0));"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


# ---- Bad arguments


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip(probability=1.5), r"probability must be a number in \[0, 1\], received 1\.5"),
        (lambda: RandomResizedCrop(0), r"size must be a positive integer or \(height, width\) in pixels, received 0"),
        (lambda: RandomResizedCrop(8, area=(0.5, 1.2)), r"area must be a pair .* received \(0\.5, 1\.2\)"),
        (lambda: RandomResizedCrop(8, aspect=(2, 1)), r"aspect must be a pair .* received \(2, 1\)"),
        (lambda: ScaleJitter(0, 1), r"\(minimum, maximum\) must be a pair .* received \(0, 1\)"),
        (lambda: ColorJitter(hue=0.6), r"hue must be a number in \[0, 0\.5\], received 0\.6"),
        (lambda: ColorJitter(contrast=-1), r"contrast must be a number of at least 0, received -1"),
        (
            lambda: RandAugment(magnitude=27),
            r"magnitude must be a number in \[0, 10\], received 27; divide",
        ),
        (lambda: RandAugment(count=-1), r"count must be an integer of at least 0, received -1"),
        (lambda: RandomErasing(area=0.2), r"area must be a pair .* received 0\.2"),
        (
            lambda: RandomFlip()(np.zeros((8, 8, 3), np.uint8), rng()),
            r"clip must be .* received shape \(8, 8, 3\)",
        ),
        (lambda: RandomFlip()(np.zeros((1, 8, 8, 3)), rng()), r"clip must be a uint8 array .* dtype float64"),
        (lambda: CenterCrop(8)(np.zeros((0, 8, 8, 3), np.uint8)), r"clip must be a uint8 array .* \(0, 8, 8, 3\)"),
    ],
)
def test_bad_arguments_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_no_transform_or_generator_is_refused():
    with pytest.raises(TypeError, match=r"transforms must be callables .* received 'flip'"):
        Compose([RandomFlip(), "flip"])
    with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator, received 3"):
        RandomFlip()(still(), 3)
