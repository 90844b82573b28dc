"""The page's server as it is, behind its guard: what its page names, and what becomes of uploads."""

import json
import re

import pytest

from keras_video_focalnet.app import serve
from keras_video_focalnet.app.guard import allowed_hosts
from tests.app.test_guard import HOST, ask

pytest.importorskip("gradio")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """The application and its folder; no network is needed to show the page."""
    from keras_video_focalnet.app.answers import Answers, Limits
    from keras_video_focalnet.app.networks import Networks, Started
    from keras_video_focalnet.app.page import Page
    from keras_video_focalnet.app.uploads import Uploads

    # The folder of temporary files is the page's own for a while, and those of tests stay where they are.
    tmp_path_factory.getbasetemp()
    limits, networks = Limits(megabytes=1), Networks(Started("nano", "camera_motion", None), str.split)
    with serve.private_folder() as folder:
        page = lambda files: Page(networks, Answers(limits), Uploads(files))  # noqa: E731
        yield serve.application(page, folder, limits, allowed_hosts("127.0.0.1")), folder / "files"


def body_of(application, path):
    status, _, body = ask(application, "GET", path, HOST, ("accept-encoding", "identity"))
    assert status == 200, path
    return body.decode()


def upload(application, *parts, disconnects=False):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="../../a <b>.mp4"\r\n\r\n'
    parts = (head, *parts, b"\r\n--x--\r\n")
    kind = ("content-type", "multipart/form-data; boundary=x")
    return ask(application, "POST", "/gradio_api/upload", HOST, kind, parts=parts, disconnects=disconnects)


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_page_names_no_other_host(application):
    page = body_of(application[0], "/")
    assert "What happens in this video?" in page
    assert re.findall(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//[^"'\s>]+""", page) == []
    assert "fonts.googleapis" not in page and not re.search(
        r"@import|url\(['\"]?http", body_of(application[0], "/theme.css")
    )
    config = json.loads(body_of(application[0], "/config"))
    assert config["analytics_enabled"] is False and config["footer_links"] == [] and config["max_file_size"] == 2**20
    assert "public" not in {item["api_visibility"] for item in config["dependencies"]}


def test_an_upload_that_is_too_large_or_broken_off_leaves_nothing(application):
    server, folder = application
    status, _, body = upload(server, *[b"x" * 2**18] * 5)
    assert status in (400, 413) and (b"maximum allowed size" in body or b"choose a smaller" in body)
    assert files(folder) == []
    upload(server, b"x" * 2**18, disconnects=True)
    assert files(folder) == []


def test_an_upload_lies_in_the_folder_under_its_own_name(application):
    server, folder = application
    status, _, body = upload(server, b"x" * 1000)
    (path,) = json.loads(body)
    assert status == 200 and [str(found) for found in files(folder)] == [path]
    assert path.endswith(".mp4") and "<" not in path
    assert body_of(server, f"/gradio_api/file={path}") == "x" * 1000
