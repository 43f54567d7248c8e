"""The notes that belong to calls, and go where these go: what arguments were made of, the source of the
code, what processes and collectors had in common.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from wellkept.errors import KeptError
from wellkept.records import Call
from wellkept.stores.base import get_many, put_many

__all__ = ["Belongings"]

_SOME = 200  # calls whose notes are copied at once


class Belongings:
    """Copies the notes of calls from one place to another, many at once. A place that does not take them
    goes without.
    """

    def __init__(self, source: Any, target: Any) -> None:
        self._source, self._target = source.notes, target.notes
        self._wanted: dict[str, None] = {}
        self._brought: set[str] = set()  # what many calls share
        self._calls = 0

    def add(self, call: Call) -> None:
        """The notes of this call, too."""
        self._wanted[f"leaves/{call.key}"] = None
        for name in _shared(call):
            if name not in self._brought:
                self._brought.add(name)
                self._wanted[name] = None
        self._calls += 1
        if self._calls >= _SOME:
            self.bring()

    def bring(self) -> None:
        """Copy what was not copied yet."""
        names, self._wanted, self._calls = list(self._wanted), {}, 0
        with contextlib.suppress(KeptError):
            found: dict[str, bytes] = get_many(self._source, names)
            texts = [name for key, item in found.items() for name in _parts(key, item)]
            if texts:
                found |= get_many(self._source, texts)
            if found:
                put_many(self._target, found)


def _shared(call: Call) -> Iterator[str]:
    kind, _, identity = call.code.partition(":")
    if kind in ("deep", "deep2", "code"):
        yield f"code/{identity}"
    receiver = call.arguments.get("@class")
    if receiver is not None and receiver.shown:
        yield f"code/{receiver.value}"
    for name, said in call.metadata.items():
        note = said if name == "env" else said.get("note") if isinstance(said, Mapping) else None
        if isinstance(note, str) and note.isalnum():
            yield f"env/{note}"


def _parts(key: str, item: bytes) -> list[str]:
    """The texts that a note of code names."""
    if not key.startswith("code/"):
        return []
    try:
        return [f"code/{digest}" for digest in json.loads(item)["parts"].values()]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
