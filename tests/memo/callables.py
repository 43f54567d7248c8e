"""Things that can be called, each with the calls that are tried on it, plain and kept.

`CALLABLES` has for each name a function that makes it and a list of calls. A call is `((…), {…})`;
many are wrong on purpose, and forms that are easily taken for one another stand side by side.
"""

# ruff: noqa: B905  written as programs are

import collections
import contextlib
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import inspect
import itertools
import json
import math
import operator
import random
import re
import statistics
import string
import struct
import types
import typing
import uuid
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from importlib import import_module
from typing import Any
from unittest import mock

from tests.memo.validated import validated

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]
CALLABLES: dict[str, tuple[Callable[[], Any], Calls]] = {}


def call(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def add(name: str, make: Any, *calls: Any) -> None:
    assert name not in CALLABLES, name
    CALLABLES[name] = make, list(calls)


def plain(name: str, function: Any, *calls: Any) -> None:
    add(name, lambda: function, *calls)


# -- builtins and the standard library -------------------------------------------------------------

plain("len", len, call([1, 2]), call((1, 2)), call(), call(obj=[1]))
plain("abs", abs, call(-1), call(-1.0), call(True))
plain(
    "round",
    round,
    call(2.5),
    call(2.5, None),
    call(2.5, 0),
    call(number=2.5),
    call(2.567, ndigits=1),
)
plain(
    "pow",
    pow,
    call(2, 3),
    call(2, 3, None),
    call(2, 3, 5),
    call(base=2, exp=3),
    call(2, exp=3, mod=5),
)
plain("sum", sum, call([1, 2]), call([1, 2], 0), call([1, 2], start=1), call([[1]], []))
plain(
    "sorted",
    sorted,
    call([2, 1]),
    call([2, 1], reverse=True),
    call([2, 1], key=None),
    call([2, 1], None),
)
plain("max", max, call(1, 2), call([1, 2]), call([], default=3), call([]), call())
plain("min", min, call("b", "a"), call([3, 1], key=None))
plain(
    "int", int, call(), call("7"), call("7", 8), call("11", base=2), call(1.5), call(x=1), call("a")
)
plain("float", float, call(), call("1"), call("nope"))
plain("complex", complex, call(), call(1), call(1, 0), call(real=1), call("1+2j"))
plain("str", str, call(), call(1), call(b"a", "utf8"), call(b"a", encoding="utf8"), call(object=1))
plain("bytes", bytes, call(3), call("a", "utf8"), call("a"))
plain("dict", dict, call(), call([(1, 2)]), call(a=1), call([(1, 2)], a=1), call({"a": 1}))
plain("list", list, call(), call("ab"), call((1,)))
plain("type", type, call(1), call("T"), call())
plain("slice", slice, call(1), call(1, 2), call(None, 1), call(None, 1, None))
plain("bool", bool, call(), call(0), call([1]))
plain("divmod", divmod, call(7, 2), call(7, 0), call(7))
plain("isinstance", isinstance, call(1, int), call(True, int), call(1, (str, int)), call(1, 1))
plain("chr", chr, call(97), call(-1))
plain("hash of a number", hash, call(1), call(1.0), call(True))
plain(
    "getattr", getattr, call(1, "real"), call(1, "nope"), call(1, "nope", None), call(1, "nope", 2)
)
plain("print to nothing", print, call(end=""), call("", end=""))
plain(
    "zip",
    lambda *a, **k: list(zip(*a, **k)),
    call([1], [2]),
    call([1], [2, 3]),
    call([1], [2, 3], strict=True),
)
plain("map", lambda *a: list(map(*a)), call(str, [1]), call(str))
plain("str.upper", str.upper, call("a"), call(), call("a", "b"), call(1))
plain(
    "split of a text",
    "a b  c".split,
    call(),
    call(None),
    call(" "),
    call(" ", 1),
    call(sep=" "),
    call(maxsplit=1),
)
plain("get of a dict", {"a": 1}.get, call("a"), call("b"), call("b", None), call("b", 2), call())
plain("index of a list", [1, 2, 1].index, call(1), call(1, 1), call(3), call(1, start=1))
plain("pop of a list that is copied", lambda: [1, 2].pop(), call(), call(1))
plain(
    "encode of a text",
    "a".encode,
    call(),
    call("utf-8"),
    call("utf-8", "strict"),
    call(errors="strict"),
    call("nope"),
)
plain(
    "to_bytes of a number",
    (5).to_bytes,
    call(),
    call(1),
    call(1, "big"),
    call(2, byteorder="little"),
    call(0),
)
plain(
    "int.from_bytes",
    int.from_bytes,
    call(b"a"),
    call(b"ab", "big"),
    call(b"ab", "little"),
    call(b"ab", byteorder="big", signed=True),
)
plain("format of a text", "{} {a}".format, call(1, a=2), call(1), call(a=2))
plain("join of a text", ",".join, call(["a", "b"]), call([1]))
plain("float.fromhex", float.fromhex, call("0x1p3"), call("x"))
plain("dict.fromkeys", dict.fromkeys, call("ab"), call("ab", None), call("ab", 1))
plain("bytes.fromhex", bytes.fromhex, call("00ff"), call("0"))
plain("object.__eq__ of a number", (1).__eq__, call(1), call(1.0), call("1"))
plain("math.sqrt", math.sqrt, call(4), call(4.0), call(-1), call(x=4), call())
plain("math.log", math.log, call(8), call(8, 2), call(8, math.e), call(0), call())
plain("math.hypot", math.hypot, call(), call(3, 4), call(3, 4, 0))
plain(
    "math.isclose",
    math.isclose,
    call(1, 1.1),
    call(1, 1.1, rel_tol=0.2),
    call(1, 1.1, abs_tol=0.2),
    call(1, 1, 1),
)
plain("math.prod", math.prod, call([2, 3]), call([2, 3], start=2), call([]), call([2], 2))
plain("math.gcd", math.gcd, call(), call(4, 6), call(4, 6, 8))
plain("math.perm", math.perm, call(5), call(5, None), call(5, 5), call(5, 2))
plain("operator.add", operator.add, call(1, 2), call("a", "b"), call(1, "a"), call(1))
plain("operator.itemgetter", operator.itemgetter(1), call([1, 2]), call([1]), call({1: 3}), call())
plain("operator.itemgetter of two", operator.itemgetter(0, 1), call([1, 2]), call("ab"))
plain("operator.attrgetter", operator.attrgetter("real"), call(1), call(1.5), call("a"))
plain("operator.methodcaller", operator.methodcaller("split", ","), call("a,b"), call("a"), call(1))
plain("itertools.chain", lambda *a: list(itertools.chain(*a)), call([1], [2]), call())
plain(
    "itertools.accumulate",
    lambda *a, **k: list(itertools.accumulate(*a, **k)),
    call([1, 2]),
    call([1, 2], operator.mul),
    call([1, 2], initial=1),
    call([1, 2], initial=None),
)
plain(
    "itertools.islice",
    lambda *a: list(itertools.islice(*a)),
    call("abc", 2),
    call("abc", 1, None),
    call("abc", None),
)
plain(
    "itertools.product",
    lambda *a, **k: list(itertools.product(*a, **k)),
    call("ab"),
    call("ab", repeat=1),
    call("ab", repeat=2),
)
plain(
    "json.dumps",
    json.dumps,
    call({"a": 1}),
    call({"a": 1}, indent=None),
    call({"a": 1}, indent=1),
    call({1}),
    call({"a": 1}, {"b": 2}),
)
plain("json.loads", json.loads, call("[1]"), call("["), call("1.0", parse_float=str))
plain("re.sub", re.sub, call("a", "b", "aa"), call("a", "b", "aa", count=1), call("(", "b", "aa"))
plain(
    "search of a pattern",
    re.compile("b+").search,
    call("abb"),
    call("abb", 2),
    call("abb", pos=1, endpos=2),
    call(),
)
plain("zlib.crc32", zlib.crc32, call(b"a"), call(b"a", 0), call(b"a", 1), call("a"))
plain(
    "zlib.compress",
    zlib.compress,
    call(b"aaaa"),
    call(b"aaaa", -1),
    call(b"aaaa", 9),
    call(b"aaaa", level=0),
)
plain("struct.pack", struct.pack, call("i", 1), call("<h", 1), call("i", "a"), call())
plain(
    "datetime",
    datetime.datetime,
    call(2020, 1, 1),
    call(2020, 1, 1, 0),
    call(2020, 1, day=1),
    call(2020, 13, 1),
    call(2020, 1, 1, fold=1),
)
plain(
    "timedelta", datetime.timedelta, call(), call(1), call(days=1), call(0, 86400), call(hours=24)
)
plain("fromisoformat", datetime.date.fromisoformat, call("2020-01-01"), call("x"))
plain("Decimal", decimal.Decimal, call(), call("1.10"), call("1.1"), call(1), call("x"))
plain(
    "Fraction",
    fractions.Fraction,
    call(),
    call(1),
    call("1/3"),
    call(1, 3),
    call(1, 0),
    call(1, denominator=2),
)
plain(
    "uuid.UUID",
    uuid.UUID,
    call("12345678123456781234567812345678"),
    call(int=1),
    call(bytes=b"a" * 16),
    call(),
)
plain("statistics.mean", statistics.mean, call([1, 2]), call([]), call([1.0, 2]))
plain(
    "statistics.quantiles",
    statistics.quantiles,
    call([1, 2, 3]),
    call([1, 2, 3], n=4),
    call([1, 2, 3], n=2),
    call([1, 2, 3], method="inclusive"),
)
plain(
    "string.capwords",
    string.capwords,
    call("a b"),
    call("a b", None),
    call("a b", " "),
    call("a-b", sep="-"),
)
plain("copy.deepcopy", copy.deepcopy, call([1]), call({"a": [1]}), call([1], None))
plain("Counter", collections.Counter, call("aab"), call(a=1), call({"a": 1}), call())
plain(
    "OrderedDict",
    collections.OrderedDict,
    call([("b", 1), ("a", 2)]),
    call([("a", 2), ("b", 1)]),
    call(a=1),
)
plain("deque", collections.deque, call("ab"), call("ab", None), call("ab", 1), call("ab", maxlen=1))
plain(
    "random.Random(1).sample",
    lambda *a, **k: random.Random(1).sample(*a, **k),
    call([1, 2, 3], 2),
    call([1, 2], k=1),
    call([1], 2),
)


# -- functions ------------------------------------------------------------------------------------


def everything(a: Any, /, b: Any = 2, *rest: Any, c: Any, d: Any = 4, **more: Any) -> Any:
    return a, b, rest, c, d, more


def optional(a: Any = 1, b: Any = None) -> Any:
    return a, b


def only_by_name(*, a: Any, b: Any = 2) -> Any:
    return a, b


def only_by_position(a: Any, b: Any = 2, /) -> Any:
    return a, b


def anything(*args: Any, **kwargs: Any) -> Any:
    return args, list(kwargs.items())


def taking(a: Any, acc: list[Any] = [], *, log: dict[str, Any] = {}) -> Any:  # noqa: B006  on purpose
    return a, list(acc), dict(log)


_NONE = object()


def sentinel(a: Any, b: Any = _NONE) -> Any:
    return a, "none" if b is _NONE else b


plain(
    "a function of every kind",
    everything,
    call(1, c=3),
    call(1, 2, c=3),
    call(1, b=2, c=3),
    call(1, 2, 3, c=3),
    call(1, c=3, d=4),
    call(1, c=3, a=5),
    call(1, c=3, more=1),
    call(c=3),
    call(1),
    call(1, 2, b=2, c=3),
)
plain(
    "optional",
    optional,
    call(),
    call(1),
    call(1, None),
    call(b=None),
    call(a=1),
    call(1, a=1),
    call(1, 2, 3),
    call(z=1),
)
plain("only by name", only_by_name, call(a=1), call(a=1, b=2), call(1), call(), call(b=1))
plain("only by position", only_by_position, call(1), call(1, 2), call(a=1), call(1, b=2), call())
plain(
    "anything",
    anything,
    call(),
    call(1),
    call(1, 2),
    call(a=1, b=2),
    call((1,)),
    call(1, args=2),
    call(1, kwargs=2),
    call(self=1),
    call({"a": 1}),
)
plain(
    "mutable defaults",
    taking,
    call(1),
    call(1, []),
    call(1, [2]),
    call(1, log={}),
    call(1, log={"a": 1}),
)
plain("a sentinel", sentinel, call(1), call(1, None), call(1, "none"), call(1, b=2))
plain("a lambda", lambda x, y=2: (x, y), call(1), call(1, 2), call(y=3, x=1), call(), call(1, 2, 3))


def annotated(a: "int", b: "list[Nowhere]" = 2) -> "Nowhere":  # type: ignore[name-defined, assignment]  # noqa: F821  on purpose
    return a, b


plain("annotations of names that are nowhere", annotated, call(1), call(1, 2), call(a=1, b=[3]))


# -- decorators -----------------------------------------------------------------------------------


def passing(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def passing_first(function: Any) -> Any:
    @functools.wraps(function)
    def inner(a: Any, *args: Any, **kwargs: Any) -> Any:
        return function(a, *args, **kwargs)

    return inner


def own_default(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            kwargs.setdefault("b", "own")
        return function(*args, **kwargs)

    return inner


def counting(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return len(args), sorted(kwargs), function(*args, **kwargs)

    return inner


def injecting(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function("injected", *args, **kwargs)

    return inner


def appending(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, "appended", **kwargs)

    return inner


def removing(function: Any) -> Any:
    @functools.wraps(function)
    def inner(request: Any, *args: Any, **kwargs: Any) -> Any:
        return request, function(*args, **kwargs)

    return inner


def with_retries(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, retries: int = 3, **kwargs: Any) -> Any:
        return retries, function(*args, **kwargs)

    return inner


def swapping(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args[::-1], **kwargs)

    return inner


def other_order(function: Any) -> Any:
    @functools.wraps(function)
    def inner(b: Any = 5, a: Any = 6) -> Any:
        return function(a, b)

    return inner


def looking(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return len(locals()["args"]), function(*args, **kwargs)

    return inner


def by_inner(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return [len(args) for _ in range(1)], (lambda: function(*args, **kwargs))()

    return inner


def rebinding(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        args = (*args, "more")
        return function(*args, **kwargs)

    return inner


def lying(function: Any) -> Any:
    def inner(*args: Any, **kwargs: Any) -> Any:
        return args, sorted(kwargs.items())

    inner.__wrapped__ = function  # type: ignore[attr-defined]
    return inner


def signed(function: Any) -> Any:
    def inner(**kwargs: Any) -> Any:
        return sorted(kwargs.items())

    inner.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    return inner


FORMS = (
    call(), call(1), call(1, 2), call(1, b=2), call(a=1, b=2), call(1, None), call(1, 2, 3), call(b=2),
    call(1, a=1), call(1, retries=3), call(1, retries=1), call(1, z=1), call(1, "own"), call(1, b="own"),
)  # fmt: skip
for decorator in (
    passing, passing_first, own_default, counting, injecting, appending, removing, with_retries,
    swapping, other_order, looking, by_inner, rebinding, lying, signed, functools.lru_cache,
    functools.cache,
):  # fmt: skip
    for function in (optional, only_by_name, everything):
        add(
            f"{decorator.__name__} {function.__name__}",
            functools.partial(decorator, function),
            *FORMS,
        )
add("two that pass on", lambda: passing(passing(optional)), *FORMS)
add("one that passes on to one that counts", lambda: passing(counting(optional)), *FORMS)
add("one that counts above one that passes on", lambda: counting(passing(optional)), *FORMS)
add(
    "one that passes on to a builtin",
    lambda: passing(round),
    call(2.5),
    call(2.5, None),
    call(2.567, ndigits=1),
)
add("one that passes on to a partial", lambda: passing(functools.partial(optional, b=3)), *FORMS)
add(
    "lru_cache that names another",
    lambda: functools.update_wrapper(functools.lru_cache(anything), optional),
    *FORMS,
)


def partials() -> None:
    partial = functools.partial
    add("partial by position", lambda: partial(optional, 1), *FORMS)
    add("partial by keyword", lambda: partial(optional, b=2), *FORMS)
    add("partial by first keyword", lambda: partial(optional, a=7), *FORMS)
    add("partial of a partial", lambda: partial(partial(everything, 0), c=3), *FORMS)
    add(
        "partial of a builtin",
        lambda: partial(sorted, reverse=True),
        call([1, 2]),
        call([1, 2], reverse=False),
    )
    add("partial of one that counts", lambda: partial(counting(optional), b=2), *FORMS)
    add("partial that can't be called", lambda: partial(only_by_name, 1), call(), call(a=1))
    add("partial with an unknown keyword", lambda: partial(optional, z=1), call(), call(1))
    add("partial of a class", lambda: partial(Point, y=2), call(1), call(1, y=3), call(1, 2))


@functools.singledispatch
def dispatched(x: Any, how: str = "default") -> Any:
    return "any", x, how


@dispatched.register
def _(x: int, how: str = "number") -> Any:
    return "int", x, how


plain(
    "singledispatch",
    dispatched,
    call("a"),
    call("a", "default"),
    call(1),
    call(1, "default"),
    call(1, how="number"),
    call(x=1),
    call(),
)


class Managed(contextlib.ContextDecorator):
    def __enter__(self) -> "Managed":
        return self

    def __exit__(self, *error: object) -> bool:
        return isinstance(error[1], ZeroDivisionError)


add("a context decorator", lambda: Managed()(optional), *FORMS)
add("a context decorator that swallows", lambda: Managed()(lambda x: 1 / x), call(0), call(2))


@contextlib.contextmanager
def managing() -> Iterator[None]:
    yield


add("a function under a context manager", lambda: managing()(optional), *FORMS)


def patched(a: Any, made: Any = None) -> Any:
    return a, type(made).__name__, json.dumps.__class__.__name__


add("mock.patch", lambda: mock.patch("json.dumps")(patched), call(1), call(1, 2), call(a=1), call())
add(
    "mock.patch with new",
    lambda: mock.patch("json.dumps", new=5)(patched),
    call(1),
    call(1, made=2),
    call(1, 2),
)
add(
    "mock.patch.multiple",
    lambda: mock.patch.multiple(json, dumps=mock.DEFAULT)(
        lambda a, dumps: (a, type(dumps).__name__)
    ),
    call(1),
    call(a=1),
    call(1, 2),
)
add("mock.patch.dict", lambda: mock.patch.dict("os.environ", {"A": "1"})(optional), *FORMS)
add(
    "create_autospec of a function",
    lambda: mock.create_autospec(optional, return_value=3),
    call(1),
    call(1, 2, 3),
)


# -- classes and objects ----------------------------------------------------------------------------


class Point:
    def __init__(self, x: Any, y: Any = 0) -> None:
        self.x, self.y = x, y

    def __repr__(self) -> str:
        return f"Point({self.x!r}, {self.y!r})"


class Both:
    def __new__(cls, *args: Any) -> "Both":
        made = super().__new__(cls)
        made.args = args  # type: ignore[attr-defined]
        return made

    def __init__(self, a: Any, b: Any = 2) -> None:
        self.a, self.b = a, b

    def __repr__(self) -> str:
        return f"Both{self.args, self.a, self.b}"  # type: ignore[attr-defined]


class New:
    def __new__(cls, a: Any, b: Any = 2) -> Any:
        return a, b


class Error(Exception):
    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(text)
        self.code = code

    def __repr__(self) -> str:
        return f"Error{self.args, self.code}"


class Kept(Exception):
    """Its arguments are kept by `__new__`, as they are given."""

    def __init__(self, text: str, code: int = 1) -> None:
        pass

    def __repr__(self) -> str:
        return f"Kept{self.args}"


class Meta(type):
    def __call__(cls, *args: Any, extra: Any = "extra") -> Any:
        return args, extra


class ByMeta(metaclass=Meta):
    def __init__(self, a: Any, b: Any = 2) -> None:
        pass


class Signed:
    __signature__ = inspect.signature(optional)

    def __init__(self, *args: Any) -> None:
        self.args = args

    def __repr__(self) -> str:
        return f"Signed{self.args}"


@dataclasses.dataclass
class Data:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)
    c: int = dataclasses.field(default=3, kw_only=True)


class Row(typing.NamedTuple):
    a: int
    b: int = 2


class Colour(enum.Enum):
    RED = 1


plain("a class", Point, call(1), call(1, 0), call(1, y=0), call(x=1), call(), call(1, 2, 3))
plain("a class with both", Both, call(1), call(1, 2), call(1, 3), call(), call(1, b=2))
plain("a class with __new__", New, call(1), call(1, 2), call(b=1, a=2), call())
plain("an exception", Error, call("a"), call("a", 1), call("a", code=1), call())
plain("an exception with its arguments", Kept, call("a"), call("a", 1), call("a", 2))
plain(
    "a class of a metaclass",
    ByMeta,
    call(1),
    call(1, 2),
    call(1, extra="extra"),
    call(1, extra=1),
    call(),
)
plain("a class with __signature__", Signed, call(), call(1), call(1, None), call(1, 2, 3))
plain(
    "a dataclass",
    Data,
    call(1),
    call(1, []),
    call(1, [2]),
    call(1, c=3),
    call(1, c=4),
    call(),
    call(1, [], 3),
)
plain("a named tuple", Row, call(1), call(1, 2), call(a=1, b=3), call())
plain(
    "collections.namedtuple",
    collections.namedtuple("Pair", "a b", defaults=[2]),
    call(1),
    call(1, 2),
    call(b=1, a=3),
    call(),
)
plain("an enum", Colour, call(1), call(2), call("RED"), call(value=1))
plain("SimpleNamespace", types.SimpleNamespace, call(), call(a=1), call(b=2, a=1))
plain("object", object, call(1))


class Adder:
    def __init__(self, by: Any) -> None:
        self.by = by

    def __call__(self, x: Any, y: Any = 1) -> Any:
        return x + y + self.by


class Wrapping:
    """A decorator that is a class."""

    def __init__(self, function: Any, by: int) -> None:
        functools.update_wrapper(self, function)
        self.func, self.by = function, by

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return len(args), self.by, self.func(*args, **kwargs)


class Telling:
    __signature__ = inspect.signature(optional)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args, sorted(kwargs)


class Static:
    @staticmethod
    def __call__(a: Any, b: Any = 2) -> Any:
        return a, b


class Methods:
    def __init__(self, k: int = 3) -> None:
        self.k = k

    def plain(self, a: Any, b: Any = 2) -> Any:
        return self.k, a, b

    @classmethod
    def of_class(cls, a: Any, b: Any = 2) -> Any:
        return cls.__name__, a, b

    @staticmethod
    def static(a: Any, b: Any = 2) -> Any:
        return a, b

    @counting
    def counted(self, a: Any, b: Any = 2) -> Any:
        return self.k, a, b

    @passing
    def passed(self, a: Any, b: Any = 2) -> Any:
        return self.k, a, b

    partial = functools.partialmethod(plain, b=5)


SELF = (call(1), call(1, 2), call(1, b=2), call(a=1), call(), call(1, 2, 3), call(1, z=1))
plain(
    "a callable object", Adder(2), call(1), call(1, 1), call(1, y=1), call(x=1), call(), call("a")
)
plain("a decorator object", Wrapping(optional, 2), *FORMS)
plain("an object with __signature__", Telling(), call(), call(1), call(1, None), call(b=1))
plain("an object whose call is static", Static(), call(1), call(1, 2), call(a=1), call())
plain("a bound method", Methods().plain, *SELF)
plain(
    "a method of the class",
    Methods.plain,
    call(Methods(), 1),
    call(Methods(), 1, 2),
    call(self=Methods(), a=1),
    call(),
    call(1),
)
plain("a classmethod", Methods.of_class, *SELF)
plain("a staticmethod", Methods.static, *SELF)
plain("a bound method under one that counts", Methods().counted, *SELF)
plain("a bound method under one that passes on", Methods().passed, *SELF)
plain("a partialmethod", Methods().partial, *SELF)
plain("a method that is bound by hand", types.MethodType(anything, 1), call(), call(2), call(a=2))
plain("a method of a callable object", types.MethodType(Adder(1), 2), call(), call(3), call(y=1))
plain("partialmethod of a class", Methods.partial, call(Methods(), 1), call(Methods(), 1, b=6))
partials()


# -- coroutines and generators -----------------------------------------------------------------------


async def later(a: Any, b: Any = 2, *rest: Any, **more: Any) -> Any:
    if a == "fail":
        raise ValueError(a)
    return a, b, rest, more


def yielding(a: Any, b: Any = 2) -> Iterator[Any]:
    yield a
    if a == "fail":
        raise ValueError(a)
    yield b


async def yielding_later(a: Any, b: Any = 2) -> AsyncIterator[Any]:
    yield a
    if a == "fail":
        raise ValueError(a)
    yield b


LATER = (call(1), call(1, 2), call(b=2, a=1), call(), call("fail"), call(1, z=1), call(1, 2, 3))
plain("a coroutine function", later, *LATER)
plain("a generator function", yielding, *LATER)
plain("an async generator function", yielding_later, *LATER)
add("an async decorator", lambda: _async_passing(later), *LATER)
add("a partial of a coroutine function", lambda: functools.partial(later, b=3), *LATER)
add("a generator under one that counts", lambda: _generating(yielding), *LATER)


def _async_passing(function: Any) -> Any:
    @functools.wraps(function)
    async def inner(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return inner


def _generating(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        yield len(args)
        yield from function(*args, **kwargs)

    return inner


# -- libraries --------------------------------------------------------------------------------------


def of(library: str, path: str, *calls: Any) -> None:
    """What a library has under a name, if it is there."""

    def make() -> Any:
        found: Any = import_module(library)
        for part in path.split("."):
            found = getattr(found, part)
        return found

    add(f"{library} {path}", make, *calls)


class Array(list[Any]):
    """Stands for an array, which is made when it is used, if numpy is there."""


def array(*items: Any) -> Any:
    try:
        return import_module("numpy").array(items)
    except ImportError:
        return Array(items)


A = array(3, 1, 2)
of(
    "numpy",
    "add",
    call(1, 2),
    call(1.0, 2),
    call(A, 1),
    call(A, 1, dtype=float),
    call(A, 1, out=None),
    call(1),
    call(A, 1, where=True),
)
of("numpy", "sqrt", call(4), call(A), call(-1.0), call(A, dtype="f4"), call())
of("numpy", "matmul", call(A, A), call(A, 2))
of("numpy", "isnan", call(1.0), call(float("nan")), call("a"))
of("numpy", "maximum.reduce", call(A), call(A, axis=None), call([], 0), call(A, 0))
of("numpy", "add.outer", call(A, A), call([1], [2]))
of(
    "numpy",
    "sum",
    call(A),
    call(A, None),
    call(A, axis=0),
    call(A, axis=None),
    call(A, initial=1),
    call(A, keepdims=True),
    call(A, keepdims=False),
    call(),
)
of(
    "numpy",
    "where",
    call([True, False]),
    call([True, False], None, None),
    call([True, False], 1, 2),
    call([True], 1),
    call(A > 1),
)
of("numpy", "mean", call(A), call(A, dtype=None), call(A, where=A > 1), call([1]))
of(
    "numpy",
    "array",
    call([1, 2]),
    call([1, 2], float),
    call([1, 2], dtype=None),
    call([1, 2], ndmin=2),
    call(),
)
of(
    "numpy",
    "arange",
    call(3),
    call(0, 3),
    call(stop=3),
    call(3, dtype=float),
    call(3, None),
    call(1, 3, 2),
    call(),
)
of("numpy", "zeros", call(2), call((2,)), call(2, int), call(2, order="F"), call())
of("numpy", "full", call(2, 1), call(2, 1.0), call(2, 1, dtype=float), call(2))
of(
    "numpy",
    "linspace",
    call(0, 1),
    call(0, 1, 3),
    call(0, 1, num=3),
    call(0, 1, 3, endpoint=False),
    call(0, 1, 3, retstep=True),
    call(0),
)
of(
    "numpy",
    "concatenate",
    call(([1], [2])),
    call(([1], [2]), axis=0),
    call(([1], [2]), None),
    call(()),
    call([1], [2]),
)
of("numpy", "unique", call(A), call(A, return_counts=True), call(A, True), call([1, 1]))
of("numpy", "clip", call(A, 1, 2), call(A, None, 2), call(A, a_min=1, a_max=2), call(A))
of("numpy", "percentile", call(A, 50), call(A, [50]), call(A, q=50), call(A, 50, None), call(A))
of("numpy", "round", call(2.567, 1), call(2.567), call(2.567, decimals=0), call(A))
of("numpy", "histogram", call(A), call(A, 2), call(A, bins=[0, 5]), call(A, 10))
of("numpy", "einsum", call("i,i", A, A), call("i->", A), call("i"))
of("numpy", "copyto", call(array(0, 0, 0), 1), call(array(0, 0), A))
of("numpy", "searchsorted", call([1, 2], 1), call([1, 2], 1, "left"), call([1, 2], 1, side="right"))
of("numpy", "datetime64", call("2020"), call("2020", "D"), call("x"))
of("numpy", "dtype", call("i4"), call(float), call("nope"))
of("numpy", "linalg.norm", call(A), call(A, 1), call(A, ord=None), call(A, axis=0))
add(
    "numpy vectorize",
    lambda: import_module("numpy").vectorize(lambda a, b=2: a + b),
    call(A),
    call(A, 2),
    call(A, b=1),
    call(),
)
add(
    "numpy frompyfunc",
    lambda: import_module("numpy").frompyfunc(lambda a, b: a, 2, 1),
    call(1, 2),
    call(1),
)
add(
    "a method of an array",
    lambda: A.sum,
    call(),
    call(None),
    call(0),
    call(axis=0),
    call(dtype=float),
    call(3),
)
of(
    "pandas",
    "Series",
    call([1, 2]),
    call([1, 2], [3, 4]),
    call([1, 2], name="a"),
    call({"a": 1}),
    call([1], dtype="nope"),
)
of(
    "pandas",
    "DataFrame",
    call({"a": [1]}),
    call({"a": [1]}, columns=["a"]),
    call([[1]], None, ["a"]),
)
of(
    "pandas",
    "to_datetime",
    call("2020-01-01"),
    call("2020-01-01", utc=True),
    call("x"),
    call(["2020"], format="%Y"),
)
of(
    "pandas",
    "to_numeric",
    call(["1"]),
    call(["1"], "raise"),
    call(["x"]),
    call(["x"], errors="coerce"),
)
of("pandas", "concat", call([]))
of("pandas", "date_range", call("2020", periods=2), call("2020", None, 2), call("2020"))
of(
    "pandas",
    "cut",
    call([1, 2], 2),
    call([1, 2], bins=2),
    call([1, 2], 2, labels=False),
    call([1, 2]),
)
of(
    "pandas",
    "Timestamp",
    call("2020"),
    call(2020, 1, 1),
    call(0),
    call("2020", tz="UTC"),
    call("x"),
)
of("pandas", "isna", call(None), call([1, None]), call())
of("pandas", "read_csv", call("/nowhere"), call())
of("scipy.special", "erf", call(1.0), call(A))
of("scipy.stats", "zscore", call(A), call(A, 0), call(A, ddof=1), call(A, axis=None))
of(
    "sklearn.metrics",
    "accuracy_score",
    call([1, 0], [1, 1]),
    call([1, 0], [1, 1], normalize=False),
    call([1], [1, 1]),
    call(y_true=[1], y_pred=[1]),
)
of(
    "sklearn.preprocessing",
    "scale",
    call([[1.0], [2.0]]),
    call([[1.0], [2.0]], with_std=False),
    call([[1.0], [2.0]], axis=0),
)
of("toolz", "get", call(0, "ab"), call(5, "ab", "none"), call(5, "ab"), call([0, 1], "ab"))
of("more_itertools", "nth", call("ab", 1), call("ab", 5), call("ab", 5, None), call("ab", 5, 3))
of("shapely", "area", call(None))
of("sympy", "sympify", call("x + 1"), call("2"))
of("PIL.ImageColor", "getrgb", call("red"), call("#fff"), call("nope"))


def curried(name: str) -> None:
    def three(a: Any, b: Any, c: Any = 0) -> Any:
        return a, b, c

    add(
        f"curry of {name}",
        lambda: import_module(name).curry(three),
        call(1, 2),
        call(1, 2, 3),
        call(1, b=2),
        call(1, 2, 3, 4),
        call(1, z=2),
    )
    add(
        f"curry of {name}, partly",
        lambda: import_module(name).curry(three)(1),
        call(2),
        call(2, 3),
        call(b=2),
        call(2, c=0),
    )


curried("toolz")
curried("cytoolz")
add("toolz compose", lambda: import_module("toolz").compose(str, abs), call(-1), call(1, 2), call())
add("toolz memoize", lambda: import_module("toolz").memoize(optional), *FORMS)
add("toolz juxt", lambda: import_module("toolz").juxt(abs, str), call(-1), call())
add("toolz flip", lambda: import_module("toolz").flip(divmod), call(2, 7), call(7, 2))


def validating(**how: Any) -> Any:
    def make() -> Any:
        library = import_module("pydantic")
        return (
            library.validate_call(validated) if not how else library.validate_call(**how)(validated)
        )

    return make


VALIDATED = (
    call("1"),
    call(1),
    call(1, 7),
    call(1, "7"),
    call(x="1"),
    call("a"),
    call(),
    call(1, 2, "3"),
    call(1, z="2"),
)
add("pydantic validate_call", validating(), *VALIDATED)
add("pydantic validate_call of defaults", validating(config={"validate_default": True}), *VALIDATED)
add(
    "a pydantic model",
    lambda: _model(),
    call(a=1),
    call(a="1"),
    call(a=1, b=2),
    call(),
    call(1),
    call(a=1, z=1),
)


def _model() -> Any:
    return import_module("pydantic").create_model("Model", a=(int, ...), b=(int, 2))


def wrapping(kind: str) -> Any:
    def make() -> Any:
        wrapt = import_module("wrapt")

        @wrapt.decorator
        def passing(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return wrapped(*args, **kwargs)

        @wrapt.decorator
        def counting(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return len(args), sorted(kwargs), wrapped(*args, **kwargs)

        @wrapt.decorator
        def injecting(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            return wrapped("injected", *args, **kwargs)

        return {"passing": passing, "counting": counting, "injecting": injecting}[kind](optional)

    return make


for kind in ("passing", "counting", "injecting"):
    add(f"wrapt {kind}", wrapping(kind), *FORMS)


def _attrs() -> Any:
    attr = import_module("attr")
    made: Any = attr.make_class("Made", {"a": attr.ib(), "b": attr.ib(default=2, converter=int)})
    return made


add("an attrs class", _attrs, call(1), call(1, 2), call(1, "2"), call(a=1), call(), call(1, b=3))


def _click() -> Any:
    click = import_module("click")
    command = click.command()(
        click.option("--b", default=2)(click.argument("a")(lambda a, b: (a, b)))
    )
    return command.callback


add("what a click command calls", _click, call("x", 2), call(a="x", b=2), call("x"))


def _click_context() -> Any:
    click = import_module("click")
    return click.pass_obj(lambda obj, a: (obj, a))


add("what click gives a context to", _click_context, call(1), call(1, 2))
