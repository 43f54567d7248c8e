"""Results of functions in stores."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import runpy
import warnings
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
