"""A place on another machine: what a cache needs of one, in as few round trips as can be.

A hit is one, with the blobs of a result that is not large. A miss is one to ask, which takes the
lease too, and one to commit, which lets go of it.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from kept.codecs import LARGE, Blob, Frame
from kept.errors import DamagedValue, DecodeError, KeptError
from kept.hashing import buffer_digest
from kept.records import Buffer, Call, Value
from kept.remote.locks import RemoteLocks
from kept.remote.queries import write_query
from kept.remote.shelves import RemoteCalls, RemoteNotes, RemoteValues, records
from kept.remote.spool import Download
from kept.remote.wire import WireError, pack
from kept.stores.body import Body
from kept.stores.check import Problem
from kept.stores.coder import pack_call
from kept.stores.itemlocks import WaitItems
from kept.stores.near import Near

if TYPE_CHECKING:
    from kept.conditions import Query

__all__ = ["Found", "RemotePlace", "Sent"]

ROOM = 1024 * 1024
"""Bytes of blobs that travel with a row or a commit; larger ones go on their own, in parts."""
_MANY = 500  # keys in a request
_UNREADABLE = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, struct.error)
T = TypeVar("T")


class Sent(NamedTuple):
    """A frame, with its blobs where they came with it."""

    codec: str
    payload: bytes | memoryview | None
    blobs: tuple[Blob, ...]
    signature: bytes
    contents: Sequence[bytes] | None = None


class Found(NamedTuple):
    """What a fetch finds."""

    body: Body
    frame: Sent | None
    exact: bool = False
    """No memory tier stands before it: a server can't tell that something has changed."""


