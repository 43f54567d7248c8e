"""The embedded store: `index.sqlite` and `blobs/` in one directory.

A fetch is one statement, a commit one transaction. Blobs are written before the record that names
them, so a record never names bytes that are not there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wellkept._system import RANGES, SHARES
from wellkept.codecs import LARGE, Envelope
from wellkept.codecs.envelope import COMMON
from wellkept.errors import ConfigError, DamagedValue, StoreError
from wellkept.interrupts import Guard
from wellkept.records import Buffer, Call, Value
from wellkept.stores.backend import Backend, Lookup, OtherFound, Progress, scan
from wellkept.stores.blobs import Blobs
from wellkept.stores.embedded_stores import Calls, Values
from wellkept.stores.epoch import Step, Token
from wellkept.stores.filesystem import prepare_directory
from wellkept.stores.index_tables import (
    make,
)
from wellkept.stores.lease_records import IndexRecords
from wellkept.stores.leases import Leases, RangeLeases, RecordLeases
from wellkept.stores.notes import IndexNotes
from wellkept.stores.openers import checked_path
from wellkept.stores.query_index import Listing
from wellkept.stores.record_format import (
    BODY_SIZE,
    Body,
    fields,
    laid_out,
    readable_body,
    rowid,
    rows_of,
    unseal,
)
from wellkept.stores.sqlite_file import Database

if TYPE_CHECKING:
    from wellkept.conditions import Query
    from wellkept.stores.reports import (
        Candidate,
        Chosen,
        Collected,
        Evicted,
        FunctionRow,
        Report,
        Totals,
    )


_ADD = "INSERT OR IGNORE INTO calls VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_REPLACE = "INSERT OR REPLACE INTO calls VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"
_INSIDE = BODY_SIZE + len(COMMON)
_new = tuple.__new__
# A small result is in its call's row, and then a join would cost a tenth more.
_FETCH = (
    'SELECT body, CASE WHEN value IS NULL THEN NULL ELSE (SELECT head FROM "values" v '
    "WHERE v.id = c.value) END FROM calls c WHERE id = ?"
)
_THERE = "SELECT id FROM calls WHERE id IN (SELECT value FROM json_each(?))"


Kept = tuple[Any, Body, Envelope]
"""What `Backend.commit` gives of a call."""


class _Waits:
    """What a thread has to have written."""

    __slots__ = ("alone", "done", "items", "uses")

    def __init__(
        self, items: Sequence[tuple[Call, Envelope]], uses: Mapping[bytes, int] | None
    ) -> None:
        self.items, self.uses = items, uses
        self.done: list[Kept] | None = None
        self.alone = False
        """Whether writing it with others has failed."""


# Parts that no call needs are imported by the methods that use them, so that a program which only
# calls kept functions does not wait for them.
class Embedded(Backend):
    """A directory that holds calls and values.

    Args:
        root: the directory; made with mode 0700 when needed.
        index: the SQLite file; `index.sqlite` in the directory by default.
        durability: `"process"` (survives a killed process) or `"power"` (survives a power cut).
        trust: take values from a directory that others can write to.
        readonly: map arrays read-only instead of copy-on-write.
        network: the directory is on a network file system; found out by default.

    Raises:
        UntrustedSource: others can write to the directory, and it is not trusted.
        StoreError: the directory can't be made or read, or a newer wellkept made it.
    """

    commits_many = True
    measures = True
    indexed = True
    trusts: Any = None
    """Who signs what is kept, and whose signatures are believed: `wellkept.stores.keyring.Trusts`. None: who
    can write there is trusted.
    """
    root: Path
    blobs: Blobs
    calls: Calls
    values: Values

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        durability: str = "process",
        trust: bool = False,
        readonly: bool = False,
        network: bool | None = None,
        index: Path | None = None,
    ) -> None:
        if durability not in ("process", "power"):
            raise ConfigError(f"durability is 'process' or 'power', not {durability!r}")
        self.root = checked_path(root)
        durable = durability == "power"
        self.trust = trust
        prepare_directory(self.root, trust)
        self.blobs = Blobs(
            self.root / "blobs", self.root / "tmp", durable=durable, readonly=readonly
        )
        file = index or self.root / "index.sqlite"
        self.database: Database = Database(
            file, make, durable=durable, network=network, epochs=self.root / "epoch"
        )
        ranges = RangeLeases(self.root / "locks") if SHARES else None
        self.locks: Leases
        if RANGES and ranges is not None and not self.database.network:
            self.locks = ranges
        else:
            self.locks = RecordLeases(IndexRecords(self.database), blobs=ranges)
        self.locks.waits = self.root / "tmp"
        self.calls = Calls(self)
        self.values = Values(self)
        self.notes: IndexNotes = IndexNotes(self.database)
        pending = self.root / "pending"
        self.listing: Listing = Listing(self.database, pending, direct=durable)
        self._functions: dict[tuple[str, str], int] = {}
        self._looked = 0.0
        self._dirtied = 0
        self._turn = Guard()
        """Held by the thread that writes calls."""
        self._queue: list[_Waits] = []
        """What threads wait to have written."""
        self._listeners: list[Callable[[], None]] = []
        self.database.changed = self._changed
        self.database.rolled_back = self._rolled_back
        self.database.open()
        if not self.database.readonly:
            self.blobs.sweep()

    # -- one trip ---------------------------------------------------------------------------------

    def fetch(self, key: bytes) -> Lookup | None:
        """The call under a key and its result's envelope, both verified, in one statement.

        Raises:
            DamagedValue: the row is damaged.
            StoreError: the index can't be read.
        """
        found = self.database.fetch(_FETCH, int.from_bytes(key[:8], "big", signed=True))
        if found is None:
            return None
        sealed, head = found
        content = unseal(key, sealed)
        # The named tuples of most hits are made here: it takes half the time of their own ways.
        body = _new(Body, fields(content))
        if content.startswith(COMMON, BODY_SIZE):
            envelope = _new(Envelope, ("pickle", content[_INSIDE:], (), b"", None))
        elif len(content) > BODY_SIZE:
            envelope = Envelope.unpack(content[BODY_SIZE:])
        elif head is None:
            return Lookup(body, None, True)
        else:
            envelope = Envelope.unpack(unseal(body.result, head))
        if self.trusts is not None:
            envelope = self.trusts.read(body.result, envelope)
        return _new(Lookup, (body, envelope, True))

    def lacking(self, keys: Sequence[bytes]) -> set[bytes]:
        """See `Backend.lacking`: one statement."""
        rows = {rowid(key): key for key in keys}
        for (row,) in self.database.rows(_THERE, json.dumps(list(rows))):
            rows.pop(row, None)
        return set(rows.values())

    def find(self, query: Query) -> Iterator[Call]:
        """The calls that fit, in the order that is asked for, read as they are asked for.

        Raises:
            StoreError: the index can't be read, or what queries go by not be brought up to date.
        """
        from wellkept.stores import query_sql

        current = self.listing.current()
        return query_sql.find(self, query) if current else scan(self.calls, query)

    def found(self, query: Query) -> int | None:
        """How many calls fit, as the index has it; None where records must be read to tell. Raises
        as `find`.
        """
        from wellkept.stores import query_sql

        return query_sql.count(self, query) if self.listing.current() else None

    def table(self, query: Query) -> Any:
        """The calls that fit as columns; None where records must be read. Raises as `find`."""
        from wellkept.stores import query_sql

        return query_sql.table(self, query) if self.listing.current() else None

    def peek(self, query: Query) -> Iterator[Call]:
        """`find`, which leaves what queries go by as it is. Raises as `find`."""
        from wellkept.stores import query_sql

        return query_sql.peek(self, query)

    def related(self) -> Any:
        """What finds calls by each other; see `query_links.related`."""
        from wellkept.stores.query_links import related

        return related(self)

    def load(self, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
        """The payload and buffers of an envelope, verified.

        Raises:
            DamagedValue: a blob is missing or damaged; a damaged one is removed, to be made again.
            StoreError: a blob can't be read.
        """
        if not envelope.blobs:
            return envelope.payload or b"", ()
        buffers: list[Buffer] = []
        for size, name in envelope.blobs:
            buffers.append(self._blob(size, name.hex()))
        if envelope.payload is None:
            return buffers.pop(), buffers
        return envelope.payload, buffers

    def probe(self, envelope: Envelope, most: int) -> None:
        """See `Backend.probe`."""
        read = sum(size for size, _ in envelope.blobs) <= most
        for size, name in envelope.blobs:
            path = self.blobs.path(name.hex())
            if not path.exists():
                raise DamagedValue(f"the blob {name.hex()} is missing")
            if path.stat().st_size != size:
                raise DamagedValue(f"the blob {name.hex()} is not what its name says")
            if read:
                self.blobs.get(name.hex())

    def codes(self, function: str) -> Iterator[str]:
        """See `Backend.codes`."""
        query = "SELECT code FROM functions WHERE name = ? ORDER BY id DESC LIMIT 200"
        return (str(code) for (code,) in self.database.rows(query, function))

    def _blob(self, size: int, name: str) -> Buffer:
        try:
            content = self.blobs.get(name)
        except DamagedValue:
            self.blobs.delete(name)
            raise
        if content is None:
            raise DamagedValue(f"the blob {name} is missing")
        if memoryview(content).nbytes != size:
            raise DamagedValue(f"the blob {name} is not {size} bytes")
        return content

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> Kept:
        """Keep a call and its result in one transaction; see `Backend.commit`."""
        return self.commit_many(((call, value),), uses)[0]

    def commit_many(
        self, items: Sequence[tuple[Call, Value]], uses: Mapping[bytes, int] | None = None
    ) -> list[Kept]:
        """Keep calls and their results, all of them or none, in one transaction; see
        `Backend.commit_many`.
        """
        now = time.monotonic()
        if now - self._looked >= 1.0 and self.stale():
            self.close()  # the locks too: another process would not meet them
        rows = []
        for call, (codec, head, buffers, _, signature) in items:
            if buffers or len(head) > LARGE:
                return self._commit_large(items, uses)
            rows.append((call, Envelope(codec, head, (), signature)))
        indexes = self.database.set_aside
        try:
            return self.record(rows, uses)
        except StoreError:
            if self.database.set_aside == indexes:
                raise
            return self.record(rows, uses)  # the damaged index is out of the way

    def _commit_large(
        self, items: Sequence[tuple[Call, Value]], uses: Mapping[bytes, int] | None
    ) -> list[Kept]:
        indexes = self.database.set_aside
        with self.locks.writing_blobs():
            rows = [(call, self.write_blobs(value)) for call, value in items]
            try:
                return self.record(rows, uses)
            except StoreError:
                if self.database.set_aside == indexes:
                    raise
                return self.record(rows, uses)

    def commit_over(self, call: Call, value: Value, before: Body | None) -> bool:
        """See `Backend.commit_over`: one transaction."""
        key = call.key.raw

        def check(c: sqlite3.Connection) -> None:
            row = c.execute(_FETCH, (rowid(key),)).fetchone()
            if (None if row is None else readable_body(key, *row)) != before:
                raise OtherFound

        with suppress(OtherFound), self.locks.writing_blobs():
            self.record([(call, self.write_blobs(value))], None, check)
            return True
        return False

    def write_blobs(self, value: Value) -> Envelope:
        """Write what a value's envelope names, if anything; then call inside `locks.writing_blobs()`."""
        codec, head, buffers, _, signature = value
        if not buffers and len(head) <= LARGE:
            return Envelope(codec, head, (), signature)
        envelope, parts = laid_out(value)
        for blob, part in zip(envelope.blobs, parts, strict=True):
            self.blobs.put(blob.name.hex(), part)
        return envelope

    def record(
        self,
        items: Sequence[tuple[Call, Envelope]],
        uses: Mapping[bytes, int] | None = None,
        check: Callable[[sqlite3.Connection], None] | None = None,
    ) -> list[Kept]:
        """Write calls and the envelopes of their results, whose blobs are there, in one transaction.

        Of threads that write at once, one commits for all that wait: with `durability="power"` one
        `fsync` serves them.
        """
        if check is not None or self.database.lock._is_owned():
            # A signal's handler in the midst of something can't wait for others.
            return self._record(items, uses, check)
        if self._turn.acquire(blocking=False):
            # What others want meanwhile is written together by the first of them.
            try:
                return self._record(items, uses)
            finally:
                self._turn.release()
        mine = _Waits(items, uses)
        self._queue.append(mine)
        try:
            with self._turn:
                # Unless the thread before has done it. One that was interrupted has not.
                if mine.done is None:
                    self._lead(mine)
        finally:
            # Of a thread that was interrupted nothing is written later, over what is newer then.
            with suppress(ValueError):
                self._queue.remove(mine)
        assert mine.done is not None
        return mine.done

    def _lead(self, mine: _Waits) -> None:
        """Write what waits, with `_turn` held; raise what becomes of this thread's own."""
        # Who is left out writes in its turn.
        waiting, self._queue = self._queue, []
        keys, together = {call.key for call, _ in mine.items}, []
        for one in list(waiting):
            theirs = {call.key for call, _ in one.items}
            # Of two results of one call, who comes last in the index has to come last in a tier.
            if one is not mine and not (one.alone or mine.alone) and keys.isdisjoint(theirs):
                keys |= theirs
                together.append(one)
        if together:
            every = [mine, *together]
            uses: Counter[bytes] = Counter()
            for one in every:
                uses.update(one.uses or {})
            try:
                done = iter(self._record([item for one in every for item in one.items], uses))
            except StoreError:
                # It may be for one of them alone.
                for one in together:
                    one.alone = True
            else:
                for one in every:
                    one.done = [next(done) for _ in one.items]
                return
        mine.done = self._record(mine.items, mine.uses)

    def _record(
        self,
        items: Sequence[tuple[Call, Envelope]],
        uses: Mapping[bytes, int] | None,
        check: Callable[[sqlite3.Connection], None] | None = None,
    ) -> list[Kept]:
        rows, values, numbers, done = [], [], [], []
        for call, envelope in items:
            if self.trusts is not None:
                envelope = self.trusts.signed(call.result.raw, envelope)
            body, row, value = rows_of(call, envelope)
            rows.append(row)
            numbers.append(row[0])
            done.append((body, envelope))
            if value is not None:
                values.append(value)
        if len(rows) > 1:
            # Neighbours of the tree one after the other; of two rows of one call the later stays.
            rows.sort(key=_ID)
        functions = self._functions
        writing = self.database.writing(adds=True)
        with writing as c:
            if check is not None:
                check(c)
            if values:
                # Replaced where it is there: the same bytes, and damage is healed by it.
                c.executemany('INSERT OR REPLACE INTO "values" VALUES (?,?,?,?)', values)
            for row in rows:
                row[5] = functions.get(row[5]) or self._function(c, *row[5])
            if c.executemany(_ADD, rows).rowcount != len(rows):
                # What takes the place of a row that somebody may hold is more than an addition.
                writing.adds = False
                c.executemany(_REPLACE, rows)
            self.listing.add(c, numbers, map(_LISTED, rows))
            if uses:
                _count(c, uses)
        self._dirtied += len(rows)
        if self._dirtied >= _PAGES:
            self._dirtied = 0
            self.database.shrink()
        step = writing.step
        if len(done) == 1:
            return [(step, *done[0])]
        # All of them came with one commit, which the first one tells of. Where it replaced something none does:
        # a tier that is brought to after the commit would still hold what the others replaced.
        later = None if step is None else Step(step.after, step.after, step.now, step.now)
        first = step if writing.adds else later
        return [(first if at == 0 else later, *kept) for at, kept in enumerate(done)]

    def _function(self, c: sqlite3.Connection, name: str, code: str) -> int:
        known = self._functions.get((name, code))
        if known is None:
            c.execute("INSERT OR IGNORE INTO functions (name, code) VALUES (?,?)", (name, code))
            query = "SELECT id FROM functions WHERE name = ? AND code = ?"
            (known,) = c.execute(query, (name, code)).fetchone()
            if len(self._functions) > 10_000:
                self._functions.clear()
            self._functions[name, code] = int(known)
        return int(known)

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Add to the counts of uses.

        Raises:
            StoreError: they can't be written.
        """
        if not self.database.readonly:
            with self.database.writing(adds=True) as c:
                _count(c, uses)

    def hold_index(self, room: int) -> None:
        """See `Backend.hold_index`."""
        self.database.hold(room)

    def collect(self, grace: float, dry_run: bool) -> Collected:
        """See `Cache.gc`; writers hold a lock, so no grace is needed."""
        from wellkept.stores import collect

        return collect.collect(self, dry_run)

    def free(self, digests: Sequence[str]) -> Collected:
        """See `Backend.free`."""
        from wellkept.stores import collect

        return collect.free(self, digests)

    def evict(self, chosen: Chosen, dry_run: bool) -> Evicted:
        """See `Cache.evict`."""
        from wellkept.stores import collect

        return collect.evict(self, chosen, dry_run)

    def verify(self, repair: bool, discard: bool, tell: Progress) -> Report:
        """See `Cache.verify`."""
        from wellkept.stores.check import Check

        return Check(self, repair, discard, tell).run()

    def functions(self) -> list[FunctionRow]:
        """See `Backend.functions`: added up in SQL, as a million calls are a second's work."""
        from wellkept.stores import collect

        return collect.functions(self)

    def calls_of(self, names: Sequence[str], limit: int | None = None) -> Iterator[Call]:
        """See `Backend.calls_of`."""
        from wellkept.stores import collect

        return collect.calls_of(self, names, limit)

    def totals(self) -> Totals:
        """See `Cache.size`."""
        from wellkept.stores import collect

        return collect.totals(self)

    def footprint(self) -> int | None:
        """See `Backend.footprint`."""
        # As above.
        from wellkept.stores import collect

        return None if self.database.readonly else collect.on_disk(self)["bytes"]

    def candidates(self) -> Iterator[Candidate]:
        """See `Backend.candidates`."""
        from wellkept.stores import collect

        return collect.candidates(self)

    def sign(self, trusts: Any) -> None:
        self.trusts = trusts

    def _rolled_back(self) -> None:
        self._functions.clear()
        self.listing.reset()

    def _changed(self) -> None:
        self._rolled_back()
        # In a forked child these threads are not there.
        self._queue = []
        for told in self._listeners:
            told()

    def listen(self, told: Callable[[], None]) -> None:
        """Have `told` called whenever `words` has become another, or none."""
        self._listeners.append(told)

    # -- currency ---------------------------------------------------------------------------------

    @property
    def words(self) -> memoryview | None:
        """What a memory tier watches: see `WalIndex`."""
        return self.database.words

    def token(self) -> Token | None:
        """Differs after any commit by any process; None where that can't be seen."""
        return self.database.token()

    def epoch(self, token: Token) -> Token | None:
        """See `Backend.epoch`."""
        epochs = self.database.epochs
        return epochs.of(token) if epochs else None

    def stale(self) -> bool:
        """Whether the directory was removed or replaced under us; looked at once a second."""
        now = time.monotonic()
        if now - self._looked < 1.0:
            return False
        self._looked = now
        if not self.database.replaced():
            self.listing.look()
            self.database.look()
            return False
        prepare_directory(self.root, self.trust)
        return True

    # -- the whole --------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the index; it opens again when it is used."""
        self.locks.close()  # first: leases may be rows of the index
        self.listing.close()
        self.database.close()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("an open store does not pickle; pickle its cache, which opens it again")


# Rows after whose writing the pages that SQLite holds are let go of: those of a sweep are full, and
# few of them are read again.
_PAGES = 8_000
_ID = itemgetter(0)
_LISTED = itemgetter(0, 5, 7, 6, 11)
"""Of a row of `calls`: what `query_index.Row` says."""


def _count(c: sqlite3.Connection, uses: Mapping[bytes, int]) -> None:
    now = time.time()
    c.executemany(
        "INSERT INTO uses VALUES (?,?,?) ON CONFLICT (id) DO UPDATE "
        "SET uses = uses + excluded.uses, used = excluded.used",
        [(rowid(key), n, now) for key, n in uses.items()],
    )
