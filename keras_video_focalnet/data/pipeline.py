"""Labelled videos -> batches for `fit` and `evaluate`, with Grain."""

import dataclasses
import functools
import json
import operator
import typing
from collections.abc import Callable

import numpy as np

from keras_video_focalnet.data.broken import BrokenVideos
from keras_video_focalnet.data.clip import height_width, read_frames
from keras_video_focalnet.data.sampling import _positive, sample_dense_indices, sample_frame_indices
from keras_video_focalnet.data.transforms import CenterCrop, training_transforms
from keras_video_focalnet.data.workers import batches_by_number

# Videos that are tried for one place in a training batch.
TRIES = 10
DECODERS = ("pyav", "tensorflow-io")
# What a random state is for; the first word behind the seed.
ORDER, CLIP, MIX = range(3)


class BatchSource(typing.Protocol):
    """What `train` needs of a source of batches: `ClipDataset`, or clips that a program makes.

    Attributes:
        batch_size: Clips in a batch, of all processes together.
        broken: A `BrokenVideos`; empty where nothing is read.
    """

    batch_size: int
    broken: BrokenVideos

    def __len__(self) -> int:
        """Batches in an epoch."""

    def batches(self, first: int = 0) -> typing.Any:
        """Batches from number `first` on, as `fit` takes them. The batch of a number is always the same."""

    def names(self, number: int) -> list[str]:
        """What is in a batch, to find a clip that a model cannot take."""


