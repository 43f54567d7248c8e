"""Reducers of what is read or computed on demand: dask's collections, zarr's arrays, groups and stores.

A dask array or frame counts by its content, chunk by chunk, so that neither the names of its tasks nor how it
is computed make a difference; other collections count by their graph. Zarr's count by what their store holds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

from wellkept.hashing.buffers import Known, buffer_digest
from wellkept.hashing.digests import digest_bytes
from wellkept.hashing.names import Refused, class_name, library_name
from wellkept.hashing.reducers import (
    NOTHING_HELPS,
    Reducer,
    own_attributes,
    slots_beside,
    slots_held,
)

_MARK = "_wellkept"


class _Stored(NamedTuple):
    """What is known of a dask collection that was loaded from a cache, as long as it has this name."""

    name: str
    digests: list[bytes]


def mark(collection: Any, name: str, digests: list[bytes]) -> None:
    """Note the digests of a dask array's or frame's chunks, so that its own reads none of them.

    Args:
        name: what dask calls its tasks, which any change of it changes.
    """
    collection.__dict__[_MARK] = _Stored(name, digests)


@runtime_checkable
class Blake3Of(Protocol):
    """A zarr store that knows the BLAKE3 of what it holds."""

    def blake3_of(self, key: str) -> bytes | None:
        """Return the BLAKE3 of what is under a key; None if it is not known."""


# -- dask -----------------------------------------------------------------------------------------


def visit(collection: Any, see: Callable[[int, Any], None]) -> None:
    """Compute a dask array or frame chunk by chunk, with no more of them in memory than its scheduler has.

    Args:
        see: called with the number (in C order) and the content of each chunk, once each, from any thread.
    """
    dask: Any = sys.modules["dask"]
    delayed = collection.to_delayed()
    blocks = list(getattr(delayed, "flat", delayed))
    scheduler = dask.base.get_scheduler(collections=[collection])
    if scheduler in (dask.threaded.get, dask.local.get_sync):
        # One graph, so that what chunks have in common is computed once.
        call = dask.delayed(see, pure=False)
        dask.compute(*[call(n, block) for n, block in enumerate(blocks)], scheduler=scheduler)
        return
    # Other processes can't call this one. A cluster holds the chunks, and gives them one at a time.
    client = getattr(scheduler, "__self__", None)
    if client is not None:
        blocks = client.persist(blocks)
    for n, block in enumerate(blocks):
        see(n, block.compute())


def _digests(collection: Any, name: str) -> list[bytes]:
    stored = collection.__dict__.get(_MARK)
    if type(stored) is _Stored and stored.name == name:
        return stored.digests
    found: dict[int, bytes] = {}

    def see(n: int, block: Any) -> None:
        found[n] = digest_bytes(block)

    try:
        visit(collection, see)
    except Exception as error:
        raise Refused(
            f"a {class_name(type(collection))} could not be computed, which its digest needs "
            f"({type(error).__name__}: {error})"
        ) from error
    return [found[n] for n in range(len(found))]


def _given(value: Any, library: str = "dask") -> dict[str, Any]:
    """Return the attributes of a collection beside its graph, and the slots that other libraries gave it."""
    graph = sys.modules["dask.highlevelgraph"].HighLevelGraph
    held = own_attributes(value) | slots_held(value, slots_beside(type(value).__mro__, library))
    told = (_MARK, "_expr")
    return {
        name: item
        for name, item in held.items()
        if name not in told and not isinstance(item, graph)
    }


def _array(value: Any, known: Known | None) -> tuple[Any, ...]:
    # It imports NumPy, which not all that is computed on demand needs.
    from wellkept.hashing.arrays import dtype_text

    np, more, meta = sys.modules["numpy"], _given(value), value._meta
    # What dask takes the chunks for, of which a program may have said otherwise than they are.
    if type(meta) is not np.ndarray and not isinstance(meta, np.generic):
        more["meta"] = library_name(type(meta))
    content = dtype_text(value.dtype), value.chunks, _digests(value, value.name)
    return "k2:dask array", library_name(type(value)), *content, *([more] if more else ())


def _frame(value: Any, known: Known | None) -> tuple[Any, ...]:
    content = tuple(value.divisions), value._meta, _digests(value, value._name), _given(value)
    return "k2:dask frame", library_name(type(value)), *content


def _collection(value: Any, known: Known | None) -> tuple[Any, ...]:
    graph = value.__dask_graph__()
    tasks = dict(graph) if graph is not None else {}
    # Dask's own slots count too: how many results one is unpacked into, whether its calls are pure.
    content = list(value.__dask_keys__()), tasks, _given(value, "")
    return "k2:dask graph", library_name(type(value)), *content


def _task(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "k2:dask task", class_name(type(value)), value.key, value.func, value.args, value.kwargs


def _future(value: Any, known: Known | None) -> tuple[Any, ...]:
    raise Refused(
        f"a {type(value).__qualname__} is in the memory of a cluster, and its key may stand for anything: "
        f"give its result(), or {NOTHING_HELPS}"
    )


# -- zarr -----------------------------------------------------------------------------------------


def keys_of(store: Any, path: str) -> list[str]:
    """Return the keys of a zarr store that belong to the array or group at a path, in order."""
    sync: Any = sys.modules["zarr.core.sync"].sync

    async def listed() -> list[str]:
        return [key async for key in store.list_prefix(f"{path}/" if path else "")]

    return sorted(sync(listed()))


def content_of(store: Any, key: str) -> memoryview:
    """Return what a zarr store holds under a key.

    Raises:
        Refused: it holds nothing any more.
    """
    sync: Any = sys.modules["zarr.core.sync"].sync
    prototype: Any = sys.modules["zarr.core.buffer"].default_buffer_prototype()
    found = sync(store.get(key, prototype))
    if found is None:
        raise Refused(f"{key} is gone from {store}, which was changed meanwhile")
    return memoryview(found.to_bytes())


def _held(store: Any, path: str) -> list[Any]:
    found: list[Any] = []
    for key in keys_of(store, path):
        name = store.blake3_of(key) if isinstance(store, Blake3Of) else None
        found += (key[len(path) :], name or buffer_digest(content_of(store, key)))
    return found


def _zarr(value: Any, known: Known | None) -> tuple[Any, ...]:
    place, kind = value.store_path, library_name(type(value))
    # What it shows was read when it was opened, and may not be what the store says now.
    shown = value.metadata.to_dict()
    return "k2:zarr", kind, place.path, shown, _held(place.store, place.path)


def _zarr_store(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "k2:zarr store", _held(value, "")


def _place(value: Any, known: Known | None) -> tuple[Any, ...]:
    return "k2:zarr place", value.path, _held(value.store, value.path)


EXACT: dict[str, Reducer] = {}


def _of_zarr_2(value: Any, known: Known | None) -> tuple[Any, ...]:
    raise Refused(
        f"a {type(value).__qualname__} of zarr 2 has no digest: install zarr 3, give what it holds, "
        f"or {NOTHING_HELPS}"
    )


FAMILIES: dict[str, Reducer] = {
    "dask.array.core.Array": _array,
    "dask.dataframe.dask_expr._collection.FrameBase": _frame,
    "dask.dataframe.core._Frame": _frame,
    "dask.base.DaskMethodsMixin": _collection,
    "dask._task_spec.Task": _task,
    "distributed.client.Future": _future,
    "zarr.core.Array": _of_zarr_2,
    "zarr.hierarchy.Group": _of_zarr_2,
    "zarr.core.array.Array": _zarr,
    "zarr.core.array.AsyncArray": _zarr,
    "zarr.core.group.Group": _zarr,
    "zarr.core.group.AsyncGroup": _zarr,
    "zarr.abc.store.Store": _zarr_store,
    "zarr.storage._common.StorePath": _place,
}
