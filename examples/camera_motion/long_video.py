"""A video of any length that is made of known camera moves, one after the other."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import numpy as np

from examples.camera_motion.motions import CAMERA_MOTIONS
from examples.camera_motion.synthesis import move_window

SECONDS = (3.0, 8.0)
"""How long a move lasts."""
A_SECOND = {"pan": (0.12, 0.35), "tilt": (0.12, 0.35), "zoom": (1.2, 1.5), "roll": (12.0, 35.0)}
"""How fast moves are in a second, in the units of `motions.SPEEDS`."""


@dataclasses.dataclass(frozen=True)
class Move:
    """A camera move.

    Attributes:
        start: Seconds from the beginning of the video.
        end: Seconds from the beginning of the video.
        motion: One of `CAMERA_MOTIONS`.
    """

    start: float
    end: float
    motion: str


def draw_moves(seconds: float, rate: int, rng: np.random.Generator) -> list[Move]:
    """Draw moves of whole frames that fill so many seconds; no two that follow one another are alike."""
    moves, frame, motion = [], 0, None
    while frame < round(seconds * rate):
        motion = rng.choice([other for other in CAMERA_MOTIONS if other != motion])
        last = min(frame + round(rng.uniform(*SECONDS) * rate), round(seconds * rate))
        if seconds - last / rate < SECONDS[0]:
            last = round(seconds * rate)
        moves.append(Move(frame / rate, last / rate, str(motion)))
        frame = last
    return moves


def frames_of(
    moves: Sequence[Move], photographs: Sequence[np.ndarray], rate: int, rng: np.random.Generator, size: int = 96
) -> Iterator[np.ndarray]:
    """Render moves, each over a photograph drawn anew.

    Args:
        moves: The moves.
        photographs: Photographs, `(height, width, 3)` uint8.
        rate: Frames a second.
        rng: A `numpy.random.Generator`.
        size: Side of the frames in pixels, 96 by default.

    Yields:
        Frames, `(size, size, 3)` uint8.
    """
    for move in moves:
        speed, kind, seconds = None, move.motion.split()[0], move.end - move.start
        if move.motion != "static":
            speed = rng.uniform(*A_SECOND[kind])
            speed = speed**seconds if kind == "zoom" else speed * seconds
        photograph = photographs[rng.integers(len(photographs))]
        count = round(seconds * rate)
        yield from move_window(photograph, move.motion, speed, rng=rng, num_frames=count, size=size)


def write_video(path: str | os.PathLike, frames: Iterator[np.ndarray], rate: int, size: int = 96) -> None:
    """Encode square frames as H.264, one at a time."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = size, size, "yuv420p"
        stream.codec_context.thread_count = 2
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_moves(
    path: str | os.PathLike,
    seconds: float,
    photographs: Sequence[np.ndarray],
    seed: int,
    rate: int = 25,
    size: int = 96,
) -> list[Move]:
    """Write a video of known moves.

    Args:
        path: File to write; its ending names the container.
        seconds: How long it is.
        photographs: Photographs to look at, `(height, width, 3)` uint8.
        seed: Seed.
        rate: Frames a second, 25 by default.
        size: Side of the frames in pixels, even, 96 by default.

    Returns:
        The moves, in order.
    """
    rng = np.random.default_rng(seed)
    moves = draw_moves(seconds, rate, rng)
    write_video(path, frames_of(moves, photographs, rate, rng, size), rate, size)
    return moves


def found(moves: Sequence[Move], segments: Sequence, within: float) -> list[bool]:
    """Whether each move is found: a segment with its name begins and ends within so many seconds of it.

    Args:
        moves: The moves.
        segments: What was found, each with `start`, `end` and `label`.
        within: Seconds.
    """
    return [
        any(
            segment.label == move.motion
            and abs(segment.start - move.start) <= within
            and abs(segment.end - move.end) <= within
            for segment in segments
        )
        for move in moves
    ]
