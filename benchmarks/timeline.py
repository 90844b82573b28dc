"""`timeline` on half an hour of known camera moves: which are found, in what memory, and in what time.

    python -m benchmarks.timeline --check

makes a video of known moves and its first tenth, and goes through each in processes of its own, in turn, so that a
noisy minute affects all alike: one makes the timeline, one decodes all frames and does nothing with them, and one lets
the model score as many batches of clips. With `--check` it fails where fewer than 95 % of the moves are found within
one window, where the longer video takes more than 10 % more memory, or where the timeline takes more than 1.2 times as
long as decoding and scoring together.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.alternation import machine, summary, table, write
from benchmarks.worker import peak_bytes

WINDOW, BATCH, RATE = 1.0, 8, 25
FOUND, MEMORY, TIME = 0.95, 1.10, 1.20


class Stopwatch:
    """Measures a block: `told` has its `seconds`, and those of the processor, of all threads together."""

    def __enter__(self):
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_):
        seconds, processor = (
            now - then for now, then in zip((time.perf_counter(), time.process_time()), self._start, strict=True)
        )
        self.told = {"seconds": seconds, "processor_seconds": processor}


def moves(path, folder):
    """Seconds of a timeline, its windows, and its segments."""
    model = _model()
    from keras_video_focalnet import timeline

    timeline(model, path, window=WINDOW, end=20, out=folder)  # what is imported and compiled once
    with Stopwatch() as watch:
        result = timeline(model, path, window=WINDOW, batch_size=BATCH, out=folder)
    windows = int((result.end - WINDOW) / result.stride) + 1
    segments = [(segment.start, segment.end, segment.label, segment.score) for segment in result.segments]
    return {**watch.told, "windows": windows, "segments": segments}


def decoding(path, _):
    """Seconds of decoding all frames."""
    from keras_video_focalnet import VideoReader

    with Stopwatch() as watch, VideoReader(path, cache_frames=0) as reader:
        frames = sum(1 for _ in reader)
    return {**watch.told, "frames": frames}


def scoring(windows, _):
    """Seconds that the model takes for so many clips, in the same batches."""
    import numpy as np

    from keras_video_focalnet.data.clip_rule import clip_rule

    model = _model()
    rule = clip_rule(model)
    clips = np.random.default_rng(0).integers(0, 256, (BATCH, rule.num_frames, *rule.size, 3)).astype("float32")
    model.predict(clips, batch_size=BATCH, verbose=0)
    with Stopwatch() as watch:
        for _ in range(-(-int(windows) // BATCH)):
            model.predict(clips, batch_size=BATCH, verbose=0)
    return watch.told


def _model():
    from keras_video_focalnet import VideoFocalNetNano

    return VideoFocalNetNano(weights="camera_motion")


TASKS = {"moves": moves, "decoding": decoding, "scoring": scoring}


def in_a_process(task, argument, folder):
    """What a task gives, run in a process of its own, and the most memory that this held."""
    code = "import sys; from benchmarks.timeline import serve; serve(*sys.argv[1:])"
    environment = {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}
    command = [sys.executable, "-c", code, task, str(argument), str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parents[1])
    if result.returncode:
        raise RuntimeError(f"{task} failed: {result.stderr.strip()[-500:]}")
    return json.loads(result.stdout.splitlines()[-1])


def serve(task, argument, folder):
    """Run a task, and print what it gives as JSON."""
    answer = TASKS[task](argument, folder)
    print(json.dumps({**answer, "peak_bytes": peak_bytes()}))


def make(folder, minutes, seed):
    """Write a video of known moves and its first tenth; gives their paths and the moves of the whole."""
    from examples.camera_motion.long_video import write_moves
    from examples.camera_motion.photographs import HELD_OUT, load_photographs

    photographs = load_photographs(HELD_OUT)
    paths = [folder / "long.mp4", folder / "short.mp4"]
    known = [
        write_moves(path, 60 * length, photographs, seed, RATE)
        for path, length in zip(paths, (minutes, minutes / 10), strict=True)
    ]
    return paths, known[0]


@click.command()
@click.option("--minutes", default=30.0, show_default=True, help="Length of the video; the shorter has a tenth.")
@click.option("--rounds", default=3, show_default=True, help="Turns that each has.")
@click.option("--seed", default=0, show_default=True, help="Of the moves.")
@click.option("--check", is_flag=True, help="Fail where a figure is not as promised.")
def main(minutes, rounds, seed, check):
    """Print a table and write `results/timeline-cpu.json`."""
    from types import SimpleNamespace

    from examples.camera_motion.long_video import found

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (long, short), known = make(folder, minutes, seed)
        turns = []
        for _ in range(rounds):
            turn = {
                "short": in_a_process("moves", short, folder / "out"),
                "long": in_a_process("moves", long, folder / "out"),
            }
            turn["decoding"] = in_a_process("decoding", long, folder)
            turn["scoring"] = in_a_process("scoring", turn["long"]["windows"], folder)
            turns.append(turn)
    fields = ("start", "end", "label", "score")
    segments = [SimpleNamespace(**dict(zip(fields, row, strict=True))) for row in turns[0]["long"]["segments"]]
    right = found(known, segments, WINDOW)
    tasks, kinds = ("long", "decoding", "scoring"), ("seconds", "processor_seconds")
    seconds = {kind: {task: summary([turn[task][kind] for turn in turns]) for task in tasks} for kind in kinds}
    ratios = {
        kind: summary([turn["long"][kind] / (turn["decoding"][kind] + turn["scoring"][kind]) for turn in turns])
        for kind in kinds
    }
    peaks = {task: max(turn[task]["peak_bytes"] for turn in turns) for task in ("short", "long")}
    memory = peaks["long"] / peaks["short"]
    share = sum(right) / len(right)
    rows = [
        ["moves", len(known)],
        ["found within one window", f"{sum(right)} ({share:.1%})"],
        ["segments", len(segments)],
        *(
            [f"{words}: {of}", f"{seconds[kind][task]['median_s']:.1f}"]
            for kind, words in zip(kinds, ("seconds", "seconds of the processor"), strict=True)
            for task, of in zip(tasks, ("the timeline", "decoding alone", "the model alone"), strict=True)
        ),
        ["times decoding and the model", f"{ratios['seconds']['median_s']:.3f}"],
        ["the same of the processor", f"{ratios['processor_seconds']['median_s']:.3f}"],
        [f"peak MB: {minutes / 10:g} minutes", f"{peaks['short'] / 1e6:.0f}"],
        [f"peak MB: {minutes:g} minutes", f"{peaks['long'] / 1e6:.0f}"],
        ["times the memory", f"{memory:.3f}"],
    ]
    click.echo(table(["", f"{machine()['cpu'].split(' (')[0]}, {os.cpu_count()} cores"], rows))
    more = {"minutes": minutes, "moves": len(known), "found": share, "memory_ratio": memory, "peak_bytes": peaks}
    write("timeline", "cpu", seconds, **more, time_ratio=ratios)
    failures = [
        f"{what} is {value:.3f}, promised {promised}"
        for what, value, promised, holds in (
            ("the part of moves found", share, FOUND, share >= FOUND),
            ("the ratio of memory", memory, MEMORY, memory <= MEMORY),
            ("the ratio of time", ratios["seconds"]["median_s"], TIME, ratios["seconds"]["median_s"] <= TIME),
        )
        if not holds
    ]
    if check and failures:
        raise click.ClickException("; ".join(failures))


if __name__ == "__main__":
    main()
