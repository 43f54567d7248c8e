"""Calls by each other: which gave what others took, and which made which; the way along them.

An engine that names values by versions of its own keeps two records a node. One says under `node` in its
metadata which `name` and `code` it has and what it was `given`: names and versions. Its result is the
version of the node's result. The other has the result itself, and says under `carries` which of its
arguments is the version.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple, Protocol

from wellkept.codecs import pickle_text
from wellkept.conditions import ANY, Condition, Equal, Other, Query
from wellkept.errors import KeptError
from wellkept.hashing import digest
from wellkept.records import ELEMENT, PARTS, Call


class Kept(Protocol):
    """What keeps the calls: a cache."""

    @property
    def backend(self) -> Any: ...
    def query(self, **filters: Any) -> Any: ...


class Stands(NamedTuple):
    """The node that a record stands for."""

    name: str
    given: Mapping[str, str]
    """Names and versions."""

    def label(self) -> str:
        """In one line, as people read it."""
        shown = (f"{name}=<{version[:8]}>" for name, version in self.given.items())
        return f"{self.name}({', '.join(shown)})"


def stands(call: Call) -> Stands | None:
    """The node that a record stands for, if it is one of another engine."""
    said = call.metadata.get("node")
    if not isinstance(said, Mapping) or not isinstance(said.get("given"), Mapping):
        return None
    return Stands(str(said.get("name")), {str(n): str(v) for n, v in said["given"].items()})


def given(call: Call) -> dict[str, str]:
    """Names and digests of what a call was made of."""
    node = stands(call)
    if node is not None:
        return {name: str(digest(version)) for name, version in node.given.items()}
    return {name: str(found.digest) for name, found in call.arguments.items()}


def carried(call: Call) -> str | None:
    """The digest of the version whose value a record carries, if it does."""
    found = call.arguments.get(call.metadata.get("carries", ""))
    return None if found is None else str(found.digest)


_SCALARS = (str, int, float)
_KEY = re.compile("[0-9a-f]{64}")
# Larger results are not decoded: a record shows only short scalars.
_SMALL = 300


class Links(Protocol):
    """Finds calls by each other; each answer has at most `limit` of them."""

    def keyed(self, keys: Collection[str], limit: int) -> list[Call]: ...
    def gave(self, digests: Collection[str], limit: int) -> list[Call]: ...
    def made(self, keys: Collection[str], limit: int) -> list[Call]: ...
    def took(self, values: Mapping[str, Any], limit: int) -> list[Call]: ...


def links_of(cache: Kept) -> Links:
    """Return the index of a cache's calls by each other.

    Raises:
        StoreError: the store can't be read.
    """
    found: Links | None = cache.backend.related()
    return _Read(cache) if found is None else found


class _Read:
    """Every record, read once, for backends without an index of calls by each other."""

    def __init__(self, cache: Kept) -> None:
        self._by_key: dict[str, Call] = {}
        self._gave: dict[str, list[Call]] = defaultdict(list)
        self._took: dict[str, list[Call]] = defaultdict(list)
        self._made: dict[str, list[Call]] = defaultdict(list)
        calls = tuple(Condition("function", (), Other(part)) for part in PARTS)
        for call in cache.backend.find(Query(calls)):
            self._by_key[call.key] = call
            self._gave[call.result].append(call)
            for given in {argument.digest for argument in call.arguments.values()}:
                self._took[given].append(call)
            parent = parent_of(call)
            if parent is not None:
                self._made[parent].append(call)

    def keyed(self, keys: Collection[str], limit: int) -> list[Call]:
        return [self._by_key[key] for key in keys if key in self._by_key]

    def gave(self, digests: Collection[str], limit: int) -> list[Call]:
        return _some(self._gave, digests, limit)

    def made(self, keys: Collection[str], limit: int) -> list[Call]:
        return _some(self._made, keys, limit)

    def took(self, values: Mapping[str, Any], limit: int) -> list[Call]:
        return _some(self._took, values, limit)


def _some(table: Mapping[str, list[Call]], wanted: Iterable[str], limit: int) -> list[Call]:
    def every() -> Iterator[Call]:
        for one in wanted:
            yield from table.get(one, ())

    return list(islice(every(), limit))


def parent_of(call: Call) -> str | None:
    """The key of the call whose body made this one."""
    found = call.metadata.get("parent")
    return found if isinstance(found, str) and _KEY.fullmatch(found) else None


def scalar(cache: Kept, call: Call) -> str | int | float | None:
    """A call's result, if it is a number or text that records of calls which took it may show.

    Nothing is unpickled.
    """
    if call.size > _SMALL or call.state != "done":
        return None
    try:
        held = cache.backend.fetch(call.key.raw)
        if held is None or held.envelope is None or held.body.result != call.result.raw:
            return None
        payload, _ = cache.backend.load(held.envelope)
        plain = bytes(payload)
        value = json.loads(plain) if held.envelope.codec == "json" else pickle_text.read(plain)
    except (KeptError, ValueError):
        return None
    return value if type(value) in _SCALARS else None


_NOTHING: tuple[Any, ...] = (None, True, False, "", (), [], {}, set())
ANYBODYS = frozenset(map(digest, _NOTHING))
"""Values so common that they would connect calls which have nothing to do with each other."""


class Walk:
    """The calls that are found on the way from some to others.

    Args:
        limit: at the most so many calls; `cut` says if there are more.
    """

    cache: Kept
    limit: int

    def __init__(self, cache: Kept, limit: int) -> None:
        self.cache, self.limit = cache, limit
        self.links: Links = links_of(cache)
        self.calls: dict[str, Call] = {}
        self.carriers: dict[str, Call] = {}
        """Calls in whose places nodes of other engines are found."""
        self.values: dict[str, Any] = {}
        """Values that no kept call gave, by digest; None if the value is not known."""
        self.versions: dict[str, set[str]] = {}
        """Digests of values, and of the versions under which other engines have them."""
        self._nodes: dict[str, list[Call]] | None = None
        self.cut: bool = False

    # -- going on ---------------------------------------------------------------------------------

    def up(self, nodes: Iterable[str], steps: int | None) -> None:
        """Walk to the calls that led to these."""
        front = [self.calls[node] for node in nodes if node in self.calls]
        while front and (steps is None or steps > 0):
            steps = None if steps is None else steps - 1
            wanted = {
                value for call in front for value in given(call).values() if value not in ANYBODYS
            }
            parents = {parent for call in front if (parent := parent_of(call)) is not None}
            front = self._met(
                (*self.links.gave(wanted, self._most), *self.links.keyed(parents, self._most))
            )

    def down(self, nodes: Iterable[str], steps: int | None) -> None:
        """Walk to the calls that these led to."""
        listed = list(nodes)
        values = {value: self.values[value] for value in listed if value in self.values}
        front = [self.calls[node] for node in listed if node in self.calls]
        while (front or values) and (steps is None or steps > 0):
            steps = None if steps is None else steps - 1
            for call in front:
                values[str(call.result)] = scalar(self.cache, call)
            taken = {at: value for at, value in values.items() if at not in ANYBODYS}
            keys = {str(call.key) for call in front}
            found = [*self._took(taken, front), *self.links.made(keys, self._most)]
            values, front = {}, self._met(found)

    def downstream(self, calls: Iterable[Call]) -> list[Call]:
        """Return these and all that is made of their results: what took one of them, the calls whose
        bodies made one of them, and what those made afterwards; and so on.
        """
        front, opened = self._met(calls), set[str]()
        fresh: set[str] = set()
        since: dict[str, float] = {}
        while front or fresh:
            values = {str(call.result): scalar(self.cache, call) for call in front}
            values |= dict.fromkeys(self._elements(front))
            holders = set()
            for call in front:
                parent = parent_of(call)
                if parent is not None and call.created < since.get(parent, math.inf):
                    since[parent] = call.created
                    holders.add(parent)
            # A body that was given such a value may have given something of it to each that it calls. One
            # that made such a value may have from then on; those of one time may have followed.
            made = [
                call
                for call in self.links.made(fresh | holders, self._most)
                if (parent := parent_of(call)) in opened
                or (
                    call.created >= since.get(parent or "", math.inf)
                    and str(call.key) not in self.calls
                )
            ]
            made += self._took({at: v for at, v in values.items() if at not in ANYBODYS}, front)
            fresh = {str(call.key) for call in made} - opened
            opened |= fresh
            front = self._met([*made, *self.links.keyed(holders, self._most)])
        return [*self.calls.values(), *self.carriers.values()]

    def upstream(self, calls: Iterable[Call]) -> list[Call]:
        """Return these and all that they are made from: what gave their arguments, what their bodies
        called, the calls whose bodies made them, and what those made before; and so on.
        """
        front, opened = self._met(calls), set[str]()
        fresh = {str(call.key) for call in front}
        opened |= fresh
        until: dict[str, float] = {}
        while front or fresh:
            wanted = {value for call in front for value in given(call).values()} - ANYBODYS
            wanted |= {version for call in front for version in self.versions.get(call.result, ())}
            makers = set()
            for call in front:
                parent = parent_of(call)
                if parent is not None and call.created > until.get(parent, -math.inf):
                    until[parent] = call.created
                    makers.add(parent)
            made = [
                call
                for call in self.links.made(fresh | makers, self._most)
                if (parent := parent_of(call)) in opened
                or call.created <= until.get(parent or "", -math.inf)
            ]
            found = [*made, *self.links.gave(wanted, self._most), *self._held(wanted)]
            fresh = {str(call.key) for call in found} - opened
            opened |= fresh
            front = self._met([*found, *self.links.keyed(makers, self._most)])
        return [*self.calls.values(), *self.carriers.values()]

    def _elements(self, calls: Iterable[Call]) -> Iterator[str]:
        """Return the digests of what the results of calls are made of, where that is kept too."""
        keys = {str(call.key) for call in calls}
        return (value for of, value in self._parts if of in keys)

    def _held(self, values: Collection[str]) -> list[Call]:
        """Return the calls whose results have these elements."""
        return self.links.keyed({of for of, value in self._parts if value in values}, self._most)

    @cached_property
    def _parts(self) -> list[tuple[str, str]]:
        """Return the keys of calls, and digests of what their results are made of."""
        elements = self.cache.backend.find(Query((Condition("function", (), Equal(ELEMENT)),)))
        return [
            (str(one.arguments["of"].digest), str(one.arguments["value"].digest))
            for one in elements
        ]

    def _took(self, taken: dict[str, Any], front: list[Call]) -> list[Call]:
        """Return the calls that took values, also as nodes of another engine."""
        found = self.links.took(taken, self._most)
        if any(stands(call) for call in front):
            if self._nodes is None:
                self._nodes = {}
                for call in self.cache.query(metadata={"node": ANY}).calls():
                    for value in given(call).values():
                        self._nodes.setdefault(value, []).append(call)
            found += [call for value in taken for call in self._nodes.get(value, ())]
            itself = {str(call.result): scalar(self.cache, call) for call in found if carried(call)}
            found += self.links.took(itself, self._most)
        return found

    @property
    def _most(self) -> int:
        """Return the limit of an answer: all calls that were found before may be among it."""
        return 2 * self.limit + 1

    def _met(self, calls: Iterable[Call]) -> list[Call]:
        """Return the calls that are new; in place of one that carries a node's result, the node."""
        new, todo = [], list(calls)
        for call in todo:
            version = carried(call)
            if version is not None:
                self.carriers[str(call.key)] = call
                known = self.versions.setdefault(str(call.result), set())
                if version not in known:
                    known.add(version)
                    todo += self.links.gave({version}, self._most)
                continue
            if call.key in self.calls:
                continue
            if len(self.calls) >= self.limit:
                self.cut = True
                break
            self.calls[str(call.key)] = call
            new.append(call)
        return new
