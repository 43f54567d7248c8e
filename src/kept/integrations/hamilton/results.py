"""Results of nodes by their data versions: a Hamilton result store over a kept cache."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from hamilton.caching.stores.base import MetadataStore, ResultRetrievalError, ResultStore

from kept.caches import Cache, open_cache
from kept.caches.tier import Entry
from kept.errors import ConfigError, EncodeError, KeptError
from kept.integrations.hamilton.clock import CLOCK
from kept.integrations.hamilton.formats import FORMAT, Formats
from kept.integrations.hamilton.shelf import Shelf, cache_of
from kept.records import Digest, Value

__all__ = ["InMemoryResultStore", "KeptResultStore"]

_NAME = "hamilton:result"
_CARRIES = {"carries": "data_version"}
"""Lineages show the node in place of this record."""


class KeptResultStore(ResultStore):
    """Keeps results of nodes in a kept cache.

    Args:
        cache: a cache, a path or a URL; the active cache by default.
        create_dir: make the directory of a path that is not there.
        path: the same as a path or URL in `cache`, by Hamilton's name.
        options: what `kept.open` takes, with a path or a URL.

    Attributes:
        cache: the cache.

    Raises:
        ConfigError, StoreError: there is no such cache, or it can't be used.
    """

    def __init__(
        self,
        cache: Cache | str | os.PathLike[str] | None = None,
        create_dir: bool = True,
        *,
        path: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        self.cache = cache_of(cache, path, options, create=create_dir)
        self.create_dir = create_dir
        self._shelf = Shelf(self.cache, _NAME, "data_version")
        self._formats = Formats(self.cache)
        self._seen = threading.local()

    def __getstate__(self) -> dict[str, Any]:
        """The constructor's arguments, from which the adapter makes a store in another process."""
        return {"cache": self.cache, "create_dir": self.create_dir}

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), **self.__getstate__()), ()

    @property
    def path(self) -> Path:
        """Where files of formats are."""
        return self._formats.root

    def exists(self, data_version: str) -> bool:
        """Whether a result is kept under a data version; trouble with the cache is a no."""
        entry = self._shelf.find(data_version)
        self._seen.last = (data_version, entry)
        return entry is not None

    def get(self, data_version: str, **kwargs: Any) -> Any:
        """The result, or None where none is kept under this data version.

        Raises:
            ResultRetrievalError: it was there but is missing or damaged now, so that the adapter
                computes it again.
        """
        last = getattr(self._seen, "last", None)
        promised = last is not None and last[0] == data_version and last[1] is not None
        entry: Entry | None
        if last is not None and promised:  # one trip for `exists` and `get`
            entry = last[1]
            self._seen.last = None
        else:
            entry = self._shelf.find(data_version)
            if entry is None:
                return None
        key = self._shelf.key(data_version)
        try:
            value = self._value(key, entry, data_version)
        except (KeptError, OSError) as error:
            self.cache.damage(key, error if isinstance(error, KeptError) else KeptError(str(error)))
            raise ResultRetrievalError(
                f"the result {data_version} can't be loaded: {error}"
            ) from error
        self.cache.used(key)
        CLOCK.answered(data_version)
        return value

    def _value(self, key: bytes, entry: Entry, data_version: str) -> Any:
        frame = entry.frame
        if frame is not None and frame.codec == FORMAT:
            return self._formats.load(frame, data_version)
        return self.cache.value(key, entry)

    def set(
        self,
        data_version: str,
        result: Any,
        saver_cls: Any = None,
        loader_cls: Any = None,
        **kwargs: Any,
    ) -> None:
        """Keep a result; one that can't be kept is a warning.

        Args:
            saver_cls: a Hamilton saver, which writes it as a file of its format.
            loader_cls: the loader that reads such a file.

        Raises:
            ValueError: only one of the two is given, or one takes its location neither as `file`
                nor as `path`.
        """
        if (saver_cls is None) != (loader_cls is None):
            raise ValueError(
                f"a format needs both a saver and a loader, not {saver_cls!r} and {loader_cls!r}"
            )
        shelf = self._shelf
        try:
            self.keep(data_version, result, saver_cls, loader_cls)
        except ConfigError:
            raise
        except EncodeError as error:
            shelf.warn(
                f"encode {type(result)}", f"a node's result is not kept, only returned: {error}"
            )
        except (KeptError, OSError) as error:
            shelf.warn("write", f"a node's result is not kept in {self.cache}: {error}")

    def keep(
        self, data_version: str, result: Any, saver_cls: Any = None, loader_cls: Any = None
    ) -> None:
        """As `set`; what can't be kept is an error.

        Raises:
            EncodeError: the result can't be encoded, or its saver raised.
            StoreError: it can't be written.
        """
        self._seen.last = None
        if saver_cls is None:
            self._shelf.put(data_version, result, metadata=_CARRIES)
        else:
            self._put(data_version, *self._formats.encoded(result, saver_cls, loader_cls))

    def adopt(self, data_version: str, file: Path, loader_cls: Any, takes: str) -> None:
        """Keep a file that a saver wrote as a result.

        Args:
            loader_cls: what reads it.
            takes: how that takes its location, `file` or `path`.

        Raises:
            OSError: it can't be read.
            StoreError: it can't be written.
        """
        made = self._formats.of_file(file.read_bytes(), file.suffix[1:], loader_cls, takes)
        self._put(data_version, *made)

    def _put(self, data_version: str, value: Value, digest: Digest) -> None:
        self._seen.last = None
        self._shelf.put_encoded(data_version, value, digest, _CARRIES)
        self._formats.name(data_version, value)

    def delete(self, data_version: str) -> None:
        """Forget a result, and its file; one that is not there is no error."""
        self._seen.last = None
        self._shelf.delete(data_version)
        self._formats.remove(data_version)

    def delete_all(self) -> None:
        """Forget all results that Hamilton's stores put in this cache, and nothing else of it."""
        self._seen.last = None
        self._shelf.clear()
        self._formats.clear()

    def data_versions(self) -> list[str]:
        """All data versions that have a result."""
        return list(self._shelf.texts())

    def _materialized_path(self, data_version: str, saver_cls: Any) -> Path:
        """Where the file of a result in this saver's format is or will be."""
        return self._formats.path(data_version, saver_cls.name())

    # -- from store to store ----------------------------------------------------------------------

    def persist_to(self, result_store: ResultStore | None = None) -> None:
        """Copy all results to another store; by default one over the active cache.

        A result in a format is loaded and goes without its format.
        """
        target = KeptResultStore() if result_store is None else result_store
        _copy(self, target, self.data_versions())

    @classmethod
    def load_from(
        cls,
        result_store: ResultStore,
        metadata_store: MetadataStore | None = None,
        data_versions: Iterable[str] | None = None,
        **made_with: Any,
    ) -> KeptResultStore:
        """A store with results of another one.

        Args:
            result_store: kept's or one of Hamilton's own.
            metadata_store: whose runs say which results.
            data_versions: which results, or which beside those.
            made_with: the constructor's arguments.

        Raises:
            ValueError: neither says which results, and the store can't tell.
        """
        if metadata_store is None and data_versions is None:
            if not isinstance(result_store, KeptResultStore):
                raise ValueError(
                    "which results? Give metadata_store= or data_versions=: a Hamilton store has no "
                    "list of what it holds"
                )
            data_versions = result_store.data_versions()
        wanted = dict.fromkeys(data_versions or ())
        if metadata_store is not None:
            for run_id in metadata_store.get_run_ids():
                wanted.update(
                    dict.fromkeys(n["data_version"] for n in metadata_store.get_run(run_id))
                )
        made = cls(**made_with)
        _copy(result_store, made, wanted)
        return made


def _copy(source: ResultStore, target: ResultStore, data_versions: Iterable[str]) -> None:
    for data_version in data_versions:
        if source.exists(data_version):  # tells a kept None from nothing
            try:
                result = source.get(data_version)
            except ResultRetrievalError:
                continue  # warned of; it will be computed again
            target.set(data_version=data_version, result=result)


class InMemoryResultStore(KeptResultStore):
    """Keeps results in memory, encoded, so that no reader changes another's.

    Args:
        persist_on_exit: copy all to the active cache when the interpreter ends.
    """

    def __init__(self, persist_on_exit: bool = False, *, cache: Cache | None = None) -> None:
        super().__init__(open_cache("memory:") if cache is None else cache)
        self.persist_on_exit = persist_on_exit
        if persist_on_exit:
            atexit.register(self.persist_to)  # which also keeps it alive until then

    def __getstate__(self) -> dict[str, Any]:
        return {"persist_on_exit": self.persist_on_exit, "cache": self.cache}
