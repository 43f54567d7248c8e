"""`clear` and `evict`, of a function, a cache, and the active cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.errors import ConfigError


@pytest.fixture(params=["", "files:", "sqlite:///", "memory:"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> wellkept.Cache:
    at = {"": tmp_path / "c", "memory:": "memory:"}.get(request.param)
    return wellkept.open(at or f"{request.param}{tmp_path / 'c.db'}")


def two(cache: wellkept.Cache) -> tuple[Any, Any]:
    # One name is the end of the other, as a pattern would take both.
    f = wellkept.keep(cache=cache, name="f", version=1)(lambda x, y=0: [x, y])
    other = wellkept.keep(cache=cache, name="lib:f", version=1)(lambda x: [x])
    for x in range(3):
        f(x)
        other(x)
    return f, other


def test_a_function_is_cleared_and_no_other(cache: wellkept.Cache) -> None:
    f, other = two(cache)
    assert f.clear(dry_run=True).calls == 3
    assert f.contains(1)
    assert f.clear().calls == 3
    assert [f.contains(x) for x in range(3)] == [False] * 3
    assert [other.contains(x) for x in range(3)] == [True] * 3
    assert f.cache_clear().calls == 0


def test_calls_with_an_argument_are_evicted(cache: wellkept.Cache) -> None:
    f, _ = two(cache)
    f(1, 5)
    assert f.evict(1).calls == 2
    assert [f.contains(0), f.contains(1), f.contains(1, 5)] == [True, False, False]
    assert f.evict(x=wellkept.at_least(0)).calls == 2
    with pytest.raises(ConfigError, match=r"evict\(\) takes arguments of calls; .*clear\(\)"):
        f.evict()
    with pytest.raises(ConfigError, match="no argument 'z'"):
        f.evict(z=1)


def test_a_cache_is_cleared(cache: wellkept.Cache) -> None:
    two(cache)
    with wellkept.use(cache):
        assert wellkept.clear(dry_run=True).calls == 6
        assert wellkept.clear().calls == 6
    assert cache.query().count() == 0
    assert cache.clear().calls == 0


def test_a_cache_evicts_what_is_given_as_a_function_or_a_query(cache: wellkept.Cache) -> None:
    f, other = two(cache)
    assert cache.evict(f, older="1 h").calls == 0
    assert cache.evict(f, keys=[f.key(0), other.key(0)]).calls == 1
    assert cache.evict(f).calls == 2
    assert cache.evict(cache.query(where=lambda match: match.result == [1])).calls == 1
    assert not other.contains(1)
    assert other.contains(2)


def test_a_method_is_evicted_by_its_arguments(tmp_path: Path) -> None:
    class Model:
        @wellkept.keep(cache=tmp_path)
        def fit(self, n: int) -> int:
            return n

    model = Model()
    model.fit(1)
    model.fit(2)
    assert model.fit.evict(1).calls == 1
    assert Model.fit.clear().calls == 1


def test_what_is_damaged_goes_with_all_others(tmp_path: Path) -> None:
    for at in (f"files:{tmp_path / 'files'}", str(tmp_path / "directory")):
        cache = wellkept.open(at)
        f, _ = two(cache)
        if cache.backend.byte_stores:
            cache.backend.byte_stores[1].put(f.key(1), b"no record")
        else:
            with cache.backend.database.writing() as c:  # type: ignore[attr-defined]  # a directory has it
                c.execute("UPDATE calls SET created = 'no time' WHERE key = ?", (f.key(1).raw,))
        assert cache.clear().calls == 6
        assert list(cache.calls.keys()) == []
