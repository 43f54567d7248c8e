"""Stores that hold a store: each held to the suite and the dict, and to what it is for."""

import itertools
import logging
import pickle
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.stores.agreement import check_agreement

from wellkept.errors import ConfigError, DamagedValue, NewerSchema, StoreError, UntrustedSource
from wellkept.stores.base import (
    Creates,
    Finds,
    Many,
    Maps,
    Paths,
    Replaces,
    Stamps,
    delete_many,
    get_many,
    put_many,
)
from wellkept.stores.files import Files
from wellkept.stores.memory import Memory, Void
from wellkept.stores.sqlite_items import Sqlite
from wellkept.stores.wrappers import Compressed, Locked, Logged, Prefix, ReadOnly, Retry
from wellkept.testing import StoreContract

WRAP: dict[str, Callable[[Any], Any]] = {
    "compressed": Compressed,
    "gzip": lambda store: Compressed(store, "gzip", 1),
    "prefix": lambda store: Prefix(store, "team/a/"),
    "locked": Locked,
    "per key": lambda store: Locked(store, per_key=True),
    "retry": lambda store: Retry(store, wait=0),
    "logged": Logged,
    "nested": lambda store: Compressed(Locked(Prefix(Prefix(Retry(Logged(store)), "a/"), "b/"))),
}
ABILITIES = (Creates, Finds, Many, Maps, Paths, Replaces, Stamps)


class FourVerbs:
    """A store without any ability."""

    def __init__(self) -> None:
        self._items = Memory[bytes]()

    def get(self, key: str) -> bytes | None:
        return self._items.get(key)

    def put(self, key: str, item: bytes) -> None:
        self._items.put(key, item)

    def delete(self, key: str) -> None:
        self._items.delete(key)

    def keys(self, prefix: str = "") -> Any:
        return self._items.keys(prefix)


class Wrapped(StoreContract):
    pickles = True
    wrap: Any

    def make(self, place: Path) -> Any:
        return type(self).wrap(Files(place / "store"))


class TestCompressed(Wrapped):
    wrap = Compressed


class TestCompressedByGzip(Wrapped):
    wrap = staticmethod(WRAP["gzip"])


class TestPrefix(Wrapped):
    wrap = staticmethod(WRAP["prefix"])


class TestLocked(Wrapped):
    wrap = Locked


class TestLockedPerKey(Wrapped):
    wrap = staticmethod(WRAP["per key"])


class TestRetry(Wrapped):
    wrap = staticmethod(WRAP["retry"])


class TestLogged(Wrapped):
    wrap = Logged


class TestNested(Wrapped):
    wrap = staticmethod(WRAP["nested"])

    def make(self, place: Path) -> Any:
        return type(self).wrap(Sqlite(place / "items.sqlite"))


del Wrapped  # it is not to be collected


# A prefix makes keys too long that are as long as they may be: the test after this one.
@pytest.mark.parametrize("name", [name for name in WRAP if name not in ("prefix", "nested")])
@pytest.mark.parametrize("medium", ["memory", "sqlite"])
def test_it_agrees_with_a_dict(tmp_path: Path, name: str, medium: str) -> None:
    count = itertools.count()

    def make() -> Any:
        inside: Any = Memory() if medium == "memory" else Sqlite(tmp_path / f"{next(count)}.sqlite")
        return WRAP[name](inside)

    check_agreement(make, examples=4)


@pytest.mark.parametrize("name", ["prefix", "nested"])
def test_one_with_a_prefix_agrees_with_a_dict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.stores import agreement

    class Beside(Memory[bytes]):
        def keys(self, prefix: str = "") -> Any:
            assert prefix, "the whole store was listed"
            return super().keys(prefix)

    def make() -> Any:
        inside = Beside()
        for key in ("team/b/x", "team/ab", "a/c/x", "calls/00" + "ab" * 31):
            inside.put(key, b"not of this part")
        return WRAP[name](inside)

    monkeypatch.setattr(agreement, "KEYS", [key for key in agreement.KEYS if len(key) < 190])
    short = agreement.st.sampled_from(agreement.KEYS)
    monkeypatch.setattr(agreement, "keys", short)
    check_agreement(make, examples=6)


