"""What a cache has of a call or near it: read without leaving a trace in any of its layers.

A note `leaves/<key>` says what the arguments of a call were made of, so that two calls can be told apart
later. It is JSON, `{argument: [[path, text], …]}`, behind one byte that says whether it is compressed.
Arguments that are scalars have none: their record tells them.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.conditions import Condition, Equal, Is, Order, Query, Span
from wellkept.errors import DecodeError, KeptError, StoreError
from wellkept.hashing import SCALARS
from wellkept.hashing.digests import call_key
from wellkept.hashing.leaves import Leaf, leaves_of, unpacked
from wellkept.records import Argument, Arguments, Call, Digest
from wellkept.runs.recorder import LEAVES
from wellkept.stores.backend import Backend
from wellkept.stores.base import get_many

_VERIFIED = 1 << 26
"""Bytes of a result's blobs up to which they are read; of larger ones it is only seen that they are
there."""


class Layer(NamedTuple):
    """One place that a cache reads."""

    name: str
    backend: Backend
    where: tuple[Callable[[Call], bool], ...] = ()
    """What a filtered cache shows of it."""
    owed: Mapping[str, bytes] = {}
    """Notes that this process is about to write."""

    def notes(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of these notes that there are; raises as `find`."""
        mine = {key: self.owed[key] for key in keys if key in self.owed}
        return {**get_many(self.backend.notes, keys), **mine}

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit; nothing is written, not even what queries go by.

        Raises:
            StoreError: the place can't be read.
        """
        return (call for call in self.backend.peek(query) if all(fits(call) for fits in self.where))


class Look(NamedTuple):
    """What a layer has under a key."""

    layer: Layer
    state: str
    """`kept`, `expired`, `evicted` (the record is there, the result is not), `damaged`, `hidden` (by a
    filter), `absent`, or `unreachable`."""
    call: Call | None = None
    codec: str = ""
    blobs: int = 0
    trouble: str = ""


def layers(cache: Cache) -> list[Layer]:
    """The places that a cache reads, in the order in which it does."""
    owed = dict(cache._notes)
    return [layer._replace(owed=owed) for layer in _layers(cache.backend, str(cache), ())]


def _layers(backend: Any, name: str, where: tuple[Any, ...]) -> Iterator[Layer]:
    while not backend.backends:
        beneath = backend.backend
        if beneath is None:
            yield Layer(name, backend, where)
            return
        if backend.where is not None:
            where = (*where, backend.where)
        backend = beneath
    for part in backend.backends:
        yield from _layers(part, backend._names.get(id(part), name), where)


def look(layer: Layer, key: bytes) -> Look:
    """What it has. Nothing is counted, healed, copied nearer or remembered."""
    backend = layer.backend
    try:
        row = backend.fetch(key)
        call = None if row is None else backend.calls.get(key.hex())
        if row is None or call is None:
            return Look(layer, "absent")
        if not all(fits(call) for fits in layer.where):
            return Look(layer, "hidden", call)
        if row.envelope is None:
            return Look(layer, "evicted", call)
        backend.probe(row.envelope, _VERIFIED)
    except DecodeError as error:
        return Look(layer, "damaged", _record(backend, key), trouble=str(error))
    except StoreError as error:
        return Look(layer, "unreachable", trouble=str(error))
    late = not math.isinf(row.body.expires) and row.body.expires <= time.time()
    codec, blobs = row.envelope.codec, len(row.envelope.blobs)
    return Look(layer, "expired" if late else "kept", call, codec, blobs)


def _record(backend: Any, key: bytes) -> Call | None:
    try:
        found: Call | None = backend.calls.get(key.hex())
    except KeptError:
        return None
    return found


# Bytes from which a note is compressed.
_LARGE = 1024


def packed(items: Sequence[tuple[str, Any, bytes]], shown: Callable[[Any], bool]) -> bytes | None:
    """The note of a call's arguments; None where their digests tell all.

    Args:
        items: name, value and digest of each.
        shown: which scalars a record shows; where it shows none, no leaf does.
    """
    try:
        hidden = [
            one for one in items if type(one[1]) not in SCALARS and type(one[1]) is not Digest
        ]
        if not hidden:
            return None
        show = shown(None)
        found = {
            name: leaves_of(value, raw, shown=show)
            for name, value, raw in hidden
            if not name.startswith("@")
        }
        text = json.dumps(found, separators=(",", ":")).encode()
    except Exception:  # noqa: BLE001  an argument may be any object, and an explanation is no reason to fail
        return None
    return b"\1" + zlib.compress(text, 1) if len(text) > _LARGE else b"\0" + text


class Change(NamedTuple):
    """One difference between the arguments of two calls."""

    path: str
    """As Python writes it: `arguments["config"].mesh["dtype"]`."""
    before: str | None
    """What was there; None: nothing."""
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path}: only now, {self.after}"
        if self.after is None:
            return f"{self.path}: no longer, was {self.before}"
        return f"{self.path}: {self.before} -> {self.after}"


def changes(label: str, before: Iterable[Leaf], after: Iterable[Leaf]) -> list[Change]:
    """What differs between the leaves of two values, the outermost of it.

    Args:
        label: what both are called.
    """
    old, new = dict(before), dict(after)
    found: list[Change] = []
    told: list[str] = []
    for path in [*new, *(path for path in old if path not in new)]:
        was, now = old.get(path), new.get(path)
        if was == now or any(_inside(path, above) for above in told):
            continue
        if was is None or now is None or was[:1] == "=" or now[:1] == "=":
            # What it holds differs with it.
            told.append(path)
        found.append(Change(f"{label}{path}", *_shown(was, now)))
    return found


def _inside(path: str, above: str) -> bool:
    return path.startswith(above) and path[len(above) : len(above) + 1] in (".", "[", "(", "{")


def _shown(was: str | None, now: str | None) -> tuple[str | None, str | None]:
    """Without digests where the rest tells them apart."""
    short = tuple(None if text is None else _short(text) for text in (was, now))
    if short[0] != short[1]:
        return short[0], short[1]
    return _cut(was), _cut(now)


def _short(text: str) -> str:
    if text.startswith("="):
        return f"a {text[1:].rpartition(':')[2]}"
    head, opening, _ = text.rpartition(" <")
    return head if opening and text.endswith(">") else text


def _cut(text: str | None) -> str | None:
    """With a digest of a length that one looks at."""
    if text is None:
        return None
    if text.startswith("="):
        return f"a {text[1:]}"
    head, opening, digest = text.rpartition("<")
    return f"{head}<{digest[:12].rstrip('>')}>" if opening and text.endswith(">") else text


def same(left: Mapping[str, list[Leaf]], right: Mapping[str, list[Leaf]]) -> int:
    """How many leaves two calls have in common."""
    return sum(len(set(left[name]) & set(right[name])) for name in left.keys() & right.keys())


_LATEST = 600
_SHARING = 100
# For which such calls are looked up.
_ARGUMENTS = 8
# Whose leaves are compared.
_TIES = 40
_LATELY = Order("created", (), True)


class Asked(NamedTuple):
    """A call that is asked about, kept or not."""

    function: str
    code: str
    arguments: Mapping[str, Argument]
    leaves: Mapping[str, list[Leaf]]
    """What the arguments that no record tells are made of."""
    before: float | None = None
    """Of a kept call: when it was computed; only earlier ones are looked at."""

    @classmethod
    def of(cls, function: str, code: str, given: Arguments) -> Asked:
        """From arguments that are at hand."""
        leaves = unpacked(packed(given.items_given, given.shown))
        return cls(function, code, given, leaves)

    def plain(self) -> dict[str, Argument]:
        """What the caller gave: not the class of a receiver, nor what `depends` names."""
        return {name: one for name, one in self.arguments.items() if not name.startswith("@")}


class Nearest(NamedTuple):
    """A kept call, where it is, and how it differs."""

    call: Call
    layer: Layer
    changes: list[Change]


def codes_of(layer: Layer, function: str) -> list[str]:
    """The code identities and versions under which a function has calls, as far as they are easily
    found.

    Raises:
        StoreError: the layer can't be read.
    """
    codes = layer.backend.codes(function)
    if codes is not None:
        return list(codes)
    return list(dict.fromkeys(call.code for call in _latest(layer, function, _LATEST)))


def same_arguments(layer: Layer, asked: Asked) -> Call | None:
    """The latest call with the same arguments under other code. Raises as `codes_of`."""
    pairs = [(name, one.digest.raw) for name, one in asked.arguments.items()]
    found: list[Call] = []
    for code in codes_of(layer, asked.function):
        if code != asked.code:
            call = layer.backend.calls.get(call_key(asked.function, code, pairs).hex())
            if call is None or not all(fits(call) for fits in layer.where):
                continue
            if asked.before is None or call.created < asked.before:
                found.append(call)
    return max(found, key=lambda call: call.created, default=None)


def nearest(layer: Layer, asked: Asked) -> Nearest | None:
    """The call that has most in common with the one that is asked about; None: it has no calls here.

    Raises:
        StoreError: the layer can't be read.
    """
    wanted = asked.plain()
    found: dict[str, tuple[tuple[float, ...], Call]] = {}
    for call in _candidates(layer, asked, wanted):
        if call.key not in found:
            found[call.key] = _likeness(asked, wanted, call), call
    if not found:
        return None
    ranked = sorted(found.values(), key=lambda one: one[0], reverse=True)
    alike = [call for rank, call in ranked if rank[:2] == ranked[0][0][:2]][:_TIES]
    notes = layer.notes([LEAVES + call.key for call in alike])
    leaves = {call.key: unpacked(notes.get(LEAVES + call.key)) for call in alike}
    # Of equals, the first.
    best = max(alike, key=lambda call: same(asked.leaves, leaves[call.key]))
    return Nearest(best, layer, differences(asked, best, leaves[best.key]))


def _candidates(layer: Layer, asked: Asked, wanted: Mapping[str, Argument]) -> Iterable[Call]:
    function = asked.function
    earlier: list[Condition] = []
    if asked.before is not None:
        earlier.append(Condition("created", (), Span(None, asked.before, below=True)))
    yield from _latest(layer, function, _LATEST, *earlier)
    if layer.backend.indexed:
        for name, one in list(wanted.items())[:_ARGUMENTS]:
            known = type(one.value) in SCALARS and one.shown
            test = Is(one.digest, one.value, True) if known else Is(one.digest, None, False)
            yield from _latest(
                layer, function, _SHARING, *earlier, Condition("argument", (name,), test)
            )


def _latest(layer: Layer, function: str, limit: int, *more: Condition) -> Iterable[Call]:
    of = Condition("function", (), Equal(function))
    return layer.find(Query((of, *more), _LATELY, limit))


def _likeness(asked: Asked, wanted: Mapping[str, Argument], call: Call) -> tuple[float, ...]:
    """Equal arguments, the same code, how close numbers are, how late it was: the more the nearer."""
    equal, apart = 0, 0.0
    there = call.arguments
    for name, one in wanted.items():
        other = there.get(name)
        if other is None:
            continue
        if other.digest == one.digest:
            equal += 1
        elif type(one.value) in (int, float) and type(other.value) in (int, float):
            apart += abs(one.value - other.value) / (abs(one.value) + abs(other.value) or 1)
        else:
            apart += 1
    missing = len([name for name in there if name not in wanted and not name.startswith("@")])
    beside = len(dependency_changes(asked, call))
    return equal - missing, call.code == asked.code, -beside, -apart, call.created


def differences(asked: Asked, call: Call, leaves: Mapping[str, list[Leaf]]) -> list[Change]:
    """What differs in the arguments, from those of the kept call to those that are asked about.

    Args:
        leaves: of the kept call.
    """
    found: list[Change] = []
    now, then = asked.plain(), call.arguments
    for name in [*now, *(name for name in then if name not in now and not name.startswith("@"))]:
        label = f'arguments["{name}"]'
        new, old = now.get(name), then.get(name)
        if new is not None and old is not None and new.digest == old.digest:
            continue
        before, after = _leaves(old, leaves.get(name)), _leaves(new, asked.leaves.get(name))
        told = [] if before is None or after is None else changes(label, before, after)
        if (
            not told
            # Nothing was noted; or the order of a mapping, or what is too large to look at.
        ):
            told = [Change(label, _named(old), _named(new))]
        found += told
    return found


def dependency_changes(asked: Asked, call: Call) -> list[Change]:
    """What differs in what a call depends on beside its arguments and code, as `differences` has it."""
    now, then = asked.arguments, call.arguments
    names = [name for name in dict.fromkeys((*then, *now)) if name.startswith("@")]
    found = []
    for name in names:
        new, old = now.get(name), then.get(name)
        if name == "@class" or (new is not None and old is not None and new.digest == old.digest):
            continue
        label = "the working directory" if name == "@directory" else name[1:]
        found.append(Change(label, _named(old), _named(new)))
    return found


def _leaves(argument: Argument | None, noted: list[Leaf] | None) -> list[Leaf] | None:
    if argument is None:
        return []
    return leaves_of(argument.value) if argument.shown else noted


def _named(argument: Argument | None) -> str | None:
    if argument is None:
        return None
    return repr(argument.value) if argument.shown else f"<{argument.digest[:12]}>"
