"""One store of named state: its keys as a mapping, by FiftyOne's names, and as coroutines."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from wellkept.caches.transport import NEARBY, pack, unpack
from wellkept.errors import ConfigError, NotKept
from wellkept.kv.entry import (
    ABSENT,
    KEEP,
    Name,
    Step,
    check_key,
    dump,
    load,
    utc,
)
from wellkept.kv.plan import each_entry
from wellkept.kv.service import (
    COLLECTION,
    ExecutionStoreService,
    KeyPolicy,
    Policy,
    policy_of,
    relied_on,
    seconds_of,
)
from wellkept.kv.sweeper import sweep, sweeping
from wellkept.kv.watch import Change, watch

if TYPE_CHECKING:
    from wellkept.caches import Cache


class ExecutionStore:
    """Keys and values under a name, for all who reach the medium.

    Args:
        store_name: its name.
        store_service: whose scope it is in.
        default_policy: of keys that are set without one; the store's own by default, if it was made
            with one.

    Raises:
        ConfigError: the name or the policy is none.
    """

    def __init__(
        self,
        store_name: str,
        store_service: ExecutionStoreService,
        default_policy: Policy = "persist",
    ) -> None:
        self.store_name = store_name
        self.service = store_service
        self._policy = policy_of(default_policy)
        self.name: Name = store_service.name(store_name)
        """Its full name: collection, scope and name."""
        self._entries = store_service.entries

    @staticmethod
    def create(
        store_name: str,
        dataset_id: Any = None,
        default_policy: Policy = "persist",
        collection_name: str | None = None,
        *,
        cache: Cache | str | os.PathLike[str] | None = None,
    ) -> ExecutionStore:
        """A store of a scope, which need not be there; raises as `ExecutionStoreService`."""
        service = ExecutionStoreService(
            dataset_id=dataset_id, collection_name=collection_name, cache=cache
        )
        return ExecutionStore(store_name, service, default_policy)

    def list_stores(self) -> list[str]:
        """The stores of its scope."""
        return self.service.list_stores()

    # -- reading ----------------------------------------------------------------------------------

    def get(self, key: str, default: Any = None) -> Any:
        """A key's value.

        Raises:
            DamagedValue: what is stored is not what was written.
            DecodeError: it can't be decoded here.
            StoreError: it can't be read.
        """
        if type(key) is not str:
            check_key(key)
        found = self._entries.get(self.name, key)
        return default if found is None else load(found.data)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of the keys that are there."""
        found = ((key, self._entries.get(self.name, check_key(key))) for key in keys)
        return {key: load(entry.data) for key, entry in found if entry is not None}

    def __getitem__(self, key: str) -> Any:
        found = self._entries.get(self.name, check_key(key))
        if found is None:
            raise NotKept(f"the store {self.store_name!r} has no key {key!r}")
        return load(found.data)

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        return self._entries.get(self.name, check_key(key)) is not None

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self.has(key)

    def __len__(self) -> int:
        return self.count()

    def __bool__(self) -> bool:
        return True  # or `if store:` would count its keys

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def count(self, prefix: str = "") -> int:
        """How many keys begin with `prefix`."""
        return self._entries.count(self.name, check_key(prefix))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, in their order."""
        return (entry.key for entry in each_entry(self._entries, self.name, prefix, data=False))

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The same, with their values."""
        return ((e.key, load(e.data)) for e in each_entry(self._entries, self.name, prefix))

    def values(self, prefix: str = "") -> Iterator[Any]:
        """Their values."""
        return (load(entry.data) for entry in each_entry(self._entries, self.name, prefix))

    def list_keys(self, prefix: str = "") -> list[str]:
        """The keys that begin with `prefix`, in their order."""
        return list(self.keys(prefix))

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """When a key was made and changed and will expire, its policy, its revision, and the seconds
        it has left; None if it is not there."""
        found = self._entries.get(self.name, check_key(key))
        if found is None:
            return None
        left = None if found.expires is None else max(0.0, found.expires - self._entries.now())
        return {
            "created_at": utc(found.created),
            "updated_at": utc(found.updated),
            "expires_at": utc(found.expires),
            "policy": KeyPolicy(found.policy),
            "revision": found.revision,
            "ttl": left,
        }

    @property
    def revision(self) -> int:
        """That of the last change on the medium: what `watch(since=…)` goes on from."""
        return self._entries.newest()

    def list_values(
        self, key_prefix: str | None = None, exclude_fields: Collection[str] | None = None
    ) -> list[Any]:
        """See `ExecutionStoreService.list_values`."""
        return self.service.list_values(self.store_name, key_prefix, exclude_fields)

    # -- writing ----------------------------------------------------------------------------------

    def set(
        self,
        key: str,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Set a key, in place of what it was: without a TTL it does not expire any more.

        Args:
            ttl: after how many seconds (or text such as `"12 h"`) it is gone. It may be evicted
                before that, unless it is held.
            policy: `"persist"`, `"evict"` or `"held"`; the store's default policy.

        Raises:
            ConfigError: the key, the TTL or the policy is none.
            EncodeError: the value can't be encoded.
            StoreError: it can't be written, or the store is full.
        """
        self._put(check_key(key), value, ttl, policy)

    def _put(self, key: str, value: Any, ttl: Any, policy: Policy | None) -> None:
        chosen = (self._policy if policy is None else policy_of(policy)).value
        lasts = None if ttl is None else seconds_of(ttl)
        self._entries.apply(self.name, (Step(key, dump(value), lasts, chosen),))
        if lasts is not None:
            sweeping(self._entries)

    def __setitem__(self, key: str, value: Any) -> None:
        self._put(check_key(key), value, None, None)

    def set_cache(self, key: str, value: Any, ttl: float | str | timedelta | None = None) -> None:
        """Set a key that may be evicted; raises as `set`."""
        self.set(key, value, ttl, "evict")

    def set_if_absent(
        self,
        key: str,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: Policy | None = None,
    ) -> bool:
        """Set a key if it is not there, atomically; whether it was not. Raises as `set`.

        With a TTL it is held until then, unless it may be evicted: somebody relies on it.
        """
        chosen = self._policy if policy is None else policy
        return self.service.set_key_if_absent(self.store_name, key, value, ttl, chosen)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """A key's value, which is `default` from now on if there was none."""
        while True:
            found = self._entries.get(self.name, check_key(key))
            if found is not None:
                return load(found.data)
            if self.set_if_absent(key, default):
                return default

    def compare_and_set(
        self,
        key: str,
        expected: Any,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: Policy | None = None,
        *,
        revision: int | None = None,
    ) -> bool:
        """Set a key if its value equals `expected`, atomically; whether it did.

        Args:
            ttl, policy: without them what the key had stays.
            revision: what its revision must be; `expected` is not looked at then.

        Raises as `set`.
        """
        return self.service.compare_and_set_key(
            self.store_name, key, expected, value, ttl, policy, revision=revision
        )

    def modify(
        self,
        key: str,
        function: Callable[[Any], Any],
        default: Any = None,
        *,
        ttl: float | str | timedelta | None = None,
        policy: Policy | None = None,
    ) -> Any:
        """Set a key to what `function` makes of its value (or of `default`), atomically: it is called
        again if others were faster. What it made.

        Args:
            ttl, policy: of a key that was not there, as `set_if_absent` takes them; what a key has
                stays.

        Raises as `set`, and what `function` does.
        """
        check_key(key)
        lasts, chosen = relied_on(ttl, self._policy if policy is None else policy)
        while True:
            found = self._entries.get(self.name, key)
            value = function(default if found is None else load(found.data))
            step = Step(key, dump(value), lasts, chosen, ABSENT)
            if found is not None:
                step = step._replace(ttl=KEEP, policy=KEEP, when=found.revision)
            if self.service.apply(self.name, step) is not None:
                return value

    def increment(
        self,
        key: str,
        by: float = 1,
        default: float = 0,
        *,
        ttl: float | str | timedelta | None = None,
        policy: Policy | None = None,
    ) -> Any:
        """Add to a number, atomically; the sum.

        Args:
            ttl, policy: of a number that was not there: it is gone so long after its first increment,
                and later ones do not prolong it.

        Raises:
            ConfigError: the key has something else.
        """

        def add(value: Any) -> Any:
            for number in (value, by):
                if isinstance(number, bool) or not isinstance(number, (int, float)):
                    raise ConfigError(f"can't add to {key!r}: {number!r:.80} is not a number")
            return value + by

        return self.modify(key, add, default, ttl=ttl, policy=policy)

    def update(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        ttl: float | str | timedelta | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Set many keys in one transaction: all or none; raises as `set`."""
        chosen = (self._policy if policy is None else policy_of(policy)).value
        lasts = seconds_of(ttl)
        steps = [Step(check_key(k), dump(v), lasts, chosen) for k, v in dict(items).items()]
        if steps:
            self.service.apply(self.name, *steps)

    def delete(self, key: str, *, expected: Any = KEEP, revision: int | None = None) -> bool:
        """Delete a key, atomically; whether that was done.

        Args:
            expected: only if this is its value, compared as by `compare_and_set`.
            revision: only if this is its revision; `expected` is not looked at then.
        """
        return self.service.delete_key(self.store_name, key, expected=expected, revision=revision)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise NotKept(f"the store {self.store_name!r} has no key {key!r}")

    def pop(self, key: str, *default: Any) -> Any:
        """A key's value, deleting it; without the key `default`, or an error.

        Raises:
            NotKept: it is not there, and no default is given.
        """
        while True:
            found = self._entries.get(self.name, check_key(key))
            if found is None:
                if default:
                    return default[0]
                raise NotKept(f"the store {self.store_name!r} has no key {key!r}")
            if self.delete(key, revision=found.revision):
                return load(found.data)

    def clear(self) -> None:
        """Delete all keys. A store that was made stays, with its metadata."""
        self._entries.remove(self.name, "all", None)

    def clear_cache(self) -> None:
        """Delete the keys that may be evicted, and no others."""
        self._entries.remove(self.name, "evictable", None)

    def update_ttl(self, key: str, new_ttl: float | str | timedelta | None) -> None:
        """Let a key expire so many seconds from now, or with None never."""
        self.service.update_ttl(self.store_name, key, new_ttl)

    def update_policy(self, key: str, policy: Policy) -> None:
        """Give a key another policy. With `"persist"` it does not expire any more."""
        self.service.update_policy(self.store_name, key, policy)

    def touch(self, key: str) -> bool:
        """See `ExecutionStoreService.touch_key`."""
        return self.service.touch_key(self.store_name, key)

    def sweep(self) -> int:
        """Remove what has expired on the medium now, and not in the background; how many."""
        return sweep(self._entries)

    # -- changes ----------------------------------------------------------------------------------

    def watch(
        self,
        prefix: str = "",
        since: int | None = None,
        *,
        timeout: float | None = None,
        patience: float = 60.0,
    ) -> Iterator[Change]:
        """The changes of the keys that begin with `prefix`, each once and in order, as they happen.

        Args:
            since: from the change after this revision on; None: from now on.
            timeout: seconds without a change after which the iteration ends.
            patience: seconds for which the medium may be away.

        Raises:
            StoreError: the log does not go back to `since`, or the medium stayed away.
        """
        check_key(prefix)
        return watch(self._entries, self.name, prefix, since, timeout=timeout, patience=patience)

    def subscribe(self, callback: Callable[[Change], object]) -> str:
        """See `ExecutionStoreService.subscribe`."""
        return self.service.subscribe(self.store_name, callback)

    def unsubscribe(self, subscription_id: str) -> bool:
        """End a subscription; whether there was one."""
        return self.service.unsubscribe(subscription_id)

    @property
    def aio(self) -> AsyncStore:
        """The same, to be awaited."""

        return AsyncStore(self)

    # -- elsewhere --------------------------------------------------------------------------------

    def __copy__(self) -> ExecutionStore:
        return self  # nothing in it changes

    def __deepcopy__(self, _: Any) -> ExecutionStore:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        packed = pack(self.service.cache)
        if packed == NEARBY:
            raise TypeError(
                f"{self!r} does not pickle: it is in the memory of this process, which no other one reaches"
            )
        service = self.service
        about = (service.collection, service.dataset_id, self.store_name, self._policy.value)
        return _sent, (packed, *about)

    def __repr__(self) -> str:
        scope = self.service.dataset_id
        within = "" if scope is None else f" in {scope!r}"
        return f"<wellkept.kv.ExecutionStore {self.store_name!r}{within}>"


def _sent(packed: bytes, collection: str, scope: Any, name: str, policy: Policy) -> ExecutionStore:
    """Return a store that another process sent."""
    return ExecutionStore.create(name, scope, policy, collection, cache=unpack(packed))


def store(
    name: str,
    scope: Any = None,
    *,
    cache: Cache | str | os.PathLike[str] | None = None,
    policy: Policy = "persist",
    collection: str = COLLECTION,
) -> ExecutionStore:
    """A named store.

    Args:
        scope: text or an id that it belongs to, such as a dataset's; None: to none of them.
        cache: on whose medium it is: a cache, its name, a path or a URL; the active one.
        policy: of keys that are set without one: `"persist"`, or `"evict"`.
        collection: stores in another collection are other stores.

    Raises:
        ConfigError: a name or the policy is none, or the medium can't hold named state.
        StoreError: the medium can't be opened.
    """
    return ExecutionStore.create(name, scope, policy, collection, cache=cache)


_LISTS = ("keys", "items", "values")
_PLAIN = (
    *("get", "get_many", "has", "count", "list_keys", "get_metadata", "set", "set_cache"),
    *("set_if_absent", "setdefault", "compare_and_set", "modify", "increment", "update", "delete"),
    *("pop", "clear", "clear_cache", "update_ttl", "update_policy", "sweep", "list_stores"),
    *("subscribe", "unsubscribe", "touch", "list_values"),
)


class AsyncStore:
    """`await store.aio.get(key)` and so on, in threads: of each method of the store that reads or
    writes, with the same arguments and errors. `keys`, `items` and `values` give lists."""

    def __init__(self, store: ExecutionStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        if name not in _PLAIN and name not in _LISTS:
            raise AttributeError(f"a store has no {name!r} to await")
        method = getattr(self._store, name)

        async def call(*args: Any, **options: Any) -> Any:
            if name in _LISTS:
                return await asyncio.to_thread(lambda: list(method(*args, **options)))
            return await asyncio.to_thread(method, *args, **options)

        return call

    async def watch(
        self,
        prefix: str = "",
        since: int | None = None,
        *,
        timeout: float | None = None,
        patience: float = 60.0,
    ) -> AsyncIterator[Change]:
        """See `ExecutionStore.watch`; cancelling the task ends it."""
        store, stop = self._store, threading.Event()
        begun = await asyncio.to_thread(
            watch,
            *(store._entries, store.name, prefix, since),
            timeout=timeout,
            patience=patience,
            stop=stop,
        )
        try:
            while True:
                change = await asyncio.to_thread(next, begun, None)
                if change is None:
                    return
                yield change
        finally:
            stop.set()
