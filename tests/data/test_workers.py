"""Worker processes: they load no backend, outlive signals, are replaced when they die, and end with their parent."""

import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys

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


def test_a_worker_that_dies_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("DIES_ONCE", str(tmp_path))
    batches = batches_by_number(dies_once, stop=6, workers=2)
    assert [int(batch[0]) for (batch,) in batches] == list(range(6))
    assert (tmp_path / "died").exists()


def test_a_batch_that_kills_its_workers_is_named():
    with pytest.raises(RuntimeError, match="a worker process died twice while batch 7"):
        next(iter(batches_by_number(dies_always, first=7, workers=2)))


SCRIPT = """
import multiprocessing, os, signal, sys
from keras_video_focalnet.data.datasets import video_list
from keras_video_focalnet.data.pipeline import ClipDataset

if __name__ == "__main__":
    data = ClipDataset(video_list(sys.argv[1]), 2, num_frames=4, size=32, training=True, workers=2)
    batches = iter(data.batches())
    next(batches)
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
    assert not any(os.path.exists(f"/proc/{pid}") for pid in ended.stdout.split())


def test_workers_end_with_a_process_that_is_killed(script):
    # The workers hold the ends of the pipes that `run` reads until they close: it returns once they are gone.
    ended = script("die")
    assert ended.returncode == -signal.SIGKILL
    assert len(ended.stdout.split()) == 2
