"""The same bytes as `encoding`, but faster: columns of values at C speed.

Values are taken apart side by side: all lists at one place of the tree together, all dicts of one
shape key by key. A column that holds only atoms needs no work in Python at all, since `marshal`
(version 2, which never writes references) writes atoms, tuples and lists exactly as the scheme
says; everything else is rebuilt as tuples of those and written in one call.

`marshal` also writes whatever has a buffer (numpy scalars, arrays) as if it were `bytes`, so a
column's exact types are looked at before it is left alone.
"""

from __future__ import annotations

from itertools import chain, islice, repeat
from marshal import dumps
from math import inf
from operator import attrgetter, itemgetter
from typing import Any

from blake3 import blake3

from wellkept.hashing.buffers import Known, buffer_digest, threads
from wellkept.hashing.encoding import (
    ATOMS,
    MAX_BYTES,
    MAX_HEIGHT,
    MAX_LENGTH,
    MAX_NODES,
    makes_its_kind,
)
from wellkept.hashing.reducers import Reducer, fields_of, reducer_of
from wellkept.records import Digest

# `marshal` writes this one class as the single byte `S`, which opens a tagged tuple.
MARK = StopIteration

# Values laid out between two looks at whether most of them are the same few objects.
_BUDGET = 500_000

# Objects that lie in objects from which it is looked whether reductions make them without end.
_MANY = 1000

# Parts that are looked at one by one.
_FEW = 20

SIZED = frozenset({list, tuple, dict})
_TEXT = {str}
_PLAIN = ATOMS - {bytes}
_NO_KEYS = dumps((), 2)


class Unfit(Exception):  # noqa: N818 - a signal
    """Raised for a value that is too deep, cyclic, or much shared, so that the reference has to encode it."""


class _Large(Exception):  # noqa: N818 - a signal
    """Raised if a part may have to be written as its own digest."""


# What to write for each value, and an upper bound of the nodes of each.
Column = tuple[list[Any], int]


class Task:
    """The state of one digest: known digests of memory, and the reductions of large objects.

    A value whose parts turn out to be large is walked again piece by piece; its arrays and frames
    are not to be hashed again. The objects are held, so that no other can take their ids.
    """

    __slots__ = ("known", "large", "reduced")

    def __init__(self, known: Known | None) -> None:
        self.known: Known | None = known
        self.large: dict[int, tuple[Any, bytes]] = {}
        self.reduced: dict[int, tuple[Any, tuple[Any, ...]]] = {}

    def reduce(self, value: Any, reduce: Reducer) -> tuple[Any, ...]:
        if reduce.__module__ not in _HEAVY:
            return reduce(value, self.known)
        found = self.reduced.get(id(value))
        if found is None:
            found = self.reduced[id(value)] = value, reduce(value, self.known)
        return found[1]


_HEAVY = frozenset(f"{__package__}.{name}" for name in ("arrays", "frames"))


