"""What the vectors are of. All of these differ from each other; `EQUAL` lists what must not."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import functools
import math
import operator
import pathlib
import re
import sys
import types
import typing
import uuid
import zoneinfo

# Where packages are installed, so that what is there counts by name and not by its code.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "site-packages"))

import vector_types

NAMESPACE = {
    **vars(vector_types),
    **{
        module.__name__: module
        for module in (array, collections, datetime, decimal, fractions, functools, math, operator)
    },
    **{module.__name__: module for module in (pathlib, re, types, typing, uuid, zoneinfo)},
}

DISTINCT = """
None
True
False
...
NotImplemented
0
1
-1
-2
2**31 - 1
2**31
-2**31
-2**31 - 1
2**64
-2**64
10**400
-(10**400)
0.0
-0.0
1.0
-1.0
-2.0
float("inf")
float("-inf")
float("nan")
-float("nan")
0.1 + 0.2
0.3
5e-324
0j
complex(0, -0.0)
complex(-0.0, 0)
1j
""
"1"
"a"
"é"
"e\\u0301"
"\\ud800"
"\\U0001f600"
"\\0"
"None"
b""
b"1"
b"a"
b"\\xff"
bytearray(b"a")
bytearray()
memoryview(b"a")
memoryview(b"abcd").cast("B", (2, 2))
memoryview(b"abcd").cast("H")
array.array("b", b"a")
array.array("B", b"a")
array.array("d", [1.0])
()
[]
{}
set()
frozenset()
(1,)
[1]
{1}
frozenset({1})
{1: None}
(1, 2)
(2, 1)
((1,), 2)
(1, (2,))
[1, 2]
[[1], 2]
[[1, 2]]
[1, [2]]
["ab", "c"]
["a", "bc"]
["abc"]
[None]
[True]
[1.0]
["1"]
[b"1"]
[[]]
[()]
[{}]
[set()]
{"a": 1}
{"a": 1.0}
{"a": 2}
{"b": 1}
{"a": 1, "b": 2}
{"a": 2, "b": 1}
{1: "a"}
{1.0: "a"}
{True: "a"}
{(1, 2): "a"}
{"a": {"b": 1}}
{("a",): {"b": 1}}
{None: 1, "a": 2, 3: 4, b"x": 5}
[("a", 1)]
{1, 2, 3}
{"a", "b", "c"}
{(1, "a"), (2, "b")}
{frozenset({1}), frozenset({2})}
frozenset({frozenset({1, 2}), frozenset()})
b"S"
("S", "dict", (), ())
[b"#", bytes(32)]
(StopIteration, "dict", (), ())
(b"dict", b"(\\0\\0\\0\\0")
(StopIteration, b"dict", b"(\\0\\0\\0\\0")
StopIteration
StopIteration()
ValueError
ValueError("a")
ValueError("b")
ValueError("a", "b")
KeyError("a")
range(3)
range(0, 3, 2)
range(0)
slice(3)
slice(0, 3)
slice(None, None, -1)
int
float
str
bool
list
type
object
type(None)
list[int]
dict[str, int]
int | str
decimal.Decimal("1")
decimal.Decimal("1.0")
decimal.Decimal("-0")
decimal.Decimal("nan")
decimal.Decimal("snan")
decimal.Decimal("inf")
fractions.Fraction(1, 2)
fractions.Fraction(1)
datetime.date(2020, 1, 2)
datetime.datetime(2020, 1, 2)
datetime.datetime(2020, 1, 2, fold=1)
datetime.datetime(2020, 1, 2, 0, 0, 0, 1)
datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone.utc)
datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))
datetime.datetime(2020, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=1), "CET"))
datetime.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Paris"))
datetime.datetime(2020, 1, 2, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
datetime.time(1, 2)
datetime.time(1, 2, fold=1)
datetime.timedelta(1)
datetime.timedelta(0, 1)
datetime.timezone.utc
zoneinfo.ZoneInfo("UTC")
uuid.UUID(int=1)
uuid.UUID(int=2)
pathlib.PurePosixPath("a")
pathlib.PurePosixPath("a/b")
pathlib.PureWindowsPath("a")
re.compile("a")
re.compile("a", re.I)
re.compile(b"a")
types.SimpleNamespace(a=1)
types.SimpleNamespace(a=2)
types.MappingProxyType({"a": 1})
collections.OrderedDict(a=1)
collections.OrderedDict(a=1, b=2)
collections.OrderedDict(b=2, a=1)
collections.defaultdict(int, a=1)
collections.defaultdict(list, a=1)
collections.defaultdict(None, a=1)
collections.Counter("a")
collections.Counter("aa")
collections.deque([1])
collections.deque([1], 2)
collections.deque([1], 3)
collections.ChainMap({"a": 1})
collections.ChainMap({"a": 1}, {})
Colour
Colour.RED
Colour.GREEN
Shade.RED
Number.ONE
Bits.A
Bits.A | Bits.B
Bits(0)
Point(1)
Point(1, 2)
Point(1, tags=["a"])
Other(1)
Slotted(1)
Slotted(1, 2)
Pair(1, 2)
Pair(2, 1)
Plain()
Plain(a=1)
Plain(a=2)
Plain(b=1)
Same.Plain()
Plain
Same.Plain
Int(1)
Text("1")
Row((1, 2))
Listing([1, 2])
Mapping(a=1)
Ordered(a=1, b=2)
Ordered(b=2, a=1)
Group({"a", "b", "c"})
Fixed({"a", "b", "c"})
Reduced(1)
Reduced(2)
Stated(1)
Stated(2)
Standing(1)
Standing("1")
len
print
math.sin
math
re
[].append
[1].append
"a".upper
str.upper
str.lower
int.__add__
(1).__add__
int.from_bytes
Plain.method
Plain(a=1).method
Plain(a=2).method
added
scaled
formatted
one
two
closing(1)
closing(1.0)
closing(2)
closing(added)
closing(scaled)
recursive()
property(added)
staticmethod(added)
classmethod(added)
functools.partial(added, 1)
functools.partial(added, 2)
functools.partial(added, y=1)
functools.partial(scaled, 1)
functools.lru_cache(added)
operator.itemgetter("a")
operator.itemgetter("b")
operator.attrgetter("a")
operator.methodcaller("a", 1)
looped()
looped_otherwise()
[looped()]
{"a": looped()}
family()
nested(3)
nested(49)
nested(50)
nested(51)
nested(52)
nested(60)
nested(300)
doubled(3)
doubled(13)
doubled(14)
doubled(40)
list(range(9999))
[list(range(9998))]
[list(range(9999))]
[list(range(10000))]
[list(range(10001)), 1]
{"a": list(range(10001)), "b": {"c": (1, list(range(10001)))}}
b"x" * 65536
b"x" * 65537
[b"x" * 65536]
[b"x" * 65537]
(b"x" * 65537,)
{"a": b"x" * 65537}
{b"x" * 65537}
[{"id": i, "name": f"n{i}", "x": i / 2, "tags": [i, i + 1]} for i in range(50)]
[{"a": 1, "b": [1]}, {"b": [1], "a": 2}, {"a": 1}, {}]
[{"a": 1}, {1: "a"}, {(1,): ["a"]}]
[Point(1), Point(2), Other(1), Slotted(1), None, "a", [Point(3)]]
[Colour.RED, 1, "a", decimal.Decimal(1), (Pair(1, [2]),)]
typing.List[int]
typing.List[str]
typing.Dict[str, int]
typing.Optional[int]
typing.Literal[1]
typing.Literal[True]
typing.Annotated[int, 1]
typing.ForwardRef("int")
Variable
Bound
Otherwise
Constrained
Covariant
Parameters
Number_
Text_
list[Bound]
list[Otherwise]
uuid.UUID(int=1, is_safe=uuid.SafeUUID.safe)
types.MappingProxyType(collections.OrderedDict(a=1, b=2))
types.MappingProxyType(collections.OrderedDict(b=2, a=1))
ValueError(1)
told(ValueError(1), KeyError(2))
told(ValueError(1), KeyError(2), hidden=True)
told(ValueError(1), None, KeyError(2))
told(ValueError(1), None, KeyError(2), True)
[told(ValueError(1), told(KeyError(2), OSError(3)))]
Cached(1)
Cached(2)
Moment(2020, 1, 1)
labelled(Moment(2020, 1, 1), 1)
labelled(Moment(2020, 1, 1), 2)
labelled(Cached(1), 1)
""".strip().splitlines()

EQUAL = [
    ('{"a": 1, "b": 2}', '{"b": 2, "a": 1}'),
    ('{1: "a", "b": 2}', '{"b": 2, 1: "a"}'),
    ('{"a", "b", "c"}', '{"c", "b", "a"}'),
    ('collections.Counter("aab")', 'collections.Counter("baa")'),
    ("looped()", "looped()[1]"),
    ("looped()", "looped_twice()"),
    ("looped()", "[1, looped()]"),
    ("family()", "family().children[0].parent"),
    ("[[1], [1]]", "[[1]] * 2"),
    ("doubled(3)", "eval(repr(doubled(3)))"),
    ("doubled(14)", "eval(repr(doubled(14)))"),
    ("{float('nan'): 1, float('nan'): 2}", "{float('nan'): 2, float('nan'): 1}"),
    ("recursive()", "recursive()"),
    ("closing([1])", "closing([1])"),
    ("typing.Optional[int]", "int | None"),
    ("looked_at(ValueError(1))", "ValueError(1)"),
    ("looked_at(Cached(1))", "Cached(1)"),
    ("[looked_at(Cached(1)), Cached(2)]", "[Cached(1), looked_at(Cached(2))]"),
    ("uuid.UUID(int=1)", "uuid.UUID(str(uuid.UUID(int=1)))"),
    ("Stated(1)", "Stated(1)"),
    ("(lambda p: (p.norm, p)[1])(Point(1))", "Point(1)"),
]
