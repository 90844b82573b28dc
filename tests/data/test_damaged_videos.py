"""Whatever is wrong with a file, reading it gives a clip or an error that names it: no crash, no hang. A frame is the
same however it is asked for.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from keras_video_focalnet.data import damage
from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.data.clip import read_clip, read_frames
from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.data.pipeline import ClipDataset
from keras_video_focalnet.data.video_file import VideoBytes
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, numbered_frames, real_clips, write_audio
from tests.data.fuzz_videos import disagreements, footage, fuzz, make
from tests.data.traps import make_secrets

pytestmark = pytest.mark.backend_free

# Ending, encoder and options of the sound files.
SOUND = [
    ("mp4", "libx264", {"g": "12", "bf": "2", "preset": "ultrafast"}),
    ("mkv", "libx264", {"g": "8", "preset": "ultrafast"}),
    ("ts", "libx264", {"g": "12", "preset": "ultrafast"}),
    ("avi", "mpeg4", {"g": "6"}),
    ("mov", "mpeg4", {"g": "6", "bf": "2"}),
    ("webm", "libvpx-vp9", {"g": "10", "cpu-used": "8", "deadline": "realtime"}),
    ("mp4", "libx265", {"preset": "ultrafast", "x265-params": "keyint=10:log-level=none"}),
    ("mp4", "libsvtav1", {"g": "12", "preset": "13"}),
    ("mpg", "mpeg2video", {"g": "6"}),
]

# One process reads them all: an error that none of ours is, and a crash of the C library, show in how it ends.
READER = """
import json, sys
from keras_video_focalnet.data.clip import read_clip, read_frames
for path in json.load(sys.stdin):
    outcomes = []
    for read in (
        lambda: read_clip(path, num_frames=4, size=(24, 32), threads=1),
        lambda: read_frames(path, lambda total: [0, total // 2, total - 1], short_side=24),
    ):
        try:
            frames = read()
            outcomes.append([*frames.shape, str(frames.dtype)])
        except (ValueError, OSError) as error:
            outcomes.append(str(error))
    print(json.dumps([path, outcomes]), flush=True)
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Small videos that nothing is wrong with, as `(ending, bytes)`."""
    import av

    folder = tmp_path_factory.mktemp("sound")
    frames = read_frames(real_clips() / "bikes.mp4", range(36), short_side=64)[:, :, :96]
    files = []
    for number, (ending, codec, options) in enumerate(SOUND):
        try:
            av.codec.Codec(codec, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        path = encode(folder / f"{number}.{ending}", frames, codec, options=options)
        files.append((ending, path.read_bytes()))
    return files


def truncate(rng, data):
    return data[: int(len(data) * rng.uniform(0.02, 0.98))]


def flip_bits(rng, data):
    data = bytearray(data)
    for place in rng.integers(0, len(data), int(2 ** rng.uniform(0, 9))):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def cut_out(rng, data):
    first, second = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:first] + data[second:]


def empty_out(rng, data):
    first, second = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:first] + bytes(second - first) + data[second:]


def damaged_copies(folder, sound, count):
    """Write `count` damaged videos; a list of their paths."""
    rng, paths = np.random.default_rng(0), []
    write_audio(folder / "sound.m4a")
    audio = (folder / "sound.m4a").read_bytes()
    for number in range(count):
        ending, data = sound[rng.integers(len(sound))]
        kind = number % 10
        if kind < 8:
            data = (truncate, truncate, flip_bits, flip_bits, flip_bits, flip_bits, cut_out, empty_out)[kind](rng, data)
        elif kind == 8:
            ending = rng.choice(["mp4", "avi", "mkv", "txt", "jpg", "mp3", "yuv", "mpg"])
            data = (data, rng.bytes(4000), b"<html>Not found</html>" * 50)[rng.integers(3)]
        else:
            data = b"" if rng.random() < 0.5 else audio
        path = folder / f"video {number}.{ending}"
        path.write_bytes(data)
        paths.append(str(path))
    return paths


def test_a_clip_or_an_error_that_names_the_file(tmp_path, sound):
    paths = damaged_copies(tmp_path, sound, 300)
    reader = subprocess.run(
        [sys.executable, "-c", READER], input=json.dumps(paths), capture_output=True, text=True, timeout=300
    )
    results = [json.loads(line) for line in reader.stdout.splitlines()]
    assert [path for path, _ in results] == paths, reader.stderr[-2000:]
    assert reader.returncode == 0
    for path, (clip, frames) in results:
        assert clip == [4, 24, 32, 3, "uint8"] or path in clip
        assert frames[:1] + frames[3:] == [3, 3, "uint8"] or path in frames
    broken = [path for path, (clip, _) in results if isinstance(clip, str)]
    # Some are only scratched.
    assert 60 < len(broken) < 240


# Of each of these a handful of copies; `tests.data.fuzz_videos` reads many more, of every kind.
FEW = ["h264 1.mkv", "hevc 1.mp4", "vp9 1.webm", "av1 2.mp4", "mpeg4 2.avi", "mpeg1 1.mpg", "mjpeg 1.avi"]


def test_a_frame_does_not_depend_on_what_else_is_asked_for(tmp_path):
    make_secrets(tmp_path)
    for video in FEW:
        try:
            make(tmp_path, video)
        except av_error():
            continue
        found, wrong = fuzz(tmp_path, video, range(4), (1, 2))
        assert not wrong and found.total() == 12


def av_error():
    """The error of a build of FFmpeg that lacks an encoder."""
    import av

    return av.codec.codec.UnknownCodecError


DAMAGED = Path(__file__).parent / "damaged_videos"


@pytest.mark.parametrize(
    ("name", "frames", "damage_told"),
    [
        # The decoder of MPEG-4 leaves out frames without a word: the frame before is shown again.
        ("mpeg4_left_out.mkv", 35, "of 35 packets that were decoded 2 give no frame, 3 frames show errors"),
        ("mpeg4_last.avi", 35, "of 35 packets that were decoded 1 give no frame, 1 frames show errors"),
        # Its times are those of decoding, and frames come in another order.
        ("mpeg4_disordered.mp4", 34, "of 36 packets that were decoded 1 give no frame, 7 frames show errors"),
        # Threads of the decoder of MPEG-1 lose what they meet.
        ("mpeg1_threads.m1v", 34, "of 34 packets that were decoded 2 frames show errors"),
    ],
)
@pytest.mark.parametrize("threads", [1, None, 3])
def test_damage_that_a_decoder_does_not_tell(name, frames, damage_told, threads):
    damage._told.cache_clear()
    with pytest.warns(UserWarning, match=f"{name} is damaged: {damage_told}"):
        assert disagreements(DAMAGED / name, threads) == []
    with VideoReader(DAMAGED / name, threads) as reader:
        assert len(reader) == frames


def test_an_offset_beyond_what_any_file_can_reach():
    with pytest.raises(ValueError, match=r"far_offset\.mp4 has no decodable frame"):
        read_clip(DAMAGED / "far_offset.mp4", 4, 32)


def test_an_error_of_the_disk_names_the_file(tmp_path, monkeypatch):
    path = shutil.copy(real_clips() / "bikes.mp4", tmp_path)
    data = VideoBytes(path)
    monkeypatch.setattr(data, "_read_at", failing_disk)
    with pytest.raises(OSError, match=r"\[Errno 5\] Input/output error, while reading: '.*bikes\.mp4'"):
        data.read(10)


def failing_disk(*_):
    raise OSError(errno.EIO, os.strerror(errno.EIO))


REPORTED = Path(__file__).parents[3] / "shared" / "reports" / "damaged_videos"


@pytest.mark.parametrize("name", ["av1.mp4", "h264.mp4", "hevc.mp4", "mpeg1.mpg", "vp9.webm"])
@pytest.mark.parametrize("threads", [1, None])
def test_reported_videos_are_read_the_same_and_told_of_once(name, threads):
    path = REPORTED / name
    if not path.exists():
        pytest.skip(f"the damaged video {name} is absent: it lies in ../shared/reports beside a checkout")
    damage._told.cache_clear()
    with pytest.warns(UserWarning, match=f"{name} is damaged: of .* packets that were decoded") as told:
        assert disagreements(path, threads) == []
    assert len([warning for warning in told if "is damaged" in str(warning.message)]) == 1
    assert "packets that were decoded" in damage.damage_told(path)


def test_a_frame_that_cannot_be_converted_is_an_error_that_names_the_file():
    name = "raw_error.mkv"
    path = REPORTED / name
    if not path.exists():
        pytest.skip(f"the damaged video {name} is absent: it lies in ../shared/reports beside a checkout")
    for read in (lambda: read_frames(path), lambda: read_frames(path, range(5)), lambda: list(VideoReader(path))):
        with pytest.raises(
            ValueError, match=r"raw_error\.mkv cannot be decoded \(Operation not supported\); it is damaged"
        ):
            read()


def test_the_frame_before_stands_for_a_packet_that_does_not_decode(tmp_path):
    import av

    options = {"g": "10", "cpu-used": "8", "deadline": "realtime"}
    path = encode(tmp_path / "damaged.webm", footage()[:30], "libvpx-vp9", options=options)
    data, sound = bytearray(path.read_bytes()), read_frames(path)
    with av.open(str(path)) as container:
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    for number in (9, 24):
        # No frame of VP9 begins with these bits.
        data[data.index(packets[number])] = 0x40
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="2 give no frame"), VideoReader(path) as reader:
        shown = list(reader)
    assert len(shown) == 30
    np.testing.assert_array_equal(shown[:24], sound[[*range(9), 8, *range(10, 24)]])
    np.testing.assert_array_equal(shown[24], sound[23])
    for number in range(30):
        np.testing.assert_array_equal(read_frames(path, [number])[0], shown[number])


def test_a_data_set_names_videos_that_were_read_in_spite_of_damage(tmp_path):
    sound = encode(tmp_path / "sound.mkv", numbered_frames(12), "libvpx-vp9", options={"deadline": "realtime"})
    data = bytearray(sound.read_bytes())
    place = len(data) * 3 // 4
    data[place : place + 200] = bytes(200)
    (tmp_path / "damaged.mkv").write_bytes(data)
    records = [VideoRecord(str(tmp_path / name), 0) for name in ("sound.mkv", "damaged.mkv")]
    dataset = ClipDataset(VideoList(records, ["x"]), 2, num_frames=12, size=32)
    with pytest.warns(UserWarning, match="damaged.mkv is damaged"):
        _, _, weights = next(iter(dataset.batches()))
    assert weights.tolist() == [1, 1] and dataset.broken.count == 0
    assert list(dataset.broken.damaged) == [str(tmp_path / "damaged.mkv")]
    dataset.broken.write(tmp_path / "broken.csv")
    again = BrokenVideos()
    again.read(tmp_path / "broken.csv")
    assert again.damaged == dataset.broken.damaged and not again.videos
