"""Classes and makers that the pairs of `library_pairs.txt` name."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import fractions
import functools
import io
import pathlib
import typing
import xml.etree.ElementTree as ET
from typing import Any

import attr
import attrs
import networkx as nx
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pydantic
import xarray as xr


def given(value: Any, **attributes: Any) -> Any:
    """The value with attributes set."""
    for name, item in attributes.items():
        setattr(value, name, item)
    return value


def after(value: Any, *steps: Any) -> Any:
    """The value after it was used."""
    for step in steps:
        step(value)
    return value


class Plain:
    def __init__(self, a: Any = 1) -> None:
        self.a = a

    @functools.cached_property
    def double(self) -> Any:
        return [self.a, self.a]


class Derived(Plain):
    @functools.cached_property
    def more(self) -> Any:
        return (*self.double, 1)


class NotCached(Plain):
    double = None  # type: ignore[assignment]  # what was a cached property is an attribute here


class reify:
    def __init__(self, function: Any) -> None:
        self.function = function

    def __get__(self, held: Any, kind: Any = None) -> Any:
        if held is None:
            return self
        made = held.__dict__[self.function.__name__] = self.function(held)
        return made


class Reified:
    @reify
    def big(self) -> Any:
        return 1


class Slotted:
    __slots__ = ("__dict__", "__hidden", "a")

    def __init__(self, a: Any, hidden: Any = None) -> None:
        self.a, self.__hidden = a, hidden

    @functools.cached_property
    def double(self) -> Any:
        return [self.a, self.a]


class List(list):  # type: ignore[type-arg]
    @functools.cached_property
    def first(self) -> Any:
        return self[0]


class Set(set):  # type: ignore[type-arg]
    @functools.cached_property
    def count(self) -> Any:
        return len(self)


class Dict(dict):  # type: ignore[type-arg]
    @functools.cached_property
    def count(self) -> Any:
        return len(self)


class Getstate(Plain):
    def __getstate__(self) -> Any:
        return self.__dict__.copy()


class Pair(collections.namedtuple("Pair", "a b")):
    @functools.cached_property
    def total(self) -> Any:
        return self.a + self.b


@dataclasses.dataclass
class Data:
    a: Any
    b: Any = 2

    @functools.cached_property
    def total(self) -> Any:
        return (self.a, self.b)


@attrs.define
class Defined:
    a: Any
    b: Any = 2

    @functools.cached_property
    def total(self) -> Any:
        return (self.a, self.b)


@attrs.define(slots=False)
class Unslotted:
    a: Any

    @functools.cached_property
    def total(self) -> Any:
        return [self.a]


@attr.s(frozen=True, cache_hash=True, auto_attribs=True)
class Hashed:
    a: Any


@attr.s(frozen=True, cache_hash=True, auto_attribs=True, slots=True)
class HashedSlots:
    a: Any
    b: Any = attr.ib(default=1, eq=False)


class Model(pydantic.BaseModel):
    a: int = 1
    b: int = 2

    @functools.cached_property
    def total(self) -> Any:
        return self.a + self.b


class Computed(pydantic.BaseModel):
    a: int = 1

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @functools.cached_property
    def total(self) -> int:
        return self.a + 1


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    a: int = 1
    _private: int = pydantic.PrivateAttr(default=1)


class Frozen(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)
    a: int = 1


class Nested(pydantic.BaseModel):
    model: Model = Model()
    many: list[Model] = []


class Root(pydantic.RootModel[list[int]]):
    pass


Item = typing.TypeVar("Item")


class Box(pydantic.BaseModel, typing.Generic[Item]):
    held: Item


@pydantic.dataclasses.dataclass
class Checked:
    a: int
    b: int = 2


class Failed(Exception):
    __slots__ = ("why",)


def chained(
    error: BaseException, cause: Any = None, context: Any = None, hide: bool = False
) -> Any:
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = hide or cause is not None
    return error


def raised(error: BaseException) -> Any:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001
        return caught


class Day(datetime.date):
    pass


class Moment(datetime.datetime):
    __slots__ = ("label",)


class Ratio(fractions.Fraction):
    pass


class Tally(collections.Counter):  # type: ignore[type-arg]
    pass


class Where(type(pathlib.PurePosixPath())):  # type: ignore[misc]
    __slots__ = ("label",)


class Noted(pathlib.PurePosixPath):
    pass


class Level(enum.Flag):
    LOW = 1
    HIGH = 2
    BOTH = 3


class Quantity(np.ndarray):
    def __array_finalize__(self, other: Any) -> None:
        self.units = getattr(other, "units", None)


class Quick(np.ndarray):
    __slots__ = ("unit",)

    def __array_finalize__(self, other: Any) -> None:
        if hasattr(other, "unit"):
            self.unit = other.unit


class Masked(np.ma.MaskedArray):  # type: ignore[type-arg]
    pass


class Frame(pd.DataFrame):
    _metadata = ["units"]  # noqa: RUF012  as pandas declares it

    @property
    def _constructor(self) -> Any:
        return Frame


class Extension(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self, parameter: int) -> None:
        self.parameter = parameter
        super().__init__(pa.int64(), "tests.extension")

    def __arrow_ext_serialize__(self) -> bytes:
        return str(self.parameter).encode()

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Any:
        return cls(int(serialized))


def extended(parameter: int) -> Any:
    return pa.ExtensionArray.from_storage(Extension(parameter), pa.array([1]))


@pd.api.extensions.register_extension_dtype
class Metres(pd.api.extensions.ExtensionDtype):
    """A dtype whose text leaves out its scale."""

    name = "metres"
    type = float
    _metadata = ("scale",)

    def __init__(self, scale: int = 1) -> None:
        self.scale = scale

    @classmethod
    def construct_array_type(cls) -> Any:
        return MetreArray


class MetreArray(pd.api.extensions.ExtensionArray):
    def __init__(self, values: Any, scale: int = 1) -> None:
        self._values, self._dtype = np.asarray(values, float), Metres(scale)

    @classmethod
    def _from_sequence(cls, scalars: Any, *, dtype: Any = None, copy: bool = False) -> Any:
        return cls(list(scalars), getattr(dtype, "scale", 1))

    def __getitem__(self, item: Any) -> Any:
        found = self._values[item]
        return found if np.isscalar(found) else MetreArray(found, self._dtype.scale)

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other: Any) -> Any:
        return self._values == other

    @property
    def dtype(self) -> Any:
        return self._dtype

    @property
    def nbytes(self) -> int:
        return int(self._values.nbytes)

    def isna(self) -> Any:
        return np.isnan(self._values)

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Any:
        return MetreArray(np.take(self._values, indices), self._dtype.scale)

    def copy(self) -> Any:
        return MetreArray(self._values.copy(), self._dtype.scale)


def dataset(**encoding: Any) -> Any:
    made = xr.Dataset({"a": ("x", [0.0, 1.0])}, coords={"x": [1, 2]}, attrs={"t": 1})
    made.a.encoding.update(encoding)
    return made


def png(colour: int = 1, mode: str = "L", **info: Any) -> Any:
    """An image that was opened and is not read yet."""
    image = PIL.Image.new(mode, (2, 2), colour)
    stream = io.BytesIO()
    image.save(stream, "png", **info)
    stream.seek(0)
    return PIL.Image.open(stream)


def gif(*colours: int) -> Any:
    frames = [PIL.Image.new("L", (2, 2), colour) for colour in colours]
    stream = io.BytesIO()
    frames[0].save(stream, "gif", save_all=True, append_images=frames[1:])
    stream.seek(0)
    return PIL.Image.open(stream)


def graph(kind: Any = nx.Graph, weight: int = 1, **attributes: Any) -> Any:
    made = kind(**attributes)
    made.add_edge(1, 2, weight=weight)
    made.add_node("n", colour="red")
    return made


def xml(text: str) -> Any:
    return ET.fromstring(text)


def closing(held: Any) -> Any:
    def inner() -> Any:
        return held

    return inner


def made(text: str) -> Any:
    """What a statement defines as `it`."""
    scope: dict[str, Any] = {"typing": typing}
    exec(text, scope)
    return scope["it"]
