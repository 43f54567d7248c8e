"""Named state as its users see it: the stores of a scope, one store as a mapping, and their documents."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Self

from wellkept.caches.option_text import parse_duration, parse_size
from wellkept.errors import ConfigError, NotKept
from wellkept.kv.backends import entries_of
from wellkept.kv.entry import (
    ABSENT,
    ANY,
    KEEP,
    PRESENT,
    About,
    Entry,
    Name,
    Step,
    check_key,
    dump,
    load,
    name_of,
    scope_of,
    utc,
)
from wellkept.kv.plan import Entries, each_entry
from wellkept.kv.sweeper import sweep, sweeping
from wellkept.kv.watch import Change, subscribe, unsubscribe, watch

if TYPE_CHECKING:
    from wellkept.caches import Cache


class KeyPolicy(str, Enum):  # noqa: UP042  as FiftyOne's is: `str()` of it tells
    """What may become of a key without being told."""

    PERSIST = "persist"
    """It stays until it is deleted."""
    EVICT = "evict"
    """It may be removed: by `clear_cache`, when its TTL has passed, when its store is full."""
    HELD = "held"
    """It stays until it is deleted or its TTL has passed: a lock, or a job."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass
class KeyDocument:
    """A key of a store, and what is known of it. Times are in UTC, and say so."""

    store_name: str
    key: str
    value: Any
    _id: Any = None
    dataset_id: Any = None
    """The scope."""
    created_at: datetime = field(default_factory=_now)
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    policy: KeyPolicy = KeyPolicy.PERSIST
    revision: int | None = None
    """That of its last change."""

    @staticmethod
    def get_expiration(ttl: float | None) -> datetime | None:
        """When a key with this TTL, in seconds, would expire if it were set now."""
        return None if ttl is None else _now() + timedelta(seconds=ttl)

    @classmethod
    def from_dict(cls, doc: dict[str, Any]) -> Self:
        """From what `to_mongo_dict` gives.

        Raises:
            ConfigError: it has an unknown policy.
        """
        known = dict(doc)
        policy = known.pop("policy", None)
        if policy is None:
            policy = KeyPolicy.EVICT if known.get("expires_at") else KeyPolicy.PERSIST
        return cls(**known, policy=policy_of(policy))

    def to_mongo_dict(self, exclude_id: bool = True) -> dict[str, Any]:
        """As a plain dict, with the policy as text."""
        data = {each.name: getattr(self, each.name) for each in fields(self)}
        data["policy"] = self.policy.value
        if exclude_id:
            del data["_id"]
        return data


@dataclass
class StoreDocument(KeyDocument):
    """A store itself. Its `key` is a name that FiftyOne reserves; here a user's key may have it."""

    key: str = "__store__"
    value: dict[str, Any] | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """What the store was made with."""
        return self.value or {}


def policy_of(policy: Any) -> KeyPolicy:
    """A policy by its name.

    Raises:
        ConfigError: there is no such policy.
    """
    try:
        return KeyPolicy(policy)
    except ValueError:
        raise ConfigError(f"a policy is 'persist', 'evict' or 'held', not {policy!r:.80}") from None


COLLECTION = "execution_store"
"""The collection of stores that none was named for."""


