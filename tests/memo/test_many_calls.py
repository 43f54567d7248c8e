"""Calls by `map` of a plain function with plain arguments, which take a short way: they end as others do."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.interrupting import interrupted, points

import wellkept
from wellkept.memo import executor, many_calls, plain_calls
from wellkept.memo.inflight import Landing, current
from wellkept.memo.observed import Observed
from wellkept.records import Call

SCALE = 2
RAN: list[Any] = []


def scale(by: int) -> None:
    global SCALE
    SCALE = by


def scaled(n: int, more: float = 0.5) -> float:
    RAN.append(n)
    return n * SCALE + more


@pytest.fixture(autouse=True)
def shortened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys of calls that took the short way."""
    RAN.clear()
    scale(2)
    took: list[bytes] = []
    begin = plain_calls.Started.begin

    def noted(self: Any, flight: Any, here: Any = None) -> None:
        took.append(flight.key)
        begin(self, flight, here)

    monkeypatch.setattr(plain_calls.Started, "begin", noted)
    return took


@pytest.fixture
def cache(tmp_path: Path) -> wellkept.Cache:
    return wellkept.open(tmp_path / "cache")


def said(call: Call) -> Any:
    """What a record says, but for times."""
    metadata = dict(call.metadata)
    for name in ("started", "cpu", "system", "memory", "children"):
        metadata.pop(name, None)
    return call._replace(
        created=0.0, seconds=0.0, metadata=metadata, arguments=dict(call.arguments)
    )


@pytest.mark.parametrize(
    "options", [{}, {"ttl": 60}, {"arguments": "digests"}, {"meta": False}, {"version": 1}]
)
def test_they_are_kept_as_in_the_long_way(
    cache: wellkept.Cache, tmp_path: Path, shortened: list[bytes], options: dict[str, Any]
) -> None:
    with wellkept.open(tmp_path / "single") as single, wellkept.open(tmp_path / "long") as long:
        many, one, slow = (
            wellkept.keep(cache=c, name="f", **options)(scaled) for c in (cache, single, long)
        )
        slow.plain = False
        given = [*range(20), True, 2.5, -0.0, 10**30]
        assert [slow(n) for n in given] == many.map(given)
        taken = len(shortened)
        assert taken >= (0 if "meta" in options else 20)
        assert [one(n) for n in given] == many.map(given)
        assert len(shortened) >= 2 * taken
        for n in given:
            found = [c.calls.get(one.key(n)) for c in (cache, single, long)]
            mine, other, theirs = (call for call in found if call is not None)
            assert len({call.expires is None for call in (mine, other, theirs)}) == 1
            assert said(mine)._replace(expires=None) == said(theirs)._replace(expires=None)
            assert said(other)._replace(expires=None) == said(theirs)._replace(expires=None)
        assert many.counts.computed == one.counts.computed == slow.counts.computed == len(given)


def test_a_call_that_comes_twice_is_computed_once(
    cache: wellkept.Cache, shortened: list[bytes]
) -> None:
    f = wellkept.keep(cache=cache)(scaled)
    assert f.map([1, 2, 3, 2, 3, 1]) == [2.5, 4.5, 6.5, 4.5, 6.5, 2.5]
    assert RAN == [1, 2, 3]
    assert shortened


def test_what_changes_between_two_calls_counts_for_the_next(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch, shortened: list[bytes]
) -> None:
    @contextlib.contextmanager
    def bar(*_: Any) -> Iterator[Any]:
        # Each is told of when it is done.
        yield lambda: scale(5) if len(RAN) == 7 else None

    monkeypatch.setattr(executor, "progress_bar", bar)
    f = wellkept.keep(cache=cache)(scaled)
    assert f.map(range(10)) == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5, 12.5, 35.5, 40.5, 45.5]
    assert len(shortened) > 5
    assert [f.contains(n) for n in (3, 6, 7, 9)] == [False, False, True, True]
    scale(2)
    assert [f.contains(n) for n in (3, 6, 7, 9)] == [True, True, False, False]


