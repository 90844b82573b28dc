"""Lists of labelled videos: from a list file, or from a folder with one sub-folder a class."""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence

from keras_video_focalnet.data import splits
from keras_video_focalnet.data.video_folders import endings, read_folder
from keras_video_focalnet.data.video_lists import read_list
from keras_video_focalnet.data.video_names import VIDEO_ENDINGS

__all__ = ["VIDEO_ENDINGS", "VideoList", "VideoRecord", "video_list"]

# More classes than any data set has; a label above is the number of something else.
MOST_CLASSES = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class VideoRecord:
    """One labelled video, or a part of one.

    Attributes:
        path: Path of the file, or of a folder that holds its frames as numbered pictures.
        label: Index of its class; a tuple of indices, also an empty one, where videos have several labels.
        start: Seconds from the beginning at which the part begins; None for the beginning.
        end: Seconds from the beginning before which it stops; None for the end.

    Example:
        >>> record = VideoRecord("match.mp4", 3, start=12.5, end=20.0)
        >>> record.end - record.start
        7.5
    """

    path: str
    label: int | tuple[int, ...]
    start: float | None = None
    end: float | None = None


class VideoList(Sequence):
    """Labelled videos in a fixed order, with the names of their classes.

    Args:
        records: `VideoRecord`s, at least one, all with one label or all with a tuple of labels.
        class_names: Names of the classes; a label is an index into them.

    Attributes:
        multi_label: Whether the labels are tuples.

    Raises:
        ValueError: There is no record, a name occurs twice, or a label is no index of `class_names`.

    Example:
        >>> videos = VideoList([VideoRecord("a.mp4", 1), VideoRecord("b.mp4", 0)], ["left", "right"])
        >>> len(videos), videos[0].path, videos.class_names
        (2, 'a.mp4', ('left', 'right'))
    """

    def __init__(self, records: Iterable[VideoRecord], class_names: Iterable[str]):
        self.records = tuple(records)
        self.class_names = _distinct(class_names)
        if not self.records:
            raise ValueError("records is empty; pass at least one VideoRecord.")
        self.multi_label = isinstance(self.records[0].label, tuple)
        for record in self.records:
            if isinstance(record.label, tuple) != self.multi_label:
                raise ValueError(
                    f"records gives {record.path} the label {record.label} while others have "
                    f"{'tuples' if self.multi_label else 'one label'}; pass integers for all, or tuples for all."
                )
            for label in splits.label_set(record.label):
                if not 0 <= label < len(self.class_names):
                    raise ValueError(
                        f"records gives {record.path} the label {label} but class_names has {len(self.class_names)} "
                        f"names; pass labels from 0 to {len(self.class_names) - 1}."
                    )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int | slice) -> VideoRecord | tuple[VideoRecord, ...]:
        return self.records[index]

    def __repr__(self):
        return f"<VideoList: {len(self)} videos of {len(self.class_names)} classes>"

    def split(self, fraction: float, seed: int = 0) -> tuple["VideoList", "VideoList"]:
        """Divide the videos into some to train on and some to validate on.

        About the same fraction of each class's files is held out, and all parts of one file lie on one side. Training
        has at least one file of each class. The same videos and seed give the same division, in whatever order.

        Args:
            fraction: What part of the files to hold out, above 0 and below 1.
            seed: Integer >= 0, by default 0.

        Returns:
            `(training, validation)`, two `VideoList`s with all the class names, in the order of this one.

        Raises:
            ValueError: An argument is out of its range, or nothing is left on one side.

        Example:
            >>> videos = VideoList([VideoRecord(f"{n}.mp4", n % 2) for n in range(10)], ["left", "right"])
            >>> training, validation = videos.split(0.2)
            >>> len(training), sorted(record.label for record in validation)
            (8, [0, 1])
        """
        held_out = splits.held_out_files(self.records, fraction, seed)
        parts = [], []
        for record in self.records:
            parts[splits.real_path(record) in held_out].append(record)
        splits.check_split(*parts, self.class_names, fraction)
        return tuple(VideoList(part, self.class_names) for part in parts)

    def class_weights(self) -> list[float]:
        """Weights for `train(..., class_weights=)` with which every class counts the same, however many videos it has.

        With one label a video, the weight of a class is `videos / (classes * videos of the class)`, where only classes
        with videos count. With several labels it is `videos without the label / videos with it`: it multiplies the loss
        of the videos that have the label. What has nothing to balance weighs 1.

        Returns:
            A list of floats, one for each class.

        Example:
            >>> VideoList([VideoRecord("a", 0), VideoRecord("b", 0), VideoRecord("c", 1)], ["x", "y"]).class_weights()
            [0.75, 1.5]
        """
        return splits.balanced_weights(self.records, len(self.class_names), self.multi_label)


