import json
from pathlib import Path

import numpy as np
import pytest

from keras_video_focalnet.weights import download
from keras_video_focalnet.weights.errors import WeightsDownloadError, WeightsFileError
from keras_video_focalnet.weights.safetensors_file import read_safetensors
from tests.weights.served import CACHED, digest, fetch, listing, plain, published

pytestmark = pytest.mark.backend_free

ROOT = Path(__file__).parents[2]


def test_downloads_once_and_then_reads_the_cache(server, cache):
    first = fetch(f"{server.base}/tiny.pth")
    assert listing(cache) == CACHED
    second = fetch(f"{server.base}/tiny.pth")
    assert server.asked == ["/tiny.pth"]
    for state in (first, second):
        assert set(state) == {"a.x", "a.h"}
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
