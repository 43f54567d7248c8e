"""What a server does for a request, whatever carries it: nothing is kept or given that is not as it says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted
from tests.remote.hosts import Served
from tests.remote.webs import until

from wellkept import DamagedValue, StoreError
from wellkept.codecs import Blob, Envelope
from wellkept.hashing import buffer_digest
from wellkept.remote.wire import Commit, Have, Lease, Row
from wellkept.stores.record_format import pack_call

KEY = b"k" * 32
ARRAY = np.arange(20_000)


def test_what_travels_with_a_row_is_checked_by_who_receives_it(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host.client(memory=0) as cache:
        f = Counted(lambda x: ARRAY + x).into(cache, strict=True)
        f(1)
        monkeypatch.setattr(host.handlers.host, "read", lambda blob: [bytes(blob.size)])
        found = cache.backend.fetch(f.key(1).raw)
        assert found is not None
        with pytest.raises(DamagedValue, match="not what its name says"):
            cache.backend.load(found.envelope)


def test_what_a_client_sends_is_checked_before_it_is_kept(host: Any) -> None:
    with host.client(memory=0) as cache:
        f = Counted(lambda x: ARRAY + x).into(cache, strict=True)
        f(1)
        call, line = f.call(1), cache.backend.line
        content = b"sent with its record" * 10_000
        name = buffer_digest(content)

        def commit(size: int, *sent: bytes) -> None:
            envelope = Envelope("npy", b"", (Blob(size, name),))
            line.ask(Commit(call.key.raw, pack_call(call, envelope.pack()), list(sent)))

        with pytest.raises(DamagedValue, match="not what its name says"):
            commit(len(content), content[::-1])
        with pytest.raises(DamagedValue, match="not what its name says"):
            commit(len(content) + 1, content)
        with pytest.raises(StoreError, match="do not fit"):
            commit(len(content), content, content)
        with pytest.raises(StoreError, match="was not sent"):
            commit(len(content))
        line.send(name, memoryview(content))
        with pytest.raises(DamagedValue, match="not as long as its record says"):
            commit(len(content) + 1)
        assert line.ask(Have([name])) == [None]
        commit(len(content))
        assert line.ask(Have([name])) == [len(content)]


def test_a_lease_is_given_once(host: Any) -> None:
    one, other = host.backend(), host.backend()
    assert one.line.ask(Lease([KEY])) == [KEY]
    assert one.line.ask(Lease([KEY])) == []  # of two threads of one client, one has it
    assert other.line.ask(Lease([KEY])) == []
    other.line.ask(Lease([KEY], "release"))
    assert other.line.ask(Lease([KEY])) == []
    one.line.ask(Lease([KEY], "release"))
    assert other.line.ask(Lease([KEY])) == [KEY]
    one.close()
    other.close()


def test_a_lease_that_came_with_a_look_is_for_the_thread_that_looked(host: Any) -> None:
    backend, got = host.backend(), []
    assert backend.claim(KEY) is None
    other = threading.Thread(target=lambda: got.append(bool(backend.locks.acquire(KEY))))
    other.start()
    other.join(60)
    assert got == [False]
    assert backend.locks.acquire(KEY)
    backend.close()


def test_what_a_client_on_a_stream_held_is_free_when_the_stream_ends(home: Path) -> None:
    with Served(home / "far", patience=3600.0) as host:
        gone = host.backend()
        assert gone.locks.acquire(KEY)
        gone.locks._heart.stop()  # its heart beats no more, and does not take it again
        host.cut()
        until(lambda: not host.handlers.leases._held)
        gone.close()


def test_what_was_kept_between_the_look_and_the_lease_is_given_without_it(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host.client(memory=0) as cache:
        f = Counted(lambda x: [x]).into(cache, strict=True)
        f(1)
        look, looks = host.handlers._row, []

        def late(key: bytes, room: list[int]) -> Row:
            looks.append(key)
            return Row() if len(looks) == 1 else look(key, room)

        monkeypatch.setattr(host.handlers, "_row", late)
        # What is at hand is not looked for.
        host.cache.tier.clear()
        found = cache.backend.claim(f.key(1).raw)
        assert found is not None
        assert found.envelope is not None
        assert len(looks) == 2
        assert not host.handlers.leases._held


def test_who_only_reads_takes_no_lease(serve: Any, home: Path) -> None:
    with serve(home / "far", right="read") as host, host.client() as cache:
        assert cache.backend.claim(KEY) is None
        assert not host.handlers.leases._held
        assert host.cache.backend.locks.acquire(KEY)
        host.cache.backend.locks.release(KEY)


def test_what_nobody_waits_for_is_done_before_what_is_asked_later(host: Any) -> None:
    with host.client() as cache:
        notes = cache.backend.notes
        for n in range(100):
            notes.put_unheard({f"runs/{n}": b"%d" % n, "runs/last": b"%d" % n})
            assert notes.get_many([f"runs/{n}", "runs/last"]) == {
                f"runs/{n}": b"%d" % n,
                "runs/last": b"%d" % n,
            }
