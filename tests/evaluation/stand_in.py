"""A model without Keras whose answers are known, its videos, and an evaluation of them in a process of its own.

    python -m tests.evaluation.stand_in VIDEOS OUT LOG [--resume] [--pause SECONDS] [--limit BYTES]

`LOG` gets a line for every video that is read.
"""

import argparse
import resource
import time
import types
import warnings
from pathlib import Path

import numpy as np

from keras_video_focalnet.evaluation import evaluate
from tests.clips import encode

COLOURS = {"red": (230, 20, 20), "green": (20, 230, 20), "blue": (20, 20, 230)}


class Colours:
    """Gives, as an exported file does, scores of red, green and blue by the mean of a clip."""

    contract = types.SimpleNamespace(classes=3, outputs=("scores",))
    input_shape = (4, 32, 32, 3)
    name = "colours"
    path = __file__

    def __init__(self, labels=tuple(COLOURS), pause=0.0):
        self.labels = labels
        self.pause = pause
        self.batches = []

    def predict(self, clips):
        time.sleep(self.pause)
        self.batches.append(len(clips))
        means = np.asarray(clips, np.float64).mean((1, 2, 3)) / 64
        exp = np.exp(means - means.max(axis=1, keepdims=True))
        return (exp / exp.sum(axis=1, keepdims=True)).astype(np.float32)


def colour_video(path, colour, seed=0, frames=12):
    """A video of some pixels at random and of a colour."""
    noise = np.random.default_rng(seed).integers(0, 256, (frames, 40, 56, 3))
    picture = (0.6 * np.array(COLOURS[colour]) + 0.4 * noise).astype(np.uint8)
    return encode(path, picture, options={"crf": "23", "preset": "ultrafast"})


def colour_folder(folder, each=4, wrong=True):
    """A folder a colour, each with videos of it; the last of each shows the next colour, if `wrong`."""
    names = list(COLOURS)
    for place, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            shown = names[(place + (wrong and number == each - 1)) % 3]
            colour_video(folder / name / f"{number}.mp4", shown, seed=10 * place + number)
    return folder


def main():
    """Evaluate."""
    parser = argparse.ArgumentParser()
    parser.add_argument("videos")
    parser.add_argument("out")
    parser.add_argument("log")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--limit", type=int)
    given = parser.parse_args()
    read = evaluate.read_views

    def logged(path, *arguments, **options):
        with open(given.log, "a") as log:
            log.write(f"{path}\n")
        return read(path, *arguments, **options)

    evaluate.read_views = logged
    if given.limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (given.limit, given.limit))
    warnings.simplefilter("ignore")
    Path(given.log).touch()
    options = {"resume": given.resume, "batch_size": 4, "workers": 2}
    evaluate.evaluate_videos(Colours(pause=given.pause), given.videos, "2x1", given.out, **options)


if __name__ == "__main__":
    main()
