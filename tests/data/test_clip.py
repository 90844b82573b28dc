"""`read_clip` and `read_frames`: the right frames, upright, in the right colours, or an error that says what to do."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from keras_video_focalnet.data import ordered_frames, video_reader
from keras_video_focalnet.data.clip import read_clip, read_frames, resize_and_crop
from keras_video_focalnet.data.in_order import iterate_frames
from keras_video_focalnet.data.sampling import sample_frame_indices
from keras_video_focalnet.data.video import VideoHeader, open_video
from tests.clips import (
    decode_everything,
    encode,
    marked_frame,
    number_of,
    numbered_frames,
    quadrants,
    real_clips,
    write_audio,
)

pytestmark = pytest.mark.backend_free


def numbers(frames):
    return [number_of(frame) for frame in frames]


# ---- Which frames


@pytest.mark.parametrize("frames", [1, 8, 16, 150])
def test_reads_the_frames_that_the_sampling_names(numbered, frames):
    # A wide clip keeps all eight columns of the number; the crop takes the same from both sides.
    clip = read_clip(numbered, num_frames=frames, size=(42, 56))
    assert clip.shape == (frames, 42, 56, 3)
    assert clip.dtype == np.uint8
    assert numbers(clip) == sample_frame_indices(100, frames).tolist()


def test_start_and_end_in_seconds(numbered):
    clip = read_clip(numbered, size=(42, 56), start=2.8, end=7.6)
    assert numbers(clip) == [28 + index for index in sample_frame_indices(48)]
    assert numbers(read_frames(numbered, start=9.7)) == [97, 98, 99]
    assert numbers(read_frames(numbered, end=0.3)) == [0, 1, 2]
    assert numbers(read_frames(numbered, [1, 0, 1], start=5)) == [51, 50, 51]


CONTAINERS = [
    ("mp4", "libx264", {"crf": "5", "bf": "5", "x264-params": "open-gop=1:keyint=24:scenecut=0"}),
    ("mkv", "libx264", {"crf": "5", "bf": "5", "x264-params": "open-gop=1:keyint=24:scenecut=0"}),
    ("ts", "libx264", {"crf": "5", "bf": "5", "g": "24"}),
    ("h264", "libx264", {"crf": "5", "bf": "3", "g": "24"}),
    ("avi", "mpeg4", {"q": "2", "bf": "2", "g": "12"}),
    ("mpg", "mpeg2video", {"bf": "2", "g": "12"}),
]


@pytest.mark.parametrize(("ending", "codec", "options"), CONTAINERS, ids=[row[0] for row in CONTAINERS])
def test_every_container_gives_the_same_frames(tmp_path, ending, codec, options):
    path = encode(tmp_path / f"clip.{ending}", numbered_frames(150), codec=codec, rate=25, options=options)
    whole = [(seconds, number_of(picture)) for seconds, picture in decode_everything(path)]
    assert [number for _, number in whole] == list(range(150))
    for start in np.arange(0.911, 5.5, 0.23):
        window = [(seconds, number_of(picture)) for seconds, picture in decode_everything(path, start, start + 1)]
        assert window == [item for item in whole if start <= item[0] < start + 1]


@pytest.mark.parametrize("claim", [0, 1, 7, 99, 101, 1000])
def test_a_container_that_lies_about_its_length_changes_nothing(numbered, monkeypatch, claim):
    monkeypatch.setattr(video_reader, "index_of", lambda *_: None)
    monkeypatch.setattr(VideoHeader, "frames_between", lambda *_: claim)
    assert numbers(read_clip(numbered, size=(42, 56))) == sample_frame_indices(100).tolist()


@pytest.mark.parametrize(("claim", "passes"), [(100, 1), (50, 2), (0, 2)])
def test_where_everything_is_decoded_once_is_enough_if_the_container_tells_the_truth(
    numbered, monkeypatch, claim, passes
):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return iterate_frames(*arguments, **options)

    monkeypatch.setattr(video_reader, "index_of", lambda *_: None)
    monkeypatch.setattr(VideoHeader, "frames_between", lambda *_: claim)
    monkeypatch.setattr(ordered_frames, "iterate_frames", counted)
    assert numbers(read_clip(numbered, size=(42, 56))) == sample_frame_indices(100).tolist()
    assert len(calls) == passes


@pytest.mark.parametrize("seeking", [True, False])
def test_indices_may_depend_on_the_number_of_frames(numbered, monkeypatch, seeking):
    asked = []

    def draw(total):
        asked.append(total)
        return np.random.default_rng(len(asked)).integers(0, total, 5)

    if not seeking:
        monkeypatch.setattr(video_reader, "index_of", lambda *_: None)
    assert numbers(read_frames(numbered, lambda total: [total - 1, 0, 0])) == [99, 0, 0]
    assert numbers(read_frames(numbered, lambda total: [total - 1], start=2, end=6)) == [59]
    frames = read_frames(numbered, draw)
    assert asked == [100]
    assert numbers(frames) == np.random.default_rng(1).integers(0, 100, 5).tolist()
    with pytest.raises(ValueError, match=r"indices asks for frame 100 but .*numbered\.mp4 has 100"):
        read_frames(numbered, lambda total: [total])


@pytest.mark.parametrize("indices", [None, [3, 4]])
def test_frames_are_made_small_as_they_are_decoded(numbered, indices):
    whole = read_frames(numbered, indices)
    small = read_frames(numbered, indices, short_side=24)
    assert small.shape == (len(whole), 24, 32, 3)
    expected = Image.fromarray(whole[1]).resize((32, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small[1], np.asarray(expected))
    for short_side in (48, 500):
        np.testing.assert_array_equal(read_frames(numbered, indices, short_side=short_side), whole)


def test_expected_frames_are_those_of_the_header(numbered):
    file = open_video(numbered)
    assert file.header == VideoHeader(rate=10, frames=100, indexed=True)
    assert file.header.frames_between(None, None) == 100
    assert file.header.frames_between(2.8, 7.6) == 48
    assert file.header.frames_between(50, None) == 0
    file.close()


def test_variable_frame_rate_is_sampled_by_frame_as_the_reference_does(tmp_path):
    times = np.cumsum(np.r_[0, np.tile([1, 1, 5, 2], 10)])[:40].tolist()
    path = encode(tmp_path / "variable.mkv", numbered_frames(40), times=times)
    assert numbers(read_clip(path, size=(42, 56))) == sample_frame_indices(40).tolist()
    assert numbers(read_frames(path, start=0.3, end=1.0)) == [3, 4]


def test_a_truncated_video_gives_the_frames_that_are_there(tmp_path):
    whole = encode(tmp_path / "whole.mkv", numbered_frames(100), options={"crf": "5", "g": "10", "bf": "0"})
    data = whole.read_bytes()
    broken = tmp_path / "broken.mkv"
    broken.write_bytes(data[: len(data) // 2])
    there = numbers(read_frames(broken))
    assert 20 < len(there) < 80
    assert there == list(range(len(there)))
    assert numbers(read_clip(broken, size=(42, 56))) == sample_frame_indices(len(there)).tolist()


def test_a_long_video_is_not_kept_in_memory(tmp_path):
    # 100 frames of 640x480 are 92 MB; eight clips of 64x64 are 0.1 MB.
    frames = np.broadcast_to(np.zeros((1, 480, 640, 3), np.uint8), (100, 480, 640, 3))
    path = encode(tmp_path / "long.mp4", frames)
    tracemalloc.start()
    read_clip(path, size=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6


# ---- What the frames look like


def phone_matrix(a, b, c, d):
    """A display matrix as MP4 files hold it, in 16.16 and 2.30 fixed point."""
    return [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]


TURNS = {
    # A phone held upright writes (0, 1, -1, 0): turn the picture a quarter clockwise to see it as it was.
    "90 clockwise": ((0, 1, -1, 0), "BRWG"),
    "180": ((-1, 0, 0, -1), "WBGR"),
    "270 clockwise": ((0, -1, 1, 0), "GWRB"),
    "mirrored": ((-1, 0, 0, 1), "GRWB"),
    "upside down": ((1, 0, 0, -1), "BWRG"),
    "transposed": ((0, 1, 1, 0), "RBGW"),
    "not turned": ((1, 0, 0, 1), "RGBW"),
}


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize(("matrix", "expected"), TURNS.values(), ids=TURNS)
def test_honours_the_display_matrix(tmp_path, ending, matrix, expected):
    frames = np.stack([marked_frame()] * 3)
    path = encode(
        tmp_path / f"turned.{ending}", frames, prepare=lambda stream: stream.set_display_matrix(phone_matrix(*matrix))
    )
    frame = read_frames(path, [0])[0]
    assert frame.shape == ((64, 48, 3) if matrix[0] == 0 else (48, 64, 3))
    assert quadrants(frame) == expected
    assert [quadrants(frame) for frame in read_clip(path, num_frames=2, size=32)] == [expected] * 2


@pytest.mark.parametrize(("degrees", "turns"), [(90, 1), (180, 2), (270, 3)])
def test_turns_the_same_way_as_numpy(tmp_path, degrees, turns):
    plain = encode(tmp_path / "plain.mp4", np.stack([marked_frame()] * 2))
    path = encode(
        tmp_path / "turned.mp4",
        np.stack([marked_frame()] * 2),
        prepare=lambda stream: stream.set_display_rotation(degrees),
    )
    np.testing.assert_array_equal(read_frames(path)[0], np.rot90(read_frames(plain)[0], turns))


@pytest.mark.parametrize("standard", ["bt709", "smpte170m"])
@pytest.mark.parametrize("full_range", [False, True])
def test_colours_follow_the_streams_own_matrix_and_range(tmp_path, standard, full_range):
    import av

    # Luma weights of red and blue in each standard.
    red_weight, blue_weight = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114)}[standard]
    colour = np.array([200.0, 60.0, 30.0])
    luma = colour @ [red_weight, 1 - red_weight - blue_weight, blue_weight]
    chroma = [(colour[2] - luma) / (2 - 2 * blue_weight), (colour[0] - luma) / (2 - 2 * red_weight)]
    planes = [luma, chroma[0] + 128, chroma[1] + 128]
    if not full_range:
        planes = [luma * 219 / 255 + 16, chroma[0] * 224 / 255 + 128, chroma[1] * 224 / 255 + 128]
    yuv = np.empty((3, 48, 64), np.uint8)
    yuv[:] = np.round(planes)[:, None, None]
    path = tmp_path / "colour.mkv"
    with av.open(str(path), "w") as container:
        options = {"qp": "0", "x264-params": f"colormatrix={standard}:fullrange={'on' if full_range else 'off'}"}
        stream = container.add_stream("libx264", rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        stream.codec_context.colorspace = {"bt709": 1, "smpte170m": 6}[standard]
        stream.codec_context.color_range = 2 if full_range else 1
        container.mux(stream.encode(av.VideoFrame.from_ndarray(yuv, format="yuv444p")))
        container.mux(stream.encode())
    np.testing.assert_allclose(read_frames(path)[0, 20, 20], colour, atol=3)


@pytest.mark.parametrize("pix_fmt", ["gray", "yuv420p10le", "yuv444p", "bgra"])
def test_pixel_formats(tmp_path, pix_fmt):
    grey = np.full((2, 48, 64, 3), 120, np.uint8)
    frames = read_frames(encode(tmp_path / "clip.mkv", grey, codec="ffv1", pix_fmt=pix_fmt))
    assert frames.shape == (2, 48, 64, 3)
    assert np.abs(frames.astype(int) - 120).max() <= 2


# ---- Size


def test_the_short_side_becomes_256_224ths_and_the_centre_is_cropped():
    picture = np.random.default_rng(0).integers(0, 256, (272, 640, 3), np.uint8)
    resized = np.asarray(Image.fromarray(picture).resize((602, 256), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_and_crop(picture, 224, 224), resized[16:240, 189:413])
    upright = resize_and_crop(picture.transpose(1, 0, 2), 224, 224)
    assert upright.shape == (224, 224, 3)


def test_crop_boxes_are_the_middle_ones_of_the_reference():
    # Width 298 at height 224 in golden/sampling: the middle box is 37 to 261.
    ramp = np.broadcast_to(np.arange(298, dtype=np.uint8)[None, :, None], (256, 298, 3)).copy()
    ramp[0, :] = 0
    cropped = resize_and_crop(np.ascontiguousarray(ramp), 224, 224)
    assert cropped[100, 0, 0] == 37
    assert cropped[100, -1, 0] == np.arange(298, dtype=np.uint8)[260]


@pytest.mark.parametrize("shape", [(7, 9), (1, 1), (1, 500), (333, 2), (480, 853), (224, 224)])
@pytest.mark.parametrize("size", [(224, 224), (64, 64), (96, 160), (160, 96), (1, 1), (33, 50)])
def test_any_picture_gives_the_size_asked_for(shape, size):
    picture = np.full((*shape, 3), 77, np.uint8)
    result = resize_and_crop(picture, *size)
    assert result.shape == (*size, 3)
    assert (result == 77).all()


def test_odd_sized_video(tmp_path):
    path = encode(tmp_path / "odd.mkv", np.full((9, 35, 51, 3), 90, np.uint8), codec="ffv1", pix_fmt="yuv444p")
    assert read_clip(path, size=[32, 40]).shape == (8, 32, 40, 3)
    assert read_frames(path).shape == (9, 35, 51, 3)


def test_real_clips():
    folder = real_clips()
    for name, frames, shape in [("bikes.mp4", 250, (272, 640)), ("bigbuckbunny.mp4", 132, (720, 1280))]:
        path = folder / name
        clip = read_clip(path)
        assert clip.shape == (8, 224, 224, 3)
        assert clip.std() > 20
        indices = sample_frame_indices(frames)
        exact = read_frames(path, indices)
        assert exact.shape == (8, *shape, 3)
        np.testing.assert_array_equal(clip, np.stack([resize_and_crop(frame, 224, 224) for frame in exact]))


def test_a_still_picture_is_a_video_of_one_frame(tmp_path):
    path = tmp_path / "picture.png"
    Image.fromarray(marked_frame()).save(path)
    clip = read_clip(path, size=32)
    assert clip.shape == (8, 32, 32, 3)
    assert (clip == clip[:1]).all()
    assert quadrants(clip[0]) == "RGBW"


def test_a_data_worker_loads_neither_keras_nor_a_backend(numbered):
    code = (
        "import sys\n"
        "from keras_video_focalnet.data.clip import read_clip\n"
        "from keras_video_focalnet.models.preprocessing import preprocess_input\n"
        "print('before:', {'av', 'PIL', 'keras'} & set(sys.modules))\n"
        f"x = preprocess_input(read_clip({str(numbered)!r}))\n"
        "print('after:', {'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout == "before: set()\nafter: set()\n", result.stderr


# ---- Errors


def broken_file(folder, kind):
    if kind == "audio.m4a":
        write_audio(folder / kind)
    elif kind == "cover.mp4":
        write_audio(folder / kind, cover=True)
    elif kind == "empty.mp4":
        (folder / kind).touch()
    elif kind == "page.mp4":
        (folder / kind).write_text("<!DOCTYPE html><html><body>Not Found</body></html>" * 40)
    elif kind == "notes.txt":
        (folder / kind).write_text("a note\n" * 40)
    elif kind == "noise.mkv":
        (folder / kind).write_bytes(np.random.default_rng(0).bytes(5000))
    elif kind == "folder":
        (folder / kind).mkdir()
    else:
        whole = encode(folder / "whole.mp4", numbered_frames(20))
        data = bytearray(whole.read_bytes())
        start = data.index(b"mdat") + 4
        if kind == "no_index.mp4":
            del data[start + 500 :]
        else:
            data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
        (folder / kind).write_bytes(data)
    return folder / kind


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("audio.m4a", "has no video stream .it holds: audio.; pass a file with pictures"),
        ("cover.mp4", "has no video stream .it holds: audio, video.; pass a file with pictures"),
        ("empty.mp4", r"is an empty file \(0 bytes\); copy or download"),
        ("page.mp4", "is not a video that FFmpeg can read .*; check that it is complete and is no web page"),
        ("noise.mkv", "is not a video that FFmpeg can read"),
        ("no_index.mp4", "is not a video that FFmpeg can read"),
        ("notes.txt", "is text, not a video; pass a video file|is not a video that FFmpeg can read"),
        ("folder", "is a folder; pass the path of one video file"),
        ("zeroed.mp4", "has no decodable frame; it is damaged or incomplete: copy or download"),
    ],
)
@pytest.mark.parametrize("read", [read_clip, read_frames])
def test_a_file_without_frames_is_named_with_the_remedy(tmp_path, read, kind, reason):
    path = broken_file(tmp_path, kind)
    with pytest.raises(ValueError, match=reason) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4 does not exist; pass the path of a video file"):
        read_clip(tmp_path / "missing.mp4")
    with pytest.raises(FileNotFoundError, match="no_such_file.mp4 does not exist"):
        read_frames("no_such_file.mp4")


@pytest.mark.parametrize("read", [read_clip, read_frames])
def test_times_outside_the_video(numbered, read):
    with pytest.raises(ValueError, match=r"at or after start=30: they run from 0 to 9\.900 seconds; choose"):
        read(numbered, start=30)
    with pytest.raises(ValueError, match=r"numbered\.mp4 lies at or after start=30 and before end=31: they"):
        read(numbered, start=30, end=31)
    with pytest.raises(ValueError, match=r"at or after start=4\.01 and before end=4\.05"):
        read(numbered, start=4.01, end=4.05)
    with pytest.raises(ValueError, match="end must lie after start, received start=5 and end=5"):
        read(numbered, start=5, end=5)
    with pytest.raises(ValueError, match="start must be None or seconds from the beginning, 0 or more, received -1"):
        read(numbered, start=-1)
    with pytest.raises(ValueError, match="end must be None or seconds .* received nan"):
        read(numbered, end=float("nan"))


@pytest.mark.parametrize("size", [0, -1, (224,), (1, 2, 3), "224", 22.4, (64, 0)])
def test_a_bad_size(numbered, size):
    with pytest.raises(ValueError, match="size must be a positive integer or .height, width. in pixels, received"):
        read_clip(numbered, size=size)


def test_bad_frames(numbered):
    with pytest.raises(ValueError, match="short_side must be an integer .* received 0; pass pixels, or None"):
        read_frames(numbered, short_side=0)
    with pytest.raises(ValueError, match="threads must be an integer .* received 0; pass None for one a core"):
        read_clip(numbered, threads=0)
    with pytest.raises(ValueError, match="num_frames must be an integer of at least 1, received 0"):
        read_clip(numbered, num_frames=0)
    with pytest.raises(ValueError, match=r"indices asks for frame 100 but .*numbered\.mp4 has 100"):
        read_frames(numbered, [3, 100])
    for indices in ([], [-1]):
        with pytest.raises(ValueError, match="indices must be integers of 0 or more"):
            read_frames(numbered, indices)
