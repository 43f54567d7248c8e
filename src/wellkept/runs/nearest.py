"""The state of a call in each layer of a cache, and the kept call most like it; read without changing anything.

A note `leaves/<key>` has the parts of a call's arguments, so that `explain` can later tell how two calls
differ. It is JSON, `{argument: [[path, text], …]}`, behind one byte that says whether it is compressed. Scalars
are not in it, as the call's record shows them.
"""

from __future__ import annotations

import json
import math
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wellkept.caches import Cache
from wellkept.conditions import Condition, Equal, Is, Order, Query, Span
from wellkept.errors import DecodeError, KeptError, StoreError, Undigestible
from wellkept.hashing import SCALARS
from wellkept.hashing.digests import call_key, digest_bytes
from wellkept.hashing.leaves import Leaf, leaves_of, unpacked
from wellkept.records import Argument, Arguments, Call, Digest
from wellkept.runs.recorder import LEAVES
from wellkept.stores.backend import Backend
from wellkept.stores.base import get_many

_VERIFIED = 1 << 26
"""Bytes of a result's blobs up to which their content is verified; of larger ones only the existence."""


class Layer(NamedTuple):
    """A backend that a cache reads."""

    name: str
    backend: Backend
    where: tuple[Callable[[Call], bool], ...] = ()
    """The filters of the views above it."""
    owed: Mapping[str, bytes] = {}
    """Notes that this process is about to write."""

    def notes(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return those of these notes that exist; raises as `find`."""
        mine = {key: self.owed[key] for key in keys if key in self.owed}
        return {**get_many(self.backend.notes, keys), **mine}

    def find(self, query: Query) -> Iterator[Call]:
        """Return the calls that match; nothing is written, not even to bring an index up to date.

        Raises:
            StoreError: the backend can't be read.
        """
        return (call for call in self.backend.peek(query) if all(fits(call) for fits in self.where))


class Look(NamedTuple):
    """The state of a call in a layer."""

    layer: Layer
    state: str
    """`kept`, `expired`, `evicted` (the record is there, the result is not), `damaged`, `hidden` (by a
    filter), `absent`, or `unreachable`."""
    call: Call | None = None
    codec: str = ""
    blobs: int = 0
    trouble: str = ""


def layers(cache: Cache) -> list[Layer]:
    """Return the layers that a cache reads, in that order."""
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
    """Return the state of a call in a layer. Nothing is counted, repaired, copied nearer or remembered."""
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


# Bytes from which a note is compressed; shorter ones would gain little.
_LARGE = 1024


def packed(items: Sequence[tuple[str, Any, bytes]], shown: Callable[[Any], bool]) -> bytes | None:
    """Return the note of a call's arguments; None if the record shows them all.

    Args:
        items: name, value and digest of each.
        shown: says which scalars a record shows; if it shows none, the note shows none either.
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
    """A difference between the arguments of two calls."""

    path: str
    """As Python writes it: `arguments["config"].mesh["dtype"]`."""
    before: str | None
    """The earlier value; None if there was none."""
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path}: only now, {self.after}"
        if self.after is None:
            return f"{self.path}: no longer, was {self.before}"
        return f"{self.path}: {self.before} -> {self.after}"


def changes(label: str, before: Iterable[Leaf], after: Iterable[Leaf]) -> list[Change]:
    """Return the differences between the leaves of two values, the outermost ones.

    Args:
        label: the beginning of each path.
        before, after: the leaves.
    """
    old, new = dict(before), dict(after)
    found: list[Change] = []
    told: list[str] = []
    for path in [*new, *(path for path in old if path not in new)]:
        was, now = old.get(path), new.get(path)
        if was == now or any(_inside(path, above) for above in told):
            continue
        if was is None or now is None or was[:1] == "=" or now[:1] == "=":
            # A container of another type, or one that only one of them has: its parts are not listed too.
            told.append(path)
        found.append(Change(f"{label}{path}", *_shown(was, now)))
    return found


# Parts of a container that are compared by themselves, and containers in each other.
_PARTS, _DEPTH = 1_000, 20


def result_changes(before: Any, after: Any, label: str = "result", depth: int = 0) -> list[Change]:
    """Return the differences between two values: of lists and dicts by their parts, of arrays and columns how
    many elements differ, and by how much.

    Args:
        before, after: the values.
        label: the beginning of each path.
        depth: in how many containers they are. A value may contain itself.
    """
    old_digest, new_digest = _digest(before), _digest(after)
    if old_digest is not None and old_digest == new_digest:
        return []
    if type(before) is type(after):
        old, new = _named_parts(before), _named_parts(after)
        if depth < _DEPTH and old is not None and new is not None and old.keys() == new.keys():
            parts = [
                one
                for step, part in old.items()
                for one in result_changes(part, new[step], f"{label}{step}", depth + 1)
            ]
            # Of names that read alike one is compared.
            if parts:
                return parts
        if (said := _apart(before, after)) is not None:
            return [Change(label, *said)]
    if old_digest is None or new_digest is None:
        was, now = (f"a {type(one).__qualname__}" for one in (before, after))
        return [Change(label, was, f"{now}, which can't be compared")]
    found = changes(label, leaves_of(before), leaves_of(after))
    return found or [Change(label, f"<{old_digest[:12]}>", f"<{new_digest[:12]}>")]


def _digest(value: Any) -> str | None:
    try:
        return digest_bytes(value).hex()
    except Undigestible:
        return None


