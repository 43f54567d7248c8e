"""A kept function stands wherever the function may: copied, in classes, looked at by tools."""

from __future__ import annotations

import abc
import copy
import dataclasses
import doctest
import enum
import functools
import inspect
import pickle
import sys
import types
import typing
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from wellkept import keep


@keep
def add(x: int, y: int = 2) -> int:
    """Add.

    >>> add(1)
    3
    """
    return x + y


@keep
async def later(x: int) -> int:
    return x


@keep
def count(n: int) -> Iterator[int]:
    yield from range(n)


@keep(each="xs")
def many(xs: list[int]) -> list[int]:
    return xs


def made() -> Any:
    by = 3

    @keep
    def inner(x: int) -> int:
        return x * by

    return inner


class Model:
    """A model."""

    def __init__(self) -> None:
        self.parts = [1]

    @keep(ignore="self")
    def fit(self, x: int) -> int:
        """Fit."""
        return x

    @keep(ignore="self")
    async def fit_later(self, x: int) -> int:
        return x

    @keep
    @classmethod
    def below(cls, x: int) -> int:
        """Below."""
        return x

    @classmethod
    @keep
    def above(cls, x: int) -> int:
        return x

    @keep
    @staticmethod
    def alone(x: int) -> int:
        """Alone."""
        return x

    @staticmethod
    @keep
    def alone_above(x: int) -> int:
        return x

    @functools.cached_property
    @keep(ignore="self")
    def cost(self) -> int:
        return 5


KEPT = [add, later, count, many, made(), Model.fit, Model.alone, Model.alone_above]
BOUND = [Model().fit, Model.below, Model.above]


@pytest.mark.parametrize("function", [*KEPT, Model.below], ids=repr)
def test_a_copy_is_the_function(function: Any) -> None:
    assert copy.copy(function) == copy.deepcopy(function) == function
    assert copy.deepcopy([function]) == [function]


def test_a_copied_method_has_a_copied_receiver() -> None:
    method = Model().fit
    assert copy.copy(method) == method
    other: Any = copy.deepcopy(method)
    assert other.__self__.parts == [1]
    assert other.__self__ is not method.__self__
    assert other(3) == pickle.loads(pickle.dumps(method))(3) == 3


@pytest.mark.parametrize("function", [*KEPT, *BOUND], ids=lambda f: f.__qualname__)
def test_tools_find_what_they_ask_for(function: Any) -> None:
    plain = inspect.unwrap(function)
    plain = getattr(plain, "__func__", plain)
    assert typing.get_type_hints(function) == typing.get_type_hints(plain)
    assert inspect.getsource(function) == inspect.getsource(plain)
    assert inspect.getdoc(function) == inspect.getdoc(plain)
    assert inspect.isroutine(function)
    assert inspect.iscoroutinefunction(function) == inspect.iscoroutinefunction(plain)
    assert inspect.isgeneratorfunction(function) == inspect.isgeneratorfunction(plain)
    assert weakref.ref(function)() is function
    signature = inspect.signature(plain)
    if isinstance(function, types.MethodType):
        signature = signature.replace(parameters=[*signature.parameters.values()][1:])
    assert inspect.signature(function) == signature
    assert inspect.signature(functools.partial(function)) == signature
    assert functools.wraps(function)(lambda: None).__name__ == plain.__name__


def test_a_bound_method_is_one() -> None:
    for method, receiver in ((Model.below, Model), (Model.above, Model)):
        assert inspect.ismethod(method)
        assert method.__self__ is receiver
    assert inspect.iscoroutinefunction(Model().fit_later)
    assert weakref.WeakMethod(method := Model().fit)() == method  # type: ignore[arg-type]  # see there


def test_a_class_says_what_it_holds() -> None:
    kinds = {one.name: one.kind for one in inspect.classify_class_attrs(Model)}
    assert kinds["fit"] == "method"
    assert kinds["below"] == kinds["above"] == "class method"
    assert kinds["alone"] == kinds["alone_above"] == "static method"
    held: Any = vars(Model)
    assert held["below"].stats() is Model.below.stats()
    assert held["alone"](3) == 3


def test_sphinx_writes_the_arguments(tmp_path: Any) -> None:
    app = pytest.importorskip("sphinx.application")
    (tmp_path / "conf.py").write_text("extensions = ['sphinx.ext.autodoc']\n")
    (tmp_path / "index.rst").write_text(f"X\n=\n\n.. autoclass:: {__name__}.Model\n   :members:\n")
    out = tmp_path / "out"
    app.Sphinx(tmp_path, tmp_path, out, out, "text", status=None, warning=None).build()
    text = (out / "index.txt").read_text()
    for line in ("fit(x: int)", "classmethod below(x: int)", "static alone(x: int)"):
        assert line in text


def test_doctests_are_found() -> None:
    found = doctest.DocTestFinder().find(sys.modules[__name__])
    assert [test.name for test in found if test.examples] == [f"{__name__}.add"]
    assert doctest.DocTestRunner(verbose=False).run(
        next(test for test in found if test.examples)
    ) == doctest.TestResults(0, 1)


def test_dataclasses_hold_and_have_them() -> None:
    @dataclasses.dataclass(frozen=True)
    class Job:
        run: Any
        x: int = 1

        @keep(ignore="self")
        def done(self, y: int) -> int:
            return y

    job = Job(add)
    assert dataclasses.asdict(job) == {"run": add, "x": 1}
    assert dataclasses.asdict(Job(made()))["run"](2) == 6
    assert dataclasses.replace(job, x=2).run(1) == 3
    assert job.done(4) == 4


def test_estimators_are_cloned() -> None:
    base = pytest.importorskip("sklearn.base")

    class Estimator(base.BaseEstimator):  # type: ignore[name-defined,misc]  # imported here
        def __init__(self, function: Any = None) -> None:
            self.function = function

    assert base.clone(Estimator(add)).function is add
    assert base.clone(Estimator(made())).function(2) == 6
    assert base.clone(Estimator(Model().fit)).function(2) == 2


def test_functools_takes_them() -> None:
    @functools.singledispatch
    def shown(x: Any) -> str:
        return "any"

    shown.register(int)(keep(lambda x: "int"))
    shown.register(add)
    assert [shown("a"), shown(1)] == ["any", 3]

    class Shown:
        @functools.singledispatchmethod
        @keep(ignore="self")
        def of(self, x: Any) -> str:
            return "any"

        @of.register
        @keep(ignore="self")
        def _(self, x: int) -> str:
            return "int"

        three = functools.partialmethod(Model.fit, 3)

    one: Any = Shown()
    assert [one.of("a"), one.of(1), one.three()] == ["any", "int", 3]
    assert functools.lru_cache(add)(1) == 3
    assert Model().cost == 5


def test_abstract_methods_and_enumerations() -> None:
    class Base(abc.ABC):
        @keep
        @abc.abstractmethod
        def inner(self) -> None: ...

        @abc.abstractmethod
        @keep
        def outer(self) -> None: ...

        @keep
        @classmethod
        @abc.abstractmethod
        def of_class(cls) -> None: ...

    assert Base.__abstractmethods__ == {"inner", "outer", "of_class"}

    class Color(enum.Enum):
        RED = 1

        @keep
        def doubled(self) -> int:
            return 2 * self.value

    assert list(Color) == [Color.RED]
    assert Color.RED.doubled() == 2


@pytest.fixture
@keep
def fixed() -> list[int]:
    return [1]


def test_a_fixture_may_be_kept(fixed: list[int]) -> None:
    assert fixed == [1]
