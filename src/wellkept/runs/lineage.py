"""Lineage: where a result came from and what became of it, found by the digests in kept calls.

An engine that names values by versions of its own keeps two records a node. One says under `node` in its
metadata which `name` and `code` it has and what it was `given`: names and versions. Its result is the
version of the node's result. The other has the result itself, and says under `carries` which of its
arguments is the version.
"""

from __future__ import annotations

import json
import re
import string
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple, Protocol

from wellkept.caches import Cache, active, chosen
from wellkept.codecs import pickle_text
from wellkept.conditions import Condition, Other
from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, NotKept
from wellkept.hashing import digest
from wellkept.query import ANY, Match, Matches, Query, named
from wellkept.records import PARTS, Call, Digest, Event
from wellkept.runs.graph import CALLED, GAVE, Edge, Graph, Node
from wellkept.runs.table import called, event_label, records, short, summed


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


def links_of(cache: Cache) -> Links:
    """Return the index of a cache's calls by each other.

    Raises:
        StoreError: the store can't be read.
    """
    found: Links | None = cache.backend.related()
    return _Read(cache) if found is None else found


class _Read:
    """Every record, read once, for backends without an index of calls by each other."""

    def __init__(self, cache: Cache) -> None:
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


def scalar(cache: Cache, call: Call) -> str | int | float | None:
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
_ANYBODYS = frozenset(map(digest, _NOTHING))
"""Values so common that they would connect calls which have nothing to do with each other."""


def lineage(
    of: Any,
    *,
    up: int | None = None,
    down: int | None = None,
    limit: int = 500,
    cache: Cache | str | None = None,
) -> Graph:
    """Return where a result came from, and what became of it, as far as calls are kept.

    Up are the calls whose results were its arguments, and the call that made it; down are those that took its
    result, and those that it made. Calls are connected by the digests of values: of two that gave the same
    value, it may have come from either. None, True, False and empty values connect nothing.

    Args:
        of: a kept value; its digest, or a call's key, or 4 or more digits of either; or a call, as a
            `Call`, or what a query found.
        up: the most steps up; all by default.
        down: the most steps down; all by default.
        limit: the most calls; the graph's `cut` says if there are more.
        cache: the active one by default.

    Raises:
        NotKept: no kept call gave or took it.
        AmbiguousDigest: several begin with these digits.
        Undigestible: the value has no identity.
        ConfigError: a step or limit is not a number from 0 up, or there is no such cache.
        StoreError: the store can't be read.
    """
    for name, steps, least in (("up", up, 0), ("down", down, 0), ("limit", limit, 1)):
        if (steps is not None or least) and (type(steps) is not int or steps < least):
            raise ConfigError(f"{name}= is a number from {least} up, not {steps!r:.80}")
    where = active() if cache is None else chosen(cache)
    walk = _Walk(where, limit)
    focus = walk.begin(of)
    walk.up(focus, up)
    walk.down(focus, down)
    return walk.graph(focus)


