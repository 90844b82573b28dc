"""Results in parts: complete, in order and without duplicates, whatever ends the job."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from keras_video_focalnet.evaluation import parts as parts_module
from keras_video_focalnet.evaluation.library_job import JobInterrupted, interruptible, local_engine, run_job
from keras_video_focalnet.evaluation.parts import Parts
from keras_video_focalnet.evaluation.reading import Reading

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.backend_free

SCHEMA = pa.schema([("name", pa.string()), ("values", pa.list_(pa.float32()))])
ABOUT = {"columns": {"values": ["x", "y"]}}


def make(folder, total=50, **config):
    return Parts(folder / "out.parquet", SCHEMA, {"version": 1, **config}, ABOUT, total)


def row(number):
    return {"name": f"video {number}", "values": np.float32([number, -number])}


def table(folder):
    return pq.read_table(folder / "out.parquet").to_pylist()


def expected(total=50):
    return [{"name": f"video {number}", "values": [number, -number]} for number in range(total)]


@pytest.mark.parametrize("block", [1, 7, 1024])
def test_rows_come_out_in_order_whatever_order_they_came_in(tmp_path, monkeypatch, block):
    monkeypatch.setattr(parts_module, "ROWS", 4)
    monkeypatch.setattr(parts_module, "BLOCK", block)
    order = np.random.default_rng(0).permutation(50)
    for some in np.array_split(order, 3):
        with make(tmp_path) as parts:
            for number in some.tolist():
                parts.add(number, row(number))
                parts.add(number, row(-1))  # Of a video that is done already nothing is kept.
            done = parts.done.copy()
        with make(tmp_path) as parts:
            np.testing.assert_array_equal(parts.done, done)
            assert parts.missing() == np.flatnonzero(~done).tolist()
    with make(tmp_path) as parts:
        parts.finish(csv=tmp_path / "out.csv")
    assert table(tmp_path) == expected()
    assert sorted(os.listdir(tmp_path)) == ["out.csv", "out.parquet"]
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == ["name,x,y", "video 0,0.0,0.0"]
    with make(tmp_path) as parts:
        assert parts.is_finished and not parts.missing()


def test_what_is_missing_is_told_and_not_written(tmp_path):
    with make(tmp_path) as parts:
        parts.add(3, row(3))
        with pytest.raises(RuntimeError, match="49 of 50 videos are not done"):
            parts.finish()
    assert os.listdir(tmp_path) == ["out.parquet.parts"]


def test_another_configuration_is_refused_with_what_to_do(tmp_path):
    with make(tmp_path, total=1, views="1x1") as parts:
        parts.add(0, row(0))
    message = r"out.parquet.parts was begun with views='1x1', now with views='4x3'. Pass what it was begun with"
    with pytest.raises(ValueError, match=message):
        make(tmp_path, total=1, views="4x3")
    with make(tmp_path, total=1, views="1x1") as parts:
        parts.finish()
    with pytest.raises(ValueError, match="out.parquet was begun with views='1x1'"):
        make(tmp_path, total=1, views="4x3")
    (tmp_path / "out.parquet").write_bytes(b"PAR1, or so")
    with pytest.raises(ValueError, match="is no table of this package, so it is not written over"):
        make(tmp_path, total=1, views="1x1")


def test_two_jobs_do_not_write_one_table(tmp_path):
    with make(tmp_path), pytest.raises(ValueError, match="is being written by another process"):
        make(tmp_path)
    with make(tmp_path):
        pass


def test_what_a_job_left_that_was_killed_at_its_end_is_removed(tmp_path):
    with make(tmp_path):
        (tmp_path / f".out.parquet.123.{'0f' * 16}.tmp").touch()
    with make(tmp_path):
        assert os.listdir(tmp_path) == ["out.parquet.parts"]


def test_a_damaged_part_is_made_anew(tmp_path):
    with make(tmp_path) as parts:
        parts.add(5, row(5))
    (part,) = (tmp_path / "out.parquet.parts").glob("*.parquet")
    part.write_bytes(part.read_bytes()[:50])
    with pytest.warns(UserWarning, match="0000000005.parquet is damaged"), make(tmp_path) as parts:
        assert len(parts.missing()) == 50


def test_a_full_disk_loses_nothing_that_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(parts_module, "ROWS", 10)
    sync, left = os.fsync, [3]

    def full(descriptor):
        if left[0] == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        left[0] -= 1
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)

    def fill(parts):
        for number in parts.missing():
            parts.add(number, row(number))
        parts.finish()

    # The configuration and two parts fit.
    with pytest.raises(OSError, match="No space left"), make(tmp_path) as parts:
        fill(parts)
    left[0] = 1000
    with make(tmp_path) as parts:
        assert parts.missing() == list(range(20, 50))
        left[0] = 3
        with pytest.raises(OSError, match="No space left"):
            fill(parts)  # All parts fit, and the table does not.
        left[0] = 1000
    with make(tmp_path) as parts:
        assert not parts.missing()
        parts.finish()
    assert table(tmp_path) == expected()


class Read:
    """A reader of videos of which one kills its process, one is broken, and others take a while."""

    def __init__(self, deadly=None, seconds=0.0):
        self.deadly, self.seconds = deadly, seconds

    def __call__(self, number):
        time.sleep(self.seconds)
        if number == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 2:
            return Reading(number, None, {"broken": "is a page"})
        return Reading(number, np.full((1, 2), number), {})


class Negative:
    """Stands for a model."""

    def __call__(self, clips):
        return np.concatenate([clips[:, 0, :1], -clips[:, 0, :1]], axis=1).astype(np.float32)


def job(folder, read, workers, total=50, chunk=3):
    def make_row(number, values, about):
        return {"name": about.get("broken", f"video {number}"), "values": values}

    with make(folder, total) as parts, interruptible(parts):
        run_job(parts, local_engine(read, Negative(), 4, workers), chunk, make_row, "", False)
        parts.finish()


def without(total, names):
    return [{**line, **({"name": names[n], "values": None} if n in names else {})} for n, line in
            enumerate(expected(total))]  # fmt: skip


def test_a_video_that_kills_whoever_reads_it_is_told_and_its_neighbours_are_done(tmp_path):
    pytest.importorskip("grain")
    job(tmp_path, Read(deadly=13), workers=2, total=20)
    rows = table(tmp_path)
    assert "was killed each time" in rows[13]["name"]
    assert rows == without(20, {2: "is a page", 13: rows[13]["name"]})


def test_ctrl_c_keeps_what_is_done_and_tells_it(tmp_path):
    class Interrupt(Read):
        def __call__(self, number):
            if number == 30:
                os.kill(os.getpid(), signal.SIGINT)
            return super().__call__(number)

    with pytest.raises(KeyboardInterrupt) as caught:
        job(tmp_path, Interrupt(), workers=0, chunk=1)
    assert isinstance(caught.value, JobInterrupted)
    # What was read and waited for the rest of its batch is read again.
    assert str(caught.value).startswith("stopped: 29 of 50 videos are done and kept in ")
    with make(tmp_path) as parts:
        assert len(parts.missing()) == 21
    job(tmp_path, Read(), workers=0)
    assert table(tmp_path) == without(50, {2: "is a page"})


@pytest.mark.slow
def test_five_kills_at_random_moments_leave_nothing_out_and_nothing_twice(tmp_path):
    pytest.importorskip("grain")
    source = (
        "import sys; from pathlib import Path; from tests.evaluation import test_parts as t;"
        "t.parts_module.ROWS = 5; t.job(Path(sys.argv[1]), t.Read(seconds=0.02), workers=2, total=400)"
    )
    rng = random.Random(0)
    killed, seen = 0, set()
    while killed < 5:
        process = subprocess.Popen([sys.executable, "-c", source, str(tmp_path)], cwd=Path(__file__).parents[2])
        folder = tmp_path / "out.parquet.parts"
        while process.poll() is None and not set(folder.glob("[0-9]*")) - seen:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        process.wait()
        killed += 1
        now = set(folder.glob("[0-9]*"))
        assert seen <= now
        seen = now
    job(tmp_path, Read(), workers=0, total=400)
    assert table(tmp_path) == without(400, {2: "is a page"})
