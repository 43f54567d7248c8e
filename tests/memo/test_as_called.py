"""A body is called as its caller called it, and fails as it would if it were not kept."""

import asyncio
import functools
import inspect
import math
import multiprocessing
import operator
import random
import sys
import threading
import traceback
import typing
import warnings
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
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


@keep(each="xs")
def fails_for_many(xs: list[int]) -> list[int]:
    fails.__wrapped__(xs)
    return xs


@keep(each="xs")
async def fails_for_many_later(xs: list[int]) -> list[int]:
    fails.__wrapped__(xs)
    return xs


class Failing:
    @keep(ignore="self")
    def method(self, x: int) -> None:
        fails.__wrapped__(x)

    @keep
    @classmethod
    def of_class(cls, x: int) -> None:
        fails.__wrapped__(x)

    @keep(ignore="self")
    async def method_later(self, x: int) -> None:
        fails.__wrapped__(x)


@pytest.mark.parametrize(
    "call",
    [
        lambda: fails(1),
        lambda: fails.rerun(1),
        lambda: fails.rerun(1, deep=True),
        lambda: fails.fresh(1),
        lambda: fails.profile(1),
        lambda: fails.bind(1)(),
        lambda: fails.map([1]),
        lambda: list(fails.map([1], ordered=False)),
        lambda: Failing().method(1),
        lambda: Failing().method.rerun(1),
        lambda: Failing().method.map([1]),
        lambda: Failing.of_class(1),
        lambda: _driven(Failing().method_later(1)),
        lambda: _driven(fails_later(1)),
        lambda: _driven(fails_later.rerun(1)),
        lambda: _driven(fails_later.rerun(1, deep=True)),
        lambda: _driven(fails_later.bind(1)()),
        lambda: list(fails_inside(1)),
        lambda: list(fails_inside.rerun(1, deep=True)),
        lambda: _driven(_drained(fails_inside_later(1))),
        lambda: fails_for_many([1, 2]),
        lambda: fails_for_many.rerun([1, 2]),
        lambda: _driven(fails_for_many_later([1, 2])),
    ],
)
def test_a_failing_body_shows_at_most_one_frame_of_the_library(call: Any) -> None:
    outer = LookupError()
    try:
        raise outer
    except LookupError:
        with pytest.raises(ValueError, match="1") as caught:
            call()
    error = caught.value
    assert isinstance(error.__context__, KeyError)
    assert error.__context__.__context__ is outer
    assert len(_ours(error)) <= 1
    assert traceback.extract_tb(error.__traceback__)[-1].name == "fails"


def _ours(error: BaseException) -> list[str]:
    """The library's frames in a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{f.filename}:{f.name}" for f in frames if "/wellkept/" in f.filename]


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: fails.submit(pool, 1).result(),
        lambda pool: fails_later.submit(pool, 1).result(),
        lambda pool: Failing().method.submit(pool, 1).result(),
        lambda pool: fails.map([1], executor=pool),
        lambda pool: list(fails.map([1], executor=pool, ordered=False)),
        lambda pool: list(wellkept.executor(pool).map(fails, [1])),
        lambda _: asyncio.run(fails_later.map([1])),
    ],
)
def test_so_does_one_that_fails_in_a_pool_or_a_loop(call: Any) -> None:
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="1") as caught:
        call(pool)
    assert len(_ours(caught.value)) <= 1
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "fails"


def test_a_process_tells_of_the_body_alone() -> None:
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, context) as pool, pytest.raises(ValueError, match="1") as caught:
        fails.submit(pool, 1).result()
    assert len(_ours(caught.value)) <= 1
    assert "/wellkept/" not in str(caught.value.__cause__)


@keep(errors=ValueError)
def fails_for_good(x: int) -> None:
    raise ValueError(x) from KeyError("there")


@keep(errors=ValueError)
async def fails_for_good_later(x: int) -> None:
    raise ValueError(x) from KeyError("there")


@pytest.mark.parametrize(
    "call",
    [
        lambda: fails_for_good(1),
        lambda: fails_for_good.load(1),
        lambda: fails_for_good.map([1]),
        lambda: fails_for_good.bind(1)(),
        lambda: _driven(fails_for_good_later(1)),
        lambda: _driven(fails_for_good_later.load(1)),
        lambda: asyncio.run(fails_for_good_later.map([1])),
    ],
)
def test_a_kept_exception_comes_from_one_frame_of_the_library(call: Any) -> None:
    for make in (lambda: fails_for_good(1), lambda: _driven(fails_for_good_later(1)), call, call):
        with pytest.raises(ValueError, match="1") as caught:
            make()
    assert len(_ours(caught.value)) == 1
    assert repr(caught.value.__cause__) == "KeyError('there')"


def test_an_error_of_the_library_shows_where_it_came_from() -> None:
    with pytest.raises(wellkept.NotKept) as caught:
        fails.load(2)
    assert _ours(caught.value)[-1].endswith("kept.py:_load")


def test_a_body_that_raises_stop_iteration() -> None:
    @keep
    def stops(x: int) -> None:
        raise StopIteration(x)

    with pytest.raises(StopIteration) as caught:
        stops(3)
    assert caught.value.value == 3


def plain(n: int) -> int:
    return 0 if n == 0 else 1 + plain(n - 1)


@keep
def down(n: int) -> int:
    return 0 if n == 0 else 1 + down(n - 1)


@keep
async def down_later(n: int) -> int:
    return 0 if n == 0 else 1 + await down_later(n - 1)


class Stairs:
    @keep(ignore="self")
    def down(self, n: int) -> int:
        return 0 if n == 0 else 1 + self.down(n - 1)


def _depth(function: Any) -> int:
    """How deep it goes in a thread of its own, to some ten."""
    depths = [0]

    def dig() -> None:
        for depth in range(200, 1000, 10):
            try:
                depths.append(function(depth))
            except RecursionError:
                break
            depths.append(depth)

    with warnings.catch_warnings():
        # At the end there is no room to keep anything.
        warnings.simplefilter("ignore", wellkept.KeptWarning)
        thread = threading.Thread(target=dig)
        thread.start()
        thread.join()
    return depths[-1]


@pytest.mark.parametrize(
    ("function", "later"),
    [(down, False), (Stairs().down, False), (lambda n: asyncio.run(down_later(n)), True)],
)
def test_a_recursive_function_goes_half_as_deep_as_if_it_were_not_kept(
    function: Any, later: bool
) -> None:
    # The call has a frame of its own below that of the body, and the last of them looks and writes.
    # Up to Python 3.11, an object that is called counts as one more; a coroutine's is not there then.
    counted = 2 if later or sys.version_info >= (3, 12) else 3
    assert _depth(function) >= _depth(plain) / counted - 20


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
