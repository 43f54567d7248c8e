"""Results of one digest that are not the same bytes: each call gives its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.stores import written

import wellkept
from wellkept import Cache, keep
from wellkept.stores.memory import Memory


def _dict(n: int) -> Any:
    made = {f"k{i}": i for i in range(300)}
    return made if n == 1 else dict(reversed(made.items()))


def _counter(n: int) -> Any:
    return ["x" * 5000, Counter("ab" if n == 1 else "ba")]


def _array(n: int) -> Any:
    made = np.arange(1200.0).reshape(30, 40)
    return made if n == 1 else np.asfortranarray(made)


def _shared(n: int) -> Any:
    part = ["part"] * 600
    return [part, part] if n == 1 else [part, list(part)]


def _nested(n: int) -> Any:
    return [_dict(n), {"large": bytearray(100_000)}]


def _frame(n: int) -> Any:
    made = pd.DataFrame({"a": range(400), "b": range(400)})
    made.attrs = {"x": 1, "y": 2} if n == 1 else {"y": 2, "x": 1}
    return made


KINDS: dict[str, tuple[Callable[[int], Any], Callable[[Any], Any]]] = {
    "order of a dict": (_dict, list),
    "ties of a counter": (_counter, lambda found: found[1].most_common(1)),
    "layout of an array": (_array, lambda found: found.ravel("K")[:3].tolist()),
    "shared parts": (_shared, lambda found: found[0] is found[1]),
    "with a blob": (_nested, lambda found: list(found[0])),
    "attributes of a frame": (_frame, lambda found: list(found.attrs)),
}


@pytest.fixture(params=["directory", "sqlite", "files", "memory", "apart"])
def opened(request: pytest.FixtureRequest, home: Path) -> Callable[[], Cache]:
    kind = request.param
    if kind == "directory":
        return lambda: wellkept.open(home / "c")
    if kind == "sqlite":
        return lambda: wellkept.open(f"sqlite:///{home}/c.db")
    if kind == "files":
        return lambda: wellkept.open(f"files:{home}/c")
    calls: Memory[bytes] = Memory()
    if kind == "memory":
        return lambda: Cache(calls=calls, values=calls)
    values = home / "values"
    return lambda: Cache(calls=calls, values=f"files:{values}")


@pytest.mark.parametrize("what", KINDS)
def test_each_call_gives_its_own(opened: Callable[[], Cache], what: str) -> None:
    made, told = KINDS[what]

    @keep(name="made", version=1)
    def f(n: int) -> Any:
        return made(n)

    with opened() as cache, wellkept.use(cache):
        f(1), f(2), f(1)
        assert cache.calls.get(f.key(1)).result == cache.calls.get(f.key(2)).result  # type: ignore[union-attr]  # kept above
    for _ in range(2):
        with opened() as cache, wellkept.use(cache):
            assert told(f(1)) == told(made(1))
            assert told(f(2)) == told(made(2))
            assert f.stats().computed == 2
            assert cache.verify().problems == ()
            cache.gc()


def test_a_record_that_is_changed_keeps_its_result(opened: Callable[[], Cache]) -> None:
    @keep(name="made", version=1)
    def f(n: int) -> Any:
        return _dict(n)

    with opened() as cache, wellkept.use(cache):
        f(1), f(2)
        for n in (2, 1):
            call = cache.calls.get(f.key(n))
            assert call is not None
            cache.calls.put(call.key, call.replace(metadata={"seen": n}))
        assert [list(f(n)) for n in (1, 2)] == [list(_dict(n)) for n in (1, 2)]
        assert cache.load(f.key(1) and call.result) == _dict(1)
        assert f.stats().computed == 2


def test_what_one_call_gave_goes_alone(opened: Callable[[], Cache]) -> None:
    @keep(name="made", version=1)
    def f(n: int) -> Any:
        return _nested(n)

    with opened() as cache, wellkept.use(cache):
        f(1), f(2)
        f.forget(1)
        cache.gc()
        assert list(f(2)[0]) == list(_dict(2))
        assert f.stats().computed == 2
        assert list(f(1)[0]) == list(_dict(1))


def test_a_value_put_by_hand_changes_no_call(opened: Callable[[], Cache]) -> None:
    @keep(name="made", version=1)
    def f(n: int) -> Any:
        return _dict(n)

    with opened() as cache, wellkept.use(cache):
        f(1)
        result = f.call(1).result
        value = cache.values.get(result)
        assert value is not None
        f(2)
        cache.values.put(result, value)
        assert cache.values.get(result) == value
        assert list(cache.values.keys()) == [result]
        with opened() as again, wellkept.use(again):
            assert list(f(2)) == list(_dict(2))
        cache.values.delete(result)
        assert cache.values.get(result) is None


class TestWrittenBefore:
    """A store of schema 2 in which two calls share the row of the later one's result."""

    def test_what_nobody_can_tell_is_computed_again(self, home: Path) -> None:
        root = written.restored(2, home / "store", kind="shared")
        with wellkept.open(root) as cache, wellkept.use(cache):
            for n in (1, 2):
                assert list(written.turned(n)) == list(written.turned.__wrapped__(n))
            assert written.turned.stats().computed == 2
            assert written.alone(1) == written.alone.__wrapped__(1)
            assert written.alone.stats().computed == 0
            assert cache.verify().problems == ()

    def test_a_value_put_by_hand_changes_no_call(self, home: Path) -> None:
        root = written.restored(2, home / "store", kind="shared")
        with wellkept.open(root) as cache, wellkept.use(cache):
            result = written.alone.call(1).result
            value = cache.values.get(result)
            assert value is not None
            cache.values.put(result, value._replace(head=b"N."))
            assert cache.load(result) is None
            assert written.alone(1) == written.alone.__wrapped__(1)
            assert written.alone.stats().computed == 0
            assert cache.verify().problems == ()
