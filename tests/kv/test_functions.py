"""Results of functions in stores."""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import pickle
import runpy
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

import wellkept
from wellkept.errors import ConfigError, KeptWarning
from wellkept.kv import cached


def counted(**options: Any) -> Any:
    calls: list[Any] = []

    @cached(**options)
    def function(a: Any, b: Any = 2, *, c: Any = None) -> Any:
        calls.append((a, b, c))
        return calls[-1] if a is not None else None

    function.calls = calls
    return function


def test_arguments_count_however_they_are_given() -> None:
    function = counted()
    assert (
        function(1) == function(1, 2) == function(a=1, b=2) == function(1, c=None) == (1, 2, None)
    )
    assert len(function.calls) == 1
    for args, kwargs in [((1, 3), {}), ((1,), {"c": 1}), ((1.0,), {}), ((True,), {}), (("1",), {})]:
        function(*args, **kwargs)
    assert len(function.calls) == 6


def test_none_is_a_result() -> None:
    function = counted()
    assert function(None) is None
    assert function(None) is None
    assert len(function.calls) == 1


def test_a_ttl() -> None:
    function = counted(ttl=10)
    function(1)
    function.store_of(1).service.entries.ahead += 9
    function(1)
    assert len(function.calls) == 1
    function.store_of(1).service.entries.ahead += 2
    function(1)
    assert len(function.calls) == 2


def test_scopes_never_leak_into_each_other() -> None:
    function = counted(
        scope=lambda a, b=2, *, c=None: a["dataset"], key=lambda a, b=2, *, c=None: b
    )
    one, other = {"dataset": "one"}, {"dataset": "other"}
    assert function(one)[0] == one
    assert function(other)[0] == other
    assert function(one | {"more": 1})[0] == one, "the key says what counts"
    function.clear_all(one)
    assert function(other)[0] == other
    assert len(function.calls) == 2
    function(one)
    assert len(function.calls) == 3


def test_clearing() -> None:
    function = counted(store="results")
    function(1)
    function(2)
    assert function.clear_cache(1)
    assert not function.clear_cache(1)
    function(1)
    function(2)
    assert len(function.calls) == 3
    wellkept.store("results").clear_cache()  # by the store's name, like anything in it
    function(2)
    assert len(function.calls) == 4
    assert function.uncached(2) == (2, 2, None)
    assert len(function.calls) == 5


def test_versions_and_ignored_parameters() -> None:
    function = counted(ignore=["a"], store="s")
    assert function(open, 1) == function(close := object(), 1)  # neither has a digest
    assert close is not None
    assert len(function.calls) == 1
    newer = counted(ignore="a", store="s", version="2")
    newer(open, 1)
    assert len(newer.calls) == 1
    with pytest.raises(ConfigError, match="no parameter z"):
        counted(ignore=["z"])
    with pytest.raises(ConfigError, match=r"ttl|duration"):
        counted(ttl=-1)


def test_coroutines() -> None:
    calls = []

    @cached
    async def function(n: int) -> int:
        calls.append(n)
        return n * 2

    async def use() -> list[int]:
        return [await function(1), await function(n=1)]

    assert asyncio.run(use()) == [2, 2]
    assert calls == [1]
    with pytest.raises(ConfigError, match="generator"):

        @cached
        def generator() -> Any:
            yield 1


def test_caching_never_breaks_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    function = counted()
    with pytest.warns(KeptWarning, match="is not cached"):
        assert function(open("/dev/null"))[1] == 2  # noqa: SIM115, PTH123  an argument without a digest
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        function(open("/dev/null"))  # noqa: SIM115, PTH123  told once
    unstorable = cached(lambda: open("/dev/null"))  # noqa: SIM115, PTH123  nor can a file be stored
    with pytest.warns(KeptWarning, match="is not cached"):
        unstorable().close()
    with pytest.raises(TypeError, match="missing"):
        function()
    monkeypatch.setenv("WELLKEPT_CACHE", "redis://127.0.0.1:1/0")
    from wellkept.caches.active import reset

    reset()
    away = counted()
    with pytest.warns(KeptWarning, match="is not cached"):
        assert away(1) == (1, 2, None)


def test_a_wrapper_s_own_default_is_not_its_function_s() -> None:
    def inner(x: int = 1) -> int:
        return x

    @functools.wraps(inner)
    def outer(x: int = 2) -> int:
        return inner(x)

    f = cached(outer)
    assert (f(1), f(), f(x=1), f()) == (1, 2, 1, 2)


