"""Generators: recorded as they run, replayed as generators."""

import inspect
import itertools
from collections.abc import Generator, Iterator
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []


@keep
def count(n: int) -> Generator[int, None, str]:
    RAN.append("start")
    for i in range(n):
        RAN.append(i)
        yield i
    return "done"


@keep
def naturals() -> Iterator[int]:
    RAN.append("start")
    try:
        yield from itertools.count()
    finally:
        RAN.append("closed")


@keep
def echo() -> Generator[Any, Any, None]:
    RAN.append("start")
    got = None
    while True:
        try:
            got = yield got
        except ValueError as error:
            got = f"caught {error}"
        if got is None:
            return


@keep
def lists() -> Iterator[list[int]]:
    item = [0]
    for i in range(3):
        item.append(i)
        yield item


def drain(generator: Generator[Any, Any, Any]) -> tuple[list[Any], Any]:
    items = []
    while True:
        try:
            items.append(next(generator))
        except StopIteration as stop:
            return items, stop.value


def test_items_and_return_value_come_back() -> None:
    assert drain(count(3)) == ([0, 1, 2], "done")
    assert RAN == ["start", 0, 1, 2]
    for _ in range(3):
        again = count(3)
        assert inspect.isgenerator(again)
        assert drain(again) == ([0, 1, 2], "done")
    assert RAN == ["start", 0, 1, 2]
    assert drain(count.load(3)) == ([0, 1, 2], "done")


def test_an_empty_one() -> None:
    assert drain(count(0)) == drain(count(0)) == ([], "done")
    assert RAN == ["start"]


def test_nothing_runs_before_the_first_item() -> None:
    generator = count(2)
    assert RAN == []
    assert next(generator) == 0
    assert RAN == ["start", 0]  # at the consumer's pace


def test_one_that_was_left_early_is_not_kept() -> None:
    first = count(3)
    assert next(first) == 0
    first.close()
    assert not count.contains(3)
    assert drain(count(3)) == ([0, 1, 2], "done")
    assert RAN.count("start") == 2


def test_one_that_never_ends() -> None:
    assert list(itertools.islice(naturals(), 5)) == [0, 1, 2, 3, 4]
    assert list(itertools.islice(naturals(), 3)) == [0, 1, 2]
    assert not naturals.contains()
    assert RAN.count("start") == 2


def test_closing_reaches_the_body() -> None:
    generator = naturals()
    next(generator)
    generator.close()  # type: ignore[attr-defined]
    assert RAN == ["start", "closed"]


def test_send_reaches_the_body_and_is_not_kept() -> None:
    generator = echo()
    assert next(generator) is None
    assert generator.send("a") == "a"
    assert generator.send("b") == "b"
    with pytest.raises(StopIteration):
        generator.send(None)
    assert not echo.contains()
    assert drain(echo()) == ([None], None)  # next() is send(None)
    assert drain(echo()) == ([None], None)
    assert RAN == ["start", "start"]


def test_throw_reaches_the_body_and_is_not_kept() -> None:
    generator = echo()
    next(generator)
    assert generator.throw(ValueError("x")) == "caught x"
    with pytest.raises(StopIteration):
        next(generator)
    assert not echo.contains()
    generator = echo()
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError("y"))


def test_items_that_are_changed_later_are_kept_as_they_were() -> None:
    expected = [[0, 0], [0, 0, 1], [0, 0, 1, 2]]
    seen = []
    for item in lists():
        seen.append(list(item))
        item_before = list(item)
        assert item_before == seen[-1]
    assert seen == expected
    assert list(lists()) == expected
    for item in lists():
        item.append(99)
    assert list(lists()) == expected


def test_a_consumer_that_changes_items_changes_nothing_kept() -> None:
    @keep
    def rows() -> Iterator[dict[str, int]]:
        yield {"a": 1}
        yield {"b": 2}

    for row in rows():
        row.clear()
    assert list(rows()) == [{"a": 1}, {"b": 2}]


def test_two_consumers_do_not_disturb_each_other() -> None:
    list(count(3))
    one, two = count(3), count(3)
    assert [next(one), next(two), next(one), next(two), next(two)] == [0, 0, 1, 1, 2]
    assert drain(one) == ([2], "done")


def test_an_exception_ends_it_unkept() -> None:
    @keep
    def broken() -> Iterator[int]:
        RAN.append("start")
        yield 1
        raise ValueError("half way")

    for _ in range(2):
        with pytest.raises(ValueError, match="half way"):
            list(broken())
    assert RAN == ["start", "start"]


def test_an_item_that_cannot_be_kept_is_yielded() -> None:
    import threading

    @keep
    def locks() -> Iterator[Any]:
        yield 1
        yield threading.Lock()

    with pytest.warns(wellkept.KeptWarning, match="locks"):
        items = list(locks())
    assert items[0] == 1
    assert items[1].acquire()
    assert locks.stats().unstorable == 1


def test_rerun_forget_and_when() -> None:
    @keep(when=lambda items: len(items) > 1)
    def up_to(n: int) -> Iterator[int]:
        RAN.append(n)
        yield from range(n)

    assert list(up_to(1)) == list(up_to(1)) == [0]
    assert RAN == [1, 1]
    assert list(up_to(2)) == list(up_to(2)) == [0, 1]
    assert RAN == [1, 1, 2]
    assert list(up_to.rerun(2)) == [0, 1]
    assert RAN == [1, 1, 2, 2]
    assert up_to.forget(2)
    with pytest.raises(wellkept.NotKept):
        list(up_to.load(2))


def test_the_json_codec() -> None:
    @keep(codec="json", strict=True)
    def words() -> Iterator[str]:
        RAN.append(1)
        yield "a"
        yield "b"

    assert list(words()) == list(words()) == ["a", "b"]
    assert RAN == [1]


def test_it_shows_as_a_generator_function() -> None:
    assert inspect.isgeneratorfunction(count)
    assert not inspect.iscoroutinefunction(count)
    assert not inspect.isgeneratorfunction(keep(len))


def test_wrong_arguments_fail_at_the_call() -> None:
    with pytest.raises(TypeError, match=r"count\(\) missing 1 required positional argument"):
        count()  # type: ignore[call-arg]


def test_map() -> None:
    assert [list(items) for items in count.map([1, 2])] == [[0], [0, 1]]
