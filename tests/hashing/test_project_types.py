"""Values of a project's own types, functions and modules bring their code; two of one name are two."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import importlib
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept import digest
from wellkept.hashing.encoding import reference_digest
from wellkept.hashing.fast import Task, fast_digest
from wellkept.hashing.functions import TAG

attrs = pytest.importorskip("attrs")
pydantic = pytest.importorskip("pydantic")


# -- two of one name ------------------------------------------------------------------------------


def in_factory(k: int) -> type:
    class C:
        def m(self) -> int:
            return k

    return C


def attribute_in_factory(k: int) -> type:
    class C:
        v = k

    return C


def default_in_factory(k: int) -> type:
    class C:
        def m(self, by: int = k) -> int:
            return by

    return C


def subclass(k: int) -> type:
    class L(list):  # type: ignore[type-arg]  # as users write it
        def total(self) -> int:
            return sum(self) * k

    return L


def by_type(k: int) -> type:
    return type("Dyn", (), {"v": k})


def by_type_with_method(k: int) -> type:
    return type("Dyn", (), {"m": lambda self: k})


def by_new_class(k: int) -> type:
    return types.new_class("New", (), {}, lambda space: space.update(v=k))


def by_metaclass(k: int) -> type:
    return abc.ABCMeta("Abstract", (), {"m": lambda self: k})


def by_make_dataclass(k: int) -> type:
    return dataclasses.make_dataclass("DC", [("a", int, k)])


def by_create_model(k: int) -> type:
    return pydantic.create_model("M", a=(int, k))  # type: ignore[no-any-return]


def by_attrs(k: int) -> type:
    return attrs.make_class("A", {"a": attrs.field(default=k)})  # type: ignore[no-any-return]


def by_enum(k: int) -> type:
    return enum.Enum("E", {"A": k})  # type: ignore[return-value]


def by_namedtuple(k: int) -> type:
    return collections.namedtuple("P", ["x", f"y{k}"])  # type: ignore[return-value]


def by_typing_namedtuple(k: int) -> type:
    return typing.NamedTuple("P", [(f"y{k}", int)])  # type: ignore[return-value, misc]


def by_typed_dict(k: int) -> type:
    return typing.TypedDict("T", {f"y{k}": int})  # type: ignore[return-value, misc]


def with_base(k: int) -> type:
    return type("Sub", (in_factory(k),), {})


def in_exec(k: int) -> type:
    space: dict[str, Any] = {}
    exec(f"class X:\n def m(self): return {k}\n", space)
    return typing.cast(type, space["X"])


MADE = [
    *(in_factory, attribute_in_factory, default_in_factory, subclass, by_type),
    *(by_type_with_method, by_new_class, by_metaclass, by_make_dataclass, by_create_model),
    *(by_attrs, by_enum, by_namedtuple, by_typing_namedtuple, by_typed_dict, with_base, in_exec),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.__name__)
def test_two_classes_of_one_name_are_two(made: Callable[[int], type]) -> None:
    one, two = made(1), made(2)
    assert digest(one) != digest(two)
    assert digest(one) == digest(made(1))
    assert digest([{"a": one}]) != digest([{"a": two}])
    assert digest(list[one]) != digest(list[two])  # type: ignore[valid-type]  # made here
    if made not in (by_enum, by_namedtuple, by_typing_namedtuple, by_typed_dict):
        assert digest(one()) != digest(two())
        assert digest(one()) == digest(made(1)())


def test_instances_of_two_classes_of_one_name() -> None:
    one, two = by_namedtuple(1)(1, 2), by_namedtuple(2)(1, 2)
    assert digest(one) != digest(two)
    members = by_enum(1), enum.Enum("E", {"A": 1, "B": 2})
    assert digest(members[0].A) != digest(members[1].A)  # type: ignore[attr-defined]
    assert digest(in_factory(1)().m) != digest(in_factory(2)().m)
    assert digest(in_factory(1).m) != digest(in_factory(2).m)


def test_a_class_of_a_notebook_that_is_defined_again() -> None:
    def cell(body: str) -> Any:
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(f"class N:\n def __init__(self): self.n = 1\n def m(self): return {body}\n", space)
        return space["N"]()

    assert digest(cell("self.n")) == digest(cell("self.n"))
    assert digest(cell("self.n")) != digest(cell("-self.n"))


# -- edits ----------------------------------------------------------------------------------------

LIB = """
import abc, collections, dataclasses, enum, functools, typing
import attrs, numpy, pydantic

RATE = 2

def helper(x):
    return x * RATE

