"""Request handlers of the cache server, with access checks, and the leases that it holds for clients.

A lease lasts as long as its client's heartbeats come, by the server's own clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from wellkept.codecs import Blob, Envelope
from wellkept.errors import DamagedValue, DecodeError, KeptError
from wellkept.records import Call, Digest
from wellkept.remote.staging import Host, Staged
from wellkept.remote.wire import (
    CHUNK_SIZE,
    Refused,
    WireError,
    blobs_of,
    key_of,
    keys_of,
    read_query,
    text_of,
    uses_of,
)
from wellkept.stores.backend import each_call
from wellkept.stores.leases import DEAD
from wellkept.stores.record_format import pack_call, pack_uses, unpack_body, unpack_call


class Holding:
    """What clients hold of a place's own leases, so that they meet its local users too.

    Args:
        locks: the place's.
        patience: seconds without a heartbeat after which a client's leases are free.
    """

    def __init__(self, locks: Any, patience: float = DEAD) -> None:
        self._locks, self._patience = locks, patience
        self._held: dict[bytes, tuple[str, float]] = {}  # key: whose, and until when
        self._guard = threading.Lock()

    def acquire(self, owner: str, key: bytes, *, again: bool = False) -> bool:
        """Whether the lease is the owner's now.

        Args:
            again: the answer to this was lost, so that the owner may hold it already.
        """
        now = time.monotonic()
        with self._guard:
            self._expire(now)
            if again and self._held.get(key, ("", 0.0))[0] == owner:
                return True
            if key in self._held:
                return False
            if not self._locks.acquire(key):
                return False
            self._held[key] = owner, now + self._patience
            return True

    def release(self, owner: str, key: bytes) -> None:
        """Let go of what is the owner's."""
        with self._guard:
            if self._held.get(key, ("", 0.0))[0] == owner:
                del self._held[key]
                self._locks.release(key)

    def beat(self, owner: str, keys: Iterable[bytes]) -> list[bytes]:
        """The owner lives; which of these leases are its own still, or again."""
        now, own = time.monotonic(), []
        with self._guard:
            self._expire(now)
            for key in keys:
                holder = self._held.get(key)
                if holder is None and not self._locks.acquire(key):
                    continue
                if holder is None or holder[0] == owner:
                    self._held[key] = owner, now + self._patience
                    own.append(key)
        return own

    def tick(self) -> None:
        """Free what nobody's heart beats for; local users wait for it too."""
        with self._guard:
            self._expire(time.monotonic())

    def drop(self, owner: str | None = None) -> None:
        """Release all that an owner (or anybody) holds."""
        with self._guard:
            for key, (holder, _) in list(self._held.items()):
                if owner is None or holder == owner:
                    del self._held[key]
                    with contextlib.suppress(KeptError):
                        self._locks.release(key)

    def _expire(self, now: float) -> None:
        for key, (_, until) in list(self._held.items()):
            if until < now:
                del self._held[key]
                with contextlib.suppress(KeptError):
                    self._locks.release(key)


READ, WRITE, ADMIN = "read", "write", "admin"
RIGHTS = {READ: 0, WRITE: 1, ADMIN: 2}
_ROOM = 4 * 1024 * 1024  # bytes of blobs that travel with rows, at the most

Fields = dict[str, Any]


