"""Checking every item of a medium, and taking away what is damaged."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from itertools import islice

from wellkept.codecs import Envelope
from wellkept.codecs.compression import decompress, is_plain
from wellkept.errors import DamagedValue, DecodeError
from wellkept.hashing import buffer_digest
from wellkept.records import Digest
from wellkept.stores.base import Store, get_many
from wellkept.stores.body import unseal
from wellkept.stores.check import Problem
from wellkept.stores.coder import unpack_body, unpack_call, value_key
from wellkept.stores.medium import Medium

__all__ = ["MediumCheck"]

_PAGE = 100
_NAME = re.compile(
    r"[0-9a-f]{64}(\.[0-9a-f]{32})?"
).fullmatch  # what else is there is not ours to judge


class MediumCheck:
    """One look at all items; `run` does it.

    Args:
        repair: remove what is damaged; what it belonged to is computed again.
        tell: called with what is checked, how far, and of how much.
    """

    def __init__(
        self, backend: Medium, repair: bool, tell: Callable[[str, int, int], None]
    ) -> None:
        self._calls, self._items = backend.calls.items, backend.values.items
        self._repair, self._tell = repair, tell
        self.problems: list[Problem] = []
        self.calls = self.values = self.blobs = self.bytes = 0

    def run(self) -> None:
        """Look, and repair if asked to: blobs first, then what names them."""
        sizes = self._blobs()
        values: set[str] = set()
        for name, item in self._each(self._items, "values"):
            try:
                envelope = Envelope.unpack(unseal(bytes.fromhex(name[:64]), item))
            except DecodeError as error:
                self._add("value", self._items, f"values/{name}", error)
            else:
                self.values += 1
                values.add(name)
                if lack := self._lack(envelope, sizes):
                    values.discard(name)
                    self._add("missing blob", self._items, f"values/{name}", lack)
        for name, item in self._each(self._calls, "calls"):
            self.calls += 1
            try:
                _, found, _ = unpack_body(Digest(name).raw, item)
                unpack_call(name, item)
            except DecodeError as error:
                self._add("call", self._calls, f"calls/{name}", error)
                continue
            if found is not None:
                self.values += 1
                if lack := self._lack(found, sizes):
                    self._add("missing blob", self._calls, f"calls/{name}", lack)
            elif (own := value_key(item)) and own[7:] not in values:
                detail = "its result is not kept"
                self._add("missing result", self._calls, f"calls/{name}", detail)

    def _blobs(self) -> dict[str, int]:
        sizes = {}
        for name, stored in self._each(self._items, "blobs", 1):
            item = stored
            if not is_plain(stored):  # see `unseal`
                with contextlib.suppress(DecodeError):
                    item = bytes(decompress(stored))
            if buffer_digest(item).hex() == name:
                self.blobs += 1
                self.bytes += len(item)
                sizes[name] = len(item)
            else:
                self._add("blob", self._items, f"blobs/{name}", "it is not what its name says")
        return sizes

    def _lack(self, envelope: Envelope, sizes: dict[str, int]) -> str:
        for size, name in envelope.blobs:
            if sizes.get(name.hex()) != size:
                return f"its blob {name.hex()} is not there"
        return ""

    def _each(
        self, items: Store[bytes], kind: str, page: int = _PAGE
    ) -> Iterator[tuple[str, bytes]]:
        start = len(kind) + 1
        keys = [key for key in items.keys(f"{kind}/") if _NAME(key[start:])]
        self._tell(kind, 0, len(keys))
        names, done = iter(keys), 0
        while some := list(islice(names, page)):
            for key, item in self._read(items, kind, some):
                yield key[start:], item
            done += len(some)
            self._tell(kind, done, len(keys))

    def _read(self, items: Store[bytes], kind: str, keys: list[str]) -> Iterator[tuple[str, bytes]]:
        try:
            found = get_many(items, keys)
        except DamagedValue:  # by the medium's own account: one of them
            for key in keys:
                try:
                    item = items.get(key)
                except DamagedValue as error:
                    self._add(kind[:-1], items, key, error)
                else:
                    if item is not None:
                        yield key, bytes(item)
            return
        for key, item in found.items():
            yield key, bytes(item)

    def _add(self, kind: str, items: Store[bytes], key: str, detail: object) -> None:
        if self._repair:
            items.delete(key)
        name = key.partition("/")[2]
        self.problems.append(Problem(kind, name, str(detail), self._repair))
