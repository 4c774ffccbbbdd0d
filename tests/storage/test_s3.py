"""The lease and the objects of a run on a server that speaks S3."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sycophancy.storage.bucket import Bucket
from sycophancy.storage.lease import KvStore

pytestmark = pytest.mark.extras
ADDRESS = "s3://runs/xl"


@pytest.fixture
def bucket(monkeypatch):
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed (extra `s3`)")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "y",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    made = Bucket(ADDRESS)
    with contextlib.suppress(FileExistsError):  # the objects of all its servers are the same
        made._files.mkdir("runs")
    yield made
    server.stop()


def test_objects_are_listed_copied_and_removed(bucket, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_text("first")
    bucket.upload(["a/b"], tmp_path)
    before = bucket.versions()
    assert list(before) == ["a/b"]
    (tmp_path / "a/b").write_text("other")
    bucket.upload(["a/b"], tmp_path)
    assert bucket.versions() != before
    missing: list[str] = []
    bucket.download(["a/b", "gone"], tmp_path / "copy", missing.append)
    assert (tmp_path / "copy/a/b").read_text() == "other"
    assert missing == ["gone"]
    bucket.remove(["a/b", "gone"])
    assert bucket.versions() == {}


def test_a_lease_is_written_only_by_who_knows_its_version(bucket):
    store = KvStore(bucket.conditional(), ADDRESS)
    _, nothing = store.read()
    at_once = threading.Barrier(8)

    def claim(number: int):
        at_once.wait()
        return store.write(str(number).encode(), nothing)

    with ThreadPoolExecutor(8) as threads:
        first, *others = [v for v in threads.map(claim, range(8)) if v is not None]
    assert not others
    second = store.write(b"renewed", first)
    assert second is not None
    assert store.write(b"stale", first) is None
    assert store.write(None, first) is None
    assert store.read() == (b"renewed", second)
    assert store.write(None, second) is not None
    assert store.read()[0] == b""
