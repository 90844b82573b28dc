"""Videos that are named, shaped or stored otherwise: bytes and streams, oblong pixels, HDR, fields, folders."""

import io
import os
import pickle
import shutil
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_video_focalnet.data.clip import read_clip, read_frames
from keras_video_focalnet.data.frame_folder import is_frame_folder
from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.data.video_reader import VideoReader
from tests.clips import encode, marked_frame, number_of, numbered_frames, quadrants
from tests.data.kinds import KINDS

pytestmark = pytest.mark.backend_free


def numbers(frames):
    return list(map(number_of, frames))


# ---- What names a video


@pytest.mark.parametrize("to_path", [str, os.fsencode, np.str_, lambda path: np.bytes_(os.fsencode(path)), Path])
def test_paths_of_every_kind(numbered, tmp_path, monkeypatch, to_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copy(numbered, tmp_path / "vidéo.mp4")
    for path in (str(numbered), str(tmp_path / "vidéo.mp4"), "~/vidéo.mp4"):
        expected = os.path.expanduser(path)
        with VideoReader(to_path(path)) as reader:
            assert os.fspath(reader.path) == expected
            assert numbers(reader.read([7, 99])) == [7, 99]
            assert numbers(pickle.loads(pickle.dumps(reader)).read([3])) == [3]
        assert read_clip(to_path(path), 2, 32).shape == (2, 32, 32, 3)
    with pytest.raises(FileNotFoundError, match=r"/missing\.mp4 does not exist"):
        read_frames(to_path("~/missing.mp4"))


def test_streams(numbered):
    data = numbered.read_bytes()
    with open(numbered, "rb") as buffered, open(numbered, "rb", buffering=0) as raw:
        for stream in (io.BytesIO(data), buffered, raw):
            stream.seek(1000)
            with VideoReader(stream) as reader:
                # Its own place for each opening.
                for number, frame in enumerate(reader):
                    assert number_of(frame) == number
                    assert numbers(reader.read([99 - number])) == [99 - number]
                with pytest.raises(pickle.PicklingError, match="reads a stream, which only this process has; pass the"):
                    pickle.dumps(reader)
            assert not stream.closed
            np.testing.assert_array_equal(read_clip(stream), read_clip(numbered))


def test_what_names_no_video(numbered):
    with open(numbered, encoding="latin-1") as text, pytest.raises(ValueError, match="open it with mode 'rb'"):
        VideoReader(text)
    reading, writing = os.pipe()
    os.close(writing)
    with open(reading, "rb") as pipe, pytest.raises(ValueError, match=r"a stream that can be sought.*io\.BytesIO"):
        VideoReader(pipe)
    with pytest.raises(ValueError, match=r"BytesIO.* is an empty stream"):
        VideoReader(io.BytesIO())
    with pytest.raises(ValueError, match=r"BytesIO.* is not a video that FFmpeg can read"):
        VideoReader(io.BytesIO(b"no video" * 100))
    for wrong in (None, 3, ["a.mp4"]):
        with pytest.raises(ValueError, match="path must be the path of a video, or a binary stream of one, received"):
            VideoReader(wrong)


def test_a_camera_is_told_of_the_generator_that_reads_it():
    class Camera:
        def read(self):
            raise AssertionError("nothing is to be taken from a camera unasked")

        def isOpened(self):
            return True

    with pytest.raises(ValueError, match=r"whose read\(\) gives pictures; pass a generator of them, .*fps="):
        read_clip(Camera())
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), "uint8")
    np.testing.assert_array_equal(read_clip((frame for frame in frames), 2, 32), read_clip(frames, 2, 32))


def test_an_error_of_a_stream_is_the_callers():
    class Failing(io.BytesIO):
        def read(self, *_):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        read_clip(Failing(b"abc"))


def test_a_stream_that_gives_more_than_it_is_asked_for(numbered):
    class Generous(io.BytesIO):
        def read(self, count=-1):
            return super().read(max(count, 0) + 70_000)

    np.testing.assert_array_equal(read_clip(Generous(numbered.read_bytes())), read_clip(numbered))


