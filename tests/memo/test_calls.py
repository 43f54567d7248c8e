"""Every shape of callable and of argument list: computed once, then loaded, under one key."""

import asyncio
import functools
import inspect
import math
import operator
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []


@keep
def plain(x: int, seed: int = 0) -> tuple[int, int]:
    """The doc of plain."""
    RAN.append((x, seed))
    return x, seed


@keep
def positional(a: int, b: int = 2, /) -> tuple[int, int]:
    RAN.append((a, b))
    return a, b


@keep
def named(*, a: int, b: int = 2) -> tuple[int, int]:
    RAN.append((a, b))
    return a, b


@keep
def many(a: int, *rest: int, flag: bool = False, **more: int) -> tuple[Any, ...]:
    RAN.append((a, rest, flag, more))
    return a, rest, flag, more


@keep
def gathered(a: int, /, **options: int) -> tuple[int, dict[str, int]]:
    RAN.append((a, options))
    return a, options


@keep
def nothing() -> None:
    RAN.append(None)


def test_a_call_is_computed_once() -> None:
    assert [plain(3) for _ in range(4)] == [(3, 0)] * 4
    assert RAN == [(3, 0)]
    assert (plain.stats().hits, plain.stats().computed) >= (3, 1)


def test_spellings_of_one_call_are_one_key() -> None:
    spellings = [((1,), {}), ((1, 0), {}), ((1,), {"seed": 0}), ((), {"seed": 0, "x": 1})]
    assert len({plain.key(*args, **kwargs) for args, kwargs in spellings}) == 1
    assert all(plain(*args, **kwargs) == (1, 0) for args, kwargs in spellings)
    assert RAN == [(1, 0)]
    assert plain.key(1) != plain.key(0, 1) != plain.key(1, 1)


def test_positional_only() -> None:
    assert positional(1) == positional(1, 2) == (1, 2)
    assert RAN == [(1, 2)]
    with pytest.raises(TypeError, match=r"positional\(\) got some positional-only arguments"):
        positional(a=1)  # type: ignore[call-arg]


def test_keyword_only() -> None:
    assert named(a=1) == named(b=2, a=1) == (1, 2)
    assert RAN == [(1, 2)]
    with pytest.raises(TypeError, match=r"named\(\) takes 0 positional arguments"):
        named(1)  # type: ignore[call-arg,misc]


def test_star_arguments() -> None:
    assert (
        many(1, 2, 3, x=4, y=5) == many(1, 2, 3, y=5, x=4) == (1, (2, 3), False, {"x": 4, "y": 5})
    )
    assert len(RAN) == 1
    keys = [
        many.key(1, 2, 3),
        many.key(1, 3, 2),
        many.key(1, 2),
        many.key(1, x=2),
        many.key(1, y=2),
        many.key(1, flag=True),
        many.key(1),
        many.key(1, rest=2),  # a keyword that has the name of *rest
    ]
    assert len(set(keys)) == len(keys)


def test_the_order_of_keywords_comes_back_with_the_value() -> None:
    first, second = gathered(1, b=1, a=2), gathered(1, a=2, b=1)
    assert first == second
    assert len(RAN) == 1


def test_a_keyword_of_a_positional_parameters_name() -> None:
    assert gathered(1, a=2) == (1, {"a": 2})
    assert gathered.key(1, a=2) != gathered.key(2, a=1) != gathered.key(1)
    assert gathered(2, a=1) == (2, {"a": 1})
    arguments = gathered.call(2, a=1).arguments
    assert {name: argument.value for name, argument in arguments.items()} == {"a": 2, "**a": 1}


def test_none_is_a_result_like_any_other() -> None:
    assert nothing() is None
    assert nothing() is None
    assert nothing.load() is None
    assert nothing.contains()
    assert RAN == [None]


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [
        (len, ([1, 2],), {}),
        (math.sqrt, (2.0,), {}),
        (sorted, ([3, 1, 2],), {"reverse": True}),
        (divmod, (7, 3), {}),
        (str.upper, ("a",), {}),
        ("a-b".split, ("-",), {}),
        (max, (1, 2, 3), {}),
        (int, ("7",), {}),
        (dict, (), {"a": 1}),
        (functools.partial(pow, 2), (5,), {}),
        (functools.partial(sorted, reverse=True), ([1, 2],), {}),
        (operator.itemgetter(1), ([1, 2],), {}),
        (lambda x: x + 1, (1,), {}),
        (functools.lru_cache(abs), (-3,), {}),
    ],
)
def test_what_can_be_called_can_be_kept(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    wrapper = keep(function)
    expected = function(*args, **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            got = wrapper(*args, **kwargs)
            assert got == expected
            assert type(got) is type(expected)
    assert (wrapper.stats().computed, wrapper.stats().hits) == (1, 2)
    assert wrapper.load(*args, **kwargs) == expected


def test_two_builtins_do_not_share() -> None:
    assert keep(min)(1, 2) == 1
    assert keep(max)(1, 2) == 2
    assert keep("a b".split)() == ["a", "b"]
    assert keep("c d".split)() == ["c", "d"]


class Scale:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: int) -> int:
        RAN.append(x)
        return x * self.by


def test_a_callable_object_counts_with_its_state() -> None:
    double, triple = Scale(2), Scale(3)
    assert [keep(double)(5), keep(triple)(5), keep(Scale(2))(5)] == [10, 15, 10]
    assert RAN == [5, 5]


def test_a_callable_object_that_changes_is_another_function() -> None:
    scale = Scale(2)
    wrapper = keep(scale)
    assert [wrapper(5), wrapper(5)] == [10, 10]
    scale.by = 3
    assert [wrapper(5), wrapper(5)] == [15, 15]
    scale.by = 2
    assert wrapper(5) == 10
    assert len(RAN) == 2


def test_a_partial_and_a_bound_method_that_change_too() -> None:
    held = [1]
    total = keep(functools.partial(lambda items, x: sum(items) + x, held))
    assert total(1) == 2
    held.append(10)
    assert total(1) == 12
    scale = Scale(2)
    method = keep(scale.__call__)
    assert method(5) == 10
    scale.by = 4
    assert method(5) == 20


class Point:
    def __init__(self, x: int, y: int = 0) -> None:
        self.x, self.y = x, y


def test_a_class() -> None:
    with pytest.raises(
        wellkept.ConfigError, match=r"not on <class .*a function that returns Point\(…\)"
    ):
        keep(Point)


def test_the_wrapper_looks_like_the_function() -> None:
    def bare(x: int, seed: int = 0) -> tuple[int, int]:
        """The doc of plain."""
        return x, seed

    assert inspect.signature(plain) == inspect.signature(bare)
    assert (plain.__name__, plain.__qualname__, plain.__doc__) == ("plain", "plain", bare.__doc__)
    assert plain.__module__ == __name__
    assert plain.__annotations__ == bare.__annotations__
    assert plain.__wrapped__(4) == (4, 0)
    assert inspect.unwrap(plain) is plain.__wrapped__
    assert callable(plain)
    assert not inspect.iscoroutinefunction(plain)
    assert "plain" in repr(plain)


def test_attributes_of_the_function_are_there() -> None:
    def f() -> None: ...

    f.tag = 7  # type: ignore[attr-defined]
    assert keep(f).tag == 7  # type: ignore[attr-defined]


def outer() -> Any:
    def inner(a: int, b: int, *, c: int) -> None: ...

    return inner


WRONG: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1, 2), {"c": 1, "d": 1}),
    ((1, 2), {"a": 1, "c": 1}),
]


