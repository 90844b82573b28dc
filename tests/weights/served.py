"""A server of this machine's own, what it publishes, and a look at the cache."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from keras_video_focalnet.weights import download
from keras_video_focalnet.weights.safetensors_file import read_safetensors, write_safetensors


class Server:
    """Serves `files`; a path under `/cut/` breaks off half-way, `/broken/` answers 500."""

    def __init__(self):
        self.files = {}
        self.asked = []
        self.credentials = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                if "Authorization" in self.headers:
                    server.credentials.append(self.headers["Authorization"])
                path = self.path.split("?")[0]
                if path.startswith("/broken/"):
                    return self.send_error(500)
                content = server.files.get(path.rsplit("/", 1)[-1])
                if content is None:
                    return self.send_error(404)
                if path.startswith("/moved/"):
                    self.send_response(302)
                    self.send_header("Location", "/" + path.rsplit("/", 1)[-1])
                    return self.end_headers()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if path.startswith("/cut/") else content)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def published(tmp_path, value):
    """A published file; safetensors stands for any format."""
    write_safetensors(tmp_path / "published", {"a.x": np.full(1000, value, np.float32), "a.h": np.ones(3, np.float16)})
    return (tmp_path / "published").read_bytes()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def listing(cache):
    return sorted(str(path.relative_to(cache)) for path in cache.rglob("*")) if cache.exists() else None


def plain(path):
    return read_safetensors(path), {}


def fetch(url, again=False, **options):
    """The state alone; `again` drops the converted file first, as a user may, so that it is downloaded."""
    if again:
        (download.cache_dir() / "tiny.safetensors").unlink()
    return download.fetch_state(url, **{"convert": plain, "file_name": "tiny.safetensors", **options})[0]


CACHED = ["digests", "digests/tiny.safetensors.json", "tiny.safetensors"]
