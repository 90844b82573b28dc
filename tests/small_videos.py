"""Small data sets of videos whose frames are numbered, and what is asked of their batches."""

import itertools

import numpy as np

from keras_video_focalnet.data.datasets import VideoList, VideoRecord
from keras_video_focalnet.data.pipeline import ClipDataset
from keras_video_focalnet.data.transforms import CenterCrop
from tests.clips import encode, numbered_frames

FRAMES = 16
CLASSES = ("x", "y", "z")


def make_videos(folder):
    """Ten videos of 16 frames; video v has the frames numbered 16 v to 16 v + 15 and the label v % 3."""
    frames = numbered_frames(10 * FRAMES, 64, 64)
    paths = [folder / f"{number}.mp4" for number in range(10)]
    for number, path in enumerate(paths):
        encode(path, frames[number * FRAMES : (number + 1) * FRAMES])
    return VideoList([VideoRecord(str(path), number % 3) for number, path in enumerate(paths)], CLASSES)


def dataset(videos, batch_size=4, training=True, transform=None, **arguments):
    """Small clips whose frames can still be told apart, unless a transform is given."""
    transform = transform or CenterCrop(56)
    return ClipDataset(videos, batch_size, num_frames=4, size=56, training=training, transform=transform, **arguments)


def take(batches, count):
    return list(itertools.islice(batches, count))


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert len(batch) == len(other)
        for array, wanted in zip(batch, other, strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)
