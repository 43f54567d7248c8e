"""Request handlers of the cache server, with access checks, and the leases that it holds for clients.

A lease lasts as long as its client sends heartbeats, by the server's own clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from wellkept._process import Worker
from wellkept.codecs import Blob, Envelope
from wellkept.errors import DamagedValue, DecodeError, KeptError
from wellkept.records import Call, Digest
from wellkept.remote import wire
from wellkept.remote.staging import Host, Staged
from wellkept.remote.wire import CHUNK_SIZE, Refused, Request, Row, WireError, read_query
from wellkept.stores.backend import each_call
from wellkept.stores.leases import DEAD
from wellkept.stores.record_format import pack_call, pack_uses, unpack_body, unpack_call


class HeldLeases:
    """The leases that clients hold; each is a lease of the backend too, so it counts for local users.

    Args:
        locks: the leases of the backend.
        patience: seconds without a heartbeat after which a client's leases are free.
    """

    def __init__(self, locks: Any, patience: float = DEAD) -> None:
        self._locks, self._patience = locks, patience
        # By key, the owner and the time at which it ends, by `_clock`: clocks of clients may differ.
        self._held: dict[bytes, tuple[str, float]] = {}
        self._clock = self._looked = time.monotonic()
        self._guard = threading.Lock()

    def acquire(self, owner: str, key: bytes, *, again: bool = False) -> bool:
        """Try to take a lease; return whether the owner has it.

        Args:
            owner: a client's name.
            key: of the call.
            again: an answer was lost, so the owner may have the lease already.
        """
        with self._guard:
            now = self._expired()
            # The lease was given, and the answer was lost. Refused, the client would wait for its own lease.
            if again and self._held.get(key, ("", 0.0))[0] == owner:
                return True
            # The backend's leases may belong to a whole process: this server would be given the same one again
            # for another client.
            if key in self._held:
                return False
            if not self._locks.acquire(key):
                return False
            self._held[key] = owner, now + self._patience
            return True

    def release(self, owner: str, key: bytes) -> None:
        """Release a lease, if the owner has it."""
        with self._guard:
            if self._held.get(key, ("", 0.0))[0] == owner:
                del self._held[key]
                self._locks.release(key)

    def beat(self, owner: str, keys: Iterable[bytes]) -> list[bytes]:
        """Renew an owner's leases; return those that it has."""
        own = []
        with self._guard:
            now = self._expired()
            for key in keys:
                holder = self._held.get(key)
                # It expired while the client was cut off; the client gets it back unless another took it.
                if holder is None and not self._locks.acquire(key):
                    continue
                if holder is None or holder[0] == owner:
                    self._held[key] = owner, now + self._patience
                    own.append(key)
        return own

    def tick(self) -> None:
        """Free the leases that were not renewed."""
        # Otherwise they would be freed only by the next request of a client, while local users wait for them.
        with self._guard:
            self._expired()

    def drop(self, owner: str | None = None) -> None:
        """Release every lease of an owner; None: of all owners."""
        with self._guard:
            for key, (holder, _) in list(self._held.items()):
                if owner is None or holder == owner:
                    del self._held[key]
                    with contextlib.suppress(KeptError):
                        self._locks.release(key)

    def _expired(self) -> float:
        """Free the leases whose time is over; return what time it is, by a clock of this server's own."""
        # After a standstill of this machine, what clients have sent meanwhile waits to be read: of the time
        # between two looks a part counts.
        now = time.monotonic()
        self._clock += min(now - self._looked, self._patience / 4)
        self._looked, now = now, self._clock
        for key, (_, until) in list(self._held.items()):
            if until < now:
                del self._held[key]
                with contextlib.suppress(KeptError):
                    self._locks.release(key)
        return now


READ, WRITE, ADMIN = "read", "write", "admin"
RIGHTS = {READ: 0, WRITE: 1, ADMIN: 2}
# Bytes of blobs that travel with rows at the most, whatever a client asks for: an answer has to fit one message
# of the wire.
_ROOM = 4 * 1024 * 1024
# Problems that a report lists one by one, for the same reason.
_PROBLEMS = 10_000


