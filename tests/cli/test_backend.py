"""The command finds a backend that is installed, and says what to install where there is none."""

import logging
import os
import subprocess
import sys

import pytest

from keras_video_focalnet.cli.backend import quiet_start
from keras_video_focalnet.utils import backend

pytestmark = pytest.mark.backend_free


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends that Keras is not imported yet, and sets what is installed and said."""

    def pretend(installed, variable=None, keras_json=None):
        monkeypatch.setattr(backend, "is_installed", lambda name: name in installed)
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


@pytest.mark.parametrize("keras_json", [None, '{"backend": "tensorflow"}'])
def test_what_goes_on_has_the_backend_that_it_was_begun_with(machine, keras_json):
    machine(("tensorflow", "jax", "torch"), keras_json=keras_json)
    assert backend.choose_backend(begun_with="torch") == os.environ["KERAS_BACKEND"] == "torch"
    machine(("tensorflow", "jax"), variable="jax")
    assert backend.choose_backend(begun_with="tensorflow") == "jax"
    machine(("jax",))
    assert backend.choose_backend(begun_with="torch") == "jax"


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


@pytest.mark.parametrize(
    ("variable", "keras_json", "message"),
    [
        ("jax", None, r"KERAS_BACKEND is 'jax', which is not installed. .* pip install 'keras-video-focalnet\[jax\]'"),
        ("tourch", None, r"KERAS_BACKEND is 'tourch', .* did you mean 'torch'\? Set KERAS_BACKEND .* \(torch\)"),
        (None, '{"backend": "jax"}', r"The backend in .*keras.json is 'jax', .* Set KERAS_BACKEND to one .* \(torch\)"),
        (None, '{"backend": "jaks"}', r"keras.json is 'jaks', which is no backend .* Set KERAS_BACKEND"),
    ],
)
def test_the_named_one_is_not_there(machine, variable, keras_json, message):
    machine(("torch",), variable, keras_json)
    with pytest.raises(ImportError, match=message):
        backend.choose_backend()


def test_a_choice_among_several_is_told_once_and_after_keras_is_there(machine, monkeypatch, caplog):
    machine(("tensorflow", "jax", "torch"))
    backend.choose_backend()
    backend.tell_choice()
    assert not caplog.records
    monkeypatch.setitem(sys.modules, "keras", None)
    with caplog.at_level(logging.WARNING):
        backend.tell_choice()
        backend.tell_choice()
    (record,) = caplog.records
    assert "runs on tensorflow; jax and torch are installed too" in record.getMessage()
    assert "KERAS_BACKEND" in record.getMessage()


def test_a_keras_json_without_end_says_nothing(machine):
    machine(("jax",), keras_json="[" * 100_000)
    assert backend.choose_backend() == "jax"


def test_tensorflows_log_level_is_a_default_only(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    quiet_start()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3"
    assert logging.getLogger("absl").level == logging.ERROR
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    quiet_start()
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0"


HIDDEN = """
import sys
from importlib.machinery import PathFinder
class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {hidden} else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
"""


def run_without(hidden, code, home, **environment):
    """Runs code where some packages are not installed and nobody has chosen a backend."""
    kept = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    command = [sys.executable, "-c", HIDDEN.format(hidden=set(hidden)) + code]
    environment = kept | {"KERAS_HOME": str(home)} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)


BUILD = "from keras_video_focalnet import VideoFocalNetNano\nimport keras\nprint(keras.backend.backend())"


@pytest.mark.parametrize("only", ["jax", "torch"])
def test_the_import_takes_the_only_backend(tmp_path, only):
    hidden = {"tensorflow", "jax", "torch"} - {only}
    result = run_without(hidden, BUILD, tmp_path)
    assert result.stdout == f"{only}\n", result.stderr
    assert "KERAS_BACKEND" not in result.stderr


def test_the_import_says_which_of_several_it_takes(tmp_path):
    result = run_without({"tensorflow"}, BUILD, tmp_path)
    assert result.stdout == "jax\n", result.stderr
    assert "Keras runs on jax; torch is installed too" in result.stderr


@pytest.mark.parametrize(
    ("hidden", "variable", "message"),
    [
        ({"tensorflow"}, "tensorflow", "KERAS_BACKEND is 'tensorflow', which is not installed"),
        (set(), "jaxx", "KERAS_BACKEND is 'jaxx', which is no backend of Keras, did you mean 'jax'?"),
        ({"tensorflow", "jax", "torch"}, "", "No backend is installed"),
    ],
)
def test_the_import_names_the_variable(tmp_path, hidden, variable, message):
    # Reading videos needs no backend, whatever is chosen.
    code = "import keras_video_focalnet\nkeras_video_focalnet.VideoReader\nprint('reads')\n" + BUILD
    result = run_without(hidden, code, tmp_path, KERAS_BACKEND=variable)
    assert result.stdout == "reads\n"
    assert result.stderr.splitlines()[-1].startswith(f"ImportError: {message}")


def test_the_import_loads_nothing_heavy(tmp_path):
    code = "import keras_video_focalnet\nprint({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules))"
    assert run_without((), code, tmp_path).stdout == "set()\n"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_what_is_held_back_is_shown_only_where_an_exception_comes():
    code = (
        "import os\n"
        "from keras_video_focalnet.cli.backend import error_stream_held_back\n"
        "with error_stream_held_back():\n"
        "    os.write(2, b'noise ')\n"
        "os.write(2, b'after ')\n"
        "with error_stream_held_back():\n"
        "    os.write(2, b'cause ')\n"
        "    raise RuntimeError('effect')\n"
    )
    error = run(code).stderr
    assert "noise" not in error
    assert error.startswith("after cause Traceback")
    assert "RuntimeError: effect" in error


def test_lines_of_noise_are_left_out():
    code = (
        "import os\n"
        "from keras_video_focalnet.cli.backend import NOISE, error_stream_held_back\n"
        "with error_stream_held_back(NOISE):\n"
        "    os.write(2, b'I0000 00:00:1795.1 3 port.cc:153] on.\\nnews\\nINFO: Created TensorFlow Lite XNNPACK\\n')\n"
    )
    assert run(code).stderr == "news\n"


@pytest.mark.parametrize(("level", "told"), [(None, ""), ("0", "noise")])
def test_tensorflow_is_imported_quietly_by_whomever(tmp_path, level, told):
    (tmp_path / "tensorflow.py").write_text("import os\nos.write(2, b'noise')\nvalue = 3\n")
    code = (
        f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); os.environ.pop('TF_CPP_MIN_LOG_LEVEL', None)\n"
        f"os.environ.update({ {} if level is None else {'TF_CPP_MIN_LOG_LEVEL': level} })\n"
        "from keras_video_focalnet.cli.backend import quiet_start; quiet_start(); quiet_start()\n"
        "import tensorflow; print(tensorflow.value)\n"
    )
    done = run(code)
    assert (done.stdout, done.stderr) == ("3\n", told)


def test_no_error_stream_at_all():
    code = (
        "import os\n"
        "from keras_video_focalnet.cli.backend import error_stream_held_back\n"
        "os.close(2)\n"
        "with error_stream_held_back():\n"
        "    print('done')\n"
    )
    assert run(code).stdout == "done\n"