@pytest.mark.parametrize("name", [*WRAP, "readonly"])
@pytest.mark.parametrize("medium", ["memory", "void", "files", "sqlite", "verbs"])
def test_abilities_are_those_of_what_is_held(name: str, medium: str) -> None:
    inside: Any = {
        "memory": Memory,
        "void": Void,
        "files": lambda: Files("files"),
        "sqlite": lambda: Sqlite("items.sqlite"),
        "verbs": FourVerbs,
    }[medium]()
    wrapper = {**WRAP, "readonly": ReadOnly}[name](inside)
    for ability in ABILITIES:
        assert isinstance(wrapper, ability) is isinstance(inside, ability), ability
    if name != "readonly":
        put_many(wrapper, {"a": b"1", "b": b"2"})
        kept = {} if medium == "void" else {"a": b"1", "b": b"2"}
        assert get_many(wrapper, iter(["a", "b", "c"])) == kept
        delete_many(wrapper, iter(["a", "b"]))
        assert list(wrapper.keys()) == []


@pytest.mark.parametrize("name", [*WRAP, "readonly"])
def test_finding_through_a_wrapper(name: str) -> None:
    inside = Sqlite("items.sqlite")
    inside.put("team/b/other", b"", {"n": 1})
    wrapper = WRAP.get(name, lambda store: store)(inside)
    wrapper.put("calls/x", b"1", terms={"n": 1, "text": "t"})
    wrapper.put("calls/y", b"2", terms={"n": 2})
    wrapper = ReadOnly(wrapper) if name == "readonly" else wrapper
    found = [key for key in wrapper.find({"n": 1}) if "team" not in key]
    assert found == ["calls/x"]
    assert sorted(wrapper.find({"n": (1, 2)}, "calls/")) == ["calls/x", "calls/y"]
    wrapper.close()


@pytest.mark.parametrize("name", WRAP)
def test_a_wrapper_pickles_with_what_it_holds(tmp_path: Path, name: str) -> None:
    wrapper = WRAP[name](Files(tmp_path))
    wrapper.put("a/b", b"x" * 1000)
    again = pickle.loads(pickle.dumps(wrapper))
    assert type(again) is type(wrapper)
    assert again.get("a/b") == b"x" * 1000
    for ability in ABILITIES:
        assert isinstance(again, ability) is isinstance(wrapper, ability)


# -- ReadOnly -------------------------------------------------------------------------------------


def test_read_only_reads_and_refuses_every_write(tmp_path: Path) -> None:
    inside = Sqlite(tmp_path / "items.sqlite")
    inside.put("a", b"x", {"n": 1})
    store: Any = ReadOnly(inside)
    assert store.get("a") == b"x"
    assert list(store.keys()) == ["a"]
    assert store.get_many(["a", "b"]) == {"a": b"x"}
    assert list(store.find({"n": 1})) == ["a"]
    for write in (
        lambda: store.put("a", b"y"),
        lambda: store.put("a", b"y", terms={}),
        lambda: store.delete("a"),
        lambda: store.create("b", b"y"),
        lambda: store.replace("a", b"x", b"y"),
        lambda: store.put_many({"b": b"y"}),
        lambda: store.delete_many(["a"]),
    ):
        with pytest.raises(StoreError, match="read-only"):
            write()
    assert inside.get_many(["a", "b"]) == {"a": b"x"}
    again = pickle.loads(pickle.dumps(store))
    with pytest.raises(StoreError, match="put of a is refused"):
        again.put("a", b"y")


# -- Prefix ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "a", "/a/", "a/../", "a b/", "é/", "x" * 200 + "/"])
def test_what_is_no_prefix(prefix: str) -> None:
    with pytest.raises(ConfigError):
        Prefix(Memory[bytes](), prefix)


@pytest.mark.parametrize("key", ["", "../b/x", "/x", "a b", None])
def test_no_key_leaves_the_part(key: Any) -> None:
    inside = Memory[bytes]()
    inside.put("team/b/x", b"secret")
    store: Any = Prefix(inside, "team/a/")
    for attempt in (
        lambda: store.get(key),
        lambda: store.put(key, b""),
        lambda: store.create(key, b""),
        lambda: store.replace(key, b"secret", b""),
        lambda: store.delete(key),
        lambda: store.get_many([key]),
        lambda: store.put_many({key: b""}),
        lambda: store.delete_many([key]),
        lambda: store.map(key),
    ):
        with pytest.raises(ConfigError):
            attempt()
    assert inside.get("team/b/x") == b"secret"


# -- Locked ---------------------------------------------------------------------------------------


