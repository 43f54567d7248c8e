"""Why a call is a hit or a miss: as text, as data, as HTML."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.conditions import Condition, Equal, Like, Order, Query
from wellkept.errors import KeptError, NotKept
from wellkept.hashing.leaves import unpacked
from wellkept.readable import ago, counted, data_size, duration
from wellkept.records import Call, Digest
from wellkept.runs.nearest import (
    Asked,
    Change,
    Layer,
    Look,
    Nearest,
    dependency_changes,
    layers,
    look,
    nearest,
    same_arguments,
)
from wellkept.runs.recorder import LEAVES
from wellkept.runs.sources import PartChange, Parts, part_changes, parts_of, widened
from wellkept.runs.table import Column, Line, Lines, Table, called, short, shortened
from wellkept.stores.memory import Void
from wellkept.stores.notes import evicted_at
from wellkept.stores.wrappers import Wrapper

# Reasons why all of a module counts that a text shows.
_REASONS = 3


class Cause(NamedTuple):
    """A reason why a call is, or was, a miss."""

    kind: str
    """`never called`, `arguments`, `code`, `version`, `dependency`, `expired`, `evicted`, `damaged`,
    `hidden`, `unreachable`, `undigestible`, `required`, `unstorable`, `unavailable`, `declined`,
    `raised`, `read-only` or `void`."""
    text: str
    """A sentence."""
    lines: tuple[Line, ...] = ()
    """Details, line by line."""
    data: Mapping[str, Any] = {}
    """The same as plain data."""

    def to_dict(self) -> dict[str, Any]:
        """Return the cause as plain data."""
        return {"kind": self.kind, "text": self.text, **self.data}


class Explanation(Lines):
    """Whether a call would be a hit or a miss now, and why. Prints as text.

    Attributes:
        call: the call as one writes it.
        function, code, key: the identity of the function and of its code, and what names the call; None
            of a call that has none.
        outcome: `hit`, `stale` (served while it is computed again), `outdated` (served though its code changed:
            `code="warn"`), `miss`, or `unkept` (it is
            computed each time).
        causes: why it is a miss, the decisive one first.
        computed: why what is kept was once computed, where that was asked for: what told the call from
            those that were kept before it.
        kept: what is kept of it, where something is: `layer`, `created`, `seconds`, `size`, `expires`, …
        layers: each place that was looked at: its `name` and `state`.
        widened: modules of which all counts, as something in them is not understood, and why.
    """

    call: str
    function: str
    outcome: str
    code: str | None
    key: str | None
    causes: tuple[Cause, ...]
    computed: tuple[Cause, ...]

    def __init__(
        self,
        *,
        call: str,
        function: str,
        outcome: str,
        code: str | None = None,
        key: str | None = None,
        causes: tuple[Cause, ...] = (),
        computed: tuple[Cause, ...] = (),
        kept: Mapping[str, Any] | None = None,
        layers: tuple[Mapping[str, Any], ...] = (),
        widened: Mapping[str, Sequence[str]] = {},
    ) -> None:
        self.call, self.function, self.outcome = call, function, outcome
        self.code, self.key = code, key
        self.causes, self.computed = causes, computed
        self.kept: dict[str, Any] | None = None if kept is None else dict(kept)
        self.layers: list[dict[str, Any]] = [dict(layer) for layer in layers]
        self.widened: dict[str, list[str]] = {name: list(why) for name, why in widened.items()}

    @property
    def hit(self) -> bool:
        """Whether the call would be served from what is kept."""
        return self.outcome in ("hit", "stale", "outdated")

    @property
    def cause(self) -> str | None:
        """The kind of the decisive cause of a miss; None of a hit."""
        return None if self.hit or not self.causes else self.causes[0].kind

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON. Times are seconds since the epoch, durations seconds, sizes bytes."""
        return {
            "call": self.call,
            "function": self.function,
            "code": self.code,
            "key": self.key,
            "outcome": self.outcome,
            "kept": self.kept,
            "causes": [cause.to_dict() for cause in self.causes],
            "computed": [cause.to_dict() for cause in self.computed],
            "layers": self.layers,
            "widened": self.widened,
        }

    def lines(self) -> Iterator[Line]:
        """Yield the text, line by line."""
        said = {
            "unkept": "computed each time",
            "stale": "a hit, out of date",
            "outdated": "a hit of what its former code gave",
        }
        words = said.get(self.outcome, f"a {self.outcome}")
        yield Line("", f"{self.call}: {words}", "good" if self.hit else "bad")
        for cause in self.causes:
            yield Line("why", cause.text)
            yield from cause.lines
        if self.kept is not None:
            yield from _kept_lines(self.kept)
        for cause in self.computed:
            yield Line("computed as", cause.text)
            yield from cause.lines
        for name, reasons in self.widened.items():
            for why in reasons[:_REASONS]:
                yield Line("counts too", f"all of {name}: {why}", "dim")
        if self.key is not None:
            yield Line("key", self.key, "dim")
        if len(self.layers) > 1:
            for layer in self.layers:
                yield Line("layer", f"{layer['name']}: {layer['state']}")


