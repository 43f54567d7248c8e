"""What is no digest is told as that, on every kind of place."""

from typing import Any

import pytest
from tests.caches.places import KINDS, new

import wellkept
from wellkept import ConfigError, NotKept

NONE = ["nothex", "ab", "z" * 64, "a" * 65, "", None, 5, b"ab" * 32, "AB" * 32 + "\n"]


@pytest.fixture(params=[*KINDS, "void", "readonly", "stack"])
def cache(request: pytest.FixtureRequest) -> wellkept.Cache:
    if request.param == "void":
        return wellkept.open("void:")
    if request.param == "readonly":
        return new("memory").readonly()
    if request.param == "stack":
        return wellkept.Stack(new("embedded"), new("files"))
    return new(request.param)


@pytest.mark.parametrize("bad", NONE)
def test_what_is_no_digest(cache: wellkept.Cache, bad: Any) -> None:
    for ask in (cache.load, cache.expand, cache.shrink):
        with pytest.raises(NotKept, match="is no digest: 4 to 64 hex digits"):
            ask(bad)
    for store in (cache.calls, cache.values):
        with pytest.raises(ConfigError, match="64 lower-case hex digits"):
            store.get(bad)


@pytest.mark.parametrize("prefix", ["nothex", "z" * 64, "a" * 65, "Ab"])
def test_nothing_begins_with_what_is_no_digest(cache: wellkept.Cache, prefix: str) -> None:
    assert list(cache.calls.keys(prefix)) == []
    assert list(cache.values.keys(prefix)) == []
