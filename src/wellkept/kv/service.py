"""The stores of one scope, under the names that FiftyOne gives their methods, and their documents."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import Enum
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, Self

from wellkept.caches import active, chosen
from wellkept.caches.option_text import parse_duration, parse_size
from wellkept.errors import ConfigError
from wellkept.kv.backends import entries_of
from wellkept.kv.entry import (
    ABSENT,
    ID_TYPES,
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
from wellkept.kv.sweeper import sweeping
from wellkept.kv.watch import Change, subscribe, unsubscribe

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


Policy = Literal["persist", "evict", "held"] | KeyPolicy
"""A policy, by its name or itself."""


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
        if repo is None:
            self.cache: Cache = active() if cache is None else chosen(cache)
            """What it was made on."""
            self.entries: Entries = entries_of(self.cache)
        else:
            self.cache, self.entries = repo.cache, repo.entries
        self._scope = scope_of(self.dataset_id)

    def name(self, store_name: str) -> Name:
        """The full name of a store of this scope."""
        return name_of(self.collection, self.dataset_id, store_name)

    # -- stores -----------------------------------------------------------------------------------

    def create_store(
        self,
        store_name: str,
        metadata: Mapping[str, Any] | None = None,
        policy: Policy = "persist",
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

    def copy_store(
        self, store_name: str, dataset_id: Any, ids: Mapping[Any, Any] | None = None
    ) -> int:
        """Copy a store to another scope, as for a dataset that is cloned; how many keys that were.

        Values, policies and what is left of TTLs are the same there, and so are metadata and limits if
        the store was made; times and revisions are those of the copy. A key that is there already
        stays as it is, so a copy that was broken off is finished by another one.

        Args:
            dataset_id: the other scope.
            ids: what ids are called there: keys, and text and ids anywhere in values, that are one of
                these become what stands for it.

        Raises:
            ConfigError: there is no such store, or the scope is this one.
        """
        name, to = self.name(store_name), name_of(self.collection, dataset_id, store_name)
        if name == to:
            raise ConfigError(f"can't copy the store {store_name!r} to the scope that it is in")
        about = next(iter(self.entries.abouts(*name)), None)
        if about is None:
            raise ConfigError(f"there is no store {store_name!r} in this scope to copy")
        if about.declared:
            self.entries.declare(about._replace(name=to))
        known = {str(old): str(new) for old, new in (ids or {}).items()}

        def steps() -> Iterator[Step]:
            for entry in each_entry(self.entries, name):
                left = None if entry.expires is None else entry.expires - self.entries.now()
                if left is None or left > 0:
                    data = dump(renamed(load(entry.data), known)) if known else entry.data
                    yield Step(known.get(entry.key, entry.key), data, left, entry.policy, ABSENT)

        count, rest = 0, steps()
        while some := list(islice(rest, 100)):
            if self.apply(to, *some) is not None:
                count += len(some)
            else:  # some are there
                count += sum(self.apply(to, step) is not None for step in some)
        return count

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
        policy: Policy = "persist",
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
        (done,) = self.apply(name, step) or (None,)
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
        policy: Policy = "persist",
    ) -> bool:
        """Set a key if it is not there, atomically; whether it was not. Raises as `set_key`.

        With a TTL it is held until then, unless it may be evicted: somebody relies on it.
        """
        lasts, chosen = relied_on(ttl, policy)
        step = Step(check_key(key), dump(value), lasts, chosen, ABSENT)
        return self.apply(self.name(store_name), step) is not None

    def compare_and_set_key(
        self,
        store_name: str,
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

        Raises as `set_key`.
        """
        name = self.name(store_name)
        lasts = KEEP if ttl is None else seconds_of(ttl)
        chosen = KEEP if policy is None else policy_of(policy).value
        step = Step(check_key(key), dump(value), lasts, chosen)
        return self.swap(name, [step], expected, revision) is not None

    def swap(
        self, name: Name, steps: Sequence[Step], expected: Any, revision: int | None = None
    ) -> list[Entry | None] | None:
        """Take steps if the first one's key has the value `expected`, or that revision: what each
        leaves, or None."""
        first, *rest = steps
        while True:
            when = revision
            if when is None:
                found = self.entries.get(name, first.key)
                if found is None or not _equal(load(found.data), expected):
                    return None
                when = found.revision
            elif type(when) is not int or when < 1:
                raise ConfigError(f"a revision is a number above 0, not {when!r:.80}")
            done = self.apply(name, first._replace(when=when), *rest)
            if done is not None or revision is not None:
                return done

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

    def delete_key(
        self, store_name: str, key: str, *, expected: Any = KEEP, revision: int | None = None
    ) -> bool:
        """Delete a key; whether that was done.

        Args:
            expected: only if this is its value, compared as by `compare_and_set_key`.
            revision: only if this is its revision; `expected` is not looked at then.
        """
        name, step = self.name(store_name), Step(check_key(key), when=PRESENT, drop=True)
        if expected is KEEP and revision is None:
            return self.apply(name, step) is not None
        return self.swap(name, [step], expected, revision) is not None

    def update_ttl(
        self, store_name: str, key: str, new_ttl: float | str | timedelta | None
    ) -> KeyDocument | None:
        """Let a key expire so many seconds from now, or with None never; None if it is not there.

        Raises:
            ConfigError: it is no TTL.
        """
        step = Step(check_key(key), KEEP, seconds_of(new_ttl), KEEP, PRESENT)
        return self._touched(store_name, step)

    def update_policy(self, store_name: str, key: str, policy: Policy) -> KeyDocument | None:
        """Give a key another policy; None if it is not there. With `"persist"` it does not expire
        any more.

        Raises:
            ConfigError: there is no such policy.
        """
        step = Step(check_key(key), KEEP, KEEP, policy_of(policy).value, PRESENT)
        return self._touched(store_name, step)

    def touch_key(self, store_name: str, key: str) -> bool:
        """Say that a key is as good as new: `updated_at` is now, and it is the last to be evicted.
        Value, policy and expiry stay; whether it was there."""
        step = Step(check_key(key), KEEP, KEEP, KEEP, PRESENT)
        return self.apply(self.name(store_name), step) is not None

    def _touched(self, store_name: str, step: Step) -> KeyDocument | None:
        name = self.name(store_name)
        done = self.apply(name, step)
        found = None if done is None else done[0]
        return None if found is None else self._document(name, found, load(found.data))

    def list_keys(self, store_name: str, prefix: str = "") -> list[str]:
        """A store's keys that begin with `prefix`, in the order of their letters."""
        found = each_entry(self.entries, self.name(store_name), prefix, data=False)
        return [entry.key for entry in found]

    def count_keys(self, store_name: str, prefix: str = "") -> int:
        """How many keys of a store begin with `prefix`."""
        return self.entries.count(self.name(store_name), check_key(prefix))

    def list_values(
        self,
        store_name: str,
        key_prefix: str | None = None,
        exclude_fields: Collection[str] | None = None,
    ) -> list[Any]:
        """The values of the keys that begin with `key_prefix`, in the order of their keys; of those
        that are dicts, without some fields."""
        found = each_entry(self.entries, self.name(store_name), key_prefix or "")
        values = [load(entry.data) for entry in found]
        gone = {exclude_fields} if isinstance(exclude_fields, str) else {*(exclude_fields or ())}
        return [
            {k: v for k, v in value.items() if k not in gone} if type(value) is dict else value
            for value in values
        ]

    def apply(self, name: Name, *steps: Step) -> list[Entry | None] | None:
        """Take steps, all or none: what each leaves; None if one does not fit what is there."""
        done = self.entries.apply(name, steps)
        if any(step.ttl is not None for step in steps):
            sweeping(self.entries)
        return done

    # -- all scopes -------------------------------------------------------------------------------

    def has_store_global(self, store_name: str) -> bool:
        """Whether a scope, or none, has such a store."""
        return bool(self.entries.abouts(self.collection, None, self.name(store_name).store))

    def list_stores_global(self) -> list[StoreDocument]:
        """The stores of all scopes and of none, each once for each scope. Their scopes are text, also
        this service's own."""
        found = sorted(
            self.entries.abouts(self.collection, None, None), key=lambda about: about.name
        )
        documents = [self._store_document(about) for about in found]
        for document, about in zip(documents, found, strict=True):
            document.dataset_id = about.name.scope[1:] if about.name.scope else None
        return documents

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
        known = dict(about.metadata) if about.metadata is not None else None
        document = StoreDocument(about.name.store, value=known, policy=KeyPolicy(about.policy))
        document.dataset_id = self.dataset_id
        document.created_at = utc(about.created) or document.created_at
        return document


