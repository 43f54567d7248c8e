"""Streams that a stranger might send, made by grammar; decoded under a watch: `main(seed, count)`.

Each is decoded by `wellkept.codecs.safe_pickle`. Whatever it is, the process lives, takes no more than
its share of memory and time, and what it had before (class attributes, function defaults, globals of modules,
files, environment) is what it has afterwards.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import importlib
import os
import pathlib
import pickle
import random
import resource
import sys
import tempfile
import uuid
import warnings
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from wellkept.codecs import pickle as pickle_codec
from wellkept.codecs import safe_pickle
from wellkept.errors import DecodeError

MEMORY = 3 * 2**30


@safe_pickle.register_plain
@dataclasses.dataclass
class Point:
    x: Any = 1
    y: Any = None


@safe_pickle.register_plain
@dataclasses.dataclass(frozen=True)
class Fixed:
    x: Any


@safe_pickle.register_plain
class Color(enum.Enum):
    RED = "red"
    BLUE = (1, 2)


def untouched(at: int = 1, *, key: str = "x") -> Any:
    return at, key


NAMES = [
    *(("builtins", n) for n in ("getattr", "setattr", "eval", "exec", "range", "slice", "complex")),
    *(("builtins", n) for n in ("ValueError", "OSError", "ImportError", "dict", "list", "object")),
    *(("builtins", n) for n in ("type", "__import__", "print", "bytearray", "frozenset", "map")),
    *(("os", "system"), ("posix", "system"), ("subprocess", "Popen"), ("sys", "modules")),
    *(("pathlib", n) for n in ("PosixPath", "PurePosixPath", "Path", "PosixPath.touch")),
    *(("datetime", n) for n in ("date", "datetime", "time", "timedelta", "timezone")),
    *(("collections", n) for n in ("deque", "Counter", "OrderedDict", "defaultdict", "abc")),
    *(("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"), ("uuid", "SafeUUID")),
    *(("zoneinfo", "ZoneInfo"), ("copyreg", "_reconstructor"), ("copyreg", "add_extension")),
    *(("numpy", n) for n in ("dtype", "ndarray", "load", "fromfile", "matrix", "memmap")),
    *(("numpy._core.multiarray", n) for n in ("_reconstruct", "scalar", "fromstring")),
    *(("numpy._core.numeric", n) for n in ("_frombuffer", "fromfunction")),
    *(("pandas", n) for n in ("DataFrame", "Series", "Index", "MultiIndex", "RangeIndex", "NA")),
    *(("pandas", n) for n in ("CategoricalDtype", "Categorical", "StringDtype", "read_pickle")),
    *(("pandas", n) for n in ("DatetimeIndex", "PeriodDtype", "Int64Dtype", "eval", "io")),
    *(("pandas.arrays", n) for n in ("IntegerArray", "BooleanArray", "DatetimeArray")),
    *(("pandas.arrays", n) for n in ("ArrowStringArray", "IntervalArray", "PeriodArray")),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas.core.internals.managers", "SingleBlockManager"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"),
    ("pandas._libs.tslibs.timestamps", "_unpickle_timestamp"),
    ("pandas._libs.tslibs.offsets", "Day"),
    *(("pyarrow.lib", n) for n in ("_restore_array", "py_buffer", "type_for_alias", "Array")),
    *((__name__, n) for n in ("Point", "Fixed", "Color", "untouched", "Color.RED", "NAMES")),
    *(("kept", n) for n in ("keep", "open", "codecs")),
]
ATTRIBUTES = [
    *("_str", "__defaults__", "__class__", "__dict__", "__reduce__", "x", "y", "int", "is_safe"),
    *("_mgr", "_typ", "attrs", "_metadata", "_flags", "categories", "ordered", "_data", "_mask"),
    *("name", "data", "levels", "codes", "start", "stop", "step", "args", "__notes__", "_name"),
]
NUMBERS = [
    0,
    1,
    -1,
    2,
    3,
    7,
    64,
    255,
    1000,
    10**6,
    2**31 - 1,
    2**31,
    -(2**31),
    2**62,
    2**64,
    10**30,
]


def valid() -> list[tuple[bytes, list[bytes]]]:
    """Streams that are decoded, to be changed."""
    zone = zoneinfo.ZoneInfo("Europe/Berlin")
    values: list[Any] = [
        {"a": [1, 2.5, "text", b"bytes", None, True], "b": ({1, 2}, frozenset([3]), (4, (5,)))},
        [Point(1, [2]), Fixed((1,)), Color.RED, Color.BLUE, bytearray(b"x"), 2**70, -1],
        [datetime.datetime(2026, 1, 2, tzinfo=zone), datetime.timedelta(1), datetime.date.today()],
        [decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=5), pathlib.Path("a/b")],
        [collections.OrderedDict(a=1), collections.deque([1], 3), collections.Counter("aab")],
        [ValueError("x"), OSError(2, "x", "f"), ImportError("x", name="n"), range(9), slice(1, 2)],
        [np.arange(3.0), np.float32(1), np.array([1, "a", None], object), np.zeros((0, 3))],
        [np.zeros(2, [("a", "f8"), ("b", "O")]), np.array(["2020"], "M8[s]"), np.array(["ab"])],
        pd.DataFrame({"a": [1, 2], "b": [1.5, None], "c": ["x", "y"], "d": [True, False]}),
        pd.DataFrame({"o": [(1,), None], "c": pd.Categorical(["x", "y"])}),
        pd.DataFrame(
            {"i": pd.array([1, None], dtype="Int64"), "t": pd.date_range("2020", periods=2)}
        ),
        pd.DataFrame({"a": [1]}, index=pd.MultiIndex.from_tuples([(1, "a")])),
        pd.Series([1.0, 2.0], name="s", index=["a", "b"]),
        [pd.period_range("2020", periods=2, freq="M"), pd.interval_range(0, 3), pd.Timedelta(1)],
        pd.date_range("2020", periods=3, tz="Europe/Berlin"),
    ]
    made = [pickle_codec.encode(value) for value in values]
    return [(value.head, [bytes(buffer) for buffer in value.buffers]) for value in made]


class Grammar:
    """Streams of operations that mostly have what they take."""

    def __init__(self, luck: random.Random) -> None:
        self.luck = luck

    def text(self, value: str) -> bytes:
        raw = value.encode()
        return b"\x8c" + bytes([len(raw)]) + raw

    def number(self, value: int) -> bytes:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def named(self) -> bytes:
        module, name = self.luck.choice(NAMES)
        return self.text(module) + self.text(name) + b"\x93"

    def scalar(self) -> bytes:
        luck = self.luck
        return luck.choice(
            [
                lambda: b"N",
                lambda: luck.choice((b"\x88", b"\x89")),
                lambda: self.number(luck.choice(NUMBERS)),
                lambda: self.text(luck.choice((*ATTRIBUTES, "i8", "O8", "V8", "f8", "int64", "b"))),
                lambda: b"C" + bytes([8]) + luck.randbytes(8),
                lambda: b"G" + luck.randbytes(8),
                lambda: b"h" + bytes([luck.randrange(12)]),
                lambda: b"\x97",
            ]
        )()

    def value(self, depth: int) -> bytes:
        luck = self.luck
        if depth <= 0:
            return self.scalar()
        few = [self.value(depth - 1) for _ in range(luck.randrange(4))]
        kinds: list[Callable[[], bytes]] = [
            self.scalar,
            self.named,
            lambda: b"](" + b"".join(few) + b"e",
            lambda: b"(" + b"".join(few) + b"t",
            lambda: b"}(" + b"".join(self.scalar() + part for part in few) + b"u",
            lambda: b"\x8f(" + b"".join(few) + b"\x90",
            lambda: b"(" + b"".join(few) + b"\x91",
            lambda: self.named() + b"(" + b"".join(few) + b"tR",
            lambda: self.named() + b")\x81",
            lambda: self.value(depth - 1) + self.state(depth - 1) + b"b",
            lambda: self.named() + self.state(depth - 1) + b"b",
            lambda: self.named() + b")R" + self.state(depth - 1) + b"b",
            lambda: self.named() + b")\x81\x94" + self.state(depth - 1) + b"b",
            lambda: self.array(),
            lambda: (
                self.value(depth - 1) + b"(" + b"".join(few) + luck.choice((b"e", b"u", b"\x90"))
            ),
            lambda: b"(" * luck.randrange(30) + b"".join(few) + luck.choice((b"1", b"t")),
            lambda: b")" + b"\x85" * luck.choice((3, 600)) + b"}" + b"h\x00Ns",
            lambda: b"\x8e" + luck.choice(NUMBERS[8:14]).to_bytes(8, "little", signed=True) + b"x",
            lambda: b"\x96" + abs(luck.choice(NUMBERS[8:14])).to_bytes(8, "little") + b"x",
            lambda: luck.choice((b"r\xff\xff\xff\xff", b"p9\n", b"\x82\x01", b"Pid\n", b"Q", b"2")),
            lambda: luck.choice((b"cos\nsystem\n", b"(S'x'\nios\nsystem\n", b"j\xff\xff\xff\x7f")),
        ]
        found = luck.choice(kinds)()
        return found + b"\x94" if luck.random() < 0.3 else found

    def state(self, depth: int) -> bytes:
        luck = self.luck
        names = luck.sample(ATTRIBUTES, luck.randrange(4))
        said = b"".join(self.text(name) + self.value(depth - 1) for name in names)
        mapping = b"}(" + said + b"u"
        return luck.choice((mapping, b"N" + mapping + b"\x86", self.value(depth)))

    def array(self) -> bytes:
        """An array of some shape, with some data."""
        luck = self.luck
        dtype = (
            self.text("numpy") + self.text("dtype") + b"\x93" + self.text(luck.choice(("i8", "O8")))
        )
        dtype += (
            b"\x89\x88\x87R(K\x03"
            + self.text("<")
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        )
        shape = (
            b"("
            + b"".join(self.number(luck.choice(NUMBERS)) for _ in range(luck.randrange(3)))
            + b"t"
        )
        data = luck.choice((b"](K\x01e", b"C\x08" + bytes(8), b"C\x00", self.scalar()))
        made = self.text("numpy._core.multiarray") + self.text("_reconstruct") + b"\x93"
        made += self.text("numpy") + self.text("ndarray") + b"\x93K\x00\x85C\x01b\x87R"
        return made + b"(K\x01" + shape + dtype + b"\x89" + data + b"tb"

    def stream(self) -> bytes:
        return b"\x80\x05" + self.value(self.luck.randrange(1, 6)) + b"."


def changed(luck: random.Random, stream: bytes) -> bytes:
    """A valid stream with something else in it."""
    raw = bytearray(stream)
    for _ in range(luck.choice((1, 1, 1, 2, 5))):
        at = luck.randrange(2, len(raw))
        kind = luck.randrange(6)
        if kind == 0:
            raw[at] = luck.randrange(256)
        elif kind == 1:
            raw[at] ^= 1 << luck.randrange(8)
        elif kind == 2:
            del raw[at : at + luck.randrange(1, 8)]
        elif kind == 3:
            other = luck.randrange(2, len(raw))
            raw[at:at] = raw[other : other + luck.randrange(1, 40)]
        elif kind == 4:
            raw[at:at] = Grammar(luck).value(2)
        else:
            # Where a number of one byte stands, another one: sizes, shapes, placements, indexes.
            found = raw.find(b"K", at)
            if 0 <= found < len(raw) - 1:
                raw[found : found + 2] = Grammar(luck).number(luck.choice(NUMBERS))
        if len(raw) < 4:
            break
    return bytes(raw)


def streams(seed: int, count: int) -> Iterator[tuple[bytes, list[bytes]]]:
    luck = random.Random(seed)
    samples = valid()
    for _ in range(count):
        if luck.random() < 0.5:
            yield Grammar(luck).stream(), [b"12345678"] * 3
        else:
            stream, buffers = luck.choice(samples)
            yield changed(luck, stream), buffers


# -- the watch -------------------------------------------------------------------------------------


def things() -> dict[str, Any]:
    """What nothing may change: by name, what it holds."""
    found: dict[str, Any] = {"environment": dict(os.environ), "modules": sorted(sys.modules)}
    for name in {module for module, _ in NAMES} | {
        "wellkept.codecs.safe_pickle",
        "wellkept.codecs.safe_types",
    }:
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            found[f"module {name}"] = {k: id(v) for k, v in vars(module).items()}
    for module, name in NAMES:
        thing: Any = sys.modules.get(module)
        for part in name.split("."):
            thing = getattr(thing, part, None)
        for base in getattr(thing, "__mro__", (thing,)):
            with contextlib.suppress(TypeError):
                own = {k: id(v) for k, v in vars(base).items() if k not in CACHES}
                found[f"{module}.{name} {base!r:.60}"] = own
            held = [getattr(base, part, None) for part in ("__defaults__", "__kwdefaults__")]
            found[f"{module}.{name} defaults {base!r:.60}"] = repr(held)
    return found


CACHES = ("__abstractmethods__", "_abc_impl", "_cache_dtypes", "__annotations_cache__")


def used(value: Any) -> None:
    """Look at a value as a program would, where what is not sound would show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            repr(value)
            pickle.dumps(value, 5)
            parts = list(value) if type(value) in (list, tuple, set) else [value]
            for part in parts:
                if isinstance(part, (pd.DataFrame, pd.Series, pd.Index)):
                    part.copy(deep=True), part.isna(), part.astype(object), part.take([0])
                elif isinstance(part, np.ndarray):
                    part.tolist(), part.copy()
        except Exception:  # noqa: BLE001  it may be nonsense, as long as it is sound
            return


def main(seed: int, count: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    outcomes: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as empty:
        os.chdir(empty)
        warnings.simplefilter("ignore")
        for stream, buffers in streams(seed, 200):  # what is imported once is imported before
            with contextlib.suppress(DecodeError):
                used(safe_pickle.decode(stream, buffers))
        for stream, buffers in valid():
            used(safe_pickle.decode(stream, buffers))
        before = things()
        for i, (stream, buffers) in enumerate(streams(seed, count)):
            try:
                value = safe_pickle.decode(stream, buffers)
            except DecodeError as error:
                outcomes[type(error).__name__] += 1
            else:
                outcomes["decoded"] += 1
                if i % 4 == 0:
                    used(value)
        after = things()
        for name in before:
            if name != "modules":
                assert after[name] == before[name], f"seed {seed}: {name} is another"
        assert os.listdir(empty) == [], f"seed {seed}: there are files"  # noqa: PTH208  their names
        os.chdir("/")
    print(dict(outcomes))
