"""What changed between two identities of code: which part, and its source before and after."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

from wellkept.hashing.code.shown import WIDENED
from wellkept.runs.sources import recorded, sources

__all__ = ["PartChange", "Parts", "part_changes", "parts_of", "widened"]

_LINES = 200  # of a diff

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
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=2, lineterm=""))[
        2:
    ]
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"({len(lines) - _LINES} more lines)"]
    return "\n".join(lines)
