"""Results that would come back as another value: warned of, and not kept."""

from __future__ import annotations

import datetime
import functools
from typing import Any

import numpy as np
import pandas as pd
import pytest

import wellkept
from wellkept.caches import results
from wellkept.errors import EncodeError, KeptWarning

RAN: list[Any] = []


class Units(np.ndarray):
    def __new__(cls, values: Any, units: Any = None) -> Any:
        made = np.asarray(values, float).view(cls)
        made.units = units
        return made

    def __array_finalize__(self, other: Any) -> None:
        self.units = getattr(other, "units", None)


class Whole(Units):
    def __reduce__(self) -> Any:
        return Whole, (np.asarray(self), self.units)


class Slots(np.ndarray):
    __slots__ = ("unit",)


class Moment(datetime.datetime):
    pass


class Forgets:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __digest__(self) -> Any:
        return self.value

    def __reduce__(self) -> Any:
        return Forgets, (None,)


class Fails(Forgets):
    def __reduce__(self) -> Any:
        return int, ("x",)


class Plain:
    def __init__(self, value: Any) -> None:
        self.value = value

    @functools.cached_property
    def double(self) -> Any:
        return [self.value] * 2


def given(value: Any, **attributes: Any) -> Any:
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def caused() -> Any:
    error = ValueError(1)
    error.__cause__ = KeyError(2)
    return error


@pytest.fixture(autouse=True)
def anew(tmp_path: Any) -> Any:
    RAN.clear()
    results._same.clear()
    with wellkept.use(wellkept.open(tmp_path / "c")):
        yield


LOST = {
    "small": lambda: Units([1.0], "m"),
    "large": lambda: Units(np.arange(200_000), "m"),
    "in a list": lambda: [1, {"a": (Units([1.0], "m"),)}],
    "in an object": lambda: Plain(Plain(Units([1.0], "m"))),
    "slots": lambda: given(np.zeros(1).view(Slots), unit="m"),
    "datetime": lambda: given(Moment(2020, 1, 1), label=1),
    "frame": lambda: given(pd.DataFrame({"a": [1]}), units="m"),
    "series": lambda: {"a": given(pd.Series([1]), units="m")},
    "error": caused,
    "own": lambda: Forgets(1),
    "fails": lambda: Fails(1),
}


@pytest.mark.parametrize("name", LOST)
def test_what_would_come_back_otherwise_is_not_kept(name: str) -> None:
    @wellkept.keep(name=name, version=1)
    def f() -> Any:
        RAN.append(name)
        return LOST[name]()

    with pytest.warns(KeptWarning, match="returned, not kept.*(another value|decoded again)"):
        first = f()
    second = f()
    assert wellkept.digest(first) == wellkept.digest(second) == wellkept.digest(LOST[name]())
    assert len(RAN) == 2
    assert f.stats().unstorable == 2
    with pytest.raises(EncodeError):
        wellkept.keep(name="strict", version=1, strict=True)(LOST[name])()


WHOLE = {
    "nothing to lose": lambda: Units([1.0]),
    "its own reduction": lambda: Whole([1.0], "m"),
    "array": lambda: np.arange(5),
    "frame": lambda: pd.DataFrame({"a": [1, 2]}),
    "object": lambda: Plain(1),
    "looked at": lambda: given(Plain(1), seen=Plain(2).double),
    "error": lambda: ValueError(1),
    "class": lambda: Plain,
    "function": lambda: lambda: 1,
    "method": lambda: Plain(1).__init__,
    "plain": lambda: {"a": [1, (2, {3})], "b": None},
}


@pytest.mark.parametrize("name", WHOLE)
def test_what_comes_back_whole_is_kept_and_compared_once(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = results.decoder
    monkeypatch.setattr(results, "decoder", lambda codec: asked.append(codec) or real(codec))

    @wellkept.keep(name=name, version=1, strict=True)
    def f(n: int) -> Any:
        RAN.append(name)
        return WHOLE[name]()

    for _ in range(2):
        f(1)
        f(2)
    assert len(RAN) == 2
    assert len(asked) <= 1


def test_a_second_object_of_a_type_may_hold_more() -> None:
    @wellkept.keep(version=1)
    def f(units: Any) -> Any:
        return Units([1.0], units)

    assert [f(None).units, f(None).units] == [None, None]
    with pytest.warns(KeptWarning, match="holds a Units"):
        assert f("m").units == "m"
    assert f("m").units == "m"
