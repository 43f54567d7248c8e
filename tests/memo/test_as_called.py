"""A body is called as its caller called it, and fails as it would if it were not kept."""

import functools
import inspect
import math
import operator
import random
import sys
import threading
import traceback
import typing
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest

import wellkept
from wellkept import keep

GIVEN: list[Any] = []


def noting(*args: Any, **kwargs: Any) -> int:
    GIVEN.append((args, kwargs))
    return 1


noting.__wrapped__ = lambda a, b=2, *, c=3: None  # type: ignore[attr-defined]  # a decorator's


@pytest.fixture(autouse=True)
def nothing_given() -> None:
    GIVEN.clear()


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((1,), {"b": 2}), ((), {"a": 1, "c": 3})]
)
def test_the_body_is_given_what_the_caller_gave(args: Any, kwargs: Any) -> None:
    function: Any = keep(version=1, verify=1.0)(noting)
    function(*args, **kwargs)
    function(*args, **kwargs)  # verified
    function.rerun(*args, **kwargs)
    function.bind(*args, **kwargs)()
    assert [given for given in GIVEN if given == (args, kwargs)] == GIVEN
    assert len(GIVEN) == 4


def test_the_users_random_numbers_are_left_alone() -> None:
    function = keep(verify=0.5)(lambda x: x)
    random.seed(1)
    expected = [random.random() for _ in range(20)]
    random.seed(1)
    got = []
    for i in range(20):
        function(i % 2)
        got.append(random.random())
    assert got == expected


@keep
def fails(x: int) -> None:
    try:
        {}["there"]
    except KeyError:
        raise ValueError(x)  # noqa: B904  the context is what is looked for


@keep
async def fails_later(x: int) -> None:
    fails.__wrapped__(x)


@keep
def fails_inside(x: int) -> Iterator[int]:
    yield x
    fails.__wrapped__(x)


@keep
async def fails_inside_later(x: int) -> AsyncIterator[int]:
    yield x
    fails.__wrapped__(x)


async def _drained(items: Any) -> list[Any]:
    return [item async for item in items]


def _driven(coroutine: Any) -> Any:
    """Run one that waits for nothing; a loop would raise its exception in a context of its own."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: fails(1),
        lambda: fails.rerun(1),
        lambda: _driven(fails_later(1)),
        lambda: list(fails_inside(1)),
        lambda: _driven(_drained(fails_inside_later(1))),
    ],
)
def test_a_failing_body_shows_one_frame_of_the_library(call: Any) -> None:
    outer = LookupError()
    try:
        raise outer
    except LookupError:
        with pytest.raises(ValueError, match="1") as caught:
            call()
    error = caught.value
    assert isinstance(error.__context__, KeyError)
    assert error.__context__.__context__ is outer
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if "/wellkept/" in frame.filename]
    assert len(ours) == (3 if "rerun" in ours else 1), ours
    assert frames[-1].name == "fails"


def test_a_body_that_raises_stop_iteration() -> None:
    @keep
    def stops(x: int) -> None:
        raise StopIteration(x)

    with pytest.raises(StopIteration) as caught:
        stops(3)
    assert caught.value.value == 3


def test_a_recursive_function_goes_deep() -> None:
    @keep
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(250) == 250
    assert down.stats().computed == 251


# -- what changes in place -------------------------------------------------------------------------


def test_defaults_that_are_replaced() -> None:
    def f(a: int, b: int = 2, *, c: int = 3) -> Any:
        return a, b, c

    function: Any = keep(f)
    assert function(1) == (1, 2, 3)
    f.__defaults__ = (5,)
    assert [function(1), function(1, 2), function(1)] == [(1, 5, 3), (1, 2, 3), (1, 5, 3)]
    assert f.__kwdefaults__ is not None
    f.__kwdefaults__["c"] = 7
    assert [function(1), function(1, c=3), function(1)] == [(1, 5, 7), (1, 5, 3), (1, 5, 7)]
    f.__defaults__ = None
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'b'"):
        function(1)
    f.__defaults__ = (8, 9)
    assert [function(), function()] == [(8, 9, 7)] * 2


def test_code_that_is_replaced_by_code_with_other_parameters() -> None:
    def one(a: Any, b: Any) -> Any:
        return "a", a, "b", b

    def two(b: Any, a: Any) -> Any:
        return "a", a, "b", b

    def three(x: Any, y: Any = 3) -> Any:
        return x, y

    function: Any = keep(one)
    assert function(1, 2) == ("a", 1, "b", 2)
    one.__code__ = two.__code__
    assert [function(1, 2), function(a=1, b=2), function(1, 2)] == [
        ("a", 2, "b", 1), ("a", 1, "b", 2), ("a", 2, "b", 1),
    ]  # fmt: skip
    one.__code__, one.__defaults__ = three.__code__, three.__defaults__
    assert [function(1), function(x=1), function(1, y=4), function(1)] == [
        (1, 3), (1, 3), (1, 4), (1, 3),
    ]  # fmt: skip
    assert function.stats().computed == 5


def test_a_partials_keywords() -> None:
    partial = functools.partial(lambda a, b=1: (a, b), b=2)
    function: Any = keep(partial)
    assert function(1) == (1, 2)
    partial.keywords["b"] = 3
    assert [function(1), function(1, b=2), function(1, b=3)] == [(1, 3), (1, 2), (1, 3)]


# -- decorators that are not seen through -----------------------------------------------------------


def counted(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return len(args), function(*args, **kwargs)

    return inner


class Held:
    """A receiver without a digest."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    @keep(ignore=["self"])
    @counted
    def double(self, x: int, how: Annotated[str, wellkept.Ignored] = "") -> int:
        GIVEN.append(x)
        return 2 * x