class _Pass:
    """The state of one walk: how many nodes were visited, and how many may be."""

    __slots__ = ("budget", "limit", "task", "total")

    def __init__(self, task: Task, limit: float = inf) -> None:
        self.task = task
        self.limit = limit
        self.total = 0
        self.budget = _BUDGET

    def met(self, count: int) -> None:
        self.total += count
        if self.total > self.limit:
            raise _Large

    def bound(self, nodes: int) -> int:
        """Refuse a bound above what a part may have, unless all that was met is less than that."""
        if nodes > MAX_NODES and self.total > MAX_NODES:
            raise _Large
        return nodes

    def column(self, values: list[Any], level: int) -> Column:
        """Return the stand-ins of values that lie `level` levels under the root."""
        if not values:
            return values, 1
        self.met(len(values))
        kinds = list(map(type, values))
        first = kinds[0]
        # Most columns hold one type, and counting it takes half the time of a set of the types.
        if kinds.count(first) == len(kinds):
            if first in _PLAIN:
                return values, 1
            if first is bytes:
                return _short(values), 1
            if level > MAX_HEIGHT:
                raise Unfit
            return self.group(first, values, level)
        found = set(kinds)
        if bytes in found:
            values = _short(values)
        rest = found - ATOMS
        if not rest:
            return values, 1
        if level > MAX_HEIGHT:
            raise Unfit
        out = list(values)
        places: dict[type, list[int]] = {kind: [] for kind in rest}
        for place, kind in enumerate(kinds):
            if kind in rest:
                places[kind].append(place)
        nodes = 1
        for kind, at in places.items():
            done, some = self.group(kind, [values[place] for place in at], level)
            for place, item in zip(at, done, strict=True):
                out[place] = item
            nodes = max(nodes, some)
        return out, nodes

    def most(self, values: list[Any]) -> int:
        """Return the length of the longest of these containers, before they are all laid side by side."""
        lengths = list(map(len, values))
        self.spend(values, sum(lengths))
        return max(lengths)

    def spend(self, values: list[Any], parts: int) -> None:
        """Note values that are to be encoded.

        Raises:
            Unfit: that is much, and they are mostly the same few, met on many ways.
        """
        self.budget -= parts
        if self.budget < 0:
            if len(set(map(id, values))) * 2 < len(values):
                raise Unfit
            self.budget = _BUDGET

    def group(self, kind: type, values: list[Any], level: int) -> Column:
        """Return the stand-ins of values of one type that is not an atom's."""
        if kind is list or kind is tuple:
            most = self.most(values)
            inner = list(chain.from_iterable(values))
            done, nodes = self.column(inner, level + 1)
            if done is inner:
                return values, self.bound(1 + most * nodes)
            return _cut(done, values, kind), self.bound(1 + most * nodes)
        if kind is dict:
            return self.dicts(values, level)
        if kind is set or kind is frozenset:
            most = self.most(values)
            inner = list(chain.from_iterable(values))
            done, nodes = self.column(inner, level + 1)
            encoded = map(dumps, done, repeat(2))
            name = kind.__name__.encode()
            out: list[Any] = [
                (MARK, name, *sorted(islice(encoded, len(value)))) for value in values
            ]
            return out, self.bound(1 + most * nodes)
        if kind is Digest:
            return [(MARK, b"#", value.raw) for value in values], 1
        self.spend(values, 4 * len(values))
        reduce = reducer_of(kind)
        fields = fields_of(kind)
        if fields is not None:
            column = self.records(values, fields, level)
            if column is not None:
                return column
        # The reducers of large data make no object of their own kind, and would hash all of it again.
        probed = level > 3 and len(values) >= _MANY and reduce.__module__ not in _HEAVY
        if probed and makes_its_kind(values[0], self.task.known):
            raise Unfit
        contents = [self.task.reduce(value, reduce) for value in values]
        inner = list(chain.from_iterable(contents))
        done, nodes = self.column(inner, level + 1)
        rest = iter(done)
        return (
            [(MARK, *islice(rest, len(content))) for content in contents],
            self.bound(1 + max(map(len, contents)) * nodes),
        )

    def records(self, values: list[Any], fields: tuple[Any, ...], level: int) -> Column | None:
        """Encode instances of one dataclass or attrs class, field by field; None if one is irregular."""
        head, names, slotted = fields
        if not slotted and set(map(tuple, map(attrgetter("__dict__"), values))) != {names}:
            return None
        columns, nodes = [], 1 + len(head)
        self.met(len(head) * len(values))
        try:
            for name in names:
                done, some = self.column(list(map(attrgetter(name), values)), level + 1)
                columns.append(done)
                nodes += some
        except AttributeError:
            return None
        out: list[Any] = list(zip(repeat(MARK), *map(repeat, head), *columns, strict=False))
        if not columns:
            out = [(MARK, *head)] * len(values)
        return out, self.bound(nodes)

    def dicts(self, values: list[Any], level: int) -> Column:
        most = self.most(values)
        kinds = list(map(type, chain.from_iterable(values)))
        if not kinds:
            return [(MARK, b"dict", _NO_KEYS)] * len(values), 1
        if kinds.count(str) != len(kinds):
            return self.mappings(values, level)
        self.met(len(kinds))
        first = values[0]
        width = len(first)
        if len(values) > 1 and width <= 1000 and set(map(len, values)) == {width}:
            keys = tuple(sorted(first))
            try:
                rows = [list(map(itemgetter(key), values)) for key in keys]
            except KeyError:
                pass
            else:
                nodes, columns = 1 + width, []
                for row in rows:
                    done, some = self.column(row, level + 1)
                    columns.append(done)
                    nodes += some
                written = repeat(dumps(keys, 2), len(values))
                out: list[Any] = list(
                    zip(repeat(MARK), repeat(b"dict"), written, *columns, strict=False)
                )
                return out, self.bound(nodes)
        ordered = [sorted(value) for value in values]
        inner = [
            item
            for keys_, value in zip(ordered, values, strict=True)
            for item in map(value.__getitem__, keys_)
        ]
        done, nodes = self.column(inner, level + 1)
        rest = iter(done)
        return (
            [
                (MARK, b"dict", dumps(tuple(keys_), 2), *islice(rest, len(keys_)))
                for keys_ in ordered
            ],
            self.bound(1 + most + most * nodes),
        )

    def mappings(self, values: list[Any], level: int) -> Column:
        """Encode dicts of which some have keys that are not text."""
        inner = list(chain.from_iterable(values))
        keys, nodes = self.column(inner, level + 1)
        written = list(map(dumps, keys, repeat(2)))
        held, some = self.column(
            list(chain.from_iterable(value.values() for value in values)), level + 1
        )
        out: list[Any] = []
        at = 0
        for value in values:
            end = at + len(value)
            if set(map(type, inner[at:end])) <= _TEXT:
                order = sorted(range(at, end), key=inner.__getitem__)
            else:
                if len(set(written[at:end])) != end - at:
                    # Keys that are written alike go by their values, which the reference walk does.
                    raise Unfit
                order = sorted(range(at, end), key=written.__getitem__)
            names = dumps(tuple([keys[i] for i in order]), 2)
            out.append((MARK, b"dict", names, *[held[i] for i in order]))
            at = end
        most = max(map(len, values))
        return out, self.bound(1 + most * (nodes + some))


