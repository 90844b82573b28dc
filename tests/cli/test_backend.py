"""The command finds a backend that is installed, and says what to install where there is none."""

import os
import subprocess
import sys

import pytest

from keras_video_focalnet.cli import backend

pytestmark = pytest.mark.backend_free


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends that Keras is not imported yet, and sets what is installed and said."""

    def pretend(installed, variable=None, keras_json=None):
        monkeypatch.setattr(backend, "_installed", lambda name: name in installed)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setenv("KERAS_BACKEND", variable or "")
        if keras_json is not None:
            (tmp_path / "keras.json").write_text(keras_json)

    monkeypatch.delitem(sys.modules, "keras", raising=False)
    return pretend


@pytest.mark.parametrize(
    ("installed", "chosen"),
    [
        (("tensorflow", "jax", "torch"), "tensorflow"),
        (("jax", "torch"), "jax"),
        (("torch",), "torch"),
    ],
)
@pytest.mark.parametrize("keras_json", [None, "{}", "not json", '{"backend": "tensorflow"}', "[]"])
def test_the_first_installed_where_nothing_else_says(machine, installed, chosen, keras_json):
    # A keras.json that says tensorflow where it is not installed was written by Keras itself.
    machine(installed, keras_json=keras_json)
    assert backend.choose_backend() == chosen
    assert os.environ["KERAS_BACKEND"] == ("" if keras_json and chosen in keras_json else chosen)


def test_the_variable_wins(machine):
    machine(("tensorflow", "jax", "torch"), variable="torch", keras_json='{"backend": "jax"}')
    assert backend.choose_backend() == "torch"
    assert os.environ["KERAS_BACKEND"] == "torch"


def test_keras_json_wins_over_what_is_installed(machine):
    machine(("tensorflow", "jax", "torch"), keras_json='{"backend": "jax"}')
    assert backend.choose_backend() == "jax"
    assert os.environ["KERAS_BACKEND"] == ""


def test_keras_json_at_home(machine, monkeypatch, tmp_path):
    machine(("tensorflow", "torch"))
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"backend": "torch"}')
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert backend.choose_backend() == "torch"


def test_another_backend_of_keras_is_left_to_keras(machine):
    machine((), variable="openvino")
    assert backend.choose_backend() == "openvino"


def test_none_installed(machine):
    machine(())
    with pytest.raises(ImportError, match=r"No backend is installed: pip install 'keras-video-focalnet\[tensorflow\]'"):
        backend.choose_backend()


def test_the_named_one_is_not_installed(machine):
    machine(("torch",), variable="jax")
    with pytest.raises(
        ImportError, match=r"KERAS_BACKEND is 'jax', .* pip install 'keras-video-focalnet\[jax\]', .*torch"
    ):
        backend.choose_backend()


def test_tensorflows_log_level_is_a_default_only(machine, monkeypatch):
    machine(("jax",))
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    backend.choose_backend()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "2"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    backend.choose_backend()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_what_is_held_back_is_shown_only_where_an_exception_comes():
    code = (
        "import os\n"
        "from keras_video_focalnet.cli.backend import _error_stream_held_back\n"
        "with _error_stream_held_back():\n"
        "    os.write(2, b'noise ')\n"
        "os.write(2, b'after ')\n"
        "with _error_stream_held_back():\n"
        "    os.write(2, b'cause ')\n"
        "    raise RuntimeError('effect')\n"
    )
    error = run(code).stderr
    assert "noise" not in error
    assert error.startswith("after cause Traceback")
    assert "RuntimeError: effect" in error


def test_no_error_stream_at_all():
    code = (
        "import os\n"
        "from keras_video_focalnet.cli.backend import _error_stream_held_back\n"
        "os.close(2)\n"
        "with _error_stream_held_back():\n"
        "    print('done')\n"
    )
    assert run(code).stdout == "done\n"
