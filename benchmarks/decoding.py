"""From video files to batches: `python -m benchmarks.decoding`.

Clips of 8 frames at 224 x 224, batches of 8, from H.264 files that are made for it from the real footage that scikit-
video carries. As many processes as there are cores read clips with one thread each, as data workers do: ours, where the
file was read before by the process and where it was not, a plain PyAV loop that decodes everything and picks, and
decord2 (`pip install decord2`). decord2 runs in one process with its own threads too; the better counts. It scales
straight to 224 x 224, which is its fast path; the others resize the short side to 256 by an averaging filter and crop.
Further, of a file of 10 minutes and in one thread: eight frames against decoding everything; and twelve views of eight
frames by one `VideoReader` against one view, what is spent on opening and indexing the file alone and altogether, and
against twelve calls of `read_clip`.

Beside the time on the clock stands the processors' time, which other work on the machine changes less.
"""

import contextlib
import functools
import multiprocessing
import os
import tempfile
import time
from fractions import Fraction
from importlib import util
from pathlib import Path

import click
import numpy as np

from benchmarks.alternation import summary, table, write
from keras_video_focalnet.data import video_reader
from keras_video_focalnet.data.clip import read_clip, resize_and_crop
from keras_video_focalnet.data.in_order import iterate_frames
from keras_video_focalnet.data.kept_indices import KEPT
from keras_video_focalnet.data.sampling import sample_dense_indices, sample_frame_indices
from keras_video_focalnet.data.video import open_video

BATCH, FRAMES, SIZE, RATE, VIEWS = 8, 8, 224, 25, 12
# Name: files, seconds, width and height, options of the encoder.
KINDS = {
    "10 s, 640 x 272, key frames as x264 sets them": (4, 10, (640, 272), {}),
    "10 s, 640 x 272, one key frame": (4, 10, (640, 272), {"x264-params": "scenecut=0"}),
    "10 s, 640 x 272, a key frame every 12": (4, 10, (640, 272), {"g": "12"}),
    "10 s, 1280 x 544, key frames as x264 sets them": (2, 10, (1280, 544), {}),
    "10 min, 640 x 272, key frames as x264 sets them": (1, 600, (640, 272), {"preset": "veryfast"}),
}
OURS, FIRST = "ours", "ours, first clip of a file"
PLAIN, DECORD, DECORD_THREADS = "PyAV, everything decoded", "decord2", "decord2, its own threads"


def read_ours(path):
    """A clip, by this package."""
    return read_clip(path, FRAMES, SIZE, threads=1)


def read_first(path):
    """A clip, by this package, of a file of which this process knows nothing."""
    KEPT.forget()
    return read_ours(path)


def read_plain(path):
    """A clip, as one would write it with PyAV alone."""
    import av

    with av.open(path) as container:
        container.streams.video[0].thread_count = 1
        indices = sample_frame_indices(container.streams.video[0].frames, FRAMES).tolist()
        frames = [frame for number, frame in enumerate(container.decode(video=0)) if number in indices]
    return np.stack([resize_and_crop(frame.to_ndarray(format="rgb24"), SIZE, SIZE) for frame in frames])


def read_decord(path, threads=1):
    """A clip, by decord2."""
    import decord

    decord.logging.set_level(decord.logging.FATAL)
    reader = decord.VideoReader(path, width=SIZE, height=SIZE, num_threads=threads)
    return reader.get_batch(sample_frame_indices(len(reader), FRAMES).tolist()).asnumpy()


READERS = {
    OURS: read_ours,
    FIRST: read_first,
    PLAIN: read_plain,
    DECORD: read_decord,
    DECORD_THREADS: functools.partial(read_decord, threads=0),
}


def read(label, path):
    """A clip by a subject, and the seconds of processor time that it took."""
    start = time.process_time()
    clip = READERS[label](path)
    return clip, time.process_time() - start


@click.command()
@click.option("--rounds", default=5, show_default=True, help="Turns each has.")
@click.option("--calls", default=3, show_default=True, help="Batches a turn, after one that is not counted.")
@click.option("--cores", default=len(os.sched_getaffinity(0)), show_default=True, help="Processes that read clips.")
@click.option("--name", default="decoding", show_default=True, help="Of the file of results.")
def main(rounds, calls, cores, name):
    """Prints tables and writes `results/decoding-cpu.json`."""
    subjects = [label for label in READERS if util.find_spec("decord") or "decord2" not in label]
    rows, fraction, views = [], None, None
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            paths = make(Path(folder), kind)
            long = KINDS[kind][1] > 60
            # There a plain loop takes minutes a batch; how long it takes to decode everything is measured alone.
            here = [label for label in subjects if not (long and label == PLAIN)]
            rows += measure(kind, here, paths, rounds, calls, cores)
            click.echo(table(*as_table(rows[-len(here) :])))
            if long:
                fraction, views = measure_fraction(paths[0], rounds), measure_views(paths[0], rounds)
                click.echo(
                    "eight frames in {eight_s:.3f} s, everything in {everything_s:.2f} s: {fraction:.1%}".format(
                        **fraction
                    )
                )
                click.echo(
                    "opening and indexing: one view {one_opening_s:.3f} s, twelve {twelve_opening_s:.3f} s, "
                    "{opening_ratio:.2f} times as long; altogether one view {one_s:.3f} s, twelve {twelve_s:.3f} s, "
                    "twelve calls of read_clip {twelve_clips_s:.3f} s".format(**views)
                )
            write(name, "cpu", rows, batch=BATCH, processes=cores, eight_of_ten_minutes=fraction, twelve_views=views)


