"""Where a result came from, and what became of it: found by digests, in what is kept."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from kept.caches import Cache, active, chosen
from kept.errors import AmbiguousDigest, ConfigError, NotKept
from kept.hashing import digest
from kept.query import Matches, named, one_of
from kept.records import Call, Digest, Event
from kept.runs.graph import Graph
from kept.runs.labels import called, event_label, records
from kept.runs.nodes import CALLED, GAVE, Edge, Node
from kept.runs.report import summed

if TYPE_CHECKING:
    from kept.runs.run import Run

__all__ = ["lineage", "of_run"]

_TOGETHER = 100  # digests in one question
_ANYBODYS = frozenset(digest(value) for value in (None, True, False))
"""Values that lead from everywhere to everywhere."""


def lineage(
    of: Any,
    *,
    up: int | None = None,
    down: int | None = None,
    limit: int = 500,
    cache: Cache | str | None = None,
) -> Graph:
    """Where a result came from, and what became of it, as far as calls are kept.

    Up go the calls whose results were its arguments, and the call that made it; down those that took
    its result, and those that it made. Calls are connected by the digests of values: two that gave
    the same value are both where it may have come from. None, True and False connect nothing.

    Args:
        of: a kept value; its digest, or a call's key, or 4 or more digits of either; or a `Call`.
        up: at the most so many steps; all by default.
        down: the same, the other way.
        limit: at the most so many calls.
        cache: where; the active one by default.

    Raises:
        NotKept: no kept call gave or took it.
        AmbiguousDigest: the digits fit several.
        Undigestible: the value has no identity.
        ConfigError: a step or limit that is no number from 0 up, or no such cache.
        StoreError: the store can't be read.
    """
    for name, steps in (("up", up), ("down", down), ("limit", limit)):
        if steps is not None and (type(steps) is not int or steps < 0):
            raise ConfigError(f"{name}= is a number from 0 up, not {steps!r:.80}")
    where = active() if cache is None else chosen(cache)
    walk = _Walk(where, limit)
    focus = walk.begin(of)
    walk.up(focus, up)
    walk.down(focus, down)
    return walk.graph(focus)


class _Walk:
    """Calls that were met, and the edges between them."""

    def __init__(self, cache: Cache, limit: int) -> None:
        self.cache, self.limit = cache, limit
        self.calls: dict[str, Call] = {}
        self.values: set[str] = set()
        self.edges: list[Edge] = []
        self.cut = False

    # -- where it begins --------------------------------------------------------------------------

    def begin(self, of: Any) -> list[str]:
        """The nodes that are asked about."""
        if isinstance(of, Call):
            self.calls[of.key] = of
            return [of.key]
        found = self._named(of) if isinstance(of, str) else None
        if found is None:
            found = self._valued(digest(of), repr(of))
        return found

    def _named(self, text: str) -> list[str] | None:
        """By a key or digest, or the beginning of one; None: it is none, and perhaps a value."""
        low = text.lower()
        if not 4 <= len(low) <= 64 or not set(low) <= set(string.hexdigits):
            return None
        calls = list(self.cache.query(key=named(low)).limit(2).calls())
        if len(calls) > 1:
            keys = ", ".join(call.key[:16] for call in calls)
            raise AmbiguousDigest(f"{text} fits several calls: {keys}; give more digits")
        if calls:
            self.calls[calls[0].key] = calls[0]
            return [calls[0].key]
        for field in ("result", "given"):
            call = self.cache.query(**{field: named(low)}).first()
            if call is not None:
                values = [call.digest, *(a.digest for a in call.call.arguments.values())]
                return self._valued(next(v for v in values if v.startswith(low)), text)
        if type(text) is Digest or len(low) == 64:
            raise NotKept(f"no call or value {text} is kept in {self.cache}")
        return None

    def _valued(self, value: Digest, shown: str) -> list[str]:
        """The calls that gave a value; the value itself, if it was only taken."""
        gave = list(self.cache.query(result=value).limit(self.limit).calls())
        if gave:
            self.calls |= {str(call.key): call for call in gave}
            return [str(call.key) for call in gave]
        if not self.cache.query(given=value).exists():
            raise NotKept(
                f"{shown:.80} has no lineage in {self.cache}: no kept call gave it, and none took it"
            )
        self.values.add(value)
        return [value]

    # -- going on ---------------------------------------------------------------------------------

    def up(self, nodes: Iterable[str], steps: int | None) -> None:
        """To what led to these."""
        front = [self.calls[node] for node in nodes if node in self.calls]
        while front and (steps is None or steps > 0):
            steps = None if steps is None else steps - 1
            wanted = {
                str(argument.digest): None
                for call in front
                for argument in call.arguments.values()
                if argument.digest not in _ANYBODYS
            }
            gave = self._ask("result", wanted)
            parents = {str(call.metadata["parent"]) for call in front if "parent" in call.metadata}
            new = self._met((*gave, *self._ask("key", dict.fromkeys(parents))))
            front = new

    def down(self, nodes: Iterable[str], steps: int | None) -> None:
        """To what came of these."""
        listed = list(nodes)
        front = [self.calls[node] for node in listed if node in self.calls]
        results = [value for value in listed if value in self.values]
        results += [str(call.result) for call in front]
        keys = [str(call.key) for call in front]
        while (results or keys) and (steps is None or steps > 0):
            steps = None if steps is None else steps - 1
            taken = [value for value in results if value not in _ANYBODYS]
            took = self._ask("given", dict.fromkeys(taken))
            made = self._made_by(keys)
            front = self._met((*took, *made))
            results = [str(call.result) for call in front]
            keys = [str(call.key) for call in front]

    def _ask(self, field: str, wanted: dict[str, None]) -> Iterator[Call]:
        """The calls whose field is one of these digests."""
        for some in _some(list(wanted)):
            digests = one_of(*(Digest(text) for text in some))
            yield from Matches(self.cache).where(**{field: digests}).calls()

    def _made_by(self, keys: list[str]) -> Iterator[Call]:
        for some in _some(keys):
            yield from self.cache.query(metadata={"parent": one_of(*some)}).calls()

    def _met(self, calls: Iterable[Call]) -> list[Call]:
        """Those that are new."""
        new = []
        for call in calls:
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
        """Nodes in the order in which they were met, with all edges between them."""
        nodes = [Node(value, f"<{value[:12]}>", result=value) for value in self.values]
        nodes += [
            Node(
                str(call.key),
                called(call.function, call),
                call.function,
                "failed" if call.state == "failed" else "",
                call.seconds,
                str(call.result),
                call.created,
            )
            for call in self.calls.values()
        ]
        given: dict[str, list[str]] = {value: [value] for value in self.values}
        for call in self.calls.values():
            given.setdefault(str(call.result), []).append(str(call.key))
        edges: list[Edge] = []
        for call in self.calls.values():
            arguments = {name: str(found.digest) for name, found in call.arguments.items()}
            edges += _edges(str(call.key), arguments, given, call.metadata.get("parent"))
        return Graph(nodes, edges, focus, self.cut)


def _edges(
    node: str, arguments: dict[str, str], given: dict[str, list[str]], parent: Any
) -> Iterator[Edge]:
    for name, value in arguments.items():
        if value not in _ANYBODYS:
            for source in given.get(value, ()):
                if source != node:
                    yield Edge(source, node, GAVE, name)
    if isinstance(parent, str):
        yield Edge(parent, node, CALLED)


def _some(items: list[str]) -> Iterator[list[str]]:
    return (items[i : i + _TOGETHER] for i in range(0, len(items), _TOGETHER))


def of_run(run: Run) -> Graph:
    """The calls of a run, and of other engines the nodes.

    Raises:
        StoreError: it can't be read.
    """
    events = _ended(summed(run.events()))
    known = records(run.cache, [event.key for event in events.values() if not event.arguments])
    nodes: list[Node] = []
    given: dict[str, list[str]] = {}
    arguments: dict[str, dict[str, str]] = {}
    for at, event in events.items():
        call = known.get(event.key or "")
        arguments[at] = dict(event.arguments)
        if call is not None and not event.arguments:
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
            given.setdefault(event.result, []).append(at)
    edges = [
        edge
        for at, event in events.items()
        for edge in _edges(at, arguments[at], given, event.parent)
    ]
    return Graph(nodes, edges)


def _ended(events: list[Event]) -> dict[str, Event]:
    """What became of each call in the end, by key; those without one by their place."""
    found: dict[str, Event] = {}
    for i, event in enumerate(events):
        at = event.key or f"#{i}"
        if at not in found or event.outcome != "hit":
            found[at] = event
    return found
