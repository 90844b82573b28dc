"""`prepare_videos`: a library of videos made small, as Kinetics is prepared, with its lists written anew."""

import collections
import contextlib
import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path

from keras_video_focalnet.data.datasets import VideoList
from keras_video_focalnet.data.library import LibraryVideo, Videos, library_videos
from keras_video_focalnet.data.reencoding import UnreadableVideoError, reencode
from keras_video_focalnet.evaluation.library_job import interruptible, local_engine, run_job, workers_or_cores
from keras_video_focalnet.evaluation.parts import Parts
from keras_video_focalnet.evaluation.reading import Reading, told
from keras_video_focalnet.evaluation.scoring import LibraryReport, describe, readable, report_of, video_row
from keras_video_focalnet.utils.checks import check_choice, check_integer, fail
from keras_video_focalnet.utils.extras import require
from keras_video_focalnet.utils.files import atomic_write, remove_left_behind

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""How much x264 takes pains: the later ones take longer and write smaller files."""

TABLE = "prepared.parquet"
"""The table of what became of each video, in the folder of the small videos."""


def prepare_videos(
    videos: Videos | Sequence[str | os.PathLike],
    out: str | os.PathLike,
    short_side: int = 256,
    crf: int = 23,
    preset: str = "medium",
    workers: int | None = None,
    address: str | None = None,
    root: str | os.PathLike | None = None,
    multi_label: bool = False,
    progress: bool | None = None,
) -> LibraryReport:
    """Make every video of a library small, so that training and scoring read it faster, and write its lists anew.

    Videos are resized to a short side of 256 pixels (smaller ones are not enlarged) and encoded as H.264 with x264's
    own quality, CRF 23, which is what the usual preparation of Kinetics with `ffmpeg -vf scale` comes to. They keep
    their frames and the times of these; they lose their sound. Those of folders lie in `out` as they lay before, so a
    folder of classes stays one; files of other endings become `.mp4`. Of each list file a list of the same name and
    order with the ending `.csv` is written to `out`: with the new paths, the labels, and `start` and `end` where the
    list has them. A video that cannot be read is left out of it, and told in `prepared.parquet`.

    A job that was interrupted goes on where it was; see `score_videos` for this and for Ray. The workers write into
    `out`, which all machines of a cluster must see.

    Args:
        videos: A folder, a list file or several of them (such as those for training and for validation), a `VideoList`
            or a sequence of paths.
        out: Folder to write to.
        short_side: Even integer >= 2, pixels; 256 by default.
        crf: Quality, 0 (lossless) to 51 (worst); 23 by default.
        preset: How much x264 takes pains, `"medium"` by default.
        workers: As for `score_videos`.
        address: As for `score_videos`.
        root: As for `score_videos`.
        multi_label: As for `score_videos`.
        progress: As for `score_videos`.

    Returns:
        A `LibraryReport`, whose `videos` are the files.

    Raises:
        FileNotFoundError: `videos` does not exist.
        ValueError: There is no video, an argument is out of its range, or `out` is of another job or holds the videos.
        ImportError: As for `score_videos`.
        OSError: The disk is full, or `out` cannot be written; what is done is kept.
        KeyboardInterrupt: Ctrl-C or SIGTERM; what is done is kept.

    Example:
        >>> report = prepare_videos(["bikes.mp4"], "small", short_side=64, preset="ultrafast", workers=0)
        >>> report.done, VideoReader("small/bikes.mp4").size
        (1, (64, 152))
    """
    short_side = check_integer("short_side", short_side, minimum=2)
    if short_side % 2:
        raise fail("short_side", "an even number of pixels, which H.264 wants", short_side)
    crf, preset = check_integer("crf", crf, 0, 51), check_choice("preset", preset, PRESETS)
    workers = workers_or_cores(workers)
    require("Preparing videos", "score", "pyarrow")
    import pyarrow as pa

    out = Path(os.path.expanduser(os.fsdecode(out)))
    sources = _sources(videos)
    _check_names(sources)
    lists = [
        (source, library_videos(source, *(() if _is_folder(source) else (root, multi_label)))) for source in sources
    ]
    paths = list(dict.fromkeys(video.path for _, found in lists for video in found))
    targets = _targets(paths, out, next((str(source) for source, _ in lists if _is_folder(source)), None))
    files = [LibraryVideo(path) for path in paths]
    columns = [("path", pa.string()), ("start", pa.float64()), ("end", pa.float64()), ("label", pa.string())]
    columns += [("prepared", pa.string()), ("frames", pa.int64()), ("height", pa.int64()), ("width", pa.int64())]
    schema = pa.schema([*columns, ("damaged", pa.string()), ("broken", pa.string())])
    config = {"videos": describe(files), "short_side": short_side, "crf": crf, "preset": preset}
    work = Reencode(paths, [str(out / target) for target in targets], short_side, crf, preset)

    def row(number, values, about):
        if "failed" in about:
            raise OSError(f"{out / targets[number]} cannot be written: {about['failed']}")
        known = {name: about.get(name) for name in ("frames", "height", "width")}
        return {**video_row(files[number], about), "prepared": None if "broken" in about else targets[number], **known}

    out.mkdir(parents=True, exist_ok=True)
    with (
        Parts(out / TABLE, schema, config, {}, len(files)) as parts,
        interruptible(parts),
        contextlib.ExitStack() as stack,
    ):
        if parts.missing():
            # Of a job that was killed: this one holds the lock.
            remove_left_behind(out / targets[number] for number in parts.missing())
            if address is None:
                engine = local_engine(work, None, 1, workers)
            else:
                from keras_video_focalnet.evaluation.on_ray import ray_cluster, ray_engine

                stack.enter_context(ray_cluster(address, max(1, workers)))
                engine = ray_engine(work, None, None)
            run_job(parts, engine, 1, row, "prepare", progress)
        parts.finish()
    report = report_of(out / TABLE)
    prepared = {path: to for path, to in zip(paths, targets, strict=True) if readable(path) not in report.broken}
    for source, found in lists:
        if not _is_folder(source):
            _write_list(out / f"{_stem(source)}.csv", found, prepared)
    return report


class Reencode:
    """Makes one video small, by its place in the library; this is what workers run."""

    def __init__(self, sources: list[str], targets: list[str], short_side: int, crf: int, preset: str):
        self._sources, self._targets = sources, targets
        self._options = {"short_side": short_side, "crf": crf, "preset": preset}

    def __call__(self, number: int) -> Reading:
        """Write the small video, and tell of it; what cannot be written is no fault of the video."""
        target, failed = Path(self._targets[number]), None

        def encode():
            nonlocal failed
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                return reencode(self._sources[number], target, **self._options)
            except UnreadableVideoError:
                raise
            except Exception as error:
                failed = str(error) or type(error).__name__

        made, about = told(LibraryVideo(self._sources[number]), encode)
        if failed is not None:
            return Reading(number, None, {"failed": failed})
        return Reading(number, None, {**about, **(made or {})})


def _sources(videos):
    """The folders and lists, each to be read by itself; a sequence of videos is one."""
    if isinstance(videos, (VideoList, str, os.PathLike)):
        return [videos]
    videos = list(videos)
    is_source = [isinstance(video, (str, os.PathLike)) and _is_source(video) for video in videos]
    return videos if videos and all(is_source) else [videos]


def _is_source(path):
    from keras_video_focalnet.data.frame_folder import is_frame_folder
    from keras_video_focalnet.data.video_names import is_video_name

    return not is_video_name(os.fsdecode(path)) and not is_frame_folder(path)


def _is_folder(source):
    return isinstance(source, (str, os.PathLike)) and os.path.isdir(os.path.expanduser(os.fsdecode(source)))


def _check_names(sources):
    """Raise where two lists would be written to one file."""
    stems = collections.Counter(_stem(source) for source in sources if not _is_folder(source))
    twice = next((stem for stem, count in stems.items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"videos holds two lists called {twice!r}, which cannot both be {twice}.csv; rename one.")


def _stem(source):
    return Path(os.fsdecode(source)).stem if isinstance(source, (str, os.PathLike)) else "videos"


def _targets(paths, out, folder):
    """The file of each video below `out`, as text: where it lay below what all of them lie in, or else the folder."""
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    if folder is not None:
        common = os.path.commonpath([common, os.path.abspath(os.path.expanduser(folder))])
    if os.path.abspath(out) == common:
        raise ValueError(f"out={str(out)!r} is the folder that the videos lie in; pass another.")
    places = [os.path.relpath(path, common) for path in absolute]
    # The name of a folder of frames has no ending, whatever stands behind its last dot.
    stems = [
        place if os.path.isdir(path) else os.path.splitext(place)[0]
        for path, place in zip(absolute, places, strict=True)
    ]
    counts = collections.Counter(stems)
    return [f"{place if counts[stem] > 1 else stem}.mp4" for stem, place in zip(stems, places, strict=True)]


def _write_list(path, videos, prepared):
    """The list of what is prepared, in the order of the list that it was made from."""
    videos = [video for video in videos if video.path in prepared]
    has_part = any(video.start is not None or video.end is not None for video in videos)
    has_label = any(video.label is not None for video in videos)
    header = ["path"] + ["label"] * has_label + ["start", "end"] * has_part
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(header)
    for video in videos:
        cells = {"path": prepared[video.path], "label": video.label, "start": video.start, "end": video.end}
        lines.writerow([cells[name] for name in header])
    with atomic_write(path) as file:
        file.write(text.getvalue().encode("utf-8", "surrogateescape"))
