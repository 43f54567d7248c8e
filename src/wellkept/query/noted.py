"""Metadata that many records share, and name by a note: conditions on it, and what a record says by it."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

from wellkept.conditions import Choice, Condition, Equal, Query
from wellkept.errors import ConfigError, KeptError
from wellkept.hashing.leaves import Leaf, looked, unpacked
from wellkept.records import Call
from wellkept.stores.base import Store, get_many

_NOTES = "env/"
_INNER = "runs/inner/"


def resolved(notes: Store[bytes], query: Query) -> list[Query]:
    """Return the queries of which a call has to match one, to match this one.

    Raises:
        StoreError: the notes can't be read.
    """
    query = query._replace(conditions=tuple(_with_inner(notes, one) for one in query.conditions))
    deep = [one for one in query.conditions if one.field == "metadata" and len(one.path) > 1]
    deep = [one for one in deep if one.path[0] not in ("tags", "run")]
    if not deep:
        return [query]
    said = dict(_said(notes))
    ways = [
        _ways(one, said) if any(one is other for other in deep) else [one]
        for one in query.conditions
    ]
    return [query._replace(conditions=chosen) for chosen in itertools.product(*ways)]


def _with_inner(notes: Store[bytes], condition: Condition) -> Condition:
    """A condition that a run computed a call, for the runs inside it too."""
    field, path, test = condition
    tests = test.tests if isinstance(test, Choice) else (test,)
    if (field, path) != ("metadata", ("run",)) or not all(type(one) is Equal for one in tests):
        return condition
    found = list(dict.fromkeys(one.value for one in tests))
    for run in found:
        if isinstance(run, str) and run.isascii() and run.replace("-", "").isalnum():
            at = f"{_INNER}{run}/"
            found += [name for key in notes.keys(at) if (name := key[len(at) :]) not in found]
    if len(found) <= len(tests):
        return condition
    return Condition(field, path, Choice(tuple(map(Equal, found))))


def _ways(condition: Condition, said: Mapping[str, Any]) -> list[Condition]:
    """Return a condition as it is, and the one on the notes that fulfil it."""
    first, *rest = condition.path
    below = Condition("metadata", tuple(rest), condition.test)
    names = tuple(Equal(name) for name, found in said.items() if _fits(below, found))
    if first == "env":
        return [Condition("metadata", ("env",), Choice(names))]
    return (
        [condition, Condition("metadata", (first, "note"), Choice(names))] if names else [condition]
    )


def _fits(condition: Condition, found: Any) -> bool:
    for key in condition.path:
        if not isinstance(found, Mapping) or key not in found:
            return False
        found = found[key]
    return bool(condition.test.holds(found))


def _said(notes: Store[bytes]) -> Iterator[tuple[str, Any]]:
    for key, item in get_many(notes, list(notes.keys(_NOTES))).items():
        try:
            yield key.removeprefix(_NOTES), json.loads(item)
        except ValueError:
            continue


class Either(NamedTuple):
    """Matches calls that match one of several queries."""

    queries: tuple[Query, ...]

    def __call__(self, call: Call) -> bool:
        return any(query(call) for query in self.queries)


def predicate(notes: Store[bytes], query: Query) -> Query | Either:
    """Return the test of a record, by the notes that exist now. Raises as `resolved`."""
    found = resolved(notes, query)
    return found[0] if len(found) == 1 else Either(tuple(found))


class Reads(Protocol):
    """Reads notes one by one."""

    @property
    def get(self) -> Callable[[str], bytes | None]: ...


def part(notes: Reads, metadata: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Return a member of a record's metadata, in the record or in its note; None if there is none."""
    found: Any = metadata
    for i, key in enumerate(path):
        if i == 1:
            found = _noted(notes, path[0], found)
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _noted(notes: Reads, first: str, found: Any) -> Any:
    name = found if first == "env" else found.get("note") if isinstance(found, Mapping) else None
    if not isinstance(name, str) or (first != "env" and len(found) > 1):
        return found
    try:
        item = notes.get(_NOTES + name)
        return found if item is None else json.loads(item)
    # The name may not be a valid key, and the note may be damaged.
    except (ConfigError, ValueError):
        return found


def described(notes: Reads, call: Call) -> str:
    """The arguments of a call as people read them: an array by its shape and type, not its digest alone."""
    leaves: dict[str, list[Leaf]] = {}
    if not all(one.shown for one in call.arguments.values()):
        # How it looks is not worth an error.
        with contextlib.suppress(KeptError):
            leaves = unpacked(notes.get(f"leaves/{call.key}"))
    return ", ".join(
        f"{name}={one.value!r}"
        if one.shown
        else f"{name}={looked(leaves.get(name, []), one.digest)}"
        for name, one in call.arguments.items()
    )