class Desk:
    """Answers for one place.

    Args:
        cache: what is served.
        patience: seconds without a heartbeat after which a client's leases are free.

    Raises:
        ConfigError: it can't be served.
    """

    def __init__(self, cache: Any, patience: float | None = None) -> None:
        self.cache = cache
        self.backend = cache.backend
        self.host = Host(self.backend)
        locks = self.backend.locks
        self.holding = Holding(locks) if patience is None else Holding(locks, patience)
        self._stop = threading.Event()
        threading.Thread(target=self._tick, name="wellkept-desk", daemon=True).start()

    def _tick(self) -> None:
        while not self._stop.wait(1.0):
            self.holding.tick()
            self.host.tidy()

    # -- one at a time ----------------------------------------------------------------------------

    def answer(self, verb: str, fields: Any, owner: str, right: str) -> Any:
        """The answer to a request.

        Args:
            owner: which client it is, for leases and what it staged.
            right: what it may: `"read"`, `"write"` or `"admin"`.

        Raises:
            Refused: it may not.
            KeptError: what the place raises.
        """
        needed, do = _VERBS.get(verb) or (ADMIN, None)
        if do is None or not isinstance(fields, dict):
            raise WireError(f"no such request as {str(verb)[:40]!r}")
        if right == READ:
            if verb == "count":  # who only reads leaves no trace of that
                return {}
            fields = {**fields, "lease": False}
        check(right, needed, verb)
        return do(self, fields, owner)

    def _hello(self, fields: Fields, owner: str) -> Any:
        return {}

    def _fetch(self, fields: Fields, owner: str) -> Any:
        key, lease = key_of(fields, "key"), bool(fields.get("lease"))
        room = [min(int(fields.get("room", 0)), _ROOM)]
        row = self._row(key, room)
        if "frame" in row or not lease:
            return row
        if not self.holding.acquire(owner, key, again=bool(fields.get("again"))):
            return row
        again = self._row(key, room)  # kept between the look and the lease
        if "frame" in again:
            self.holding.release(owner, key)
            return again
        return {**again, "leased": True}

    def _row(self, key: bytes, room: list[int]) -> Fields:
        try:
            found = self.backend.fetch(key)
        except DecodeError as error:
            return {"damaged": str(error)[:500]}
        if found is None:
            return {}
        row: Fields = {"body": found.body.pack()}
        envelope = found.envelope
        if envelope is None:
            return row
        row["frame"] = envelope.pack()
        total = sum(blob.size for blob in envelope.blobs)
        if envelope.blobs and total <= room[0]:
            try:
                row["blobs"] = [b"".join(self.host.read(blob)) for blob in envelope.blobs]
                room[0] -= total
            except DecodeError:
                pass  # told when they are asked for
        return row

    def _fetch_many(self, fields: Fields, owner: str) -> Any:
        room = [min(int(fields.get("room", 0)), _ROOM)]
        rows = []
        for key in keys_of(fields, "keys", 2000):
            row = self._row(key, room)
            if len(row.get("frame", b"")) > _ROOM:
                row = {"later": True}
            room[0] -= len(row.get("frame", b""))
            rows.append(row if room[0] > -_ROOM else {"later": True})
        return rows

    def _commit(self, fields: Fields, owner: str) -> Any:
        key = key_of(fields, "key")
        call, envelope = record_of(key, fields)
        if envelope is None:
            raise WireError("a commit without a result")
        uses = uses_of(fields.get("uses"))
        self.host.commit(owner, call, envelope, blobs_of(fields, envelope), uses)
        if fields.get("release"):
            self.holding.release(owner, key)
        return {}

    def _count(self, fields: Fields, owner: str) -> Any:
        self.backend.count(uses_of(fields.get("uses")))
        return {}

    # -- leases -----------------------------------------------------------------------------------

    def _acquire(self, fields: Fields, owner: str) -> Any:
        return self.holding.acquire(owner, key_of(fields, "key"))

    def _release(self, fields: Fields, owner: str) -> Any:
        self.holding.release(owner, key_of(fields, "key"))
        return {}

    def _beat(self, fields: Fields, owner: str) -> Any:
        return self.holding.beat(owner, keys_of(fields, "keys", 100_000))

    # -- calls, values, notes ---------------------------------------------------------------------

    def _call_get(self, fields: Fields, owner: str) -> Any:
        call = self.backend.calls.get(text_of(fields, "key"))
        return None if call is None else written(call)

    def _call_put(self, fields: Fields, owner: str) -> Any:
        key = key_of(fields, "key")
        self.backend.calls.put(key.hex(), record_of(key, fields)[0])
        return {}

    def _call_delete(self, fields: Fields, owner: str) -> Any:
        self.backend.calls.delete(text_of(fields, "key"))
        return {}

    def _value_get(self, fields: Fields, owner: str) -> Any:
        found = self.backend.values.envelope(Digest(text_of(fields, "key")))
        envelope = (
            found[0] if isinstance(found, tuple) and not isinstance(found, Envelope) else found
        )
        return None if envelope is None else envelope.pack()

    def _value_put(self, fields: Fields, owner: str) -> Any:
        envelope = Envelope.unpack(fields["frame"])
        key = text_of(fields, "key")
        self.host.put_value(owner, key, envelope, blobs_of(fields, envelope))
        return {}

    def _value_delete(self, fields: Fields, owner: str) -> Any:
        self.backend.values.delete_many([key.hex() for key in keys_of(fields, "keys", 100_000)])
        return {}

    def _notes_get(self, fields: Fields, owner: str) -> Any:
        return self.backend.notes.get_many([str(key) for key in fields["keys"]])

    def _notes_put(self, fields: Fields, owner: str) -> Any:
        items = fields["items"]
        if not all(type(item) is bytes for item in items.values()):
            raise WireError("a note is bytes")
        self.backend.notes.put_many(items)
        return {}

    def _notes_create(self, fields: Fields, owner: str) -> Any:
        return bool(self.backend.notes.create(text_of(fields, "key"), bytes(fields["item"])))

    def _notes_delete(self, fields: Fields, owner: str) -> Any:
        self.backend.notes.delete_many([str(key) for key in fields["keys"]])
        return {}

    def _have(self, fields: Fields, owner: str) -> Any:
        """Which of these blobs are there: sizes, in their order."""
        return [self.host.size(name) for name in keys_of(fields, "names", 10_000)]

    def _mend(self, fields: Fields, owner: str) -> Any:
        self.host.mend(Blob(int(fields["size"]), key_of(fields, "name")))
        return {}

    def _found(self, fields: Fields, owner: str) -> Any:
        return self.backend.found(read_query(fields["query"]))

    # -- looking after the whole ------------------------------------------------------------------

    def _verify(self, fields: Fields, owner: str) -> Any:
        return verify(self.cache, {"repair": False, "discard": False})

    # -- in parts ---------------------------------------------------------------------------------

    def stream(self, verb: str, fields: Any, right: str) -> Iterator[bytes] | None:
        """The parts of an answer that is too long for one message; None: `verb` has no such."""
        do = _STREAMS.get(verb)
        if do is None:
            return None
        check(right, READ, verb)
        return do(self, fields)

    def streams(self, verb: str) -> bool:
        """Whether the answer to a verb comes in parts."""
        return verb in _STREAMS

    def _blob(self, fields: Fields) -> Iterator[bytes]:
        blob = Blob(int(fields["size"]), key_of(fields, "name"))
        stop, piece = fields.get("stop"), min(CHUNK_SIZE, int(fields.get("piece", CHUNK_SIZE)))
        return self.host.read(blob, int(fields.get("start", 0)), stop, max(1, piece))

    def _keys(self, fields: Fields) -> Iterator[bytes]:
        stores = {
            "calls": self.backend.calls,
            "values": self.backend.values,
            "notes": self.backend.notes,
        }
        store, prefix = stores[text_of(fields, "of")], text_of(fields, "prefix")
        return _gathered(f"{key}\n".encode() for key in store.keys(prefix))

    def _find(self, fields: Fields) -> Iterator[bytes]:
        if fields.get("query") is None:
            calls = (call for _, call in each_call(self.backend.calls) if call is not None)
        else:
            calls = self.backend.find(read_query(fields["query"]))
        return _gathered(_enveloped(call) for call in calls)

    def upload(self, fields: Any, owner: str, right: str) -> Staged:
        """Where a blob that a client is about to send goes; `host.staged` when all of it came."""
        check(right, WRITE, "blob")
        size = int(fields["size"])
        if size < 0:
            raise WireError("a blob has no negative size")
        return self.host.stage(owner, key_of(fields, "name"), size)

    def gone(self, owner: str) -> None:
        """A client will not come back."""
        self.holding.drop(owner)
        self.host.tidy(owner)

    def close(self) -> None:
        """Let go of everything; the cache itself stays open."""
        self._stop.set()
        self.holding.drop()
        self.host.close()


