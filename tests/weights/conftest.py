import pytest

from keras_video_focalnet.weights import download
from tests.weights.served import Server, published


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of the test's own, and no proxy before the local server."""
    for name in (download.BASE_URL_VARIABLE, download.OFFLINE_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(download.HOME_VARIABLE, str(tmp_path / "cache"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    with Server() as server:
        server.files["tiny.pth"] = published(tmp_path, 1)
        yield server
