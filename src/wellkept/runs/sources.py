"""The source of kept functions as it was when their results were computed, as notes.

The note `code/<identity>` has the function and the parts of its code: `{"function": …, "parts": {name:
digest}}`, by `module:qualname`, the function itself first. `code/<digest of a part>` is the text of a part:
Python without comments and docstrings. An identity is the part behind the colon of a call's `code` (`deep:…`,
`code:…`), or the argument `@class` of a method's call. The notes are written with the first result that is kept
under an identity, so that `explain` can show years later what changed.
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
    """The record of a code identity."""

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
    """Return the record of an identity; None for a version, or one that is older than such records.

    Args:
        backend: the cache's.
        identity: the `code` of a call, with or without the part before the colon.

    Raises:
        StoreError: the backend can't be read.
    """
    try:
        note = backend.notes.get(_key(identity))
        said = json.loads(note) if note is not None else None
        return None if said is None else Source(str(said["function"]), dict(said["parts"]))
    # A version may not be a valid key, and a note may be damaged.
    except (ConfigError, ValueError, KeyError, TypeError):
        return None


def sources(backend: _Place, identity: str) -> Mapping[str, str | None]:
    """Return the source of each part of an identity, by `module:qualname`; None for a part without source.

    Empty for a version, or an identity that is older than such records.

    Args:
        backend: the cache's.
        identity: the `code` of a call, with or without the part before the colon.

    Raises:
        StoreError: the backend can't be read.
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
    """Write the source of an identity, unless it is recorded already.

    Args:
        cache: the cache that keeps the call.
        identity: in hex.
        function: the name under which calls are kept.
        shown: returns the parts; it takes time.
    """
    # A source that can't be written is no reason for the call to fail.
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
        # Last, so that a reader who finds it finds the texts too.
        notes.put(key, json.dumps(said).encode())


# Lines of a diff that are shown.
_LINES = 200

Parts = Mapping[str, tuple[str, str | None]]
"""Digest and text of each function, class and constant that an identity was made from, by name."""


class PartChange(NamedTuple):
    """A function, class or constant that has changed."""

    name: str
    """`module:qualname`."""
    kind: str
    """`changed`, `new` or `gone`."""
    diff: str = ""
    """The difference of the sources without comments and docstrings, as `diff -u` writes it."""

    def __str__(self) -> str:
        module, _, name = self.name.rpartition(":")
        shown = f"{module}.{name}" if module and "/" not in module else name
        return shown if self.kind == "changed" else f"{shown} ({self.kind})"


def parts_of(backend: Any, identity: str) -> Parts:
    """Return the parts of an identity; none for a version, or one that is older than such records.

    Raises:
        StoreError: the backend can't be read.
    """
    found = recorded(backend, identity)
    if found is None:
        return {}
    texts = sources(backend, identity)
    return {name: (digest, texts.get(name)) for name, digest in found.parts.items()}


def widened(parts: Parts) -> dict[str, list[str]]:
    """Return the modules that count as a whole, and the reasons."""
    # Loaded on first use: it imports the parser of code.
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
    """Return the parts that differ: first those that changed, then the new ones, then those that are gone."""
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
    # Loaded on first use: keeps `import wellkept` small.
    import difflib

    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[
        2:
    ]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"({len(lines) - _LINES} more lines)"]
    return "\n".join(lines)
