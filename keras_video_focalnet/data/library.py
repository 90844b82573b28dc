"""Libraries of videos: every video of a folder or of a list, with its label where it has one."""

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence

from keras_video_focalnet.data.broken import part_name
from keras_video_focalnet.data.datasets import VideoList, video_list
from keras_video_focalnet.data.frame_folder import is_frame_folder
from keras_video_focalnet.data.video_folders import endings, is_helper
from keras_video_focalnet.data.video_names import is_video_name

# The first line of a list of paths may name its only column so.
_HEADERS = frozenset({"path", "file", "filename", "video", "video_path", "video_name"})


@dataclasses.dataclass(frozen=True, slots=True)
class LibraryVideo:
    """One video of a library, or a part of one.

    Attributes:
        path: Path of the file, or of a folder that holds its frames as numbered pictures.
        label: What its list or folder says that it shows; None where nothing is said.
        start: Seconds from the beginning at which the part begins; None for the beginning.
        end: Seconds from the beginning before which it stops; None for the end.
    """

    path: str
    label: str | None = None
    start: float | None = None
    end: float | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return part_name(self.path, self.start, self.end)


Videos = VideoList | str | os.PathLike | Sequence[str | os.PathLike | LibraryVideo]
"""What a library is made of: a folder, a list file, a `VideoList`, or a sequence of paths."""


def library_videos(
    videos: Videos, root: str | os.PathLike | None = None, multi_label: bool = False, split: str | None = None
) -> tuple[LibraryVideo, ...]:
    """Every video of a library once, in the order of its list, or by path.

    Of a **folder** every file below it with the ending of a video is a video, also in deeper folders and through links,
    and so is every folder of numbered pictures. Its label is the name of the sub-folder that it lies in, None where it
    lies in the folder itself. A **list file** is one that `video_list` reads, or has one path a line and no labels.

    A video that is listed several times is taken once, which one warning tells.

    Args:
        videos: Path of a folder or of a list file; a `VideoList`; or a sequence of paths or `LibraryVideo`s.
        root: Folder that the relative paths of a list file begin in; None for the folder that the list file is in.
        multi_label: Whether a video of a list file can have several labels, False by default. They become one text,
            separated by `|`.
        split: Of a list with a column `split`, take the rows with this value; None takes all, which must be of one
            split.

    Returns:
        Tuple of `LibraryVideo`s, at least one.

    Raises:
        FileNotFoundError: `videos` does not exist.
        ValueError: There is no video; a list cannot be read; or a video is listed again with another label.

    Example:
        >>> [video.path for video in library_videos(["bikes.mp4"])]
        ['bikes.mp4']
    """
    if isinstance(videos, VideoList):
        found = _labelled(videos)
    elif isinstance(videos, (str, os.PathLike)):
        source = pathlib.Path(os.path.expanduser(os.fsdecode(videos)))
        if not source.exists():
            raise FileNotFoundError(f"{source} does not exist; pass a folder of videos or a list file.")
        if source.is_dir():
            if root is not None or split is not None or multi_label:
                raise ValueError(
                    f"{source} is a folder of videos, which has no root, split or several labels; pass a list file."
                )
            found = _in_folder(source)
        elif is_video_name(source.name):
            found = [LibraryVideo(str(source))]
        else:
            found = _in_list(source, root, multi_label, split)
    else:
        found = [
            video if isinstance(video, LibraryVideo) else LibraryVideo(os.path.expanduser(os.fsdecode(video)))
            for video in videos
        ]
        if not found:
            raise ValueError("videos is empty; pass at least one path.")
    return _once(found)


def _labelled(videos: VideoList) -> list[LibraryVideo]:
    names = videos.class_names
    labels = (record.label if videos.multi_label else (record.label,) for record in videos)
    return [
        LibraryVideo(record.path, "|".join(names[index] for index in label), record.start, record.end)
        for record, label in zip(videos, labels, strict=True)
    ]


def _in_folder(folder: pathlib.Path) -> list[LibraryVideo]:
    """The videos below a folder, sorted; each place is visited once, whichever links lead to it."""
    if is_frame_folder(folder):
        return [LibraryVideo(str(folder))]
    found, visited, waiting = [], set(), [(str(folder), None)]
    while waiting:
        place, label = waiting.pop()
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        if is_frame_folder(place):
            found.append(LibraryVideo(place, None if os.path.dirname(place) == str(folder) else label))
            continue
        with os.scandir(place) as entries:
            # The last one is visited first.
            for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                if is_helper(entry.name):
                    continue
                if entry.is_dir():
                    waiting.append((entry.path, entry.name if label is None else label))
                elif is_video_name(entry.name):
                    found.append(LibraryVideo(entry.path, label))
    if not found:
        raise ValueError(f"{folder} holds no video ({endings()}); pass the folder that your videos lie in.")
    return sorted(found, key=lambda video: video.path)


def _in_list(source: pathlib.Path, root, multi_label: bool, split: str | None) -> list[LibraryVideo]:
    root = source.parent if root is None else pathlib.Path(os.path.expanduser(os.fsdecode(root)))
    if split is None and not multi_label:
        paths = _paths_alone(source, root)
        if paths is not None:
            return [LibraryVideo(str(path)) for path in paths]
    return _labelled(video_list(source, root, multi_label=multi_label, split=split))


def _paths_alone(source: pathlib.Path, root: pathlib.Path) -> list[pathlib.Path] | None:
    """The paths of a list whose every line is one path; None where it is another kind of list."""
    try:
        text = source.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise OSError(f"{source} cannot be read ({error.strerror}); pass a list file.") from error
    lines = [line for line in (line.strip() for line in text.splitlines()) if line and not line.startswith("#")]
    if lines and lines[0].lower() in _HEADERS:
        lines = lines[1:]
    if not lines:
        raise ValueError(f"{source} lists no video; write one path a line, or path,label.")
    if "\0" in text or not all(is_video_name(line) or os.path.isdir(root / line) for line in lines):
        return None
    return [root / line for line in lines]


def _once(videos: Iterable[LibraryVideo]) -> tuple[LibraryVideo, ...]:
    """The videos without those that occur before."""
    first, twice = {}, []
    for video in videos:
        before = first.setdefault((video.path, video.start, video.end), video)
        if before is video:
            continue
        if before.label != video.label:
            raise ValueError(
                f"{video.name} is listed with the label {before.label!r} and with {video.label!r}; leave one of them."
            )
        twice.append(video)
    if twice:
        warnings.warn(
            f"{len(twice)} {'entries are' if len(twice) > 1 else 'entry is'} of videos that are listed before and are "
            f"passed over, the first is {twice[0].name}.",
            stacklevel=4,
        )
    return tuple(first.values())