@pytest.mark.parametrize(("args", "kwargs"), WRONG)
def test_wrong_arguments_raise_the_functions_own_error(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    function = outer()
    with pytest.raises(TypeError) as own:
        function(*args, **kwargs)
    wrapper = keep(function)

    def bound(*args: Any, **kwargs: Any) -> Any:
        return wrapper.bind(*args, **kwargs)()

    for call in (wrapper, wrapper.key, bound, wrapper.rerun, wrapper.load, wrapper.forget):
        with pytest.raises(TypeError) as ours:
            call(*args, **kwargs)
        assert str(ours.value) == str(own.value)
        assert not isinstance(ours.value, wellkept.KeptError)


def test_a_lambdas_error_names_the_lambda() -> None:
    with pytest.raises(
        TypeError, match=r"<lambda>\(\) missing 1 required positional argument: 'x'"
    ):
        keep(lambda x: x)()  # type: ignore[call-arg]


def test_parameters_with_awkward_names() -> None:
    @keep
    def f(self: int, function: int, args: int, kwargs: int, bind: int, key: int = 0) -> Any:
        return self, function, args, kwargs, bind, key

    expected = (1, 2, 3, 4, 5, 0)
    assert f(1, 2, 3, 4, bind=5) == f(self=1, function=2, args=3, kwargs=4, bind=5) == expected
    assert f.load(self=1, function=2, args=3, kwargs=4, bind=5) == expected
    assert f.bind(self=1, function=2, args=3, kwargs=4, bind=5)() == expected
    assert f.rerun(self=1, function=2, args=3, kwargs=4, bind=5) == expected
    assert f.forget(self=1, function=2, args=3, kwargs=4, bind=5)


def test_defaults_are_those_of_the_definition() -> None:
    marker = threading.Lock()

    @keep
    def f(x: int, how: Any = marker) -> bool:
        return how is marker

    with pytest.warns(wellkept.KeptWarning, match="how"):  # a lock has no identity
        assert f(1) is True


class Odd(type):
    """A metaclass whose classes can't be hashed."""

    def __eq__(cls, other: object) -> bool:
        return cls is other

    __hash__ = None  # type: ignore[assignment]


class OddOne(metaclass=Odd):
    pass


def test_arguments_whose_type_cannot_be_hashed() -> None:
    @keep
    def f(x: Any) -> str:
        return type(x).__name__

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [f(OddOne()), f(OddOne())] == ["OddOne"] * 2


@pytest.mark.parametrize(
    "stands",
    [
        wellkept.ANY,
        wellkept.between(1, 3),
        wellkept.like("a*"),
        wellkept.named("abcd"),
        wellkept.named("a" * 64),
        wellkept.one_of(1, 2),
    ],
    ids=repr,
)
def test_what_stands_for_values_in_a_query_is_no_argument(stands: Any) -> None:
    ran = []

    def body(x: Any, *rest: Any, **more: Any) -> Any:
        ran.append(x)
        return x

    async def later(x: Any) -> Any:
        ran.append(x)

    def items(x: Any) -> Iterator[Any]:
        yield ran.append(x)

    kept = keep(body)
    given: list[Any] = [
        lambda: kept(stands),
        lambda: kept(1, stands),
        lambda: kept(1, a=stands),
        lambda: kept([1, stands]),
        lambda: kept({"a": stands}),
        lambda: kept.contains(stands),
        lambda: kept.rerun(stands),
        lambda: kept.bind(stands)(),
        lambda: keep(key=lambda x: 1)(body)(stands),
        lambda: asyncio.run(keep(later)(stands)),
        lambda: list(keep(items)(stands)),
    ]
    with ThreadPoolExecutor(1) as pool:
        for call in (*given, lambda: kept.submit(pool, stands).result()):
            with pytest.raises(wellkept.ConfigError, match="stands for values in a query"):
                call()
    assert ran == []
    assert len(list(kept.cache.calls.keys())) == 0
