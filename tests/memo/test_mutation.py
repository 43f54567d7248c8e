"""Bodies and callers that change things: what is kept stays what it was."""

from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []
GLOBAL = [1, 2]
ARRAY = np.zeros(50_000)


@keep
def drops(items: list[int]) -> int:
    RAN.append(list(items))
    items.pop()
    return len(items)


@keep
def itself(x: Any) -> Any:
    RAN.append("itself")
    return x


@keep
def grows(items: list[int]) -> list[int]:
    items.append(0)
    return items


@keep(code="own")
def shared(n: int) -> list[int]:
    RAN.append(n)
    return GLOBAL


@keep
def big(n: int) -> Any:
    RAN.append(n)
    return {"a": np.full(50_000, float(n)), "b": [np.arange(20_000), "x"]}


@pytest.fixture(params=["256 MB", 0], ids=["tier", "no tier"], autouse=True)
def cache(request: pytest.FixtureRequest) -> Any:
    with wellkept.open("this", memory=request.param) as made, wellkept.use(made):
        yield made


def test_a_body_that_changes_its_argument_cannot_rekey_the_call() -> None:
    assert drops([1, 2, 3]) == 2
    assert drops.contains([1, 2, 3])
    assert not drops.contains([1, 2])
    assert drops([1, 2, 3]) == 2
    assert drops([1, 2]) == 1
    assert RAN == [[1, 2, 3], [1, 2]]


def test_a_body_that_changes_and_returns_its_argument() -> None:
    first = grows([1])
    assert first == [1, 0]
    first.append(9)
    assert grows([1]) == [1, 0]
    assert grows([1]) is not grows([1])


@pytest.mark.parametrize("value", [[1, [2]], {"a": [1]}, {1, 2}, bytearray(b"ab")])
def test_a_returned_argument_is_never_aliased(value: Any) -> None:
    import copy

    before = copy.deepcopy(value)
    itself(value)
    seen = [itself(value) for _ in range(3)]
    assert seen == [before] * 3
    assert len({id(item) for item in [*seen, value]}) == 4
    seen[0].clear()
    if isinstance(seen[1], dict):
        seen[1]["a"].append(5)
    assert itself(before) == before
    assert RAN == ["itself"]


def test_a_returned_global_is_kept_as_it_was() -> None:
    assert shared(1) == [1, 2]
    GLOBAL.append(3)
    try:
        assert shared(1) == [1, 2]
        assert shared(2) == [1, 2, 3]
    finally:
        GLOBAL.pop()


def test_arrays_that_callers_change() -> None:
    computed = big(3)
    computed["a"][:] = -1
    loaded = big(3)
    assert (loaded["a"] == 3).all()
    assert loaded["a"].flags.writeable
    loaded["a"][:] = -2
    loaded["b"][0][0] = 99
    again = big(3)
    assert (again["a"] == 3).all()
    assert again["b"][0][0] == 0
    assert not np.shares_memory(loaded["a"], again["a"])
    assert RAN == [3]


def test_an_array_that_the_body_keeps_changing() -> None:
    @keep
    def snapshot(n: int) -> Any:
        ARRAY[0] = n
        return ARRAY

    assert snapshot(1)[0] == 1
    assert snapshot(2)[0] == 2
    assert snapshot(1)[0] == 1
    assert snapshot(2)[0] == 2
    ARRAY[:] = 0
    assert snapshot(1)[0] == 1


def test_kept_bytes_survive_a_change_in_place(cache: wellkept.Cache) -> None:
    big(3)["a"][:] = 7
    name = big.call(3).result
    assert (cache.load(name)["a"] == 3).all()
    with wellkept.open("this") as fresh, wellkept.use(fresh):
        assert (big(3)["a"] == 3).all()
    assert RAN == [3]


def test_recursion_is_kept_at_each_depth() -> None:
    @keep(version=1)
    def fibonacci(n: int) -> int:
        RAN.append(n)
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    assert fibonacci(30) == 832040
    assert sorted(RAN) == list(range(31))
    assert fibonacci(29) == 514229
    assert len(RAN) == 31


@keep
def even(n: int) -> bool:
    RAN.append(n)
    return True if n == 0 else odd(n - 1)


@keep
def odd(n: int) -> bool:
    RAN.append(n)
    return False if n == 0 else even(n - 1)


def test_mutual_recursion() -> None:
    assert even(20) is True
    assert odd(20) is False
    assert len(RAN) == 42
    assert even(20) is True
    assert len(RAN) == 42


def test_recursion_on_its_own_key_ends() -> None:
    @keep(ignore="depth", version=1)
    def f(x: int, depth: int = 0) -> int:
        RAN.append(depth)
        return 1 + f(x, depth + 1) if depth < 3 else 0

    assert f(1) == 3
    assert RAN == [0, 1, 2, 3]
    assert f.contains(1)
    assert f(1, depth=7) in (0, 1, 2, 3)


def test_a_generator_that_consumes_itself() -> None:
    @keep(ignore="depth", version=1)
    def g(x: int, depth: int = 0) -> Any:
        yield depth
        if depth < 2:
            yield from g(x, depth + 1)

    assert list(g(1)) == [0, 1, 2]


def test_kept_functions_that_call_kept_functions() -> None:
    @keep
    def low(x: int) -> int:
        RAN.append(("low", x))
        return x

    @keep
    def high(x: int) -> int:
        RAN.append(("high", x))
        return sum(low(i) for i in range(x))

    assert high(3) == 3
    assert high(4) == 6
    assert RAN.count(("low", 1)) == 1
    low.forget(1)
    assert high(3) == 3
    assert RAN.count(("high", 3)) == 1


def test_a_body_that_forgets_or_reruns_its_own_call() -> None:
    @keep(version=1)
    def f(x: int) -> int:
        f.forget(x)
        RAN.append(x)
        return f.rerun(x - 1) + 1 if x else 0

    assert f(2) == 2
    assert f(2) == 2
    assert RAN == [2, 1, 0]