def video_list(
    source: str | os.PathLike,
    root: str | os.PathLike | None = None,
    class_names: Iterable[str] | None = None,
    multi_label: bool = False,
    split: str | None = None,
) -> VideoList:
    """The labelled videos of a list file or of a folder.

    A **list file** is CSV with commas, semicolons or tabs, words between spaces, a JSON list of objects, or JSON lines.
    Its first line names the columns, in any order: the video (`path`, `file`, `video_name`, ...), its label (`label`,
    `class`, `category`, ...) and, if need be, `start` and `end` in seconds and `split`. Other columns are passed over.
    Lists of Kinetics (`label,youtube_id,time_start,time_end,split`) and of Something-Something (`id`, `template`) are
    read too: there the file of an identifier is looked for in `root`, and below it in the folder of the split or class.

    Without such a line a list holds `path label`, `path label start end` or, of folders with a video's frames,
    `path count label`, with any of these delimiters. What holds the delimiter is put in double quotes. Empty lines and
    lines that begin with `#` are passed over. Labels are either all integers, indices of the classes from 0, or all
    names.

    A **folder** has one sub-folder a class, whose name is the class's. In it, also in deeper folders and through links,
    every file with the ending of a video is one video, and so is every folder that holds the frames of a video as
    numbered pictures and nothing else. Hidden files and folders that systems make (`__MACOSX`, `@eaDir`, ...) are
    passed over, and other files are too, with one warning.

    Whether a file can be read is found out when it is read. Only where none of the first few is there, the list is
    taken to be relative to another folder.

    Args:
        source: Path of a list file or of a folder.
        root: Folder that the relative paths of a list file begin in; None for the folder that the list file is in.
        class_names: Names of the classes in the order of the model's outputs: for a validation list
            `training_list.class_names`. None takes the names that occur, sorted; for integer labels the integers from
            0 to the highest.
        multi_label: Whether a video can have several labels, False by default: in one column, separated by `|`; in
            several columns (`label_1`, `label_2`, ...), of which some may be empty; or as a list in JSON. Without a
            header all columns behind the path are labels.
        split: Of a list with a column `split`, take the rows with this value, such as `"train"`. None, the default,
            takes all, which must be of one split.

    Returns:
        A `VideoList`, in the order of the file, or by class and path.

    Raises:
        FileNotFoundError: `source` does not exist.
        ValueError: A line or a folder is not of that form, or a label is not among `class_names`. The message names the
            file and line, the value, and what to do.

    Example:
        >>> import pathlib
        >>> lines = ["path,label,start,end", "bikes.mp4,ride", "bikes.mp4,walk,1.5,4"]
        >>> _ = pathlib.Path("train.csv").write_text(chr(10).join(lines))
        >>> videos = video_list("train.csv")
        >>> videos.class_names
        ('ride', 'walk')
        >>> videos[1]
        VideoRecord(path='bikes.mp4', label=1, start=1.5, end=4.0)
    """
    source = _path(source)
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist; pass a list file (path,label) or a folder of class folders.")
    if class_names is not None:
        class_names = _distinct(class_names)
    if not source.is_dir():
        root = source.parent if root is None else _path(root)
        return _from_file(read_list(source, root, multi_label, split, class_names or ()), class_names, multi_label)
    if multi_label or split is not None:
        raise ValueError(f"{source} is a folder of classes, with one label a video and no splits; pass a list file.")
    return _from_folder(source, class_names)


def _path(path):
    return pathlib.Path(os.path.expanduser(os.fsdecode(path)))


def _distinct(class_names):
    """The names as a tuple, or an error that names the one that occurs twice."""
    if isinstance(class_names, str):
        raise ValueError(f"class_names must be a list of names, received the string {class_names!r}.")
    names = tuple(class_names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"class_names holds {twice!r} more than once; give every class a name of its own.")
    return names


