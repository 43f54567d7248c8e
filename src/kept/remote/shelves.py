"""A server's calls, values and notes, each as the store that it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from kept.codecs import Frame
from kept.errors import DecodeError
from kept.records import Buffer, Call, Digest, Value
from kept.remote.wire import WireError
from kept.stores.base import check_key, check_prefix
from kept.stores.coder import pack_call, unpack_call

if TYPE_CHECKING:
    from kept.remote.place import RemotePlace

__all__ = ["RemoteCalls", "RemoteNotes", "RemoteValues", "records"]

_MANY = 1000  # keys in a request
_BYTES = 4 * 1024 * 1024  # bytes of notes in a request


def listed(place: RemotePlace, of: str, prefix: str) -> list[str]:
    """The keys of a store: they come in parts, and are listed when all are here."""
    parts: list[bytes] = []
    fields = {"of": of, "prefix": prefix}
    place.line.ask("keys", fields, lambda part: parts.append(bytes(part)))
    return b"".join(parts).decode("ascii", "replace").split()


def records(parts: Iterable[bytes]) -> Iterator[tuple[str, Call | DecodeError]]:
    """Key and record of each call in a stream of them.

    Raises:
        WireError: it is none.
    """
    content = memoryview(b"".join(parts))
    at = 0
    while at < len(content):
        head = bytes(content[at : at + 38])
        size, used = int.from_bytes(head[32:36], "little"), int.from_bytes(head[36:], "little")
        at += 38
        if at + size + used > len(content):
            raise WireError("records on the wire are cut short")
        item, uses = bytes(content[at : at + size]), bytes(content[at + size : at + size + used])
        at += size + used
        key = head[:32].hex()
        try:
            yield key, unpack_call(key, item, uses or None)
        except DecodeError as error:
            yield key, error


class RemoteCalls:
    """The call records, as a `Store[Call]`."""

    def __init__(self, place: RemotePlace) -> None:
        self._place = place

    def get(self, key: str) -> Call | None:
        def read(found: Any) -> Call | None:
            if found is None:
                return None
            _, item, uses = found
            return unpack_call(str(Digest(key)), bytes(item), bytes(uses) or None)

        return self._place.asked("call.get", {"key": str(Digest(key))}, read)

    def put(self, key: str, item: Call) -> None:
        """Change a record, whose result must be kept already."""
        fields = {"key": Digest(key).raw, "record": pack_call(item, b"")}
        self._place.line.ask("call.put", fields)

    def delete(self, key: str) -> None:
        self._place.line.ask("call.delete", {"key": str(Digest(key))})

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(listed(self._place, "calls", prefix))

    def pairs(self) -> Iterator[tuple[str, Call | DecodeError]]:
        """Every key and its record, in one trip."""
        parts: list[bytes] = []
        self._place.line.ask("find", {"query": None}, lambda part: parts.append(bytes(part)))
        return records(parts)


class RemoteValues:
    """The encoded values, as a `Store[Value]`."""

    def __init__(self, place: RemotePlace) -> None:
        self._place = place

    def get(self, key: str) -> Value | None:
        def read(packed: Any) -> Frame | None:
            return None if packed is None else Frame.unpack(bytes(packed))

        found = self._place.asked("value.get", {"key": str(Digest(key))}, read)
        if found is None:
            return None
        frame = self._place.trusted(Digest(key).raw, found)
        payload, buffers = self._place.load(frame)
        return Value(frame.codec, bytes(payload), buffers, (), frame.signature)

    def put(self, key: str, item: Value) -> None:
        digest = Digest(key)
        frame, sent = self._place.send_blobs(digest.raw, item)
        fields = {"key": str(digest), "frame": frame.pack(), "blobs": sent}
        self._place.line.ask("value.put", fields)

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget the values; the records of their calls stay."""
        raws = (Digest(key).raw for key in keys)
        while some := list(islice(raws, _MANY)):
            self._place.line.ask("value.delete", {"keys": some})

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(listed(self._place, "values", prefix))


def _notes(said: Any) -> dict[str, bytes]:
    if not all(type(item) is bytes for item in said.values()):
        raise TypeError("a note is bytes")
    return dict(said)


class RemoteNotes:
    """The notes; see `kept.stores.notes`."""

    def __init__(self, place: RemotePlace) -> None:
        self._place = place

    def get(self, key: str) -> bytes | None:
        return self.get_many((key,)).get(key)

    def put(self, key: str, item: Buffer) -> None:
        self.put_many({key: item})

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the note if there is none; whether there was none.

        Raises:
            StoreError: also if the connection broke before the server said whether there was.
        """
        fields = {"key": check_key(key), "item": bytes(item)}
        return bool(self._place.line.ask("notes.create", fields))

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(listed(self._place, "notes", check_prefix(prefix)))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = iter([check_key(key) for key in keys])
        found: dict[str, bytes] = {}
        while some := list(islice(wanted, _MANY)):
            found.update(self._place.asked("notes.get", {"keys": some}, _notes))
        return found

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note. Others may see some of them before the rest is there."""
        self._put(items, wait=True)

    def put_unheard(self, items: Mapping[str, Buffer]) -> None:
        """Keep each note, without waiting to hear of it: before anything that is asked later."""
        self._put(items, wait=False)

    def _put(self, items: Mapping[str, Buffer], *, wait: bool) -> None:
        some: dict[str, bytes] = {}
        size = 0
        for key, item in items.items():
            content = bytes(item)
            if some and (len(some) >= _MANY or size + len(content) > _BYTES):
                self._place.line.ask("notes.put", {"items": some}, wait=wait)
                some, size = {}, 0
            some[check_key(key)] = content
            size += len(content)
        if some:
            self._place.line.ask("notes.put", {"items": some}, wait=wait)

    def delete_many(self, keys: Iterable[str]) -> None:
        gone = iter([check_key(key) for key in keys])
        while some := list(islice(gone, _MANY)):
            self._place.line.ask("notes.delete", {"keys": some})
