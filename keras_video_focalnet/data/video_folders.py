"""Folders of labelled videos: one sub-folder a class."""

import collections
import os
import pathlib
import warnings

from keras_video_focalnet.data.frame_folder import is_frame_folder
from keras_video_focalnet.data.video_names import VIDEO_ENDINGS, is_video_name

# Folders that systems and programs make, in lower case; those that begin with a dot are passed over too.
HELPER_FOLDERS = frozenset(
    {"__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"}
)
HELPER_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
TRAINING_SPLITS = frozenset({"train", "training", "trainset"})
OTHER_SPLITS = frozenset({"val", "valid", "validate", "validation", "dev", "eval", "test", "testing"})


def read_folder(folder: str | os.PathLike, class_names: tuple[str, ...] | None) -> dict[str, list[str]]:
    """The paths of the videos by class, sorted: what is below each sub-folder, through links to folders too.

    Without `class_names`, sub-folders that are sets such as `train` and `val`, or hold no video, raise a ValueError.
    Files that are no videos are told in one warning.
    """
    folder = pathlib.Path(folder)
    entries = sorted(entry for entry in folder.iterdir() if not is_helper(entry.name))
    stray = next((entry for entry in entries if is_video_name(entry.name) and entry.is_file()), None)
    if stray is not None:
        raise ValueError(f"{stray} lies in no class's folder; move it into {folder}/NAME_OF_ITS_CLASS/.")
    walk = _Walk(folder)
    walk.passed_over += [entry.name for entry in entries if not entry.is_dir()]
    found = {entry.name: walk.videos_below(entry) for entry in entries if entry.is_dir()}
    if class_names is None:
        _check_layout(folder, found)
    elif splits := _splits(found) - set(class_names):
        raise _split_error(folder, splits)
    if walk.passed_over:
        warnings.warn(_passed_over(folder, walk.passed_over), stacklevel=4)
    return found


def is_helper(name: str) -> bool:
    """Whether a file or folder is hidden, or one that systems and programs make."""
    return name.startswith(".") or name.lower() in HELPER_FOLDERS | HELPER_FILES


def _check_layout(folder, found):
    """Raise where the sub-folders are not one a class."""
    filled = {name: paths for name, paths in found.items() if paths}
    if splits := _splits(filled):
        raise _split_error(folder, splits)
    if len(filled) == 1:
        ((name, paths),) = filled.items()
        if all(os.path.dirname(path) != str(folder / name) for path in paths):
            raise ValueError(
                f"{folder} has videos in one sub-folder alone, and there in deeper folders; pass {folder / name} if "
                f"these are the classes, or class_names=[{name!r}] if {name} is one."
            )
    bare = next((name for name, paths in found.items() if not paths), None)
    if bare is not None and filled:
        raise ValueError(f"{folder / bare} holds no video ({endings()}); fill or remove the folder.")


def _splits(names):
    """Names of sub-folders that are sets rather than classes: one for training and one for anything else."""
    training = {name for name in names if name.lower() in TRAINING_SPLITS}
    others = {name for name in names if name.lower() in OTHER_SPLITS}
    return training | others if training and others else set()


def _split_error(folder, splits):
    training = next(name for name in sorted(splits) if name.lower() in TRAINING_SPLITS)
    other = next(name for name in sorted(splits) if name.lower() in OTHER_SPLITS)
    return ValueError(
        f"{folder} holds {' and '.join(sorted(splits))}, which are sets and no classes; pass {folder / training} to "
        f"train (--data) and {folder / other} to validate (--val), or class_names= if they are classes."
    )


def _passed_over(folder, names):
    kinds = collections.Counter(os.path.splitext(name)[1].lower() or "no ending" for name in names)
    listed = ", ".join(f"{count} with {kind}" for kind, count in kinds.most_common(5))
    return (
        f"{folder}: {len(names)} file{'s that are no videos are' if len(names) > 1 else ' that is no video is'} passed "
        f"over ({listed}{', ...' if len(kinds) > 5 else ''})."
    )


class _Walk:
    """Finds the videos below the folders of classes, and notes the names of the files that are none."""

    def __init__(self, root):
        self.passed_over = []
        # The class in which each folder was visited, by what the folder is, whichever links lead to it.
        self._visited = {self._identity(root): None}

    @staticmethod
    def _identity(folder):
        status = os.stat(folder)
        return status.st_dev, status.st_ino

    def videos_below(self, class_folder):
        """Paths of the videos in a class's folder and in those within it, sorted."""
        if is_frame_folder(class_folder):
            raise ValueError(
                f"{class_folder} holds numbered pictures where the videos of a class are to be; put the pictures of "
                f"each video into a folder of its own, {class_folder}/NAME_OF_THE_VIDEO/."
            )
        paths, waiting = [], [str(class_folder)]
        while waiting:
            place = waiting.pop()
            if not self._is_new(place, class_folder.name):
                continue
            if is_frame_folder(place):
                paths.append(place)
                continue
            with os.scandir(place) as entries:
                entries = sorted(entries, key=lambda entry: entry.name, reverse=True)
            for entry in entries:
                if is_helper(entry.name):
                    continue
                if entry.is_dir():
                    waiting.append(entry.path)
                elif is_video_name(entry.name):
                    paths.append(entry.path)
                else:
                    self.passed_over.append(entry.name)
        return sorted(paths)

    def _is_new(self, place, class_name):
        """Whether a folder was not visited yet: links may lead to it again, or in a circle."""
        identity = self._identity(place)
        if identity not in self._visited:
            self._visited[identity] = class_name
            return True
        before = self._visited[identity]
        if before not in (None, class_name):
            raise ValueError(
                f"{place} belongs to the class {before!r} too, by a link; remove the link from one of them."
            )
        return False


def endings() -> str:
    """The endings of videos, as an error lists them."""
    return ", ".join(sorted(VIDEO_ENDINGS))
