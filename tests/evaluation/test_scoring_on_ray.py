"""Libraries scored over Ray: as by our own processes, whichever process is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest

from keras_video_focalnet import prepare_videos, score_videos
from tests.clips import encode
from tests.exporting.small_model import small

pytest.importorskip("ray", reason="Ray is not installed (extra ray)")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
VIDEOS = 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(VIDEOS):
        frames = rng.integers(0, 256, (12, 6, 8, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        encode(folder / f"{number:03}.mp4", frames, options={"preset": "ultrafast"})
    (folder / "page.mp4").write_text("<html></html>" * 100)
    return folder


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def expected(folder, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "plain.parquet"
    score_videos(folder, model, out, workers=0)
    return pq.read_table(out).to_pylist()


def assert_complete(out, expected):
    rows = pq.read_table(out).to_pylist()
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert row["broken"] == wanted["broken"]
        if wanted["scores"] is not None:
            np.testing.assert_allclose(row["scores"], wanted["scores"], atol=1e-6)
    assert not (out.parent / f"{out.name}.parts").exists()


def workers_of(process, *names):
    """Ray's processes below one that do something."""
    found = []
    for child in psutil.Process(process).children(recursive=True):
        try:
            title = " ".join(child.cmdline())
        except psutil.Error:
            continue
        if any(f"ray::{name}" in title for name in names):
            found.append(child)
    return found


def ray_processes(driver):
    """The processes below a driver but for Ray's agents, which look only now and then whether they are wanted."""
    return [child for child in psutil.Process(driver).children(recursive=True) if "Agent" not in child.name()]


def test_scores_are_those_of_our_own_processes(folder, model, expected, tmp_path):
    report = score_videos(folder, model, tmp_path / "out.parquet", address="local", workers=2)
    assert_complete(tmp_path / "out.parquet", expected)
    assert report.done == VIDEOS and list(report.broken) == [str(folder / "page.mp4")]


def kill_one(names, killed):
    """Kill a worker as soon as there is one that works, and note its name."""
    while not killed:
        for worker in workers_of(os.getpid(), *names):
            time.sleep(0.1)
            killed.append(" ".join(worker.cmdline()))
            worker.kill()
            return
        time.sleep(0.02)


@pytest.mark.parametrize("names", [("MapBatches(_ReadBlock)", "ReadRange->MapBatches(_ReadBlock)"), ("MapWorker",)])
def test_a_worker_that_is_killed_is_replaced(folder, model, expected, tmp_path, names):
    killed = []
    killer = threading.Thread(target=kill_one, args=(names, killed))
    killer.start()
    try:
        score_videos(folder, model, tmp_path / "out.parquet", address="local", workers=2, models=2)
    finally:
        missed = not killed
        killed.append(None)
        killer.join()
    assert not missed
    assert_complete(tmp_path / "out.parquet", expected)


def test_the_driver_is_killed_five_times(folder, model, expected, tmp_path):
    model.save(tmp_path / "small.keras")
    out = tmp_path / "out.parquet"
    # Parts of few rows, so that each run leaves some.
    source = (
        "import sys; from keras_video_focalnet.evaluation import parts; parts.ROWS = 8\n"
        "from keras_video_focalnet.cli.main import main; main(sys.argv[1:])"
    )
    command = ["score", folder, "--out", out, "--weights", tmp_path / "small.keras", "--ray", "--workers", "2"]
    command = [sys.executable, "-c", source, *map(str, command)]
    rng, counts = random.Random(0), []
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    for _ in range(5):
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        before = len(list((tmp_path / "out.parquet.parts").glob("[0-9]*")))
        # At any moment, some of them before the first part of this run and some after it.
        patience = time.monotonic() + 600
        if rng.random() < 0.7:
            while process.poll() is None and time.monotonic() < patience:
                if len(list((tmp_path / "out.parquet.parts").glob("[0-9]*"))) > before:
                    break
                time.sleep(0.02)
        time.sleep(rng.uniform(0, 0.5))
        others = ray_processes(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
        # Ray's processes end with their driver.
        _, alive = psutil.wait_procs(others, timeout=120)
        assert not alive
        counts.append(len(list((tmp_path / "out.parquet.parts").glob("[0-9]*"))))
    print(json.dumps({"parts after each kill": counts}))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_complete(out, expected)


def test_a_model_that_fails_is_told(folder, tmp_path):
    inputs = keras.Input((4, 32, 32, 3))
    outputs = keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling3D()(inputs))
    model = keras.Model(inputs, outputs)

    class Fails(keras.layers.Layer):
        """A layer that no other process knows."""

        def call(self, x):
            return x

    model = keras.Model(inputs, Fails()(model(inputs)))
    with pytest.raises(RuntimeError, match="the model failed in a worker of Ray"):
        score_videos(folder, model, tmp_path / "out.parquet", address="local", workers=2)
    assert (tmp_path / "out.parquet.parts").exists()


def test_prepare(folder, tmp_path):
    report = prepare_videos(folder, tmp_path / "small", short_side=32, preset="ultrafast", address="local", workers=2)
    assert report.done == VIDEOS
    assert len(list((tmp_path / "small").glob("*.mp4"))) == VIDEOS
