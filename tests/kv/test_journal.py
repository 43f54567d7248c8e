"""The journal on media that can only create: read by those who slept, cut, damaged, from the future."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.thorough import often

from wellkept.errors import NewerSchema, StoreError
from wellkept.kv import memory_state
from wellkept.kv.entry import Name, Step
from wellkept.kv.memory_state import ItemsJournal, MemoryEntries
from wellkept.kv.plan import Op, stepping
from wellkept.stores import Files, Memory, Objects, Store

NAME = Name("c", "", "s")


@pytest.fixture(params=["files", "objects", "memory"])
def items(request: pytest.FixtureRequest, tmp_path: Path) -> Store[bytes]:
    if request.param == "objects":
        (tmp_path / "objects").mkdir()
        return Objects((tmp_path / "objects").as_uri())
    return Files(tmp_path) if request.param == "files" else Memory()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_state, "_SNAPSHOT", 20)
    monkeypatch.setattr(memory_state, "_LEFT", 5)


def entries(items: Store[bytes]) -> MemoryEntries:
    return MemoryEntries(ItemsJournal(items), history=1000)


def put(of: MemoryEntries, key: str, value: str, **options: Any) -> Any:
    return of.apply(NAME, [Step(key, value, **options)])


def lost(state: memory_state.State) -> Sequence[Op]:
    """A change of a state that others have left behind."""
    return stepping(memory_state._Look(state, 0.0), NAME, [Step("k", "lost")])[1]


def test_it_is_cut_and_nothing_is_lost(items: Store[bytes]) -> None:
    mine, other = entries(items), entries(items)
    for number in range(130):
        put(mine if number % 2 else other, f"k{number % 10}", str(number))
    assert len(list(items.keys("state/log/"))) < 40
    assert len(list(items.keys("state/snap/"))) <= 2
    for of in (mine, other, entries(items)):
        assert of.newest() == 130
        assert {entry.data for entry in of.page(NAME, "", None, 100, True)} == {
            str(number) for number in range(120, 130)
        }
        told, _ = of.changes(NAME, 100, 1000)
        assert [change.data for change in told] == [str(number) for number in range(100, 130)]


def test_who_slept_while_it_was_cut_reads_and_writes_no_old_place(items: Store[bytes]) -> None:
    sleeper, awake = entries(items), entries(items)
    put(sleeper, "k", "1")
    for number in range(100):
        put(awake, "k", str(number))
    assert sleeper.get(NAME, "k").data == "99"  # type: ignore[union-attr]  # it is there
    sleeper = entries(items)
    sleeper.get(NAME, "k")
    then = sleeper._state
    for number in range(100, 200):
        put(awake, "k", str(number))
    # As if it fell asleep after it had looked for news: its next number is free, as it was deleted.
    assert not sleeper._journal.write(then, lost(then))  # type: ignore[union-attr]  # it is there
    assert put(sleeper, "k", "late") is not None
    assert awake.get(NAME, "k").data == "late"  # type: ignore[union-attr]  # it is there
    assert awake.newest() == sleeper.newest() == 202


def test_who_slept_since_the_very_beginning_writes_no_first_change(items: Store[bytes]) -> None:
    sleeper, reader = entries(items), entries(items)
    assert sleeper.get(NAME, "k") is None
    assert reader.get(NAME, "k") is None
    then = sleeper._state
    for number in range(100):
        put(entries(items) if number % 9 == 0 else reader, "k", str(number))
    ops = lost(then)
    assert not sleeper._journal.write(then, ops)  # type: ignore[union-attr]  # it is there
    # As if the writer was killed before it took back what it had written.
    items.put(
        "state/log/0000000000000001", memory_state._packed([memory_state._plain(op) for op in ops])
    )
    assert sleeper.get(NAME, "k").data == "99"  # type: ignore[union-attr]  # it is there


def test_what_is_about_to_be_taken_back_is_no_place_to_write_behind(items: Store[bytes]) -> None:
    sleeper, awake = entries(items), entries(items)
    put(awake, "k", "1")
    assert sleeper.get(NAME, "k") is not None
    then = sleeper._state
    for number in range(100):
        put(awake, "k", str(number))
    ops = lost(then)
    # Another one that slept has put its change in the place of the one that was read last.
    items.put("state/log/0000000000000001", memory_state._packed([], "another's"))
    assert not sleeper._journal.write(then, ops)  # type: ignore[union-attr]  # it is there
    assert sleeper.get(NAME, "k").data == "99"  # type: ignore[union-attr]  # it is there


@pytest.mark.parametrize(("others", "tokens"), [(60, 1000), (60, 50)])
def test_a_change_counts_once_though_its_writer_stood_still_when_it_had_written(
    items: Store[bytes], monkeypatch: pytest.MonkeyPatch, others: int, tokens: int
) -> None:
    monkeypatch.setattr(memory_state, "TOKENS", tokens)
    sleeper, awake = entries(items), entries(items)
    put(sleeper, "n", "0")
    slept: list[str] = []

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(items, name)

        def create(self, key: str, item: bytes) -> bool:
            created: bool = items.create(key, item)  # type: ignore[attr-defined]  # each of them does
            for _ in range(0 if slept else others):
                add(awake)
            slept.append(key)
            return created

    def add(of: MemoryEntries) -> Any:
        found = of.get(NAME, "n")
        assert found is not None
        return put(of, "n", str(int(found.data) + 1), when=found.revision)

    found = sleeper.get(NAME, "n")
    assert found is not None
    sleeper._journal._items = Slow()  # type: ignore[union-attr]  # it is there
    if tokens < others:
        with pytest.raises(StoreError, match="can't tell whether"):
            put(sleeper, "n", "1", when=found.revision)
    else:
        assert put(sleeper, "n", "1", when=found.revision) is not None
    assert len(slept) == 1
    for of in (sleeper, awake, entries(items)):
        assert of.get(NAME, "n").data == str(others + 1)  # type: ignore[union-attr]  # it is there


@pytest.mark.long
def test_writers_that_stand_still_now_and_then_lose_and_repeat_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ItemsJournal.write

    def slow(self: ItemsJournal, state: memory_state.State, ops: Any) -> bool:
        if random.random() < 0.05:
            time.sleep(random.random() * 0.2)
        return write(self, state, ops)

    monkeypatch.setattr(ItemsJournal, "write", slow)
    for number in range(often(6, 20)):
        count_to_100(Files(tmp_path / str(number)))


def test_many_writers_take_turns(items: Store[bytes]) -> None:
    count_to_100(items)


def count_to_100(items: Store[bytes]) -> None:
    def add() -> None:
        of = entries(items)
        for _ in range(25):
            while True:
                found = of.get(NAME, "n")
                when = found.revision if found else 0
                value = str(int(found.data) + 1 if found else 1)
                if put(of, "n", value, when=when) is not None:
                    break

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert entries(items).get(NAME, "n").data == "100"  # type: ignore[union-attr]  # it is there


def test_damage_and_the_future_are_errors(items: Store[bytes]) -> None:
    put(entries(items), "k", "1")
    key = "state/log/0000000000000001"
    item = items.get(key)
    assert item is not None
    items.put(key, item[:-1] + bytes([item[-1] ^ 1]))
    with pytest.raises(StoreError, match="damaged at state/log"):
        entries(items).get(NAME, "k")
    with pytest.raises(StoreError, match="damaged at state/log"):
        put(entries(items), "k", "2")
    version, memory_state._VERSION = memory_state._VERSION, 99
    try:
        items.put(key, memory_state._packed([]))
    finally:
        memory_state._VERSION = version
    with pytest.raises(NewerSchema, match="format 99"):
        entries(items).get(NAME, "k")
