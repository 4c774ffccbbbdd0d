"""The lease of a run in a bucket, over a key-value store with conditional writes."""

import json
import platform
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import tensorstore as ts

from sycophancy.errors import UserError
from sycophancy.storage.lease import NAME, KvStore, Lease

ADDRESS = "gs://runs/xl"


@pytest.fixture
def kv():
    return ts.KvStore.open({"driver": "memory"}).result()


def lease(kv, **given) -> Lease:
    return Lease(KvStore(kv, ADDRESS), ADDRESS, **{"seconds": 1.2, "every": 0.15, **given})


def stored(kv) -> dict:
    return json.loads(kv.read(NAME).result().value)


def test_a_lease_names_its_holder_is_renewed_and_is_given_back(kv):
    mine = lease(kv)
    with mine.held():
        first = stored(kv)
        assert first["holder"].endswith(f" on {platform.node()}")
        deadline = time.monotonic() + 20
        while stored(kv)["expires"] == first["expires"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert stored(kv)["expires"] > first["expires"]
        assert stored(kv)["since"] == first["since"]
        mine.check()
    assert kv.read(NAME).result().state == "missing"


def test_a_lease_that_is_renewed_is_refused_with_its_holder_and_expiry(kv):
    with lease(kv).held():
        said: list[str] = []
        with pytest.raises(UserError) as refused, lease(kv).held(said.append):
            pass
        about = stored(kv)
    for words in (ADDRESS, about["holder"], f"since {about['since']}", "expires at 2"):
        assert words in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    assert len(said) == 1  # before it watched the holder


def test_a_lease_whose_holder_has_ended_is_taken_over_after_it_has_expired(kv):
    lease(kv).take()  # and is never renewed
    begun = time.monotonic()
    mine = lease(kv)
    with mine.held():
        assert time.monotonic() - begun >= 0.2  # at least one renewal's time
        mine.check()


@pytest.mark.parametrize("contents", [b"{", b"[]", b'{"expires": 3}', b'{"expires": "x"}'])
def test_a_lease_that_cannot_be_read_is_taken_over(kv, contents):
    kv.write(NAME, contents).result()
    with lease(kv).held():
        assert "holder" in stored(kv)


def test_a_lease_that_another_has_taken_is_lost_and_ends_the_block_with_one_line(kv):
    ended = threading.Event()
    mine = lease(kv, on_loss=ended.set)
    with pytest.raises(UserError, match=r"is lost: .* is being written by thief"), mine.held():
        kv.write(NAME, json.dumps({"holder": "thief"})).result()
        assert ended.wait(20)
        raise KeyboardInterrupt  # which is what `on_loss` causes in the main thread
    assert stored(kv) == {"holder": "thief"}  # it is not removed by who has lost it


def test_an_interrupt_by_the_user_stays_one(kv):
    with pytest.raises(KeyboardInterrupt), lease(kv).held():
        raise KeyboardInterrupt


def test_a_renewal_whose_answer_got_lost_is_recognised(kv):
    mine = lease(kv)
    mine.take()
    kv.write(NAME, json.dumps(stored(kv))).result()  # a new version with the same token
    mine.renew()
    mine.renew()
    mine.check()


class Broken:
    """A store that cannot be reached once `down` is set."""

    def __init__(self, store: KvStore) -> None:
        self.store, self.down = store, False

    def read(self):
        return self.store.read()

    def write(self, contents, version):
        if self.down:
            raise UserError("no network")
        return self.store.write(contents, version)


def test_a_lease_survives_failures_until_it_expires(kv):
    store = Broken(KvStore(kv, ADDRESS))
    mine = Lease(store, ADDRESS, seconds=0.5, every=60)
    mine.take()
    store.down = True
    mine.renew()
    mine.check()
    time.sleep(0.6)
    with pytest.raises(UserError, match="could not be renewed"):
        mine.check()


class Silent:
    """A key-value store that never answers a write."""

    def __init__(self, kv) -> None:
        self.read = kv.read

    def write(self, *_, **__):
        self.promise, future = ts.Promise.new()
        return future


def test_a_provider_that_does_not_answer_is_not_waited_for(kv):
    store = KvStore(kv, ADDRESS, patience=0.2)
    mine = Lease(store, ADDRESS, seconds=1.0, every=0.3, on_loss=lambda: None)
    begun = time.monotonic()
    with pytest.raises(UserError, match="could not be renewed for 1 s"), mine.held():
        store._store = Silent(kv)
        while not mine.lost and time.monotonic() < begun + 20:
            time.sleep(0.05)
        mine.check()
    with pytest.raises(UserError, match=f"{ADDRESS} cannot be written: no answer within 0 s"):
        store.write(b"", None)


def test_of_many_claimants_at_once_exactly_one_wins(kv):
    at_once, refused = threading.Barrier(8), threading.Semaphore(0)

    def claim(_: int) -> bool:
        at_once.wait()
        try:
            with lease(kv, seconds=60).held():
                return all(refused.acquire(timeout=20) for _ in range(7))
        except UserError:
            refused.release()
            return False

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(claim, range(8))) == 1
