"""A storage server for the tests of this folder."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture
def server(monkeypatch) -> Iterator[Any]:
    """A `storage_server.StorageServer`, to which this process and those it starts are pointed."""
    pytest.importorskip("gcp_storage_emulator", reason="gcp-storage-emulator is not installed")
    pytest.importorskip("gcsfs", reason="gcsfs is not installed (extra `gcs`)")
    from storage_server import StorageServer

    with StorageServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
        server.shutdown()