# ---- How it is shown


def with_aspect(aspect, turn=0):
    def prepare(stream):
        stream.codec_context.sample_aspect_ratio = aspect
        if turn:
            stream.set_display_rotation(turn)

    return prepare


ASPECTS = [
    (Fraction(2), (48, 128)),
    (Fraction(16, 11), (48, 93)),
    (Fraction(1, 2), (96, 64)),
    (Fraction(256, 255), (48, 64)),
]
STORED = [("mp4", "libx264"), ("avi", "mpeg4")]


@pytest.mark.parametrize(("ending", "codec"), STORED)
@pytest.mark.parametrize(("aspect", "size"), ASPECTS)
def test_pixels_are_made_square(tmp_path, ending, codec, aspect, size):
    frames = np.stack([marked_frame()] * 12)
    path = encode(tmp_path / f"a.{ending}", frames, codec, options={}, prepare=with_aspect(aspect))
    with VideoReader(path) as reader:
        assert reader.size == size
        frames = [reader.read(), reader.read([3]), reader.read_between(0.2, 0.5), next(reader.blocks(2)), list(reader)]
    for read in frames:
        assert read[0].shape == (*size, 3) and quadrants(read[0]) == "RGBW"
    short, long = sorted(size)
    small = read_frames(path, [0], short_side=24).shape[1:3]
    assert sorted(small) == [24, int(24 * long / short + 0.5)] and np.argmin(small) == np.argmin(size)


@pytest.mark.parametrize(("turn", "size", "expected"), [(90, (128, 48), "GWRB"), (180, (48, 128), "WBGR")])
def test_pixels_are_made_square_before_a_picture_is_turned(tmp_path, turn, size, expected):
    path = encode(tmp_path / "a.mov", np.stack([marked_frame()] * 4), prepare=with_aspect(Fraction(2), turn))
    frames = read_frames(path)
    assert frames.shape == (4, *size, 3) and quadrants(frames[0]) == expected


def test_a_disc_is_round(tmp_path):
    rows, columns = np.mgrid[:64, :64]
    disc = ((2 * columns + 1 - 64) ** 2 + (rows - 32) ** 2 < 28**2)[..., None] * np.full(3, 255, np.uint8)
    path = encode(tmp_path / "disc.mp4", np.stack([disc.astype(np.uint8)] * 4), prepare=with_aspect(Fraction(2)))
    shown = read_frames(path)[0][..., 0] > 128
    assert (shown.any(1).sum(), shown.any(0).sum()) == (55, 56)


@pytest.mark.parametrize(("transfer", "name"), [("smpte2084", "PQ"), ("arib-std-b67", "HLG"), ("bt709", None)])
def test_hdr_is_told_once_a_file(tmp_path, transfer, name):
    path = tmp_path / "hdr.mp4"
    parameters = f"log-level=none:transfer={transfer}:colorprim=bt2020:colormatrix=bt2020nc"
    options = {"preset": "ultrafast", "x265-params": parameters}
    encode(path, np.full((4, 48, 64, 3), 90, np.uint8), "libx265", pix_fmt="yuv420p10le", options=options)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            frames = read_frames(path)
    assert frames.shape == (4, 48, 64, 3) and abs(frames.astype(int) - 90).max() <= 2
    assert [str(warning.message).split(":")[0] for warning in told] == (
        [f"{path} is HDR video ({name})"] if name else []
    )


@pytest.mark.parametrize(("ending", "matrix", "known"), [("mp4", "ycgco", False), ("avi", "bt470bg", True)])
def test_a_colour_matrix_that_cannot_be_converted_is_told(tmp_path, ending, matrix, known):
    options = {"x264-params": f"colormatrix={matrix}", "crf": "5"}
    path = encode(tmp_path / f"matrix.{ending}", np.full((20, 48, 64, 3), 90, np.uint8), options=options)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for frames in (read_frames(path), read_frames(path, [3])):
            assert abs(frames.astype(int) - 90).max() <= 3
    expected = [] if known else [f"{path} has the colour matrix 8 (ITU-T H.273), which FFmpeg does not convert"]
    assert [str(warning.message).split(":")[0] for warning in told] == expected


