"""The storage server of the tests does with preconditions what Google's does."""

import fsspec
import pytest
import tensorstore as ts

pytestmark = pytest.mark.extras


@pytest.fixture
def kv(server):
    spec = {"driver": "gcs", "bucket": "runs", "path": "x/"}
    return ts.KvStore.open(spec).result()


def test_a_write_happens_only_if_the_generation_is_the_expected_one(server, kv):
    nothing = kv.read("a").result().stamp.generation
    first = kv.write("a", b"1", if_equal=nothing).result().generation
    assert first
    assert not kv.write("a", b"2", if_equal=nothing).result().generation
    second = kv.write("a", b"3", if_equal=first).result().generation
    assert second
    assert second != first
    assert kv.read("a").result().stamp.generation == second
    assert not kv.write("a", None, if_equal=first).result().generation
    assert kv.read("a").result().value == b"3"
    assert kv.write("a", None, if_equal=second).result().generation
    assert server.names() == []


# aiohttp warns of what gcsfs does with large objects.
@pytest.mark.filterwarnings("ignore:Sending a large body directly:ResourceWarning")
@pytest.mark.parametrize("contents", [b"", b"\r\n", b"a\r\n\r\n", bytes(range(256)) * 40_000])
def test_objects_come_back_as_they_were(server, tmp_path, contents):
    files = fsspec.filesystem("gs", use_listings_cache=False, skip_instance_cache=True)
    (tmp_path / "a").write_bytes(contents)
    files.put_file(str(tmp_path / "a"), "runs/b/c")
    assert server.contents("b/c") == contents
    files.get_file("runs/b/c", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == contents
    assert server.written == [("write", "b/c")]
