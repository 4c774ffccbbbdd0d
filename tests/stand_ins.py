"""Local servers that answer as the Hugging Face hub and Google Cloud Storage do, for reading."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

COMMIT = "a" * 40


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler: type, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self.root = root
        self.asked: list[str] = []
        self.busy = 0  # so many answers will be "try again later"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *arguments: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self._do()

    def do_GET(self) -> None:
        self._do()

    def _do(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.server.asked.append(f"{self.command} {path}")
        if self.server.busy:
            self.server.busy -= 1
            self.reply(b"busy", status=503)
        else:
            self.answer(path)

    def answer(self, path: str) -> None:
        raise NotImplementedError

    def reply(self, data: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class _Hub(_Handler):
    """One repository, `owner/tiny`, at one commit: the files of `root`."""

    def answer(self, path: str) -> None:
        files = sorted(file.name for file in self.server.root.iterdir())
        if path.startswith("/api/models/owner/tiny/revision/"):
            about = {
                "id": "owner/tiny",
                "sha": COMMIT,
                "siblings": [{"rfilename": f} for f in files],
            }
            self.reply(json.dumps(about).encode(), Content_Type="application/json")
        elif path.startswith("/api/models/owner/tiny/tree/"):
            listing = [
                {
                    "type": "file",
                    "path": f,
                    "oid": "0",
                    "size": (self.server.root / f).stat().st_size,
                }
                for f in files
            ]
            self.reply(json.dumps(listing).encode(), Content_Type="application/json")
        elif path.startswith("/owner/tiny/resolve/") and path.rpartition("/")[2] in files:
            data = (self.server.root / path.rpartition("/")[2]).read_bytes()
            tag = hashlib.sha256(data).hexdigest()
            self.reply(data, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
        else:
            self.reply(b"", status=404, X_Error_Code="RepoNotFound")


class _Bucket(_Handler):
    """Objects of any bucket: the files under `root`/<bucket>."""

    def answer(self, path: str) -> None:
        # /storage/v1/b/BUCKET/o/OBJECT?alt=media, or .../BUCKET/o?prefix=PREFIX for a list
        _, _, _, _, bucket, _, *rest = path.split("/", 6)
        if not rest:
            self.list(self.server.root / bucket)
            return
        (name,) = rest
        file = self.server.root / bucket / name
        if not file.is_file():
            self.reply(b"{}", status=404)
            return
        data, status = file.read_bytes(), 200
        headers = {"X_Goog_Generation": "1", "ETag": '"1"'}
        if span := self.headers.get("Range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            end = int(last) + 1 if last else len(data)
            headers["Content_Range"] = f"bytes {first}-{end - 1}/{len(data)}"
            data, status = data[int(first) : end], 206
        self.reply(data, status=status, **headers)

    def list(self, bucket: Path) -> None:
        """The names of all objects that begin with the prefix that is asked for, in order."""
        asked = urllib.parse.parse_qs(self.path.partition("?")[2])
        start = asked.get("prefix", asked.get("startOffset", [""]))[0]
        end = asked.get("endOffset", ["\U0010ffff"])[0]
        names = sorted(str(p.relative_to(bucket)) for p in bucket.rglob("*") if p.is_file())
        found = [{"name": name, "size": "1"} for name in names if start <= name < end]
        self.reply(json.dumps({"items": found}).encode(), Content_Type="application/json")


@contextlib.contextmanager
def _serving(handler: type, root: Path) -> Iterator[_Server]:
    server = _Server(handler, root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def hub(root: Path) -> contextlib.AbstractContextManager[_Server]:
    """The hub, with the files of `root` as the repository `owner/tiny`; for HF_ENDPOINT."""
    return _serving(_Hub, root)


def buckets(root: Path) -> contextlib.AbstractContextManager[_Server]:
    """Cloud storage, with a folder a bucket in `root`; for TENSORSTORE_GCS_HTTP_URL."""
    return _serving(_Bucket, root)