class RemotePlace:
    """What a server keeps.

    Args:
        line: what reaches it.
    """

    words = None

    def __init__(self, line: Any, trusts: Any) -> None:
        self.line = line
        self._trusts = trusts
        self.calls = RemoteCalls(self)
        self.values = RemoteValues(self)
        self.notes = RemoteNotes(self)
        self.locks = RemoteLocks(line)
        self.locks.waits = WaitItems(self.notes)
        self._near: Near | None = None

    def asked(self, verb: str, fields: Any, read: Callable[[Any], T]) -> T:
        """What `read` makes of the answer to a request.

        Raises:
            WireError: it can make nothing of it.
            StoreError: the server can't be reached, or refuses.
        """
        answer = self.line.ask(verb, fields)
        try:
            return read(answer)
        except _UNREADABLE as error:
            raise WireError(f"{self.line.where}: an answer to {verb} that can't be read") from error

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Found | None:
        """The call under a key and its result's frame, verified.

        Raises:
            DamagedValue: an item is damaged there.
            StoreError: the server can't be reached, or refuses.
        """
        return self.asked("fetch", {"key": key, "room": ROOM}, self._row)

    def claim(self, key: bytes) -> Found | None:
        """`fetch`, for a caller who computes what is not there: the lease comes with the answer."""
        self.locks.unclaimed()

        def read(row: Any) -> Found | None:
            if isinstance(row, dict) and row.get("leased") is True:
                self.locks.granted(key)
            return self._row(row)

        return self.asked("fetch", {"key": key, "room": ROOM, "lease": True}, read)

    def glance(self, key: bytes) -> Found | None:
        """What is near: nothing."""

    def fetch_many(self, keys: Iterable[bytes]) -> dict[bytes, Found]:
        """What `fetch` gives, of those that are there, in a trip for each few hundred."""
        wanted = list(dict.fromkeys(keys))
        found: dict[bytes, Found] = {}
        for at in range(0, len(wanted), _MANY):
            some = wanted[at : at + _MANY]
            fields = {"keys": some, "room": 4 * ROOM}

            def read(rows: Any, some: Sequence[bytes] = some) -> list[tuple[bytes, Any]]:
                return list(zip(some, rows, strict=True))

            for key, row in self.asked("fetch_many", fields, read):
                with contextlib.suppress(DecodeError):  # told when it is looked for by itself
                    late = isinstance(row, dict) and "later" in row  # too much for one answer
                    made = self.fetch(key) if late else self._read(row)
                    if made is not None:
                        found[key] = made
        return found

    def _read(self, row: Any) -> Found | None:
        try:
            return self._row(row)
        except _UNREADABLE as error:
            raise WireError(f"{self.line.where}: a row that can't be read") from error

    def _row(self, row: Any) -> Found | None:
        if not isinstance(row, dict):
            raise TypeError("a row is a mapping")
        if "damaged" in row:
            raise DamagedValue(str(row["damaged"]))
        if "body" not in row:
            return None
        body = Body.unpack(_bytes(row["body"]))
        if "frame" not in row:
            return Found(body, None)
        frame, sent = Frame.unpack(_bytes(row["frame"])), row.get("blobs")
        if sent is not None and len(sent) != len(frame.blobs):
            raise WireError(f"{self.line.where}: blobs that do not fit their frame")
        contents = None if sent is None else [_bytes(item) for item in sent]
        return Found(body, self.trusted(body.result, frame)._replace(contents=contents))

    def trusted(self, digest: bytes, frame: Frame) -> Sent:
        """A frame, with the codec by which it may be decoded here."""
        codec = self._trusts.codec(digest, frame)
        return Sent(codec, frame.payload, frame.blobs, frame.signature)

    def load(self, frame: Any) -> tuple[Buffer, Sequence[Buffer]]:
        """Payload and buffers of a frame, verified and free to be changed.

        Raises:
            DamagedValue: a blob is missing or damaged.
            StoreError: it can't be got.
        """
        if not frame.blobs:
            return frame.payload or b"", ()
        if self._near is None:
            return self._load(frame)
        return self._near.load(frame, self._load)

    def _load(self, frame: Any) -> tuple[Buffer, list[Buffer]]:
        sent = frame.contents if isinstance(frame, Sent) else None
        buffers: list[Any] = []
        for i, blob in enumerate(frame.blobs):
            try:
                buffers.append(self._blob(blob) if sent is None else _verified(blob, sent[i]))
            except DamagedValue:
                with contextlib.suppress(KeptError):  # who may only read leaves it
                    self.line.ask("mend", {"name": blob.name, "size": blob.size})
                raise
        if frame.payload is None:
            return buffers.pop(), buffers
        return frame.payload, buffers

    def _blob(self, blob: Blob) -> Buffer:
        with Download(blob) as content:
            fields = {"name": blob.name, "size": blob.size}
            self.line.ask("blob", fields, content.write)
            return content.buffer()

    # -- keeping ----------------------------------------------------------------------------------

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> None:
        """Keep a call and its result; large blobs go first.

        Raises:
            StoreError: the server can't be reached, or does not take it.
        """
        key = call.key.raw
        frame, sent = self.send_blobs(call.result.raw, value)
        release = self.locks.holds(key)
        fields = {
            "key": key,
            "record": pack_call(call, frame.pack()),
            "blobs": sent,
            "release": release,
        }
        if uses:
            fields["uses"] = _counts(uses)
        self.line.ask("commit", fields)
        if release:
            self.locks.released(key)

    def send_blobs(self, digest: bytes, value: Value) -> tuple[Frame, list[bytes | None]]:
        """The signed frame of a value, and those of its blobs that go with it; the others are there
        then.
        """
        names = list(value.names) or [buffer_digest(buffer) for buffer in value.buffers]
        content: list[Any] = list(value.buffers)
        if len(value.head) > LARGE:
            content.append(value.head)
            names.append(buffer_digest(value.head))
        views = [memoryview(item).cast("B") for item in content]
        blobs = tuple(Blob(len(view), name) for view, name in zip(views, names, strict=True))
        payload = None if len(content) > len(value.buffers) else value.head
        frame = Frame(value.codec, payload, blobs, value.signature)
        frame = self._trusts.signed(digest, frame)
        room = ROOM
        sent: list[bytes | None] = []
        for view in views:
            fits = len(view) <= room
            room -= len(view) if fits else 0
            sent.append(bytes(view) if fits else None)
        left = [i for i, item in enumerate(sent) if item is None]
        if left:
            wanted = {"names": [names[i] for i in left]}
            there = self.asked("have", wanted, lambda sizes: list(zip(left, sizes, strict=True)))
            for i, size in there:
                if size != len(views[i]):
                    self.line.send({"name": names[i], "size": len(views[i])}, views[i])
        return frame, sent

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses."""
        self.line.ask("count", {"uses": _counts(uses)})

    # -- finding ----------------------------------------------------------------------------------

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit, found over there."""
        try:
            said = write_query(query)
            pack(said)
        except WireError:  # a value that the wire does not carry
            from kept.stores.scanning import scan  # few have need of it

            return scan(self.calls, query)
        parts: list[bytes] = []
        self.line.ask("find", {"query": said}, lambda part: parts.append(bytes(part)))
        return (call for _, call in records(parts) if isinstance(call, Call))

    def found(self, query: Query) -> int | None:
        """How many calls fit; None where records must be read to tell."""
        try:
            said = write_query(query)
            pack(said)
        except WireError:
            return None
        return self.asked("found", {"query": said}, lambda n: None if n is None else int(n))

    # -- what else a cache asks of a place --------------------------------------------------------

    def hold(self, limit: int) -> None:
        """Hold large blobs in memory, up to `limit` bytes."""
        self._near = Near(limit) if limit else None

    def token(self) -> None:
        """A server can't tell that something has changed."""

    def listen(self, told: Callable[[], None]) -> None:
        """`words` never change."""

    def stale(self) -> bool:
        return False

    def collect(self, grace: float, dry_run: bool) -> tuple[int, int]:
        """See `Cache.gc`: items and bytes. Takes the right to administer."""
        items, size = self.asked("gc", {"grace": grace, "dry_run": dry_run}, _numbers(2))
        return items, size

    def free(self, digests: Sequence[str]) -> tuple[int, int]:
        """Throw results away, and what only they needed: items and bytes."""
        fields = {"keys": [bytes.fromhex(digest) for digest in digests]}
        items, size = self.asked("free", fields, _numbers(2))
        return items, size

    def evict(
        self, function: str | None, before: float | None, keys: Iterable[str] | None, dry_run: bool
    ) -> list[int]:
        """See `Cache.evict`: calls, values, blobs and bytes. Takes the right to administer."""
        fields: dict[str, Any] = {"function": function, "before": before, "dry_run": dry_run}
        if keys is not None:
            fields["keys"] = [bytes.fromhex(key) for key in keys]
        return self.asked("evict", fields, _numbers(4))

    def verify(self, repair: bool, discard: bool) -> dict[str, Any]:
        """See `Cache.verify`: what a report says. A repair takes the right to administer."""
        fields = {"repair": repair, "discard": discard}

        def read(said: Any) -> dict[str, Any]:
            return {**said, "problems": tuple(Problem(*one) for one in said["problems"])}

        return self.asked("repair" if repair else "verify", fields, read)

    def totals(self) -> dict[str, Any]:
        """See `Cache.size`."""
        return self.asked("totals", {}, dict)

    def close(self) -> None:
        """End the connection; the next use makes a new one."""
        self.locks.close()
        self.line.close()


def _bytes(found: Any) -> bytes:
    if type(found) is not bytes:
        raise TypeError("not bytes")
    return found


def _numbers(count: int) -> Callable[[Any], list[int]]:
    def read(found: Any) -> list[int]:
        numbers = [int(n) for n in found]
        if len(numbers) != count:
            raise ValueError("another number of numbers")
        return numbers

    return read


def _counts(uses: Mapping[bytes, int]) -> dict[str, int]:
    return {key.hex(): n for key, n in uses.items()}


def _verified(blob: Blob, content: bytes) -> Buffer:
    if len(content) != blob.size or buffer_digest(content) != blob.name:
        raise DamagedValue(f"the blob {blob.name.hex()} is not what its name says")
    return bytearray(content)