def check(right: str, needed: str, verb: str) -> None:
    """Whether who has a right may do what takes another.

    Raises:
        Refused: it may not.
    """
    if RIGHTS.get(right, -1) < RIGHTS[needed]:
        raise Refused(f"may not {verb}: that takes the right to {needed}, and this is to {right}")


def record_of(key: bytes, fields: Fields) -> tuple[Call, Envelope | None]:
    """A record that a client sent, and the envelope with it.

    Raises:
        WireError: it is none, or not of this key.
    """
    try:
        item = bytes(fields["record"])
        return unpack_call(key.hex(), item), unpack_body(key, item)[1]
    except (KeyError, TypeError, DamagedValue) as error:
        raise WireError("a record on the wire can't be read") from error


def written(call: Call) -> list[Any]:
    """A record as it travels: its item, and that of its uses."""
    uses = b"" if call.used is None else pack_uses(call.uses, call.used)
    return [str(call.key), pack_call(call, b""), uses]


def _enveloped(call: Call) -> bytes:
    key, item, uses = written(call)
    head = len(item).to_bytes(4, "little") + len(uses).to_bytes(2, "little")
    return bytes.fromhex(key) + head + bytes(item) + bytes(uses)


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    some: list[bytes] = []
    size = 0
    for part in parts:
        some.append(part)
        size += len(part)
        if size > 128 * 1024:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


