"""The calls and values of a cache directory as stores: one item at a time, by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from wellkept.codecs import Envelope
from wellkept.errors import DamagedValue, StoreError
from wellkept.records import Call, Digest, Value
from wellkept.stores.backend import CallStore
from wellkept.stores.index_tables import (
    CALL,
    between,
    call_row,
    keys_of,
    may_begin,
    put_value,
)
from wellkept.stores.parts import opened
from wellkept.stores.record_format import (
    BODY_SIZE,
    Body,
    rowid,
    seal,
    unseal,
)

if TYPE_CHECKING:
    pass


class Calls(CallStore):
    """The calls of an embedded store, as a `Store[Call]`."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def get(self, key: str) -> Call | None:
        """The record.

        Raises:
            DamagedValue: the row is damaged.
            StoreError: the index can't be read.
        """
        raw = Digest(key).raw
        found = list(self._store.database.rows(CALL + "WHERE c.id = ?", rowid(raw)))
        return call_row(found[0]) if found and found[0][0] == raw else None

    def put(self, key: str, item: Call) -> None:
        """Change a record, whose result must be kept already.

        Raises:
            StoreError: it can't be written, or the result is not there.
        """
        with self._store.locks.writing_blobs():  # nobody collects what the row is about to name
            row = self._envelope(item)
            if row is None:
                raise StoreError(f"can't keep the call {key}: its result {item.result} is not kept")
            self._store.record([(item, row)])

    def _envelope(self, call: Call) -> Envelope | None:
        """The envelope that the call has now; where it has another result, or none, one of that digest."""
        with suppress(DamagedValue):
            found = self._store.fetch(call.key.raw)
            if found is not None and found.body.result == call.result.raw:
                envelope: Envelope | None = found.envelope
                if envelope is not None:
                    return envelope
        other: Envelope | None = self._store.values.envelope(call.result)
        return other

    def delete(self, key: str) -> None:
        row = (rowid(Digest(key).raw),)
        with self._store.database.writing() as c:
            c.execute("DELETE FROM calls WHERE id = ?", row)
            c.execute("DELETE FROM uses WHERE id = ?", row)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return keys_of(self._store.database, "SELECT key FROM calls", "id", prefix)

    def all(self) -> Iterator[Call | DamagedValue]:
        """Every record, in one pass; a damaged one as the error."""
        for row in self._store.database.rows(CALL):
            try:
                yield call_row(row)
            except DamagedValue as error:
                yield error


class Values:
    """The values of an embedded store, as a `Store[Value]`.

    A large value has a row of its own; a small one stands in the rows of the calls that gave it.
    Where several values have one digest, the one that was put under it by hand is what the digest
    names, or any of those that calls gave.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._indexed = False

    def envelope(self, key: str) -> Envelope | None:
        """The envelope of a value, verified; see `Calls.get` for what it raises."""
        raw = Digest(key).raw
        database = self._store.database
        for digest, sealed in database.rows(
            'SELECT digest, head FROM "values" WHERE id = ?', rowid(raw)
        ):
            if digest == raw:
                return Envelope.unpack(unseal(raw, sealed))
        self.index_results()
        for (sealed,) in database.rows('SELECT head FROM "values" WHERE digest = ? LIMIT 1', raw):
            return Envelope.unpack(unseal(raw, sealed))
        for name, sealed in self._inline(raw):
            content = unseal(name, sealed)
            if Body.unpack(content).result == raw and len(content) > BODY_SIZE:
                return Envelope.unpack(content[BODY_SIZE:])
        return None

    def index_results(self) -> None:
        """Have calls found by their result, and values by their digest."""
        database = self._store.database
        if not database.readonly and not self._indexed:
            # Made when first needed: those who never ask for a value by its digest don't pay.
            with database.writing(adds=True) as c:
                c.execute("CREATE INDEX IF NOT EXISTS calls_result ON calls (result)")
                c.execute('CREATE INDEX IF NOT EXISTS values_digest ON "values" (digest)')
            self._indexed = True

    def _inline(self, raw: bytes) -> Iterator[tuple[Any, ...]]:
        self.index_results()
        found: Iterator[tuple[Any, ...]] = self._store.database.rows(
            "SELECT key, body FROM calls WHERE result = ? AND value IS NULL", rowid(raw)
        )
        return found

    def get(self, key: str) -> Value | None:
        envelope = self.envelope(key)
        if envelope is None:
            return None
        if self._store.trusts is not None:
            envelope = self._store.trusts.read(Digest(key).raw, envelope)
        payload, buffers = opened(self._store.load, envelope)
        return Value(envelope.codec, bytes(payload), buffers, (), envelope.signature)

    def put(self, key: str, item: Value) -> None:
        store = self._store
        with store.locks.writing_blobs():
            envelope = store.write_blobs(item)
            if store.trusts is not None:
                envelope = store.trusts.signed(Digest(key).raw, envelope)
            with store.database.writing() as c:
                put_value(c, Digest(key).raw, envelope.pack(), item.size)

    def delete(self, key: str) -> None:
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[str]) -> None:
        """Forget all of the values, or none; the records of their calls stay."""
        raws = [Digest(key).raw for key in keys]
        inline = [row for raw in raws for row in self._inline(raw)]
        with self._store.database.writing() as c:
            for raw in raws:
                c.execute('DELETE FROM "values" WHERE digest = ?', (raw,))
                # A call with neither envelope nor value had its result evicted, and is no damage.
                c.execute("UPDATE calls SET value = NULL WHERE result = ?", (rowid(raw),))
            for name, sealed in inline:
                bare = seal(name, unseal(name, sealed)[:BODY_SIZE])
                same = "WHERE id = ? AND body = ?"  # nobody kept another result since
                c.execute(f"UPDATE calls SET body = ? {same}", (bare, rowid(name), sealed))

    def keys(self, prefix: str = "") -> Iterator[str]:
        database = self._store.database
        seen = set()
        bounds = (
            [bytes.fromhex(prefix[:64].ljust(64, end)) for end in "0f"] if may_begin(prefix) else []
        )
        query = 'SELECT DISTINCT digest FROM "values" WHERE digest BETWEEN ? AND ?'
        for (digest,) in database.rows(query, *bounds) if bounds else ():
            seen.add(digest.hex())
            yield digest.hex()
        where, numbers = between("result", prefix)
        query = f"SELECT key, body FROM calls WHERE value IS NULL AND {where}"
        for name, sealed in database.rows(query, *numbers):
            content = unseal(name, sealed)
            key = Body.unpack(content).result.hex()
            if len(content) > BODY_SIZE and key not in seen and key.startswith(prefix):
                seen.add(key)
                yield key
