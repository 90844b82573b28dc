"""A page in headless Chromium, by its debugging protocol over two pipes, with nothing but the standard library."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 120


def find_chromium():
    """The path of a Chromium; skips the test where none is installed, and fails it where `make verify` needs one."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        end = pytest.fail if os.environ.get("CHROMIUM_IS_NEEDED") else pytest.skip
        end(f"no Chromium is installed (looked for {', '.join(NAMES)}; Debian: apt-get install chromium)")
    return found


class Page:
    """A file that is open in Chromium, for use in a `with` statement.

    Attributes:
        requests: Addresses of all that the page asked for, of any kind, with its own.
        messages: What the console and dialogues said.
    """

    def __init__(self, path, width=390, height=844):
        self.requests, self.messages = [], []
        self._folder = tempfile.TemporaryDirectory()
        read, their_write = os.pipe()
        their_read, write = os.pipe()
        # The protocol is spoken on the descriptors 3 and 4.
        command = f'exec "$@" 3<&{their_read} 4>&{their_write}'
        arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        arguments += ["--disable-dev-shm-usage", f"--user-data-dir={self._folder.name}", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", find_chromium(), *arguments],
            pass_fds=(their_read, their_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_read)
        os.close(their_write)
        self._read, self._write, self._buffer, self._number, self._session = read, write, b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + _SECONDS
        while self.run("document.readyState") != "complete" or "report" not in self.run("location.href"):
            assert time.monotonic() < end, "the page was not loaded"
            time.sleep(0.1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()

    def run(self, code):
        """The value of an expression of JavaScript."""
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def call(self, method, **params):
        """Call a method of the protocol and note what happens meanwhile."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer.get("method"), answer.get("params", {}))

    def _note(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method in ("Page.javascriptDialogOpening", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.messages.append(params)
        elif method == "Log.entryAdded":
            self.messages.append(params["entry"])

    def _next(self):
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], _SECONDS)
            data = os.read(self._read, 1 << 16) if ready else b""
            if not data:
                raise RuntimeError("Chromium does not answer")
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
