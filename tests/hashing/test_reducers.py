"""Objects of classes, registrations, `__digest__`, entry points."""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import functools
import importlib.metadata
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pydantic
import pytest
from sklearn.linear_model import LogisticRegression

from wellkept.errors import KeptWarning, Undigestible
from wellkept.hashing import digest, digest_bytes, reducers, register_digest
from wellkept.hashing.encoding import reference_digest


@pytest.fixture(autouse=True)
def registrations() -> Iterator[None]:
    """Leave none behind."""
    tables = [reducers._registered, reducers._late, reducers._late_named]
    before = [dict(table) for table in tables]
    yield
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)
    reducers._found.clear()


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0
    skipped: dataclasses.InitVar[int] = 0
    shared = 3

    @functools.cached_property
    def norm(self) -> Any:
        return self.x + self.y


class Child(Point):
    pass


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: Any


@dataclasses.dataclass
class Stateful:
    x: Any
    lock: Any = dataclasses.field(default_factory=threading.Lock)

    def __getstate__(self) -> Any:
        return {"x": self.x}


@attrs.define
class Defined:
    x: Any
    y: Any = 0


@attrs.frozen(slots=False)
class Frozen:
    x: Any


class Model(pydantic.BaseModel):
    x: int
    y: str = "a"
    _hidden: int = pydantic.PrivateAttr(default=0)


class Open(pydantic.BaseModel, extra="allow"):
    x: int


class Slots:
    __slots__ = ("x", "y")

    def __init__(self, x: Any) -> None:
        self.x = x


class Holder:
    def __init__(self, **held: Any) -> None:
        self.__dict__.update(held)


class Listed(list):  # type: ignore[type-arg]
    pass


class Keyed(dict):  # type: ignore[type-arg]
    pass


class Newargs(int):
    def __getnewargs_ex__(self) -> Any:
        return (int(self),), {}


class Shape(enum.Enum):
    ROUND = 1
    CIRCLE = 1
    SQUARE = 2


def listed(*items: Any, **held: Any) -> Listed:
    made = Listed(items)
    made.__dict__.update(held)
    return made


def irregular(**held: Any) -> Point:
    made = Point(1)
    made.__dict__.update(held)
    return made


def unset(name: str) -> Point:
    made = Point(1, 2)
    del made.__dict__[name]
    return made


def hidden(value: int) -> Model:
    made = Model(x=1)
    made._hidden = value
    return made


DISTINCT: list[Any] = [
    Point(1), Point(2), Point(1, 1), Point("1"), Child(1), irregular(z=1), irregular(z=2),
    unset("x"), Slotted(1), Slotted(2), Stateful(1), Stateful(2),
    Defined(1), Defined(1, 2), Frozen(1), Model(x=1), Model(x=2), Model(x=1, y="b"), hidden(5),
    Open(x=1), Open(x=1, z=2), Open(x=1, z=3), Slots(1), Slots(2), Holder(x=1), Holder(y=1),
    Holder(), listed(1), listed(1, a=1), listed(1, a=2), [1], Keyed(a=1), Keyed(), {"a": 1},
    Newargs(1), 1, Shape.ROUND, Shape.SQUARE, Shape, Point, Child,
    LogisticRegression(), LogisticRegression(C=2), ValueError("x"), KeyError("x"),
    functools.partial(digest, 1), [Point(1), irregular(z=1)], [Point(1), Point(1)],
]  # fmt: skip


def test_all_differ_and_both_walks_agree() -> None:
    seen: dict[bytes, Any] = {}
    for value in DISTINCT:
        found = digest_bytes(value)
        assert found not in seen, (value, seen[found])
        seen[found] = value
        assert reference_digest(value) == found
        for many in ([value] * 3, {"a": value, "b": [value, 1]}, [value, Point(5), value]):
            assert reference_digest(many) == digest_bytes(many)


def test_a_cached_property_makes_no_difference() -> None:
    one, other = Point(1, 2), Point(1, 2)
    assert other.norm == 3
    assert digest(one) == digest(other)
    assert digest_bytes([one, other]) == digest_bytes([other, one]) == reference_digest([one, one])


def test_order_of_attributes_makes_no_difference() -> None:
    one, other = Holder(a=1, b=2), Holder(b=2, a=1)
    assert digest(one) == digest(other)
    swapped = Point.__new__(Point)
    swapped.y, swapped.x = 0, 1
    assert digest(swapped) == digest(Point(1))
    assert digest([swapped, Point(2)]) == digest([Point(1), Point(2)])


def test_an_enum_alias_is_its_member() -> None:
    assert digest(Shape.CIRCLE) == digest(Shape.ROUND)


class Mine:
    def __init__(self, value: Any) -> None:
        self.value, self.noise = value, object()

    def __digest__(self) -> Any:
        return {"value": self.value}


class Derived(Mine):
    pass


def test_a_type_says_what_stands_for_it() -> None:
    assert digest(Mine(1)) == digest(Mine(1)) != digest(Mine(2))
    assert digest(Mine(1)) != digest({"value": 1})
    assert digest(Mine(1)) != digest(Derived(1))
    assert digest_bytes([Mine([1])] * 2) == reference_digest([Mine([1]), Mine([1])])
    assert digest(Mine)
    with pytest.raises(Undigestible, match=r"value.*generator"):
        digest(Mine(i for i in []))


