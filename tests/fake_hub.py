"""A stand-in for the Hugging Face hub: a few of its endpoints, on this machine."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class FakeHub:
    """What was sent to the hub: repositories with their visibility, and the files of commits.

    Attributes:
      refuses: a path's regular expression -> the status and message to answer with.
    """

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.tokens: set[str] = set()
        self.refuses: dict[str, tuple[int, str]] = {}
        self.endpoint = ""
        self._blobs: dict[str, bytes] = {}

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, object]:
        for pattern, (status, message) in self.refuses.items():
            if re.search(pattern, path):
                return status, {"error": message}
        if path == "/api/whoami-v2":
            return 200, {"type": "user", "name": "somebody", "orgs": [{"name": "team"}]}
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            if name in self.private:
                return 409, {"error": "You already created this model repo", "url": self._url(name)}
            self.private[name] = "private" in (
                asked.get("visibility"),
                asked.get("private") and "private",
            )
            return 200, {"url": self._url(name), "name": name}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if match := re.match(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            return 200, {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
            }
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {
                "transfer": "basic",
                "objects": [
                    {
                        **entry,
                        "actions": {"upload": {"href": f"{self.endpoint}/blob/{entry['oid']}"}},
                    }
                    for entry in json.loads(body)["objects"]
                ],
            }
        if method == "PUT" and path.startswith("/blob/"):
            self._blobs[path.rpartition("/")[2]] = body
            return 200, {}
        if match := re.match(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.files[entry["value"]["path"]] = content
                elif entry["key"] == "lfsFile":
                    self.files[entry["value"]["path"]] = self._blobs[entry["value"]["oid"]]
            return 200, {
                "success": True,
                "commitOid": "0" * 40,
                "commitUrl": f"{self._url(match[1])}/commit/{'0' * 40}",
            }
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/main)?", path)
        if match and match[1] in self.private:
            return 200, {"id": match[1], "private": self.private[match[1]], "sha": "0" * 40}
        return 404, {"error": f"the stand-in has no {method} {path}"}

    def _url(self, name: str) -> str:
        return f"{self.endpoint}/{name}"


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers at `endpoint` while the block runs."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(iter(self._chunk, b""))
            else:
                body = self.rfile.read(length)
            if token := self.headers.get("Authorization"):
                hub.tokens.add(token)
            status, content = hub.answer(self.command, self.path.partition("?")[0], body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            if status >= 400:
                self.send_header("X-Error-Message", content["error"])
            self.end_headers()
            self.wfile.write(text)

        def _chunk(self) -> bytes:
            data = self.rfile.read(int(self.rfile.readline(), 16))
            self.rfile.readline()
            return data

        do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815

        def log_message(self, *words: object) -> None:
            """Prints nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
