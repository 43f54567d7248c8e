"""A cache: what finds and keeps results, and what one does with all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kept.caches.keeper import Keeper
from kept.caches.place import Place
from kept.caches.sizes import parse_duration
from kept.errors import ConfigError
from kept.records import Call, Value
from kept.stores.base import Store
from kept.stores.pair import Pair

if TYPE_CHECKING:
    from datetime import timedelta

    from kept.caches.evict import Evicted
    from kept.caches.moving import Moved
    from kept.caches.summary import Totals
    from kept.caches.verify import Report
    from kept.stores.collect import Collected

__all__ = ["Cache"]


class Cache(Keeper):
    """Keeps calls and results.

    Args:
        values: a store of encoded values.
        calls: a store of call records; any two mix.
        place: a store that holds both, in place of the two.
        memory: how much the memory tier may hold: bytes, or text such as `"256 MB"`; 0 for none.
        url: how to open it again, which is what pickles.

    `kept.open` makes one from a path or a URL.
    """

    def __init__(
        self,
        values: Store[Value] | None = None,
        calls: Store[Call] | None = None,
        *,
        place: Place | None = None,
        memory: int | str = "256 MB",
        url: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if place is None:
            if values is None or calls is None:
                raise ConfigError("a cache needs both stores: Cache(values=…, calls=…)")
            place = Pair(values, calls)
        super().__init__(place, memory)
        self.url = url
        self._options = dict(options or {})

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
        from kept.caches import evict  # who only calls kept functions never pays for it

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
        from kept.caches import verify

        return verify.verify(self, repair=repair, discard=discard, progress=progress)

    def gc(self, *, grace: float | str | timedelta = "1 h") -> Collected:
        """Remove values and blobs that nothing references; how many, and their bytes.

        Args:
            grace: where a medium has no lock that its writers hold, what was seen unreferenced so
                long ago and still is goes. A directory has one, and needs no grace.

        Raises:
            StoreError: the store can't be written, or its writers leave no gap.
        """
        from kept.caches import gc

        return gc.collect(self, parse_duration(grace))

    def transfer(
        self,
        target: Cache,
        where: Callable[[Call], bool] | None = None,
        *,
        move: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Moved:
        """Copy (or move) calls with their results to another cache.

        Args:
            where: which; all by default.
        """
        from kept.caches import moving

        return moving.transfer(self, target, where, move=move, dry_run=dry_run, progress=progress)

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
        """
        from kept.caches import moving

        return moving.transform(self, function, dry_run=dry_run, progress=progress)

    def migrate(
        self, *, dry_run: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> Moved:
        """Digest results and shown arguments anew and re-key the calls, without recomputing: after
        a change of the digest scheme, or of a type.
        """
        from kept.caches import moving

        return moving.migrate(self, dry_run=dry_run, progress=progress)

    def readonly(self) -> Cache:
        """This cache, never written to: hits are hits, and what is computed is not kept."""
        from kept.caches import derived

        return derived.readonly(self)

    def filtered(self, where: Callable[[Call], bool]) -> Cache:
        """This cache with only the calls for which `where` holds; it takes no others."""
        from kept.caches import derived

        return derived.filtered(self, where)

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
        from kept.caches import derived, limits

        return derived.limited(self, limits.limit_of(bytes, calls, policy))

    def size(self) -> Totals:
        """How much it holds: calls, values, blobs, bytes, time computed and saved.

        Raises:
            StoreError: the store can't be read.
        """
        from kept.caches import summary

        return summary.totals(self)

    def __repr__(self) -> str:
        return f"<kept.Cache {self.url or type(self.place).__name__}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.url is None:
            raise TypeError("a cache that was not opened by a path or a URL does not pickle")
        from kept.caches.opening import reopen  # it makes caches, so it imports this module

        return reopen, (self.url, self._options)