def test_register_digest() -> None:
    class Stream:
        def __init__(self, path: str) -> None:
            self.path, self.lock = path, threading.Lock()

    class Sub(Stream):
        pass

    with pytest.raises(Undigestible, match=r"value\.lock"):
        digest(Stream("a"))
    register_digest(Stream, lambda stream: stream.path)
    assert digest(Stream("a")) == digest(Stream("a")) != digest(Stream("b"))
    assert digest(Sub("a")) != digest(Stream("a"))
    register_digest(threading.Thread, lambda thread: thread.name)  # types in tables, too
    assert digest(threading.Thread(name="a")) == digest(threading.Thread(name="a"))
    register_digest(Point, lambda point: point.x)  # and those that go field by field
    assert digest([Point(1, 2)]) == digest([Point(1, 3)])

    def fails(stream: Any) -> Any:
        raise RuntimeError("broken")

    register_digest(Stream, fails)
    with pytest.raises(Undigestible, match="broken") as caught:
        digest(Stream("a"))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize("wrong", [("int", len), (int, 3)])
def test_wrong_registrations(wrong: Any) -> None:
    with pytest.raises(TypeError):
        register_digest(*wrong)


def test_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    class Foreign:
        def __init__(self, value: Any) -> None:
            self.value = value
            self.lock = threading.Lock()

    class Point3:
        value: Any = None

        def __init__(self, value: Any) -> None:
            self.value, self.lock = value, threading.Lock()

    def register() -> None:
        register_digest(Foreign, lambda foreign: foreign.value)
        register_digest(complex, lambda number: 0)  # atoms and table types stay as they are
        register_digest(range, lambda number: 0)

    class Entry:
        def __init__(self, name: str, loaded: Any) -> None:
            self.name, self.value, self._loaded = name, "somewhere:thing", loaded

        def load(self) -> Any:
            if self._loaded is None:
                raise ImportError("gone")
            return self._loaded

    points = [
        Entry("mine", register),
        Entry("broken", None),
        Entry(f"{Point3.__module__}.{Point3.__qualname__}", lambda point: point.value),
    ]
    asked: list[str] = []

    def entry_points(group: str) -> list[Entry]:
        asked.append(group)
        return points

    before = digest(range(3))
    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(reducers, "_entry_points", "unread")
    reducers._found.clear()
    assert digest([1, {"a": range(3)}])
    assert asked == []
    with pytest.warns(KeptWarning, match="broken"):
        assert digest(Foreign(1)) == digest(Foreign(1)) != digest(Foreign(2))
    assert digest(Point3(1)) != digest(Point3(2))
    assert asked == ["wellkept.digest"]
    reducers._found.clear()
    assert digest(range(3)) == before


def test_copyreg_is_respected() -> None:
    class Odd:
        def __init__(self, value: Any) -> None:
            self.value, self.lock = value, threading.Lock()

    copyreg.pickle(Odd, lambda odd: (Odd, (odd.value,)))
    try:
        assert digest(Odd(1)) == digest(Odd(1)) != digest(Odd(2))
    finally:
        copyreg.dispatch_table.pop(Odd)


def test_exceptions_are_what_they_are_whatever_registers_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Fault(Exception):
        pass

    before = digest(Fault("x"))
    monkeypatch.setitem(
        copyreg.dispatch_table, Fault, lambda error: (print, (error.__traceback__,))
    )
    assert digest(Fault("x")) == before


def test_a_fitted_estimator_goes_by_what_it_learnt() -> None:
    rows = [[0.0], [1.0], [2.0], [3.0]]
    one = LogisticRegression().fit(rows, [0, 0, 1, 1])
    other = LogisticRegression().fit(rows, [0, 0, 1, 1])
    assert digest(one) == digest(other) != digest(LogisticRegression())


def test_the_room_is_light() -> None:
    """No library of numbers, and nothing that is only needed for a type that has not come."""
    script = (
        "import sys, types; package = types.ModuleType('wellkept');"
        "package.__path__ = [sys.argv[1]]; sys.modules['wellkept'] = package;"
        "before = set(sys.modules);"
        "import wellkept.hashing as h; h.digest({'a': [1, 2.0, {3}]});"
        "print(*sorted(set(sys.modules) - before))"
    )
    import wellkept

    done = subprocess.run(
        [sys.executable, "-c", script, wellkept.__path__[0]],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    heavy = {"numpy", "pandas", "decimal", "uuid", "datetime", "pathlib", "sqlite3", "asyncio"}
    assert loaded & (heavy - {"pathlib"}) == set()
    assert not any(name.startswith("importlib.metadata") for name in loaded)
    assert {
        "wellkept.hashing.source",
        "wellkept.hashing.arrays",
        "wellkept.hashing.frames",
    } & loaded == set()


def test_a_statement_of_sqlalchemy_is_the_same_after_it_was_compiled() -> None:
    sa = pytest.importorskip("sqlalchemy")
    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    statement = sa.select(table).where(table.c.a == 1)
    before = digest(table), digest(statement)
    assert "WHERE" in str(statement)
    assert statement.subquery().c.a is not None
    assert (digest(table), digest(statement)) == before
    assert digest(statement) != digest(statement.where(table.c.a == 2))
