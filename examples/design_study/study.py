"""Train every design of Video-FocalNet and the small models of SIFA alike on two tasks of time, and tell them apart.

    python -m examples.design_study.study                       # all, in under an hour on two cores
    python -m examples.design_study.study --only "(d) divided"  # a part
    python -m examples.design_study.study --table               # the tables of what is committed

Each model is trained on the same clips in the same order with the same recipe, once a seed, and tested on clips of
photographs that it has not seen. What is measured is written into a JSON file after each training, and a study that was
stopped goes on where it was. Trainings run side by side, each on one core. The committed file is `results.json` beside
this module.
"""

import functools
import json
import os
import pathlib
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any

import click

from benchmarks.alternation import machine
from benchmarks.alternation import table as markdown_table

RESULTS = pathlib.Path(__file__).with_name("results.json")
NEW_RESULTS = pathlib.Path("build/design_study.json")
PROPOSED = "(e) parallel, multiply, patches"
SEEDS = 3
STEPS = 400
SCENES_A_BATCH = 4
SCENES = 800
UNSEEN = 200
RECIPE = {
    "optimizer": "muon",
    "epochs": 1,
    "warmup_epochs": 0.15,
    "learning_rate": 3e-3,
    "warmup_learning_rate": 3e-4,
    "min_learning_rate": 6e-5,
    "rate_batch": None,
    "weight_decay": 0.02,
    "label_smoothing": 0.0,
    "clip_norm": 1.0,
}
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
CAMERA, ORDER = "camera motion", "order of two moves"
COLUMNS = {
    (CAMERA, "accuracy"): "camera motion",
    (ORDER, "accuracy"): "two moves in order",
    (ORDER, "order"): "the order alone",
}


@functools.lru_cache(1)
def _clips(task, seed, scenes, unseen):
    """The clips of a task to train on, which differ with the seed, and those to test on, which do not."""
    from examples.design_study.tasks import make_clips, training_pictures, unseen_pictures

    return (
        make_clips(task, training_pictures(), scenes, seed),
        make_clips(task, unseen_pictures(), unseen, 10_000),
    )


def _batches(clips, labels, classes, seed):
    """Batches without end, each of whole scenes, so that it has as many clips of every class."""
    import numpy as np

    rng = np.random.default_rng(seed)
    one_hot = np.eye(classes, dtype="float32")
    scenes = len(labels) // classes
    while True:
        order = rng.permutation(scenes)
        for first in range(0, scenes - SCENES_A_BATCH + 1, SCENES_A_BATCH):
            rows = (order[first : first + SCENES_A_BATCH, None] * classes + np.arange(classes)).ravel()
            yield clips[rows], one_hot[labels[rows]]


