"""For every test, and for the examples in docstrings (`make test-docs`)."""

import gc
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import pytest

from tests.slow import SLOW

# Before anything imports Keras: the suite runs once a backend, each in a process of its own.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# Looking for garbage took a tenth of the time on TensorFlow; processes of tests end before it matters.
gc.set_threshold(50_000, 20, 20)

# A job in the background hands an ignored SIGINT down to what it starts; tests of interrupts take it as at a terminal.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples of hypothesis are the same in each run, so that a test that passed passes again; `make verify` draws others
# with `--hypothesis-profile explore`.
hypothesis.settings.register_profile("same", derandomize=True, database=None, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None)
hypothesis.settings.load_profile("same")

ROOT = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Marks as slow what is slow on the running backend, and notes it."""
    config.stash[SLOW] = slow = []
    for item in items:
        if any(os.environ["KERAS_BACKEND"] in mark.args for mark in item.iter_markers("slow_on")):
            item.add_marker(pytest.mark.slow)
        marks = {mark.name for mark in item.iter_markers()}
        if "slow" in marks:
            slow.append((item.path.relative_to(ROOT).as_posix(), marks))


@pytest.fixture(autouse=True)
def _what_examples_take_for_granted(request, doctest_namespace, tmp_path, monkeypatch):
    """The public names, NumPy and Keras; a folder to write in that holds a video and the repository's test data."""
    if type(request.node).__name__ != "DoctestItem":
        return
    import keras
    import numpy as np

    import keras_video_focalnet as kvf
    from tests.clips import real_clips

    doctest_namespace.update({name: getattr(kvf, name) for name in kvf.__all__}, np=np, keras=keras, ops=keras.ops)
    shutil.copy(real_clips() / "bikes.mp4", tmp_path)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    monkeypatch.chdir(tmp_path)
