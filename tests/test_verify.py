"""`make verify` runs what `make test` leaves out: each slow test, on each backend that has it."""

import os
import shlex
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression

from tests.slow import SLOW

ROOT = Path(__file__).parents[1]
BACKENDS = ("tensorflow", "jax", "torch")


def commands(text):
    """The calls of pytest in a script: `(backends, paths, expression of marks)`; those that choose by names (`-k`)
    run a part of their files and do not count.
    """
    for line in text.replace("\\\n", " ").splitlines():
        if "-m pytest" not in line:
            continue
        before, after = line.split("-m pytest", 1)
        words = shlex.split(after.split(";")[0])
        if "-k" in words:
            continue
        named = [backend for backend in BACKENDS if f"on {backend} " in before or f"KERAS_BACKEND={backend} " in before]
        loop = "$backend" in before
        marks = words[words.index("-m") + 1] if "-m" in words else ""
        yield (BACKENDS if loop else tuple(named)), [word for word in words if word.startswith("tests")], marks


def runs(command, backend, item_path, marks):
    """Whether a command runs a test with these marks on a backend; a test that uses none is run by any."""
    backends, paths, expression = command
    there = any(item_path == path or item_path.startswith(f"{path}/") for path in paths)
    # Without a backend a command takes the one of conftest.py.
    where = "backend_free" in marks or backend in (backends or ("tensorflow",))
    chosen = not expression or Expression.compile(expression).evaluate(lambda name, **_: name in marks)
    return there and where and chosen


def test_commands_are_read():
    text = """
        for backend in tensorflow jax torch; do
            on $backend "$PYTHON" -m pytest -q tests/a tests/b.py -m "slow or not slow"
        done
        on torch "$PYTHON" -m pytest -q tests/c -m slow
        on torch "$PYTHON" -m pytest -q tests/c -k name
        run "$PYTHON" -m pytest -q tests/d \\
            tests/e.py -m "not backend_free and not slow"
        KERAS_BACKEND=jax .venv/bin/python -m pytest -q tests/f
    """
    all_of_them, one, none, assigned = commands(text)
    assert all_of_them == (BACKENDS, ["tests/a", "tests/b.py"], "slow or not slow")
    assert one == (("torch",), ["tests/c"], "slow")
    assert none == ((), ["tests/d", "tests/e.py"], "not backend_free and not slow")
    assert assigned == (("jax",), ["tests/f"], "")
    assert runs(all_of_them, "jax", "tests/a/test_x.py", {"slow"}) and runs(all_of_them, "jax", "tests/b.py", {"slow"})
    assert not runs(all_of_them, "jax", "tests/ab.py", {"slow"})
    assert runs(one, "torch", "tests/c/test_x.py", {"slow"}) and not runs(one, "jax", "tests/c/test_x.py", {"slow"})
    assert runs(one, "jax", "tests/c/test_x.py", {"slow", "backend_free"})
    assert not runs(one, "torch", "tests/c/test_x.py", set())
    assert runs(none, "tensorflow", "tests/e.py", set()) and not runs(none, "tensorflow", "tests/e.py", {"slow"})


def test_make_verify_runs_every_slow_test(request):
    """Of those that this run collected, whichever it chose."""
    backend = os.environ["KERAS_BACKEND"]
    scripts = "\n".join((ROOT / name).read_text() for name in ("tests/verify.sh", ".ci/run"))
    known = list(commands(scripts))
    left_out = {
        path
        for path, marks in request.config.stash[SLOW]
        if not any(runs(command, backend, path, marks) for command in known)
    }
    if left_out:
        pytest.fail(f"No step of tests/verify.sh runs on {backend} what is slow in {', '.join(sorted(left_out))}.")
