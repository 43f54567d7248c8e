"""The cache backend of Django over diskcache's interface."""

import io
import pickle
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.integrations import diskcache as kept


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Any]:
    pytest.importorskip("django")
    from django.conf import settings
    from django.core.cache import CacheHandler
    from django.core.cache.backends.base import InvalidCacheBackendError

    if not settings.configured:
        settings.configure()
    backend = "wellkept.integrations.diskcache.DjangoCache"
    handler = CacheHandler(
        {
            "default": {
                "BACKEND": backend,
                "LOCATION": str(tmp_path / "site"),
                "TIMEOUT": 300,
                "SHARDS": 2,
                "DATABASE_TIMEOUT": 1,
                "OPTIONS": {"size_limit": 2**20, "eviction_policy": "least-recently-used"},
            },
            "wrong": {"BACKEND": backend, "LOCATION": "redis://localhost"},
        }
    )
    with pytest.raises((wellkept.ConfigError, InvalidCacheBackendError), match="redis"):
        handler["wrong"]
    yield handler["default"]
    handler["default"].close()


def test_django_finds_it_by_its_name(cache: Any) -> None:
    assert type(cache) is kept.DjangoCache
    assert cache._cache.eviction_policy == "least-recently-used"
    cache.set("a", {"b": (1, 2)})
    assert cache.get("a") == {"b": (1, 2)}
    assert (cache.get("a", version=2), "a" in cache, cache.has_key("b")) == (None, True, False)
    assert cache.add("a", 1) is False
    assert cache.get_or_set("c", lambda: 5) == 5
    cache.set_many({"x": 1, "y": 2}, timeout=None)
    assert cache.get_many(["x", "y", "z"]) == {"x": 1, "y": 2}
    assert (cache.incr("x"), cache.decr("y", 2), cache.incr("new", default=4)) == (2, 0, 5)
    with pytest.raises(ValueError, match="none"):
        cache.incr("none")
    assert (cache.incr_version("x"), cache.get("x", version=2)) == (2, 2)
    cache.delete_many(["a", "c"])
    assert (cache.get("a"), cache.pop("y"), cache.pop("y", "gone")) == (None, 0, "gone")
    cache.clear()
    assert cache.get("new") is None


def test_timeouts(cache: Any) -> None:
    for key, timeout in (("default", None), ("none", 0), ("past", -1)):
        cache.set(key, 1) if key == "default" else cache.set(key, 1, timeout)
    _, at = cache.get("default", expire_time=True)
    assert 200 < at - time.time() < 400
    assert (cache.get("none"), cache.get("past")) == (None, None)
    assert (cache.touch("default", None), cache.touch("none")) == (True, False)
    assert cache.get("default", expire_time=True) == (1, None)
    # What has expired is removed by those that write.
    assert (cache.expire(), len(cache._cache)) == (0, 1)


def test_what_only_diskcache_has(cache: Any) -> None:
    cache.set("file", io.BytesIO(b"x" * 100), read=True, tag="files")
    with cache.read("file") as handle:
        assert handle.read() == b"x" * 100
    assert cache.get("file", tag=True)[1] == "files"
    cache.create_tag_index()
    assert (cache.evict("files"), cache.cull()) == (1, 0)
    cache.drop_tag_index()
    ran = []

    @cache.memoize(tag="f", version=3)
    def f(x: int) -> int:
        ran.append(x)
        return x

    assert [f(1), f(1), cache.get(f.__cache_key__(1), version=3)] == [1, 1, 1]
    assert ran == [1]
    cache.deque("tasks").append("a")
    cache.index("things")["k"] = 1
    cache.cache("other")["k"] = 2
    assert cache.stats() == (0, 0)
    with pytest.raises(pickle.PickleError):
        cache.set("a", sys._getframe())


def test_without_django_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "django"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "wellkept.integrations.diskcache.djangocache", raising=False)
    monkeypatch.setitem(sys.modules, "django", None)
    with pytest.raises(wellkept.ConfigError, match="pip install django"):
        kept.DjangoCache
    names: dict[str, Any] = {}
    exec("from wellkept.integrations.diskcache import *", names)
    assert names["Cache"] is kept.Cache
