"""Serves the page from this machine, and leaves nothing behind."""

import contextlib
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from keras_video_focalnet.app.guard import Guard, allowed_hosts
from keras_video_focalnet.utils.extras import require
from keras_video_focalnet.weights.download import OFFLINE_VARIABLE

HOST, PORT = "127.0.0.1", 7860
# Open pages are waited for so many seconds when the server ends.
_PATIENCE = 2
# Gradio reads these where it is imported: no figures of use, no look for new versions, no way around this machine.
_VARIABLES = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SHARE": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_ALLOWED_PATHS": "",
    "GRADIO_ROOT_PATH": "",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}


def check_extra() -> None:
    """Raise an `ImportError` that names the extra where a package is missing that the page needs."""
    require("The page", "app", "gradio", "matplotlib")


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at an address.

    Args:
        host: Address or name of this machine.
        port: 0 for any that is free.

    Raises:
        OSError: It is taken, or is no address of this machine; the message tells what to do.
    """
    try:
        (family, kind, protocol, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        listening = socket.socket(family, kind, protocol)
        try:
            if os.name == "posix":
                # A port that was just closed is free; one that is listened at is not.
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(128)
        except BaseException:
            listening.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise OSError(
            f"host={host!r} port={port} cannot be listened at ({reason}); pass another port, or port 0 for any that "
            "is free, and an address of this machine."
        ) from error
    return listening


def names_of(host: str, listening: socket.socket) -> Collection[str] | None:
    """What a browser may call a server that listens at a host, see `allowed_hosts`; also by its address in numbers."""
    names = allowed_hosts(host)
    return None if names is None else {*names, listening.getsockname()[0]}


def address_of(listening: socket.socket) -> str:
    """What a browser on this machine opens to see what is served at a socket."""
    host, port, *_ = listening.getsockname()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


@contextlib.contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that this user alone may read, and all that Gradio and Python keep for a time lies in.

    It is removed at the end of the block, also where Ctrl-C or SIGTERM ends it; the latter raises `SystemExit`.
    """
    is_main = threading.current_thread() is threading.main_thread()
    former_handler = signal.signal(signal.SIGTERM, _leave) if is_main else None
    folder = Path(tempfile.mkdtemp(prefix="video-focalnet-app-")).resolve()
    former = {name: os.environ.get(name) for name in ("GRADIO_TEMP_DIR", OFFLINE_VARIABLE, *_VARIABLES)}
    former_folder = tempfile.tempdir
    os.environ.update(_VARIABLES, GRADIO_TEMP_DIR=str(folder / "files"), **{OFFLINE_VARIABLE: "1"})
    (folder / "files").mkdir()
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = former_folder
        for name, value in former.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        # A thread that is still at work may write until its next look at what it was told.
        for _ in range(3):
            shutil.rmtree(folder, ignore_errors=True)
        if is_main:
            signal.signal(signal.SIGTERM, former_handler)


def application(page: Callable[[Path], Any], folder: Path, limits: Any, hosts: Any) -> Guard:
    """The page as an ASGI application, behind its guard.

    Args:
        page: Function of the folder of uploads that gives a `Page`.
        folder: What `private_folder` gave.
        limits: `Limits`.
        hosts: What `allowed_hosts` gave.
    """
    import fastapi
    import gradio as gr

    from keras_video_focalnet.app.page import style, theme

    files = folder / "files"
    blocks = page(files).build()
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=limits.size,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme(),
        css=style(),
    )
    # Files that the browser names are checked as if Gradio had started its own server.
    blocks.has_launched = True
    return Guard(app, files, limits.size, hosts)


def serve(app: Guard, listening: socket.socket, announce: Callable[[str], None], stop: Callable[[], None]) -> None:
    """Serve until Ctrl-C or a signal to end.

    Args:
        app: What `application` gave.
        listening: What `bind` gave.
        announce: Function that is told the address once it answers.
        stop: Function that is called when it ends, so that what is at work ends soon.

    Raises:
        KeyboardInterrupt: At Ctrl-C.
        SystemExit: At SIGTERM within `private_folder`, with the exit code of shells for it.
    """
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets=sockets)
            if self.started:
                announce(address_of(listening))

        async def shutdown(self, sockets=None):
            stop()
            await super().shutdown(sockets=sockets)

    config = uvicorn.Config(
        app,
        log_level="error",
        ws="none",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        timeout_graceful_shutdown=_PATIENCE,
    )
    # The server hands a signal on once it has ended: `private_folder` says what SIGTERM does then.
    try:
        Server(config).run(sockets=[listening])
    finally:
        stop()


def _leave(number, _):
    sys.exit(128 + number)