class ExecutionStoreService:
    """What is done with the stores of one scope; `None` is a scope of its own.

    Args:
        repo: another service, whose medium, scope and collection this one shares.
        dataset_id: the scope: text, or an id.
        collection_name: stores in another collection are other stores.
        cache: on whose medium they are: a cache, its name, a path or a URL; the active one.

    Raises:
        ConfigError: the scope is neither text nor an id, or the medium can't hold named state.
        StoreError: the medium can't be opened.
    """

    def __init__(
        self,
        repo: ExecutionStoreService | None = None,
        dataset_id: Any = None,
        collection_name: str | None = None,
        *,
        cache: Cache | str | os.PathLike[str] | None = None,
    ) -> None:
        if repo is not None:
            if not isinstance(repo, ExecutionStoreService):
                raise ConfigError(f"repo is an ExecutionStoreService, not {repo!r:.80}")
            dataset_id, collection_name = repo.dataset_id, repo.collection
        self.dataset_id: Any = dataset_id
        self.collection: str = collection_name or COLLECTION
        self.entries: Entries = entries_of(cache) if repo is None else repo.entries
        self._scope = scope_of(self.dataset_id)

    def name(self, store_name: str) -> Name:
        """The full name of a store of this scope."""
        return name_of(self.collection, self.dataset_id, store_name)

    # -- stores -----------------------------------------------------------------------------------

    def create_store(
        self,
        store_name: str,
        metadata: Mapping[str, Any] | None = None,
        policy: str = "persist",
        *,
        max_keys: int | None = None,
        max_bytes: int | str | None = None,
    ) -> StoreDocument:
        """Make a store. One that is not made is there for as long as it has keys.

        Args:
            metadata: what JSON can hold.
            policy: of keys that are set without one.
            max_keys: how many keys it may have: over it those go that may be evicted, the longest
                unchanged first, and if none may, setting another is an error.
            max_bytes: the same for keys and encoded values together.

        Raises:
            ConfigError: it is there already, or an argument is wrong.
        """
        name = self.name(store_name)
        known = None if metadata is None else _plain(metadata)
        if max_keys is not None and (type(max_keys) is not int or max_keys < 1):
            raise ConfigError(f"max_keys is a number above 0, not {max_keys!r}")
        size = None if max_bytes is None else parse_size(max_bytes)
        about = About(name, True, known, policy_of(policy).value, 0.0, max_keys, size)
        if not self.entries.declare(about):
            raise ConfigError(
                f"there is a store {store_name!r} in this scope: use it, or delete it first"
            )
        found = self.get_store(store_name)
        return self._store_document(about) if found is None else found

    def get_store(self, store_name: str) -> StoreDocument | None:
        """A store's document; None if there is none of that name."""
        found = self.entries.abouts(*self.name(store_name))
        return self._store_document(found[0]) if found else None

    def has_store(self, store_name: str) -> bool:
        """Whether there is such a store in this scope."""
        return bool(self.entries.abouts(*self.name(store_name)))

    def list_stores(self) -> list[str]:
        """The names of this scope's stores, in order."""
        found = self.entries.abouts(self.collection, self._scope, None)
        return sorted(about.name.store for about in found)

    def count_stores(self) -> int:
        """How many stores this scope has."""
        return len(self.list_stores())

    def delete_store(self, store_name: str) -> StoreDocument | None:
        """Remove a store with all its keys; what it was, or None if there was none."""
        document = self.get_store(store_name)
        removed = self.entries.drop(self.name(store_name))
        return None if removed is None else document

    def cleanup(self) -> int:
        """Remove every store of this scope; how many there were."""
        return sum(self.delete_store(name) is not None for name in self.list_stores())

    def clear_cache(self, store_name: str | None = None) -> int:
        """Remove the keys that may be evicted, and no others, from one store or all of this scope;
        how many there were."""
        names = self.list_stores() if store_name is None else [store_name]
        return sum(self.entries.remove(self.name(name), "evictable", None) for name in names)

    # -- keys -------------------------------------------------------------------------------------

    def set_key(
        self,
        store_name: str,
        key: str,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: str = "persist",
    ) -> KeyDocument:
        """Set a key, in place of what it was: without a TTL it does not expire any more.

        Args:
            ttl: after how many seconds (or text such as `"12 h"`) it is gone. It may be evicted
                then, whatever the policy says.
            policy: `"persist"` or `"evict"`.

        Raises:
            ConfigError: the key, the TTL or the policy is none.
            EncodeError: the value can't be encoded.
            StoreError: it can't be written.
        """
        name = self.name(store_name)
        step = Step(check_key(key), dump(value), seconds_of(ttl), policy_of(policy).value)
        done = self.apply(name, step)
        assert done is not None  # it asks for nothing
        return self._document(name, done, value)

    def set_cache_key(
        self, store_name: str, key: str, value: Any, ttl: float | str | timedelta | None = None
    ) -> KeyDocument:
        """Set a key that may be evicted; raises as `set_key`."""
        return self.set_key(store_name, key, value, ttl, "evict")

    def set_key_if_absent(
        self,
        store_name: str,
        key: str,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: str = "persist",
    ) -> bool:
        """Set a key if it is not there, atomically; whether it was not. Raises as `set_key`."""
        step = Step(check_key(key), dump(value), seconds_of(ttl), policy_of(policy).value, ABSENT)
        return self.apply(self.name(store_name), step) is not None

    def compare_and_set_key(
        self,
        store_name: str,
        key: str,
        expected: Any,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: str | None = None,
        *,
        revision: int | None = None,
    ) -> bool:
        """Set a key if its value equals `expected`, atomically; whether it did.

        Args:
            ttl, policy: without them what the key had stays.
            revision: what its revision must be; `expected` is not looked at then.

        Raises as `set_key`.
        """
        name = self.name(store_name)
        lasts = KEEP if ttl is None else seconds_of(ttl)
        chosen = KEEP if policy is None else policy_of(policy).value
        step = Step(check_key(key), dump(value), lasts, chosen)
        while True:
            when = revision
            if when is None:
                found = self.entries.get(name, key)
                if found is None or not _equal(load(found.data), expected):
                    return False
                when = found.revision
            elif type(when) is not int or when < 1:
                raise ConfigError(f"a revision is a number above 0, not {when!r:.80}")
            if self.apply(name, step._replace(when=when)) is not None:
                return True
            if revision is not None:
                return False

    def has_key(self, store_name: str, key: str) -> bool:
        """Whether a key is there."""
        return self.entries.get(self.name(store_name), check_key(key)) is not None

    def get_key(self, store_name: str, key: str) -> KeyDocument | None:
        """A key's document, or None.

        Raises:
            DamagedValue: what is stored is not what was written.
            DecodeError: it can't be decoded here.
            StoreError: it can't be read.
        """
        name = self.name(store_name)
        found = self.entries.get(name, check_key(key))
        return None if found is None else self._document(name, found, load(found.data))

    def delete_key(self, store_name: str, key: str) -> bool:
        """Delete a key; whether it was there."""
        step = Step(check_key(key), when=PRESENT, drop=True)
        return self.entries.apply(self.name(store_name), [step]) is not None

    def update_ttl(
        self, store_name: str, key: str, new_ttl: float | str | timedelta | None
    ) -> KeyDocument | None:
        """Let a key expire so many seconds from now, or with None never; None if it is not there.

        Raises:
            ConfigError: it is no TTL.
        """
        step = Step(check_key(key), KEEP, seconds_of(new_ttl), KEEP, PRESENT)
        return self._touched(store_name, step)

    def update_policy(self, store_name: str, key: str, policy: str) -> KeyDocument | None:
        """Give a key another policy; None if it is not there. With `"persist"` it does not expire
        any more.

        Raises:
            ConfigError: there is no such policy.
        """
        step = Step(check_key(key), KEEP, KEEP, policy_of(policy).value, PRESENT)
        return self._touched(store_name, step)

    def _touched(self, store_name: str, step: Step) -> KeyDocument | None:
        name = self.name(store_name)
        done = self.apply(name, step)
        return None if done is None else self._document(name, done, load(done.data))

    def list_keys(self, store_name: str, prefix: str = "") -> list[str]:
        """A store's keys that begin with `prefix`, in the order of their letters."""
        found = each_entry(self.entries, self.name(store_name), prefix, data=False)
        return [entry.key for entry in found]

    def count_keys(self, store_name: str, prefix: str = "") -> int:
        """How many keys of a store begin with `prefix`."""
        return self.entries.count(self.name(store_name), check_key(prefix))

    def apply(self, name: Name, step: Step) -> Entry | None:
        """Take one step; None if it does not fit what is there."""
        done = self.entries.apply(name, [step])
        if step.ttl is not None:
            sweeping(self.entries)
        return None if done is None else done[0]

    # -- all scopes -------------------------------------------------------------------------------

    def has_store_global(self, store_name: str) -> bool:
        """Whether a scope, or none, has such a store."""
        return bool(self.entries.abouts(self.collection, None, self.name(store_name).store))

    def list_stores_global(self) -> list[StoreDocument]:
        """The stores of all scopes and of none, each once for each scope."""
        found = self.entries.abouts(self.collection, None, None)
        return [
            self._store_document(about) for about in sorted(found, key=lambda about: about.name)
        ]

    def count_stores_global(self) -> int:
        """How many these are."""
        return len(self.entries.abouts(self.collection, None, None))

    def delete_store_global(self, store_name: str) -> int:
        """Remove the stores of that name from all scopes and from none; how many there were."""
        found = self.entries.abouts(self.collection, None, self.name(store_name).store)
        return sum(self.entries.drop(about.name) is not None for about in found)

    # -- changes ----------------------------------------------------------------------------------

    def subscribe(self, store_name: str, callback: Callable[[Change], object]) -> str:
        """Have `callback` called with each change of a store from now on, in their order, in a
        thread of its own; the subscription's id. An exception of it is a warning."""
        return subscribe(self.entries, self.name(store_name), callback)

    def unsubscribe(self, subscription_id: str) -> bool:
        """End a subscription; whether there was one. No call of it begins afterwards."""
        return unsubscribe(subscription_id)

    # -- documents --------------------------------------------------------------------------------

    def _document(self, name: Name, entry: Entry, value: Any) -> KeyDocument:
        return KeyDocument(
            name.store,
            entry.key,
            value,
            dataset_id=self.dataset_id,
            created_at=utc(entry.created),  # type: ignore[arg-type]  # of a number, a date
            updated_at=utc(entry.updated),
            expires_at=utc(entry.expires),
            policy=KeyPolicy(entry.policy),
            revision=entry.revision,
        )

    def _store_document(self, about: About) -> StoreDocument:
        mine = about.name.scope == self._scope
        known = dict(about.metadata) if about.metadata is not None else None
        document = StoreDocument(about.name.store, value=known, policy=KeyPolicy(about.policy))
        document.dataset_id = self.dataset_id if mine else about.name.scope[1:] or None
        if about.name.scope == ".":
            document.dataset_id = ""
        document.created_at = utc(about.created) or document.created_at
        return document


