"""From what is found in the layers of a cache to the causes of a miss."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from wellkept.caches import Cache
from wellkept.caches.gone import evicted_at
from wellkept.errors import KeptError
from wellkept.records import Call
from wellkept.runs.codes import PartChange, Parts, part_changes, parts_of, widened
from wellkept.runs.explanation import Cause, Line, ago
from wellkept.runs.labels import called
from wellkept.runs.leaves import Change, unpacked
from wellkept.runs.looking import Layer, Look, layers
from wellkept.runs.nearest import Asked, Nearest, dependency_changes, nearest, same_arguments
from wellkept.runs.notes import LEAVES
from wellkept.stores.memory import Void

__all__ = [
    "among_the_kept",
    "code_cause",
    "kept_of",
    "of_looks",
    "of_the_cache",
    "of_the_gone",
    "states_of",
    "why_computed",
]

_SHOWN = 20  # differences, and parts of code, in a text


def of_looks(looks: Sequence[Look]) -> list[Cause]:
    """What stands in the way of what the layers have under the call's own key."""
    found = []
    for look in looks:
        name = look.layer.name
        if look.state == "expired" and look.call is not None and look.call.expires is not None:
            text = f"what is kept in {name} expired {ago(look.call.expires)}"
            found.append(Cause("expired", text, data={"expired": look.call.expires}))
        elif look.state == "evicted" and look.call is not None:
            text = f"its result was evicted from {name} to make room; its record is still there"
            found.append(Cause("evicted", text, data={"result": str(look.call.result)}))
        elif look.state == "damaged":
            text = f"what is kept in {name} is damaged and will be computed again: {look.trouble}"
            found.append(Cause("damaged", text))
        elif look.state == "hidden":
            found.append(Cause("hidden", f"{name} has it, but this cache is filtered and hides it"))
        elif look.state == "unreachable":
            found.append(Cause("unreachable", f"{name} does not answer: {look.trouble}"))
    return found


def of_the_cache(cache: Cache) -> list[Cause]:
    """Whether it takes no results at all."""
    if not getattr(cache.backend, "writable", True):
        return [Cause("read-only", f"{cache} is read-only: what is computed is not kept in it")]
    if all(_is_void(layer.backend) for layer in layers(cache)):
        return [Cause("void", f"{cache} keeps nothing")]
    return []


def _is_void(backend: Any) -> bool:
    store = getattr(backend, "values", None)
    while (held := getattr(store, "items", None) or getattr(store, "store", None)) is not None:
        store = held
    return isinstance(store, Void)


def of_the_gone(backends: Iterable[Layer], key: bytes) -> list[Cause]:
    """Whether a call of which no record is left was evicted."""
    found = []
    for layer in backends:
        try:
            at = evicted_at(layer.backend, key)
        except KeptError:  # it is told already that the layer does not answer
            continue
        if at is not None:
            text = f"it was evicted from {layer.name} {ago(at)}, record and all"
            found.append(Cause("evicted", text, data={"evicted": at}))
    return found


def states_of(looks: Iterable[Look]) -> tuple[dict[str, Any], ...]:
    """What was found in each layer, as plain data."""
    return tuple({"name": look.layer.name, "state": look.state} for look in looks)


def kept_of(look: Look, cache: Cache, *, memory: bool = False) -> dict[str, Any] | None:
    """What is kept of a call, as plain data."""
    call = look.call
    if call is None:
        return None
    more = cache._uses.get(call.key.raw, 0)  # not written down yet
    return {
        "layer": look.layer.name,
        "memory": memory,
        "state": call.state,
        "created": call.created,
        "seconds": call.seconds,
        "size": call.size,
        "expires": call.expires,
        "uses": call.uses + more,
        "last_used": time.time() if more else call.used,
        "codec": look.codec,
        "blobs": look.blobs,
        "result": str(call.result),
        "metadata": dict(call.metadata),
    }


def why_computed(layer: Layer, call: Call) -> tuple[Cause, ...]:
    """Of a kept call: what told it from those that were kept before it.

    Raises:
        StoreError: the layer can't be read.
    """
    leaves = unpacked(layer.notes([LEAVES + call.key]).get(LEAVES + call.key))
    asked = Asked(call.function, call.code, call.arguments, leaves, call.created)
    return among_the_kept([layer], asked, lambda: _parts(layer, call))


def among_the_kept(
    backends: Sequence[Layer], asked: Asked, now: Callable[[], Parts]
) -> tuple[Cause, ...]:
    """Why nothing is kept under the key of a call: by what is kept of its function.

    Args:
        now: the parts of the code that it would be computed with.
    """
    best: Nearest | None = None
    for layer in backends:
        try:
            same = same_arguments(layer, asked)
            found = None if same is not None else nearest(layer, asked)
        except KeptError:  # it is told already that the layer does not answer
            continue
        if same is not None:
            return (code_cause(layer, same, asked, now),)
        if best is None or (found is not None and len(found.changes) < len(best.changes)):
            best = found
    if best is None:
        first = f"it was the first call of {asked.function} that is kept"
        never = (
            f"nothing is kept of {asked.function}: it was never called, or what was is forgotten"
        )
        return (Cause("never called", never if asked.before is None else first),)
    call = best.call
    causes = [arguments_cause(best, past=asked.before is not None)] if best.changes else []
    if beside := dependency_changes(asked, call):
        causes.append(dependency_cause(call, beside))
    if call.code != asked.code or not causes:  # or a method whose class changed
        causes.append(code_cause(best.layer, call, asked, now))
    return tuple(causes)


