"""Measures several subjects in turn, each in a process of its own, so that a noisy minute strikes all alike."""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import click

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("keras", "tensorflow-cpu", "tensorflow", "jax", "jaxlib", "torch", "transformers", "numpy")
LIBRARIES += ("av", "decord2", "pillow", "ai-edge-litert", "onnxruntime", "openvino", "tf2onnx")
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile")


class Worker:
    """A running `benchmarks.worker`.

    Args:
        kind: `"inference"`, `"training"`, `"ceiling"` or another of the functions `build_...` of `benchmarks.subjects`.
        subject: A `Subject`.
        repository: Folder of the version of this repository that is measured; None for this one.
        options: Arguments of the `build_...` function of that kind; and `threads`, the number of cores that the process
            may have, by default all.

    Raises:
        RuntimeError: If the process ends before it answers; its last words are in the message.
    """

    def __init__(self, kind, subject, repository=None, **options):
        self.subject = subject
        # Closed with the process; a pipe that nobody reads would stop a talkative library.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        task = {"kind": kind, "subject": subject.label, "framework": subject.framework, "options": options}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(task)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=repository or Path(__file__).parent.parent,
            env={**os.environ, "PYTHONPATH": ""} if repository else None,
        )
        self.first_call_s = self._answer()["first_call_s"]

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._log.seek(0)
            said = self._log.read().strip().splitlines()
            raise RuntimeError(f"{self.subject.label} failed: {said[-1] if said else 'no message'}")
        answer = json.loads(line)
        self.peak_bytes = answer["peak_bytes"]
        return answer

    def time(self, calls):
        """Seconds of each of so many calls."""
        with contextlib.suppress(BrokenPipeError):  # then there is no answer either, which is told
            self._process.stdin.write(f"{calls}\n")
            self._process.stdin.flush()
        return self._answer()["seconds"]

    def close(self):
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()


def alternate(kind, subjects, rounds, calls, **options):
    """Times subjects in turn, round after round.

    Args:
        kind: As of `Worker`.
        subjects: List of `Subject`.
        rounds: How often each has its turn.
        calls: Calls a turn, after one that is not counted.
        options: Of the subjects' build function.

    Returns:
        As `take_turns`.
    """
    return take_turns([(kind, subject, options) for subject in subjects], rounds, calls)


def take_turns(tasks, rounds, calls):
    """Times subjects of several kinds in turn, round after round.

    Args:
        tasks: List of the arguments of a `Worker`: kind, subject and a dict of options.
        rounds: How often each has its turn.
        calls: Calls a turn, after one that is not counted.

    Returns:
        A dict from label to what `turns` gives for it.
    """
    results = turns(tasks, rounds, calls)
    return {subject.label: result for (_, subject, _), result in zip(tasks, results, strict=True)}


def turns(tasks, rounds, calls, warm=1):
    """Times tasks in turn, round after round; one subject may be among them with several options.

    Args:
        tasks: As of `take_turns`.
        rounds: How often each has its turn.
        calls: Calls a turn that count.
        warm: Calls before them that do not.

    Returns:
        A list, in the order of the tasks, of `{"median_s", "low_s", "high_s", "calls", "first_call_s", "peak_bytes"}`;
        low and high are the quartiles.
    """
    workers, seconds = [], [[] for _ in tasks]
    try:
        for kind, subject, options in tasks:
            workers.append(Worker(kind, subject, **options))
        for _ in range(rounds):
            for worker, times in zip(workers, seconds, strict=True):
                if warm:
                    worker.time(warm)
                times.extend(worker.time(calls))
    finally:
        for worker in workers:
            worker.close()
    return [
        {**summary(times), "first_call_s": worker.first_call_s, "peak_bytes": worker.peak_bytes}
        for worker, times in zip(workers, seconds, strict=True)
    ]


def summary(seconds):
    """Median and quartiles of a list of seconds."""
    low, median, high = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
    return {"median_s": median, "low_s": low, "high_s": high, "calls": len(seconds)}


def machine():
    """The machine and the versions, as a dict."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        cpu = fields.get("model name", cpu)
        flags = fields.get("flags", "").split()
        cpu += f" ({', '.join(flag for flag in FLAGS if flag in flags)})"
    versions = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def write(name, device, rows, **more):
    """Writes `results/NAME-DEVICE.json`, to a temporary name first, and says so."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{device}.json"
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"machine": machine(), **more, "rows": rows}, indent=1) + "\n")
    part.replace(path)
    click.echo(f"wrote {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}\n")


def table(header, rows):
    """A Markdown table as one string."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