class _Walk:
    """The calls that were found, and the edges between them."""

    def __init__(self, cache: Cache, limit: int) -> None:
        self.cache, self.limit = cache, limit
        self.links = links_of(cache)
        self.calls: dict[str, Call] = {}
        self.values: dict[str, Any] = {}
        """Values that no kept call gave, by digest; None if the value is not known."""
        self.versions: dict[str, set[str]] = {}
        """Digests of values, and of the versions under which other engines have them."""
        self._nodes: dict[str, list[Call]] | None = None
        self.cut = False

    # -- where it begins --------------------------------------------------------------------------

    def begin(self, of: Any) -> list[str]:
        """Return the nodes that are asked about."""
        if isinstance(of, Call):
            self.calls[of.key] = of
            return [of.key]
        if isinstance(of, (Matches, Match)):
            found = self._met([of.call] if isinstance(of, Match) else of.calls())
            if not found:
                raise NotKept(f"no call fits {of!r}")
            return [str(call.key) for call in found]
        named = self._named(of) if isinstance(of, str) else None
        return self._valued(str(digest(of)), repr(of), of) if named is None else named

    def _named(self, text: str) -> list[str] | None:
        """Return the nodes of a key or digest, or the beginning of one; None if the text is a value."""
        low = text.lower()
        if not 4 <= len(low) <= 64 or not set(low) <= set(string.hexdigits):
            return None
        fits = self._beginning(low) if len(low) < 64 else {low}
        if len(fits) > 1:
            shown = ", ".join(one[:16] for one in sorted(fits)[:3])
            raise AmbiguousDigest(f"{text} fits several: {shown}; give more digits")
        for one in fits:
            if self._met(self.links.keyed({one}, 1)):
                return [one]
            if found := self._gave_or_took(one, None):
                return found
        if type(text) is Digest or len(low) == 64:
            raise NotKept(f"no call or value {text} is kept in {self.cache}")
        return None

    def _beginning(self, low: str) -> set[str]:
        """Return the keys and digests that begin so: all if there are up to two."""
        fits: set[str] = set()
        for field in ("key", "result", "given"):
            for call in self.cache.query(**{field: named(low)}).calls():
                met = [call.key, call.result, *(a.digest for a in call.arguments.values())]
                fits.update(str(one) for one in met if one.startswith(low))
                if len(fits) > 1:
                    return fits
        return fits

    def _valued(self, value: str, shown: str, known: Any) -> list[str]:
        found = self._gave_or_took(value, known if type(known) in (str, int, float) else None)
        if not found:
            raise NotKept(
                f"{shown:.80} has no lineage in {self.cache}: no kept call gave it, and none took it"
            )
        return found

    def _gave_or_took(self, value: str, known: Any) -> list[str]:
        """Return the calls that gave a value; the value itself if it was only an argument."""
        if gave := self._met(self.links.gave({value}, self.limit + 1)):
            return [str(call.key) for call in gave]
        if not self.links.took({value: known}, 1):
            return []
        self.values[value] = known
        return [value]

    # -- going on ---------------------------------------------------------------------------------

    def up(self, nodes: Iterable[str], steps: int | None) -> None:
        """Walk to the calls that led to these."""
        front = [self.calls[node] for node in nodes if node in self.calls]
        while front and (steps is None or steps > 0):
            steps = None if steps is None else steps - 1
            wanted = {
                value for call in front for value in given(call).values() if value not in _ANYBODYS
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
            taken = {at: value for at, value in values.items() if at not in _ANYBODYS}
            keys = {str(call.key) for call in front}
            found = [*self._took(taken, front), *self.links.made(keys, self._most)]
            values, front = {}, self._met(found)

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

    # -- what was met -----------------------------------------------------------------------------

    def graph(self, focus: list[str]) -> Graph:
        """Return the graph: nodes in the order of time, and all edges between them."""
        calls = sorted(self.calls.values(), key=lambda call: (call.created, call.key))
        nodes = [Node(value, f"<{value[:12]}>", result=value) for value in self.values]
        nodes += [
            Node(
                str(call.key),
                *_named(call),
                "failed" if call.state == "failed" else "",
                call.seconds,
                str(call.result),
                call.created,
            )
            for call in calls
        ]
        gave: dict[str, list[str]] = {value: [value] for value in self.values}
        for call in calls:
            gave.setdefault(str(call.result), []).append(str(call.key))
        for value, versions in self.versions.items():
            gave.setdefault(value, []).extend(key for v in versions for key in gave.get(v, ()))
        edges: list[Edge] = []
        for call in calls:
            edges += _edges(str(call.key), given(call), gave, parent_of(call))
        return Graph(nodes, edges, focus, self.cut)


def _named(call: Call) -> tuple[str, str]:
    """Return a call's label and function, or those of the node that it stands for."""
    node = stands(call)
    return (
        (called(call.function, call), call.function) if node is None else (node.label(), node.name)
    )


def _edges(
    node: str, arguments: dict[str, str], gave: dict[str, list[str]], parent: Any
) -> Iterator[Edge]:
    for name, value in arguments.items():
        if value not in _ANYBODYS:
            for source in gave.get(value, ()):
                if source != node:
                    yield Edge(source, node, GAVE, name)
    if isinstance(parent, str):
        yield Edge(parent, node, CALLED)


def of_events(all_events: list[Event], cache: Cache | None, engine: str) -> Graph:
    """Return the calls of a run, and of other engines the nodes.

    Args:
        all_events: what happened in the run.
        cache: where the records of its calls are.
        engine: what ran it.
    """
    events = _ended(summed(all_events))
    known = records(cache, [event.key for event in events.values()])
    nodes: list[Node] = []
    gave: dict[str, list[str]] = {}
    arguments: dict[str, dict[str, str]] = {}
    for at, event in events.items():
        call = known.get(event.key or "")
        arguments[at] = dict(event.arguments)
        if call is not None and call.function == event.function and not event.arguments:
            arguments[at] = {name: str(item.digest) for name, item in call.arguments.items()}
        nodes.append(
            Node(
                at,
                event_label(event, call),
                event.function,
                event.outcome,
                event.seconds,
                event.result,
                event.at,
            )
        )
        if event.result is not None:
            gave.setdefault(event.result, []).append(at)
    edges: list[Edge] = []
    named = {} if engine == "kept" else _named_nodes(nodes)
    for at, event in events.items():
        flowed = {name: value for name, value in arguments[at].items() if name in named}
        edges += _flowed(at, flowed, named)
        rest = {name: value for name, value in arguments[at].items() if name not in named}
        edges += _edges(at, rest, gave, event.parent)
    return Graph(nodes, edges)


def _named_nodes(nodes: list[Node]) -> dict[str, list[Node]]:
    found: dict[str, list[Node]] = {}
    for node in nodes:
        found.setdefault(short(node.function), []).append(node)
    return found


def _flowed(at: str, arguments: dict[str, str], named: dict[str, list[Node]]) -> Iterator[Edge]:
    """Yield the edges of a dataflow's node, whose arguments have the names of the nodes that gave them."""
    # Parallel tasks are several nodes of one name: the one with that result gave it, or all of them if their
    # results were collected into one value.
    for name, value in arguments.items():
        same = [node for node in named[name] if node.result == value]
        for node in same or named[name]:
            if node.id != at:
                yield Edge(node.id, at, GAVE, name)


def _ended(events: list[Event]) -> dict[str, Event]:
    """Return the last event of each call, by key; those without a key by their position."""
    found: dict[str, Event] = {}
    for i, event in enumerate(events):
        at = event.key or f"#{i}"
        if at not in found or event.outcome != "hit":
            found[at] = event
    return found
