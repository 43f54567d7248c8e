"""FiftyOne's execution stores on any medium of wellkept, without a MongoDB.

`ExecutionStoreService(repo=KeptExecutionStoreRepo(dataset_id=…))` of FiftyOne works on it, and so do its
`ExecutionStore` and `TransientJobCoordinator`. FiftyOne is imported only when it already is: documents
are its own for those who have it, and of wellkept, which have the same fields, for all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wellkept.kv.entry import KEEP, PRESENT, Step, check_key
from wellkept.kv.execution_store import (
    COLLECTION,
    ExecutionStoreService,
    KeyDocument,
    StoreDocument,
    seconds_of,
)
from wellkept.kv.watch import Change, subscribe

if TYPE_CHECKING:
    from wellkept.caches import Cache

__all__ = ["KeptExecutionStoreRepo"]

_MODELS = "fiftyone.operators.store.models"
_MESSAGES = "fiftyone.operators.message"
_OPERATIONS = {"set": "update", "touch": "update", "expire": "delete", "evict": "delete"}
"""FiftyOne's names of changes, where they are others."""


class KeptExecutionStoreRepo:
    """What FiftyOne's `ExecutionStoreService` needs of a repository.

    Args:
        dataset_id: the scope: an `ObjectId`, or text.
        collection_name: stores in another collection are other stores.
        cache: on whose medium they are: a cache, its name, a path or a URL; the active one.

    Raises:
        ConfigError: the scope is neither text nor an id, or the medium can't hold named state.
        StoreError: the medium can't be opened.
    """

    COLLECTION_NAME = COLLECTION

    def __init__(
        self,
        dataset_id: Any = None,
        collection_name: str | None = None,
        *,
        cache: Cache | str | os.PathLike[str] | None = None,
    ) -> None:
        self._service = ExecutionStoreService(None, dataset_id, collection_name, cache=cache)
        self._dataset_id = dataset_id

    # -- stores -----------------------------------------------------------------------------------

    def create_store(
        self, store_name: str, metadata: dict[str, Any] | None = None, policy: str = "persist"
    ) -> Any:
        """See `wellkept.kv.ExecutionStoreService`, as of all methods here that say no more."""
        return _theirs(self._service.create_store(store_name, metadata, policy))

    def get_store(self, store_name: str) -> Any:
        return _theirs(self._service.get_store(store_name))

    def has_store(self, store_name: str) -> bool:
        return self._service.has_store(store_name)

    def list_stores(self) -> list[str]:
        return self._service.list_stores()

    def count_stores(self) -> int:
        return self._service.count_stores()

    def delete_store(self, store_name: str) -> int:
        """Remove a store; how many keys it had, and one more for the store if it was made."""
        found = self._service.entries.abouts(*self._service.name(store_name))
        removed = self._service.entries.drop(self._service.name(store_name))
        return 0 if removed is None else removed + bool(found and found[0].declared)

    def cleanup(self) -> int:
        """Remove the scope's stores; how many documents that were, as FiftyOne counts them."""
        return sum(self.delete_store(name) for name in self.list_stores())

    def clear_cache(self, store_name: str | None = None) -> int:
        return self._service.clear_cache(store_name)

    # -- keys -------------------------------------------------------------------------------------

    def set_key(
        self,
        store_name: str,
        key: str,
        value: Any,
        ttl: float | None = None,
        policy: str = "persist",
    ) -> Any:
        return _theirs(self._service.set_key(store_name, key, value, ttl, policy))

    def set_cache_key(self, store_name: str, key: str, value: Any, ttl: float | None = None) -> Any:
        return _theirs(self._service.set_cache_key(store_name, key, value, ttl))

    def set_key_if_absent(
        self,
        store_name: str,
        key: str,
        value: Any,
        ttl: float | None = None,
        policy: str = "persist",
    ) -> bool:
        return self._service.set_key_if_absent(store_name, key, value, ttl, policy)

    def compare_and_set_key(
        self,
        store_name: str,
        key: str,
        expected: Any,
        value: Any,
        ttl: float | None = None,
        policy: str | None = None,
    ) -> bool:
        return self._service.compare_and_set_key(store_name, key, expected, value, ttl, policy)

    def has_key(self, store_name: str, key: str) -> bool:
        return self._service.has_key(store_name, key)

    def get_key(self, store_name: str, key: str) -> Any:
        return _theirs(self._service.get_key(store_name, key))

    def update_ttl(self, store_name: str, key: str, ttl: float) -> bool:
        """Let a key expire so many seconds from now; whether it was there."""
        step = Step(check_key(key), KEEP, seconds_of(ttl), KEEP, PRESENT)
        return self._service.apply(self._service.name(store_name), step) is not None

    def update_policy(self, store_name: str, key: str, policy: str) -> bool:
        """Give a key another policy; whether it was there."""
        return self._service.update_policy(store_name, key, policy) is not None

    def delete_key(self, store_name: str, key: str) -> bool:
        return self._service.delete_key(store_name, key)

    def list_keys(self, store_name: str) -> list[str]:
        return self._service.list_keys(store_name)

    def count_keys(self, store_name: str) -> int:
        return self._service.count_keys(store_name)

    def list_values(
        self,
        store_name: str,
        key_prefix: str | None = None,
        exclude_fields: list[str] | None = None,
    ) -> list[Any]:
        """The values under a prefix; of those that are dicts, without some fields."""
        from wellkept.kv.execution_store import ExecutionStore

        gone = set(exclude_fields or ())
        values = ExecutionStore(store_name, self._service).values(key_prefix or "")
        return [
            {k: v for k, v in value.items() if k not in gone} if isinstance(value, dict) else value
            for value in values
        ]

    # -- all scopes -------------------------------------------------------------------------------

    def has_store_global(self, store_name: str) -> bool:
        return self._service.has_store_global(store_name)

    def list_stores_global(self) -> list[Any]:
        return [_theirs(document) for document in self._service.list_stores_global()]

    def count_stores_global(self) -> int:
        return self._service.count_stores_global()

    def delete_store_global(self, store_name: str) -> int:
        """Remove the stores of that name from all scopes; how many documents that were."""
        entries, name = self._service.entries, self._service.name(store_name)
        removed = 0
        for about in entries.abouts(name.collection, None, store_name):
            removed += (entries.drop(about.name) or 0) + about.declared
        return removed

    # -- changes ----------------------------------------------------------------------------------

    def subscribe(self, store_name: str, callback: Callable[[Any], object]) -> str:
        """Have `callback` called with a message for each key that is there, and for each change from
        then on; the subscription's id. What changes at that moment may be told twice."""
        service, name = self._service, self._service.name(store_name)
        since = service.entries.newest()
        for key in service.list_keys(store_name):
            found = service.get_key(store_name, key)
            if found is not None:
                callback(self._message(key, found.value, "initial", found.updated_at))

        def told(change: Change) -> object:
            operation = _OPERATIONS.get(change.kind, change.kind)
            return callback(self._message(change.key, change.value, operation, change.at))

        return subscribe(service.entries, name, told, since)

    def unsubscribe(self, subscription_id: str) -> bool:
        return self._service.unsubscribe(subscription_id)

    def _message(self, key: str, value: Any, operation: str, at: datetime | None) -> Any:
        scope = None if self._dataset_id is None else str(self._dataset_id)
        stamp = None if at is None else at.isoformat()
        module = sys.modules.get(_MESSAGES)
        if module is None:
            known = {"operation_type": operation, "dataset_id": scope, "timestamp": stamp}
            return {"key": key, "value": value, "metadata": known}
        metadata = module.MessageMetadata(operation, scope, stamp)
        return module.MessageData(key=key, value=value, metadata=metadata)


def _theirs(document: KeyDocument | None) -> Any:
    """A document as FiftyOne's own, with times in UTC that do not say so; wellkept's without FiftyOne."""
    models = sys.modules.get(_MODELS)
    if document is None or models is None:
        return document
    fields = document.to_mongo_dict()
    del fields["revision"]
    fields |= {"value": document.value, "dataset_id": _id(document.dataset_id)}
    for name in ("created_at", "updated_at", "expires_at"):
        if fields[name] is not None:
            fields[name] = fields[name].replace(tzinfo=None)
    kind = models.StoreDocument if isinstance(document, StoreDocument) else models.KeyDocument
    return kind.from_dict(fields)


def _id(scope: Any) -> Any:
    """A scope of another context, which is known as text, as the id that it is."""
    bson = sys.modules.get("bson")
    if isinstance(scope, str) and bson is not None and bson.ObjectId.is_valid(scope):
        return bson.ObjectId(scope)
    return scope
