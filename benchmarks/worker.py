"""A process that builds one subject and calls it when told: started by `benchmarks.alternation`, not by hand.

It takes its task as JSON, prints one JSON line when the first call is done, then one for each number of calls that it
reads.
"""

import json
import os
import pathlib
import resource
import sys
import time

# Which device the libraries take, and that several of them can share a GPU.
DEVICES = {
    "cpu": {"CUDA_VISIBLE_DEVICES": "", "JAX_PLATFORMS": "cpu", "KERAS_TORCH_DEVICE": "cpu"},
    "gpu": {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
}


def peak_bytes():
    """The most memory that this process ever held."""
    # What getrusage tells begins with the peak of the process that started this one.
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(fields["VmHWM"].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def narrow(threads):
    """Let this process have so many cores, or all where None: every library makes as many threads as it has cores."""
    if threads is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main():
    """Serves until its input ends."""
    task = json.loads(sys.argv[1])
    os.environ["KERAS_BACKEND"] = task["framework"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.update(DEVICES[task["options"].get("device", "cpu")])
    narrow(task["options"].pop("threads", None))
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints must not be taken for an answer
    from benchmarks import subjects

    build = getattr(subjects, f"build_{task['kind']}")
    known = subjects.SUBJECTS | subjects.CEILINGS | subjects.EXPORTED | subjects.LOW_PRECISION
    call = build(known[task["subject"]], **task["options"])
    start = time.perf_counter()
    call()
    first = time.perf_counter() - start

    def answer(**what):
        print(json.dumps({**what, "peak_bytes": peak_bytes()}), file=answers, flush=True)

    answer(first_call_s=first)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line)):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds)


if __name__ == "__main__":
    main()
