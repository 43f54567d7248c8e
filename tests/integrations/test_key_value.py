"""The store for py-key-value-aio, beside its own suite: what that does not ask."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.kv.entry import Step

pytest.importorskip("key_value.aio")

from key_value.aio.errors import SerializationError

from wellkept.integrations.key_value import KeptKeyValue


@pytest.fixture(params=["memory:", "directory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    where = request.param if request.param == "memory:" else str(tmp_path / "cache")
    with wellkept.open(where) as found:
        yield found


def test_all_who_reach_the_cache_have_it(cache: Any) -> None:
    async def go() -> None:
        one, other = KeptKeyValue(cache), KeptKeyValue(cache)
        await one.put("a", {"n": 1}, collection="users", ttl=100)
        found, left = await other.ttl("a", collection="users")
        assert found == {"n": 1}
        assert left is not None
        assert 90 < left <= 100
        assert await other.get("a", collection="others") is None
        assert await KeptKeyValue(cache, name="x").get("a", collection="users") is None
        assert await KeptKeyValue(cache, scope="x").get("a", collection="users") is None
        assert await other.delete("a", collection="users")
        assert await one.get("a", collection="users") is None

    asyncio.run(go())


def test_keys_and_collections_of_any_text_are_listed(cache: Any) -> None:
    async def go() -> None:
        kept = KeptKeyValue(cache)
        keys = ["plain", "#", "", "k" * 2000, "a\0b", "ü" * 600, "\ud800", f"#{'0' * 64}"]
        names = ["users", "#1", "c" * 500, "ö" * 150]
        for name in names:
            await kept.put_many(keys, [{"key": repr(key)} for key in keys], collection=name)
        assert sorted(await kept.collections()) == sorted(names)
        for name in names:
            assert sorted(await kept.keys(name)) == sorted(keys)
            assert len(await kept.keys(name, limit=3)) == 3
            found = await kept.get_many(keys, collection=name)
            assert found == [{"key": repr(key)} for key in keys]
        assert await kept.destroy_collection("#1")
        assert not await kept.destroy_collection("#1")
        assert sorted(await kept.collections()) == sorted({*names} - {"#1"})
        assert await kept.destroy()
        assert await kept.collections() == []

    asyncio.run(go())


def test_it_expires_by_the_clock_of_the_medium(cache: Any) -> None:
    async def go() -> None:
        kept = KeptKeyValue(cache)
        await kept.put("a", {"n": 1}, ttl=100)
        # This host's clock is behind: what it would say of the time that is left is not asked.
        kept._service.entries.ahead = 50.0
        _, left = await kept.ttl("a")
        assert left is not None
        assert 40 < left <= 50
        kept._service.entries.ahead = 101.0
        assert await kept.get("a") is None
        kept._service.entries.ahead = 0.0

    asyncio.run(go())


def test_nothing_is_unpickled(cache: Any) -> None:
    async def go() -> None:
        kept = KeptKeyValue(cache)
        with pytest.raises(SerializationError):
            await kept.put("a", {"n": object()})
        name = kept._name("default_collection")
        assert not await kept.delete("a")
        wellkept.store(name.store, collection="key-value", cache=cache)["a"] = {1, 2}
        with pytest.raises(wellkept.DecodeError, match="not JSON"):
            await kept.get("a")
        # One that is another document is an error too, and nothing that is made up.
        kept._service.entries.apply(name, (Step("a", "[1]"),))
        with pytest.raises(Exception, match="dict"):
            await kept.get("a")

    asyncio.run(go())