def _from_folder(folder, class_names):
    """One class a sub-folder."""
    found = read_folder(folder, class_names)
    class_names = tuple(found) if class_names is None else class_names
    labels = {name: index for index, name in enumerate(class_names)}
    for name, paths in found.items():
        if paths and name not in labels:
            raise ValueError(f"{folder / name}: {_unknown(name, class_names)}")
    records = [VideoRecord(path, labels[name]) for name, paths in found.items() for path in paths]
    if not records:
        raise ValueError(f"{folder} holds no video; give every class a sub-folder with its videos ({endings()}).")
    return VideoList(records, class_names)


def _from_file(listed, class_names, multi_label):
    """One video a line."""
    class_names, labels = _labels([(video.place, text) for video in listed for text in video.labels], class_names)
    if multi_label:
        _check_once(listed)
    labels = iter(labels)
    records = []
    for video in listed:
        indices = tuple(next(labels) for _ in video.labels)
        label = tuple(sorted(set(indices))) if multi_label else indices[0]
        records.append(VideoRecord(os.fspath(video.path), label, video.start, video.end))
    return VideoList(records, class_names)


def _check_once(listed):
    """Raise where a video with several labels is listed twice: each line would deny the labels of the other."""
    before = {}
    for video in listed:
        first = before.setdefault((video.path, video.start, video.end), video.place)
        if first != video.place:
            raise ValueError(
                f"{video.place}: {video.path} is listed at {first} already; write all its labels into one line, "
                "separated by |."
            )


def _labels(labels, class_names):
    """The class names, and the index of each of the labels, `(place, text)`."""
    integers = [_is_integer(text) for _, text in labels]
    if class_names is None:
        class_names = _names_of_integers(labels, integers) if any(integers) else _names(labels)
    named = {name: index for index, name in enumerate(class_names)}
    # Names that are integers stand for themselves.
    by_index = all(integers) and not all(text in named for _, text in labels)
    return class_names, [_label(place, text, named, by_index) for place, text in labels]


def _names(labels):
    """The names that occur, sorted."""
    for place, text in labels:
        if _is_number(text):
            raise ValueError(
                f"{place}: the label {text!r} is a number but no integer; write integers or names, or pass "
                "class_names= if it is a name."
            )
    return tuple(sorted({text for _, text in labels}))


def _names_of_integers(labels, integers):
    """The integers from 0 to the highest label, as names."""
    highest = 0
    for (place, text), integer in zip(labels, integers, strict=True):
        if not integer:
            raise ValueError(
                f"{place}: the label {text!r} is a name while other lines have integers; use one or the other, or "
                "pass class_names= if the integers are names."
            )
        if len(text) > 9 or int(text) >= MOST_CLASSES:
            raise ValueError(
                f"{place}: the label {text[:30]} would be one of so many classes; pass class_names= if it is a name, "
                "or correct which column is the label."
            )
        highest = max(highest, int(text))
    used = {int(text) for _, text in labels}
    if highest > 1 and used == set(range(1, highest + 1)):
        warnings.warn(
            f"{labels[0][0].rpartition(':')[0]}: the labels run from 1 to {highest}, but they are indices from 0: "
            "class 0 has no video. Subtract 1, or pass class_names= with names that are integers.",
            stacklevel=5,
        )
    return tuple(str(index) for index in range(highest + 1))


def _label(place, text, named, by_index):
    """The index of one label."""
    if by_index:
        index = int(text) if len(text) < 10 else -1
        if not 0 <= index < len(named):
            raise ValueError(
                f"{place}: the label {text[:30]} is none of the {len(named)} classes; write an integer from 0 to "
                f"{len(named) - 1}."
            )
        return index
    if text not in named:
        raise ValueError(f"{place}: {_unknown(text, tuple(named))}")
    return named[text]


def _is_integer(text):
    return text.removeprefix("-").isdecimal()


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unknown(name, class_names):
    """What is wrong with a name that is not among the classes."""
    some = ", ".join(class_names[:5]) + (", ..." if len(class_names) > 5 else "")
    return f"the class {name!r} is none of the {len(class_names)} that there are ({some}); correct or remove it."
