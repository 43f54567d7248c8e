"""What `dr.cache` shows of a `KeptAdapter`: its kept calls, as stores of Hamilton's kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hamilton.caching.stores.base import ResultRetrievalError

from wellkept.caches import Cache
from wellkept.errors import ConfigError, DecodeError, NotKept
from wellkept.integrations.hamilton.formats import FORMAT
from wellkept.integrations.hamilton.metadata_store import KeptMetadataStore
from wellkept.integrations.hamilton.node import PREFIX
from wellkept.integrations.hamilton.result_store import KeptResultStore
from wellkept.records import Call, Event
from wellkept.stores.backend import each_call


def node_calls(cache: Cache) -> Iterator[Call]:
    """The calls that nodes have in a cache."""
    for _, call in each_call(cache.calls):
        if call is not None and _is_nodes(call):
            yield call


def _is_nodes(call: Call) -> bool:
    return call.code.startswith("node:")


def _is_key(text: object) -> bool:
    return isinstance(text, str) and len(text) == 64 and set(text) <= set("0123456789abcdef")


class NodeMetadata(KeptMetadataStore):
    """Keys of nodes' calls and the digests of their results. It is only read and deleted from: a
    call has its result's digest with it.
    """

    def get(self, cache_key: str | None, **kwargs: Any) -> str | None:
        """The digest of the result of the call with this key, or None."""
        if not _is_key(cache_key):
            return None
        entry = self._shelf.guarded("read", lambda: self.cache.find(bytes.fromhex(str(cache_key))))
        return None if entry is None else entry.body.result.hex()

    def set(self, *_: Any, **__: Any) -> None:
        """Refused.

        Raises:
            ConfigError: always; use `KeptMetadataStore` to copy other metadata to.
        """
        raise ConfigError(
            "the calls of a KeptAdapter are their own metadata; copy other metadata to a "
            "KeptMetadataStore"
        )

    def delete(self, cache_key: str | None) -> None:
        """Forget the call with this key."""
        if _is_key(cache_key):
            self.cache.forget(bytes.fromhex(str(cache_key)))

    def delete_all(self) -> None:
        """Forget all calls of nodes, and all runs of Hamilton, and nothing else."""
        self.cache.evict(keys=[call.key for call in node_calls(self.cache)])
        self.history.clear()

    def __len__(self) -> int:
        """How many calls of nodes there are."""
        return sum(1 for _ in node_calls(self.cache))

    def _of_node(self, event: Event, call: Call) -> dict[str, Any] | None:
        if not _is_nodes(call):
            return None
        said = call.metadata.get("node")
        name = said["name"] if said else call.function.removeprefix(PREFIX)
        given = dict(event.arguments)
        return {"cache_key": event.key, "node_name": name, "dependencies_data_versions": given}


class NodeResults(KeptResultStore):
    """Results of nodes' calls by their digests. It is only read and deleted from."""

    def exists(self, data_version: str) -> bool:
        """Whether a value of this digest is kept."""
        if not _is_key(data_version):
            return False
        try:
            return self.cache.values.get(data_version) is not None
        except DecodeError:
            return False

    def get(self, data_version: str, **kwargs: Any) -> Any:
        """The value that a digest names, or None.

        Raises:
            ResultRetrievalError: it is damaged.
        """
        if not _is_key(data_version):
            return None
        try:
            value = self.cache.values.get(data_version)
            if value is not None and value.codec == FORMAT:
                return self.formats.read(value.head, value.buffers, data_version)
            return None if value is None else self.cache.load(data_version)
        except NotKept:
            return None
        except DecodeError as error:
            raise ResultRetrievalError(str(error)) from error

    def set(self, *_: Any, **__: Any) -> None:
        """Refused.

        Raises:
            ConfigError: always; use `KeptResultStore` to copy other results to.
        """
        raise ConfigError(
            "a KeptAdapter keeps results with their calls; copy other results to a KeptResultStore"
        )

    def delete(self, data_version: str) -> None:
        """Throw away a value; the records of its calls stay."""
        if _is_key(data_version):
            self.cache.values.delete(data_version)
            self.cache.tier.clear()
            self.formats.remove(data_version)

    def delete_all(self) -> None:
        """Throw away the calls of all nodes with their results."""
        self.cache.evict(keys=[call.key for call in node_calls(self.cache)])

    def data_versions(self) -> list[str]:
        """The digests of all results of nodes, each once."""
        return list(dict.fromkeys(str(call.result) for call in node_calls(self.cache)))