def _kept_lines(kept: Mapping[str, Any]) -> Iterator[Line]:
    where = kept["layer"] + (", and in memory" if kept.get("memory") else "")
    yield Line("kept in", where)
    took = f", in {duration(kept['seconds'])}"
    yield Line("computed", f"{_moment(kept['created'])}, {ago(kept['created'])}{took}")
    what = {"failed": "an exception, ", "items": "the items of a generator, "}.get(
        kept["state"], ""
    )
    blobs = f", {kept['blobs']} blob{'s' if kept['blobs'] > 1 else ''}" if kept.get("blobs") else ""
    yield Line("result", f"{what}{data_size(kept['size'])} as {kept['codec'] or '?'}{blobs}")
    if kept["expires"] is None:
        yield Line("expires", "never")
    else:
        late = kept["expires"] <= time.time()
        word = "did, " if late else "in "
        far = ago(kept["expires"]) if late else duration(kept["expires"] - time.time())
        yield Line("expires", f"{word}{far} ({_moment(kept['expires'])})")
    if kept["uses"]:
        yield Line("used", f"{kept['uses']:,} x, last {ago(kept['last_used'])}")


def _moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


# Differences, or parts of code, that a text shows.
_SHOWN = 20


def of_looks(looks: Sequence[Look]) -> list[Cause]:
    """Return why what the layers have under the call's own key can't be served."""
    found = []
    for seen in looks:
        name = seen.layer.name
        if seen.state == "expired" and seen.call is not None and seen.call.expires is not None:
            text = f"what is kept in {name} expired {ago(seen.call.expires)}"
            found.append(Cause("expired", text, data={"expired": seen.call.expires}))
        elif seen.state == "evicted" and seen.call is not None:
            text = f"its result was evicted from {name} to make room; its record is still there"
            found.append(Cause("evicted", text, data={"result": str(seen.call.result)}))
        elif seen.state == "damaged":
            text = f"what is kept in {name} is damaged and will be computed again: {seen.trouble}"
            found.append(Cause("damaged", text))
        elif seen.state == "hidden":
            found.append(Cause("hidden", f"{name} has it, but this cache is filtered and hides it"))
        elif seen.state == "unreachable":
            found.append(Cause("unreachable", f"{name} does not answer: {seen.trouble}"))
    return found


def of_the_cache(cache: Cache) -> list[Cause]:
    """Return why the cache keeps no results at all, if it does not."""
    if not cache.backend.writable:
        return [Cause("read-only", f"{cache} is read-only: what is computed is not kept in it")]
    if all(_is_void(layer.backend) for layer in layers(cache)):
        return [Cause("void", f"{cache} keeps nothing")]
    return []


def _is_void(backend: Any) -> bool:
    store = backend.byte_stores[1] if backend.byte_stores else None
    while isinstance(store, Wrapper):
        store = store.store
    return isinstance(store, Void)


def of_the_gone(backends: Iterable[Layer], key: bytes) -> list[Cause]:
    """Return why a call without a record is gone, if the eviction log says so."""
    found = []
    for layer in backends:
        try:
            at = evicted_at(layer.backend.notes, key)
        # Another cause says already that this layer does not answer.
        except KeptError:
            continue
        if at is not None:
            text = f"it was evicted from {layer.name} {ago(at)}, record and all"
            found.append(Cause("evicted", text, data={"evicted": at}))
    return found


def states_of(looks: Iterable[Look]) -> tuple[dict[str, Any], ...]:
    """Return the state of the call in each layer, as plain data."""
    return tuple({"name": look.layer.name, "state": look.state} for look in looks)


def kept_of(look: Look, cache: Cache, *, memory: bool = False) -> dict[str, Any] | None:
    """Return what is kept of a call, as plain data."""
    call = look.call
    if call is None:
        return None
    # Uses that this process has counted and not written yet.
    more = cache._uses.get(call.key.raw, 0)
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
    """Return why a kept call was computed: how it differed from those that were kept before it.

    Raises:
        StoreError: the layer can't be read.
    """
    leaves = unpacked(layer.notes([LEAVES + call.key]).get(LEAVES + call.key))
    asked = Asked(call.function, call.code, call.arguments, leaves, call.created)
    return among_the_kept([layer], asked, lambda: _parts(layer, call))


def among_the_kept(
    backends: Sequence[Layer], asked: Asked, now: Callable[[], Parts]
) -> tuple[Cause, ...]:
    """Return why nothing is kept under the key of a call, by comparing it with kept calls of its function.

    Args:
        backends: the layers of the cache.
        asked: the call.
        now: returns the parts of the code with which it would be computed.
    """
    best: Nearest | None = None
    for layer in backends:
        try:
            same = same_arguments(layer, asked)
            found = None if same is not None else nearest(layer, asked)
        # Another cause says already that this layer does not answer.
        except KeptError:
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
    # With equal arguments and code, the class of a method's receiver has changed.
    if call.code != asked.code or not causes:
        causes.append(code_cause(best.layer, call, asked, now))
    return tuple(causes)


