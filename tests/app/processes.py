"""The page's server in a process of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SECONDS = 300


@contextlib.contextmanager
def served(folder, *options):
    """Runs the page in a process whose temporary files lie in a folder; gives its address and the process."""
    log = folder / "log.txt"
    (folder / "tmp").mkdir()
    environment = {
        **os.environ,
        "KERAS_BACKEND": "torch",
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    command = [
        sys.executable,
        "-X",
        "faulthandler",
        "-m",
        "tests.app.server",
        folder / "connections.txt",
        "--port",
        "0",
        *options,
    ]
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)
    try:
        end = time.monotonic() + _SECONDS
        while not (found := re.search(r"http://\S+", log.read_text())):
            assert process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        yield found[0], process
    finally:
        stop(process)


def stop(process, number=signal.SIGTERM):
    """Ends a process by a signal and gives its exit code."""
    if process.poll() is None:
        process.send_signal(number)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        # It writes to its log where its threads are.
        process.send_signal(signal.SIGABRT)
        process.wait(30)
        raise


def temporary(folder):
    """The files that a server has in its folder for temporary ones, by their paths in it."""
    inside = folder / "tmp"
    return sorted(str(path.relative_to(inside)) for path in inside.rglob("*") if path.is_file())