class Base:
    def inherited(self):
        return 1

class Plain(Base):
    limit = 3
    def __init__(self, n=1):
        self.n = n
    def method(self):
        return helper(self.n)
    @property
    def prop(self):
        return 1
    @staticmethod
    def static():
        return 1
    def __call__(self):
        return 1

class Slots:
    __slots__ = ("n",)
    def __init__(self, n=1):
        self.n = n
    def method(self):
        return 1

@dataclasses.dataclass
class Data:
    n: int = 1
    def method(self):
        return 1

@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    n: int = 1
    def method(self):
        return 1

@attrs.define
class Attrs:
    n: int = 1
    def method(self):
        return 1

class Model(pydantic.BaseModel):
    n: int = 1
    def method(self):
        return 1

class Named(typing.NamedTuple):
    n: int = 1
    def method(self):
        return 1

class Mode(enum.Enum):
    FAST = 1
    def method(self):
        return 1

class Listing(list):
    def method(self):
        return 1

class Mapping(dict):
    def method(self):
        return 1

class Group(set):
    def method(self):
        return 1

class Array(numpy.ndarray):
    def method(self):
        return 1

class Failure(Exception):
    def __str__(self):
        return "one"

class Stands:
    def __digest__(self):
        return 1
    def method(self):
        return 1

def function(x):
    return helper(x)

def decorated(x):
    @functools.wraps(helper)
    def inner(x):
        return helper(x)
    return inner