class Jealous(FourVerbs):
    """Notices when two threads are inside at once: at all, or at one key."""

    def __init__(self) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.met: set[str] = set()
        self.most = 0

    def get(self, key: str) -> bytes | None:
        if key in self.inside:
            self.met.add(key)
        self.inside.append(key)
        self.most = max(self.most, len(self.inside))
        time.sleep(0.002)
        self.inside.remove(key)
        return None


def in_threads(count: int, work: Callable[[int], None]) -> None:
    threads = [threading.Thread(target=work, args=(me,)) for me in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "they wait for each other"


@pytest.mark.parametrize("per_key", [False, True, None])
def test_one_thread_at_a_time(per_key: bool | None) -> None:
    inside = Jealous()
    store: Any = inside if per_key is None else Locked(inside, per_key=per_key)
    in_threads(8, lambda me: [store.get(f"{(me + n) % 4}") for n in range(20)] and None)
    if per_key is None:
        assert inside.met, "without a lock they meet, or this test could not fail"
    else:
        assert not inside.met
        assert (inside.most > 1) is per_key
    if per_key:
        assert store._locks == {}, "locks that nobody holds are not kept"


@pytest.mark.parametrize("per_key", [False, True])
def test_a_lock_is_held_over_several_operations(per_key: bool) -> None:
    store = Locked(Memory[bytes](), per_key=per_key)
    store.put("n", b"0")

    def work(me: int) -> None:
        for _ in range(50):
            with store.lock("n"), store.lock("n"):
                n = int(store.get("n") or b"")
                time.sleep(0)
                store.put("n", b"%d" % (n + 1))
            with store.lock("b", "a") if me % 2 else store.lock("a", "b"):
                pass
            store.get_many(["b", "a"] if me % 2 else ["a", "b"])  # type: ignore[attr-defined]

    in_threads(8, work)
    assert store.get("n") == b"400"


# -- Retry ----------------------------------------------------------------------------------------


class Failing(Memory[bytes]):
    """Fails so many times, before or after it has done what it was told."""

    def __init__(self, failures: int, error: Exception, *, late: bool = False) -> None:
        super().__init__()
        self.failures, self.error, self.late, self.calls = failures, error, late, 0

    def _fail(self, do: Callable[[], Any]) -> Any:
        self.calls += 1
        if self.calls <= self.failures:
            if self.late:
                do()
            raise self.error
        return do()

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._fail(lambda: Memory.get(self, key))
        return found

    def put(self, key: str, item: bytes) -> None:
        self._fail(lambda: Memory.put(self, key, item))

    def create(self, key: str, item: bytes) -> bool:
        return bool(self._fail(lambda: Memory.create(self, key, item)))

    def keys(self, prefix: str = "") -> Any:
        yield from list(super().keys(prefix))[:1]
        yield from list(self._fail(lambda: Memory.keys(self, prefix)))[1:]


@pytest.mark.parametrize("late", [False, True])
def test_what_may_be_repeated_is(late: bool) -> None:
    for do in (
        lambda store: store.get("a"),
        lambda store: store.put("a", b"x"),
        lambda store: list(store.keys()),
    ):
        inside = Failing(2, StoreError("away"), late=late)
        for key in ("a", "b"):
            Memory.put(inside, key, b"x")
        waits: list[int] = []
        found = do(Retry(inside, times=3, wait=lambda made, waits=waits: waits.append(made) or 0))
        assert inside.calls == 3
        assert waits == [1, 2]
        assert found in (None, b"x", ["a", "b"]), "a listing that broke off was begun again"
        inside = Failing(3, StoreError("away"), late=late)
        with pytest.raises(StoreError, match="away"):
            do(Retry(inside, times=3, wait=0))
        assert inside.calls == 3


def test_what_may_not_be_repeated_is_tried_once() -> None:
    inside = Failing(1, StoreError("the reply was lost"), late=True)
    store: Any = Retry(inside, wait=0)
    with pytest.raises(StoreError, match="lost"):
        store.create("a", b"x")  # a second attempt would say that it was there already
    assert inside.calls == 1


@pytest.mark.parametrize(
    "error",
    [NewerSchema("x"), UntrustedSource("x"), ConfigError("x"), DamagedValue("x"), OSError()],
)
def test_what_does_not_pass_is_not_waited_for(error: Exception) -> None:
    inside = Failing(1, error)
    with pytest.raises(type(error)):
        Retry(inside, wait=0).get("a")
    assert inside.calls == 1


def test_waits_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    with pytest.raises(StoreError):
        Retry(Failing(9, StoreError("away")), times=5, wait=1).get("a")
    assert len(slept) == 4
    assert all(2**n * 0.5 <= wait <= 2**n * 1.5 for n, wait in enumerate(slept))


@pytest.mark.parametrize(
    "options", [{"times": 0}, {"times": 1.5}, {"wait": -1}, {"wait": float("nan")}]
)
def test_bad_options_of_retry(options: Any) -> None:
    with pytest.raises(ConfigError):
        Retry(Memory[bytes](), **options)


# -- Logged ---------------------------------------------------------------------------------------


def test_operations_are_logged_without_their_items(caplog: pytest.LogCaptureFixture) -> None:
    store: Any = Logged(Sqlite("items.sqlite"))
    with caplog.at_level(logging.DEBUG, "wellkept.stores"):
        store.put("a/b", b"secret content", terms={"user": "secret name"})
        store.get("a/b")
        store.get("a/c")
        list(store.find({"user": "secret name"}))
        list(store.keys("a/"))
        next(store.keys())
        store.get_many(iter(["a/b", "a/c"]))
        store.put_many({"a/d": b"secret content"})
        store.create("a/b", b"secret content")
        with pytest.raises(ConfigError):
            store.get("../x")
    text = caplog.text
    assert "secret" not in text
    for said in (
        "put a/b: None in 0.",
        "get a/b: 14 bytes in 0.",
        "get a/c: None in 0.",
        "find by user: ended after 1 keys in ",
        "keys a/: ended after 1 keys",
        "keys: was left after 1 keys",
        "get_many of 2 keys: 1 items",
        "put_many of 1 keys: None",
        "create a/b: False",
        "get ../x: raised ConfigError",
    ):
        assert said in text, f"{said!r} not in {text}"


def test_another_logger_and_level(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("elsewhere")
    store = Logged(Memory[bytes](), logger, level=logging.WARNING)
    store.get("a")
    assert [(r.name, r.levelno) for r in caplog.records] == [("elsewhere", logging.WARNING)]


# -- Compressed -----------------------------------------------------------------------------------


def test_stores_may_be_mixed() -> None:
    inside = Memory[bytes]()
    written = {
        "plain": (inside, b"plain " * 100),
        "gzip": (Compressed(inside, "gzip"), b"gzip " * 100),
        "zstd": (Compressed(inside, "zstd", 19), b"zstd " * 100),
        "nothing": (Compressed(inside), b""),
        "looks compressed": (Compressed(inside), b"\x89kz\r\n\x1a as it happens"),
    }
    for key, (store, item) in written.items():
        store.put(key.replace(" ", "-"), item)
    assert len(inside.get("gzip") or b"") < 60
    assert len(inside.get("zstd") or b"") < 60
    for reader in (Compressed(inside), Compressed(inside, "gzip")):
        for key, (_, item) in written.items():
            assert reader.get(key.replace(" ", "-")) == item


def test_what_gets_no_smaller_keeps_its_file_and_its_mapping(tmp_path: Path) -> None:
    import os

    inside = Files(tmp_path / "s")
    store: Any = Compressed(inside)
    noise, text = os.urandom(300_000), b"text " * 60_000
    store.put("blobs/noise", noise)
    store.put("blobs/text", text)
    assert store.path("blobs/noise") == inside.path("blobs/noise")
    assert inside.path("blobs/noise").read_bytes() == noise  # type: ignore[union-attr]
    assert store.path("blobs/text") is None, "its file does not hold exactly the item"
    assert store.path("blobs/none") is None
    for key, item in (("blobs/noise", noise), ("blobs/text", text)):
        mapped = store.map(key)
        assert bytes(mapped) == item
        mapped[:5] = b"mine!"
        assert store.get(key) == item
    assert store.map("blobs/none") is None


def test_replacing_looks_at_content_not_at_how_it_is_stored() -> None:
    inside = Memory[bytes]()
    store: Any = Compressed(inside, "gzip")
    old, new = b"old " * 1000, b"new " * 1000
    for writer in (inside, Compressed(inside, "zstd"), Compressed(inside, "gzip", 1)):
        writer.put("a", old)
        assert store.replace("a", new, new) is False
        assert store.replace("a", old, new) is True
        assert store.get("a") == new
    assert store.replace("none", old, new) is False
