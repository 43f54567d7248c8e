"""FiftyOne's execution stores on any medium of wellkept, without a MongoDB.

`ExecutionStoreService(repo=KeptExecutionStoreRepo(dataset_id=…))` of FiftyOne works on it, and so do its
`ExecutionStore` and `TransientJobCoordinator`. FiftyOne is imported only when it already is: documents
are its own for those who have it, and of wellkept, which have the same fields, for all others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from wellkept.kv.entry import (
    KEEP,
    PRESENT,
    About,
    Entry,
    Name,
    Step,
    check_key,
    load,
    utc,
)
from wellkept.kv.service import (
    COLLECTION,
    ExecutionStoreService,
    KeyDocument,
    KeyPolicy,
    Policy,
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


class KeptExecutionStoreRepo(ExecutionStoreService):
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
        super().__init__(None, dataset_id, collection_name, cache=cache)

    def _document(self, name: Name, entry: Entry, value: Any) -> Any:
        return _theirs(super()._document(name, entry, value))

    def _store_document(self, about: About) -> Any:
        return _theirs(super()._store_document(about))

    # What FiftyOne answers in another way than wellkept.

    def list_stores_global(self) -> list[Any]:
        """The stores of all scopes and of none. Their scopes are `ObjectId`s if all of them can be, as
        those of datasets are, and else text."""
        documents = super().list_stores_global()
        ids = [_id(document.dataset_id) for document in documents]
        if not any(isinstance(scope, str) for scope in ids):
            for document, scope in zip(documents, ids, strict=True):
                document.dataset_id = scope
        return documents

    def delete_store(self, store_name: str) -> int:  # type: ignore[override]  # as FiftyOne's
        """Remove a store; how many keys it had, and one more for the store if it was made."""
        return self._dropped(self.entries.abouts(*self.name(store_name)))

    def cleanup(self) -> int:
        """Remove the scope's stores; how many documents that were, as FiftyOne counts them."""
        return sum(self.delete_store(name) for name in self.list_stores())

    def delete_store_global(self, store_name: str) -> int:
        """Remove the stores of that name from all scopes; how many documents that were."""
        return self._dropped(self.entries.abouts(self.collection, None, store_name))

    def _dropped(self, stores: Iterable[About]) -> int:
        return sum((self.entries.drop(about.name) or 0) + about.declared for about in stores)

    def update_ttl(self, store_name: str, key: str, ttl: float) -> bool:  # type: ignore[override]  # as FiftyOne's
        """Let a key expire so many seconds from now; whether it was there."""
        step = Step(check_key(key), KEEP, seconds_of(ttl), KEEP, PRESENT)
        return self.apply(self.name(store_name), step) is not None

    def update_policy(self, store_name: str, key: str, policy: Policy) -> bool:  # type: ignore[override]  # as FiftyOne's
        """Give a key another policy; whether it was there."""
        return super().update_policy(store_name, key, policy) is not None

    def subscribe(self, store_name: str, callback: Callable[[Any], object]) -> str:
        """Have `callback` called with a message for each key that is there, and for each change from
        then on; the subscription's id. What changes at that moment may be told twice."""
        name = self.name(store_name)
        since = self.entries.newest()
        for key in self.list_keys(store_name):
            found = self.entries.get(name, key)
            if found is not None:
                callback(self._message(key, load(found.data), "initial", utc(found.updated)))

        def told(change: Change) -> object:
            operation = _OPERATIONS.get(change.kind, change.kind)
            return callback(self._message(change.key, change.value, operation, change.at))

        return subscribe(self.entries, name, told, since)

    def _message(self, key: str, value: Any, operation: str, at: datetime | None) -> Any:
        scope = None if self.dataset_id is None else str(self.dataset_id)
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
    if document.policy is KeyPolicy.HELD:  # FiftyOne has no such policy, and fails at others
        fields["policy"] = "persist" if document.expires_at is None else "evict"
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