def test_what_another_thread_changes_meanwhile_is_not_kept(
    cache: wellkept.Cache, shortened: list[bytes]
) -> None:
    go, done, end = (threading.Event() for _ in range(3))

    def other() -> None:
        go.wait(60)
        scale(3)
        done.set()
        end.wait(60)

    def body(n: int) -> int:
        found = n * SCALE
        if n == 5:
            go.set()
            done.wait(60)
        return found

    f = wellkept.keep(cache=cache, ignore_globals=("go", "done"))(body)
    thread = threading.Thread(target=other)
    thread.start()
    try:
        with pytest.warns(wellkept.KeptWarning, match="was changed while it ran"):
            assert f.map(range(8)) == [0, 2, 4, 6, 8, 10, 18, 21]
    finally:
        go.set()
        end.set()
        thread.join(60)
    assert len(shortened) > 3
    assert [f.contains(n) for n in (4, 5, 6)] == [False, False, True]
    scale(2)
    assert [f.contains(n) for n in (4, 5, 6)] == [True, False, False]


def test_what_another_process_keeps_meanwhile_is_a_hit(
    cache: wellkept.Cache, tmp_path: Path, shortened: list[bytes]
) -> None:
    # Another cache of the same place sees nothing of this one, as another process.
    with wellkept.open(tmp_path / "cache") as other:

        def body(n: int) -> int:
            RAN.append(n)
            if n == 4:
                theirs(6)
            return n

        f = wellkept.keep(cache=cache, name="f", version=1)(body)
        theirs = wellkept.keep(cache=other, name="f", version=1)(lambda n: n + 100)
        assert f.map(range(8)) == [0, 1, 2, 3, 4, 5, 106, 7]
    assert RAN == [0, 1, 2, 3, 4, 5, 7]
    assert len(shortened) > 5


def test_what_another_computes_is_waited_for(cache: wellkept.Cache, tmp_path: Path) -> None:
    begun, end = threading.Event(), threading.Event()
    with wellkept.open(tmp_path / "cache") as other:

        def slow(n: int) -> int:
            begun.set()
            end.wait(60)
            return -n

        theirs = wellkept.keep(cache=other, name="f", version=1)(slow)
        thread = threading.Thread(target=theirs, args=(6,))

        def body(n: int) -> int:
            if n == 2:
                thread.start()
                begun.wait(60)
            if n == 5:
                threading.Timer(0.05, end.set).start()
            return n

        f = wellkept.keep(cache=cache, name="f", version=1)(body)
        assert f.map(range(8)) == [0, 1, 2, 3, 4, 5, -6, 7]
        thread.join(60)
    assert f.counts.waited == 1


def test_what_they_call_is_theirs(cache: wellkept.Cache, shortened: list[bytes]) -> None:
    inner = wellkept.keep(cache=cache, name="inner")(lambda n: n + 1)
    outer = wellkept.keep(cache=cache, name="outer", version=1)(lambda n: inner(n) * 2)
    assert outer.map(range(6)) == [2, 4, 6, 8, 10, 12]
    assert outer.key(5).raw in shortened
    record = cache.calls.get(inner.key(5))
    assert record is not None
    assert record.metadata["parent"] == outer.key(5)
    assert current.get() is None


def test_what_a_thread_calls_that_outlives_its_body_is_the_body_s(
    cache: wellkept.Cache, shortened: list[bytes]
) -> None:
    inner = wellkept.keep(cache=cache, name="inner")(lambda n: n + 1)
    go = threading.Event()
    threads = []

    def later(n: int) -> None:
        go.wait(60)
        inner(n)

    def body(n: int) -> int:
        if n == 3:
            threads.append(threading.Thread(target=later, args=(n,)))
            threads[0].start()
        if n == 5:
            go.set()
            threads[0].join(60)
        return n

    outer = wellkept.keep(cache=cache, name="outer", version=1)(body)
    outer.map(range(9))
    assert len(shortened) > 5
    record = cache.calls.get(inner.key(3))
    assert record is not None
    assert record.metadata["parent"] == outer.key(3)


@pytest.mark.parametrize("kept", [False, True])
def test_a_body_that_fails(cache: wellkept.Cache, shortened: list[bytes], kept: bool) -> None:
    def body(n: int) -> int:
        RAN.append(n)
        if n == 5:
            raise ValueError(n)
        return n

    f = wellkept.keep(cache=cache, errors=ValueError if kept else ())(body)
    for _ in range(2):
        with pytest.raises(ValueError, match="5"):
            f.map(range(9))
    assert RAN[:6] == [0, 1, 2, 3, 4, 5]
    assert RAN[6:] == ([] if kept else [5])
    assert [f.contains(n) for n in (4, 5, 6)] == [True, kept, False]
    assert f.counts.failed == (1 if kept else 2)
    assert not cache.backend.locks.holds(f.key(5).raw)