def make(folder, kind):
    """Encodes the files of a kind, each beginning elsewhere in the footage; a list of their paths."""
    import av

    from tests.clips import real_clips

    count, seconds, (width, height), options = KINDS[kind]
    with av.open(str(real_clips() / "bikes.mp4")) as container:
        pictures = [frame.reformat(width, height, "yuv420p") for frame in container.decode(video=0)]
    paths = [str(folder / f"{list(KINDS).index(kind)}-{number}.mp4") for number in range(count)]
    for number, path in enumerate(paths):
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=RATE, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(seconds * RATE):
                frame = pictures[(index + 37 * number) % len(pictures)]
                frame.pts, frame.time_base, frame.pict_type = index, Fraction(1, RATE), 0
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
    return paths


def measure(kind, subjects, paths, rounds, calls, cores):
    """Seconds a batch of each subject, in turn; rows of results."""
    context, batch = multiprocessing.get_context("spawn"), (paths * BATCH)[:BATCH]
    processes = {label: 1 if label == DECORD_THREADS else cores for label in subjects}
    pools = {label: context.Pool(processes[label]) for label in subjects}
    seconds, processor = {label: [] for label in subjects}, {label: [] for label in subjects}
    try:
        for _ in range(rounds):
            for label, pool in pools.items():
                for call in range(calls + 1):
                    start = time.perf_counter()
                    clips, spent = zip(*pool.map(functools.partial(read, label), batch, chunksize=1), strict=True)
                    clips = np.stack(clips)
                    if call:
                        seconds[label].append(time.perf_counter() - start)
                        processor[label].append(sum(spent))
                assert clips.shape == (BATCH, FRAMES, SIZE, SIZE, 3)
    finally:
        for pool in pools.values():
            pool.terminate()
            pool.join()
    rows = [
        {
            "file": kind,
            "subject": label,
            **summary(seconds[label]),
            "clips_per_s": BATCH / summary(seconds[label])["median_s"],
            "processor_s": summary(processor[label])["median_s"],
            "clips_per_s_per_core": BATCH / summary(processor[label])["median_s"],
        }
        for label in subjects
    ]
    for key in ("median_s", "processor_s"):
        peer = min((row[key] for row in rows if row["subject"] in (DECORD, DECORD_THREADS)), default=None)
        for row in rows:
            row[f"ratio_{key}"] = peer and peer / row[key]
    return rows


def measure_fraction(path, rounds):
    """Medians of the processor's seconds for eight frames and for everything, in one thread, and their ratio."""
    spent = {"eight_s": [], "everything_s": []}
    for _ in range(rounds):
        spent["eight_s"].append(read(FIRST, path)[1])
        start = time.process_time()
        for _ in iterate_frames(functools.partial(open_video, path, threads=1)):
            pass
        spent["everything_s"].append(time.process_time() - start)
    medians = {name: summary(seconds)["median_s"] for name, seconds in spent.items()}
    return {**medians, "fraction": medians["eight_s"] / medians["everything_s"]}


def measure_views(path, rounds):
    """Medians of the processor's seconds for one view and for twelve, one drawn after the other, in one thread."""
    spent = {name: [] for name in ("one_opening_s", "twelve_opening_s", "one_s", "twelve_s", "twelve_clips_s")}
    crop = functools.partial(resize_and_crop, height=SIZE, width=SIZE)
    for _ in range(rounds):
        for name, views in (("one", 1), ("twelve", VIEWS)):
            KEPT.forget()
            rng, start = np.random.default_rng(0), time.process_time()
            with timed_opening() as opening, video_reader.VideoReader(path, threads=1) as reader:
                for _ in range(views):
                    reader.read(functools.partial(sample_dense_indices, num_frames=FRAMES, rng=rng), crop)
            spent[f"{name}_s"].append(time.process_time() - start)
            spent[f"{name}_opening_s"].append(sum(opening))
        KEPT.forget()
        start = time.process_time()
        for _ in range(VIEWS):
            read_ours(path)
        spent["twelve_clips_s"].append(time.process_time() - start)
    medians = {name: summary(seconds)["median_s"] for name, seconds in spent.items()}
    return {**medians, "opening_ratio": medians["twelve_opening_s"] / medians["one_opening_s"]}


@contextlib.contextmanager
def timed_opening():
    """A list of the processor's seconds that every opening and indexing of a video within takes."""
    seconds, functions = [], {name: getattr(video_reader, name) for name in ("open_video", "index_of")}

    def timed(function, *arguments):
        start = time.process_time()
        result = function(*arguments)
        seconds.append(time.process_time() - start)
        return result

    try:
        for name, function in functions.items():
            setattr(video_reader, name, functools.partial(timed, function))
        yield seconds
    finally:
        for name, function in functions.items():
            setattr(video_reader, name, function)


def as_table(rows):
    """Header and cells of rows of results."""
    header = ["file", "", "seconds a batch (quartiles)", "clips a second", "times decord2's"]
    header += ["clips a second of one core", "times decord2's"]
    cells = [
        [
            row["file"],
            row["subject"],
            f"{row['median_s']:.3f} ({row['low_s']:.3f}-{row['high_s']:.3f})",
            f"{row['clips_per_s']:.1f}",
            f"{row['ratio_median_s']:.2f}" if row["ratio_median_s"] else "",
            f"{row['clips_per_s_per_core']:.1f}",
            f"{row['ratio_processor_s']:.2f}" if row["ratio_processor_s"] else "",
        ]
        for row in rows
    ]
    return header, cells


if __name__ == "__main__":
    main()
