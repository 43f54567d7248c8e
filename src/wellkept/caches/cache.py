"""A cache: it finds and keeps results in a backend, with a memory tier before it."""

from __future__ import annotations

import atexit
import contextlib
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from wellkept.caches.option_text import parse_duration, parse_size, redacted
from wellkept.caches.results import encoded, encoded_as_files
from wellkept.caches.tier import Entry, Look, Tier, Told
from wellkept.codecs import decoder
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
    from datetime import timedelta

    from wellkept.caches.moving import Moved
    from wellkept.query import Matches
    from wellkept.stores.reports import Collected, Evicted, Policy, Report, Totals


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


class Cache:
    """Keeps calls and results.

    Args:
        values: a store of bytes (`wellkept.stores.Files(…)`), or the URL of one: where results are.
        calls: the same for call records; any two mix, and both may be one.
        backend: what holds both, in place of the two.
        memory: how much the memory tier may hold: bytes, or text such as `"256 MB"`; 0 for none.
        url: how to open it again, which is what pickles.

    `wellkept.open` makes one from a path or a URL.

    Raises:
        ConfigError: a store is missing, or is none.
        StoreError: one can't be used.
    """

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
        self.bounded = False
        """Whether a limit holds what it may take."""
        self.stores: tuple[Store[bytes], Store[bytes]] | None = None
        if backend is None:
            if values is None or calls is None:
                raise ConfigError(
                    "a cache needs both stores: Cache(values=…, calls=…), which may be one"
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
        self.options = dict(options or {})
        self.spec: Any = None
        """How a configuration says it, with the variables that stand for secrets."""
        self.backend = backend
        self.tier = Tier(parse_size(memory))
        backend.hold(self.tier.limit)
        # What a far layer has got meanwhile does not show in the token of the near one.
        self._vouches = not inner(backend, write=False).backends
        self._words: Any = None
        self._look = 0.0
        self._uses: dict[bytes, int] = {}
        self._flushed = time.monotonic()
        self._told: set[str] = set()
        self._evicted: dict[bytes, bytes] = {}
        self.is_open = True
        """Until it is closed; one that is used again afterwards opens quietly."""
        self.counts = {"damaged": 0, "drifted": 0, "write failures": 0}
        self._notes: dict[str, bytes] = {}
        self._written = 0.0
        self.waiting: dict[bytes, Any] = {}
        """By the keys of calls that are computed and not written yet: the batches that write them."""
        self.noted: set[str] = set()
        """Notes that always say the same and were written by this process."""
        self.env = ""
        """The name of the one that describes this process."""
        if backend.claims:
            self.again = Look(self, "glance")  # type: ignore[method-assign, assignment]  # far away
            if not backend.backends:  # a stack has local tiers that give hits too
                self.glance = self.again  # type: ignore[method-assign]  # one function under both names
            self.claim = Look(self, "claim")  # type: ignore[method-assign, assignment]  # called like it
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
        """What the memory tier holds under a key, if it is current."""
        words, tier = self._words, self.tier
        try:
            token = None if words is None else (words[1], words[5])
        except ValueError:  # the index was closed in another thread
            return None
        if token is None or not tier.follow(token, self.backend.epoch(token)):
            return None
        return tier.entries.get(key)

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

    glance = find
    """Like `find`, but never over a network; the caller asks again with `claim`."""
    again = find
    """Like `find`, for a caller that was given a lease with the answer to `claim`."""
    claim = find
    """Like `find`; on a miss a remote backend gives the lease in the same round trip."""

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
        payload, buffers = self.backend.load(envelope)
        codec = envelope.codec
        if codec == "pickle":  # most are
            value = decode_pickle(payload, buffers)
        else:
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

    def load(self, digest: str) -> Any:
        """The value that a digest, or an unambiguous prefix of one, names.

        Raises:
            NotKept: no such value.
            AmbiguousDigest: the prefix fits several.
            DecodeError: its bytes are damaged.
            StoreError: the store can't be read.
        """
        from wellkept.caches import by_hand  # who only calls kept functions has no need of it

        return by_hand.load(self, digest)

    def expand(self, prefix: str, store: Store[Any] | None = None) -> Digest:
        """The full digest of a call (or of an item of another store) from a prefix of it.

        Raises:
            NotKept: nothing begins so.
            AmbiguousDigest: several do.
        """
        from wellkept.caches import by_hand  # as above

        return by_hand.expand(self, prefix, store or self.calls)

    @overload
    def shrink(self, digest: str, store: Any = None) -> str: ...  # type: ignore[overload-overlap]  # a text is told first
    @overload
    def shrink(self, digest: Iterable[str], store: Any = None) -> list[str]: ...
    def shrink(self, digest: Any, store: Any = None) -> Any:
        """The shortest beginning of a call's digest (or of another store's item), 4 digits at the
        least, that `expand` takes for it now; of several digests a list, in one pass.

        Raises:
            NotKept: one is not kept, or no digest.
            AmbiguousDigest: what was given fits several.
        """
        from wellkept.caches import by_hand  # as above

        many = by_hand.shrink(self, digest, store or self.calls)
        return many[0] if isinstance(digest, str) else many

    # -- writing ----------------------------------------------------------------------------------

    def put(self, value: Any, *, codec: str = "pickle") -> Digest:
        """Keep a value by hand, until it is evicted; the digest that `load` takes.

        Raises:
            Undigestible: it has no digest.
            EncodeError: it can't be encoded.
            StoreError: it can't be written.
        """
        from wellkept.caches import by_hand  # as above

        return by_hand.put(self, value, codec)

    def save(self, call: Call, *result: Any, codec: str = "pickle") -> Call:
        """Keep a record that a program made, such as a changed one of `f.call(…)`, under the key that
        follows from its function, code and arguments (plain values do); as it is kept.

        Args:
            result: of the call; by default the kept value that the record's `result` names.

        Raises:
            ConfigError: a part of the record is not what it may be.
            NotKept: there is no such value.
            Undigestible, EncodeError, StoreError: as `put`.
        """
        from wellkept.caches import by_hand  # as above

        return by_hand.save(self, call, result, codec)

    def keep(
        self,
        key: bytes,
        result: Any,
        *,
        function: str,
        code: str,
        arguments: Mapping[str, Argument],
        state: str = "done",
        seconds: float = 0.0,
        ttl: float | None = None,
        codec: str = "pickle",
        metadata: Mapping[str, Any] | None = None,
    ) -> Call:
        """Encode a result and keep it under a key; `made` says what it is given.

        Raises:
            EncodeError: the result can't be encoded, or would come back as another one.
            StoreError: it can't be written.
        """
        call, value = self.made(
            key, result, function, code, arguments, state, seconds, ttl, codec, metadata
        )
        self.keep_all(((key, result, call, value),))
        return call

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
        if codec == "pickle" and own != "pickle" and state == "done":
            value, digest = encoded_as_files(result, own)
        else:
            value, digest = encoded(result, codec, compared=state != "failed")
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
        uses = None
        if self._uses and monotonic() - self._flushed > _FLUSH:
            uses = self._take_uses()
        try:
            done = self.backend.commit_many([one[2:] for one in made], uses)
        except StoreError:
            self.counts["write failures"] += 1
            raise
        tier = self.tier
        if not tier.limit:
            return
        # The first one brings the tier to after the commit that changed all of them.
        others = [one[0] for one in made] if len(made) > 1 else ()
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
            tier.advance(step, key, entry, others)
            others = ()

    def forget(self, key: bytes) -> bool:
        """Forget a call; whether it was there.

        Raises:
            StoreError: the store can't be written.
        """
        self._write_waiting()
        text = key.hex()
        there = self.calls.get(text) is not None
        self._uses.pop(key, None)
        self.calls.delete(text)
        self.tier.clear()
        return there

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
        if self.is_open and self.backend.measures and not self.bounded:
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

    # -- the whole --------------------------------------------------------------------------------

    def evict(
        self,
        function: Any = None,
        *,
        older: float | str | timedelta | None = None,
        keys: Iterable[str] | None = None,
        dry_run: bool = False,
    ) -> Evicted:
        """Throw away calls that fit all that is said, and what nothing references any more.

        Args:
            function: a kept function; a name or pattern (`*`, `?`, `[…]`), with or without the module
                before it; or what a query found.
            older: how long ago they were computed, at the least; seconds or text like `"7 d"`.
            keys: their keys or prefixes of them.
            dry_run: only say what would go.

        Raises:
            ConfigError: nothing is said, or not what may be.
            NotKept, AmbiguousDigest: a key names no call, or several.
            StoreError: the store can't be written.
        """
        from wellkept.caches import maintenance  # who only calls kept functions never pays for it

        return maintenance.evict(self, function=function, older=older, keys=keys, dry_run=dry_run)

    def clear(self, *, dry_run: bool = False) -> Evicted:
        """Throw all calls and their results away. Runs and named state stay.

        Args:
            dry_run: only say what would go.

        Raises:
            StoreError: the store can't be written.
        """
        # As in `evict`.
        from wellkept.caches import maintenance

        return maintenance.clear(self, dry_run)

    def verify(
        self,
        *,
        repair: bool = False,
        discard: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Report:
        """Check all that is kept, every byte of it.

        Args:
            repair: remove what is damaged (it is computed again) and what nothing references, and
                recover what can be read of set-aside index files.
            discard: delete these afterwards instead of renaming them.
            progress: called with what is checked, how far, and of how much.

        Raises:
            StoreError: the store can't be read, or not be repaired.
        """
        self.flush()
        try:
            return self.backend.verify(repair, discard, progress or (lambda *_: None))
        finally:
            if repair:
                self.tier.clear()

    def gc(self, *, grace: float | str | timedelta = "1 h", dry_run: bool = False) -> Collected:
        """Remove values and blobs that nothing references; how many, and their bytes.

        Args:
            grace: where a medium has no lock that its writers hold, what was seen unreferenced so
                long ago and still is goes. A directory has one, and needs no grace.
            dry_run: only say what would go.

        Raises:
            StoreError: the store can't be written, or its writers leave no gap.
        """
        from wellkept.caches import maintenance  # as above

        return maintenance.collect(self, parse_duration(grace), dry_run)

    def query(self, function: Any = None, /, **filters: Any) -> Matches:
        """The kept calls for which all this holds; nothing is read before the answer is used.

        Args:
            function: a kept function, its name, or a pattern (`*`, `?`, `[…]`), with or without the
                module before it.
            filters: `where` (a function of a `Match`), `arguments` (a mapping), `given`, `key`,
                `result`, `module`, `code`, `version`,
                `state`; `created`, `since`, `until`, `used`, `expires` (times); `seconds`, `size`, `uses`;
                `run`, `tags`, `metadata`. A value, `wellkept.ANY`, or `wellkept.between(…)` and its like.

        Raises:
            ConfigError: no such filter, or not what it may be.
            Undigestible: a value has no identity.
        """
        from wellkept.query import Matches  # who only calls kept functions never pays for it

        if function is not None:
            filters = {"function": function, **filters}
        fits = filters.pop("where", None)
        found = Matches(self).where(**filters)
        return found if fits is None else found.filter(fits)

    def transfer(
        self,
        target: Cache,
        where: Callable[[Call], bool] | Matches | None = None,
        *,
        move: bool = False,
        overwrite: bool | str = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Moved:
        """Copy (or move) calls with their results to another cache.

        Args:
            where: which: a function of a call, or the answer to a query; all by default.
            move: forget them here, once all are there.
            overwrite: what becomes of another result that the target has of the same call: it stays
                (False), goes (True), or goes if it is `"older"`. Where it stays, so does the one here.
            dry_run: only say what would be done.
            progress: called with how many calls were looked at, and of how many.

        Raises:
            StoreError: one of the two can't be read or written. What was copied stays, and
                nothing has been forgotten.
        """
        from wellkept.caches import moving

        return moving.transfer(
            self, target, where, move=move, overwrite=overwrite, dry_run=dry_run, progress=progress
        )

    def transform(
        self,
        function: Callable[[Call], Call | None] | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Moved:
        """Replace each call record by what `function` makes of it, under the key that follows.

        Args:
            function: the new record, or None to forget the call; without one, keys are only made
                anew from function, code and arguments.
            dry_run: only say what would be done.
            progress: see `transfer`.

        Raises:
            StoreError: the store can't be read or written.
        """
        from wellkept.caches import moving

        return moving.transform(self, function, dry_run=dry_run, progress=progress)

    def migrate(
        self, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> Moved:
        """Digest results anew and re-key the calls that have them as arguments, without recomputing:
        after a change of the digest scheme, or of a type.

        What is known of an argument beside its digest is its value, where the record shows it, or
        that it is a kept result. A call with another argument whose digest has changed is computed
        again.

        Args:
            dry_run: only say what would be done.
            progress: see `transfer`; it counts twice as many calls, which are read twice.

        Raises:
            StoreError: the store can't be read or written.
        """
        from wellkept.caches import moving

        return moving.migrate(self, dry_run=dry_run, progress=progress)

    def bind(self, function: F, /) -> F:
        """A function, kept or not, that runs with this cache as the active one, wherever it is called.

        Kept functions with a `cache=` of their own stay with that.

        Raises:
            ConfigError: it is a generator function, whose body runs when somebody asks for its items.
        """
        from wellkept.caches.transport import bound  # who only calls has no need of it

        return bound(function, self)  # type: ignore[return-value]  # it passes for the function

    @staticmethod
    def from_config(config: Mapping[str, Any] | Sequence[Any] | str) -> Cache:
        """Return the cache that a table of a configuration says, or that has this name, path or URL.

        Args:
            config: as in a file: `{"url": …}`, `{"values": …, "calls": …}`, `{"stack": […]}`, `{"pool": […]}`
                or `{"of": …, "limit": {…}}`, with options; parts are names, URLs or tables. A list is a stack.

        Raises:
            ConfigError: it says none, or a variable that it names is not set.
            StoreError: it can't be opened.
        """
        from wellkept.caches.active import from_config  # it opens caches, so it imports this module

        return from_config(config)

    def to_config(self) -> dict[str, Any]:
        """Return the table by which `from_config` makes this cache again; `${NAME}` stands for a secret.

        Raises:
            ConfigError: it can't be said: a function without a name, or a store of another library.
        """
        from wellkept.caches.building import config_of  # as above

        return config_of(self)

    def readonly(self) -> Cache:
        """This cache, never written to: hits are hits, and what is computed is not kept."""
        from wellkept.caches import derived

        return derived.readonly(self)

    def filtered(self, where: Callable[[Call], bool] | Matches) -> Cache:
        """This cache with only the calls for which `where` holds (a function of a call, or the answer
        to a query); it takes no others.
        """
        from wellkept.caches import derived
        from wellkept.query import Matches

        chosen: Any = where.predicate() if isinstance(where, Matches) else where
        return derived.filtered(self, chosen)

    def limited(
        self,
        bytes: int | str | None = None,  # noqa: A002  as users write it: bytes="10 GB"
        calls: int | None = None,
        policy: Policy = "cost",
    ) -> Cache:
        """This cache, kept within limits by what is written through it.

        Args:
            bytes: of results; over it results go, and the records of their calls stay.
            calls: records; over it they go with their results.
            policy: what goes first: `"cost"` what is cheap to compute again per byte and seldom
                used, `"lru"` the least recently used, `"lfu"` the least often, `"fifo"` the oldest. Or
                a function of a call: that for which it is smallest goes first.

        Raises:
            ConfigError: nothing is limited, or no such policy.
        """
        from wellkept.caches import derived, maintenance

        return derived.limited(self, maintenance.limit_of(bytes, calls, policy))

    def size(self) -> Totals:
        """How much it holds: calls, values, blobs, bytes, time computed and saved.

        Raises:
            StoreError: the store can't be read.
        """
        return self.backend.totals()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __str__(self) -> str:
        return redacted(self.url) if self.url else repr(self)

    def __repr__(self) -> str:
        if self.stores is not None:
            values, calls = (type(store).__name__ for store in self.stores)
            return f"<wellkept.Cache values={values} calls={calls}>"
        return f"<wellkept.Cache {redacted(self.url) if self.url else type(self.backend).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.stores is not None:
            return partial(Cache, memory=self.memory), self.stores
        if self.url is None:
            raise TypeError("a cache that was not opened by a path or a URL does not pickle")
        from wellkept.caches.opening import reopen  # it makes caches, so it imports this module

        return reopen, (self.url, self.options)


_open: weakref.WeakSet[Cache] = weakref.WeakSet()


@atexit.register
def close_all() -> None:
    """At exit: flush counts and close, so that SQLite can fold its log into the index."""
    for cache in list(_open):
        with contextlib.suppress(Exception):  # too late for anybody to hear of it
            cache.close()
