import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from keras_video_focalnet.weights import download
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.safetensors_file import read_safetensors, write_safetensors

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and no proxy before the local server."""
    for name in (download.BASE_URL_VARIABLE, download.OFFLINE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(download.HOME_VARIABLE, str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "cache"


class Server:
    """Serves `files`; a path under `/cut/` breaks off half-way, `/broken/` answers 500."""

    def __init__(self):
        self.files = {}
        self.asked = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
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


@pytest.fixture
def server(tmp_path):
    with Server() as server:
        server.files["tiny.pth"] = published(tmp_path, 1)
        yield server


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


# --- What works ---


def test_downloads_once_and_then_reads_the_cache(server, cache):
    first = fetch(f"{server.base}/tiny.pth")
    assert listing(cache) == CACHED
    second = fetch(f"{server.base}/tiny.pth")
    assert server.asked == ["/tiny.pth"]
    for state in (first, second):
        assert list(state) == ["a.x", "a.h"]
        assert state["a.h"].dtype == np.float16
        np.testing.assert_array_equal(state["a.x"], np.ones(1000, np.float32))
    record = json.loads((cache / "digests" / "tiny.safetensors.json").read_text())
    assert record["source_sha256"] == digest(server.files["tiny.pth"])
    assert record["sha256"] == digest((cache / "tiny.safetensors").read_bytes())


def test_the_converter_sees_the_published_name(server):
    seen = []

    def convert(path):
        seen.append(path)
        return plain(path)

    fetch(f"{server.base}/some/tiny.pth?token=a/b", convert=convert)
    assert seen[0].name == "tiny.pth"
    assert not seen[0].exists()


def test_redirects_are_followed(server, cache):
    fetch(f"{server.base}/moved/tiny.pth")
    assert listing(cache) == CACHED


def test_names_made_of_the_address(server, cache):
    server.files["ti%20ny.pth"] = server.files["tiny.pth"]
    for query in ("", "?x=../../etc&y=1", "?x=2"):
        fetch(f"{server.base}/a/ti%20ny.pth{query}", file_name=None)
    names = [name for name in listing(cache) if name.endswith(".safetensors")]
    assert len(names) == 3
    assert all(name.startswith("ti_ny-") and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h/a/b.pth", "b.pth"),
        ("https://h/a/b.pth?x=/c.pth#f", "b.pth"),
        ("https://h/a/..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("https://h/a/..%5C..%5Cboot.ini", "boot.ini"),
        ("https://h/.hidden", "hidden"),
        ("https://h/..", "weights"),
        ("https://h/", "weights"),
        ("https://h", "weights"),
        ("https://h/a b:c*?.h5", "a_b_c_"),
    ],
)
def test_source_names(url, name):
    assert download.source_name(url) == name


def test_a_deleted_file_is_downloaded_again(server):
    fetch(f"{server.base}/tiny.pth")
    fetch(f"{server.base}/tiny.pth", again=True)
    assert len(server.asked) == 2


def test_texts_are_kept_with_the_arrays(server):
    url, given = f"{server.base}/tiny.pth", {"labels": '["a", "ß"]'}
    options = {"file_name": "tiny.safetensors", "convert": lambda path: (read_safetensors(path), given)}
    for _ in range(2):
        assert download.fetch_state(url, **options)[1] == given
    assert len(server.asked) == 1


def test_a_given_digest(server, cache):
    fetch(f"{server.base}/tiny.pth", sha256=digest(server.files["tiny.pth"]).upper())
    assert listing(cache) == CACHED


def test_file_addresses(tmp_path, cache):
    source = tmp_path / "with space" / "tiny.pth"
    source.parent.mkdir()
    source.write_bytes(published(tmp_path, 2))
    assert fetch(source.as_uri())["a.x"][0] == 2
    assert source.exists()
    with pytest.raises(WeightsDownloadError, match=r"absent\.pth cannot be read"):
        fetch((tmp_path / "absent.pth").as_uri(), file_name="other.safetensors")
    assert listing(cache) == CACHED


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_replaces_all_but_the_file_name(server, monkeypatch, slash):
    monkeypatch.setenv(download.BASE_URL_VARIABLE, f"{server.base}/mirror{slash}")
    fetch("https://unreachable.invalid/releases/v1/tiny.pth")
    assert server.asked == ["/mirror/tiny.pth"]
    # Cached under the published address: without the mirror nothing is asked for.
    monkeypatch.delenv(download.BASE_URL_VARIABLE)
    fetch("https://unreachable.invalid/releases/v1/tiny.pth")


def test_a_folder_as_mirror(tmp_path, monkeypatch):
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "tiny.pth").write_bytes(published(tmp_path, 3))
    monkeypatch.setenv(download.BASE_URL_VARIABLE, (tmp_path / "mirror").as_uri())
    assert fetch("https://unreachable.invalid/tiny.pth")["a.x"][0] == 3


def test_a_users_address_is_not_mirrored(server, monkeypatch):
    monkeypatch.setenv(download.BASE_URL_VARIABLE, "https://unreachable.invalid")
    fetch(f"{server.base}/mine/tiny.pth", use_base_url=False)
    assert server.asked == ["/mine/tiny.pth"]


def test_default_cache_folder(monkeypatch):
    monkeypatch.delenv(download.HOME_VARIABLE)
    assert download.cache_dir().name == "keras_video_focalnet"
    monkeypatch.setenv(download.HOME_VARIABLE, "~/weights")
    assert download.cache_dir() == Path.home() / "weights"


# --- Offline ---


def test_offline_uses_the_cache_alone(server, monkeypatch):
    fetch(f"{server.base}/tiny.pth")
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    assert fetch(f"{server.base}/tiny.pth")["a.x"][0] == 1
    assert len(server.asked) == 1
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "0")
    fetch(f"{server.base}/tiny.pth", again=True)
    assert len(server.asked) == 2


def test_offline_without_the_file_tells_what_to_put_where(server, cache, monkeypatch, tmp_path):
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    url = f"{server.base}/tiny.pth"
    with pytest.raises(WeightsDownloadError, match="put tiny.pth") as error:
        fetch(url)
    assert url in str(error.value) and str(cache) in str(error.value)
    assert listing(cache) is None and server.asked == []
    cache.mkdir()
    (cache / "tiny.pth").write_bytes(published(tmp_path, 4))
    assert fetch(url)["a.x"][0] == 4
    assert listing(cache) == sorted([*CACHED, "tiny.pth"])


def test_offline_takes_a_converted_file_put_there_by_hand(cache, monkeypatch, tmp_path):
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    cache.mkdir()
    (cache / "tiny.safetensors").write_bytes(published(tmp_path, 5))
    assert fetch("https://unreachable.invalid/tiny.pth")["a.x"][0] == 5


def test_offline_refuses_a_damaged_cache(server, cache, monkeypatch, tmp_path):
    fetch(f"{server.base}/tiny.pth")
    (cache / "tiny.safetensors").write_bytes(published(tmp_path, 6))
    monkeypatch.setenv(download.OFFLINE_VARIABLE, "1")
    with pytest.raises(WeightsFileError, match="digest is not the one recorded"):
        fetch(f"{server.base}/tiny.pth")


# --- What goes wrong leaves the cache as it was ---


@contextlib.contextmanager
def refused(cache, error, message, names):
    before = listing(cache)
    with pytest.raises(error, match=message) as caught:
        yield
    assert names in str(caught.value)
    assert listing(cache) == before


@pytest.mark.parametrize("warm", [False, True], ids=["empty cache", "full cache"])
@pytest.mark.parametrize(
    ("path", "message", "error"),
    [
        ("/absent.pth", "HTTP 404", WeightsDownloadError),
        ("/broken/tiny.pth", "HTTP 500", WeightsDownloadError),
        ("/cut/tiny.pth", "cut before the file was complete", WeightsDownloadError),
        ("/page.pth", "an HTML page", WeightsFileError),
        ("/empty.pth", "an empty file", WeightsFileError),
        ("/damaged.pth", "damaged.pth: tensor", WeightsFileError),
    ],
)
def test_failed_downloads(server, cache, warm, path, message, error):
    if warm:
        fetch(f"{server.base}/tiny.pth", file_name="other.safetensors")
    server.files["page.pth"] = b"<!DOCTYPE html><title>Sign in</title>"
    server.files["empty.pth"] = b""
    server.files["damaged.pth"] = server.files["tiny.pth"][:-7]
    with refused(cache, error, message, server.base + path):
        fetch(server.base + path)
    # And it starts cleanly afterwards.
    fetch(f"{server.base}/tiny.pth")
    assert "tiny.safetensors" in listing(cache)


def test_no_server(cache):
    with Server() as server:
        base = server.base
    with refused(cache, WeightsDownloadError, "connection failed", base):
        fetch(f"{base}/tiny.pth")


def test_wrong_digest(server, cache):
    with refused(cache, WeightsFileError, "0" * 64, digest(server.files["tiny.pth"])):
        fetch(f"{server.base}/tiny.pth", sha256="0" * 64)


def test_a_file_that_changed_since_the_first_download(server, cache, tmp_path):
    url = f"{server.base}/tiny.pth"
    old = digest(server.files["tiny.pth"])
    fetch(url)
    server.files["tiny.pth"] = published(tmp_path, 2)
    (cache / "tiny.safetensors").unlink()
    with refused(cache, WeightsFileError, old, digest(server.files["tiny.pth"])):
        fetch(url)
    # The way to accept it: deleting the record that the error names.
    server.files["tiny.pth"] = published(tmp_path, 3)
    (cache / "digests" / "tiny.safetensors.json").unlink()
    assert fetch(url)["a.x"][0] == 3


def test_a_digest_that_becomes_known_later(server, cache, tmp_path):
    url = f"{server.base}/tiny.pth"
    fetch(url)
    with refused(cache, WeightsFileError, "is expected", "0" * 64):
        fetch(url, sha256="0" * 64)
    server.files["tiny.pth"] = published(tmp_path, 2)
    assert fetch(url, sha256=digest(server.files["tiny.pth"]))["a.x"][0] == 2


def test_a_cached_file_that_was_damaged_is_fetched_again(server, cache):
    url = f"{server.base}/tiny.pth"
    fetch(url)
    whole = (cache / "tiny.safetensors").read_bytes()
    for damaged in (whole[:-1], whole[:-1] + b"\x01", b""):
        (cache / "tiny.safetensors").write_bytes(damaged)
        with pytest.warns(UserWarning, match="fetched again"):
            assert fetch(url)["a.x"][0] == 1
        assert (cache / "tiny.safetensors").read_bytes() == whole


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b'{"url": "https://other"}'])
def test_a_damaged_record_is_as_none(server, cache, record):
    fetch(f"{server.base}/tiny.pth")
    (cache / "digests" / "tiny.safetensors.json").write_bytes(record)
    fetch(f"{server.base}/tiny.pth")
    assert len(server.asked) == 2


@pytest.mark.parametrize("error", [ValueError("shape"), KeyboardInterrupt()])
def test_a_failed_conversion_leaves_nothing(server, cache, error):
    def convert(path):
        raise error

    with pytest.raises(type(error)):
        fetch(f"{server.base}/tiny.pth", convert=convert)
    assert listing(cache) is None


def test_what_the_format_cannot_hold_leaves_nothing(server, cache):
    with pytest.raises(ValueError, match="'x'"):
        fetch(f"{server.base}/tiny.pth", convert=lambda path: ({"x": np.array(["a"])}, {}))
    assert not [name for name in listing(cache) or [] if "tiny" in name or "download" in name]


@pytest.mark.parametrize("url", ["ftp://h/tiny.pth", "s3://h/tiny.pth", "tiny.pth", "javascript:alert(1)"])
def test_other_schemes(cache, url):
    with refused(cache, ValueError, "use an address of https, http or file", url):
        fetch(url)


def test_a_mirror_of_another_scheme(cache, monkeypatch):
    monkeypatch.setenv(download.BASE_URL_VARIABLE, "ftp://mirror")
    with refused(cache, ValueError, download.BASE_URL_VARIABLE, "ftp://mirror"):
        fetch("https://h/tiny.pth")


def test_what_is_no_digest(cache):
    with refused(cache, ValueError, "64 hexadecimal digits", "abc"):
        fetch("https://h/tiny.pth", sha256="abc")


def test_what_a_killed_process_left_is_swept(server, cache):
    for name, age in ((".download-old", 90_000), (".download-new", 100)):
        (cache / name).mkdir(parents=True)
        (cache / name / "part").write_bytes(b"x")
        os.utime(cache / name, (time.time() - age,) * 2)
    fetch(f"{server.base}/tiny.pth")
    assert listing(cache) == [".download-new", ".download-new/part", *CACHED]


# --- Two at once ---

# The package's own __init__ brings Keras; these modules on their own must not need it.
ALONE = """
import sys, types
package = sys.modules["keras_video_focalnet"] = types.ModuleType("keras_video_focalnet")
package.__path__ = ["keras_video_focalnet"]
"""

CHILD = """
from keras_video_focalnet.weights import download
from keras_video_focalnet.weights.safetensors_file import read_safetensors
convert = lambda path: (read_safetensors(path), {})
sys.stdin.readline()
for _ in range(10):
    # A record that is gone makes it download again; the other process may just have written its own.
    (download.cache_dir() / "digests" / "tiny.safetensors.json").unlink(missing_ok=True)
    for _ in range(2):
        state, _ = download.fetch_state(sys.argv[1], file_name="tiny.safetensors", convert=convert)
        assert state["a.x"].sum() == 1000, state
"""


def test_two_processes_at_once(server, cache):
    command = [sys.executable, "-W", "error", "-c", ALONE + CHILD, f"{server.base}/tiny.pth"]
    children = [subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    assert [child.wait(120) for child in children] == [0, 0]
    assert listing(cache) == CACHED
    fetch(f"{server.base}/tiny.pth")
    assert len(server.asked) >= 2


# --- Progress ---


def test_progress_on_a_terminal_only(server, monkeypatch, capsys):
    fetch(f"{server.base}/tiny.pth")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    fetch(f"{server.base}/tiny.pth", again=True)
    written = capsys.readouterr()
    assert written.out == ""
    assert "tiny.pth" in written.err
    assert "4.1/4.1 kB" in written.err


def test_importing_brings_no_network_library():
    code = (
        "import sys, keras_video_focalnet.weights.download; "
        "sys.exit(bool({'pooch', 'requests', 'rich', 'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", ALONE + code], cwd=ROOT).returncode == 0