def dependency_cause(call: Call, changes: Sequence[Change]) -> Cause:
    """What `depends` names is not what it was."""
    names = ", ".join(f"`{change.path}`" for change in changes)
    text = f"what it depends on changed: {names} (last kept {ago(call.created)})"
    lines = tuple(Line("", f"{change}") for change in changes[:_SHOWN])
    data = {
        "differences": [change._asdict() for change in changes],
        "kept": {"key": str(call.key), "created": call.created},
    }
    return Cause("dependency", text, lines, data)


def arguments_cause(found: Nearest, *, past: bool = False) -> Cause:
    """No call with these arguments: what the nearest call had."""
    call, changes = found.call, found.changes
    many = len(changes)
    text = f"nothing is kept of these arguments; the nearest kept call differs in {_places(many)}"
    if past:
        text = f"the first call with these arguments; the nearest before differs in {_places(many)}"
    lines = [Line("", f"{change}") for change in changes[:_SHOWN]]
    if many > _SHOWN:
        lines.append(Line("", f"and {many - _SHOWN:,} more", "dim"))
    if all(_looks_alike(change) for change in changes):
        lines.append(Line("", _ALIKE, "dim"))
    label = called(call.function, call)
    lines.append(Line("nearest", f"{label}, key {call.key[:12]}, computed {ago(call.created)}"))
    data = {
        "differences": [change._asdict() for change in changes],
        "nearest": {
            "key": str(call.key),
            "call": label,
            "created": call.created,
            "code": call.code,
        },
    }
    return Cause("arguments", text, tuple(lines), data)


_DIGITS = re.compile(r"<[0-9a-f?]+>")
_ALIKE = (
    "they look alike: they differ in what is not shown, or the digest of their type takes in more than "
    "it did when the call was kept, so that it is computed again (`wellkept migrate` re-keys what it can)"
)


def _looks_alike(change: Change) -> bool:
    """Whether all that a change shows to be different is a digest."""
    before, after = change.before or "", change.after or ""
    return "<" in before and _DIGITS.sub("", before) == _DIGITS.sub("", after)


def _places(count: int) -> str:
    return f"{count:,} place{'' if count == 1 else 's'}"


def code_cause(layer: Layer, call: Call, asked: Asked, now: Callable[[], Parts]) -> Cause:
    """A call was kept with other code, or of another version."""
    then, mine = call.code, asked.code
    when = f"last kept {ago(call.created)}"
    data: dict[str, Any] = {
        "before": then,
        "now": mine,
        "kept": {"key": str(call.key), "created": call.created},
    }
    kinds = then.partition(":")[0], mine.partition(":")[0]
    if kinds == ("version", "version"):
        old, new = then.partition(":")[2], mine.partition(":")[2]
        text = f"the version changed: {old} -> {new} ({when})"
        return Cause("version", text, data=data | {"before": old, "now": new})
    if kinds[0] != kinds[1]:
        text = (
            f"the code is identified in another way: {_way(kinds[0])} -> {_way(kinds[1])} ({when})"
        )
        return Cause("code", text, data=data)
    before, after = _parts(layer, call), now()
    changed = part_changes(before, after) if before and after else []
    names = ", ".join(f"`{part}`" for part in changed[:_SHOWN])
    data["parts"] = [part._asdict() for part in changed]
    if changed:
        whole = {**widened(before), **widened(after)}
        lines = tuple(_diff_lines(changed, whole))
        return Cause("code", f"code changed: {names} ({when})", lines, data)
    if not before:
        why = "its source was not written down then, so it can't be shown what"
    else:
        why = "no source that is written down differs: what it holds does (a constant, a closure)"
    return Cause("code", f"code changed ({when}); {why}", data=data)


def _parts(layer: Layer, call: Call) -> dict[str, tuple[str, str | None]]:
    """What a call's code was made from; of a method also the class of its receiver."""
    found = dict(parts_of(layer.backend, call.code))
    receiver = call.arguments.get("@class")
    if receiver is not None and receiver.shown:
        found |= parts_of(layer.backend, str(receiver.value))
    return found


def _way(kind: str) -> str:
    return {
        "deep": "what it reaches, as far as was followed before",
        "deep2": "all that it reaches",
        "code": "its own source",
        "version": "a version",
        "none": "nothing",
    }.get(kind, kind)


def _diff_lines(changed: Sequence[PartChange], whole: dict[str, list[str]]) -> Iterable[Line]:
    for part in changed[:_SHOWN]:
        yield Line("", str(part), "dim")
        for why in whole.get(part.name, ()):
            yield Line("", f"all of it counts: {why}", "dim")
        for line in part.diff.splitlines():
            style = {"+": "added", "-": "removed"}.get(line[:1], "dim")
            yield Line("", line, style)