def run(task: str, name: str, seed: int, steps: int, scenes: int, unseen: int) -> dict[str, Any]:
    """Train one model on one task with one seed, and test it.

    Args:
        task: One of `tasks.TASKS`.
        name: One of `variants.VARIANTS`.
        seed: Of the first weights, the clips and their order.
        steps: Batches to train on.
        scenes: Scenes to make clips of for training, at least 4.
        unseen: Scenes to test on.

    Returns:
        What was run, with `accuracy`, a fraction, `parameters`, `macs` of a clip and `cpu_s`, seconds of one core that
        training took. Of the order of two moves also `order`: of the two orders of the pair that was shown, how often
        the right one has the higher score.
    """
    import keras
    import numpy as np

    from examples.design_study.tasks import FRAMES, TASKS
    from examples.design_study.variants import VARIANTS
    from keras_video_focalnet import count_macs
    from keras_video_focalnet.training.recipe import get_recipe

    classes = len(TASKS[task][0])
    variant = VARIANTS[name]
    model = variant.build(classes, seed)
    every = FRAMES // variant.frames
    seen, test = _clips(task, seed, scenes, unseen)
    batch_size = SCENES_A_BATCH * classes
    get_recipe("finetune", **RECIPE).compile(model, steps, batch_size)
    begun = time.process_time()
    batches = _batches(seen.clips[:, ::every], seen.labels, classes, seed)
    model.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)
    cpu_s = time.process_time() - begun
    scores = model.predict(test.clips[:, ::every], batch_size=64, verbose=0)
    measured = {"accuracy": float(np.mean(scores.argmax(-1) == test.labels))}
    if task == ORDER:
        of_pair = scores.reshape(len(scores), -1, 2)[np.arange(len(scores)), test.labels // 2]
        measured["order"] = float(np.mean(of_pair.argmax(-1) == test.labels % 2))
    size = {"parameters": model.count_params(), "macs": count_macs(model), "frames": variant.frames}
    how = {"task": task, "model": name, "seed": seed, "steps": steps, "scenes": scenes, "unseen": unseen}
    how["backend"] = keras.backend.backend()
    return {**how, **size, "cpu_s": round(cpu_s, 1), **measured}


def table(document: Mapping[str, Any]) -> str:
    """Write the Markdown table of a file of results: of every model mean and deviation over the seeds."""
    rows = []
    for name, own in _by_model(document).items():
        cells = [name, own[0]["frames"], f"{own[0]['parameters'] / 1e6:.2f}", f"{own[0]['macs'] / 1e6:.1f}"]
        cells += [_cell(list(figures(own, *column).values()), "{:.1f}") for column in COLUMNS]
        rows.append([*cells, f"{statistics.mean(run['cpu_s'] for run in own):.0f}"])
    titles = (f"{title}, %" for title in COLUMNS.values())
    return markdown_table(["model", "frames", "parameters, M", "MMAC", *titles, "CPU, s"], rows)


def table_of_differences(document: Mapping[str, Any]) -> str:
    """Write the Markdown table of how many points each model is above or below (e), seed by seed."""
    models = _by_model(document)
    rows = [
        [name, *(_cell(differences(models, name, *column), "{:+.1f}") for column in COLUMNS)]
        for name in models
        if name != PROPOSED and PROPOSED in models
    ]
    return markdown_table(["model", *(f"{title}, points" for title in COLUMNS.values())], rows)


def figures(runs: Sequence[Mapping[str, Any]], task: str, figure: str) -> dict[int, float]:
    """A figure of a task in percent for each seed."""
    return {run["seed"]: 100 * run[figure] for run in runs if run["task"] == task}


def differences(
    models: Mapping[str, Sequence[Mapping[str, Any]]], name: str, task: str, figure: str, other: str = PROPOSED
) -> list[float]:
    """How many points a model is above another, for each seed that both have: they saw the same clips."""
    own, others = (figures(models[key], task, figure) for key in (name, other))
    return [own[seed] - others[seed] for seed in sorted(own) if seed in others]


def _by_model(document):
    """The runs of each model, in the order of `variants.VARIANTS`."""
    from examples.design_study.variants import VARIANTS

    found = {name: [run for run in document["runs"] if run["model"] == name] for name in VARIANTS}
    return {name: runs for name, runs in found.items() if runs}


def _cell(values, form):
    """The mean and the standard deviation."""
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{form.format(statistics.mean(values))}{spread}" if values else ""


def _write(path, document):
    from keras_video_focalnet.utils.files import atomic_write

    with atomic_write(path) as file:
        file.write((json.dumps(document, indent=1) + "\n").encode())


@click.command()
@click.option("--only", multiple=True, metavar="MODEL", help="A model; may be repeated.  [default: all]")
@click.option("--seeds", default=SEEDS, show_default=True, help="Trainings of each model on each task.")
@click.option("--steps", default=STEPS, show_default=True, help="Batches of a training.")
@click.option(
    "--scenes",
    type=click.IntRange(min=SCENES_A_BATCH),
    default=SCENES,
    show_default=True,
    help="Scenes, of which each gives a clip of each class.",
)
@click.option("--unseen", default=UNSEEN, show_default=True, help="Scenes of unseen photographs to test on.")
@click.option("--processes", default=2, show_default=True, help="Trainings side by side.")
@click.option("--out", type=pathlib.Path, help=f"JSON file.  [default: {NEW_RESULTS}, with --table the committed one]")
@click.option("--table", "only_table", is_flag=True, help="Train nothing, print the tables of what was measured.")
def main(
    only: Sequence[str],
    seeds: int,
    steps: int,
    scenes: int,
    unseen: int,
    processes: int,
    out: pathlib.Path | None,
    only_table: bool,
) -> None:
    """Run what of the study has not been run yet, and print its tables."""
    for name, value in {**ONE_CORE, "KERAS_BACKEND": "torch"}.items():
        os.environ.setdefault(name, value)
    from examples.design_study.variants import VARIANTS

    unknown = set(only) - set(VARIANTS)
    if unknown:
        raise click.BadParameter(
            f"{', '.join(sorted(unknown))}: pass one of {'; '.join(VARIANTS)}.", param_hint="--only"
        )
    out = out or (RESULTS if only_table else NEW_RESULTS)
    document = json.loads(out.read_text()) if out.exists() else {**machine(), "recipe": RECIPE, "wall_s": 0, "runs": []}
    if not only_table:
        size = {"steps": steps, "scenes": scenes, "unseen": unseen}
        alike = {**size, "backend": os.environ["KERAS_BACKEND"]}
        if document["recipe"] != RECIPE or any(not alike.items() <= measured.items() for measured in document["runs"]):
            raise click.BadParameter(
                f"{out} has runs of another size, recipe or backend; pass another file.", param_hint="--out"
            )
        done = {(measured["task"], measured["model"], measured["seed"]) for measured in document["runs"]}
        jobs = [
            (task, name, seed)
            for task in (CAMERA, ORDER)
            for seed in range(seeds)
            for name in dict.fromkeys(only or VARIANTS)
            if (task, name, seed) not in done
        ]
        out.parent.mkdir(parents=True, exist_ok=True)
        _run_all(jobs, size, processes, out, document)
    if not document["runs"]:
        raise click.UsageError(f"{out} has no runs; leave --table out to make some.")
    click.echo(f"{table(document)}\n\n{table_of_differences(document)}")


def _run_all(jobs, size, processes, out, document):
    """Run trainings side by side, and write the file after each."""
    begun, before = time.monotonic(), document["wall_s"]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run, *job, **size) for job in jobs]
        try:
            for number, future in enumerate(as_completed(futures), 1):
                measured = future.result()
                document["runs"].append(measured)
                document["wall_s"] = round(before + time.monotonic() - begun)
                _write(out, document)
                click.echo(
                    f"{number}/{len(jobs)} {measured['task']}, {measured['model']}, seed {measured['seed']}: "
                    f"{measured['accuracy']:.1%}, {measured['cpu_s']:.0f} s",
                    err=True,
                )
        except BaseException:
            # What is queued is not begun; what runs is waited for.
            pool.shutdown(cancel_futures=True)
            raise


if __name__ == "__main__":
    main()
