"""A video opens no other file and no connection, and takes no more than its size allows."""

import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from keras_video_focalnet.data import in_order
from keras_video_focalnet.data.clip import read_clip, read_frames
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, number_of, numbered_frames
from tests.data.traps import make_secrets, make_traps, servers, shows_secret

pytestmark = pytest.mark.backend_free

# A process of its own, which notes what it opens and connects to; a hook stays for good.
READER = """
import json, os, sys
folder, others, paths = json.load(sys.stdin)
opened = []
def note(event, arguments):
    if event.startswith("socket.") or (event == "open" and str(arguments[0]).startswith(tuple(others))):
        opened.append([event, str(arguments[0])])
from keras_video_focalnet.data.clip import read_clip, read_frames
from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.data.pipeline import ClipDataset
from keras_video_focalnet.data.video_reader import VideoReader
from tests.data.traps import shows_secret
def from_dataset(path):
    videos = VideoList([VideoRecord(path, 0)], ["x"])
    data = ClipDataset(videos, 1, num_frames=2, size=32, training=False)
    batch = next(iter(data.batches()))
    assert list(data.broken.videos) == [path], path
    raise ValueError(data.broken.videos[path])
readers = [lambda path: read_clip(path, 2, 32), lambda path: list(VideoReader(path)), from_dataset,
           lambda path: read_frames(open(path, "rb"))]
os.chdir(folder)
sys.addaudithook(note)
for path in paths:
    for number, read in enumerate(readers):
        try:
            outcome = "secret" if shows_secret(read(path)) else "read"
        except ValueError as error:
            outcome = str(error)
        print(json.dumps([path, number, outcome]), flush=True)
print(json.dumps(opened))
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    return folder


def opened_by_ffmpeg(path, **options):
    """What FFmpeg shows when nothing is forbidden."""
    import av

    with av.open(str(path), options=options) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_traps_reach_nothing(folder):
    outside = make_secrets(folder)
    os.mkfifo(folder / "fifo.mp4")
    with servers() as ports:
        paths = [str(path) for path in make_traps(folder, outside, *ports)]
        # They would work.
        assert shows_secret(opened_by_ffmpeg(folder / "concat near.mp4"))
        assert shows_secret(opened_by_ffmpeg(folder / "concat far.mp4", safe="0"))
        assert shows_secret(opened_by_ffmpeg(folder / "reference.mov", enable_drefs="1", use_absolute_path="1"))
        others = [str(outside.parent), str(folder / "secret"), str(folder / "fifo")]
        reader = subprocess.run(
            [sys.executable, "-c", READER],
            input=json.dumps([str(folder), others, paths]),
            capture_output=True,
            text=True,
            timeout=120,
        )
    lines = [json.loads(line) for line in reader.stdout.splitlines()]
    assert reader.returncode == 0 and lines[-1] == [], reader.stderr[-2000:]
    assert [line[:2] for line in lines[:-1]] == [[path, number] for path in paths for number in range(4)]
    for path, number, outcome in lines[:-1]:
        name = path if number < 3 else "BufferedReader"
        if path.endswith(".mov"):
            assert name in outcome and "has no decodable frame" in outcome
        else:
            assert name in outcome and "is not a video that FFmpeg can read" in outcome
            assert "playlist or text" in outcome and "Taken are MP4, MOV" in outcome


def test_the_command_line_reaches_nothing(folder):
    from click.testing import CliRunner

    from keras_video_focalnet.cli.main import main

    with servers() as ports:
        paths = list(map(str, make_traps(folder, make_secrets(folder), *ports)))
        result = CliRunner().invoke(main, ["predict", "--json", *paths])
    assert result.exit_code == 1 and json.loads(result.stdout) == []
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == len(paths)
    assert all(path in error for path, error in zip(paths, errors, strict=True))


@pytest.mark.parametrize("relative", [True, False])
def test_a_file_that_is_called_like_an_address_is_that_file(folder, monkeypatch, relative):
    make_secrets(folder)
    monkeypatch.chdir(folder)
    encode("mine.mp4", numbered_frames(8))
    with servers() as (tcp, udp):
        names = [f"udp:127.0.0.1:{udp}", f"tcp:127.0.0.1:{tcp}", f"rtp:127.0.0.1:{udp}", f"http:127.0.0.1:{tcp}"]
        names += [
            "cache:secret.mp4",
            "file:secret.mp4",
            "concat:secret.mp4|secret.ts",
            "subfile,,:secret.mp4",
            "pipe:0",
        ]
        names += ["scratch:x.mp4", "2024-05-01T12:30:05.mp4", "cam1:front.mp4", "crypto:secret.mp4", "-", "%03d.mp4"]
        names += ["data:video", "fd:", "a*.mp4", "[1].mp4", "async:secret.mp4", "lavfi:x"]
        for name in names:
            shutil.copy("mine.mp4", name)
            path = name if relative else folder / name
            assert list(map(number_of, read_frames(path))) == list(range(8)), name
            os.remove(name)
            with pytest.raises(FileNotFoundError, match="does not exist; pass the path of a video file"):
                read_clip(path)


def test_names_of_pictures_are_no_patterns(folder):
    for number, grey in enumerate((10, 200)):
        Image.new("RGB", (32, 32), (grey,) * 3).save(folder / f"a{number}.png")
    for name in ("a%d.png", "a%01d.png", "a*.png"):
        Image.new("RGB", (32, 32), (90, 90, 90)).save(folder / name)
        frames = read_frames(folder / name)
        assert frames.shape == (1, 32, 32, 3) and (frames == 90).all()


def test_what_is_no_file(folder):
    os.mkfifo(folder / "fifo.mp4")
    (folder / "frames").mkdir()
    os.mkfifo(folder / "frames" / "1.jpg")
    with pytest.raises(ValueError, match=r"1\.jpg is a pipe, socket or device"):
        read_clip(folder / "frames")
    for path in (folder / "fifo.mp4", "/dev/zero"):
        with pytest.raises(ValueError, match=r"is a pipe, socket or device; copy what it gives to a file"):
            read_clip(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_clip("a\0b.mp4")
    for address in ("https://example.com/a.mp4", "rtsp://127.0.0.1/a", "s3://bucket/a.mp4", "file:///a.mp4"):
        with pytest.raises(ValueError, match=rf"{address} is an address, not a file .*; download it first and pass"):
            VideoReader(address)


# ---- What a file may take


def changed(data, name, change):
    """A file with the first box of a name changed; `change` receives its bytes from the name on."""
    place = data.index(name)
    data = bytearray(data)
    change(memoryview(data)[place:])
    return bytes(data)


def claim_samples(count):
    def change(data):
        struct.pack_into(">II", data, 8, 1, count)

    return change


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("movie") / "movie.mp4", numbered_frames(8)).read_bytes()


def nothing(count):
    """A box of as many bytes of nothing."""
    return struct.pack(">I4s", 8 + count, b"free") + bytes(count)


def packed(boxes):
    """Some boxes as a compressed header."""
    data = zlib.compress(struct.pack(">I4s", 8 + len(boxes), b"moov") + boxes)
    parts = struct.pack(">I4s4s", 12, b"dcom", b"zlib")
    parts += struct.pack(">I4sI", 12 + len(data), b"cmvd", 8 + len(boxes)) + data
    return struct.pack(">I4sI4s", 16 + len(parts), b"moov", 8 + len(parts), b"cmov") + parts


def compressed(movie, more=0):
    """The movie with its header compressed, and as many bytes of nothing in it."""
    place = movie.index(b"moov")
    return movie[: place - 4] + packed(movie[place + 4 :] + nothing(more))


def test_tables_that_claim_more_samples_than_a_file_holds(folder, movie):
    path = folder / "many.mp4"
    for data in (movie, compressed(movie)):
        path.write_bytes(data)
        assert len(read_frames(path)) == 8
    many = changed(movie, b"stsz", claim_samples(50_000_000))
    for data in (many, compressed(many)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"many\.mp4 says that it has 50000000 samples .* more than its \d+ bytes"):
            read_clip(path)
    # FFmpeg passes over boxes that it does not know, finds headers among samples where a list of fragments leads there,
    # and repeats samples by an edit list.
    fragment = struct.pack(">I4sI4sI4sIII", 36, b"moof", 28, b"traf", 20, b"trun", 0, 50_000_000, 0)
    edits = struct.pack(">I4sI4sII", 8 + 16 + 12 * 5_000, b"edts", 16 + 12 * 5_000, b"elst", 0, 5_000) + bytes(60_000)
    track = struct.pack(">I4s", len(edits) + 28, b"trak") + edits + struct.pack(">I4sIII", 20, b"stsz", 0, 1, 10_000)
    for data in (
        struct.pack(">I4s", 8, b"junk") + many,
        struct.pack(">I4s", 8, b"\x01\x02\x03\xff") + many,
        movie + struct.pack(">I4s", 8 + len(fragment), b"mdat") + fragment,
        movie + struct.pack(">I4s", 8 + len(track), b"moov") + track,
        movie + struct.pack(">I4s", 8 + len(many), b"free") + many,
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"many\.mp4 says that it has 500000\d\d samples"):
            read_clip(path)
    # Text is no table.
    path.write_bytes(
        movie + struct.pack(">I4sI4s", 48, b"udta", 40, b"\xa9nam") + b"the elephant's trunk of wood, stszzzzzzz"[:32]
    )
    assert len(read_frames(path)) == 8


def test_headers_that_unpack_to_more_than_headers_have(folder, movie):
    path = folder / "packed.mp4"
    nested = b""
    for _ in range(3):
        nested = packed(nested + nothing(4 << 20))
    for data in (compressed(movie, 100 << 20), movie + nested):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"packed\.mp4 has headers that unpack to \d+ bytes; the limit is 8388608"):
            read_clip(path)
    path.write_bytes(nothing(0) * 20_000 + movie)
    with pytest.raises(ValueError, match=r"packed\.mp4 has more boxes than a video of its size"):
        read_clip(path)


def png(path, name, length):
    """A PNG with a part of a name and as many bytes."""
    Image.new("RGB", (32, 32), (9, 80, 200)).save(path)
    data = path.read_bytes()
    content = {b"iCCP": b"x\0\0", b"zTXt": b"x\0\0"}[name] + zlib.compress(os.urandom(length), 0)
    part = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    path.write_bytes(data[:33] + part + data[33:])


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt"])
def test_texts_and_profiles_of_a_picture(folder, name):
    # What PyAV frees twice ends the process.
    png(folder / "small.png", name, 100)
    code = "import sys; from keras_video_focalnet.data.clip import read_frames; print(read_frames(sys.argv[1]).mean())"
    command = [sys.executable, "-c", code, folder / "small.png"]
    assert float(subprocess.run(command, capture_output=True, check=True).stdout) == pytest.approx(289 / 3)
    png(folder / "large.png", name, 300_000)
    with pytest.raises(ValueError, match=r"large\.png has compressed texts or colour profiles of \d+ bytes; the limit"):
        read_frames(folder / "large.png")


def test_pictures_that_are_too_large_for_the_file(folder):
    path = folder / "large.mkv"
    encode(path, np.zeros((1, 6000, 6000, 3), np.uint8), codec="ffv1", pix_fmt="gray")
    with pytest.raises(ValueError, match=r"large\.mkv has no decodable frame.* up to 33554432, or more"):
        read_clip(path)
    Image.new("L", (6000, 6000)).save(folder / "large.png")
    with pytest.raises(ValueError, match=r"large\.png has no decodable frame.* up to 33554432, or more"):
        read_clip(folder / "large.png")
    (folder / "frames").mkdir()
    Image.new("RGBA", (5000, 5000)).save(folder / "frames" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png says that its pictures have 5000 x 5000 pixels; a file of \d+ bytes"):
        read_clip(folder / "frames")


def test_pixels_as_oblong_as_that_are_refused(folder):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)

    path = encode(folder / "oblong.mp4", numbered_frames(2), codec="mpeg4", prepare=prepare)
    assert VideoReader(path).size == (48, 93)
    data = changed(path.read_bytes(), b"pasp", lambda data: struct.pack_into(">II", data, 4, 60000, 1))
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"oblong\.mp4 says that its pictures have \d+ x \d+ pixels; a file of"):
        read_clip(path)


def test_an_animation_of_pictures_without_end(folder, monkeypatch):
    frames = [Image.new("RGB", (64, 48), (20 * number, 9, 9)) for number in range(12)]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:])
    assert len(read_frames(folder / "a.gif")) == 12
    monkeypatch.setattr(in_order, "MOST_PAINTED", 9 * 64 * 48)
    with pytest.raises(
        ValueError, match=r"a\.gif is an animation of more than 9 pictures of 64 x 48 pixels; convert it"
    ):
        read_frames(folder / "a.gif")


def test_packets_without_end_that_give_no_frame(folder, monkeypatch):
    path, calls = encode(folder / "long.mpg", numbered_frames(256), codec="mpeg2video", rate=25), []
    monkeypatch.setattr(in_order, "MOST_WITHOUT_FRAME", 30)
    monkeypatch.setattr(in_order, "_decoded", lambda *arguments: calls.append(arguments) or ([], False))
    with pytest.raises(ValueError, match=r"long\.mpg has no decodable frame"):
        read_frames(path)
    assert 30 < len(calls) < 256
