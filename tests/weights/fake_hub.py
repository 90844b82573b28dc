"""A model hub of this machine's own: what `huggingface_hub` asks for to save and to load a model."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

from keras_video_focalnet.weights.download import OFFLINE_VARIABLE


class FakeHub:
    """Serves repositories, and takes new commits.

    Attributes:
        base: The address to set `HF_ENDPOINT` to.
        asked: Method and path of every request.
        gated: Repositories whose files nobody may read.
    """

    def __init__(self):
        self.asked = []
        self.gated = set()
        self._commits = {}  # (repository, commit) -> {file name: content}
        self._branches = {}  # repository -> {branch or tag: commit}
        self._large = {}  # digest -> content of a large file before it is committed
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.asked.append(f"{self.command} {self.path}")
                length = int(self.headers.get("Content-Length") or 0)
                status, headers, content = hub._answer(self.command, self.path, self.rfile.read(length))
                self.send_response(status)
                for name, value in {"Content-Length": len(content), **headers}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()

    def publish(self, repository, files, revision="main"):
        """Commits files beside those that a repository has."""
        branches = self._branches.setdefault(repository, {})
        files = {**self._commits.get((repository, branches.get(revision)), {}), **files}
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self._commits[repository, commit] = files
        branches[revision] = commit
        return commit

    def files(self, repository, revision="main"):
        """Gives the content of every file by name."""
        return self._commits[repository, self._branches[repository].get(revision, revision)]

    def _answer(self, method, path, body):
        path = urlsplit(path).path
        for pattern, methods, answer in (
            ("/api/repos/create", "POST", self._create),
            ("/api/validate-yaml", "POST", lambda body: _json({})),
            ("/api/models/([^/]+/[^/]+)/preupload/(.+)", "POST", self._preupload),
            ("/api/models/([^/]+/[^/]+)/commit/(.+)", "POST", self._commit),
            ("/([^/]+/[^/]+).git/info/lfs/objects/batch", "POST", self._batch),
            ("/large/([0-9a-f]{64})", "PUT", self._store),
            ("/api/models/([^/]+/[^/]+)", "GET", self._describe),
            ("/api/models/([^/]+/[^/]+)/revision/(.+)", "GET", self._describe),
            ("/api/models/([^/]+/[^/]+)/tree/([^/]+)", "GET", self._list),
            ("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "GET HEAD", self._resolve),
        ):
            match = re.fullmatch(pattern, path)
            if match and method in methods.split():
                return answer(*map(unquote, match.groups()), body)
        return _error(404, "Unknown")

    def _create(self, body):
        request = json.loads(body)
        repository = f"{request['organization']}/{request['name']}"
        if repository not in self._branches:
            self.publish(repository, {".gitattributes": b"*.h5 filter=lfs\n"})
        return _json({"url": f"{self.base}/{repository}"})

    def _preupload(self, repository, revision, body):
        return _json(
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".h5") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        )

    def _batch(self, repository, body):
        return _json(
            {
                "transfer": "basic",
                "objects": [
                    {**entry, "actions": {"upload": {"href": f"{self.base}/large/{entry['oid']}"}}}
                    for entry in json.loads(body)["objects"]
                ],
            }
        )

    def _store(self, digest, body):
        assert hashlib.sha256(body).hexdigest() == digest
        self._large[digest] = body
        return _json({})

    def _commit(self, repository, revision, body):
        files = {}
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._large.pop(value["oid"])
        commit = self.publish(repository, files, revision)
        return _json({"commitUrl": f"{self.base}/{repository}/commit/{commit}", "commitOid": commit})

    def _found(self, repository, revision):
        """Gives the commit, and the answer where there is none."""
        if repository not in self._branches:
            return None, _error(401, "RepoNotFound")
        commit = self._branches[repository].get(revision, revision)
        return commit, None if (repository, commit) in self._commits else _error(404, "RevisionNotFound")

    def _describe(self, repository, *rest):
        commit, error = self._found(repository, rest[0] if len(rest) == 2 else "main")
        names = [] if error else self._commits[repository, commit]
        return error or _json({"id": repository, "sha": commit, "siblings": [{"rfilename": name} for name in names]})

    def _list(self, repository, revision, body):
        commit, error = self._found(repository, revision)
        files = {} if error else self._commits[repository, commit]
        return error or _json(
            [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
        )

    def _resolve(self, repository, revision, name, body):
        commit, error = self._found(repository, revision)
        if error:
            return error
        if repository in self.gated:
            return _error(403, "GatedRepo")
        content = self._commits[repository, commit].get(name)
        headers = {"X-Repo-Commit": commit}
        if content is None:
            status, more, content = _error(404, "EntryNotFound")
            return status, {**headers, **more}, content
        return 200, {**headers, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}, content


def use(hub, monkeypatch, cache):
    """Sets a hub and a cache; the library reads its settings once, so they are set in it."""
    monkeypatch.setattr(constants, "ENDPOINT", hub.base)
    template = hub.base + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv(OFFLINE_VARIABLE, raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


def _json(content):
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _error(status, code):
    return status, {"X-Error-Code": code, "X-Error-Message": code}, b""
