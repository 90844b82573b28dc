"""Stands before the page's server: only what the page itself asks for gets through, and uploads are bounded."""

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from keras_video_focalnet.app.messages import Refused

App = Callable[[Mapping, Callable, Callable], Awaitable[None]]

# What the page consists of and calls.
_ROUTES = {
    "GET": (
        r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?|/(assets|static|svelte)/.+|"
        r"/gradio_api/(info|startup-events|theme\.css|queue/data|queue/status|upload_progress|heartbeat/\w+|file=.+)/?"
    ),
    "HEAD": r"/|/gradio_api/file=.+",
    "POST": r"/gradio_api/(upload|queue/join|cancel|reset)/?",
}
_UPLOAD = "/gradio_api/upload"
_FILE = "/gradio_api/file="
# What stands in an upload beside the file.
_AROUND = 64 * 1024
_MOST_JSON = 256 * 1024
_AT_ONCE = 4
# The folder holds so many of the largest uploads, those included that are under way.
_MOST_UPLOADS = 10
# What a file counts at least: its folder and its name take room too.
_LEAST_BYTES = 64 * 1024
# A browser that sends nothing for so many seconds has gone, and an upload takes so many in all.
_SILENCE, _WHOLE_UPLOAD = 30, 1800
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def allowed_hosts(host: str) -> Collection[str] | None:
    """The names that a browser may call a server by that listens at an address; None for any address in numbers.

    Example:
        >>> sorted(allowed_hosts("127.0.0.1"))
        ['127.0.0.1', '::1', 'localhost']
        >>> allowed_hosts("0.0.0.0") is None
        True
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return {host.lower()} | ({"127.0.0.1", "::1"} if host.lower() == "localhost" else set())
    if address.is_unspecified:
        return None
    return {host, "127.0.0.1", "::1", "localhost"} if address.is_loopback else {host}


class Guard:
    """Passes requests of the page on to a server, and refuses all others.

    - A page of another site must not reach the server, whatever name it gives it: `Host` is one of those allowed, and
      `Origin`, where it stands, is the same.
    - Of the server only the routes are open that the page needs.
    - An upload ends where it is too large, or the browser goes; either way nothing is left of it.
    - Files that a browser names are those that were uploaded, by their paths in the folder; no address is fetched.
    - What is sent tells the browser to ask no other host for anything.

    Args:
        app: The server, an ASGI application.
        folder: Where uploads are kept; the only folder that files are sent from.
        size: Bytes that an upload may have.
        hosts: What `allowed_hosts` gave.
    """

    def __init__(self, app: App, folder: str | os.PathLike, size: int, hosts: Collection[str] | None):
        self._app, self._folder, self._size, self._hosts = app, Path(folder).resolve(), size, hosts
        self._own_name = socket.gethostname().lower()
        self._uploads = 0

    async def __call__(self, scope: Mapping, receive: Callable, send: Callable) -> None:
        """Handle a request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # No websocket is opened.
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        # What a proxy would add, which there is none of.
        passed = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(b"x-forwarded")]
        scope = {**scope, "headers": passed}
        try:
            self._check_origin(headers)
            self._check_route(scope)
            await self._pass_on(scope, headers, receive, _with_headers(send))
        except _Answer as answer:
            await answer.send(send)

    def _check_origin(self, headers):
        host = headers.get("host", "")
        name = _name_of(host)
        if self._hosts is None:
            known = _is_address(name) or name in ("localhost", self._own_name)
        else:
            known = name in self._hosts
        if not known:
            raise _Answer(403, f"This page is not called {name!r}; open the address that its command printed.")
        origin = headers.get("origin")
        same = origin is None or (urlsplit(origin).netloc == host and origin.startswith("http"))
        if not same or headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            navigates = origin is None and headers.get("sec-fetch-mode") == "navigate"
            if not navigates:
                raise _Answer(403, "Another page asked for this; open the address that the command printed.")

    def _check_route(self, scope):
        routes = _ROUTES.get(scope["method"], "")
        if not re.fullmatch(routes, scope["path"]):
            raise _Answer(404, "There is nothing here.")
        if scope["path"].startswith(_FILE):
            path = scope["path"][len(_FILE) :]
            if not (self._is_inside(path) and self._is_inside(unquote(path))):
                raise _Answer(403, "This file is not the page's.")

    def _is_inside(self, path):
        """Whether a path is that of a file in the folder, or would be."""
        try:
            found = Path(path).resolve()
        except (OSError, ValueError, RuntimeError):
            return False
        return os.path.isabs(path) and found != self._folder and found.is_relative_to(self._folder)

    async def _pass_on(self, scope, headers, receive, send):
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
        elif scope["path"].rstrip("/") == _UPLOAD:
            await self._upload(scope, headers, receive, send)
        else:
            body = await _whole_body(receive, _MOST_JSON)
            self._check_files(body)
            await self._app(scope, _Again(body, receive), send)

    async def _upload(self, scope, headers, receive, send):
        from starlette.formparsers import MultiPartException

        told = f"The file has more than the {self._size / 2**20:g} MB that this page takes; choose a smaller one."
        stated = headers.get("content-length", "")
        if stated.isdecimal() and int(stated) > self._size + _AROUND:
            raise _Answer(413, told)
        held = await asyncio.to_thread(self._held)
        if self._uploads >= _AT_ONCE or held + (self._uploads + 1) * self._size > _MOST_UPLOADS * self._size:
            raise _Answer(503, "There are many uploads already; try again in some minutes.")
        count, end = 0, asyncio.get_running_loop().time() + _WHOLE_UPLOAD

        async def bounded():
            """The reader of uploads removes what it wrote where this error comes."""
            nonlocal count
            try:
                left = end - asyncio.get_running_loop().time()
                message = await asyncio.wait_for(receive(), min(_SILENCE, left))
            except TimeoutError:
                raise MultiPartException("The upload stood still; try again.") from None
            if message["type"] != "http.request":
                raise MultiPartException("The upload was broken off.")
            count += len(message.get("body", b""))
            if count > self._size + _AROUND:
                raise MultiPartException(told)
            return message

        self._uploads += 1
        try:
            await self._app(scope, bounded, send)
        finally:
            self._uploads -= 1
            if not self._uploads:
                self._remove_unnamed()

    def _remove_unnamed(self):
        """Remove what uploads left that did not end as a file with a name, which lies in a folder of its own."""
        with contextlib.suppress(OSError), os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith("tmp") and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)

    def _held(self):
        """Bytes in the folder, of each file some at least."""
        total, least = 0, min(_LEAST_BYTES, self._size // 100)
        for folder, _, files in os.walk(self._folder):
            for name in files:
                try:
                    total += max(os.lstat(os.path.join(folder, name)).st_size, least)
                except OSError:
                    continue
        return total

    def _check_files(self, body):
        """Refuse files that are not in the folder, and addresses."""
        try:
            data = json.loads(body or b"{}")
        except (ValueError, RecursionError):
            raise _Answer(400, "This is no JSON.") from None
        for found in _dicts(data):
            if "path" in found and not (isinstance(found["path"], str) and self._is_inside(found["path"])):
                raise _Answer(403, "This file is not the page's.")
            if "path" in found and not os.path.isfile(found["path"]):
                raise _Answer(410, "The video is not here any more: videos are kept for a while only. Drop it again.")


class _Answer(Refused):
    """A refusal, with its status."""

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self._status, self._text = status, text

    async def send(self, send: Callable) -> None:
        """Send it as JSON, of which the page shows the text."""
        body = json.dumps({"detail": self._text, "error": self._text}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": self._status, "headers": [*headers, *_HEADERS]})
        await send({"type": "http.response.body", "body": body})


class _Again:
    """Gives a body that was read already, then what comes after it."""

    def __init__(self, body: bytes, receive: Callable):
        self._body, self._receive = body, receive

    async def __call__(self) -> Mapping[str, Any]:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


async def _whole_body(receive, most):
    body = bytearray()
    while True:
        try:
            message = await asyncio.wait_for(receive(), _SILENCE)
        except TimeoutError:
            raise _Answer(408, "The request stood still; try again.") from None
        if message["type"] != "http.request":
            raise _Answer(400, "The request was broken off.")
        body += message.get("body", b"")
        if len(body) > most:
            raise _Answer(413, "This is more than the page asks; write less.")
        if not message.get("more_body"):
            return bytes(body)


def _with_headers(send):
    async def sending(message):
        if message["type"] == "http.response.start":
            own = {name for name, _ in _HEADERS}
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in own]
            message = {**message, "headers": [*kept, *_HEADERS]}
        await send(message)

    return sending


def _dicts(data):
    """All dicts in parsed JSON."""
    waiting = [data]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
        waiting.extend(found.values() if isinstance(found, dict) else found if isinstance(found, list) else ())


def _name_of(host):
    """The name in a `Host` header, without the port."""
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([^:\[\]]+)(?::\d+)?", host)
    return (match[1] or match[2]).lower().rstrip(".") if match else ""


def _is_address(name):
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
