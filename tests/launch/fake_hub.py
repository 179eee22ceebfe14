"""As much of the Hugging Face Hub as pushing and reading a network need, on this machine: git over HTTP, large files.

with fake_hub() as hub: ...     # HF_ENDPOINT=hub.url; hub.repositories["owner/name"].files
"""

import base64
import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["FakeHub", "Repository", "fake_hub"]

TOKENS = {"hf_writes": "write", "hf_reads": "read"}


@dataclass
class Repository:
    private: bool = False
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr((len(self.messages), sorted(self.files.items()))).encode()).hexdigest()


class FakeHub(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.stored: dict[str, bytes] = {}
        self.received: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, value: Any, status: int = 200, **headers: str) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, message: str, **headers: str) -> None:
        self._answer({"error": message}, status, X_Error_Message=message, **headers)

    @property
    def _right(self) -> str | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.received.append(body)
        return body

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/whoami-v2":
            if self._right is None:
                return self._refuse(401, "Invalid username or password.")
            return self._answer({"name": "owner", "type": "user", "auth": {}})
        parts = path.strip("/").split("/")
        if path.startswith("/api/models/"):
            name, repository = self._find("/".join(parts[2:4]))
            if repository is None:
                return None
            siblings = [{"rfilename": file} for file in repository.files]
            facts = {"id": name, "sha": repository.commit, "private": repository.private, "siblings": siblings}
            if "tree" in parts:
                entries = [
                    {"type": "file", "path": file, "size": len(data), "oid": _oid(data)}
                    for file, data in repository.files.items()
                ]
                return self._answer(entries)
            return self._answer(facts)
        _, repository = self._find("/".join(parts[:2]))
        if repository is None:
            return None
        data = repository.files.get("/".join(parts[4:]))
        if data is None:
            return self._refuse(404, "Entry not found", X_Error_Code="EntryNotFound")
        return self._answer(data, ETag=f'"{_oid(data)}"', X_Repo_Commit=repository.commit)

    def _find(self, name: str) -> tuple[str, Repository | None]:
        repository = self.server.repositories.get(name)
        if repository is None or (repository.private and self._right is None):
            self._refuse(404, "Repository not found", X_Error_Code="RepoNotFound")
            return name, None
        return name, repository

    def do_PUT(self) -> None:
        data = self._body()
        self.server.stored[hashlib.sha256(data).hexdigest()] = data
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        path = self.path.partition("?")[0]
        if path == "/api/validate-yaml":
            unknown = b"made-up-1.0" in body
            errors = [{"message": '"license" must be one of [apache-2.0, mit, other]'}] if unknown else []
            return self._answer({"errors": errors, "warnings": []}, 400 if unknown else 200)
        if self._right != "write":
            return self._refuse(403, "You don't have the rights to do that")
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if asked["organization"] != "owner":
                return self._refuse(403, f"You don't have the rights to create a model under {name}")
            private = asked.get("private") or asked.get("visibility") == "private"
            self.server.repositories[name] = Repository(bool(private), {".gitattributes": b"*.safetensors lfs\n"})
            return self._answer({"url": f"{self.server.url}/{name}"})
        if path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": objects})
        parts = path.strip("/").split("/")
        name, repository = self._find("/".join(parts[2:4]))
        if repository is None:
            return None
        if parts[4] == "preupload":
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(("safetensors", "onnx")) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        assert parts[4] == "commit"
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.messages.append(value["summary"])
            elif line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.stored[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del repository.files[value["path"]]
        address = f"{self.server.url}/{name}/commit/{repository.commit}"
        return self._answer({"success": True, "commitOid": repository.commit, "commitUrl": address})


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
