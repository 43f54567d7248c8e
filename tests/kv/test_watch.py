"""A watch on a medium that is away for a moment, at whichever of its steps."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

import pytest

import wellkept
from wellkept.errors import StoreError
from wellkept.kv import watch


@pytest.mark.parametrize("verb", ["newest", "remove", "changes", "get", "due", "wait"])
def test_a_watch_outlives_a_medium_that_is_away_at_a_step(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_BACK", 0.001)
    store = wellkept.store("s", cache="memory:")
    entries = store.service.entries
    begin = store.revision
    store["first"] = "x" * 5000  # so large that it is read beside the log
    ask = getattr(entries, verb)
    asked = 0

    def once_away(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise StoreError("away")
        if asked == 2 and verb in ("due", "wait"):  # which are asked where there is no news
            store["second"] = 2
        return ask(*arguments)

    monkeypatch.setattr(entries, verb, once_away)
    changes = store.watch(since=None if verb == "newest" else begin, timeout=60)
    if verb == "newest":
        store["first"] = "y" * 5000
    assert next(changes).key == "first"
    if verb in ("due", "wait"):
        assert next(changes).key == "second"
    assert asked > 1


def test_a_watch_of_a_medium_that_stays_away_ends_with_its_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_BACK", 0.001)
    store = wellkept.store("s", cache="memory:")

    def away(*arguments: Any) -> Any:
        raise StoreError("away for good")

    changes = store.watch(since=0, patience=0.01)
    monkeypatch.setattr(store.service.entries, "changes", away)
    with pytest.raises(StoreError, match="for good"):
        next(changes)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_subscription_belongs_to_its_process_and_goes_on_there_after_a_fork() -> None:
    store = wellkept.store("s", cache="memory:")
    told: queue.Queue[str] = queue.Queue()
    number = store.subscribe(lambda change: told.put(change.key))
    store["before"] = 1
    assert told.get(timeout=60) == "before"
    child = os.fork()
    if child == 0:
        os._exit(int(threading.active_count() > 1 or store.unsubscribe(number)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store["after"] = 2
    assert told.get(timeout=60) == "after"
    assert store.unsubscribe(number)
    assert told.empty()


def test_a_callback_may_end_its_own_subscription() -> None:
    store = wellkept.store("s", cache="memory:")
    told: queue.Queue[str] = queue.Queue()
    numbers: list[str] = []

    def once(change: Any) -> None:
        told.put(change.key)
        store.unsubscribe(numbers[0])

    numbers.append(store.subscribe(once))
    other = store.subscribe(lambda change: told.put(f"other {change.key}"))
    store.update({"a": 1, "b": 2})
    assert sorted(told.get(timeout=60) for _ in range(3)) == ["a", "other a", "other b"]
    store.unsubscribe(other)
