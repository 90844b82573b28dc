"""What the guard lets through to the page's server, and what becomes of uploads."""

import asyncio
import json

import pytest

from keras_video_focalnet.app import guard as guard_module
from keras_video_focalnet.app.guard import Guard, allowed_hosts

pytestmark = pytest.mark.backend_free
pytest.importorskip("gradio")

HOST = ("host", "127.0.0.1:7860")


class Server:
    """Stands in for Gradio: notes what reaches it, and reads bodies to their end."""

    def __init__(self):
        self.reached, self.bodies = [], []

    async def __call__(self, scope, receive, send):
        from starlette.formparsers import MultiPartException

        self.reached.append((scope["method"], scope["path"], dict(scope["headers"])))
        status, body = 200, b""
        try:
            while scope["method"] == "POST":
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
        except MultiPartException as error:
            status, body = 400, error.message.encode()
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-frame-options", b"none")]})
        await send({"type": "http.response.body", "body": body})


def ask(guard, method, path, *headers, parts=(b"",), disconnects=False, stalls=False):
    """The status, the headers and the body that a request is answered with."""
    sent = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": disconnects or stalls or place < len(parts) - 1}
        for place, part in enumerate(parts)
    ]

    async def receive():
        if not waiting and not disconnects:
            # The browser stays until it is answered.
            await asyncio.Event().wait()
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or (HOST,))]
    scope = {"type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": path, "headers": raw}
    scope |= {
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("127.0.0.1", 1),
        "server": None,
    }
    asyncio.run(guard(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "files" / "a").mkdir(parents=True)
    (tmp_path / "files" / "a" / "clip.mp4").write_bytes(b"x" * 100)
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path / "files"


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def guard(server, folder):
    return Guard(server, folder, 1000, allowed_hosts("127.0.0.1"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([HOST], 200),
        ([("host", "localhost:7860")], 200),
        ([("host", "LOCALHOST.")], 200),
        ([("host", "[::1]:7860")], 200),
        ([], 403),
        ([("host", "evil.example")], 403),
        ([("host", "127.0.0.1.evil.example:7860")], 403),
        ([("host", "10.0.0.7:7860")], 403),
        ([("host", "evil.example@127.0.0.1")], 403),
        ([HOST, ("origin", "http://127.0.0.1:7860")], 200),
        ([HOST, ("origin", "http://127.0.0.1:9999")], 403),
        ([HOST, ("origin", "https://evil.example")], 403),
        ([HOST, ("origin", "null")], 403),
        ([HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], 403),
        ([HOST, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], 200),
        ([HOST, ("sec-fetch-site", "same-origin")], 200),
    ],
)
def test_only_the_pages_own_names_are_answered(guard, server, headers, status):
    assert ask(guard, "GET", "/", *(headers or [("x", "y")]))[0] == status
    assert len(server.reached) == (status == 200)


def test_every_address_in_numbers_where_all_are_listened_at(server, folder):
    guard = Guard(server, folder, 1000, allowed_hosts("0.0.0.0"))
    assert [ask(guard, "GET", "/", ("host", host))[0] for host in ("192.168.1.7:80", "[fe80::1]", "localhost")] == [
        200
    ] * 3
    assert ask(guard, "GET", "/", ("host", "evil.example"))[0] == 403
    assert allowed_hosts("pc.home") == {"pc.home"} and allowed_hosts("10.0.0.7") == {"10.0.0.7"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/run/predict"),
        ("GET", "/gradio_api/proxy=https://example.org"),
        ("GET", "/gradio_api/vibe-code"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/monitoring"),
        ("GET", "/gradio_api/file/clip.mp4"),
        ("PUT", "/"),
        ("DELETE", "/gradio_api/upload"),
    ],
)
def test_what_the_page_needs_not_is_not_there(guard, server, method, path):
    assert ask(guard, method, path)[0] == 404 and not server.reached


def test_files_of_the_folder_alone_are_sent(guard, server, folder):
    assert ask(guard, "GET", f"/gradio_api/file={folder}/a/clip.mp4")[0] == 200
    outside = folder.parent / "secret.txt"
    (folder / "link.txt").symlink_to(outside)
    for path in (
        outside,
        f"{folder}/../secret.txt",
        f"{folder}/%2e%2e/secret.txt",
        f"{folder}/link.txt",
        "/etc/passwd",
    ):
        assert ask(guard, "GET", f"/gradio_api/file={path}")[0] == 403, path
    for path in ("a/clip.mp4", "http://example.org/a.mp4", "", "\0"):
        assert ask(guard, "GET", f"/gradio_api/file={path}")[0] in (403, 404), path
    assert len(server.reached) == 1


def test_the_browser_is_told_to_ask_no_other_host(guard):
    for path in ("/", "/nothing"):
        _, headers, _ = ask(guard, "GET", path)
        policy = headers[b"content-security-policy"].decode()
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "http" not in policy and "*" not in policy
        assert headers[b"x-frame-options"] == b"DENY"


def test_what_a_proxy_would_say_is_not_passed_on(guard, server):
    ask(guard, "GET", "/", HOST, ("X-Forwarded-Host", "evil.example"), ("x-other", "1"))
    assert server.reached[0][2] == {b"host": b"127.0.0.1:7860", b"x-other": b"1"}


def test_the_browser_names_uploaded_files_alone(guard, server, folder):
    def status(data):
        return ask(guard, "POST", "/gradio_api/queue/join", parts=(json.dumps(data).encode(),))[0]

    mine = {"path": str(folder / "a" / "clip.mp4"), "meta": {"_type": "gradio.FileData"}}
    assert status({"data": [mine, "nano"], "fn_index": 1}) == 200
    assert json.loads(server.bodies[0])["fn_index"] == 1
    for path in ("/etc/passwd", str(folder.parent / "secret.txt"), "https://example.org/a.mp4", 7, None, ["/etc"]):
        assert status({"data": [{"video": [mine | {"path": path}]}]}) == 403, path
    gone = ask(guard, "POST", "/gradio_api/queue/join", parts=(json.dumps(mine | {"path": f"{folder}/b"}).encode(),))
    assert gone[0] == 410 and "Drop it again" in json.loads(gone[2])["detail"]
    assert len(server.reached) == 1


def test_other_requests_are_small_json(guard, server):
    assert ask(guard, "POST", "/gradio_api/queue/join", parts=(b"{" * 100_000,))[0] == 400
    assert ask(guard, "POST", "/gradio_api/queue/join", parts=(b" " * 200_000,) * 2)[0] == 413
    assert ask(guard, "POST", "/gradio_api/queue/join", parts=(b"{",), disconnects=True)[0] == 400
    assert not server.reached


def test_an_upload_that_says_that_it_is_large_is_not_read(guard, server):
    status, _, body = ask(guard, "POST", "/gradio_api/upload", HOST, ("content-length", str(2 * 1024**3)))
    assert status == 413 and "choose a smaller one" in json.loads(body)["detail"]
    assert not server.reached


def test_an_upload_ends_where_it_is_too_large_or_breaks_off(guard, server):
    status, _, body = ask(guard, "POST", "/gradio_api/upload", parts=(b"x" * 60_000,) * 3)
    assert status == 400 and b"choose a smaller one" in body
    status, _, body = ask(guard, "POST", "/gradio_api/upload", parts=(b"x",), disconnects=True)
    assert status == 400 and b"broken off" in body
    assert ask(guard, "POST", "/gradio_api/upload", parts=(b"x", b"y"))[2] == b"xy"


def test_a_folder_of_many_uploads_takes_no_more(guard, folder):
    (folder / "a" / "more").write_bytes(b"x" * 9000)
    status, _, body = ask(guard, "POST", "/gradio_api/upload")
    assert status == 503 and "try again" in json.loads(body)["detail"]


def test_files_without_bytes_take_room_too(guard, folder):
    for number in range(1000):
        (folder / f"{number}").touch()
    assert ask(guard, "POST", "/gradio_api/upload")[0] == 503


@pytest.mark.parametrize("path,status", [("/gradio_api/upload", 400), ("/gradio_api/queue/join", 408)])
def test_a_browser_that_sends_nothing_more_is_given_up(guard, monkeypatch, path, status):
    monkeypatch.setattr(guard_module, "_SILENCE", 0.01)
    answer = ask(guard, "POST", path, parts=(b"x",), stalls=True)
    assert answer[0] == status and b"stood still" in answer[2]
    assert ask(guard, "POST", "/gradio_api/upload")[0] == 200


def test_what_an_upload_leaves_without_a_name_is_removed(folder):
    async def leaving(scope, receive, send):
        (folder / "tmpabc").write_bytes(b"x")
        (folder / "b").mkdir()
        (folder / "b" / "tmp.mp4").write_bytes(b"x")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"[]"})

    assert ask(Guard(leaving, folder, 1000, allowed_hosts("127.0.0.1")), "POST", "/gradio_api/upload")[0] == 200
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["clip.mp4", "tmp.mp4"]