def seconds_of(ttl: float | str | timedelta | None) -> float | None:
    """A TTL in seconds.

    Raises:
        ConfigError: it is none, or not above 0.
    """
    if ttl is None:
        return None
    seconds = parse_duration(ttl, option="ttl")
    if not 0 < seconds < 1e11:
        raise ConfigError(f"a ttl is a positive number of seconds, not {ttl!r}")
    return seconds


def relied_on(ttl: float | str | timedelta | None, policy: Policy) -> tuple[float | None, str]:
    """The TTL and the policy of a key that is made only where there was none: with a TTL it is held,
    unless it may be evicted, as it stands for somebody who relies on it.

    Raises:
        ConfigError: one of them is none.
    """
    lasts, chosen = seconds_of(ttl), policy_of(policy).value
    return lasts, "held" if lasts is not None and chosen == "persist" else chosen


def renamed(value: Any, ids: Mapping[str, str]) -> Any:
    """A value with other ids: text and ids in it, at any depth of its dicts, lists and tuples."""
    kind = type(value)
    if kind is str:
        return ids.get(value, value)
    if kind is dict:
        return {renamed(key, ids): renamed(item, ids) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(renamed(item, ids) for item in value)
    if kind.__name__ in ID_TYPES:
        return kind(ids[str(value)]) if str(value) in ids else value
    return value


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
