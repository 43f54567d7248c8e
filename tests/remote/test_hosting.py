"""What a server keeps for others, on each kind of place that can be served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted
from tests.remote.hosts import Served

import wellkept
from wellkept import ConfigError, DamagedValue, Stack, StoreError
from wellkept.remote.handlers import Handlers
from wellkept.remote.wire import Have, Send
from wellkept.stores import Sqlite

LARGE = np.arange(400_000)


def value(x: int) -> Any:
    return {0: [x], 1: b"t" * 100_000, 2: [LARGE, x], 3: np.arange(20_000)}[x % 4]


def same(found: Any, x: int) -> bool:
    return repr(found) == repr(value(x))


@pytest.fixture(params=["embedded", "files", "sqlite", "redis", "memory"])
def url(request: pytest.FixtureRequest, home: Path) -> str:
    if request.param == "sqlite":
        Sqlite(home / "items.db").close()
        return f"sqlite:///{home}/items.db"
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return {
        "embedded": str(home / "far"),
        "files": f"files:{home}/files",
        "memory": "memory:",
    }[request.param]


def test_every_place_is_served(url: str) -> None:
    with Served(url) as host, host.client() as cache:
        counted = Counted(value)
        f = counted.into(cache, strict=True)
        for x in (0, 1, 2, 3, 6):  # what 6 has was sent with 2
            assert same(f(x), x)
        cache.backend.hold(0)
        for x in (0, 1, 2, 3, 6):
            assert same(f(x), x)
        assert same(next(iter(f.map([2, 0]))), 2)
        assert counted.runs == 5
        assert counted.into(host.cache, strict=True)(2)[1] == 2, "those on the server have it too"
        assert counted.runs == 5
        assert cache.size().calls == 5
        assert cache.verify().problems == ()
        assert same(cache.load(f.call(3).result), 3)
        assert cache.query("counted").count() == 5
        assert f.forget(0)
        cache.evict("counted")
        cache.gc(grace=0)
        assert list(host.cache.calls.keys()) == []
        f(2)
        assert counted.runs == 6


def test_what_is_made_of_others_is_not_served(home: Path) -> None:
    both = Stack(wellkept.open(home / "near"), wellkept.open(home / "far"))
    with pytest.raises(ConfigError, match="serve one directory"):
        Handlers(both)


def test_half_of_a_blob_is_never_one(home: Path) -> None:
    with Served(home / "far") as host, host.client() as cache:
        line, name = cache.backend.line, b"n" * 32
        with pytest.raises(DamagedValue, match="not what its name says"):
            line.send(name, memoryview(b"other"))
        for size, says in ((3, "longer"), (9, "shorter")):
            with pytest.raises(DamagedValue, match=says):
                line._send(Send(name, size), memoryview(b"other"))
        for wrong in (Send(b"short", 5), Send(name, -5)):
            with pytest.raises(StoreError, match="can't be read"):
                line._send(wrong, memoryview(b"other"))
        assert line.ask(Have([name])) == [None]
        assert not any((home / "far" / "tmp").iterdir())


def test_a_record_whose_blob_did_not_come_is_refused(home: Path) -> None:
    with Served(home / "far") as host, host.client() as cache:
        f = Counted(value).into(cache, strict=True)
        f(2)
        real = cache.backend.line.send
        cache.backend.line.send = lambda *_: None
        host.cache.evict("counted")
        with pytest.raises(StoreError, match="was not sent"):
            f(2)
        assert list(host.cache.calls.keys()) == []
        cache.backend.line.send = real
        assert same(f(2), 2)