class Operator:
    calls: ClassVar[list[Any]] = []

    @cached(ttl=60, ignore=["self", "context"])
    def add(self, context: Any, a: int, b: int) -> int:
        """Add."""
        self.calls.append((a, b))
        return a + b

    @cached(ignore=["self"])
    async def later(self, a: int) -> int:
        self.calls.append(a)
        return a

    @cached(ignore=["cls"])
    @classmethod
    def of_class(cls, a: int) -> str:
        """Name the class."""
        cls.calls.append(a)
        return cls.__name__

    @cached
    @staticmethod
    def apart(a: int) -> int:
        return a + 1

    @staticmethod
    @cached
    def alone(a: int) -> int:
        Operator.calls.append(a)
        return a


def test_the_verbs_of_a_method_are_called_as_it_is() -> None:
    Operator.calls.clear()
    one, context = Operator(), object()
    assert one.add(context, 1, 2) == one.add(object(), 1, b=2) == Operator().add(context, 1, 2) == 3
    assert Operator.calls == [(1, 2)]
    assert one.add.__doc__ == "Add."
    assert list(inspect.signature(one.add).parameters) == ["context", "a", "b"]
    assert one.add.clear_cache(context, 1, 2)
    assert not Operator.add.clear_cache(one, context, 1, 2)
    assert one.add.uncached(context, 5, 5) == 10
    assert Operator.add(one, context, 1, 2) == 3
    assert one.add.store_of(context, 1, 2).count() == 1
    one.add.clear_all(context, 0, 0)
    assert one.add.store_of(context, 1, 2).count() == 0
    assert asyncio.run(one.later(4)) == asyncio.run(one.later(a=4)) == 4
    assert one.later.clear_cache(4)
    assert Operator.alone(3) == Operator.alone(a=3) == 3
    assert Operator.alone.clear_cache(3)
    assert Operator.calls == [(1, 2), (5, 5), (1, 2), 4, 3]


def test_the_verbs_of_a_classmethod_are_called_as_it_is() -> None:
    Operator.calls.clear()
    assert Operator.of_class(1) == Operator().of_class(a=1) == "Operator"
    assert list(inspect.signature(Operator.of_class).parameters) == ["a"]
    assert Operator.of_class.__doc__ == "Name the class."
    assert Operator.of_class.store_of(1).count() == 1
    assert Operator.of_class.uncached(2) == Operator().of_class.uncached(2) == "Operator"
    assert Operator.of_class.clear_cache(1)
    assert not Operator().of_class.clear_cache(1)
    assert Operator.calls == [1, 2, 2]
    assert Operator.apart(1) == Operator().apart(1) == 2
    assert Operator().apart.clear_cache(a=1)


def test_a_cached_function_is_pickled_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(Operator.alone)) is Operator.alone


SCRIPT = """
from wellkept.kv import cached
from pathlib import Path

@cached
def double(x):
    with Path({count!r}).open("a") as file:
        file.write("x")
    return 2 * x

double(2)
"""


