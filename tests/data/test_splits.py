"""Dividing videos in training and validation, and the weights of classes."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_video_focalnet.data.datasets import VideoList, VideoRecord

pytestmark = pytest.mark.backend_free

NAMES = ("a", "b", "c")


def listed(*counts, name="{label}-{number}.mp4"):
    """So many videos of each class."""
    return VideoList(
        [
            VideoRecord(name.format(label=label, number=n), label)
            for label, count in enumerate(counts)
            for n in range(count)
        ],
        NAMES[: len(counts)],
    )


def labels(videos):
    return collections.Counter(record.label for record in videos)


@pytest.mark.parametrize(
    ("fraction", "counts", "expected"),
    [
        (0.2, (10, 20, 5), (2, 4, 1)),
        (0.25, (4, 8, 4), (1, 2, 1)),
        (0.5, (2, 2, 2), (1, 1, 1)),
        (0.9, (10, 10, 20), (9, 9, 18)),
    ],
)
def test_each_class_gives_its_part(fraction, counts, expected):
    videos = listed(*counts)
    for seed in range(5):
        training, validation = videos.split(fraction, seed)
        assert labels(validation) == dict(enumerate(expected))
        assert sorted([*training, *validation], key=str) == sorted(videos, key=str)
        assert training.class_names == validation.class_names == videos.class_names


def test_the_same_seed_gives_the_same_parts_in_any_order():
    videos = listed(10, 20, 5)
    training, validation = videos.split(0.2, seed=3)
    backwards = VideoList(reversed(videos.records), videos.class_names).split(0.2, seed=3)
    assert set(backwards[1]) == set(validation)
    assert list(training) == [record for record in videos if record in set(training)]
    assert len({tuple(videos.split(0.2, seed)[1]) for seed in range(10)}) > 5


def test_parts_of_a_file_stay_together(tmp_path):
    records = [VideoRecord(f"{n // 4}.mp4", n % 3, float(n % 4), n % 4 + 1.0) for n in range(80)]
    (tmp_path / "0.mp4").touch()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "0.mp4")
    records += [VideoRecord(str(tmp_path / "0.mp4"), 0), VideoRecord(str(tmp_path / "link.mp4"), 1)]
    for seed in range(10):
        training, validation = VideoList(records, NAMES).split(0.25, seed)
        assert len(validation) == pytest.approx(20, abs=4)
        assert not {record.path for record in training} & {record.path for record in validation}
        links = [record.path.startswith(str(tmp_path)) for record in validation]
        assert sum(links) in (0, 2)


def test_a_class_with_few_videos_is_trained_and_told():
    with pytest.warns(UserWarning, match=r"1 of 3 classes have too few videos to validate .*0\.2 of them \(b\)"):
        training, validation = listed(10, 1, 10).split(0.2)
    assert labels(training)[1] == 1
    with pytest.warns(UserWarning, match="too few"):
        assert labels(listed(10, 1, 10).split(0.9)[0])[1] == 1


@pytest.mark.filterwarnings("ignore:.*too few videos")
@settings(max_examples=100)
@given(
    sets=st.lists(st.sets(st.integers(0, 4)).map(lambda found: tuple(sorted(found))), min_size=20, max_size=60),
    seed=st.integers(0, 5),
)
def test_every_label_is_trained_and_the_rarest_is_divided_exactly(sets, seed):
    videos = VideoList([VideoRecord(f"{n}.mp4", found) for n, found in enumerate(sets)], list("abcde"))
    training, validation = videos.split(0.3, seed)
    assert len(training) + len(validation) == len(videos)
    total = collections.Counter(label for found in sets for label in found or ["none"])
    held_out = collections.Counter(label for record in validation for label in record.label or ["none"])
    assert all(held_out[label] < count for label, count in total.items())
    # Labels of the same count are divided one after the other, so only a label that is rarer than all has the promise.
    (rarest, fewest), *others = sorted(total.items(), key=lambda item: item[1])
    if not others or fewest < others[0][1]:
        assert held_out[rarest] <= 0.3 * fewest + 1
    assert held_out["none"] <= 0.3 * total["none"] + 1


def test_several_labels_are_divided_evenly():
    generator = np.random.default_rng(0)
    sets = [tuple(np.flatnonzero(generator.random(5) < (0.1, 0.2, 0.3, 0.4, 0.5)).tolist()) for _ in range(400)]
    videos = VideoList([VideoRecord(f"{n}.mp4", found) for n, found in enumerate(sets)], list("abcde"))
    for seed in range(5):
        validation = videos.split(0.3, seed)[1]
        assert len(validation) == pytest.approx(0.3 * len(videos), abs=8)
        for label in range(5):
            held_out, total = (sum(label in found for found in of) for of in ([r.label for r in validation], sets))
            assert held_out == pytest.approx(0.3 * total, abs=8)


@pytest.mark.parametrize(
    ("fraction", "message"),
    [
        (0, r"fraction must be a number in \(0, 1\), received 0"),
        (1.0, r"fraction must be a number in \(0, 1\)"),
        (0.01, r"fraction=0\.01 leaves no video to validate; pass another fraction, or more videos"),
    ],
)
def test_fractions_that_divide_nothing(fraction, message):
    with pytest.raises(ValueError, match=message):
        listed(3, 3, 3).split(fraction)


def test_balanced_weights_give_each_class_the_same():
    videos = listed(6, 3, 1)
    weights = videos.class_weights()
    assert weights == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    totals = [weights[label] * count for label, count in labels(videos).items()]
    assert totals == pytest.approx([10 / 3] * 3)
    assert VideoList(videos[:9], NAMES).class_weights() == pytest.approx([0.75, 1.5, 1.0])


def test_balanced_weights_of_several_labels_set_with_against_without():
    records = [VideoRecord("1", (0,)), VideoRecord("2", (0, 1)), VideoRecord("3", ()), VideoRecord("4", (0,))]
    assert VideoList(records, NAMES).class_weights() == pytest.approx([1 / 3, 3.0, 1.0])


def test_one_label_or_several_but_not_both():
    assert not listed(1, 1).multi_label
    with pytest.raises(ValueError, match="records gives 2 the label 1 while others have tuples; pass integers for all"):
        VideoList([VideoRecord("1", (0,)), VideoRecord("2", 1)], NAMES)
    with pytest.raises(ValueError, match="records gives 1 the label 3 but class_names has 3 names"):
        VideoList([VideoRecord("1", (0, 3))], NAMES)
