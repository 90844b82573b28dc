"""Labelled videos -> batches for `fit` and `evaluate`, with Grain."""

import copy
import dataclasses
import functools
import json
import operator
import typing
from collections.abc import Callable
from typing import Any

import numpy as np

from keras_video_focalnet.data.batch_source import BatchSource
from keras_video_focalnet.data.broken import BrokenVideos, failure_reason, part_name
from keras_video_focalnet.data.clip import CROP_FRACTION, DECODERS, read_transformed, shrink
from keras_video_focalnet.data.damage import damage_told
from keras_video_focalnet.data.datasets import VideoList
from keras_video_focalnet.data.order import CLIP, MIX, BalancedOrder, ShuffledOrder
from keras_video_focalnet.data.sampling import sample_dense_indices, sample_frame_indices
from keras_video_focalnet.data.transforms import CenterCrop, training_transforms
from keras_video_focalnet.data.workers import batches_by_number
from keras_video_focalnet.utils.checks import check_choice, check_fraction, check_integer, check_size

if typing.TYPE_CHECKING:
    import grain
    import tensorflow as tf

__all__ = ["BatchSource", "ClipDataset"]

# Videos that are tried for one place in a training batch.
TRIES = 10


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
            a `numpy.random.Generator`. Frames whose short side is longer than `256 / 224 * size` were reduced to that,
            unless it is a `CenterCrop`. None takes `training_transforms(size)`, in evaluation `CenterCrop(size)`.
        sampling: None takes a frame of each of `num_frames` equal segments of the video, `("dense", stride)` takes
            frames that are `stride` apart.
        mixing: `Mixing` of the clips of a training batch, or None.
        balanced: Whether a training epoch, as long as ever, has as many clips of every class, False by default. The
            videos of a class are all taken before one is taken again, through the epochs: of a frequent class each
            epoch takes others, and those of a rare class come several times.
        seed: Integer >= 0.
        shard: `(index, count)` of this process among those that train together.
        workers: Worker processes; see `batches_by_number`.
        max_broken: Fraction of an epoch's videos that may be broken, 0 to 1.
        decoder: See `read_frames`.

    Attributes:
        transform: As given, or what is taken for None; `mixing` and `sampling` as given.
        broken: `BrokenVideos`, the report of videos that could not be read, and in `broken.damaged` of those that were
            read in spite of damage. Videos are noted when their batch is handed out, and batches can be handed out a
            little ahead of training.
        multi_label: Whether the videos have several labels each; targets are then 0 or 1 for every class.

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
        videos: VideoList,
        batch_size: int,
        num_frames: int = 8,
        size: int | tuple[int, int] = 224,
        training: bool = False,
        transform: Callable | None = None,
        sampling: tuple[str, int] | None = None,
        mixing: Callable | None = None,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        workers: int = 0,
        max_broken: float = 0.1,
        decoder: str = "pyav",
        balanced: bool = False,
    ):
        self.videos = videos
        self.multi_label = videos.multi_label
        self.batch_size = check_integer("batch_size", batch_size, minimum=1)
        self.training = bool(training)
        self.workers = check_integer("workers", workers, minimum=0)
        self.max_broken = check_fraction("max_broken", max_broken)
        self.broken = BrokenVideos()
        index, self._shards = _shard(shard, self.batch_size)
        check_choice("decoder", decoder, DECODERS)
        if mixing is not None and not training:
            raise ValueError("mixing is for training; pass mixing=None, or training=True.")
        if mixing is not None:
            _check_mixing(mixing, videos)
        if balanced and (not training or videos.multi_label):
            raise ValueError(
                "balanced=True is for training with one label a video; pass training=True, and for videos with several "
                "labels train(..., class_weights=videos.class_weights()) instead."
            )
        if decoder == "tensorflow-io" and any(record.start or record.end for record in videos):
            raise ValueError(
                'decoder="tensorflow-io" gives no times of frames, but videos have start or end; use "pyav".'
            )
        choices = {"transform": transform, "mixing": mixing, "sampling": sampling}
        self._left_open = [name for name, value in choices.items() if value is None]
        if transform is None:
            transform = training_transforms(size) if training else CenterCrop(size)
        self.transform, self.mixing, self.sampling = transform, mixing, sampling
        rows = self.batch_size // self._shards
        self._reader = _BatchReader(
            records=videos.records,
            classes=len(videos.class_names),
            batch_size=self.batch_size,
            part=(index * rows, (index + 1) * rows),
            num_frames=check_integer("num_frames", num_frames, minimum=1),
            size=check_size("size", size, "pixels"),
            training=self.training,
            transform=transform,
            stride=_stride(sampling),
            mixing=mixing,
            seed=check_integer("seed", seed, minimum=0),
            # Workers side by side use the cores already.
            decoder=decoder,
            order=_order(videos, balanced, seed),
            multi_label=videos.multi_label,
        )

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """The shape of a clip, `(frames, height, width, 3)`."""
        return self._reader.num_frames, *self._reader.size, 3

    def completed(self, **values: Any) -> "ClipDataset":
        """Make a data set of the same videos in which those of `transform`, `mixing` and `sampling` that were None have
        the given values. Both have one report of broken videos.
        """
        result = copy.copy(self)
        for name in self._left_open:
            setattr(result, name, values.get(name, getattr(self, name)))
        changes = {"transform": result.transform, "mixing": result.mixing, "stride": _stride(result.sampling)}
        result._reader = dataclasses.replace(self._reader, **changes)
        return result

    def __len__(self) -> int:
        """Batches in an epoch, the same in every process."""
        return self._reader.batches_an_epoch

    def batches(self, first: int = 0) -> "grain.IterDataset":
        """The batches from a number on.

        To evaluate on TensorFlow take `tf_data()`, or say `steps=len(dataset)`: of a data set that ends and whose
        length is unknown Keras 3.15 counts one step more, with the loss and the metrics of nothing.

        Args:
            first: Number of the first batch, counted from the beginning of training; `epoch * len(dataset)` is the
                first of an epoch.

        Returns:
            A `grain.IterDataset` of tuples of arrays: clips uint8 `(rows, frames, height, width, 3)`, targets float32
            `(rows, classes)`, and in evaluation or with several labels weights float32 `(rows,)`, where `rows` is this
            process's part of the batch. It raises `BrokenVideosError` where too many videos are broken.

        Raises:
            ValueError: `first` is negative.
        """
        check_integer("first", first, minimum=0, remedy="pass the number of a batch")
        stop = None if self.training else len(self)
        return batches_by_number(self._reader, first, stop, self.workers).map(self._hand_out)

    def names(self, number: int) -> list[str]:
        """Paths of the videos of a batch, this process's rows, before any is replaced.

        Args:
            number: Number of the batch.

        Returns:
            List of strings.
        """
        indices = self._reader.indices(number)
        return [self.videos.records[index].path for index in indices if index is not None]

    def tf_data(self, first: int = 0) -> "tf.data.Dataset":
        """The same batches as a `tf.data.Dataset` with static shapes, for TPUs and `MirroredStrategy`.

        It does not read ahead; `workers` do, and so does `.prefetch(n)`. Where several processes train under one
        strategy, hand it over through `strategy.distribute_datasets_from_function`: this process's part is not to be
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
        if self._reader.weighted:
            signature.append(tf.TensorSpec((rows,), tf.float32))
        dataset = tf.data.Dataset.from_generator(lambda: self.batches(first), output_signature=tuple(signature))
        length = tf.data.INFINITE_CARDINALITY if self.training else max(len(self) - first, 0)
        return dataset.apply(tf.data.experimental.assert_cardinality(length))

    def _hand_out(self, loaded):
        """The batch itself; what could not be read goes to the report."""
        *batch, about = loaded
        number, broken, damaged = json.loads(about.tobytes())
        self.broken.damaged.update(damaged)
        for path, reason, own in broken:
            self.broken.add(path, reason, number if own else None)
        if broken:
            begin = number // len(self) * len(self)
            self.broken.check(begin, begin + len(self), int(self.max_broken * len(self.videos) + 1e-9))
        return tuple(batch)


@dataclasses.dataclass(frozen=True)
class _BatchReader:
    """Makes a batch from its number; this is what workers run.

    `part` is the first row of this process's part of a batch, and the row behind its last.
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
    order: Callable
    multi_label: bool

    @property
    def weighted(self):
        """Whether batches have weights of their rows."""
        return self.multi_label or not self.training

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
        order = self.order(epoch)
        return [int(order[place % total]) for place in places]

    def __call__(self, number):
        """The arrays of the batch, and one with JSON: its number, `[path, reason, own]` of what could not be read, and
        what was lost of each damaged video.

        `own` is False where the video was only tried in another's place.
        """
        indices = self.indices(number)
        clips = np.zeros((len(indices), self.num_frames, *self.size, 3), np.uint8)
        labels = np.zeros((len(indices), self.classes) if self.multi_label else len(indices), np.int64)
        weights = np.zeros(len(indices), np.float32)
        broken, damaged = [], {}
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
                    name = part_name(record.path, record.start, record.end)
                    broken.append((name, failure_reason(record.path, error), attempt == 0))
                    index = int(rng.integers(len(self.records))) if self.training else None
                    continue
                lost = damage_told(record.path)
                if lost:
                    damaged[record.path] = lost
                clips[row] = self._transformed(frames, rng)
                # Several labels are ones in a row of zeros, a single one is its index.
                labels[(row, list(record.label)) if self.multi_label else row] = 1 if self.multi_label else record.label
                weights[row] = 1
                break
        if self.training and 0 < weights.sum() < len(weights):
            # Nothing in a row would be mixed into others.
            empty = weights == 0
            clips[empty], labels[empty], weights[empty] = (
                array[weights.argmax()] for array in (clips, labels, weights)
            )
        if self.mixing is None:
            targets = labels.astype(np.float32) if self.multi_label else np.eye(self.classes, dtype=np.float32)[labels]
        else:
            clips, targets = self.mixing(clips, labels, self._random(MIX, number))
        # Without targets a row has no loss, unless every label has a loss of its own: then its weight says so.
        targets = targets * weights[:, None]
        about = np.frombuffer(json.dumps([number, broken, damaged]).encode(), np.uint8)
        return (clips, targets, weights, about) if self.weighted else (clips, targets, about)

    def _read(self, record, rng):
        """The clip's frames, not yet transformed."""

        def indices(total):
            draw = rng if self.training else None
            if self.stride is None:
                return sample_frame_indices(total, self.num_frames, rng=draw)
            return sample_dense_indices(total, self.num_frames, self.stride, rng=draw)

        # Of a damaged video, what several threads give depends on which is faster.
        reader = {"threads": 1, "decoder": self.decoder}
        if isinstance(self.transform, CenterCrop):
            # A frame is resized once, as `read_clip` does.
            transform = self.transform.crop
        else:
            # What the reference resizes to before it crops.
            short_side = max(round(side / CROP_FRACTION) for side in self.size)
            transform = functools.partial(shrink, short_side=short_side)
        return read_transformed(record.path, indices, transform, record.start, record.end, **reader)

    def _transformed(self, frames, rng):
        clip = frames if isinstance(self.transform, CenterCrop) else self.transform(frames, rng)
        shape = (self.num_frames, *self.size, 3)
        if clip.shape != shape or clip.dtype != np.uint8:
            raise ValueError(
                f"transform gave {clip.shape} {clip.dtype} where the clips are {shape} uint8; "
                "end it with CenterCrop(size), or pass size= and num_frames= as it gives them."
            )
        return clip

    def _random(self, *purpose):
        return np.random.default_rng([self.seed, *purpose])


def _check_mixing(mixing, videos):
    """Raise where a `Mixing` is for other labels than the videos have; other functions are not known that well."""
    classes, several = len(videos.class_names), videos.multi_label
    if getattr(mixing, "classes", classes) != classes:
        raise ValueError(
            f"mixing is for {mixing.classes} classes but the videos have {classes}; pass Mixing({classes})."
        )
    if getattr(mixing, "multi_label", several) != several:
        raise ValueError(
            f"mixing has multi_label={mixing.multi_label} but the videos have {several}; pass "
            f"Mixing({classes}, multi_label={several})."
        )


def _order(videos, balanced, seed):
    return BalancedOrder([record.label for record in videos], seed) if balanced else ShuffledOrder(len(videos), seed)


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
    return check_integer("sampling's stride", sampling[1], minimum=1)