def _cut(flat: list[Any], values: list[Any], kind: type) -> list[Any]:
    rest = iter(flat)
    return [kind(islice(rest, len(value))) for value in values]


def _short(values: list[Any]) -> list[Any]:
    """Return the same values, with the long ones among the bytes written as their digests."""
    if not any(type(value) is bytes and len(value) > MAX_BYTES for value in values):
        return values
    return [
        (MARK, b"#", _long_bytes(value))
        if type(value) is bytes and len(value) > MAX_BYTES
        else value
        for value in values
    ]


def _long_bytes(value: bytes) -> bytes:
    """Return the digest of long bytes as a root, without a copy."""
    if len(value) > MAX_LENGTH:
        return blake3(dumps((MARK, b"long bytes", len(value), buffer_digest(value)), 2)).digest()
    hasher = blake3(b"s" + len(value).to_bytes(4, "little"), max_threads=threads())
    return hasher.update(value).digest()


def _stands(content: tuple[Any, ...]) -> bool:
    """Return whether the few parts of an object stand for themselves: those of an array are its dtype, its
    shape, and the digest of its bytes.
    """
    if len(content) > _FEW:
        return False
    for part in content:
        kind = type(part)
        if kind in _PLAIN:
            continue
        if kind is tuple:
            if len(part) > _FEW or not _PLAIN.issuperset(map(type, part)):
                return False
        elif kind is not bytes or len(part) > MAX_BYTES:
            return False
    return True


def _column(values: list[Any], task: Task, depth: int) -> list[Any]:
    """Return the stand-ins of the root's children, large ones replaced by their digests."""
    try:
        return _Pass(task).column(values, 1)[0]
    except _Large:
        return _pieces(values, task, depth)