class ClipDataset:
    """Batches of clips from labelled videos, for `model.fit` and `model.evaluate` on every backend.

    Training batches never end: every epoch takes all the videos in a new order, and fills its last batch up from the
    beginning of that order. Evaluation takes the videos once, in the order of the list; the last batch is filled up
    with zeros whose weight is 0.

    A batch is a function of `seed` and its number alone, whatever the number of workers, so that `batches(first=n)`
    goes on where a run of n steps stopped. With `shard=(i, n)` a process gets the i-th of n equal slices of every
    batch: n processes see together what one process sees alone (but for mixing, whose partners are of the same slice).

    A video that cannot be read is noted in `broken` and never ends a run. In training another video, drawn at random,
    takes its place; in evaluation its place holds zeros whose weight is 0. Where more than `max_broken` of the videos
    of an epoch are broken, iteration raises `BrokenVideosError`.

    Args:
        videos: `VideoList`, such as `video_list` makes.
        batch_size: Clips in a batch, of all processes together; a multiple of their number.
        num_frames: Frames in a clip.
        size: Height and width of a clip in pixels, an integer or `(height, width)`.
        training: Whether to shuffle, to repeat and to draw frames at random.
        transform: Function `(clip, rng) -> clip` of uint8 arrays, from `(frames, H, W, 3)` to the clip's size; `rng` is
            a `numpy.random.Generator`. Frames whose short side is longer than `256 / 224 * size` were reduced to that.
            None takes `training_transforms(size)`, in evaluation `CenterCrop(size)`.
        sampling: None takes a frame of each of `num_frames` equal segments of the video, `("dense", stride)` takes
            frames that are `stride` apart.
        mixing: `Mixing` of the clips of a training batch, or None.
        seed: Integer >= 0.
        shard: `(index, count)` of this process among those that train together.
        workers: Worker processes; see `batches_by_number`.
        max_broken: Share of an epoch's videos that may be broken, 0 to 1.
        decoder: See `read_frames`.

    Attributes:
        broken: `BrokenVideos`, the report of videos that could not be read. Videos are noted when their batch is handed
            out, and batches can be handed out a little ahead of training.

    Raises:
        ValueError: An argument is out of its range.

    Example:
        >>> videos = VideoList([VideoRecord("bikes.mp4", 1)], ["walk", "ride"])
        >>> dataset = ClipDataset(videos, batch_size=2, size=64, training=True)
        >>> clips, targets = next(iter(dataset.batches()))
        >>> clips.shape, clips.dtype, targets.tolist()
        ((2, 8, 64, 64, 3), dtype('uint8'), [[0.0, 1.0], [0.0, 1.0]])

        ```python
        model.fit(dataset.batches(), steps_per_epoch=len(dataset), epochs=10)
        ```
    """

    def __init__(
        self,
        videos,
        batch_size,
        num_frames=8,
        size=224,
        training=False,
        transform=None,
        sampling=None,
        mixing=None,
        seed=0,
        shard=(0, 1),
        workers=0,
        max_broken=0.1,
        decoder="pyav",
    ):
        self.videos = videos
        self.batch_size = _positive("batch_size", batch_size, "Pass the number of clips in a batch, such as 8")
        self.training = bool(training)
        self.workers = operator.index(workers)
        self.max_broken = max_broken
        self.broken = BrokenVideos()
        index, self._shards = _shard(shard, self.batch_size)
        if decoder not in DECODERS:
            raise ValueError(f"decoder must be one of {', '.join(DECODERS)}, received {decoder!r}.")
        if self.workers < 0:
            raise ValueError(f"workers must be 0 or more, received {workers}.")
        if not 0 <= max_broken <= 1:
            raise ValueError(f"max_broken must be a share from 0 to 1, received {max_broken!r}.")
        if mixing is not None and not training:
            raise ValueError("mixing is for training; pass mixing=None, or training=True.")
        if mixing is not None and getattr(mixing, "classes", len(videos.class_names)) != len(videos.class_names):
            raise ValueError(
                f"mixing is for {mixing.classes} classes but the videos have {len(videos.class_names)}; pass "
                f"Mixing({len(videos.class_names)})."
            )
        if decoder == "tensorflow-io" and any(record.start or record.end for record in videos):
            raise ValueError(
                'decoder="tensorflow-io" gives no times of frames, but videos have start or end; use "pyav".'
            )
        if transform is None:
            transform = training_transforms(size) if training else CenterCrop(size)
        share = self.batch_size // self._shards
        self._reader = _BatchReader(
            records=videos.records,
            classes=len(videos.class_names),
            batch_size=self.batch_size,
            part=(index * share, (index + 1) * share),
            num_frames=_positive("num_frames", num_frames, "Pass the number of frames that the model takes, such as 8"),
            size=height_width(size),
            training=self.training,
            transform=transform,
            stride=_stride(sampling),
            mixing=mixing,
            seed=_seed(seed),
            # Workers side by side use the cores already.
            decoder=decoder,
        )

    def __len__(self):
        """Batches in an epoch, the same in every process."""
        return self._reader.batches_an_epoch

    def batches(self, first=0):
        """The batches from a number on.

        To evaluate on TensorFlow take `tf_data()`, or say `steps=len(dataset)`: of a data set that ends without having
        told its length Keras 3.15 counts one step more, with the loss and the metrics of nothing.

        Args:
            first: Number of the first batch, counted from the beginning of training; `epoch * len(dataset)` is the
                first of an epoch.

        Returns:
            A `grain.IterDataset` of tuples of arrays: clips uint8 `(rows, frames, height, width, 3)`, targets float32
            `(rows, classes)`, and in evaluation weights float32 `(rows,)`, where `rows` is this process's share of the
            batch. It raises `BrokenVideosError` where too many videos are broken.

        Raises:
            ValueError: `first` is negative.
        """
        if first < 0:
            raise ValueError(f"first must be the number of a batch, 0 or more, received {first}.")
        stop = None if self.training else len(self)
        return batches_by_number(self._reader, first, stop, self.workers).map(self._hand_out)

    def names(self, number):
        """Paths of the videos of a batch, this process's rows, before any is replaced.

        Args:
            number: Number of the batch.

        Returns:
            List of strings.
        """
        indices = self._reader.indices(number)
        return [self.videos.records[index].path for index in indices if index is not None]

    def tf_data(self, first=0):
        """The same batches as a `tf.data.Dataset` with static shapes, for TPUs and `MirroredStrategy`.

        It does not read ahead; `workers` do, and so does `.prefetch(n)`. Where several processes train under one
        strategy, hand it over through `strategy.distribute_datasets_from_function`: this process's share is not to be
        divided again.

        Args:
            first: Number of the first batch.

        Returns:
            `tf.data.Dataset` with the elements of `batches`.
        """
        import tensorflow as tf

        rows = self.batch_size // self._shards
        signature = [
            tf.TensorSpec((rows, self._reader.num_frames, *self._reader.size, 3), tf.uint8),
            tf.TensorSpec((rows, self._reader.classes), tf.float32),
        ]
        if not self.training:
            signature.append(tf.TensorSpec((rows,), tf.float32))
        dataset = tf.data.Dataset.from_generator(lambda: self.batches(first), output_signature=tuple(signature))
        length = tf.data.INFINITE_CARDINALITY if self.training else max(len(self) - first, 0)
        return dataset.apply(tf.data.experimental.assert_cardinality(length))

    def _hand_out(self, loaded):
        """The batch itself; what could not be read goes to the report."""
        *batch, about = loaded
        number, broken = json.loads(about.tobytes())
        for path, reason, own in broken:
            self.broken.add(path, reason, number if own else None)
        if broken:
            begin = number // len(self) * len(self)
            self.broken.check(begin, begin + len(self), int(self.max_broken * len(self.videos) + 1e-9))
        return tuple(batch)


