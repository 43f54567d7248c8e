"""Notes of what the arguments of a call were made of, so that two calls can be told apart later.

A note `leaves/<key>` is JSON, `{argument: [[path, text], …]}`, behind one byte that says whether it is
compressed. Arguments that are scalars have none: their record tells them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wellkept.hashing import SCALARS
from wellkept.hashing.leaves import Leaf, leaves_of
from wellkept.records import Digest

__all__ = ["Change", "changes", "packed", "same", "unpacked"]

_LARGE = 1024  # bytes from which a note is compressed


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


def unpacked(note: bytes | None) -> dict[str, list[Leaf]]:
    """What `packed` made; of nothing, or of what is damaged, nothing."""
    try:
        text = zlib.decompress(note[1:]) if note and note[0] else (note or b"")[1:]
        found = {
            str(name): [(str(path), str(leaf)) for path, leaf in leaves]
            for name, leaves in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError, zlib.error, RecursionError):
        return {}
    return found


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
            told.append(path)  # what it holds differs with it
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