_VERBS: dict[str, tuple[str, Callable[[Desk, Fields, str], Any]]] = {
    "hello": (READ, Desk._hello),
    "fetch": (READ, Desk._fetch),
    "fetch_many": (READ, Desk._fetch_many),
    "commit": (WRITE, Desk._commit),
    "count": (WRITE, Desk._count),
    "acquire": (WRITE, Desk._acquire),
    "release": (WRITE, Desk._release),
    "beat": (WRITE, Desk._beat),
    "call.get": (READ, Desk._call_get),
    "call.put": (WRITE, Desk._call_put),
    "call.delete": (WRITE, Desk._call_delete),
    "value.get": (READ, Desk._value_get),
    "value.put": (WRITE, Desk._value_put),
    "value.delete": (WRITE, Desk._value_delete),
    "notes.get": (READ, Desk._notes_get),
    "notes.put": (WRITE, Desk._notes_put),
    "notes.create": (WRITE, Desk._notes_create),
    "notes.delete": (WRITE, Desk._notes_delete),
    "have": (READ, Desk._have),
    "mend": (WRITE, Desk._mend),
    "found": (READ, Desk._found),
    "totals": (READ, lambda desk, fields, owner: totals(desk.cache, fields)),
    "verify": (READ, Desk._verify),
    "repair": (ADMIN, lambda desk, fields, owner: verify(desk.cache, fields)),
    "gc": (ADMIN, lambda desk, fields, owner: collect(desk.cache, fields)),
    "free": (ADMIN, lambda desk, fields, owner: free(desk.cache, fields)),
    "evict": (ADMIN, lambda desk, fields, owner: evict(desk.cache, fields)),
}
_STREAMS: dict[str, Callable[[Desk, Fields], Iterator[bytes]]] = {
    "blob": Desk._blob,
    "keys": Desk._keys,
    "find": Desk._find,
}
VERBS = {verb: right for verb, (right, _) in _VERBS.items()} | dict.fromkeys(_STREAMS, READ)
"""What can be asked, and the right that it takes."""


LONG = frozenset(("evict", "free", "gc", "repair", "totals", "value.delete", "verify"))
"""Verbs whose answer may take minutes; a transport tells its client meanwhile that it goes on."""
_MANY = 100_000  # keys in a request
_PROBLEMS = 10_000  # that are told one by one


def collect(cache: Any, fields: Any) -> Any:
    done = cache.gc(grace=float(fields["grace"]), dry_run=bool(fields["dry_run"]))
    return [done.items, done.bytes]


def free(cache: Any, fields: Any) -> Any:
    from wellkept.caches.maintenance import freed  # few ask for it

    done = freed(cache, [key.hex() for key in keys_of(fields, "keys", _MANY)])
    return [done.items, done.bytes]


def evict(cache: Any, fields: Any) -> Any:
    from wellkept.caches.eviction import Choice, evicted  # as above

    function, before = fields.get("function"), fields.get("before")
    if not isinstance(function, str | None) or not isinstance(before, float | None):
        raise WireError("a choice of calls on the wire can't be read")
    keys = None if fields.get("keys") is None else keys_of(fields, "keys", _MANY)
    chosen = Choice(function, before, None if keys is None else frozenset(k.hex() for k in keys))
    if chosen == Choice():
        raise WireError("a choice of calls on the wire that chooses none")
    done = evicted(cache, chosen, bool(fields["dry_run"]))
    return [done.calls, done.values, done.blobs, done.bytes]


def verify(cache: Any, fields: Any) -> Any:
    found = cache.verify(repair=bool(fields["repair"]), discard=bool(fields["discard"]))
    said = vars(found) | {
        "problems": [
            [one.kind, one.what, one.detail[:500], one.repaired]
            for one in found.problems[:_PROBLEMS]
        ]
    }
    return dict(said)


def totals(cache: Any, fields: Any) -> Any:
    return cache.size().to_dict()
