"""Worker processes: they load no backend, outlive signals, are replaced when they die, and end with their parent."""

import functools
import gc
import multiprocessing
import multiprocessing.spawn
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection

import numpy as np
import pytest

from keras_video_focalnet.data.workers import batches_by_number
from tests.small_videos import assert_same, dataset, make_videos, take

pytestmark = pytest.mark.backend_free


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return make_videos(tmp_path_factory.mktemp("videos"))


def backends_loaded(clip, rng):
    """A transform that tells how many backends its process has loaded."""
    # Grain imports JAX where there is JAX.
    loaded = {"keras", "tensorflow", "jax", "torch", "grain"} & sys.modules.keys()
    return np.full((4, 56, 56, 3), len(loaded), np.uint8)


def test_workers_load_no_backend(videos):
    data = dataset(videos, transform=backends_loaded, workers=1)
    clips, _ = next(iter(data.batches()))
    assert clips.max() == 0


def test_workers_outlive_a_signal_to_the_group_and_end_with_the_iterator(videos):
    others = multiprocessing.active_children()
    batches = iter(dataset(videos, workers=2).batches())
    seen = take(batches, 2)
    children = [child for child in multiprocessing.active_children() if child not in others]
    assert len(children) == 2
    for child in children:
        os.kill(child.pid, signal.SIGTERM)
        os.kill(child.pid, signal.SIGINT)
    assert_same(seen + take(batches, 6), take(dataset(videos).batches(), 8))
    batches.close()
    assert not any(child.is_alive() for child in children)


def dies_once(number):
    """Batches of 2 MB; the process that makes the third one dies, unless it has died before."""
    folder = pathlib.Path(os.environ["DIES_ONCE"])
    if number == 2 and not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return (np.full(2_000_000, number, np.uint8),)


def dies_always(number):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_while_it_hands_over(number):
    """As `dies_once`, but the third batch's process dies when half of the batch is written."""
    folder = pathlib.Path(os.environ["DIES_ONCE"])
    if number == 2 and not (folder / "died").exists():
        (folder / "died").touch()
        Connection._send = _write_half_and_die
    return (np.full(2_000_000, number, np.uint8),)


def _write_half_and_die(self, content, *_):
    # The length goes before the batch, by a call of its own.
    half = bytes(content) if len(content) < 100 else bytes(content)[: len(content) // 2]
    while half:
        half = half[os.write(self.fileno(), half) :]
    if len(content) >= 100:
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("make_batch", [dies_once, dies_while_it_hands_over])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_dies_is_replaced(tmp_path, monkeypatch, make_batch, workers):
    monkeypatch.setenv("DIES_ONCE", str(tmp_path))
    batches = batches_by_number(make_batch, stop=6, workers=workers)
    assert [int(batch[0]) for (batch,) in batches] == list(range(6))
    assert (tmp_path / "died").exists()


def test_a_batch_that_kills_its_workers_is_named():
    with pytest.raises(RuntimeError, match="a worker process died twice while it made batch 7"):
        next(iter(batches_by_number(dies_always, first=7, workers=2)))


class OfTwoParts(Exception):
    """Pickles, but cannot be read again."""

    def __init__(self, one, two):
        super().__init__(one + two)


class DoesNotLoad:
    """A batch that can be written, but not read."""

    def __reduce__(self):
        return int, ("no number",)


def raises(number):
    if number == 3:
        raise KeyError("no such video")
    if number == 13:
        raise OfTwoParts("a", "b")
    if number == 23:
        raise StopIteration
    if number == 33:
        return (DoesNotLoad(),)
    return (np.array(number),)


def waits_from_the_third(number):
    while number > 1 and not os.path.exists(os.environ["GO_ON"]):
        time.sleep(0.01)
    return (np.full(100_000, number),)


def test_a_wait_that_is_interrupted_loses_no_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("GO_ON", str(tmp_path / "go on"))

    def interrupt(*_):
        raise KeyboardInterrupt

    batches = iter(batches_by_number(waits_from_the_third, stop=4, workers=2))
    given = [int(next(batches)[0][0]) for _ in range(2)]
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            next(batches)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    (tmp_path / "go on").touch()
    assert given + [int(batch[0]) for (batch,) in batches] == list(range(4))


@pytest.mark.parametrize(
    ("bad", "kind", "message", "where"),
    [
        (3, KeyError, "no such", "in raises"),
        (13, RuntimeError, "OfTwoParts.'ab'", "in raises"),
        (23, RuntimeError, "StopIteration", "in raises"),
        (33, RuntimeError, "cannot be read here: ValueError.*no number", "pickle.loads"),
    ],
)
def test_what_a_worker_raises_is_raised_here_and_the_batch_can_be_asked_for_again(bad, kind, message, where):
    batches = iter(batches_by_number(raises, first=bad - 1, workers=2))
    assert int(next(batches)[0]) == bad - 1
    for _ in range(2):
        with pytest.raises(kind, match=message) as caught:
            next(batches)
        assert where in str(caught.value.__cause__)
    batches.close()
    with pytest.raises(ValueError, match="closed"):
        next(batches)


def large(number, ballast):
    return (np.array([number, len(ballast)]),)


def test_a_large_function_and_workers_that_die_before_they_read_it(monkeypatch):
    batches = batches_by_number(functools.partial(large, ballast=bytes(5_000_000)), stop=2, workers=2)
    assert [batch[0].tolist() for batch in batches] == [[0, 5_000_000], [1, 5_000_000]]
    # In place of Python.
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(shutil.which("false")))
    with pytest.raises(RuntimeError, match="died twice while it made batch 0"):
        next(iter(batches))


def test_an_iterator_that_is_dropped_ends_its_workers():
    others = multiprocessing.active_children()
    batches = iter(batches_by_number(raises, stop=2, workers=2))
    next(batches)
    children = [child for child in multiprocessing.active_children() if child not in others]
    assert len(children) == 2
    del batches
    gc.collect()
    assert not any(child.is_alive() for child in children)


# Without a guard: workers do not import it, and get its function all the same.
SCRIPT = """
import multiprocessing, os, signal, sys
import numpy as np
from keras_video_focalnet.data.datasets import video_list
from keras_video_focalnet.data.pipeline import ClipDataset

VALUE = 7

def constant(clip, rng):
    return np.full((4, 32, 32, 3), VALUE, np.uint8)

data = ClipDataset(video_list(sys.argv[1]), 2, num_frames=4, size=32, training=True, transform=constant, workers=2)
batches = iter(data.batches())
clips, _ = next(batches)
assert (clips == VALUE).all()
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
if sys.argv[2] == "die":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def script(videos, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "list.csv").write_text("".join(f"{record.path},{record.label}\n" for record in videos))

    def start(end):
        command = [sys.executable, tmp_path / "script.py", tmp_path / "list.csv", end]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=os.getcwd())

    return start


def test_a_process_ends_quietly_with_its_workers(script):
    ended = script("return")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.split()) == 2
    assert not any(os.path.exists(f"/proc/{pid}") for pid in ended.stdout.split())


def test_workers_end_with_a_process_that_is_killed(script):
    # The workers hold the ends of the pipes that `run` reads until they close: it returns once they are gone.
    ended = script("die")
    assert ended.returncode == -signal.SIGKILL
    assert len(ended.stdout.split()) == 2
