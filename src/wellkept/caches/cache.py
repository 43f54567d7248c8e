"""A cache: what finds and keeps results, and what one does with all of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from wellkept.caches.keeper import Keeper
from wellkept.caches.secrets import redacted
from wellkept.caches.sizes import parse_duration
from wellkept.errors import ConfigError
from wellkept.records import Call
from wellkept.stores.backend import Backend
from wellkept.stores.base import Store

if TYPE_CHECKING:
    from datetime import timedelta

    from wellkept.caches.evict import Evicted
    from wellkept.caches.moving import Moved
    from wellkept.caches.summary import Totals
    from wellkept.caches.verify import Report
    from wellkept.query import Matches
    from wellkept.stores.collect import Collected

__all__ = ["Cache"]


class Cache(Keeper):
    """Keeps calls and results.

    Args:
        values: a store of bytes (`wellkept.stores.Files(…)`), or the URL of one: where results are.
        calls: the same for call records; any two mix, and both may be one.
        place: a store that holds both, in place of the two.
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
        self._stores: tuple[Store[bytes], Store[bytes]] | None = None
        if backend is None:
            if values is None or calls is None:
                raise ConfigError(
                    "a cache needs both stores: Cache(values=…, calls=…), which may be one"
                )
            self._stores = _bytes_store(values), _bytes_store(calls)
            from wellkept.stores.medium import Medium  # who opens a directory has no need of it

            backend = Medium(self._stores[1], self._stores[0])
        super().__init__(backend, memory)
        self.url = url
        self.how: dict[str, Any] = {}
        """How its place is used, where that is shared."""
        self._memory = memory
        self.options = dict(options or {})

    def evict(
        self,
        function: str | None = None,
        *,
        older: float | str | timedelta | None = None,
        keys: Iterable[str] | None = None,
        dry_run: bool = False,
    ) -> Evicted:
        """Throw away calls that fit all that is said, and what nothing references any more.

        Args:
            function: a name or pattern (`*`, `?`, `[…]`), with or without the module before it.
            older: how long ago they were computed, at the least; seconds or text like `"7 d"`.
            keys: their keys or prefixes of them.
            dry_run: only say what would go.

        Raises:
            ConfigError: nothing is said, or not what may be.
            NotKept, AmbiguousDigest: a key names no call, or several.
            StoreError: the store can't be written.
        """
        from wellkept.caches import evict  # who only calls kept functions never pays for it

        return evict.evict(self, function=function, older=older, keys=keys, dry_run=dry_run)

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
        from wellkept.caches import verify

        return verify.verify(self, repair=repair, discard=discard, progress=progress)

    def gc(self, *, grace: float | str | timedelta = "1 h", dry_run: bool = False) -> Collected:
        """Remove values and blobs that nothing references; how many, and their bytes.

        Args:
            grace: where a medium has no lock that its writers hold, what was seen unreferenced so
                long ago and still is goes. A directory has one, and needs no grace.
            dry_run: only say what would go.

        Raises:
            StoreError: the store can't be written, or its writers leave no gap.
        """
        from wellkept.caches import gc

        return gc.collect(self, parse_duration(grace), dry_run=dry_run)

    def query(self, function: Any = None, /, **filters: Any) -> Matches:
        """The kept calls for which all this holds; nothing is read before the answer is used.

        Args:
            function: a kept function, its name, or a pattern (`*`, `?`, `[…]`), with or without the
                module before it.
            filters: `arguments` (a mapping), `given`, `key`, `result`, `module`, `code`, `version`,
                `state`; `created`, `since`, `until`, `used`, `expires` (times); `seconds`, `size`,
                `uses`;
                `run`, `tags`, `metadata`. A value, `wellkept.ANY`, or `wellkept.between(…)` and its like.

        Raises:
            ConfigError: no such filter, or not what it may be.
            Undigestible: a value has no identity.
        """
        from wellkept.query import Matches  # who only calls kept functions never pays for it

        if function is not None:
            filters = {"function": function, **filters}
        return Matches(self).where(**filters)

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
            self,
            target,
            where,
            move=move,
            overwrite=overwrite,
            dry_run=dry_run,
            progress=progress,
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
        policy: str = "cost",
    ) -> Cache:
        """This cache, kept within limits by what is written through it.

        Args:
            bytes: of results; over it results go, and the records of their calls stay.
            calls: records; over it they go with their results.
            policy: what goes first: `"cost"` what is cheap to compute again per byte and seldom
                used, `"lru"` the least recently used, `"lfu"` the least often, `"fifo"` the oldest.

        Raises:
            ConfigError: nothing is limited, or no such policy.
        """
        from wellkept.caches import derived, limits

        return derived.limited(self, limits.limit_of(bytes, calls, policy))

    def size(self) -> Totals:
        """How much it holds: calls, values, blobs, bytes, time computed and saved.

        Raises:
            StoreError: the store can't be read.
        """
        from wellkept.caches import summary

        return summary.totals(self)

    def __str__(self) -> str:
        return redacted(self.url) if self.url else repr(self)

    def __repr__(self) -> str:
        if self._stores is not None:
            values, calls = (type(store).__name__ for store in self._stores)
            return f"<wellkept.Cache values={values} calls={calls}>"
        return f"<wellkept.Cache {redacted(self.url) if self.url else type(self.backend).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._stores is not None:
            return _of_stores, (*self._stores, self._memory)
        if self.url is None:
            raise TypeError("a cache that was not opened by a path or a URL does not pickle")
        from wellkept.caches.opening import reopen  # it makes caches, so it imports this module

        return reopen, (self.url, self.options)


def _of_stores(values: Store[bytes], calls: Store[bytes], memory: int | str) -> Cache:
    return Cache(values, calls, memory=memory)


def _bytes_store(store: Any) -> Store[bytes]:
    if isinstance(store, (str, os.PathLike)):
        from wellkept.caches.opening import open_store  # as above

        return open_store(store)
    if not isinstance(store, Store):
        raise ConfigError(
            f"not a store: {store!r}; it has no get, put, delete and keys. Give one of "
            "wellkept.stores, such as Files(…), or a URL"
        )
    item = str(getattr(type(store).put, "__annotations__", {}).get("item", ""))
    if item.rpartition(".")[2] in ("Call", "Value"):
        raise ConfigError(
            f"{type(store).__name__} is a store of {item}s; a cache holds stores of bytes and codes "
            "records onto them: give one of wellkept.stores, such as Files(…), or a URL"
        )
    found: Store[bytes] = store
    return found
