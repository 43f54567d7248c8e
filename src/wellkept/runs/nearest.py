"""The kept calls that are most like one that is not kept, and what tells them apart.

The work is bounded: the latest calls of the function are compared, and of each argument the latest calls
that share it, which the store finds by its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from wellkept.conditions import Condition, Equal, Is, Order, Query, Span
from wellkept.hashing import SCALARS
from wellkept.hashing.keys import call_key
from wellkept.hashing.leaves import Leaf, leaves_of
from wellkept.records import Argument, Arguments, Call
from wellkept.runs.leaves import Change, changes, packed, same, unpacked
from wellkept.runs.looking import Layer
from wellkept.runs.notes import LEAVES
from wellkept.stores.embedded import Embedded

__all__ = [
    "Asked",
    "Nearest",
    "codes_of",
    "dependency_changes",
    "differences",
    "nearest",
    "same_arguments",
]

_LATEST = 600
_SHARING = 100
_ARGUMENTS = 8  # for which such calls are looked up
_TIES = 40  # whose leaves are compared
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
    if isinstance(layer.backend, Embedded):
        query = "SELECT code FROM functions WHERE name = ? ORDER BY id DESC LIMIT 200"
        return [str(code) for (code,) in layer.backend.database.rows(query, function)]
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
    best = max(alike, key=lambda call: same(asked.leaves, leaves[call.key]))  # of equals, the first
    return Nearest(best, layer, differences(asked, best, leaves[best.key]))


def _candidates(layer: Layer, asked: Asked, wanted: Mapping[str, Argument]) -> Iterable[Call]:
    function = asked.function
    earlier: list[Condition] = []
    if asked.before is not None:
        earlier.append(Condition("created", (), Span(None, asked.before, below=True)))
    yield from _latest(layer, function, _LATEST, *earlier)
    if isinstance(layer.backend, Embedded):
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
        ):  # nothing was noted; or the order of a mapping, or what is too large to look at
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
