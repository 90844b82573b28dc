"""What a source of batches for training is."""

import typing
from typing import Any

from keras_video_focalnet.data.broken import BrokenVideos


class BatchSource(typing.Protocol):
    """What `train` needs of a source of batches: `ClipDataset`, or clips that a program makes.

    Attributes:
        batch_size: Clips in a batch, of all processes together.
        broken: A `BrokenVideos`; empty where nothing is read.

    The clips are as the model shall see them: cropped and augmented. A source whose clips can have several labels says
    so by an attribute `multi_label` that is True. A source that mixes its clips and smooths its labels itself, or wants
    neither, says so by an attribute `mixing`, of whatever value; `train` does it for a source without one.

    Example:
        >>> from itertools import count
        >>> class Noise:
        ...     batch_size, broken = 2, BrokenVideos()
        ...
        ...     def __len__(self):
        ...         return 4
        ...
        ...     def batches(self, first=0):
        ...         for number in count(first):
        ...             rng = np.random.default_rng(number)
        ...             yield rng.integers(256, size=(2, 8, 64, 64, 3)), np.eye(9)[rng.integers(9, size=2)]
        ...
        ...     def names(self, number):
        ...         return [f"noise {number}"] * 2
        >>> clips, targets = next(Noise().batches(first=3))
        >>> clips.shape, targets.shape
        ((2, 8, 64, 64, 3), (2, 9))
    """

    batch_size: int
    broken: BrokenVideos

    def __len__(self) -> int:
        """Batches in an epoch."""

    def batches(self, first: int = 0) -> Any:
        """Batches from number `first` on, as `fit` takes them. The batch of a number is always the same."""

    def names(self, number: int) -> list[str]:
        """What is in a batch, to find a clip that a model cannot take."""