def seconds_of(ttl: float | str | timedelta | None) -> float | None:
    """A TTL in seconds.

    Raises:
        ConfigError: it is none, or not above 0.
    """
    if ttl is None:
        return None
    seconds = parse_duration(ttl)
    if not 0 < seconds < 1e11:
        raise ConfigError(f"a ttl is a positive number of seconds, not {ttl!r}")
    return seconds


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    try:
        made = json.loads(json.dumps(dict(metadata), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"a store's metadata is what JSON can hold: {error}") from error
    if not isinstance(made, dict):
        raise ConfigError("a store's metadata is a dict")
    return made


def _equal(value: Any, expected: Any) -> bool:
    """Equal as Python says, and of one type, so that 1 is neither True nor 1.0; arrays by all of
    their elements."""
    if type(value) is not type(expected):
        return False
    found = value == expected
    if type(found) is bool:
        return found
    return dump(value) == dump(expected)


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
        default_policy: str = "persist",
    ) -> None:
        self.store_name = store_name
        self.service = store_service
        self._policy = policy_of(default_policy).value
        self._name: Name = store_service.name(store_name)
        self._entries = store_service.entries

    @staticmethod
    def create(
        store_name: str,
        dataset_id: Any = None,
        default_policy: str = "persist",
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
        found = self._entries.get(self._name, key)
        return default if found is None else load(found.data)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values of the keys that are there."""
        found = ((key, self._entries.get(self._name, check_key(key))) for key in keys)
        return {key: load(entry.data) for key, entry in found if entry is not None}

    def __getitem__(self, key: str) -> Any:
        found = self._entries.get(self._name, check_key(key))
        if found is None:
            raise NotKept(f"the store {self.store_name!r} has no key {key!r}")
        return load(found.data)

    def has(self, key: str) -> bool:
        """Whether a key is there."""
        return self._entries.get(self._name, check_key(key)) is not None

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
        return self._entries.count(self._name, check_key(prefix))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, in their order."""
        return (entry.key for entry in each_entry(self._entries, self._name, prefix, data=False))

    def items(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """The same, with their values."""
        return ((e.key, load(e.data)) for e in each_entry(self._entries, self._name, prefix))

    def values(self, prefix: str = "") -> Iterator[Any]:
        """Their values."""
        return (load(entry.data) for entry in each_entry(self._entries, self._name, prefix))

    def list_keys(self, prefix: str = "") -> list[str]:
        """The keys that begin with `prefix`, in their order."""
        return list(self.keys(prefix))

    def get_metadata(self, key: str) -> dict[str, Any] | None:
        """When a key was made and changed and will expire, its policy, its revision, and the seconds
        it has left; None if it is not there."""
        found = self._entries.get(self._name, check_key(key))
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

    # -- writing ----------------------------------------------------------------------------------

    def set(
        self,
        key: str,
        value: Any,
        ttl: float | str | timedelta | None = None,
        policy: str | None = None,
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

    def _put(
        self, key: str, value: Any, ttl: Any, policy: str | None, when: int = ANY
    ) -> Entry | None:
        chosen = self._policy if policy is None else policy_of(policy).value
        lasts = None if ttl is None else seconds_of(ttl)
        done = self._entries.apply(self._name, (Step(key, dump(value), lasts, chosen, when),))
        if lasts is not None:
            sweeping(self._entries)
        return None if done is None else done[0]

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
        policy: str | None = None,
    ) -> bool:
        """Set a key if it is not there, atomically; whether it was not. Raises as `set`.

        With a TTL and no policy it is held: it stands for somebody who relies on it until then.
        """
        if ttl is not None and policy is None and self._policy == "persist":
            policy = "held"
        return self._put(check_key(key), value, ttl, policy, ABSENT) is not None

    def setdefault(self, key: str, default: Any = None) -> Any:
        """A key's value, which is `default` from now on if there was none."""
        while True:
            found = self._entries.get(self._name, check_key(key))
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
        policy: str | None = None,
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

    def modify(self, key: str, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Set a key to what `function` makes of its value (or of `default`), atomically: it is called
        again if others were faster. TTL and policy stay. What it made.

        Raises as `set`, and what `function` does.
        """
        check_key(key)
        while True:
            found = self._entries.get(self._name, key)
            value = function(default if found is None else load(found.data))
            when = ABSENT if found is None else found.revision
            policy = self._policy if found is None else KEEP
            step = Step(key, dump(value), KEEP, policy, when)
            if self._entries.apply(self._name, (step,)) is not None:
                return value

    def increment(self, key: str, by: float = 1, default: float = 0) -> Any:
        """Add to a number, atomically; the sum.

        Raises:
            ConfigError: the key has something else.
        """

        def add(value: Any) -> Any:
            for number in (value, by):
                if isinstance(number, bool) or not isinstance(number, (int, float)):
                    raise ConfigError(f"can't add to {key!r}: {number!r:.80} is not a number")
            return value + by

        return self.modify(key, add, default)

    def update(
        self,
        items: Mapping[str, Any] | Iterable[tuple[str, Any]],
        ttl: float | str | timedelta | None = None,
        policy: str | None = None,
    ) -> None:
        """Set many keys in one transaction: all or none; raises as `set`."""
        chosen = self._policy if policy is None else policy_of(policy).value
        lasts = seconds_of(ttl)
        steps = [Step(check_key(k), dump(v), lasts, chosen) for k, v in dict(items).items()]
        if steps:
            self._entries.apply(self._name, steps)
            if ttl is not None:
                sweeping(self._entries)

    def delete(self, key: str) -> bool:
        """Delete a key; whether it was there."""
        return self.service.delete_key(self.store_name, key)

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise NotKept(f"the store {self.store_name!r} has no key {key!r}")

    def pop(self, key: str, *default: Any) -> Any:
        """A key's value, deleting it; without the key `default`, or an error.

        Raises:
            NotKept: it is not there, and no default is given.
        """
        while True:
            found = self._entries.get(self._name, check_key(key))
            if found is None:
                if default:
                    return default[0]
                raise NotKept(f"the store {self.store_name!r} has no key {key!r}")
            step = Step(key, when=found.revision, drop=True)
            if self._entries.apply(self._name, (step,)) is not None:
                return load(found.data)

    def clear(self) -> None:
        """Delete all keys. A store that was made stays, with its metadata."""
        self._entries.remove(self._name, "all", None)

    def clear_cache(self) -> None:
        """Delete the keys that may be evicted, and no others."""
        self._entries.remove(self._name, "evictable", None)

    def update_ttl(self, key: str, new_ttl: float | str | timedelta | None) -> None:
        """Let a key expire so many seconds from now, or with None never."""
        self.service.update_ttl(self.store_name, key, new_ttl)

    def update_policy(self, key: str, policy: str) -> None:
        """Give a key another policy. With `"persist"` it does not expire any more."""
        self.service.update_policy(self.store_name, key, policy)

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
        return watch(self._entries, self._name, prefix, since, timeout=timeout, patience=patience)

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

    def __repr__(self) -> str:
        scope = self.service.dataset_id
        within = "" if scope is None else f" in {scope!r}"
        return f"<wellkept.kv.ExecutionStore {self.store_name!r}{within}>"


def store(
    name: str,
    scope: Any = None,
    *,
    cache: Cache | str | os.PathLike[str] | None = None,
    policy: str = "persist",
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
    *("subscribe", "unsubscribe"),
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
            *(store._entries, store._name, prefix, since),
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
