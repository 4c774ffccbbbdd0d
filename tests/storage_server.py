"""A storage server on loopback that Google's real clients talk to.

It is the package `gcp-storage-emulator`, completed by what its version 2026.7 lacks: it ignores
preconditions on generations, answers no two requests at once, and does not tell the generation of
what it sends. `tests/storage/test_storage_server.py` tests that.
"""

from __future__ import annotations

import functools
import http.server
import threading
import urllib.parse
from typing import Any

import pytest

pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
from gcp_storage_emulator import server as emulator  # after the skip
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import buckets
from gcp_storage_emulator.storage import Storage

BUCKET = "runs"
_CONDITIONS = {
    "ifGenerationMatch": lambda wanted, now: wanted == now,
    "ifGenerationNotMatch": lambda wanted, now: wanted != now,
}


class _Objects(Storage):
    """The objects in memory, and in which order they were written and deleted."""

    def __init__(self) -> None:
        super().__init__(use_memory_fs=True)
        self.written: list[tuple[str, str]] = []

    def create_file(
        self, bucket: str, name: str, content: bytes, about: Any, upload: Any = None
    ) -> None:
        super().create_file(bucket, name, content, about, upload)
        self.written.append(("write", name))

    def delete_file(self, bucket: str, name: str) -> None:
        super().delete_file(bucket, name)
        self.written.append(("delete", name))


class _Handler(emulator.RequestHandler):
    generation: str | None = None

    def answer(self, method: str) -> None:
        parts = urllib.parse.urlsplit(self.path)
        query = {name: values[0] for name, values in urllib.parse.parse_qs(parts.query).items()}
        name = query.get("name") or urllib.parse.unquote(parts.path.partition("/o/")[2])
        with self.server.one_at_a_time:
            now = self.server.generation(name)
            refused = [
                key for key in _CONDITIONS if key in query and not self._holds(key, query, now)
            ]
            if not refused:
                self.generation = now if method == "GET" else None
                emulator.Router(self).handle(method)
                return
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(304 if method == "GET" else 412)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _holds(self, key: str, query: dict[str, str], now: str) -> bool:
        return _CONDITIONS[key](query[key], now)

    def send_response(self, code: int, message: str | None = None) -> None:
        super().send_response(code, message)
        if self.generation and self.generation != "0":
            self.send_header("x-goog-generation", self.generation)

    do_GET = functools.partialmethod(answer, "GET")  # noqa: N815  # http.server's names
    do_POST = functools.partialmethod(answer, "POST")  # noqa: N815
    do_PUT = functools.partialmethod(answer, "PUT")  # noqa: N815
    do_DELETE = functools.partialmethod(answer, "DELETE")  # noqa: N815
    do_PATCH = functools.partialmethod(answer, "PATCH")  # noqa: N815


class StorageServer(http.server.ThreadingHTTPServer):
    """The server of one empty bucket, `BUCKET`, in memory."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        self.one_at_a_time = threading.RLock()
        self.objects = _Objects()
        buckets.create_bucket(BUCKET, self.objects)
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, self.objects))
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, address: Any) -> None:
        """Says nothing of clients that were killed."""

    @property
    def written(self) -> list[tuple[str, str]]:
        """("write" or "delete", name) of each object, in order."""
        return self.objects.written

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def environment(self) -> dict[str, str]:
        """By which the clients find this server."""
        return {
            "STORAGE_EMULATOR_HOST": self.url,  # gcsfs and google-cloud-storage
            "TENSORSTORE_GCS_HTTP_URL": self.url,
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # it asks Google alone
            "EPATH_USE_TF": "false",
        }

    def generation(self, name: str) -> str:
        """Of an object; "0" if there is none."""
        try:
            return str(self.objects.get_file_obj(BUCKET, name)["generation"])
        except NotFound:
            return "0"

    def names(self) -> list[str]:
        """Of all objects."""
        return sorted(self.objects.objects.get(BUCKET, {}))

    def contents(self, name: str) -> bytes:
        return bytes(self.objects.get_file(BUCKET, name))

    def put(self, name: str, contents: bytes) -> None:
        """Replaces an object's contents behind everybody's back."""
        about = self.objects.get_file_obj(BUCKET, name)
        changed = {
            **about,
            "generation": str(int(about["generation"]) + 1),
            "size": str(len(contents)),
        }
        self.objects.create_file(BUCKET, name, contents, changed)

    def drop(self, name: str) -> None:
        self.objects.delete_file(BUCKET, name)