def _pieces(values: list[Any], task: Task, depth: int) -> list[Any]:
    """Return the same by halves: what has few nodes in all has no large part."""
    if len(values) == 1 and type(values[0]) in SIZED and len(values[0]) > MAX_NODES:
        return [(MARK, b"#", _large(values[0], task, depth))]
    try:
        return _Pass(task, MAX_NODES).column(values, 1)[0]
    except _Large:
        # The walk met its nodes and no others, so it is large.
        if len(values) == 1:
            return [(MARK, b"#", _large(values[0], task, depth))]
    half = len(values) // 2
    return _pieces(values[:half], task, depth) + _pieces(values[half:], task, depth)


def _large(value: Any, task: Task, depth: int) -> bytes:
    """Return the digest of a large part, once however often it is met."""
    found = task.large.get(id(value))
    if found is None:
        found = task.large[id(value)] = value, fast_digest(value, task, depth + 1)
    return found[1]


# How `marshal` begins a number, and how many bytes it takes; an `int` of 32 bits has the fewest.
_NUMBERS = {int: (b"i", 5), float: (b"g", 9)}
# Bytes before the first item of a row.
_OPENING = 5


def _numbers(row: Any) -> bytes | None:
    """Return a long row as it is written, if it holds nothing but floats, or ints of 32 bits; otherwise None.

    To look at the type of each item takes longer than to write them. A letter stands for one type, and where
    it stands at the beginning of an item, the next item begins that many bytes behind it.
    """
    first, some = type(row[0]), row[:: len(row) // _FEW]
    # What holds other things too may hold large ones, which would be written in vain.
    if first not in _NUMBERS or len(set(map(type, some))) > 1:
        return None
    if first is int and not (min(some) >= -(2**31) and max(some) < 2**31):
        return None
    letter, size = _NUMBERS[first]
    try:
        written = dumps(row, 2)
    except ValueError:
        return None
    fits = len(written) == _OPENING + size * len(row)
    return written if fits and written[_OPENING::size].count(letter) == len(row) else None


def fast_digest(root: Any, task: Task, depth: int = 0) -> bytes:
    """Return the digest of a value, 32 bytes.

    Raises:
        Unfit, Refused: the reference must do it (and knows the path to what was refused).
    """
    kind = type(root)
    if kind in ATOMS:
        if kind is bytes and len(root) > MAX_BYTES:
            return _long_bytes(root)
        return buffer_digest(dumps(root, 2))
    if depth > 8:
        raise Unfit
    if (kind is list or kind is tuple) and len(root) >= _MANY:
        numbers = _numbers(root)
        if numbers is not None:
            return buffer_digest(numbers)
    written: Any
    if kind is list:
        written = _column(root, task, depth)
    elif kind is tuple:
        written = tuple(_column(list(root), task, depth)) if root else ()
    elif kind is dict:
        if set(map(type, root)) <= _TEXT:
            keys = sorted(root)
            held = _column(list(map(root.__getitem__, keys)), task, depth) if keys else []
            written = (MARK, b"dict", dumps(tuple(keys), 2), *held)
        else:
            names = _column(list(root), task, depth)
            order = list(map(dumps, names, repeat(2)))
            if len(set(order)) != len(order):
                raise Unfit
            held = _column(list(root.values()), task, depth)
            places = sorted(range(len(order)), key=order.__getitem__)
            ordered = dumps(tuple([names[i] for i in places]), 2)
            written = (MARK, b"dict", ordered, *[held[i] for i in places])
    elif kind is set or kind is frozenset:
        parts = sorted(map(dumps, _column(list(root), task, depth), repeat(2)))
        written = (MARK, kind.__name__.encode(), *parts)
    else:
        content = task.reduce(root, reducer_of(kind))
        written = (MARK, *(content if _stands(content) else _column(list(content), task, depth)))
    return buffer_digest(dumps(written, 2))