def test_a_body_that_is_interrupted_leaves_no_lease(cache: wellkept.Cache) -> None:
    def body(n: int) -> int:
        if n == 5:
            raise KeyboardInterrupt
        return n

    f = wellkept.keep(cache=cache)(body)
    with pytest.raises(KeyboardInterrupt):
        f.map(range(9))
    keys = [f.key(n).raw for n in range(9)]
    deadline = time.monotonic() + 60
    while any(map(cache.backend.locks.holds, keys)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(cache.backend.locks.holds, keys))
    assert [f.contains(n) for n in (4, 5, 6)] == [True, False, False]


def test_an_interrupt_before_a_body_is_told_as_it_is(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Any) -> None:
        raise KeyboardInterrupt

    f = wellkept.keep(cache=cache)(scaled)
    f(0)
    monkeypatch.setattr(many_calls.Flight, "enter", interrupt)
    with pytest.raises(KeyboardInterrupt):
        f.map(range(1, 9))
    assert not cache.backend.locks.holds(f.key(1).raw)
    assert current.get() is None


def test_leases_end_wherever_an_interrupt_comes(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    locks, failed = cache.backend.locks, []
    monkeypatch.setattr(sys, "unraisablehook", failed.append)

    def make() -> None:
        flight = many_calls.Flights(None, locks, Landing())
        flight.key = b"k" * 32
        flight.take()

    for at in points(make):
        # An interrupt of the end itself is nobody's.
        if at[0].co_name in ("__init__", "take", "acquire"):
            interrupted(make, at)
            holder = locks.holder(b"k" * 32)
            assert holder is None or holder.over
    assert not failed


def test_a_lease_is_held_until_the_result_is_written(cache: wellkept.Cache) -> None:
    found = []

    def body(n: int) -> Any:
        found.append(n == 0 or cache.backend.locks.holds(f.key(n - 1).raw))
        return (n, [n], {"n": n})[n % 3]

    f = wellkept.keep(cache=cache, version=1)(body)
    f(99)
    f.map(range(9))
    assert found[1:] == [True] * 9
    assert not any(cache.backend.locks.holds(f.key(n).raw) for n in range(9))


def test_what_can_t_be_written_for_a_while_is_written_later(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = []

    def commit_many(*given: Any) -> Any:
        if full:
            raise wellkept.StoreError("the disk is full")
        return written(*given)

    @contextlib.contextmanager
    def bar(*_: Any) -> Iterator[Any]:
        # Each is told of when it is done: the second `2` is asked for while nothing can be written.
        yield lambda: full.clear() if RAN[-1] == 5 else None

    written = cache.backend.commit_many
    monkeypatch.setattr(cache.backend, "commit_many", commit_many)
    monkeypatch.setattr(executor, "progress_bar", bar)
    f = wellkept.keep(cache=cache, version=1)(scaled)
    f(99)
    full.append(True)
    assert f.map([1, 2, 3, 2, 4, 5, 6]) == [2.5, 4.5, 6.5, 4.5, 8.5, 10.5, 12.5]
    assert all(f.contains(n) for n in range(1, 7))
    assert not any(cache.backend.locks.holds(f.key(n).raw) for n in range(1, 7))


def test_a_result_that_is_none_of_the_plain_ones(
    cache: wellkept.Cache, shortened: list[bytes]
) -> None:
    f = wellkept.keep(cache=cache)(
        lambda n: [n, {"n": n}] if n % 2 else (lambda: n) if n == 4 else n
    )
    found = f.map(range(9))
    assert found[3] == [3, {"n": 3}]
    assert found[4]() == 4
    with pytest.warns(wellkept.KeptWarning, match="returned, not kept"):
        wellkept.keep(cache=cache, version=1)(lambda n: threading.Lock() if n == 4 else n).map(
            range(9)
        )
    assert all(f.contains(n) for n in range(9))
    assert len(shortened) > 5


def test_a_body_that_goes_to_another_cache_is_followed_there(
    tmp_path: Path, shortened: list[bytes]
) -> None:
    first, second = (wellkept.open(tmp_path / name) for name in ("first", "second"))

    def body(n: int) -> int:
        if n == 5:
            wellkept.set_cache(second)
        return n

    f = wellkept.keep(ignore_globals="second")(body)
    wellkept.set_cache(first)
    try:
        f.map(range(9))
    finally:
        wellkept.set_cache(None)
    assert len(shortened) > 3
    with first, second:
        there = [[c.calls.get(f.key(n)) is not None for n in range(9)] for c in (first, second)]
    assert there == [[n <= 5 for n in range(9)], [n > 5 for n in range(9)]]


def test_a_body_that_goes_to_another_directory_is_followed_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shortened: list[bytes]
) -> None:
    def body(n: int) -> int:
        if n == 5:
            os.chdir(places[1])
        return n

    places = [tmp_path / "first", tmp_path / "second"]
    for place in places:
        place.mkdir()
    monkeypatch.chdir(places[0])
    f = wellkept.keep(cache="./cache", version=1)(body)
    f.map(range(9))
    assert len(shortened) > 3
    there = []
    for place in places:
        with wellkept.open(place / "cache") as cache:
            there.append([cache.calls.get(f.key(n)) is not None for n in range(9)])
    assert there == [[n <= 5 for n in range(9)], [n > 5 for n in range(9)]]


def test_a_cache_that_can_t_be_opened_any_more_stops_nobody(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> wellkept.Cache:
        raise wellkept.StoreError("it can't be opened")

    def body(n: int) -> int:
        if n == 5:
            wellkept.set_cache(None)
        return n

    f = wellkept.keep(version=1)(body)
    # The package has a function of that name.
    monkeypatch.setattr(sys.modules["wellkept.caches.active"], "_open_default", fails)
    wellkept.set_cache(cache)
    try:
        with pytest.warns(wellkept.KeptWarning, match="can't be opened"):
            found = [f.map(range(9)) for _ in range(2)]
    finally:
        wellkept.set_cache(None)
    assert found == [[*range(9)]] * 2


def test_what_a_body_says_of_the_next_calls_is_recorded(cache: wellkept.Cache) -> None:
    stack = contextlib.ExitStack()

    def body(n: int) -> int:
        if n == 5:
            stack.enter_context(wellkept.tags(after=n))
        return n

    f = wellkept.keep(cache=cache, version=1)(body)
    with stack:
        f.map(range(9))
    records = [cache.calls.get(f.key(n)) for n in range(9)]
    assert [r is not None and "tags" in r.metadata for r in records] == [n > 5 for n in range(9)]


def test_a_place_that_is_opened_anew_is_asked_anew(cache: wellkept.Cache) -> None:
    def body(n: int) -> int:
        if n == 5:
            cache.close()
        return n

    f = wellkept.keep(cache=cache, ignore_globals="cache")(body)
    assert f.map(range(9)) == [*range(9)]
    coding = f.locator.coding()
    assert coding.wider_note in cache.noted


def test_who_calls_is_as_wide_as_what_it_maps(
    cache: wellkept.Cache, shortened: list[bytes]
) -> None:
    f = wellkept.keep(cache=cache)(scaled)
    f(0)
    f.locator.wider = frozenset({"colorsys"})
    f.locator.renew()
    f(1)
    outer = Observed(None, None).enter()
    try:
        f.map(range(2, 9))
    finally:
        outer.leave()
    assert len(shortened) > 5
    assert "colorsys" in outer.widened


def test_what_failed_elsewhere_makes_no_call_unusual(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    unusual: list[Any] = []
    usual = plain_calls.ended
    monkeypatch.setattr(plain_calls, "ended", lambda *given: unusual.append(1) or usual(*given))
    f = wellkept.keep(cache=cache, version=1)(scaled)
    f(0)
    with pytest.raises(ZeroDivisionError):
        wellkept.keep(cache=cache, version=1)(lambda n: n / 0)(1)
    f.map(range(1, 9))
    assert not unusual


def test_functions_keep_neither_themselves_nor_a_cache_alive(tmp_path: Path) -> None:
    f: Any = wellkept.keep(lambda n: n, version=1)
    for name in ("first", "second"):
        with wellkept.open(tmp_path / name) as cache:
            wellkept.set_cache(cache)
            try:
                f.map(range(9))
                assert f(10) == 10
                assert f.same is not None
            finally:
                wellkept.set_cache(None)
        gone = weakref.ref(cache)
        del cache
        # A thread that writes what is late may just be looking.
        deadline = time.monotonic() + 60
        while gone() is not None and time.monotonic() < deadline:
            gc.collect()
            time.sleep(0.01)
        assert gone() is None
    function = weakref.ref(f)
    gc.disable()
    try:
        del f
        assert function() is None
    finally:
        gc.enable()