def test_its_receiver_and_its_keywords_can_be_ignored() -> None:
    held: Any = Held()
    assert [held.double(2), Held().double(2)] == [(2, 4)] * 2
    assert [held.double(2, how="a"), held.double(2, how="b")] == [(2, 4)] * 2
    assert GIVEN == [2]
    assert held.double(2, "a") == (3, 4)


def test_what_it_requires_may_come_by_position() -> None:
    @keep(require=["data"])
    @counted
    def f(x: int, data: Any = None) -> int:
        GIVEN.append(x)
        return x

    f(1, 2), f(1, 2), f(1), f(1)
    assert GIVEN == [1, 1, 1]


def test_many_calls_are_made_as_they_are_given() -> None:
    @keep
    @counted
    def f(x: int, y: int = 2) -> Any:
        return x, y

    assert f.map([1, 2]) == [(1, (1, 2)), (1, (2, 2))]
    assert f.map([1, 2], [2, 2]) == [(2, (1, 2)), (2, (2, 2))]
    with ThreadPoolExecutor(2) as pool:
        assert f.submit(pool, 1, y=2).result() == (1, (1, 2))
        assert f.submit(pool, 1, 2).result() == (2, (1, 2))
        assert f.map([1, 3], executor=pool) == [(1, (1, 2)), (1, (3, 2))]
    assert f.stats().computed == 6


def test_digests_among_arguments_without_names() -> None:
    @keep
    def numbers() -> list[int]:
        return [7]

    numbers()
    name = numbers.call().result
    f: Any = keep(counted(lambda x, y=2: (x, y)))
    assert [f(name), f([7]), f(1, y=name), f(1, y=[7])] == [(1, ([7], 2))] * 2 + [(1, (1, [7]))] * 2
    assert f.stats().computed == 2


# -- in a class ---------------------------------------------------------------------------------------


class Holder:
    root = keep(math.sqrt)
    plus = keep(functools.partial(operator.add, 1))
    number = keep(int)
    cached = keep(functools.lru_cache(lambda self, x: x))


def test_what_is_no_method_in_a_class_is_none_when_it_is_kept() -> None:
    holder: Any = Holder()
    assert [holder.root(4), holder.number("7"), holder.cached(5)] == [2.0, 7, 5]
    if sys.version_info < (3, 14):
        assert holder.plus(1) == 2


def test_a_bound_method_has_what_frameworks_ask_for() -> None:
    method: Any = Held().double
    # Asking a class makes it annotations of its own, up to Python 3.13.
    assert type(method).__annotations__ is not None
    assert method.__func__ is Held.double
    assert method.__globals__ is globals()
    assert inspect.ismethod(method.__wrapped__)
    assert typing.get_type_hints(method)["x"] is int


class Unbound:
    """A proxy that stands for nothing yet."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("outside of a context")

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("outside of a context")


def test_a_proxy_that_stands_for_nothing_is_given_and_returned() -> None:
    import concurrent.futures  # a result may be a future

    proxy = Unbound()
    assert concurrent.futures
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert keep(lambda: proxy)() is proxy
        assert keep(lambda x: x)(proxy) is proxy