class Handlers:
    """Answers requests for one cache.

    Args:
        cache: the cache that is served.
        patience: seconds without a heartbeat after which a client's leases are free.

    Raises:
        ConfigError: this cache can't be served.
    """

    def __init__(self, cache: Any, patience: float = DEAD) -> None:
        self.cache = cache
        self.backend: Any = cache.backend
        self.host: Host = Host(self.backend)
        self.leases: HeldLeases = HeldLeases(self.backend.locks, patience)
        self._tidying = Worker("wellkept-handlers", self._tick, lambda: 1.0, patience=5.0)
        self._tidying.begin()

    def _tick(self) -> bool:
        self.leases.tick()
        self.host.tidy()
        return True

    def answer(self, request: Request, owner: str, right: str) -> Any:
        """Return the answer to a request.

        Args:
            request: what the client asks for.
            owner: the client's name, for its leases and the blobs that it has sent.
            right: the client's right: `"read"`, `"write"` or `"admin"`.

        Raises:
            Refused: the client lacks the right.
            KeptError: what the backend raises.
        """
        check(request, right)
        # Uses and leases are writes, but a client that may only read sends them too, as it does not know its
        # right.
        if right == READ:
            if isinstance(request, wire.Use):
                return None
            if isinstance(request, wire.Fetch):
                request.lease = False
        do = _ANSWERS.get(type(request))
        if do is None:
            raise WireError(f"the request {request.verb!r} is not served this way")
        return do(self, request, owner)

    def at_hand(self, request: wire.Fetch, right: str) -> list[Row] | None:
        """Return the answer to a look-up that needs nothing but memory; None: it has to be looked for.

        Raises:
            Refused: the client lacks the right.
        """
        check(request, right)
        entry = self.cache.fresh(request.keys[0]) if len(request.keys) == 1 else None
        if entry is None or entry.envelope is None or entry.envelope.blobs:
            return None
        entry.hot = True
        return [Row(entry.body.pack(), entry.envelope.pack())]

    def stream(self, request: Request, right: str) -> Iterator[bytes]:
        """Return the parts of an answer that is too long for one message; raises as `answer`."""
        check(request, right)
        return _STREAMS[type(request)](self, request)

    def upload(self, request: wire.Send, owner: str, right: str) -> Staged:
        """Return the staged blob that takes what a client is about to send; then call `host.staged`."""
        check(request, right)
        return self.host.stage(owner, request.name, request.size)

    # -- calls with their results -----------------------------------------------------------------

    def _fetch(self, request: wire.Fetch, owner: str) -> list[Row]:
        room = [min(request.room, _ROOM)]
        rows = []
        for key in request.keys:
            row = self._row(key, room)
            if row.envelope is None and request.lease:
                row = self._leased(key, row, room, owner, again=request.again)
            # A single row is always sent, however large: told to ask later, a client would ask for it for ever.
            if len(request.keys) > 1:
                size = len(row.envelope or b"")
                room[0] -= size
                if size > _ROOM or room[0] < -_ROOM:
                    row = Row(later=True)
            rows.append(row)
        return rows

    def _leased(self, key: bytes, row: Row, room: list[int], owner: str, *, again: bool) -> Row:
        if not self.leases.acquire(owner, key, again=again):
            return row
        # Another may have kept the result between the lookup and the lease.
        found = self._row(key, room)
        if found.envelope is not None:
            self.leases.release(owner, key)
            return found
        found.leased = True
        return found

    def _row(self, key: bytes, room: list[int]) -> Row:
        try:
            found = self.cache.fetch(key)
        except DecodeError as error:
            return Row(damaged=str(error)[:500])
        if found is None:
            return Row()
        envelope = found.envelope
        if envelope is None:
            return Row(found.body.pack())
        row = Row(found.body.pack(), envelope.pack())
        total = sum(blob.size for blob in envelope.blobs)
        if envelope.blobs and total <= room[0]:
            # A damaged blob is an error when the client asks for it by itself; the row is good.
            with contextlib.suppress(DecodeError):
                row.blobs = [b"".join(self.host.read(blob)) for blob in envelope.blobs]
                room[0] -= total
        return row

    def _commit(self, request: wire.Commit, owner: str) -> None:
        call, envelope = record_of(request.key, request.record)
        if envelope is None:
            raise WireError("a commit has no result")
        sent = blobs_of(request.blobs, envelope)
        made = self.host.commit(owner, call, envelope, sent, request.uses)
        if made is not None:
            self.cache.hold(request.key, made)
        if request.release:
            self.leases.release(owner, request.key)

    def _use(self, request: wire.Use, owner: str) -> None:
        self.backend.count(request.uses)

    def _lease(self, request: wire.Lease, owner: str) -> list[bytes]:
        if request.do == "keep":
            return self.leases.beat(owner, request.keys)
        if request.do == "take":
            return [key for key in request.keys if self.leases.acquire(owner, key)]
        for key in request.keys:
            self.leases.release(owner, key)
        return []

    # -- items by kind and key --------------------------------------------------------------------

    def _get(self, request: wire.Get, owner: str) -> Mapping[str, bytes]:
        if request.kind == "meta":
            found: Mapping[str, bytes] = self.backend.notes.get_many(request.keys)
            return found
        if request.kind == "call":
            calls = ((key, self.backend.calls.get(key)) for key in request.keys)
            return {key: framed(call) for key, call in calls if call is not None}
        envelopes = ((key, self._envelope(key)) for key in request.keys)
        return {key: envelope.pack() for key, envelope in envelopes if envelope is not None}

    def _envelope(self, key: str) -> Envelope | None:
        found = self.backend.values.envelope(Digest(key))
        # A byte store returns the envelope and the key of its item.
        return found if isinstance(found, Envelope | None) else found[0]

    def _put(self, request: wire.Put, owner: str) -> None:
        if request.kind == "meta":
            self.backend.notes.put_many(request.items)
            return
        for key, item in request.items.items():
            if request.kind == "call":
                self.backend.calls.put(key, record_of(Digest(key).raw, item)[0])
            else:
                envelope = Envelope.unpack(item)
                self.host.put_value(owner, key, envelope, blobs_of(request.blobs, envelope))

    def _create(self, request: wire.Create, owner: str) -> bool:
        return bool(self.backend.notes.create(request.key, request.item))

    def _delete(self, request: wire.Delete, owner: str) -> None:
        if request.kind == "meta":
            self.backend.notes.delete_many(request.keys)
        elif request.kind == "value":
            self.backend.values.delete_many(request.keys)
        elif request.kind == "call":
            for key in request.keys:
                self.backend.calls.delete(key)
        else:
            for key in request.keys:
                self.host.mend(Digest(key).raw)

    def _have(self, request: wire.Have, owner: str) -> list[int | None]:
        return [self.host.size(name) for name in request.names]

    # -- in parts ---------------------------------------------------------------------------------

    def _read(self, request: wire.Read) -> Iterator[bytes]:
        blob, piece = Blob(request.size, request.name), min(CHUNK_SIZE, request.piece)
        return self.host.read(blob, request.start, request.stop, piece)

    def _keys(self, request: wire.List) -> Iterator[bytes]:
        backend = self.backend
        stores = {"call": backend.calls, "value": backend.values, "meta": backend.notes}
        keys = stores[request.kind].keys(request.prefix)
        return _gathered(f"{key}\n".encode() for key in keys)

    def _find(self, request: wire.Find) -> Iterator[bytes]:
        if request.query is None:
            calls = (call for _, call in each_call(self.backend.calls) if call is not None)
            return _gathered(map(framed, calls))
        query = read_query(request.query)
        if not request.count:
            return _gathered(map(framed, self.backend.find(query)))
        count = self.backend.found(query)
        return iter(() if count is None else (str(count).encode(),))

    # -- the whole cache --------------------------------------------------------------------------

    def _collect(self, request: wire.Collect, owner: str) -> Any:
        if request.values is None:
            done = self.cache.gc(grace=request.grace, dry_run=request.dry_run)
        else:
            # Loaded on first use: few clients ask for it.
            from wellkept.caches.maintenance import freed

            done = freed(self.cache, [key.hex() for key in request.values])
        return done.items, done.bytes

    def _evict(self, request: wire.Evict, owner: str) -> Any:
        # Loaded on first use: few clients ask for it.
        from wellkept.caches.maintenance import evicted
        from wellkept.stores.reports import Chosen

        keys = request.keys
        chosen = Chosen(
            request.function,
            request.before,
            None if keys is None else frozenset(key.hex() for key in keys),
        )
        # Without any condition it would be every call of the cache.
        if chosen == Chosen():
            raise WireError("a request to evict calls names none")
        done = evicted(self.cache, chosen, request.dry_run)
        return done.calls, done.values, done.blobs, done.bytes

    def _verify(self, request: wire.Verify, owner: str) -> Any:
        discard = request.repair and request.discard
        found = self.cache.verify(repair=request.repair, discard=discard)
        problems = [
            (one.kind, one.what, one.detail[:500], one.repaired)
            for one in found.problems[:_PROBLEMS]
        ]
        return {**vars(found), "problems": problems}

    def _totals(self, request: wire.Totals, owner: str) -> Any:
        return self.cache.size().to_dict()

    # -- ending -----------------------------------------------------------------------------------

    def gone(self, owner: str) -> None:
        """Drop the leases and staged blobs of a client that will not come back."""
        self.leases.drop(owner)
        self.host.tidy(owner)

    def close(self) -> None:
        """Release all leases and staged blobs; the cache itself stays open."""
        self._tidying.stop()
        self.leases.drop()
        self.host.close()


