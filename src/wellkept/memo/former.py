"""Results that a function's former code gave: where they are kept, and how they are served (`code="warn"`)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from wellkept.caches import Cache
from wellkept.errors import KeptError
from wellkept.hashing.digests import call_key
from wellkept.memo.target import MISSING, Target
from wellkept.runs.explain import Cause, code_cause
from wellkept.runs.listeners import outdated
from wellkept.runs.nearest import Asked, codes_of, latest, layers

Former = tuple[str, bytes | None]
"""A code of a function, and the digest of what it asked of the class of a receiver."""

_CLASS = "@class"
# Calls by which it is found out what a method asked of the classes of its receivers.
_LOOKED_AT = 200
# What identifies code. A version, or none, is what somebody said: another one is not served.
_CODES = ("deep", "deep2", "code")

_KNOWN: WeakKeyDictionary[Cache, dict[tuple[Any, ...], list[Former]]] = WeakKeyDictionary()


def is_code(tag: str) -> bool:
    """Return whether a `code` of a record identifies code."""
    return tag.partition(":")[0] in _CODES


def formers(cache: Cache, name: str, code: str, receiver: bytes | None = None) -> list[Former]:
    """Return what calls of a function were kept under, other than its code of now; the latest first. It is
    looked up once.

    Args:
        receiver: the digest of what it asks now of the class of a receiver.

    Raises:
        StoreError: the cache can't be read.
    """
    known = _KNOWN.setdefault(cache, {})
    at = name, code, receiver
    found = known.get(at)
    if found is None:
        seen: dict[Former, None] = {}
        for place in layers(cache):
            seen |= dict.fromkeys((tag, None) for tag in codes_of(place, name))
            for call in latest(place, name, _LOOKED_AT):
                if (asked := call.arguments.get(_CLASS)) is not None:
                    seen[call.code, asked.digest.raw] = None
        # What is kept under this code from now on is former for the others of this process.
        for other in [one for one in known if one[0] == name]:
            known.pop(other, None)
        # A method's own code may be what it was, and that of its class not.
        methods = any(asked is not None for _, asked in seen)
        found = known[at] = [one for one in seen if methods or one[0] != code]
    return found


def formers_of(target: Target) -> list[Former]:
    """Return the same of a call."""
    receiver = next((raw for name, _, raw in target.all_items() if name == _CLASS), None)
    return formers(target.cache, target.name, target.code, receiver)


def keys(target: Target, known: list[Former]) -> dict[bytes, str]:
    """Return the keys that a call had under other code, with the same arguments and dependencies; and that
    code.
    """
    pairs = [(name, raw) for name, _, raw in target.all_items() if name != _CLASS]
    found = {}
    for code, receiver in known:
        had = () if receiver is None else ((_CLASS, receiver),)
        found[call_key(target.name, code, (*pairs, *had))] = code
    found.pop(target.key, None)
    return found


def served(target: Target) -> dict[bytes, str]:
    """Return the keys, and the code, of what may be served in place of a call.

    Raises:
        StoreError: the cache can't be read.
    """
    return keys(target, [former for former in formers_of(target) if is_code(former[0])])


def serve(target: Target, look: Callable[[Target], Any]) -> Any:
    """Return what the former code of a function gave, and tell so; `MISSING` if nothing is kept of it.

    Args:
        look: gives the kept result of a call, or `MISSING`.

    Raises:
        StoreError: the cache can't be read.
    """
    cache = target.cache
    there = [(cache.find(key), key, code) for key, code in served(target).items()]
    found = [(entry.body.created, key, code) for entry, key, code in there if entry is not None]
    # The one that was computed last is nearest to what would be computed now.
    for _, key, code in sorted(found, reverse=True):
        other = copy.copy(target)
        other.key, other.code, other.same = key, code, None
        result = look(other)
        if result is not MISSING:
            target.counts.outdated += 1
            _tell(target, key, code)
            return result
    return MISSING


def _tell(target: Target, key: bytes, code: str) -> None:
    """Warn once a function and code, and log each."""
    kind = f"former {code} {target.code}"
    if not target.told(kind):
        cause = changed(target, key)
        text = "its code changed" if cause is None else cause.text
        target.warn(
            kind,
            f"{text}; what it gave before is served, as code='warn' says. `wellkept review` shows "
            "what changed, and accepts, compares or forgets what is kept",
        )
        outdated(target.name, key.hex(), text, first=True)
    else:
        outdated(target.name, key.hex(), "its code changed", first=False)


def changed(target: Target, key: bytes) -> Cause | None:
    """Return how the code of a call differs from that of a kept one; None if that is not known."""
    with suppress(KeptError):
        for place in layers(target.cache):
            call = place.backend.calls.get(key.hex())
            if call is not None:
                asked = Asked.of(*target.identity(), target.arguments())
                return code_cause(place, call, asked, target.parts)
    return None
