"""The page in headless Chromium: a clip is answered, what is no clip is refused, and nothing leaves the machine."""

import contextlib
import http.client
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from tests.app.processes import served, stop, temporary
from tests.clips import encode, real_clips
from tests.evaluation.chromium import find_chromium

# The page is the same on every backend, and its server runs in a process of its own.
pytestmark = pytest.mark.backend_free
for package in ("gradio", "matplotlib", "torch"):
    pytest.importorskip(package)
playwright = pytest.importorskip("playwright.sync_api")

_MILLISECONDS = 60_000
HOSTILE = "<img src=x onerror=document.title='hacked'>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("app")


@pytest.fixture(scope="module")
def server(folder):
    find_chromium()
    with served(folder, "--max-size", "20", "--max-seconds", "30") as (address, process):
        yield address, process


@pytest.fixture(scope="module")
def browser():
    options = {"executable_path": find_chromium(), "args": ["--no-sandbox", "--disable-dev-shm-usage"]}
    with playwright.sync_playwright() as driver, contextlib.closing(driver.chromium.launch(**options)) as started:
        yield started


@pytest.fixture
def page(server, browser):
    """The page in a tab of its own, with what it asked for in `asked`."""
    address, _ = server
    with contextlib.closing(browser.new_page(viewport={"width": 390, "height": 844})) as opened:
        opened.set_default_timeout(_MILLISECONDS)
        opened.asked = []
        opened.on("request", lambda request: opened.asked.append(request.url))
        opened.goto(address)
        opened.wait_for_selector("#ask")
        yield opened
        hosts = {urlsplit(url).netloc for url in opened.asked if urlsplit(url).scheme not in ("data", "blob")}
        assert hosts == {urlsplit(address).netloc}
        assert opened.title() != "hacked"


def upload(page, path):
    page.set_input_files("#video input[type=file]", path)


def answered(page, maps=True):
    """Asks, and gives the top class once the pictures are there."""
    page.click("#ask")
    page.wait_for_selector("#maps img" if maps else "#answer .output-class")
    return page.inner_text("#answer .output-class").strip()


def refusal(page, path, reason):
    """What the page says of a file, once it says why."""
    upload(page, path)
    page.locator(".toast-body.error", has_text=re.compile(reason)).wait_for()
    return page.inner_text(".toast-body.error")


def until(page, expression):
    """Waits until an expression of JavaScript holds; the page itself is not let evaluate texts."""
    end = time.monotonic() + _MILLISECONDS / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(100)


def choose(page, where, what):
    page.click(f"{where} input")
    page.get_by_role("option", name=re.compile(what)).first.click()


def test_a_clip_is_answered(page, folder):
    """The top class of a clip whose camera slides right at its end, the maps and the timeline."""
    upload(page, str(real_clips() / "bikes.mp4"))
    page.wait_for_selector("#video video")
    assert answered(page) == "tilt down"
    page.wait_for_selector("#timeline img")
    for name in ("#maps", "#timeline"):
        until(page, f"document.querySelector('{name} img').naturalWidth > 600")
        # A picture of many colours, no blank one.
        colours = page.evaluate(
            f"""async () => {{
                const image = document.querySelector('{name} img');
                const canvas = new OffscreenCanvas(64, 64);
                const context = canvas.getContext('2d');
                context.drawImage(image, 0, 0, 64, 64);
                const data = context.getImageData(0, 0, 64, 64).data;
                return new Set(Array.from({{length: 4096}}, (_, i) => data[4*i] + 256 * data[4*i+1])).size;
            }}"""
        )
        assert colours > 100
    assert "Answer of nano, camera_motion" in page.inner_text("#answer")
    before = page.get_attribute("#maps img", "src")
    page.get_by_role("button", name="What the model looks at").first.click()
    page.click("#shown label:nth-of-type(2)")
    until(page, f"![null, undefined, '{before}'].includes(document.querySelector('#maps img')?.src)")
    # No part of the page is wider than a phone.
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert any(name.endswith("bikes.mp4") for name in temporary(folder))


