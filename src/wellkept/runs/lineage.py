"""Lineage: where a result came from and what became of it, found by the digests in kept calls."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from wellkept.caches import Cache, active, chosen
from wellkept.errors import AmbiguousDigest, ConfigError, NotKept
from wellkept.hashing import digest
from wellkept.query import Match, Matches, named
from wellkept.query.links import ANYBODYS, Walk, given, parent_of, stands
from wellkept.records import Call, Digest, Event
from wellkept.runs.graph import CALLED, GAVE, Edge, Graph, Node
from wellkept.runs.table import called, event_label, records, short, summed


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


class _Walk(Walk):
    """Calls that were met, and the edges between them."""

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
        if value not in ANYBODYS:
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