def test_a_script_s_function_is_named_by_its_place_in_the_project(tmp_path: Path) -> None:
    count = tmp_path / "count"

    def run(script: str) -> int:
        path = tmp_path / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SCRIPT.format(count=str(count)))
        runpy.run_path(str(path), run_name="__main__")
        return len(count.read_text())

    for project, name in (("one", "mine"), ("two", "mine"), ("three", "another")):
        (tmp_path / project).mkdir()
        (tmp_path / project / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    assert run("one/steps/job.py") == 1
    assert run("two/steps/job.py") == 1, "the checkout was moved"
    assert run("one/other/job.py") == 2
    assert run("three/steps/job.py") == 3
    assert run(f"{'long/' * 45}job.py") == 4, "a store's name has at most 200 bytes"
    assert run(f"{'long/' * 45}job.py") == 4


class Job:
    def do(self) -> object:
        return self


def test_what_has_no_name_of_its_own_is_refused() -> None:
    for function in (functools.partial(divmod, 7), "text".count, Job().do):
        with pytest.raises(ConfigError, match="store="):
            cached(function)
    named = cached(store="sevens")(functools.partial(divmod, 7))
    assert named(2) == named(2) == (3, 1)


# -- one computes, others wait --------------------------------------------------------------------


def at_once(do: Callable[[int], Any], many: int) -> list[Any]:
    """What it gives in so many threads."""
    with ThreadPoolExecutor(many) as pool:
        return list(pool.map(do, range(many)))


def test_one_of_all_who_ask_at_once_computes(url: str) -> None:
    calls: list[int] = []

    def make() -> Any:
        @cached(cache=url, store="slow")
        def slow(x: int) -> int:
            calls.append(x)
            time.sleep(0.05)
            return 2 * x

        return slow

    assert at_once(lambda _: make()(4), 6) == [8] * 6
    assert calls == [4]
    assert make().store_of(4).count() == 1, "and nothing but the result is left"


def test_a_failure_is_nobody_else_s() -> None:
    tries = itertools.count()

    @cached(store="fails")
    def fails() -> int:
        if next(tries) == 0:
            raise StopIteration("the first one")  # which a generator could not hand on
        return 1

    with pytest.raises(StopIteration):
        fails()
    assert fails.store_of().count() == 0, "the lock is free"
    assert (fails(), fails(), next(tries)) == (1, 1, 2)


def test_what_calls_itself_waits_for_nobody() -> None:
    @cached(key=lambda x: "one for all", store="recursive")
    def count(x: int) -> int:
        return x if x == 0 else 1 + count(x - 1)

    assert count(5) == 5
    assert count(3) == 5


def test_what_was_cleared_while_it_was_computed_is_not_kept() -> None:
    source = [1]

    @cached(store="cleared")
    def read(way: str) -> int:
        value = source[0]
        source[0] += 1  # it is changed, and told
        read.clear_cache(way) if way == "one" else read.clear_all(way)
        return value

    for way in ("one", "all"):
        before = source[0]
        assert [read(way), read(way)] == [before, before + 1]


def test_who_stood_still_for_too_long_writes_over_nothing() -> None:
    entries = wellkept.store("still").service.entries

    @cached(store="still")
    def slow(x: int) -> str:
        entries.ahead += 100  # so the lock was not renewed in time,
        with ThreadPoolExecutor(1) as pool:
            faster = cached(store="still")(lambda x: "another's")
            assert pool.submit(faster, x).result(60) == "another's"
        return "mine"

    assert slow(1) == "mine"
    assert slow(1) == "another's"
    assert slow.store_of(1).count() == 1


def test_a_stale_result_is_served_while_one_computes_it_again(url: str) -> None:
    with wellkept.open(url) as cache:
        calls, go, gone_on = [0], threading.Event(), threading.Event()

        @cached(ttl=1000, stale=500, cache=cache, store="stale")
        def number() -> int:
            calls[0] += 1
            if calls[0] == 2:
                gone_on.set()
                assert go.wait(60)
            return calls[0]

        entries = number.store_of().service.entries
        assert number() == 1
        entries.ahead += 900
        assert (number(), calls) == (1, [1])
        entries.ahead += 200
        assert at_once(lambda _: number(), 4) == [1] * 4
        assert gone_on.wait(60)
        assert (number(), calls) == (1, [2]), "one is at it"
        go.set()
        while number() == 1:
            time.sleep(0.005)
        assert (number(), calls) == (2, [2])
        for thread in threading.enumerate():
            if thread.name == "wellkept-refresh":
                thread.join(60)
        entries.ahead += 1600
        assert number() == 3, "too old to be served"


def test_a_shorter_life_holds_for_what_was_kept_before() -> None:
    calls: list[int] = []

    def with_options(**options: Any) -> Any:
        return cached(store="life", **options)(lambda: calls.append(1) or len(calls))

    entries = wellkept.store("life").service.entries
    assert with_options()() == 1
    entries.ahead += 100
    assert with_options(ttl=1000)() == 1
    assert with_options(ttl=50)() == 2
    entries.ahead += 60
    assert with_options(ttl=50, stale=100)() == 3
    entries.ahead += 120
    assert with_options(ttl=50)() == 4, "it was kept for those who take what is stale"
    for wrong in ({"stale": 5}, {"ttl": 5, "stale": 0}, {"ttl": 5, "stale": "x"}):
        with pytest.raises(ConfigError):
            cached(**wrong)  # type: ignore[call-overload]  # wrong on purpose


def test_coroutines_wait_for_one_another() -> None:
    calls: list[int] = []
    begun = asyncio.Event()

    @cached(store="awaited", ttl=1000, stale=500)
    async def slow(x: int) -> int:
        calls.append(x)
        begun.set()
        await asyncio.sleep(0.02 if len(calls) > 1 else 60)
        return 10 * x + len(calls)

    async def main() -> Any:
        canceled = asyncio.create_task(slow(1))
        await begun.wait()
        canceled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await canceled
        return await asyncio.gather(*(slow(1) for _ in range(40)))

    assert asyncio.run(main()) == [12] * 40
    assert calls == [1, 1]
    slow.store_of(1).service.entries.ahead += 1200

    async def again() -> Any:
        stale = await asyncio.gather(*(slow(1) for _ in range(5)))
        while (fresh := await slow(1)) == 12:
            await asyncio.sleep(0.005)
        return stale, fresh

    assert asyncio.run(again()) == ([12] * 5, 13)
    assert slow.store_of(1).count() == 1


def test_functions_of_one_name_are_told_apart_by_what_they_hold() -> None:
    def times(n: int) -> Any:
        return cached(lambda x: n * x)

    assert [times(n)(5) for n in (2, 3, 2)] == [10, 15, 10]
    assert cached(lambda x: x + 1)(5) == 6

    class Child(Operator):
        @cached(ignore=["self"])
        def name(self) -> str:
            return type(super()).__name__

    assert Child().name() == Child().name() == "super"