_ANSWERS: dict[type[Request], Callable[[Handlers, Any, str], Any]] = {
    wire.Fetch: Handlers._fetch,
    wire.Commit: Handlers._commit,
    wire.Use: Handlers._use,
    wire.Lease: Handlers._lease,
    wire.Get: Handlers._get,
    wire.Put: Handlers._put,
    wire.Create: Handlers._create,
    wire.Delete: Handlers._delete,
    wire.Have: Handlers._have,
    wire.Collect: Handlers._collect,
    wire.Evict: Handlers._evict,
    wire.Verify: Handlers._verify,
    wire.Totals: Handlers._totals,
}
_STREAMS: dict[type[Request], Callable[[Handlers, Any], Iterator[bytes]]] = {
    wire.Read: Handlers._read,
    wire.List: Handlers._keys,
    wire.Find: Handlers._find,
}


def check(request: Request, right: str) -> None:
    """Check that a right permits a request.

    Raises:
        Refused: the request needs another right.
    """
    if RIGHTS.get(right, -1) < RIGHTS[request.right]:
        raise Refused(
            f"permission denied: {request.verb!r} needs {request.right!r}, this client has {right!r}"
        )


def record_of(key: bytes, item: bytes) -> tuple[Call, Envelope | None]:
    """Return a record that a client sent, and the envelope in it.

    Raises:
        WireError: it is not a record of this key.
    """
    try:
        return unpack_call(key.hex(), item), unpack_body(key, item)[1]
    except (KeyError, TypeError, DamagedValue) as error:
        raise WireError("a record in a request can't be read") from error


def blobs_of(sent: list[bytes | None], envelope: Envelope) -> dict[bytes, bytes]:
    """Return the blobs that came with an envelope, by name.

    Raises:
        WireError: there are more than the envelope has.
    """
    if len(sent) > len(envelope.blobs):
        raise WireError("the blobs in a request do not fit their envelope")
    named = zip(envelope.blobs, sent, strict=False)
    return {blob.name: content for blob, content in named if content is not None}


def framed(call: Call) -> bytes:
    """Return a record as the wire carries it: its key, its item and the item of its uses."""
    item = pack_call(call, b"")
    uses = b"" if call.used is None else pack_uses(call.uses, call.used)
    head = len(item).to_bytes(4, "little") + len(uses).to_bytes(2, "little")
    return call.key.raw + head + item + uses


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    # Each part is a message of its own on some transports, so many short ones are joined.
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