@dataclasses.dataclass(frozen=True)
class _BatchReader:
    """Makes a batch from its number; this is what workers run.

    `part` is the first row of this process's share of a batch, and the row behind its last.
    """

    records: tuple
    classes: int
    batch_size: int
    part: tuple[int, int]
    num_frames: int
    size: tuple[int, int]
    training: bool
    transform: Callable
    stride: int | None
    mixing: Callable | None
    seed: int
    decoder: str

    @property
    def batches_an_epoch(self):
        return -(-len(self.records) // self.batch_size)

    def indices(self, number):
        """The index of the video in each row; None where there is none."""
        epoch, within = divmod(number, self.batches_an_epoch)
        places = range(within * self.batch_size + self.part[0], within * self.batch_size + self.part[1])
        total = len(self.records)
        if not self.training:
            return [place if place < total else None for place in places]
        order = _order(self.seed, epoch, total)
        return [int(order[place % total]) for place in places]

    def __call__(self, number):
        """The arrays of the batch, and one with JSON: its number and `[path, reason, own]` of what could not be read.

        `own` is False where the video was only tried in another's place.
        """
        indices = self.indices(number)
        clips = np.zeros((len(indices), self.num_frames, *self.size, 3), np.uint8)
        labels = np.zeros(len(indices), np.int64)
        weights = np.zeros(len(indices), np.float32)
        broken = []
        for row, index in enumerate(indices):
            for attempt in range(TRIES if self.training else 1):
                if index is None:
                    break
                record = self.records[index]
                rng = self._random(CLIP, number, self.part[0] + row, attempt)
                try:
                    frames = self._read(record, rng)
                except ImportError:
                    raise
                except Exception as error:  # A damaged video can bring up any, down to a lack of memory.
                    broken.append((_name(record), _reason(record, error), attempt == 0))
                    index = int(rng.integers(len(self.records))) if self.training else None
                    continue
                clips[row] = self._transformed(frames, rng)
                labels[row], weights[row] = record.label, 1
                break
        if self.training and 0 < weights.sum() < len(weights):
            # Nothing in a row would be mixed into others.
            empty = weights == 0
            clips[empty], labels[empty], weights[empty] = (
                array[weights.argmax()] for array in (clips, labels, weights)
            )
        if self.mixing is None:
            targets = np.eye(self.classes, dtype=np.float32)[labels]
        else:
            clips, targets = self.mixing(clips, labels, self._random(MIX, number))
        # An empty row has no loss.
        targets = targets * weights[:, None]
        about = np.frombuffer(json.dumps([number, broken]).encode(), np.uint8)
        return (clips, targets, about) if self.training else (clips, targets, weights, about)

    def _read(self, record, rng):
        """The clip's frames, not yet transformed."""

        def indices(total):
            draw = rng if self.training else None
            if self.stride is None:
                return sample_frame_indices(total, self.num_frames, rng=draw)
            return sample_dense_indices(total, self.num_frames, self.stride, rng=draw)

        # What the reference resizes to before it crops.
        short_side = max(round(256 / 224 * side) for side in self.size)
        # Of a damaged video, what several threads give depends on which is faster.
        options = {"short_side": short_side, "threads": 1, "decoder": self.decoder}
        return read_frames(record.path, indices, record.start, record.end, **options)

    def _transformed(self, frames, rng):
        clip = self.transform(frames, rng)
        shape = (self.num_frames, *self.size, 3)
        if clip.shape != shape or clip.dtype != np.uint8:
            raise ValueError(
                f"transform gave {clip.shape} {clip.dtype} where the clips are {shape} uint8; "
                "end it with CenterCrop(size), or pass size= and num_frames= as it gives them."
            )
        return clip

    def _random(self, *purpose):
        return np.random.default_rng([self.seed, *purpose])


# Processes ask for one batch after another, of one epoch and the next.
@functools.lru_cache(maxsize=2)
def _order(seed, epoch, total):
    """The order in which an epoch takes the videos."""
    return np.random.default_rng([seed, ORDER, epoch]).permutation(total)


def _name(record):
    """What a video, or a part of one, is called in the report."""
    if record.start is None and record.end is None:
        return record.path
    return f"{record.path} ({record.start or 0} s to {'the end' if record.end is None else f'{record.end} s'})"


def _reason(record, error):
    """Why a video cannot be read, with its name."""
    reason = str(error) or type(error).__name__
    return reason if record.path in reason else f"{record.path}: {reason}"


def _shard(shard, batch_size):
    """`(index, count)`, or an error that tells what is wrong with it."""
    index, count = (operator.index(number) for number in shard)
    if not 0 <= index < count:
        raise ValueError(f"shard must be (index, count) with 0 <= index < count, received {shard!r}.")
    if batch_size % count:
        raise ValueError(
            f"batch_size={batch_size} cannot be divided among {count} processes; it counts the clips of all of them "
            f"together: pass a multiple of {count}."
        )
    return index, count


def _stride(sampling):
    """None for segments, else the stride of dense sampling."""
    if sampling is None:
        return None
    if not isinstance(sampling, (tuple, list)) or len(sampling) != 2 or sampling[0] != "dense":
        raise ValueError(f'sampling must be None (segments) or ("dense", stride), received {sampling!r}.')
    return _positive("sampling's stride", sampling[1], "Pass the frames from one to the next, such as 8")


def _seed(seed):
    seed = operator.index(seed)
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, received {seed}.")
    return seed
