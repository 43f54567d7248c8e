"""A digest given as an argument stands for the value that it names."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import wellkept
from wellkept import Digest, digest, keep

RAN: list[Any] = []
ABSENT = digest("nobody kept this")


@keep
def make(n: int) -> list[int]:
    RAN.append(("make", n))
    return list(range(n))


@keep
def total(items: list[int], *more: list[int], scale: int = 1, **named: list[int]) -> int:
    RAN.append(("total", items, more, scale, named))
    return scale * (sum(items) + sum(map(sum, more)) + sum(map(sum, named.values())))


@keep
def each(items: list[int]) -> Iterator[int]:
    yield from items


@keep
async def later(items: list[int]) -> int:
    return sum(items)


@keep
async def ticks(items: list[int]) -> AsyncIterator[int]:
    for item in items:
        yield item


@pytest.fixture
def name() -> Digest:
    make(4)
    return make.call(4).result


def test_the_value_is_loaded_before_the_body_runs(name: Digest) -> None:
    assert total(name) == 6  # type: ignore[arg-type]
    assert RAN[-1] == ("total", [0, 1, 2, 3], (), 1, {})


def test_the_key_is_the_values_own(name: Digest) -> None:
    value = make(4)
    assert name == digest(value)
    assert total.key(name) == total.key(value)  # type: ignore[arg-type]
    total(name)  # type: ignore[arg-type]
    ran = len(RAN)
    assert total(value) == 6
    assert total.load(value) == 6
    assert len(RAN) == ran


def test_among_star_arguments_too(name: Digest) -> None:
    value = make(4)
    assert total(value, name, name, a=name) == 24  # type: ignore[arg-type]
    assert RAN[-1] == ("total", value, (value, value), 1, {"a": value})
    assert total.key(value, name, a=name) == total.key(value, value, a=value)  # type: ignore[arg-type]
    ran = len(RAN)
    assert total(name, value, value, a=value) == 24  # type: ignore[arg-type]
    assert len(RAN) == ran


def test_a_hit_needs_no_value(name: Digest) -> None:
    total(make(4))
    total.cache.values.delete(name)
    assert total(name) == 6  # type: ignore[arg-type]


def test_in_every_kind_of_function(name: Digest) -> None:
    assert list(each(name)) == list(each(make(4))) == [0, 1, 2, 3]  # type: ignore[arg-type]
    assert asyncio.run(later(name)) == 6  # type: ignore[arg-type]

    async def items() -> list[int]:
        return [item async for item in ticks(name)]  # type: ignore[arg-type]

    assert asyncio.run(items()) == asyncio.run(items()) == [0, 1, 2, 3]


def test_for_an_option_that_reads_the_arguments(name: Digest) -> None:
    @keep(key=lambda items, limit: items[:limit])
    def first(items: list[int], limit: int) -> list[int]:
        return items[:limit]

    assert first(name, 2) == [0, 1]  # type: ignore[arg-type]
    assert first.key(name, 2) == first.key([0, 1, 9], 2)  # type: ignore[arg-type]


def test_for_an_ignored_parameter_and_an_unkept_call(name: Digest) -> None:
    @keep(ignore="items")
    def one(items: list[int], x: int) -> int:
        return len(items)

    @keep(require="x")
    def two(items: list[int], x: int | None = None) -> int:
        return len(items)

    @keep
    def three(items: list[int], x: Any) -> int:
        return len(items)

    assert one(name, 1) == 4  # type: ignore[arg-type]
    assert two(name) == 4  # type: ignore[arg-type]
    with pytest.warns(wellkept.KeptWarning):
        assert three(name, iter([])) == 4  # type: ignore[arg-type]


@pytest.mark.parametrize("strict", [False, True])
def test_an_absent_value_is_not_kept(strict: bool) -> None:
    @keep(strict=strict)
    def f(items: Any, *more: Any) -> None:
        RAN.append("f")

    @keep(strict=strict)
    def g(items: Any) -> Iterator[int]:
        RAN.append("g")
        yield 1

    for call in (lambda: f(ABSENT), lambda: f(1, ABSENT), lambda: f.rerun(ABSENT)):
        with pytest.raises(wellkept.NotKept, match=ABSENT[:8]):
            call()
    with pytest.raises(wellkept.NotKept):
        list(g(ABSENT))
    assert RAN == []


def test_without_a_cache_a_body_does_not_run_on_a_name(name: Digest) -> None:
    @keep(cache="void:")
    def f(items: Any) -> None:
        RAN.append("f")

    with pytest.raises(wellkept.NotKept):
        f(name)
    assert "f" not in RAN


def test_text_that_looks_like_a_digest_is_text(name: Digest) -> None:
    @keep
    def kind(x: Any) -> str:
        return type(x).__name__

    assert kind(str(name)[:63] + name[63]) == "str"
    assert kind(name) == "list"