def _named_parts(value: Any) -> dict[str, Any] | None:
    if type(value) in (list, tuple) and len(value) <= _PARTS:
        return {f"[{at}]": part for at, part in enumerate(value)}
    if type(value) is dict and len(value) <= _PARTS:
        return {f"[{name!r}]": part for name, part in value.items()}
    # The columns of a data frame.
    if type(value).__name__ == "DataFrame" and value.shape[1] == len(set(value.columns)):
        return {f"[{name!r}]": value[name] for name in value.columns}
    return None


def _apart(before: Any, after: Any) -> tuple[str, str] | None:
    """Return what two arrays or columns are, and how the second differs; None for other values."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not all(hasattr(one, "__array__") for one in (before, after)):
        return None
    old, new = numpy.asarray(before), numpy.asarray(after)
    was = f"{old.dtype} {old.shape}"
    if was != f"{new.dtype} {new.shape}" or old.dtype.hasobject:
        return (was, f"{new.dtype} {new.shape}") if was != f"{new.dtype} {new.shape}" else None
    numbers = old.dtype.kind in "biufc"
    differ = old != new
    if numbers:
        # What is no number on both sides is the same.
        differ &= ~((old != old) & (new != new))
    if not differ.any():
        # Signs of zeros, an index, or the like.
        return None
    said = f"{int(differ.sum()):,} of {old.size:,} elements differ"
    if numbers:
        with numpy.errstate(all="ignore"):
            most = numpy.abs(
                numpy.subtract(new[differ], old[differ], dtype=numpy.result_type(old.dtype, float))
            ).max()
        said += f", by {most:.4g} at most"
    return was, said


def _inside(path: str, above: str) -> bool:
    return path.startswith(above) and path[len(above) : len(above) + 1] in (".", "[", "(", "{")


def _shown(was: str | None, now: str | None) -> tuple[str | None, str | None]:
    """Return both texts, without digests if the rest differs."""
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
    """Return the text with its digest cut to 12 digits."""
    if text is None:
        return None
    if text.startswith("="):
        return f"a {text[1:]}"
    head, opening, digest = text.rpartition("<")
    return f"{head}<{digest[:12].rstrip('>')}>" if opening and text.endswith(">") else text


def same(left: Mapping[str, list[Leaf]], right: Mapping[str, list[Leaf]]) -> int:
    """Return how many leaves two calls have in common."""
    return sum(len(set(left[name]) & set(right[name])) for name in left.keys() & right.keys())


# How many of the latest calls are compared, and of those that share an argument. Without limits, an explanation
# would read every call of a function with a million of them.
_LATEST = 600
_SHARING = 100
# Arguments for which calls that share them are looked up.
_ARGUMENTS = 8
# Equally near calls whose leaves are compared.
_TIES = 40
_LATELY = Order("created", (), True)


class Asked(NamedTuple):
    """A call that is to be explained, kept or not."""

    function: str
    code: str
    arguments: Mapping[str, Argument]
    leaves: Mapping[str, list[Leaf]]
    """The parts of the arguments that a record does not show."""
    before: float | None = None
    """When a kept call was computed; only earlier ones are compared with it."""

    @classmethod
    def of(cls, function: str, code: str, given: Arguments) -> Asked:
        """Return the call with these arguments."""
        leaves = unpacked(packed(given.items_given, given.shown))
        return cls(function, code, given, leaves)

    def plain(self) -> dict[str, Argument]:
        """Return the caller's arguments, without the class of a receiver and what `depends` names."""
        return {name: one for name, one in self.arguments.items() if not name.startswith("@")}


class Nearest(NamedTuple):
    """A kept call, its layer, and how it differs."""

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
    return list(dict.fromkeys(call.code for call in latest(layer, function, _LATEST)))


def same_arguments(layer: Layer, asked: Asked) -> Call | None:
    """Return the latest call with the same arguments and other code. Raises as `codes_of`."""
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
    """Return the kept call that has most in common with this one; None if the function has no calls.

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
    # `max` returns the first of several equal ones, which is the nearest by `_likeness`.
    best = max(alike, key=lambda call: same(asked.leaves, leaves[call.key]))
    return Nearest(best, layer, differences(asked, best, leaves[best.key]))


def _candidates(layer: Layer, asked: Asked, wanted: Mapping[str, Argument]) -> Iterable[Call]:
    function = asked.function
    earlier: list[Condition] = []
    if asked.before is not None:
        earlier.append(Condition("created", (), Span(None, asked.before, below=True)))
    yield from latest(layer, function, _LATEST, *earlier)
    if layer.backend.indexed:
        for name, one in list(wanted.items())[:_ARGUMENTS]:
            known = type(one.value) in SCALARS and one.shown
            test = Is(one.digest, one.value, True) if known else Is(one.digest, None, False)
            yield from latest(
                layer, function, _SHARING, *earlier, Condition("argument", (name,), test)
            )


def latest(layer: Layer, function: str, limit: int, *more: Condition) -> Iterable[Call]:
    """Return the latest calls of a function that fit; raises as `Layer.find`."""
    of = Condition("function", (), Equal(function))
    return layer.find(Query((of, *more), _LATELY, limit))


def _likeness(asked: Asked, wanted: Mapping[str, Argument], call: Call) -> tuple[float, ...]:
    """Return how near a call is: equal arguments, same code, distance of numbers, and time, in that order."""
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
    """Return the differences in the arguments, from those of a kept call to those of this one.

    Args:
        asked: the call that is to be explained.
        call: the kept call.
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
        # The digests differ and no leaf does: nothing was noted, the order of a mapping differs, or a part that
        # is too large to be listed.
        if not told:
            told = [Change(label, _named(old), _named(new))]
        found += told
    return found


def dependency_changes(asked: Asked, call: Call) -> list[Change]:
    """Return the differences in what a call depends on besides arguments and code, as `differences` does."""
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
