"""Why what is kept was computed, and what has become of it: of one call by its key, or of a function.

For who has the cache and not the code, such as the command line. Nothing is written.
"""

from __future__ import annotations

from typing import Any

from wellkept.caches import Cache
from wellkept.conditions import Condition, Equal, Like, Order, Query
from wellkept.errors import KeptError, NotKept
from wellkept.records import Call, Digest
from wellkept.runs.causes import kept_of, of_looks, of_the_gone, states_of, why_computed
from wellkept.runs.codes import parts_of, widened
from wellkept.runs.explanation import Cause, Explanation, ago
from wellkept.runs.labels import called, short
from wellkept.runs.looking import Layer, Look, layers, look
from wellkept.runs.table import Column, Table

__all__ = ["explain_function", "explain_key"]

_COMPARED = 20  # calls of a function that are each compared with those before them
_NARROW = 26  # characters of a call in a table


def explain_key(cache: Cache, key: Digest) -> Explanation:
    """What has become of a call, and what told it from those that were kept before it.

    Raises:
        NotKept: no record of it is there, and none is known to have been evicted.
        StoreError: the cache can't be read.
    """
    backends = layers(cache)
    looks = [look(layer, key.raw) for layer in backends]
    there = next((one for one in looks if one.call is not None and one.state != "hidden"), None)
    causes = of_looks(looks)
    about: dict[str, Any] = {"key": str(key), "layers": states_of(looks)}
    if there is None or there.call is None:
        causes += of_the_gone(backends, key.raw)
        if not causes:
            raise NotKept(
                f"no call {key} is kept in {cache}, nor known to have been evicted from it"
            )
        name = f"<{key[:12]}>"
        return Explanation(call=name, function="?", outcome="miss", causes=tuple(causes), **about)
    call = there.call
    outcome = "hit" if _outcome(looks) == "kept" else "miss"
    return Explanation(
        call=called(call.function, call),
        function=call.function,
        code=call.code,
        outcome=outcome,
        causes=tuple(causes),
        computed=_computed(there.layer, call),
        kept=kept_of(there, cache),
        widened=_widened(there.layer, call),
        **about,
    )


def _widened(layer: Layer, call: Call) -> dict[str, list[str]]:
    try:
        return widened(parts_of(layer.backend, call.code))
    except KeptError:
        return {}


def _outcome(looks: list[Look]) -> str:
    """The state of what a call would find: of the nearest that has something."""
    states = [one.state for one in looks]
    served = next((state for state in states if state in ("kept", "expired")), None)
    return served or next((state for state in states if state != "absent"), "absent")


def _computed(layer: Layer, call: Call) -> tuple[Cause, ...]:
    try:
        return why_computed(layer, call)
    except KeptError:
        return ()


def explain_function(cache: Cache, pattern: str, limit: int = _COMPARED) -> Table:
    """The latest calls of the functions that fit a pattern: what has become of each, and what told it
    from those that were kept before it.

    Raises:
        NotKept: there are none.
        StoreError: the cache can't be read.
    """
    special = any(sign in pattern for sign in "*?[") or ":" not in pattern
    test = Like(pattern) if special else Equal(pattern)
    query = Query((Condition("function", (), test),), Order("created", (), True), limit)
    found: dict[str, tuple[Layer, Call]] = {}
    backends = layers(cache)
    for layer in backends:
        for call in layer.find(query):
            found.setdefault(call.key, (layer, call))
    if not found:
        raise NotKept(f"no function {pattern} has calls in {cache}")
    latest = sorted(found.values(), key=lambda one: one[1].created, reverse=True)[:limit]
    rows = [_row(backends, layer, call) for layer, call in latest]
    one = len({row["function"] for row in rows}) == 1
    columns: list[Column] = [
        ("key", lambda row: row["key"][:12]),
        ("call", lambda row: _cut(row["call"], short(row["function"]) if one else "")),
        ("now", lambda row: row["outcome"]),
        ("age", lambda row: ago(row["created"])),
        ("computed because", lambda row: row["why"]),
    ]
    return Table(rows, columns, "computed because", "wellkept explain KEY tells all of one.")


def _row(backends: list[Layer], layer: Layer, call: Call) -> dict[str, Any]:
    causes = _computed(layer, call)
    return {
        "key": str(call.key),
        "function": call.function,
        "code": call.code,
        "call": called(call.function, call),
        "outcome": _outcome([look(one, call.key.raw) for one in backends]),
        "created": call.created,
        "seconds": call.seconds,
        "causes": [cause.to_dict() for cause in causes],
        "why": "; ".join(_said(cause) for cause in causes),
    }


def _said(cause: Cause) -> str:
    """A cause in a few words."""
    kind = cause.kind
    if kind == "never called":
        return "first call"
    if kind == "dependency":
        return ", ".join(change["path"] for change in cause.data["differences"])
    if kind == "arguments":
        changes = cause.data["differences"]
        one = changes[0]
        text = f"{_bare(one['path'])}: {one['before'] or 'nothing'} -> {one['after'] or 'nothing'}"
        return text if len(changes) == 1 else f"{text}, and {len(changes) - 1:,} more"
    if kind == "code" and cause.data.get("parts"):
        parts = cause.data["parts"]
        names = ", ".join(part["name"].rpartition(":")[2] for part in parts[:3])
        return f"code of {names}" + (f" and {len(parts) - 3:,} more" if len(parts) > 3 else "")
    if kind == "version":
        return f"version {cause.data['before']} -> {cause.data['now']}"
    return kind


def _cut(call: str, known: str) -> str:
    text = call.removeprefix(known)
    return text if len(text) <= _NARROW else f"{text[: _NARROW - 1]}…"


def _bare(path: str) -> str:
    """`arguments["config"].mesh` as `config.mesh`."""
    name, closing, rest = path.removeprefix('arguments["').partition('"]')
    return f"{name}{rest}" if closing else path
