"""The source of kept functions as it was when their results were computed, as notes beside them.

`code/<identity>` says of which function it is and what was reached: `{"function": …, "parts": {name:
digest}}`, by `module:qualname`, the function itself first. `code/<digest of a part>` is its text:
Python without comments and docstrings. An identity is the part behind the colon of a call's `code`
(`deep:…`, `code:…`), or the argument `@class` of a call of a method. They are written with the first
result that is kept under an identity, so that years later it can be told what changed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from wellkept.caches import Cache
from wellkept.errors import ConfigError, KeptError
from wellkept.stores.base import Store, get_many, put_many

CODE = "code/"


class _Shown(Protocol):
    @property
    def digest(self) -> str: ...
    @property
    def text(self) -> str | None: ...


class Source(NamedTuple):
    """What is recorded of one code identity."""

    function: str
    """The name under which calls are kept."""
    parts: dict[str, str]
    """Digest of each function, class and constant that was reached, by `module:qualname`."""


class _Place(Protocol):
    @property
    def notes(self) -> Any: ...


def _key(identity: str) -> str:
    return CODE + identity.rpartition(":")[2]


def recorded(backend: _Place, identity: str) -> Source | None:
    """What an identity was made from.

    Args:
        place: a place, as `cache.backend`.
        identity: the `code` of a call, with what stands before the colon or without.

    Returns:
        None where nothing is recorded of it: it is a version, or older than this record.

    Raises:
        StoreError: the place can't be read.
    """
    try:
        note = backend.notes.get(_key(identity))
        said = json.loads(note) if note is not None else None
        return None if said is None else Source(str(said["function"]), dict(said["parts"]))
    # A version may be no key; damaged.
    except (ConfigError, ValueError, KeyError, TypeError):
        return None


def sources(backend: _Place, identity: str) -> Mapping[str, str | None]:
    """The source of each part of an identity, by `module:qualname`; None where it had none.

    Args:
        place: a place, as `cache.backend`.
        identity: the `code` of a call, with what stands before the colon or without.

    Returns:
        Nothing where nothing is recorded of it: it is a version, or older than this record.

    Raises:
        StoreError: the place can't be read.
    """
    found = recorded(backend, identity)
    if found is None:
        return {}
    texts = get_many(backend.notes, [CODE + digest for digest in found.parts.values()])
    return {
        name: texts[CODE + digest].decode() if CODE + digest in texts else None
        for name, digest in found.parts.items()
    }


def note_sources(
    cache: Cache, identity: str, function: str, shown: Callable[[], Mapping[str, _Shown]]
) -> None:
    """Write down the source of an identity, unless this process did already or it is there. A cache
    that does not take it goes without.

    Args:
        identity: in hex.
        function: the name under which calls are kept.
        shown: gives the parts; it takes time.
    """
    key = CODE + identity
    if key in cache.noted:
        return
    cache.noted.add(key)
    with contextlib.suppress(KeptError):
        notes: Store[bytes] = cache.backend.notes
        if notes.get(key) is not None:
            return
        parts = shown()
        items = {
            CODE + part.digest: part.text.encode()
            for part in parts.values()
            if part.text is not None
        }
        there = get_many(notes, items)
        said = {"function": function, "parts": {name: p.digest for name, p in parts.items()}}
        put_many(notes, {name: item for name, item in items.items() if name not in there})
        # Last: who sees it finds the texts.
        notes.put(key, json.dumps(said).encode())


# Of a diff.
_LINES = 200

Parts = Mapping[str, tuple[str, str | None]]
"""Digest and text of each function, class and constant that an identity was made from, by name."""


class PartChange(NamedTuple):
    """A function, class or constant that is not what it was."""

    name: str
    """`module:qualname`."""
    kind: str
    """`changed`, `new` or `gone`."""
    diff: str = ""
    """Of the source without comments and docstrings, as `diff -u` writes it."""

    def __str__(self) -> str:
        module, _, name = self.name.rpartition(":")
        shown = f"{module}.{name}" if module and "/" not in module else name
        return shown if self.kind == "changed" else f"{shown} ({self.kind})"


def parts_of(backend: Any, identity: str) -> Parts:
    """What was recorded of an identity; nothing of a version, or of one that is older than such records.

    Raises:
        StoreError: the place can't be read.
    """
    found = recorded(backend, identity)
    if found is None:
        return {}
    texts = sources(backend, identity)
    return {name: (digest, texts.get(name)) for name, digest in found.parts.items()}


def widened(parts: Parts) -> dict[str, list[str]]:
    """Which modules count as a whole, and why."""
    # Which imports what parses code.
    from wellkept.hashing.code.identity import WIDENED

    found = {}
    for name, (_, text) in parts.items():
        reasons = []
        for line in (text or "").split("\n"):
            if not line.startswith(WIDENED):
                break
            reasons.append(line.removeprefix(WIDENED))
        if reasons:
            found[name] = reasons
    return found


def part_changes(before: Parts, after: Parts) -> list[PartChange]:
    """The parts that differ: those that changed, then the new ones and those that are gone."""
    found = [
        PartChange(name, "changed", _diff(before[name][1], text))
        for name, (digest, text) in after.items()
        if name in before and before[name][0] != digest
    ]
    found += [
        PartChange(name, "new", _diff("", text))
        for name, (_, text) in after.items()
        if name not in before
    ]
    return found + [
        PartChange(name, "gone", _diff(text, ""))
        for name, (_, text) in before.items()
        if name not in after
    ]


def _diff(before: str | None, after: str | None) -> str:
    if before is None or after is None:
        return ""
    # With the first explanation that shows code.
    import difflib

    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[
        2:
    ]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"({len(lines) - _LINES} more lines)"]
    return "\n".join(lines)
