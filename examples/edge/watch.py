"""Say what happens in a video while it runs, with ai-edge-litert, NumPy and PyAV alone.

    video-focalnet export --model nano --out nano.tflite
    python watch.py nano.tflite VIDEO
    python watch.py nano.tflite /dev/video0 --format v4l2

The first line makes the file, on any computer; this script and the file are all that a device needs. Each frame is
decoded once. The newest frames are kept at the model's size, and at regular times the model sees them as one clip.
"""

import argparse
import collections
import json
import sys
import time
import zipfile
from collections.abc import Iterator

try:
    import av
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    sys.exit(f"watch.py needs {error.name}: pip install ai-edge-litert numpy av")


class Classifier:
    """An exported model, which finds the most likely class of a clip.

    Args:
        path: The `.tflite` file.
        threads: Number of threads to compute with.
    """

    def __init__(self, path: str, threads: int):
        # The file is a zip archive too, which holds a description of the model.
        with zipfile.ZipFile(path) as archive:
            self.contract = json.loads(archive.read("keras_video_focalnet.json"))
        self.frames, self.height, self.width, _ = self.contract["input"]["shape"]
        self.dtype = self.contract["input"]["dtype"]
        self.crop_fraction = self.contract["input"].get("crop_fraction", 224 / 256)
        self.labels = self.contract["labels"] or [f"class {index}" for index in range(self.contract["classes"])]
        self.run = Interpreter(path, num_threads=threads).get_signature_runner("serve")

    def __call__(self, clip: np.ndarray) -> tuple[str, float]:
        """Return the label and the score of a clip, `(frames, height, width, 3)`."""
        scores = self.run(clip=clip.astype(self.dtype))[self.contract["outputs"][0]][0]
        return self.labels[scores.argmax()], float(scores.max())


def shrink(frame: av.VideoFrame, height: int, width: int, crop_fraction: float = 224 / 256) -> np.ndarray:
    """Prepare a decoded frame as in training: upright, resized by its tighter side, centre cropped.

    Args:
        frame: The frame.
        height: Height that the model takes, in pixels.
        width: Width that the model takes, in pixels.
        crop_fraction: The part of the resized frame's tighter side that is shown.

    Returns:
        `(height, width, 3)` uint8.
    """
    turns = round(frame.rotation / 90) % 4
    if turns % 2:
        height, width = width, height
    scale = max(height / frame.height, width / frame.width) / crop_fraction
    rows, columns = max(height, round(frame.height * scale)), max(width, round(frame.width * scale))
    picture = frame.reformat(width=columns, height=rows, format="rgb24").to_ndarray()
    top, left = (rows - height) // 2, (columns - width) // 2
    return np.rot90(picture[top : top + height, left : left + width], turns)


def watch(
    classifier: Classifier,
    source: str,
    container_format: str | None = None,
    seconds: float = 1.0,
    every: float = 0.5,
) -> Iterator[tuple[float, str, float, float]]:
    """Classify the newest clip of a video at regular times.

    Args:
        classifier: The model.
        source: Video file, address or camera.
        container_format: FFmpeg's name of the camera's driver; None (the default) for a file.
        seconds: Length of a clip, 1 by default.
        every: Seconds between two answers, 0.5 by default.

    Yields:
        The time in the video in seconds, the label, the score and the milliseconds that the model took.
    """
    kept = collections.deque(maxlen=classifier.frames)
    next_frame = next_answer = -float("inf")
    with av.open(source, format=container_format) as container:
        for number, frame in enumerate(container.decode(video=0)):
            # Where a camera sends no times, the frames are counted.
            moment = frame.time if frame.time is not None else number / 30
            if moment < next_frame:
                continue
            next_frame = after(moment, next_frame, seconds / classifier.frames)
            kept.append(shrink(frame, classifier.height, classifier.width, classifier.crop_fraction))
            if len(kept) == classifier.frames and moment >= next_answer:
                next_answer, start = after(moment, next_answer, every), time.perf_counter()
                label, score = classifier(np.stack(kept))
                yield moment, label, score, (time.perf_counter() - start) * 1e3


def after(moment: float, due: float, step: float) -> float:
    """Find the next due time, a step after the last one even where a frame came a little late.

    Args:
        moment: The time of the frame, `due` or later.
        due: The last due time.
        step: Time between two due times.
    """
    return due + step if moment - due < step else moment + step


def main() -> None:
    """Print a line for each answer."""
    parser = argparse.ArgumentParser(description="Say what happens in a video while it runs.")
    parser.add_argument("model", help="a .tflite file that `video-focalnet export` wrote")
    parser.add_argument("source", help="a video file, or a camera such as /dev/video0 with --format v4l2")
    parser.add_argument("--format", help="FFmpeg's name of a camera's driver: v4l2, avfoundation, dshow")
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a clip, default 1")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two answers, default 0.5")
    parser.add_argument("--threads", type=int, default=2, help="threads to compute with, default 2")
    arguments = parser.parse_args()
    classifier, answers = Classifier(arguments.model, arguments.threads), 0
    watched = watch(classifier, arguments.source, arguments.format, arguments.seconds, arguments.every)
    for moment, label, score, took in watched:
        answers += 1
        print(f"{moment:7.2f} s  {label:24} {score:5.2f}  {took:6.1f} ms", flush=True)
    if not answers:
        sys.exit(f"{arguments.source} is too short: a clip is {classifier.frames} frames over {arguments.seconds:g} s.")


if __name__ == "__main__":
    main()
