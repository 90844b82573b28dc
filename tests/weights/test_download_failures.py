import contextlib
import os
import re
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from keras_video_focalnet.weights import download
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.loading import open_weights
from tests.weights.served import CACHED, Server, digest, fetch, listing, published

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).parents[2]

# The package's own __init__ brings Keras; these modules on their own must not need it.
ALONE = """
import sys, types
package = sys.modules["keras_video_focalnet"] = types.ModuleType("keras_video_focalnet")
package.__path__ = ["keras_video_focalnet"]
"""


@contextlib.contextmanager
def refused(cache, error, message, names):
    before = listing(cache)
    with pytest.raises(error, match=message) as caught:
        yield caught
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
        ("/damaged.pth", "damaged.pth: the safetensors file is damaged", WeightsFileError),
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


@pytest.mark.parametrize("record", [b"", b"{", b"[1]", b'{"url": "https://other"}', b"[" * 100_000])
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


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://[::1/x", r"url='http://\[::1/x' is no valid address .*; write https://HOST/PATH"),
        ("https://user:secret@h:port/x.pth", r"url='https://h:port/x.pth' is no valid address"),
        ("http://user:s3/cret@h/x.pth", r"url='http://h/x.pth' is no valid address; .*with %2F"),
        ("http://user:s3#cret@h/x.pth", r"url='http://h/x.pth' is no valid address; .*with %2F"),
        ("https:///x.pth", "names no host"),
        ("file://host/share/x.pth", "names the host 'host', .*; write file:///PATH with three slashes"),
    ],
)
def test_addresses_that_are_none(cache, url, message):
    with refused(cache, ValueError, message, "") as caught:
        fetch(url)
    assert "cret@" not in printed(caught.value)
    # So it goes for users too.
    with pytest.raises(ValueError, match=message.replace("url=", "weights=")):
        open_weights(url)


def printed(error):
    """All that Python prints of an error that nobody catches."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("file_name", ["tiny.safetensors", None])
def test_a_password_is_sent_and_neither_kept_nor_shown(server, cache, file_name):
    base = server.base.replace("://", "://me:s3cret@")
    fetch(f"{base}/tiny.pth", file_name=file_name)
    for path in cache.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()
    # With another password, or with none, it is the same file.
    fetch(f"{server.base}/tiny.pth", file_name=file_name)
    assert server.asked == ["/tiny.pth"]
    assert server.credentials == ["Basic bWU6czNjcmV0"]
    for path, message in (("absent.pth", "HTTP 404"), ("cut/tiny.pth", "cut before"), ("page.pth", "HTML")):
        server.files["page.pth"] = b"<html>"
        with pytest.raises((WeightsDownloadError, WeightsFileError), match=message) as caught:
            fetch(f"{base}/{path}", file_name=None)
        assert "s3cret" not in printed(caught.value)
        assert f"{server.base}/{path}" in str(caught.value)


def test_the_reason_is_whole_and_the_remedy_a_local_file(cache):
    with pytest.raises(WeightsDownloadError, match="pass its path as weights") as caught:
        fetch("https://no-such-host.invalid/tiny.pth")
    reason = str(caught.value).partition("complete (")[2].partition(");")[0]
    # The innermost error alone, to its end.
    assert re.fullmatch(r"\w+: [^<>]+", reason), reason
    assert "Max retries" not in reason


@pytest.mark.parametrize("below", [False, True])
def test_a_cache_that_is_a_file(server, cache, monkeypatch, below):
    cache.touch()
    monkeypatch.setenv(download.HOME_VARIABLE, str(cache / "inside" if below else cache))
    for url in (f"{server.base}/tiny.pth", f"file://{ROOT}/README.md"):
        with pytest.raises(WeightsDownloadError, match=f"cannot be used; .*{download.HOME_VARIABLE}") as caught:
            fetch(url)
        assert str(cache) in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
@pytest.mark.parametrize("limit", [1000, 5000], ids=["the download", "the converted file"])
def test_no_space_left(server, cache, limit):
    import resource

    state = {"big": np.ones(4000, np.float32)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(WeightsDownloadError, match=f"{download.HOME_VARIABLE} to another folder") as caught:
            fetch(f"{server.base}/tiny.pth", convert=lambda path: (state, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(cache) in str(caught.value)
    assert listing(cache) is None


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_cache_that_is_read_only(server, cache):
    cache.mkdir(mode=0o500)
    with pytest.raises(WeightsDownloadError, match=f"{download.HOME_VARIABLE} to another folder"):
        fetch(f"{server.base}/tiny.pth")


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


@pytest.mark.skipif(os.name != "posix", reason="elsewhere a day tells")
def test_what_a_process_left_goes_once_it_has_ended(server, cache):
    code = (
        "import sys, time\n"
        "from keras_video_focalnet.weights import download\n"
        "with download._temporary_folder(download.cache_dir()) as folder:\n"
        "    (folder / 'part').write_bytes(b'x')\n"
        "    print(folder.name, flush=True)\n"
        "    time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", ALONE + code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        folder = child.stdout.readline().strip()
        fetch(f"{server.base}/tiny.pth")
        assert (cache / folder / "part").exists()
    finally:
        child.kill()
        child.wait()
    fetch(f"{server.base}/tiny.pth", again=True)
    assert listing(cache) == CACHED


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="elsewhere a day tells")
def test_what_is_left_goes_although_its_process_number_is_another_ones(server, cache):
    with download._temporary_folder(cache) as folder:
        mine = folder.name
        number, began = re.search(r"-(\d+)-(\d+)-", mine).groups()
        other = cache / mine.replace(f"-{number}-{began}-", f"-{number}-{int(began) - 1}-")
        other.mkdir()
        fetch(f"{server.base}/tiny.pth")
        assert folder.is_dir() and not other.exists()
    assert listing(cache) == CACHED


# --- Two at once ---

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
        "import sys, keras_video_focalnet.weights.hub; unwanted = {'requests', 'rich', 'huggingface_hub'}; "
        "sys.exit(bool({*unwanted, 'keras', 'torch', 'tensorflow', 'jax'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", ALONE + code], cwd=ROOT).returncode == 0
