"""`ClipDataset`: a batch is a function of seed and number, and no video, worker or shard changes that."""

import pathlib

import numpy as np
import pytest

from keras_video_focalnet.data.broken import BrokenVideos, BrokenVideosError
from keras_video_focalnet.data.clip import read_clip
from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.data.mixing import Mixing
from keras_video_focalnet.data.pipeline import ClipDataset
from keras_video_focalnet.data.transforms import CenterCrop
from tests.clips import number_of
from tests.small_videos import CLASSES, FRAMES, assert_same, dataset, make_videos, take

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


def numbers(clip):
    return [number_of(frame) for frame in clip]


def which(clips):
    """The number of the video of each clip; every frame of a clip is of that video."""
    found = [{number // FRAMES for number in numbers(clip)} for clip in clips]
    assert all(len(one) == 1 for one in found)
    return [one.pop() for one in found]


# ---- Evaluation


def test_evaluation_takes_every_video_once_in_order(videos):
    batches = list(dataset(videos, training=False).batches())
    assert [batch[0].shape for batch in batches] == [(4, 4, 56, 56, 3)] * 3
    assert which(np.concatenate([clips for clips, _, _ in batches])[:10]) == list(range(10))
    weights = np.concatenate([weights for _, _, weights in batches])
    assert weights.tolist() == [1.0] * 10 + [0.0] * 2
    targets = np.concatenate([targets for _, targets, _ in batches])
    assert targets[:10].argmax(axis=1).tolist() == [record.label for record in videos]
    assert targets.sum(axis=1).tolist() == weights.tolist()
    assert not batches[2][0][2:].any()


def test_evaluation_clips_are_those_of_read_clip(videos):
    clips, _, _ = next(iter(ClipDataset(videos, 2, num_frames=4, size=56).batches()))
    np.testing.assert_array_equal(clips, [read_clip(record.path, 4, 56) for record in videos[:2]])


# ---- Training


def test_every_epoch_takes_all_videos_in_an_order_of_its_own(videos):
    data = dataset(videos, batch_size=5)
    assert len(data) == 2
    batches = take(data.batches(), 6)
    orders = [which(np.concatenate([clips for clips, _ in batches[2 * e : 2 * e + 2]])) for e in range(3)]
    assert [sorted(order) for order in orders] == [list(range(10))] * 3
    assert len({tuple(order) for order in orders}) == 3
    for clips, targets in batches:
        assert targets.dtype == np.float32
        assert targets.argmax(axis=1).tolist() == [video % 3 for video in which(clips)]


@pytest.mark.parametrize("size", [4, 12])
def test_the_last_batch_of_an_epoch_is_filled_up_from_its_beginning(videos, size):
    data = dataset(videos, batch_size=size)
    assert len(data) == {4: 3, 12: 1}[size]
    for epoch in range(2):
        epochs = [name for number in range(len(data)) for name in data.names(epoch * len(data) + number)]
        assert sorted(epochs[:10]) == sorted(record.path for record in videos)
        assert epochs[10:] == epochs[:2]


def test_names_are_those_of_the_batch(videos):
    data = dataset(videos)
    for number, (clips, _) in enumerate(take(data.batches(), 4)):
        assert data.names(number) == [videos[video].path for video in which(clips)]
    assert dataset(videos, training=False).names(2) == [videos[8].path, videos[9].path]


def test_another_seed_gives_another_order_and_other_frames(videos):
    first, same, other = (take(dataset(videos, seed=seed).batches(), 3) for seed in (0, 0, 1))
    assert_same(first, same)
    assert which(first[0][0]) != which(other[0][0])
    again = take(dataset(videos).batches(), 6)
    frames = {tuple(numbers(clip)) for clips, _ in again for clip in clips}
    assert len(frames) > 20


@pytest.mark.parametrize(("workers", "training"), [(1, True), (2, True), (2, False)])
def test_workers_change_nothing(videos, workers, training):
    # The default transforms, and mixing: everything that draws.
    mixing = Mixing(len(CLASSES)) if training else None
    alone, helped = (
        ClipDataset(videos, 4, num_frames=4, size=32, training=training, mixing=mixing, workers=count)
        for count in (0, workers)
    )
    assert_same(take(helped.batches(), 5), take(alone.batches(), 5))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_goes_on_at_any_batch(videos, workers):
    whole = take(dataset(videos).batches(), 7)
    assert_same(take(dataset(videos, workers=workers).batches(first=4), 3), whole[4:])


def test_evaluation_can_begin_at_any_batch(videos):
    data = dataset(videos, training=False)
    assert_same(list(data.batches(first=2)), list(data.batches())[2:])
    assert list(data.batches(first=3)) == []


@pytest.mark.parametrize("training", [True, False])
def test_shards_are_slices_of_every_batch(videos, training):
    whole = dataset(videos, training=training)
    shards = [dataset(videos, training=training, shard=(index, 2)) for index in range(2)]
    assert [len(shard) for shard in shards] == [len(whole)] * 2
    parts = [take(shard.batches(), 3) for shard in shards]
    joined = [tuple(np.concatenate(pair) for pair in zip(*both, strict=True)) for both in zip(*parts, strict=True)]
    assert_same(joined, take(whole.batches(), 3))
    assert shards[0].names(1) + shards[1].names(1) == whole.names(1)


def test_mixing_softens_the_targets(videos):
    clips, targets = next(iter(dataset(videos, mixing=Mixing(3, label_smoothing=0.1)).batches()))
    assert clips.dtype == np.uint8
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    assert targets.max() < 0.94


# ---- Classes that are not alike


def uneven(videos, *counts):
    """The first videos, with so many of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    records = [VideoRecord(record.path, int(label)) for record, label in zip(videos, labels, strict=False)]
    return VideoList(records, CLASSES)


def test_a_balanced_epoch_has_all_classes_equally_often(videos):
    listed = uneven(videos, 7, 2, 1)
    data = dataset(listed, batch_size=5, balanced=True)
    epochs = [data.names(2 * epoch) + data.names(2 * epoch + 1) for epoch in range(6)]
    label = {record.path: record.label for record in listed}
    for epoch, names in enumerate(epochs):
        assert sorted(np.bincount([label[name] for name in names])) == [3, 3, 4], epoch
    together = [name for names in epochs for name in names]
    assert np.bincount([label[name] for name in together]).tolist() == [20, 20, 20]
    # Before a video comes again, all others of its class have come.
    times = np.array([together.count(record.path) for record in listed])
    assert sorted(times[:7]) == [2] + [3] * 6
    assert times[7:].tolist() == [10, 10, 20]
    assert len({tuple(names) for names in epochs}) == 6


def test_balanced_batches_are_a_function_of_seed_and_number(videos):
    listed = uneven(videos, 7, 2, 1)
    whole = take(dataset(listed, balanced=True).batches(), 7)
    assert_same(take(dataset(listed, balanced=True, workers=1).batches(first=4), 3), whole[4:])
    assert which(whole[0][0]) != which(next(iter(dataset(listed, balanced=True, seed=1).batches()))[0])
    for clips, targets in whole:
        assert targets.argmax(axis=1).tolist() == [listed[video].label for video in which(clips)]


def several_labels(videos):
    labels = [(), (0,), (0, 2), (1, 2)]
    return VideoList([VideoRecord(record.path, labels[n % 4]) for n, record in enumerate(videos)], CLASSES), labels


@pytest.mark.parametrize("training", [True, False])
def test_several_labels_are_ones_in_the_targets(videos, training):
    listed, labels = several_labels(videos)
    data = dataset(listed, training=training)
    assert data.multi_label
    for clips, targets, weights in take(data.batches(), 2):
        assert weights.tolist() == [1] * 4
        for video, target in zip(which(clips), targets, strict=True):
            assert np.flatnonzero(target).tolist() == list(labels[video % 4])
            assert set(target) <= {0, 1}


def test_several_labels_are_mixed(videos):
    listed, _ = several_labels(videos)
    clips, targets, weights = next(iter(dataset(listed, mixing=Mixing(3, multi_label=True)).batches()))
    assert targets.min() >= np.float32(0.05)
    assert targets.max() <= np.float32(0.95)
    assert weights.tolist() == [1] * 4
    with pytest.raises(ValueError, match=r"mixing has multi_label=False but the videos have True; pass Mixing\(3, "):
        dataset(listed, mixing=Mixing(3))
    with pytest.raises(ValueError, match=r"mixing has multi_label=True but the videos have False; pass Mixing\(3, "):
        dataset(videos, mixing=Mixing(3, multi_label=True))


def test_a_row_that_finds_no_video_weighs_nothing_with_several_labels(tmp_path):
    records = [VideoRecord(str(tmp_path / f"{number}.mp4"), (0,)) for number in range(4)]
    _, targets, weights = next(iter(dataset(VideoList(records, ["x", "y"]), 2, max_broken=1).batches()))
    assert not targets.any()
    assert weights.tolist() == [0, 0]


def test_what_cannot_be_balanced_is_refused(videos):
    listed, _ = several_labels(videos)
    for arguments in ({"videos": listed}, {"videos": videos, "training": False}):
        with pytest.raises(ValueError, match="balanced=True is for training with one label a video; pass"):
            dataset(balanced=True, **arguments)


# ---- Which frames


def test_segments_give_a_frame_each(videos):
    for clips, _ in take(dataset(videos).batches(), 5):
        for clip in clips:
            assert [number % FRAMES // 4 for number in numbers(clip)] == [0, 1, 2, 3]


@pytest.mark.parametrize("training", [True, False])
def test_dense_frames_are_a_stride_apart(videos, training):
    batch = next(iter(dataset(videos, training=training, sampling=("dense", 3)).batches()))
    for clip in batch[0]:
        assert np.diff(numbers(clip)).tolist() == [3, 3, 3]


def test_start_and_end_bound_the_frames(videos):
    # Ten frames a second: frames 4 to 11.
    parts = VideoList([VideoRecord(videos[5].path, 0, 0.4, 1.2)], ["x"])
    assert numbers(next(iter(dataset(parts, 1, training=False).batches()))[0][0]) == [
        5 * FRAMES + n for n in (5, 7, 9, 11)
    ]
    drawn = [numbers(clips[0]) for clips, _ in take(dataset(parts, 1).batches(), 20)]
    assert {number - 5 * FRAMES for clip in drawn for number in clip} == set(range(4, 12))


# ---- Broken videos


@pytest.fixture
def damaged(videos, tmp_path):
    """The ten videos with three more that cannot be read, at places 2, 5 and 11."""
    whole = pathlib.Path(videos[0].path).read_bytes()
    contents = {"zero.mp4": b"", "text.mp4": b"<html>not found</html>" * 50, "cut.mp4": whole[: len(whole) // 2]}
    records = list(videos)
    for place, (name, content) in zip((2, 5, 11), contents.items(), strict=True):
        (tmp_path / name).write_bytes(content)
        records.insert(place, VideoRecord(str(tmp_path / name), 1))
    return VideoList(records, CLASSES), {str(tmp_path / name) for name in contents}


@pytest.mark.parametrize("workers", [0, 2])
def test_another_video_takes_the_place_of_a_broken_one(damaged, workers):
    listed, names = damaged
    data = dataset(listed, batch_size=5, max_broken=0.3, workers=workers)
    batches = take(data.batches(), 9)
    assert data.broken.videos.keys() == names
    assert all(path in reason for path, reason in data.broken.videos.items())
    for number, (clips, targets) in enumerate(batches):
        # Each clip is a whole video's, with that video's label, and where the own video can be read it is that one.
        shown = which(clips)
        assert targets.argmax(axis=1).tolist() == [video % 3 for video in shown]
        own = data.names(number)
        assert all(own[row].endswith(f"/{video}.mp4") or own[row] in names for row, video in enumerate(shown))
    assert_same(take(dataset(listed, batch_size=5, max_broken=0.3).batches(first=3), 2), batches[3:5])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_video_weighs_nothing_in_evaluation(damaged, workers):
    listed, names = damaged
    data = dataset(listed, training=False, max_broken=0.3, workers=workers)
    clips, targets, weights = (np.concatenate(arrays) for arrays in zip(*data.batches(), strict=True))
    bad = [2, 5, 11, 13, 14, 15]
    assert np.flatnonzero(weights == 0).tolist() == bad
    assert not clips[bad].any()
    assert not targets[bad].any()
    assert which(clips[weights == 1]) == list(range(10))
    assert data.broken.videos.keys() == names


@pytest.mark.parametrize(("workers", "training"), [(0, True), (0, False), (2, True)])
def test_too_many_broken_videos_end_the_run(damaged, training, workers):
    listed, names = damaged
    data = dataset(listed, training=training, max_broken=0.16, workers=workers)
    with pytest.raises(
        BrokenVideosError, match=r"3 of an epoch.s videos cannot be read, and max_broken allows"
    ) as caught:
        take(data.batches(), len(data))
    assert all(name in str(caught.value) for name in names)
    assert "the report `broken` of the data set" in str(caught.value)
    assert data.broken.error is caught.value


def damage(whole, audio, kind, rng):
    """The bytes of a damaged video; `whole` is a sound one."""
    if kind == "flipped":
        data = np.frombuffer(whole, np.uint8).copy()
        data[rng.integers(len(data), size=len(data) // 50)] ^= rng.integers(1, 256, len(data) // 50, dtype=np.uint8)
        return data.tobytes()
    pieces = {
        "zero": b"",
        "cut": whole[: rng.integers(1, len(whole) // 2)],
        "text": b"<html>no</html>" * 99,
        "audio": audio,
    }
    return pieces[kind]


def sound(path):
    """The bytes of a file with sound and no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def readable(path):
    try:
        return read_clip(path, 4, 56) is not None
    except (ValueError, OSError):
        return False


def test_three_hundred_damaged_videos_are_all_named(videos, tmp_path):
    rng = np.random.default_rng(0)
    whole, audio = pathlib.Path(videos[0].path).read_bytes(), sound(tmp_path / "audio.mp4")
    paths = [tmp_path / f"{kind}{n}.mp4" for n in range(60) for kind in ("zero", "cut", "text", "audio", "flipped")]
    for path in paths:
        path.write_bytes(damage(whole, audio, path.stem.rstrip("0123456789"), rng))
    # A flipped bit may leave a video that can be read.
    broken = {str(path) for path in paths if not readable(path)}
    assert broken >= {str(path) for path in paths if "flipped" not in path.name}
    assert len(broken) > 270
    listed = VideoList([*videos, *(VideoRecord(str(path), 0) for path in paths)], CLASSES)
    for training, workers in ((True, 0), (False, 2)):
        data = dataset(listed, 10, training=training, workers=workers, max_broken=1)
        batches = take(data.batches(), len(data))
        assert len(batches) == 31
        assert data.broken.videos.keys() == broken
    assert sum(weights.sum() for _, _, weights in batches) == 310 - len(broken)


def test_an_epoch_forgives_what_was_found_in_another(videos, tmp_path):
    # One of ten is broken, and max_broken allows for one: every epoch finds one.
    (tmp_path / "zero.mp4").touch()
    listed = VideoList([*videos[:9], VideoRecord(str(tmp_path / "zero.mp4"), 0)], CLASSES)
    data = dataset(listed, batch_size=5, max_broken=0.1)
    assert len(take(data.batches(), 10)) == 10
    assert data.broken.count == 1


def test_after_a_resume_what_was_found_before_counts(damaged, tmp_path):
    listed, names = damaged
    report = tmp_path / "broken.csv"
    # With one video a batch the third broken one ends the run; it stops just before.
    before = dataset(listed, 1, max_broken=0.16)
    places = [number for number in range(len(before)) if before.names(number)[0] in names]
    take(before.batches(), places[2])
    before.broken.write(report)
    after = dataset(listed, 1, max_broken=0.16)
    assert len(take(after.batches(first=places[2]), 3)) == 3
    after = dataset(listed, 1, max_broken=0.16)
    after.broken.read(report)
    with pytest.raises(BrokenVideosError, match="3 of an epoch"):
        next(iter(after.batches(first=places[2])))


def test_a_row_that_finds_no_video_has_no_loss(tmp_path):
    records = [VideoRecord(str(tmp_path / f"{number}.mp4"), 0) for number in range(4)]
    data = dataset(VideoList(records, ["x", "y"]), 2, max_broken=1, mixing=Mixing(2))
    clips, targets = next(iter(data.batches()))
    assert not clips.any()
    assert not targets.any()


def test_the_report_is_a_table_that_can_be_read_again(tmp_path):
    broken = BrokenVideos()
    broken.add("a, b.mp4", 'no "video"\nat all', batch=3)
    broken.add("c\udcff.mp4", "empty")
    broken.write(tmp_path / "broken.csv")
    assert (tmp_path / "broken.csv").read_bytes().startswith(b"path,reason,batch\r\n")
    again = BrokenVideos()
    again.read(tmp_path / "broken.csv")
    assert again.videos == broken.videos
    with pytest.raises(BrokenVideosError, match="1 of an epoch"):
        again.check(0, 4, limit=0)
    again.check(4, 8, limit=0)
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(ValueError, match=r"other\.csv is no report of broken videos"):
        again.read(tmp_path / "other.csv")


# ---- Arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mixing": Mixing(9), "training": True}, r"mixing is for 9 classes but the videos have 3; pass Mixing\(3\)"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, received 0"),
        ({"batch_size": 3, "shard": (0, 2)}, "batch_size=3 cannot be divided among 2 processes"),
        ({"shard": (2, 2)}, r"shard must be \(index, count\) with 0 <= index < count, received \(2, 2\)"),
        ({"sampling": "dense"}, r"sampling must be None \(segments\) or \(\"dense\", stride\), received 'dense'"),
        ({"sampling": ("dense", 0)}, "sampling's stride must be an integer of at least 1"),
        ({"workers": -1}, "workers must be an integer of at least 0, received -1"),
        ({"max_broken": 10}, r"max_broken must be a number in \[0, 1\], received 10"),
        ({"decoder": "ffmpeg"}, 'decoder must be one of "pyav", "tensorflow-io"; received \'ffmpeg\''),
        ({"seed": -1}, "seed must be an integer of at least 0, received -1"),
        ({"training": False, "mixing": Mixing(3)}, "mixing is for training"),
    ],
)
def test_arguments_out_of_range(videos, arguments, message):
    with pytest.raises(ValueError, match=message):
        dataset(videos, **arguments)


def test_a_transform_of_another_size_is_refused(videos):
    data = dataset(videos, transform=CenterCrop(32))
    with pytest.raises(ValueError, match=r"transform gave \(4, 32, 32, 3\) uint8 where the clips are \(4, 56, 56, 3\)"):
        next(iter(data.batches()))


@pytest.mark.parametrize("crop", [CenterCrop((40, 56), 1.0, "bicubic"), CenterCrop((40, 56))])
def test_a_centre_crop_is_what_read_clip_gives(videos, crop):
    dataset = ClipDataset(videos, batch_size=2, num_frames=4, size=(40, 56), transform=crop)
    clips = next(iter(dataset.batches()))[0]
    rule = {"crop_fraction": crop.crop_fraction, "interpolation": crop.interpolation}
    expected = [read_clip(record.path, 4, (40, 56), record.start, record.end, **rule) for record in videos[:2]]
    np.testing.assert_array_equal(clips, expected)
