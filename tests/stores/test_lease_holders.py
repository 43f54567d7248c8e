"""Who holds which leases now."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import wellkept
from wellkept.stores.files import Files
from wellkept.stores.lease_holders import holders
from wellkept.stores.lease_records import ItemRecords
from wellkept.stores.leases import Leases, RangeLeases, RecordLeases

KEY = bytes(range(32))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells of kernel locks")
def test_locks_of_the_kernel(tmp_path: Path) -> None:
    locks = RangeLeases(tmp_path / "locks")
    assert holders(locks) == []
    assert locks.acquire(KEY)
    (found,) = holders(locks)
    assert KEY.hex().startswith(found.key)
    assert len(found.key) >= 12
    assert found.pid == os.getpid()
    assert "python" in found.command
    with locks.writing_blobs():
        assert len(holders(locks)) == 1, "what keeps collectors away is no lease"
    locks.release(KEY)
    assert holders(locks) == []
    locks.close()


def test_records_among_items(tmp_path: Path) -> None:
    items = Files(tmp_path / "items")
    locks = RecordLeases(ItemRecords(items), "far|away")
    assert locks.acquire(KEY)
    (found,) = holders(locks)
    assert (found.key, found.pid) == (KEY.hex(), os.getpid())
    assert found.since is not None
    items.put(f"leases/{'1' * 64}", b"damaged")
    assert len(holders(locks)) == 1
    locks.release(KEY)
    locks.close()


def test_records_in_an_index(tmp_path: Path) -> None:
    with wellkept.open(tmp_path / "c", network=True) as cache:
        assert cache.backend.locks.acquire(KEY)
        (found,) = holders(cache.backend.locks)
        assert (found.key, found.stale) == (KEY.hex(), False)
        cache.backend.locks.release(KEY)


def test_nothing_is_known_of_others() -> None:
    locks = Leases()
    locks.acquire(KEY)
    assert holders(locks) == holders(None) == []
