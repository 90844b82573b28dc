"""The videos that the arguments of a command name: files, folders, patterns, and paths on standard input."""

import glob
import os

import click

STANDARD_INPUT = "-"


def named_videos(arguments):
    """Find the videos that arguments name, each once, in their order; the files below a folder by their paths.

    An argument is a file; a folder, which stands for all videos below it, or for one where it holds numbered pictures;
    a pattern such as `videos/**/*.mp4`, unless there is a file of that name; or `-`, which stands for paths on standard
    input, one a line, which are taken as they are.

    Returns:
        The paths, and the arguments that name no video as pairs of the argument and the reason.
    """
    found, wrong = {}, []
    for argument in arguments:
        lines = _lines() if argument == STANDARD_INPUT else [argument]
        if not lines:
            wrong.append((argument, "standard input names no video; give it one path a line."))
        for line in lines:
            try:
                paths = _videos(line, patterns=argument != STANDARD_INPUT)
            except (OSError, ValueError) as error:
                wrong.append((line, str(error)))
                continue
            for path in paths:
                found.setdefault(os.path.abspath(os.path.expanduser(path)), path)
    return list(found.values()), wrong


def _lines():
    """The lines of standard input, which need not be text."""
    lines = (line.rstrip(b"\r\n") for line in click.get_binary_stream("stdin"))
    return [os.fsdecode(line) for line in lines if line.strip()]


def _videos(name, patterns):
    """The paths that a name stands for."""
    path = os.path.expanduser(name)
    if "\0" not in path and os.path.isdir(path):
        from keras_video_focalnet.data.library import library_videos

        return [video.path for video in library_videos(path)]
    if not patterns or not glob.has_magic(path) or os.path.lexists(path):
        return [name]
    matches = sorted(glob.glob(path, recursive=True))
    files = [match for match in matches if not os.path.isdir(match)]
    if not files and len(matches) == 1:
        return _videos(matches[0], patterns=False)
    if not files:
        raise ValueError(f"{name} matches no file; check the pattern, or put it in quotes where a shell changes it.")
    return files
