"""Whatever is wrong with a file, reading it gives a clip or an error that names it: no crash, no hang."""

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_video_focalnet.data.clip import read_frames
from tests.clips import encode, real_clips, write_audio

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


def damage(folder, sound, count):
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
    paths = damage(tmp_path, sound, 300)
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
