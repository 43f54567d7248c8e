"""How a cache finds and keeps results: in a backend, with a memory tier before it."""

from __future__ import annotations

import atexit
import contextlib
import time
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from wellkept.caches.option_text import parse_size, redacted
from wellkept.caches.results import encoded, encoded_as_files
from wellkept.caches.tier import Entry, Look, Tier, Told
from wellkept.codecs import LAZY, decoder
from wellkept.codecs.paths import PATHS, PLAIN_PATHS, OutOfDateError, look
from wellkept.codecs.pickle import decode as decode_pickle
from wellkept.errors import (
    ConfigError,
    DecodeError,
    KeptError,
    StoreError,
    tell,
)
from wellkept.records import Argument, Call, Digest, Value
from wellkept.stores.backend import Backend, CallStore, inner
from wellkept.stores.base import Store

if TYPE_CHECKING:
    from wellkept.stores.epoch import Token
    from wellkept.stores.reports import Totals


F = TypeVar("F", bound=Callable[..., Any])

_NAMING = (PATHS, PLAIN_PATHS)
_FLUSH = 15.0  # seconds between flushes of use counts, at the least
_LOOK = 1.0  # seconds between looks whether the place was removed or replaced under us
# Bytes of the memory tier up to which results are held that nobody has asked for yet: a sweep makes millions.
_FRESH = 16 * 1024 * 1024
_MANY = 2000  # counts that are flushed sooner
_NOTES = 200  # notes that are written at once
_SOON = 1.0  # seconds within which they are, while there are more


LARGE = 10_000_000_000
"""Bytes from which a cache without a limit is warned of."""
_DAY = 86_400.0
_SIZED = "notices/size"
"""The note of when a cache was last measured."""