"""

VALUES: dict[str, Callable[[Any], Any]] = {
    "instance": lambda m: m.Plain(),
    "slots": lambda m: m.Slots(),
    "dataclass": lambda m: m.Data(),
    "frozen": lambda m: m.Frozen(),
    "attrs": lambda m: m.Attrs(),
    "model": lambda m: m.Model(),
    "named tuple": lambda m: m.Named(),
    "enum": lambda m: m.Mode.FAST,
    "list": lambda m: m.Listing([1]),
    "dict": lambda m: m.Mapping(a=1),
    "set": lambda m: m.Group({1}),
    "ndarray": lambda m: np.arange(3).view(m.Array),
    "exception": lambda m: m.Failure("x"),
    "class": lambda m: m.Plain,
    "function": lambda m: m.function,
    "lambda": lambda m: eval("lambda x: function(x)", vars(m)),
    "partial": lambda m: functools.partial(m.function, 1),
    "method": lambda m: m.Plain().method,
    "unbound": lambda m: m.Plain.method,
    "closure": lambda m: m.decorated(1),
    "callable": lambda m: functools.lru_cache(m.function),
    "vectorized": lambda m: np.vectorize(m.function),
    "nested": lambda m: {"a": [m.Plain()]},
    "key": lambda m: {m.Mode.FAST: 1},
    "in an object array": lambda m: np.array([m.Plain(), None], object),
    "attribute": lambda m: types.SimpleNamespace(scaler=m.Plain()),
    "many": lambda m: [m.Data(i) for i in range(50)],
    "alias": lambda m: dict[str, m.Plain],
}

EDITS = {
    "a method": ("return helper(self.n)", "return helper(self.n) + 1", "Plain"),
    "a helper": ("return x * RATE", "return x * RATE + 1", "helper"),
    "a constant": ("RATE = 2", "RATE = 3", "helper"),
    "a base": ("return 1\n\nclass Plain", "return 2\n\nclass Plain", "Plain"),
    "a class attribute": ("limit = 3", "limit = 4", "Plain"),
    "other methods": (
        "def method(self):\n        return 1",
        "def method(self):\n        return 2",
        "",
    ),
    "an exception": ('"one"', '"two"', "Failure"),
}
PLAIN = {
    *(
        "instance",
        "class",
        "method",
        "nested",
        "in an object array",
        "attribute",
        "alias",
    ),
}
HELPED = PLAIN | {
    *("function", "lambda", "partial", "unbound", "closure", "callable", "vectorized"),
}
OWN = {
    *(
        "slots",
        "dataclass",
        "frozen",
        "attrs",
        "model",
        "named tuple",
        "enum",
        "list",
        "dict",
        "set",
    ),
    *("ndarray", "key", "many"),
}
CHANGED = {
    "a method": PLAIN | {"unbound"},
    "a helper": HELPED,
    "a constant": HELPED,
    "a base": PLAIN,
    "a class attribute": PLAIN,
    "other methods": OWN,
    "an exception": {"exception"},
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def loaded(text: str) -> Any:
        (tmp_path / "edited.py").write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop("edited", None)
        return importlib.import_module("edited")

    yield loaded
    sys.modules.pop("edited", None)


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_what_a_value_brings(load: Callable[[str], Any], edit: str) -> None:
    old, new, _ = EDITS[edit]
    assert old in LIB
    first = load(LIB)
    before = {name: digest(make(first)) for name, make in VALUES.items()}
    stands = digest(first.Stands())
    same = load(LIB.replace("\n\n", "\n\n# a comment\n\n"))
    again = {name: digest(make(same)) for name, make in VALUES.items()}
    assert [name for name in VALUES if before[name] != again[name]] == []
    edited = load(LIB.replace(old, new))
    after = {name: digest(make(edited)) for name, make in VALUES.items()}
    changed = {name for name in VALUES if before[name] != after[name]}
    assert changed - {"lambda", "closure"} == CHANGED[edit] - {"lambda", "closure"}
    assert CHANGED[edit] <= changed
    assert digest(edited.Stands()) == stands  # it says itself what it is


def test_a_change_in_the_process_is_seen(load: Callable[[str], Any]) -> None:
    module = load(LIB)
    thing, many = module.Plain(), [module.Data(i) for i in range(5)]
    values = [thing, many, module.function, module.Plain, functools.partial(module.function)]

    def digests() -> list[wellkept.Digest]:
        return [digest(value) for value in values]

    first = digests()
    module.Plain.method = lambda self: 5
    second = digests()
    assert [a == b for a, b in zip(first, second, strict=True)] == [False, True, True, False, True]
    module.helper = lambda x: x * 7
    third = digests()
    assert [a == b for a, b in zip(second, third, strict=True)] == [True, True, False, True, False]
    module.Data.method.__code__ = (lambda self: 9).__code__
    fourth = digests()
    assert [a == b for a, b in zip(third, fourth, strict=True)] == [True, False, True, True, True]


def test_values_of_libraries_bring_no_code() -> None:
    for value in (
        *(1, [1], {"a": 1}, np.arange(3), np.float64, np.sum, functools.reduce, collections),
        *(collections.OrderedDict, Path, Path("a"), enum.Enum, ValueError("a"), abc.ABC),
        *(types.SimpleNamespace(a=1), collections.namedtuple, pydantic.BaseModel, attrs.define),
    ):
        assert TAG.encode() not in _encoding(value)
    pandas = pytest.importorskip("pandas")  # whose functions are of a module that is none
    from wellkept.hashing.functions import made_here

    assert not made_here(type(pandas._libs.lib.is_scalar))


def _encoding(value: Any) -> bytes:
    from wellkept.hashing.encoding import reference_encoding

    return reference_encoding(value)


@pytest.mark.parametrize("name", VALUES)
def test_both_walks_agree(load: Callable[[str], Any], name: str) -> None:
    module = load(LIB)
    value = VALUES[name](module)
    assert fast_digest(value, Task(None)) == reference_digest(value) == digest(value).raw
    assert fast_digest([value, 1], Task(None)) == reference_digest([value, 1])


def test_a_class_that_holds_its_own_instances() -> None:
    class Node:
        def __init__(self, name: str) -> None:
            self.name = name

        def __reduce__(self) -> Any:
            return Node, (self.name,)

    Node.first = Node("a")  # type: ignore[attr-defined]
    Node.array = np.array([Node("b")], object)  # type: ignore[attr-defined]
    assert digest(Node("c")) == digest(Node("c"))
    assert digest(Node("c")) != digest(Node("d"))


def test_what_a_function_holds_counts_by_value() -> None:
    def holding(value: Any) -> Any:
        return lambda: value

    assert digest(holding(1)) == digest(holding(1))
    assert digest(holding(1)) != digest(holding(2))
    assert digest(holding(in_factory(1)())) != digest(holding(in_factory(2)()))

    def told() -> int:
        return 1

    before = digest(told)
    told.by = 3  # type: ignore[attr-defined]
    assert digest(told) != before


def test_what_has_no_digest_in_a_function_is_named_by_its_path() -> None:
    import threading

    def holding(lock: Any) -> Any:
        return lambda: lock

    def defaulting(lock: Any = threading.Lock()) -> Any:  # noqa: B008  what it is for
        return lock

    with pytest.raises(wellkept.Undigestible, match=r'value\["f"\]\.lock: a lock'):
        digest({"f": holding(threading.Lock())})
    with pytest.raises(wellkept.Undigestible, match=r"value\.__defaults__\[0\]: a lock"):
        digest(defaulting)