def test_interlaced_video_is_told_once_a_file(tmp_path):
    ending, codec, options, _, _ = KINDS["H.264, interlaced"]
    path = encode(tmp_path / f"fields.{ending}", numbered_frames(12), codec, options=options)
    with pytest.warns(UserWarning, match=r"fields\.mp4 is interlaced: a frame shows both of its fields") as told:
        for _ in range(2):
            with VideoReader(path) as reader:
                assert numbers(reader.read()) == list(range(12)) == numbers(reader.read(range(12)))
    assert len(told) == 1


# ---- Folders of frames


@pytest.fixture
def frames(tmp_path):
    """A folder of twelve numbered pictures, whose names without leading zeros sort otherwise, and other files."""
    folder = tmp_path / "video 1"
    folder.mkdir()
    for number, picture in enumerate(numbered_frames(12)):
        Image.fromarray(picture).save(folder / f"img_{number + 1}.png")
    Image.new("L", (8, 8)).save(folder / "flow_x_00001.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._img_3.png").write_bytes(b"x")
    return folder


def test_a_folder_of_frames_is_a_video(frames):
    assert is_frame_folder(frames) and not is_frame_folder(frames.parent) and not is_frame_folder(frames / "img_1.png")
    with VideoReader(frames) as reader:
        assert (len(reader), reader.fps, reader.size, reader.duration) == (12, 25.0, (48, 64), 12 / 25)
        assert numbers(reader.read()) == numbers(reader) == list(range(12))
        assert numbers(reader.read([11, 1, 1])) == [11, 1, 1]
        assert numbers(reader.read_between(0.08, 0.2)) == [2, 3, 4]
        assert [numbers(block) for block in reader.blocks(5)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]]
        np.testing.assert_allclose(reader.times, np.arange(12) / 25)
        assert numbers(pickle.loads(pickle.dumps(reader)).read([4])) == [4]
    clip = read_clip(os.fsencode(frames), size=(42, 56), start=0.2, fps=10)
    assert numbers(clip) == [2 + number for number in sample_frame_indices(10)]
    assert numbers(read_frames(frames, end=3, fps=2)) == [0, 1, 2, 3, 4, 5]


def test_pictures_of_a_folder_that_cannot_be_read_are_named(frames):
    data = (frames / "img_2.png").read_bytes()
    for damaged in (data[:60], b"GIF89a" + data, b"", b"ffconcat version 1.0\nfile img_1.png\n"):
        (frames / "img_2.png").write_bytes(damaged)
        assert numbers(read_frames(frames, [0, 2])) == [0, 2]
        with pytest.raises(ValueError, match=r"img_2\.png is (damaged|not a picture|an empty file)"):
            read_frames(frames)
    (frames / "img_2.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"indices asks for frame 12 but .*video 1 has 12"):
        read_frames(frames, [12])
    with pytest.raises(ValueError, match=r"lies at or after start=1: they run from 0 to 0\.440 seconds"):
        read_frames(frames, start=1)
    with pytest.raises(ValueError, match="fps must be a number above 0, received 0; pass None for 25"):
        VideoReader(frames, fps=0)
    shutil.copy(frames / "img_1.png", frames / "other_1.png")
    with pytest.raises(ValueError, match=r"holds pictures of several videos \(img_\*\.png, other_\*\.png\); put those"):
        read_frames(frames)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tiff"])
def test_a_photograph_is_turned_as_its_camera_says(tmp_path, ending):
    exif = Image.Exif()
    exif[271], exif[274] = "Camera", 6
    path = tmp_path / f"photo.{ending}"
    Image.fromarray(marked_frame()).save(path, exif=exif, quality=95)
    assert quadrants(read_frames(path)[0]) == "BRWG"


def test_pictures_are_turned_as_cameras_say(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(marked_frame()).save(tmp_path / "1.jpg", exif=exif, quality=95)
    assert read_frames(tmp_path).shape == (1, 64, 48, 3)
    assert quadrants(read_frames(tmp_path)[0]) == "BRWG"