class CacheCore:
    """What calls need of a cache: `Cache` is this, and what people ask of one. See there."""

    def __init__(
        self,
        values: Store[bytes] | str | None = None,
        calls: Store[bytes] | str | None = None,
        *,
        backend: Backend | None = None,
        memory: int | str = "256 MB",
        url: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self._kept = False
        """Whether something was kept: one that is only read from is not measured."""
        self.bounded = False
        """Whether a limit holds what it may take."""
        self.stores: tuple[Store[bytes], Store[bytes]] | None = None
        if backend is None:
            if values is None or calls is None:
                raise ConfigError(
                    "a cache needs both stores: Cache(values=…, calls=…), which may be one; "
                    "wellkept.open(…) opens a path or a URL"
                )
            from wellkept.caches.opening import bytes_store  # it makes caches, so it imports this

            self.stores = bytes_store(values), bytes_store(calls)
            from wellkept.stores.byte_store import (
                ByteStoreBackend,  # who opens a directory has no need of it
            )

            backend = ByteStoreBackend(self.stores[1], self.stores[0])
        self.url = url
        self.how: dict[str, Any] = {}  # how what it is on is used, where that is shared
        self.memory = memory
        self.options: dict[str, Any] = dict(options or {})
        self.spec: Any = None
        """How a configuration says it, with the variables that stand for secrets."""
        self.backend = backend
        self.tier: Tier = Tier(parse_size(memory))
        backend.hold(self.tier.limit)
        # What a far layer has got meanwhile does not show in the token of the near one.
        self._vouches = not inner(backend, write=False).backends
        self._words: Any = None
        self._look = 0.0
        self._uses: dict[bytes, int] = {}
        self._flushed = time.monotonic()
        self._told: set[str] = set()
        self._evicted: dict[bytes, bytes] = {}
        self.is_open: bool = True
        """Until it is closed; one that is used again afterwards opens quietly."""
        self.counts: dict[str, int] = {"damaged": 0, "drifted": 0, "write failures": 0}
        self._notes: dict[str, bytes] = {}
        self._written = 0.0
        self.waiting: dict[bytes, Any] = {}
        """By the keys of calls that are computed and not written yet: the batches that write them."""
        self.noted: set[str] = set()
        """Notes that always say the same and were written by this process."""
        self.env: str = ""
        """The name of the one that describes this process."""
        if backend.claims:
            self.again = Look(self, "glance")  # type: ignore[method-assign]  # far away
            if not backend.backends:  # a stack has local tiers that give hits too
                self.glance = self.again  # type: ignore[method-assign]  # one function under both names
            self.claim = Look(self, "claim")  # type: ignore[method-assign]  # called like it
        backend.listen(Told(self))
        self.changed()
        _open.add(self)

    @property
    def calls(self) -> CallStore:
        """The call records."""
        return self.backend.calls

    @property
    def values(self) -> Store[Value]:
        """The encoded values."""
        return self.backend.values

    # -- reading ----------------------------------------------------------------------------------

    def fresh(self, key: bytes) -> Entry | None:
        """Return what the memory tier holds under a key, if it is current; the store is not asked."""
        words, tier = self._words, self.tier
        try:
            token = None if words is None else (words[1], words[5])
        except ValueError:  # the index was closed in another thread
            return None
        if token is None:
            return None
        if token != tier.seen and not tier.follow(token, self.backend.epoch(token)):
            return None
        return tier.entries.get(key)

    def fetch(self, key: bytes) -> Any:
        """Return what the store has under a key, and hold it in the memory tier; raises as `Backend.fetch`."""
        tier = self.tier
        token = self.token() if tier.limit else None
        if token is not None and token != tier.seen:
            tier.follow(token, self.backend.epoch(token))
        row = self.backend.fetch(key)
        if token is not None and row is not None and row.exact and row.envelope is not None:
            tier.add(key, Entry(row.body, row.envelope), token)
        return row

    def hold(self, key: bytes, kept: Any) -> None:
        """Hold a call in the memory tier that was just written.

        Args:
            key: of the call, 32 bytes.
            kept: what the backend's `record` gave of it.
        """
        step, body, envelope = kept
        if step is not None and self.tier.limit:
            self.tier.advance(step, key, Entry(body, envelope))

    def lacking(self, keys: Sequence[bytes]) -> tuple[Token | None, Collection[bytes]]:
        """Return keys that have no call, and the token of the commit after which that was so.

        Raises:
            StoreError: the store can't be read.
        """
        if self.backend.stale():
            # As in `find`.
            self.backend.close()
        token = self.token()
        return token, () if token is None else self.backend.lacking(keys)

    def find(self, key: bytes, fetch: Callable[[bytes], Any] | None = None) -> Entry | None:
        """The entry under a key, from memory or from the store; a damaged one is a miss.

        Args:
            fetch: how the place is asked, if in another way.

        Raises:
            StoreError: the store can't be read.
        """
        backend, token = self.backend, None
        now = monotonic()
        if now > self._look:
            self._look = now + _LOOK
            if backend.stale():
                backend.close()  # it opens anew, and the memory tier is emptied
        tier = self.tier
        if tier.limit:
            try:  # as `fresh`, in the way of every hit
                words = self._words
                if words is None:
                    token = backend.token()
                else:
                    token = words[1], words[5]
                    if token == tier.seen or tier.follow(token, backend.epoch(token)):
                        entry = tier.entries.get(key)
                        if entry is not None:
                            return entry
            except ValueError:
                token = backend.token()
        try:
            row = (fetch or backend.fetch)(key)
        except DecodeError as error:
            self.damage(key, error)
            return None
        if row is None:
            batch = self.waiting.get(key)
            written = batch is not None and batch.write()
            # What waits on is in the midst of being written, by a call that this one interrupts.
            return self.find(key, fetch) if written and key not in self.waiting else None
        if row.envelope is None:  # the result was evicted, or its row is damaged; its record stays
            if len(self._evicted) < _MANY:
                self._evicted[key] = row.body.result
            return None
        entry = Entry(row.body, row.envelope)
        if token is not None and row.exact:
            tier.add(key, entry, token)
        return entry

    if TYPE_CHECKING:

        def glance(self, key: bytes) -> Entry | None:
            """Like `find`, but never over a network; the caller asks again with `claim`."""

        def again(self, key: bytes) -> Entry | None:
            """Like `find`, for a caller that was given a lease with the answer to `claim`."""

        def claim(self, key: bytes) -> Entry | None:
            """Like `find`; on a miss a remote backend gives the lease in the same round trip."""

    else:
        glance = again = claim = find

    def value(self, key: bytes, entry: Entry, *, hit: bool = True) -> Any:
        """The result of an entry.

        Args:
            hit: it is to stand for a computation, so the files that it names must be what they were.

        Raises:
            DecodeError: it is missing, damaged, or can't be decoded here; or a file that it names is
                gone, or has changed.
            StoreError: it can't be read.
        """
        entry.hot = True
        envelope = entry.envelope
        if envelope is None:  # read once: another thread may fix the entry meanwhile
            return entry.value
        codec = envelope.codec
        if codec == "pickle":  # most are
            value = decode_pickle(*self.backend.load(envelope))
        elif codec in LAZY:
            # Loaded on first use: few results are read part by part.
            from wellkept.caches.opened_parts import OpenedParts

            parts = OpenedParts(self, key, envelope)
            value = decoder(codec)(parts.payload, parts)
        else:
            payload, buffers = self.backend.load(envelope)
            if hit and codec in _NAMING:
                look(payload)
            value = decoder(codec)(payload, buffers)
        entry.fix(value)
        return value

    def used(self, key: bytes) -> None:
        """Count a use; written in batches."""
        self._uses[key] = self._uses.get(key, 0) + 1
        if len(self._uses) > _MANY and time.monotonic() - self._flushed > _FLUSH:
            self.flush()

    def damage(self, key: bytes, error: KeptError) -> int:
        """Something under this key can't be trusted: warn once, and compute it again; 1 if that is
        damage, and counted as such.
        """
        damaged = int(not isinstance(error, OutOfDateError))
        self.counts["damaged"] += damaged
        self.tier.clear()
        what = getattr(error, "what", "damaged")
        self.warn(what, f"a kept result is {what} and will be computed again: {error}")
        return damaged

    # -- writing ----------------------------------------------------------------------------------

    def made(
        self,
        key: bytes,
        result: Any,
        function: str,
        code: str,
        arguments: Mapping[str, Argument],
        state: str = "done",
        seconds: float = 0.0,
        ttl: float | None = None,
        codec: str = "pickle",
        metadata: Mapping[str, Any] | None = None,
    ) -> tuple[Call, Value]:
        """Encode a result, and make the record of its call; `keep_all` keeps them.

        Args:
            seconds: what computing it took.
            ttl: seconds until it expires.
            metadata: what else the record says; plain data for JSON.

        Raises:
            EncodeError: the result can't be encoded, or would come back as another one.
        """
        # An exception is kept with its causes beside it, which pickle leaves out.
        own = self.backend.codec
        began = perf_counter()
        if codec == "pickle" and own != "pickle" and state == "done":
            value, digest = encoded_as_files(result, own)
        else:
            value, digest = encoded(result, codec, compared=state != "failed")
        if value.codec in LAZY:
            # What is computed on demand is computed while it is encoded.
            seconds += perf_counter() - began
        if self._evicted and (before := self._evicted.pop(key, digest)) != digest:
            self.counts["drifted"] += 1
            self.warn(
                "drift",
                f"{function} gave another result ({digest.hex()[:12]}) than before its result was "
                f"evicted ({before.hex()[:12]}): it depends on more than its arguments and code",
            )
        now = time.time()
        size = value.size if value.buffers else len(value.head)
        # As `Digest.of` and `Call(…)` do; each miss comes here.
        new = str.__new__
        fields = (
            new(Digest, key.hex()),
            function,
            code,
            arguments,
            new(Digest, digest.hex()),
            state,
            now,
            seconds,
            size,
            None if ttl is None else now + ttl,
            0,
            None,
            {} if metadata is None else metadata,
        )
        return tuple.__new__(Call, fields), value

    def keep_all(self, made: Sequence[tuple[bytes, Any, Call, Value]]) -> None:
        """Keep calls together: the key and the result of each, and what `made` gave of it.

        Raises:
            StoreError: one can't be written. Others of them may be kept.
        """
        self._kept, uses = True, None
        if self._uses and monotonic() - self._flushed > _FLUSH:
            uses = self._take_uses()
        try:
            # Most often it is one, for which a comprehension would take longer than what is in it.
            items = [made[0][2:]] if len(made) == 1 else [one[2:] for one in made]
            done = self.backend.commit_many(items, uses)
        except StoreError:
            self.counts["write failures"] += 1
            raise
        tier = self.tier
        if not tier.limit:
            return
        for (key, result, _, _), found in zip(made, done, strict=True):
            if found is None:
                continue
            step, body, envelope = found
            entry = None
            if tier.held < _FRESH:
                entry = Entry(body, envelope)
                entry.fix(result)
            elif step is not None and step.before == step.after:
                # It came with the one before.
                continue
            tier.advance(step, key, entry)

    def note(self, key: str, item: bytes) -> None:
        """Write a note together with others: with one a second later, or when the cache is flushed."""
        self._notes[key] = item
        if len(self._notes) >= _NOTES or monotonic() - self._written > _SOON:
            self._write_notes()

    def _write_notes(self) -> None:
        notes, self._notes, self._written = self._notes, {}, monotonic()
        if notes:
            with contextlib.suppress(KeptError):  # as of the counts below
                self.backend.notes.put_unheard(dict(notes))

    def flush(self) -> None:
        """Write the counts of uses, what was noted, and calls that wait to be written with others."""
        self._write_waiting()
        self._write_notes()
        uses = self._take_uses()
        if uses:
            with contextlib.suppress(KeptError):  # counts are not worth an error
                self.backend.count(uses)

    def _write_waiting(self) -> None:
        # What can't be written is told by the thread that it belongs to.
        for batch in {id(batch): batch for batch in list(self.waiting.values())}.values():
            batch.write()

    def _take_uses(self) -> dict[bytes, int]:
        uses, self._uses = self._uses, {}
        self._flushed = time.monotonic()
        return uses

    def token(self) -> tuple[int, int] | None:
        """Differs after any commit by any process; None where that can't be seen, as in the far
        layers of a stack.
        """
        if not self._vouches:
            return None
        words = self._words
        try:
            return self.backend.token() if words is None else (words[1], words[5])
        except ValueError:  # the index was closed in another thread
            return None

    def warn(self, kind: str, text: str) -> None:
        """Warn once a cache and kind of trouble."""
        if kind not in self._told:
            self._told.add(kind)
            tell(text)

    def changed(self) -> None:
        """Another place is behind it, or the same one was opened anew: nothing in memory holds."""
        self._words = self.backend.words if self.tier.limit else None
        self.tier.clear()
        # Another object: who asks for the same one learns that the place may be another.
        self.noted = set()
        self.env = ""

    def close(self) -> None:
        """Flush and close; it opens again when it is used."""
        self.flush()
        if self._kept and self.backend.measures and not self.bounded:
            self._tell_size()
        self.is_open = False
        self.backend.close()

    def _tell_size(self) -> None:
        """Warn of a cache that has grown large without a limit, at most once a day on a machine."""
        notes = self.backend.notes
        with contextlib.suppress(KeptError, ValueError):
            if time.time() - float(notes.get(_SIZED) or 0) < _DAY:
                return
            size = self.backend.footprint()
            if size is None:
                return
            notes.put(_SIZED, str(time.time()).encode())
            if size > LARGE:
                self.warn(
                    "size",
                    f"{self} takes {size / 1e9:,.0f} GB and has no limit. Set one, such as "
                    f'limit = "{size / 2e9:.0f} GB" in wellkept.toml or WELLKEPT_LIMIT, or clear it: '
                    "wellkept ls, wellkept evict",
                )

    def size(self) -> Totals:
        """How much it holds: calls, values, blobs, bytes, time computed and saved.

        Raises:
            StoreError: the store can't be read.
        """
        return self.backend.totals()

    def __str__(self) -> str:
        return redacted(self.url) if self.url else repr(self)

    def __repr__(self) -> str:
        if self.stores is not None:
            values, calls = (type(store).__name__ for store in self.stores)
            return f"<wellkept.Cache values={values} calls={calls}>"
        return f"<wellkept.Cache {redacted(self.url) if self.url else type(self.backend).__name__}>"


_open: weakref.WeakSet[CacheCore] = weakref.WeakSet()


@atexit.register
def close_all() -> None:
    """At exit: flush counts and close, so that SQLite can fold its log into the index."""
    for cache in list(_open):
        with contextlib.suppress(Exception):  # too late for anybody to hear of it
            cache.close()
