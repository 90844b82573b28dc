"""The short form of the benchmarks: what `benchmarks.report` measures, in parts.

Each part is a function without required arguments that gives `{"rows": [...]}`, and where it measured a large matrix
product beside its subjects `"ceiling_flops"`, its operations a second. Every call of a subject is one in a process of
its own (`benchmarks.alternation`).
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import growth as growing
from benchmarks.alternation import Worker, summary, turns
from benchmarks.inference import PEER, rows_of, speed_of_products
from benchmarks.subjects import CEILINGS, EXPORTED, SUBJECTS, parse

MODES = "reference eager,reference compile,ours tensorflow graph,ours tensorflow xla,ours jax,ours torch"
ONE_EACH = "reference eager,ours tensorflow graph,ours jax,ours torch"
BACKENDS = "ours tensorflow graph,ours jax,ours torch"
FILES = ("LiteRT float32", "LiteRT int8", "ONNX Runtime", "OpenVINO, its own precision", "OpenVINO, float32")
# The ends of what a shape may be, and the middle.
SHAPES = (
    {"frames": 8, "size": 224, "batch": 1},
    {"frames": 4, "size": 224, "batch": 1},
    {"frames": 64, "size": 224, "batch": 1},
    {"frames": 8, "size": 112, "batch": 1},
    {"frames": 8, "size": 448, "batch": 1},
    {"frames": 8, "size": 224, "batch": 16},
)


def inference(size="tiny", batch=1, subjects=MODES, rounds=3, calls=2):
    """Seconds a call beside the reference, with large matrix products in the same turns."""
    chosen = parse(subjects)
    tasks = [("ceiling", subject, {}) for subject in CEILINGS.values()]
    tasks += [("inference", subject, {"name": size, "batch": batch}) for subject in chosen]
    results = turns(tasks, rounds, calls)
    ceiling = speed_of_products(results[: len(CEILINGS)])
    named = dict(zip((subject.label for subject in chosen), results[len(CEILINGS) :], strict=True))
    return {"rows": rows_of(size, batch, chosen, named, ceiling), "ceiling_flops": ceiling}


def several(tasks, subjects=ONE_EACH, rounds=4):
    """Seconds a call of several tasks, all of one subject in one process, beside the reference and a matrix product.

    Args:
        tasks: List of dicts of `name` and `batch`.
        subjects: What is measured, by name.
        rounds: How often each has its turn, of one call of each task.
    """
    chosen = parse(subjects)
    with contextlib.closing(Worker("ceiling", CEILINGS["matrix product torch"])) as product:
        seconds, products = _in_turn(chosen, tasks, rounds, product)
    ceiling, rows = speed_of_products([summary(products)]), []
    for number, task in enumerate(tasks):
        named = {subject.label: summary(seconds[subject.label][number]) for subject in chosen}
        rows += rows_of(task["name"], task["batch"], chosen, named, ceiling)
    return {"rows": rows, "ceiling_flops": ceiling}


def _in_turn(subjects, tasks, rounds, product=None):
    """Seconds of each task of each subject, by label and number of the task, and of the product in the same turns."""
    seconds, products = {subject.label: [[] for _ in tasks] for subject in subjects}, []
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(contextlib.closing(Worker("several", of, tasks=tasks))) for of in subjects]
        for worker in workers:
            # The first call of all was of the first task.
            if len(tasks) > 1:
                worker.time(len(tasks) - 1)
        for _ in range(rounds):
            products += product.time(2) if product else []
            for worker in workers:
                for times, spent in zip(seconds[worker.subject.label], worker.time(len(tasks)), strict=True):
                    times.append(spent)
    return seconds, products


def larger_inference():
    """Four clips of Tiny a call, and one of Base."""
    return several([{"name": "tiny", "batch": 4}, {"name": "base", "batch": 1}])


def other_families():
    """One clip a call of a size of each other architecture, beside our PyTorch renderings."""
    return several([{"name": size, "batch": 1} for size in ("sifa50", "sifa-s", "vita-clip")])


def low_precision(size="tiny", batch=1, rounds=3, calls=2):
    """Seconds a call in `mixed_bfloat16` beside float32, on each backend."""
    pairs = [(subject, dtype) for subject in parse(BACKENDS) for dtype in ("float32", "mixed_bfloat16")]
    tasks = [("inference", subject, {"name": size, "batch": batch, "dtype": dtype}) for subject, dtype in pairs]
    rows = []
    for (subject, dtype), result in zip(pairs, turns(tasks, rounds, calls), strict=True):
        peer = rows[-1] if dtype == "mixed_bfloat16" else result
        row = {"size": size, "batch": batch, "subject": subject.label, "dtype": dtype, **result}
        rows.append({**row, "ratio_to_float32": peer["median_s"] / result["median_s"]})
    return {"rows": rows}


def training(size="tiny", batch=2, rounds=2, calls=2):
    """Seconds and memory of a training step of each backend.

    The reference stays and takes turns with one backend after another, so that two processes hold memory at a time.
    """
    options, rows, peers = {"name": size, "batch": batch}, [], []
    first = {"size": size, "batch": batch, "rematerialized": "none"}
    with contextlib.closing(Worker("training", SUBJECTS[PEER], **options)) as peer:
        for subject in parse(BACKENDS):
            theirs, ours = [], []
            with contextlib.closing(Worker("training", subject, **options)) as worker:
                for _ in range(rounds):
                    theirs += peer.time(calls)
                    ours += worker.time(calls)
            row = first | {"subject": subject.label, **summary(ours), "first_call_s": worker.first_call_s}
            row |= {"peak_bytes": worker.peak_bytes, "ratio": summary(theirs)["median_s"] / summary(ours)["median_s"]}
            rows.append(row)
            peers += theirs
    row = first | {"subject": PEER, **summary(peers), "first_call_s": peer.first_call_s, "ratio": 1.0}
    rows.insert(0, row | {"peak_bytes": peer.peak_bytes})
    for subject in parse(BACKENDS):
        with contextlib.closing(Worker("training", subject, rematerialize=True, **options)) as worker:
            # Its memory is what counts.
            seconds = worker.time(1)
        row = first | {"rematerialized": "all", "subject": subject.label, **summary(seconds)}
        row |= {"first_call_s": worker.first_call_s, "peak_bytes": worker.peak_bytes}
        rows.append(row | {"ratio": summary(peers)["median_s"] / row["median_s"]})
    for row in rows:
        row["memory_ratio"] = row["peak_bytes"] / rows[0]["peak_bytes"]
    return {"rows": rows}


def growth(size="tiny", shapes=SHAPES, subjects=BACKENDS):
    """Seconds a call at the ends of frames, sides and batches, on each backend: one of each shape after another one."""
    # A short call is repeated, since a moment's noise weighs more in it.
    plan = [shape for shape in shapes for _ in range(1 if growing.tokens(shape) > 50_000 else 4)]
    seconds, _ = _in_turn(parse(subjects), [{"name": size, **shape} for shape in plan], rounds=1)
    rows = []
    for label, times in seconds.items():
        for shape in shapes:
            spent = [time for of, (time,) in zip(plan, times, strict=True) if of == shape]
            told = {"subject": label, "model": size, **shape, "tokens": growing.tokens(shape)}
            rows.append({**told, **summary(spent)})
    return {"rows": rows}


def exported(size="tiny", files=FILES, rounds=3, calls=2):
    """Seconds a clip by exported files, beside the reference."""
    with tempfile.TemporaryDirectory() as folder:
        reports = write_files(size, files, folder)
        tasks = [("inference", SUBJECTS[PEER], {"name": size, "batch": 1})]
        tasks += [("exported", EXPORTED[label], {"name": size, "folder": folder}) for label in files]
        results = turns(tasks, rounds, calls)
    rows = []
    for label, result in zip((PEER, *files), results, strict=True):
        ratio = results[0]["median_s"] / result["median_s"]
        rows.append({"size": size, "subject": label, **result, "ratio": ratio, **reports.get(label, {})})
    return {"rows": rows}


def write_files(size, files, folder):
    """Export a size with random weights in a process of its own; size and error of each file, by label."""
    command = [sys.executable, "-m", "benchmarks.export", "--size", size, "--into", folder, "--files", ",".join(files)]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"exporting {size} failed: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


PARTS = {
    "inference": inference,
    "larger-inference": larger_inference,
    "low-precision": low_precision,
    "training": training,
    "growth": growth,
    "other-families": other_families,
    "exported": exported,
}
