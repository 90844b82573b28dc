"""`video-focalnet app`: what it is started with, and that it ends without leaving anything behind."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from click.testing import CliRunner

from keras_video_focalnet.app import serve
from keras_video_focalnet.cli.main import main

pytest.importorskip("gradio")
pytest.importorskip("matplotlib")


def invoke(*arguments):
    return CliRunner().invoke(main, ["app", *map(str, arguments)])


def test_without_gradio_the_extra_is_named(monkeypatch):
    find = serve.require.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "gradio" else find(name, *a))
    result = invoke()
    assert result.exit_code == 1
    assert "The page needs gradio: pip install 'keras-video-focalnet[app]'" in result.stderr


def test_a_port_that_is_taken():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = invoke("--port", port)
    assert result.exit_code == 1 and f"--port {port}" in result.stderr and "port 0" in result.stderr, result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-size", "0"], "--max-size"),
        (["--max-size", "nan"], "--max-size"),
        (["--max-seconds", "inf"], "--max-seconds"),
        (["--port", "70000"], "--port"),
        (["--host", "no such host", "--port", "0"], "cannot be listened at"),
        (["--weights", "none", "--port", "0"], "would classify with random weights"),
        (["--model", "vita-clip", "--port", "0"], "--classes"),
    ],
)
def test_wrong_usage(arguments, message):
    result = invoke(*arguments)
    assert result.exit_code in (1, 2) and message in result.stderr, result.stderr


def test_addresses():
    with serve.bind("127.0.0.1", 0) as listening:
        assert serve.address_of(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}/"
    with serve.bind("0.0.0.0", 0) as listening:
        assert serve.address_of(listening).startswith("http://127.0.0.1:")


def test_the_folder_goes_and_the_variables_come_back(monkeypatch):
    monkeypatch.delenv("KERAS_VIDEO_FOCALNET_OFFLINE", raising=False)
    monkeypatch.setenv("GRADIO_SHARE", "True")
    with serve.private_folder() as folder:
        assert os.stat(folder).st_mode & 0o777 == 0o700
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder / "files")
        assert (os.environ["GRADIO_SHARE"], os.environ["KERAS_VIDEO_FOCALNET_OFFLINE"]) == ("False", "1")
        (folder / "files" / "a").touch()
    assert not folder.exists() and os.environ["GRADIO_SHARE"] == "True"
    assert "KERAS_VIDEO_FOCALNET_OFFLINE" not in os.environ


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_it_and_nothing_is_left(tmp_path, number, code):
    """With a server that answers nothing, which is quickly there."""
    script = """
import sys
from keras_video_focalnet.app import serve
try:
    with serve.bind("127.0.0.1", 0) as listening, serve.private_folder() as folder:
        (folder / "files" / "half of an upload").touch()
        async def app(scope, receive, send):
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
        serve.serve(app, listening, lambda address: print(address, flush=True), lambda: None)
except KeyboardInterrupt:
    sys.exit(130)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        assert len(os.listdir(tmp_path)) == 1
        process.send_signal(number)
        assert process.wait(60) == code
    assert os.listdir(tmp_path) == []
