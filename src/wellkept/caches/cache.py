"""A cache: it finds and keeps results in a backend, with a memory tier before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from wellkept.caches.core import CacheCore
from wellkept.caches.option_text import parse_duration
from wellkept.codecs.paths import PATHS, PLAIN_PATHS
from wellkept.errors import KeptError
from wellkept.records import Argument, Call, Digest, is_special
from wellkept.stores.base import Store

if TYPE_CHECKING:
    from datetime import timedelta

    from wellkept.query import Matches
    from wellkept.stores.reports import Collected, Evicted, Moved, Policy, Report


F = TypeVar("F", bound=Callable[..., Any])

_NAMING = (PATHS, PLAIN_PATHS)
_FLUSH = 15.0  # seconds between flushes of use counts, at the least
_LOOK = 1.0  # seconds between looks whether the place was removed or replaced under us
_MANY = 2000  # counts that are flushed sooner
_NOTES = 200  # notes that are written at once
_SOON = 1.0  # seconds within which they are, while there are more


LARGE = 10_000_000_000
"""Bytes from which a cache without a limit is warned of."""
_DAY = 86_400.0
_SIZED = "notices/size"
"""The note of when a cache was last measured."""


# Parts that no call needs are imported by the methods that use them, so that a program which only
# calls kept functions does not wait for them.
class Cache(CacheCore):
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

    _public = frozenset(
        {
            *("bind", "calls", "clear", "close", "counts", "evict", "expand", "filtered", "flush"),
            *(
                "forget",
                "from_config",
                "gc",
                "limited",
                "load",
                "migrate",
                "put",
                "query",
                "readonly",
            ),
            *(
                "save",
                "shrink",
                "size",
                "to_config",
                "transfer",
                "transform",
                "url",
                "values",
                "verify",
            ),
        }
    )

    def _repr_html_(self) -> str:
        # Only notebooks need it.
        from wellkept.readable import facts

        try:
            about = self.size().about()
        except KeptError as error:
            about = {"can't be read": error}
        return facts(repr(self).strip("<>"), about)

    def __dir__(self) -> list[str]:
        """Return what is for users."""
        names = super().__dir__()
        return sorted(name for name in names if name in self._public or is_special(name))

    def load(self, digest: str) -> Any:
        """The value that a digest, or an unambiguous prefix of one, names.

        Raises:
            NotKept: no such value.
            AmbiguousDigest: the prefix fits several.
            DecodeError: its bytes are damaged.
            StoreError: the store can't be read.
        """
        from wellkept.caches import by_hand

        return by_hand.load(self, digest)

    def expand(self, prefix: str, store: Store[Any] | None = None) -> Digest:
        """The full digest of a call (or of an item of another store) from a prefix of it.

        Raises:
            NotKept: nothing begins so.
            AmbiguousDigest: several do.
        """
        from wellkept.caches import by_hand

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
        from wellkept.caches import by_hand

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
        from wellkept.caches import by_hand

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
        from wellkept.caches import by_hand

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

    def forget(self, key: bytes | str) -> bool:
        """Forget a call; whether it was there.

        Args:
            key: of the call, as `Kept.key` gives it.

        Raises:
            ConfigError: it is none.
            StoreError: the store can't be written.
        """
        if not isinstance(key, bytes):
            key = Digest(key).raw
        self._write_waiting()
        text = key.hex()
        there = self.calls.get(text) is not None
        self._uses.pop(key, None)
        self.calls.delete(text)
        self.tier.clear()
        return there

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
        from wellkept.caches import maintenance

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
        from wellkept.caches import maintenance

        return maintenance.collect(self, parse_duration(grace, option="grace"), dry_run)

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
        from wellkept.query import Matches

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
        from wellkept.caches.transport import bound

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
        from wellkept.caches.building import config_of

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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self.stores is not None:
            return partial(Cache, memory=self.memory), self.stores
        if self.url is None:
            raise TypeError("a cache that was not opened by a path or a URL does not pickle")
        from wellkept.caches.opening import reopen  # it makes caches, so it imports this module

        return reopen, (self.url, self.options)
