"""Maps over frames, and the files that show them."""

import os

import av
import numpy as np
import pytest
from PIL import Image

from keras_video_focalnet.visualization import drawing, files
from keras_video_focalnet.visualization.result import Visualization

pytestmark = pytest.mark.backend_free


def seen(frames=4, size=(48, 64)):
    """Grey frames with a map that is least on the left and greatest on the right, and one of pairs of frames."""
    pictures = np.full((frames, *size, 3), 100, np.uint8)
    ramp = np.broadcast_to(np.linspace(3, 5, size[1], dtype="float32"), (frames, *size))
    pairs = np.array(ramp)
    pairs[-1] = np.nan
    return Visualization(pictures, {"spatial": ramp, "attention": pairs}, {}, "some_block")


def test_an_overlay_of_a_known_map():
    frames = np.full((2, 1, 3, 3), 100, np.uint8)
    values = np.array([[[-2, 0, 2]], [[np.nan] * 3]], np.float32)
    given = drawing.overlay(frames, values, strength=0.5)
    # The least leaves the frame; the middle is a quarter of green; the greatest is half of red.
    assert given[0, 0].tolist() == [[100, 100, 100], [91, 131, 99], [158, 50, 50]]
    np.testing.assert_array_equal(given[1], frames[1])
    assert given.dtype == np.uint8
    np.testing.assert_array_equal(drawing.overlay(frames, np.zeros((2, 1, 3))), frames)
    np.testing.assert_array_equal(drawing.overlay(frames, values, strength=0), frames)