def dependency_cause(call: Call, changes: Sequence[Change]) -> Cause:
    """Return the cause that something named in `depends` has changed."""
    names = ", ".join(f"`{change.path}`" for change in changes)
    text = f"what it depends on changed: {names} (last kept {ago(call.created)})"
    lines = tuple(Line("", f"{change}") for change in changes[:_SHOWN])
    data = {
        "differences": [change._asdict() for change in changes],
        "kept": {"key": str(call.key), "created": call.created},
    }
    return Cause("dependency", text, lines, data)


def arguments_cause(found: Nearest, *, past: bool = False) -> Cause:
    """Return the cause that the arguments are new, with how those of the nearest call differ."""
    call, changes = found.call, found.changes
    many = len(changes)
    text = f"nothing is kept of these arguments; the nearest kept call differs in {counted(many, 'place')}"
    if past:
        text = f"the first call with these arguments; the nearest before differs in {counted(many, 'place')}"
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
    """Return whether a change shows no difference except in a digest."""
    before, after = change.before or "", change.after or ""
    return "<" in before and _DIGITS.sub("", before) == _DIGITS.sub("", after)


def code_cause(layer: Layer, call: Call, asked: Asked, now: Callable[[], Parts]) -> Cause:
    """Return the cause that a call was kept with other code, or another version."""
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
    then_made, now_made = _parts(layer, call), now()
    before, after = (_placed(parts, asked.function) for parts in (then_made, now_made))
    changed = part_changes(before, after) if before and after else []
    if then_made != before or now_made != after:
        # A part of a script and of its import are digested by other names, also where they are the same.
        changed = [part for part in changed if part.diff] or changed
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
    """Return the parts of a call's code; for a method, also those of its receiver's class."""
    found = dict(parts_of(layer.backend, call.code))
    receiver = call.arguments.get("@class")
    if receiver is not None and receiver.shown:
        found |= parts_of(layer.backend, str(receiver.value))
    return found


def _placed(parts: Parts, function: str) -> Parts:
    """Name what a script defines by the script's place, as it is named where the script is imported."""
    module = function.rpartition(":")[0]
    return {
        f"{module}:{name[9:]}" if module and name.startswith("__main__:") else name: part
        for name, part in parts.items()
    }


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


# The latest calls of a function that are compared, each with those before it.
_COMPARED = 20
# Characters of a call that a table shows.
_NARROW = 26


def explain_key(cache: Cache, key: Digest) -> Explanation:
    """Return the state of a call by its key, and how it differed from those that were kept before it.

    Raises:
        NotKept: it has no record, and the eviction log does not have it.
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
    """Return the state that a call would find: that of the nearest layer which has something."""
    states = [one.state for one in looks]
    served = next((state for state in states if state in ("kept", "expired")), None)
    return served or next((state for state in states if state != "absent"), "absent")


def _computed(layer: Layer, call: Call) -> tuple[Cause, ...]:
    try:
        return why_computed(layer, call)
    except KeptError:
        return ()


def explain_function(
    cache: Cache, pattern: str, limit: int = _COMPARED, more: Sequence[Condition] = ()
) -> Table:
    """The latest calls of the functions that fit a pattern: what has become of each, and what told it
    from those that were kept before it.

    Args:
        more: further conditions.

    Raises:
        NotKept: there are none.
        StoreError: the cache can't be read.
    """
    special = any(sign in pattern for sign in "*?[") or ":" not in pattern
    test = Like(pattern) if special else Equal(pattern)
    query = Query((Condition("function", (), test), *more), Order("created", (), True), limit)
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
    hint = "wellkept explain KEY tells all of one."
    return Table(rows, columns, "computed because", hint, drop=("age",))


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
        "why": "; ".join(in_short(cause) for cause in causes),
    }


def in_short(cause: Cause) -> str:
    """Return a cause in a few words."""
    kind = cause.kind
    if kind == "never called":
        return "first call"
    if kind == "dependency":
        return ", ".join(change["path"] for change in cause.data["differences"])
    if kind == "arguments":
        changes = cause.data["differences"]
        one = changes[0]
        text = (
            f"{bare_path(one['path'])}: {one['before'] or 'nothing'} -> {one['after'] or 'nothing'}"
        )
        return text if len(changes) == 1 else f"{text}, and {len(changes) - 1:,} more"
    if kind == "code" and cause.data.get("parts"):
        parts = cause.data["parts"]
        names = ", ".join(part["name"].rpartition(":")[2] for part in parts[:3])
        return f"code of {names}" + (f" and {len(parts) - 3:,} more" if len(parts) > 3 else "")
    if kind == "version":
        return f"version {cause.data['before']} -> {cause.data['now']}"
    return kind


def _cut(call: str, known: str) -> str:
    name, opening, given = call.removeprefix(known).partition("(")
    # What tells calls of one function apart is in the brackets.
    text = f"{shortened(name, max(14, _NARROW - len(given) - 1))}{opening}{given}"
    return text if len(text) <= _NARROW else f"{text[: _NARROW - 1]}…"


def bare_path(path: str) -> str:
    """Return `arguments["config"].mesh` as `config.mesh`."""
    name, closing, rest = path.removeprefix('arguments["').partition('"]')
    return f"{name}{rest}" if closing else path