def test_a_page_that_is_closed_leaves_no_video(server, browser, folder):
    clip = folder / "left.mp4"
    encode(clip, np.full((5, 50, 66, 3), 90, np.uint8))

    def kept():
        return [name for name in temporary(folder) if name.endswith("left.mp4")]

    with contextlib.closing(browser.new_page()) as opened:
        opened.goto(server[0])
        opened.wait_for_selector("#ask")
        upload(opened, str(clip))
        opened.wait_for_selector("#video video")
        assert kept()
    end = time.monotonic() + _MILLISECONDS / 1000
    while kept():
        assert time.monotonic() < end, "the video is still there"
        time.sleep(0.1)


def test_what_is_no_clip_is_refused(page, folder):
    files = folder / "files"
    files.mkdir()
    (files / "text.mp4").write_text("This is no video.\n" * 100)
    (files / "empty.mp4").touch()
    with open(files / "large.mp4", "wb") as file:
        file.truncate(2 * 1024**3)
    for name, reason in (
        ("text.mp4", "text.mp4 is not a video"),
        ("empty.mp4", "empty.mp4 is empty, no video"),
        ("large.mp4", "maximum allowed size|more than the 20 MB"),
    ):
        told = refusal(page, str(files / name), reason)
        assert "Traceback" not in told and "/tmp" not in told and str(folder) not in told
        page.reload()
        page.wait_for_selector("#ask")
    assert not [name for name in temporary(folder) if not name.endswith((".png", "bikes.mp4"))]


def test_names_of_ones_own(page, folder):
    encode(folder / "one.mp4", np.full((1, 50, 66, 3), 200, np.uint8))
    assert not page.is_visible("#names textarea")
    choose(page, "#model", "small-vita-clip")
    page.wait_for_selector("#names textarea")
    upload(page, str(folder / "one.mp4"))
    page.wait_for_selector("#video video")
    page.click("#ask")
    page.wait_for_selector(".toast-body.error")
    assert "class names" in page.inner_text(".toast-body.error").lower()
    page.fill("#names textarea", f"{HOSTILE}, a cat\n{'long ' * 10}")
    assert answered(page) in (HOSTILE, "a cat", ("long " * 10).strip())
    text = page.inner_text("#answer")
    assert HOSTILE in text and "random weights" in text
    assert "says nothing" in page.inner_text(".toast-body.warning")


def multipart(data, field="files", end=b"\r\n--edge--\r\n"):
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="clip.mp4"\r\n\r\n'
    return head.encode() + data + end


def post(address, body, **headers):
    """Uploads past the page; gives the status and what was answered."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    with contextlib.closing(connection):
        type_ = {"Content-Type": "multipart/form-data; boundary=edge"}
        connection.request(
            "POST", "/gradio_api/upload", body, {**type_, **headers}, encode_chunked=not isinstance(body, bytes)
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_uploads_past_the_page_are_bounded(server, folder):
    address, _ = server
    stated = post(address, b"", **{"Content-Length": str(2 * 1024**3)})
    assert stated[0] == 413 and "more than the 20 MB" in stated[1]
    whole = multipart(bytes(21 * 2**20))
    unstated = post(address, iter([whole[:1000], whole[1000:]]), **{"Transfer-Encoding": "chunked"})
    assert unstated[0] == 400 and "more than the 20 MB" in unstated[1]
    for body in (
        multipart(b"x" * 1000, end=b""),
        multipart(b"x" * 1000, end=b"\r\n--edge--garbage"),
        multipart(b"x", "other"),
    ):
        post(address, body)
    # What came whole has a name and goes with the time; of the rest nothing is left.
    assert not [name for name in temporary(folder) if Path(name).name.startswith("tmp")]


def test_nothing_is_connected_to_and_nothing_stays(server, folder):
    """Of the server; it comes last, since it ends the server."""
    address, process = server
    assert post(address, multipart(b"x" * 1000))[0] == 200
    assert [name for name in temporary(folder) if name.endswith("clip.mp4")]
    assert stop(process) == 128 + 15
    noted = (folder / "connections.txt").read_text().splitlines()
    # The address that it listens at was looked up, so looking up is noted.
    assert noted and [line for line in noted if "127.0.0.1" not in line] == []
    assert temporary(folder) == []