def test_places_become_pixels():
    grid = np.arange(8, dtype="float32").reshape(2, 2, 2)
    large = drawing.to_frames(grid, 4, (4, 8))
    assert large.shape == (4, 4, 8)
    # Two frames of the clip for each of the map, and places in the corners.
    for frame in range(4):
        corners = large[frame][[0, 0, -1, -1], [0, -1, 0, -1]]
        np.testing.assert_array_equal(corners, grid[frame // 2].ravel())
    between = large[0, 0]
    assert (np.diff(between) >= 0).all() and between[3] < 0.5 < between[4]


def test_the_last_frame_of_pairs_is_not_told_of():
    large = drawing.to_frames(np.ones((3, 2, 2), "float32"), 8, (4, 4), of_pairs=True)
    assert np.isfinite(large[:6]).all() and np.isnan(large[6:]).all()


@pytest.mark.parametrize("name", ["out.png", "out.JPG"])
def test_a_still_has_a_row_for_each_map(tmp_path, name):
    picture = seen(frames=12)
    picture.save(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.format == ("PNG" if name.endswith("png") else "JPEG")
        pixels = np.asarray(image.convert("RGB"))
    # Eight of the frames, and a line of text above each of three rows.
    head = 18
    assert pixels.shape == (3 * (48 + head) + 5 * drawing.GAP, 8 * 64 + 7 * drawing.GAP, 3)
    rows = [pixels[head + drawing.GAP + number * (48 + head + 2 * drawing.GAP) :][:48] for number in range(3)]
    tolerance = 0 if name.endswith("png") else 12
    np.testing.assert_allclose(rows[0][:, :64], 100, atol=tolerance)
    overlays = picture.overlays()
    # JPEG keeps half of the colours, which run over into the white between pictures.
    inside = (slice(4, -4), slice(4, 60)) if tolerance else (slice(None), slice(None))
    np.testing.assert_allclose(rows[1][:, :64][inside].astype(int), overlays["spatial"][0][inside], atol=2 * tolerance)
    assert np.abs(rows[2][:, -64:].astype(int) - 100).max() <= tolerance
    assert os.listdir(tmp_path) == [name]


def test_gif_there_and_back(tmp_path):
    picture = seen()
    # Frames that are the same would become one that is shown for longer.
    picture.frames[:] += np.arange(0, 80, 20, dtype="uint8")[:, None, None, None]
    picture.save(tmp_path / "out.gif", fps=5)
    with Image.open(tmp_path / "out.gif") as image:
        assert (image.format, image.n_frames, image.info["duration"], image.info["loop"]) == ("GIF", 4, 200, 0)
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (18 + drawing.GAP + 48, 3 * 64 + 2 * drawing.GAP, 3)
    panels = [pixels[-48:, number * (64 + drawing.GAP) :][:, :64] for number in range(3)]
    np.testing.assert_allclose(panels[0], 100, atol=8)
    red, green, blue = panels[1][24, -1]
    assert red > green + 50 and red > blue + 50


@pytest.mark.parametrize("fps,milliseconds", [(0.01, 100_000), (30, 30), (60, 20), (100, 10)])
def test_rates_of_a_gif(tmp_path, fps, milliseconds):
    picture = seen()
    picture.frames[:] += np.arange(0, 80, 20, dtype="uint8")[:, None, None, None]
    picture.save(tmp_path / "out.gif", fps=fps)
    with Image.open(tmp_path / "out.gif") as image:
        assert image.info["duration"] == milliseconds


def test_what_ffmpeg_cannot_write_is_an_os_error(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 20_000)
    with pytest.raises(OSError, match="FFmpeg cannot write the video: "):
        files.write_video(tmp_path / "out.mp4", [np.zeros((20, 16_800, 3), np.uint8)], 4)
    assert os.listdir(tmp_path) == []


def test_what_is_read_is_not_written_over(tmp_path):
    picture = tmp_path / "frames" / "1.png"
    picture.parent.mkdir()
    picture.touch()
    for source in (picture, picture.parent):
        with pytest.raises(ValueError, match="out must be another file than the video itself"):
            files.check_other_file("out", picture, source)
    files.check_other_file("out", picture, tmp_path)


@pytest.mark.parametrize("size", [(48, 64), (33, 45)])
def test_mp4_there_and_back(tmp_path, size):
    path = tmp_path / "out.mp4"
    seen(size=size).save(path, fps=10)
    with av.open(str(path)) as video:
        stream = video.streams.video[0]
        frames = [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in video.decode(stream)]
    assert [time for time, _ in frames] == pytest.approx([0.0, 0.1, 0.2, 0.3])
    height, width = 18 + drawing.GAP + size[0], 3 * size[1] + 2 * drawing.GAP
    for _, pixels in frames:
        assert pixels.shape == (height + height % 2, width + width % 2, 3)
        np.testing.assert_allclose(pixels[26 : 16 + size[0], : size[1] - 6], 100, atol=12)
    assert os.listdir(tmp_path) == ["out.mp4"]


def test_times_of_a_video_are_kept(tmp_path):
    path, times = tmp_path / "out.mp4", [0.0, 0.04, 0.5, 0.5, 2.0]
    with files.video_writer(path, 25) as video:
        for number, time in enumerate(times):
            # A frame of another size becomes as large as the first.
            side = 32 if number != 3 else 16
            video.add(time, np.full((side, side, 3), 40 * number, np.uint8))
    with av.open(str(path)) as video:
        frames = [(frame.time, frame.to_ndarray(format="rgb24").mean()) for frame in video.decode(video=0)]
    assert [time for time, _ in frames] == pytest.approx(times, abs=1e-3)
    assert [light for _, light in frames] == pytest.approx([0, 40, 80, 120, 160], abs=6)


def test_a_video_that_is_not_finished_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), files.video_writer(tmp_path / "out.mp4", 25) as video:
        video.add(0.0, np.zeros((32, 32, 3), np.uint8))
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_wrong_arguments(tmp_path):
    with pytest.raises(ValueError, match=r"path must be a file that ends in \.png or .* or \.mp4, .*out.bmp"):
        seen().save(tmp_path / "out.bmp")
    with pytest.raises(ValueError, match="path must be in a folder that is there, .*make the folder first"):
        seen().save(tmp_path / "no" / "out.png")
    for fps in (0, 0.001, 101):
        with pytest.raises(ValueError, match=r"fps must be a number in .0\.01, 100"):
            seen().save(tmp_path / "out.gif", fps=fps)
    message = "a video of 20 x 16800 pixels is larger than the 16384 that its encoder takes"
    with pytest.raises(ValueError, match=message):
        files.write_video(tmp_path / "out.mp4", [np.zeros((20, 16800, 3), np.uint8)], 4)
    with pytest.raises(ValueError, match="strength must be"):
        seen().overlays(strength=2)
    assert os.listdir(tmp_path) == []


def test_text_is_drawn_on_one_line():
    strip = drawing.text_strip("two\nlines", 200)
    assert strip.shape == (18, 200, 3) and strip.min() < 100
    assert (drawing.text_strip("", 200) == 255).all()
