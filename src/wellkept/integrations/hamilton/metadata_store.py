"""Data versions of nodes by their cache keys: a Hamilton metadata store over a kept cache."""

from __future__ import annotations

import os
import time
import uuid
from functools import partial
from typing import Any

from hamilton.caching.cache_key import decode_key
from hamilton.caching.stores.base import MetadataStore

from wellkept.caches import Cache, open_cache
from wellkept.errors import KeptError
from wellkept.integrations.hamilton.result_store import Shelf, cache_of, commit
from wellkept.integrations.hamilton.run_history import CLOCK, History, dependencies
from wellkept.records import Call, Event
from wellkept.runs.run import Run

_NAME = "hamilton:metadata"
_ARGUMENT = "cache_key"


class KeptMetadataStore(MetadataStore):
    """Keeps the data versions of nodes, and what happened in runs, in a kept cache.

    Args:
        cache: a cache, a path or a URL; the active cache by default.
        connection_kwargs: what `wellkept.open` takes, with a path or a URL. What `sqlite3.connect` takes,
            such as `timeout`, is taken and says nothing: writers wait for each other, up to 30 s.
        path: the same as a path or URL in `cache`, by Hamilton's name.

    Attributes:
        cache: the cache.

    Raises:
        ConfigError, StoreError: there is no such cache, or it can't be used.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        connection_kwargs: dict[str, Any] | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self.connection_kwargs: dict[str, Any] = dict(connection_kwargs or {})
        self.cache: Cache = cache_of(cache, path, self.connection_kwargs)
        self.history: History = History(self.cache)
        self._shelf = Shelf(self.cache, _NAME, _ARGUMENT)

    def __getstate__(self) -> dict[str, Any]:
        """The constructor's arguments, from which the adapter makes a store in another process."""
        return {"cache": self.cache, "connection_kwargs": self.connection_kwargs}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.__getstate__()), ()

    @property
    def _directory(self) -> str:
        """Where the adapter writes its log, if a log is wanted."""
        root = self.cache.backend.root
        if root is not None:
            return str(root)
        from platformdirs import user_log_dir

        where = user_log_dir("wellkept", appauthor=False)
        os.makedirs(where, exist_ok=True)  # noqa: PTH103  a path as text is what Hamilton wants
        return where

    # -- data versions ----------------------------------------------------------------------------

    def get(self, cache_key: str | None, **kwargs: Any) -> str | None:
        """The data version under a cache key, or None; trouble with the cache is a None."""
        if cache_key is None:
            return None
        if CLOCK.spans:
            self.settle()
        entry = self._shelf.find(cache_key)
        if entry is None:
            CLOCK.asked(cache_key, b"", None)
            CLOCK.alone(cache_key, None, _nothing)
            return None
        try:
            version = self.cache.value(b"", entry)
        except KeptError as error:
            self._shelf.trouble("read", error)
            return None
        if type(version) is not str:
            return None
        CLOCK.asked(cache_key, self._shelf.key(cache_key), version, entry.body.seconds)
        CLOCK.alone(cache_key, version, partial(self._hit, cache_key, version, entry.body.seconds))
        return version

    def _hit(self, cache_key: str, version: str, seconds: float, run_id: str) -> None:
        node = cache_key.split("-", 2)
        event = self.event(cache_key, version, node[0], node[1], time.time(), seconds)
        self.record(run_id, event._replace(outcome="hit"))

    def set(
        self,
        cache_key: str | None,
        data_version: str,
        run_id: str | None = None,
        node_name: str | None = None,
        code_version: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep a data version under a cache key, and note it in a run.

        Args:
            cache_key: None makes an entry that counts in `size` and is found by nobody.
            node_name, code_version: taken from the cache key where they are not given.

        Raises:
            ValueError: they are not given, and the cache key was not made by Hamilton.
        """
        if cache_key is not None and (node_name is None or code_version is None):
            decoded = _decoded(cache_key)
            node_name = decoded["node_name"] if node_name is None else node_name
            code_version = decoded["code_version"] if code_version is None else code_version
        seconds = CLOCK.was_set(cache_key)
        node = {"name": node_name, "code": code_version, "given": dict(dependencies(cache_key))}
        # One that nobody can ask for, where there is none.
        text = uuid.uuid4().hex if cache_key is None else cache_key
        # Lineages go by the node.
        put = partial(
            self._shelf.put, text, data_version, seconds, metadata={"node": node}, wait=True
        )
        self._shelf.guarded("write", put)
        if run_id is not None:
            self.record(
                run_id,
                self.event(cache_key, data_version, node_name, code_version, time.time(), seconds),
            )

    def event(
        self,
        cache_key: str | None,
        data_version: str,
        node_name: str | None,
        code_version: str | None,
        at: float,
        seconds: float = 0.0,
    ) -> Event:
        """What a run says of a node that was computed."""
        return Event(
            "computed",
            node_name or "?",
            None if cache_key is None else self._shelf.key(cache_key).hex(),
            data_version,
            at,
            seconds,
            code=code_version or "",
            arguments=dependencies(cache_key),
        )

    def exists(self, cache_key: str | None) -> bool:
        """Whether `get` gives a data version."""
        return self.get(cache_key) is not None

    def delete(self, cache_key: str | None) -> None:
        """Forget a cache key; one that is not there is no error."""
        if cache_key is not None:
            self.settle()
            self._shelf.delete(cache_key)

    def delete_all(self) -> None:
        """Forget all cache keys and runs that Hamilton's stores put in this cache, and nothing
        else of it.
        """
        self._shelf.clear()
        self.history.clear()

    def __len__(self) -> int:
        """How many cache keys there are; each set of None is one of its own."""
        return sum(1 for _ in self._shelf.calls())

    def __bool__(self) -> bool:
        """A store is there, even if it is empty: Hamilton asks."""
        return True

    # -- runs -------------------------------------------------------------------------------------

    def initialize(self, run_id: str) -> None:
        """Note that a run began."""
        self._shelf.guarded("write", lambda: self.history.begin(run_id))

    def record(self, run_id: str, event: Event) -> None:
        """Note in a run what became of a node."""
        try:
            self.history.put(run_id, event)
        except KeptError as error:
            self._shelf.trouble("write", error)

    def settle(self) -> None:
        """Keep what waited for the result of the node under way, if it did not come."""
        waits = CLOCK.waiting(self.cache)
        if waits is not None:
            call, value = waits
            self._shelf.guarded("write", lambda: commit(self.cache, value, call))

    def ended(self, run_id: str, error: BaseException | None = None) -> None:
        """Note that a run ended."""
        self._shelf.guarded("write", lambda: self.history.end(run_id, error))

    def get_run_ids(self) -> list[str]:
        """All runs, the oldest first."""
        return self.history.run_ids()

    def get_run(self, run_id: str) -> list[dict[str, Any]]:
        """The nodes that a run computed, with their cache keys and data versions; those without a
        cache key, or whose entry was deleted, are left out.

        Raises:
            IndexError: there is no such run.
        """
        nodes = []
        for event in self.history.run(run_id).events(inner=False):
            call = self.cache.calls.get(event.key) if event.key else None
            of_node = None if call is None else self._of_node(event, call)
            if event.outcome == "computed" and of_node is not None:
                nodes.append(
                    {
                        "data_version": event.result,
                        "code_version": event.code,
                        **of_node,
                    }
                )
        return nodes

    def _of_node(self, event: Event, call: Call) -> dict[str, Any] | None:
        """The cache key and the name of the node that a call is of; None: it is of no node."""
        if call.function != _NAME:
            return None
        return {"cache_key": call.arguments[_ARGUMENT].value, "node_name": event.function}

    def kept_run(self, run_id: str | None = None) -> Run:
        """A run as wellkept knows it, with its events, its table and its graph; the last by default.

        Raises:
            IndexError: there is no such run.
        """
        return self.history.run(self.last_run_id if run_id is None else run_id)

    # -- from store to store ----------------------------------------------------------------------

    def persist_to(self, metadata_store: MetadataStore | None = None) -> None:
        """Copy all cache keys and runs to another store; by default one over the active cache."""
        target = KeptMetadataStore() if metadata_store is None else metadata_store
        _copy(self, target)

    @classmethod
    def load_from(cls, metadata_store: MetadataStore, **made_with: Any) -> KeptMetadataStore:
        """A store with all that the runs of another one name.

        Args:
            metadata_store: wellkept's or one of Hamilton's own.
            made_with: the constructor's arguments.
        """
        made = cls(**made_with)
        _copy(metadata_store, made)
        return made


def _nothing(run_id: str) -> None:
    """Where there was no hit, none is noted."""


def _copy(source: MetadataStore, target: MetadataStore) -> None:
    for run_id in source.get_run_ids():
        target.initialize(run_id)
        for node in source.get_run(run_id):
            target.set(
                cache_key=node["cache_key"],
                data_version=node["data_version"],
                run_id=run_id,
                node_name=node.get("node_name"),
                code_version=node.get("code_version"),
            )


def _decoded(cache_key: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = decode_key(cache_key)
    except Exception as error:
        raise ValueError(
            f"can't tell the node and its code version from the cache key {cache_key[:80]!r}: give "
            "node_name= and code_version=, or a key that Hamilton's create_cache_key made"
        ) from error
    return found


class InMemoryMetadataStore(KeptMetadataStore):
    """Keeps data versions and runs in memory."""

    def __init__(self, cache: Cache | None = None) -> None:
        super().__init__(open_cache("memory:") if cache is None else cache)

    def __getstate__(self) -> dict[str, Any]:
        return {"cache": self.cache}
