"""Methods: the receiver counts, and is filled in wherever arguments are given."""

import inspect
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []


@dataclass
class Model:
    """A model."""

    rate: float
    name: str = "m"

    @keep
    def fit(self, x: int, deep: bool = False) -> tuple[float, int, bool]:
        """Fit it."""
        RAN.append((self.rate, x, deep))
        return self.rate, x, deep

    @keep(ignore=["self"])
    def same_for_all(self, x: int) -> int:
        RAN.append(x)
        return x

    @keep
    def steps(self, n: int) -> Iterator[float]:
        RAN.append(n)
        for i in range(n):
            yield self.rate * i

    @keep
    @classmethod
    def below(cls, x: int) -> tuple[str, int]:
        RAN.append((cls.__name__, x))
        return cls.__name__, x

    @classmethod
    @keep
    def above(cls, x: int) -> tuple[str, int]:
        RAN.append((cls.__name__, x))
        return cls.__name__, x

    @keep
    @staticmethod
    def static_below(x: int) -> int:
        RAN.append(x)
        return x * 2

    @staticmethod
    @keep
    def static_above(x: int) -> int:
        RAN.append(x)
        return x * 3

    @property
    @keep
    def cost(self) -> float:
        RAN.append("cost")
        return self.rate * 2

    @keep
    def __private(self, x: int) -> int:
        return x

    def private(self) -> Any:
        return self.__private


class Sub(Model):
    def fit(self, x: int, deep: bool = False) -> tuple[float, int, bool]:  # type: ignore[override]
        rate, x, deep = super().fit(x, deep)
        return -rate, x, deep


def test_the_receiver_counts() -> None:
    assert Model(0.1).fit(1) == Model(0.1).fit(1) == (0.1, 1, False)
    assert Model(0.2).fit(1) == (0.2, 1, False)
    assert len(RAN) == 2
    assert Model(0.1).fit.key(1) == Model(0.1).fit.key(1, deep=False) != Model(0.2).fit.key(1)
    assert Model(0.1).fit.key(1) == Model.fit.key(Model(0.1), 1)


def test_a_receiver_that_changes_is_another() -> None:
    model = Model(0.1)
    assert model.fit(1)[0] == 0.1
    model.rate = 0.3
    assert model.fit(1)[0] == 0.3


def test_every_method_takes_the_receiver() -> None:
    model = Model(0.5)
    fit = model.fit
    assert not fit.contains(1)
    with pytest.raises(wellkept.NotKept, match="fit"):
        fit.load(1)
    assert fit(1) == (0.5, 1, False)
    assert fit.contains(1)
    assert not Model(0.6).fit.contains(1)
    assert fit.load(1) == (0.5, 1, False)
    assert fit.call(1).key == fit.key(1)
    assert fit.rerun(1) == (0.5, 1, False)
    assert RAN == [(0.5, 1, False)] * 2
    assert fit.bind(1)() == (0.5, 1, False)
    assert fit.bind(1).key() == fit.key(1)
    assert fit.map([1, 2, 3]) == [(0.5, 1, False), (0.5, 2, False), (0.5, 3, False)]
    assert fit.map([1, 2], [True, False])[0] == (0.5, 1, True)
    assert fit.__wrapped__(9) == (0.5, 9, False)
    assert fit.stats() is Model.fit.stats()
    assert fit.forget(1)
    assert not fit.forget(1)
    with ThreadPoolExecutor(1) as pool:
        assert fit.submit(pool, 4).result() == (0.5, 4, False)
        done = fit.submit(pool, 4)
        assert done.done()
        assert done.result() == (0.5, 4, False)


def test_ignoring_the_receiver() -> None:
    assert Model(0.1).same_for_all(1) == Model(0.2).same_for_all(1) == 1
    assert RAN == [1]


def test_a_generator_method() -> None:
    assert list(Model(2.0).steps(3)) == list(Model(2.0).steps(3)) == [0.0, 2.0, 4.0]
    assert RAN == [3]
    assert inspect.isgeneratorfunction(Model(2.0).steps)
    assert list(Model(2.0).steps.load(3)) == [0.0, 2.0, 4.0]
    assert [list(items) for items in Model(2.0).steps.map([1, 2])] == [[0.0], [0.0, 2.0]]


@pytest.mark.parametrize("how", ["below", "above"])
def test_classmethods(how: str) -> None:
    for _ in range(2):
        assert getattr(Model, how)(1) == ("Model", 1)
        assert getattr(Model(0.1), how)(1) == ("Model", 1)
        assert getattr(Sub, how)(1) == ("Sub", 1)
    assert RAN == [("Model", 1), ("Sub", 1)]


def test_a_classmethods_methods() -> None:
    assert Model.below(1) == ("Model", 1)
    assert Model.below.contains(1)
    assert not Sub.below.contains(1)
    assert Model(0.1).below.load(1) == ("Model", 1)
    assert Model.below.key(1) != Sub.below.key(1)
    assert Model.below.bind(1)() == ("Model", 1)
    assert Model.below.map([1]) == [("Model", 1)]
    assert Model.below.forget(1)


@pytest.mark.parametrize(("how", "by"), [("static_below", 2), ("static_above", 3)])
def test_staticmethods(how: str, by: int) -> None:
    assert getattr(Model, how)(5) == getattr(Model(0.1), how)(5) == 5 * by
    assert RAN == [5]
    assert getattr(Model, how).load(5) == 5 * by
    assert getattr(Model(0.1), how).contains(5)
    assert not getattr(Model(0.1), how).contains(6)


def test_a_property() -> None:
    assert [Model(0.5).cost, Model(0.5).cost, Model(1.0).cost] == [1.0, 1.0, 2.0]
    assert RAN == ["cost", "cost"]


def test_super_and_overriding() -> None:
    assert Sub(0.5).fit(1) == (-0.5, 1, False)
    assert Model(0.5).fit(1) == (0.5, 1, False)
    assert len(RAN) == 2  # the class of a receiver counts


def test_a_bound_method_looks_like_one() -> None:
    fit = Model(0.1).fit
    assert str(inspect.signature(fit)) == "(x: int, deep: bool = False) -> tuple[float, int, bool]"
    assert (fit.__name__, fit.__doc__) == ("fit", "Fit it.")
    assert fit.__self__ == Model(0.1)
    model = Model(0.1)
    assert model.fit == model.fit
    assert hash(model.fit) == hash(model.fit)
    assert Model.fit is Model.__dict__["fit"]


def test_wrong_arguments() -> None:
    with pytest.raises(
        TypeError, match=r"Model\.fit\(\) missing 1 required positional argument: 'x'"
    ):
        Model(0.1).fit()  # type: ignore[call-arg]


def test_the_pickled_shapes() -> None:
    model = Model(0.5)
    for call in (model.fit, Model.below, Model.static_below, Model.static_above, model.private()):
        call(1)
        assert pickle.loads(pickle.dumps(call))(1) == call(1)
    assert pickle.loads(pickle.dumps(model.fit.bind(2)))() == (0.5, 2, False)
    assert pickle.loads(pickle.dumps(Model.below.bind(2)))() == ("Model", 2)
    assert pickle.loads(pickle.dumps(Model.fit)) is Model.fit


def test_an_undigestible_receiver() -> None:
    class Stream:
        def __init__(self) -> None:
            self.lines = iter([1, 2])

        @keep
        def read(self) -> int:
            return next(self.lines)

    stream = Stream()
    with pytest.warns(wellkept.KeptWarning, match=r"self.*lines"):
        assert stream.read() == 1
    assert stream.read() == 2
    assert Stream.read.stats().undigestible == 2
