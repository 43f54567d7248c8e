"""Digests of flat bytes: multi-threaded BLAKE3 without a copy, and known digests of memory."""

from __future__ import annotations

import mmap
import sys
import weakref
from collections.abc import Callable, Mapping
from pickle import PickleBuffer
from typing import Any

from blake3 import blake3

from wellkept._process import at_fork

# Bytes from which more than one thread pays (below it, waking them costs more than it saves).
PARALLEL = 512 * 1024

_threads = blake3.AUTO


def threads() -> int:
    """Return how many threads BLAKE3 may use, as its `max_threads`."""
    return _threads


def _one_thread() -> None:
    # BLAKE3's threads stay in the parent, and a child that hands them work waits forever.
    global _threads
    _threads = 1


at_fork(in_child=_one_thread)

# (address, bytes) -> the BLAKE3 of that memory, 32 bytes.
Known = Mapping[tuple[int, int], bytes]


def address(view: Any) -> int:
    """Return the address of the first byte of a contiguous buffer; 0 for an empty one.

    Raises:
        TypeError: not a buffer.
        BufferError: not contiguous.
    """
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        flat = view if type(view) is memoryview else memoryview(view)
        if not flat.nbytes:
            return 0
        if flat.format != "B" or flat.ndim != 1:
            flat = _flat(flat)
        return int(numpy.frombuffer(flat, "u1").__array_interface__["data"][0])
    if not memoryview(view).nbytes:
        return 0
    return _address_by_abi(view)


def _address_by_abi(view: Any) -> int:
    """Return the address without numpy, which would take a tenth of the time."""
    import ctypes

    # `Py_buffer` of CPython's stable ABI: the address, then what is not asked for here.
    buffer = (ctypes.c_void_p * 16)()
    # `PyBUF_C_CONTIGUOUS`: a flat range, or a `BufferError`.
    contiguous = 0x38
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), buffer, contiguous)
    try:
        return int(buffer[0] or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(buffer)


def _flat(view: memoryview) -> memoryview:
    if view.c_contiguous:
        # `cast` refuses the formats of structures and byte orders.
        return PickleBuffer(view).raw()
    raise BufferError("not a contiguous buffer: copy it first")


def buffer_digest(view: Any) -> bytes:
    """Return the BLAKE3 of a contiguous buffer, 32 bytes, on all cores where that pays, with no copy."""
    flat = view if type(view) is memoryview or type(view) is bytes else memoryview(view)
    if isinstance(flat, bytes):
        size = len(flat)
    else:
        size = flat.nbytes
        if flat.format != "B" or flat.ndim != 1:
            flat = _flat(flat) if size else b""
    if size >= PARALLEL:
        return blake3(flat, max_threads=_threads).digest()
    return blake3(flat).digest()


def known_digest(view: memoryview, known: Known | None) -> bytes:
    """Return the BLAKE3 of a flat buffer of bytes, looked up where it is known, else worked out."""
    size = view.nbytes
    if size and (known or (len(MAPPED) and (view.readonly or size >= PARALLEL))):
        key = (address(view), size)
        found = known.get(key) if known else None
        if found is None:
            found = MAPPED.get(key, not view.readonly)
        if found is not None:
            return found
    return buffer_digest(view)


def new_hasher() -> blake3:
    """Return a hasher for bytes that come in slabs."""
    return blake3(max_threads=_threads)


class Mapped:
    """Memory that can't change while its owner lives, or that tells whether it has, with its BLAKE3.

    A digest of a mapped array is then a look-up. Whoever remembers a range vouches that nobody writes to
    it, and an array is looked up only if it is itself not writeable; or gives what finds out.
    """

    def __init__(self) -> None:
        self._digests: dict[
            tuple[int, int], tuple[bytes, weakref.ref[Any], Callable[[], bool] | None]
        ] = {}

    def remember(
        self,
        address: int,
        nbytes: int,
        digest: bytes,
        owner: Any,
        same: Callable[[], bool] | None = None,
    ) -> None:
        """Keep `digest` (32 bytes) for that range until `owner` (the mapping) dies.

        Args:
            same: whether what lies there is what lay there when the digest was made; None: nobody can
                have written to it.

        Raises:
            TypeError: `owner` can't be weakly referenced.
        """
        key = (address, nbytes)

        def forget(dead: weakref.ref[Any], digests: Any = self._digests) -> None:
            # A newer mapping may have come to lie at the same place.
            found = digests.get(key)
            if found is not None and found[1] is dead:
                del digests[key]

        self._digests[key] = (digest, weakref.ref(owner, forget), same)

    def get(self, key: tuple[int, int], writeable: bool = False) -> bytes | None:
        """Return the digest of `(address, bytes)`, if it is known.

        Args:
            writeable: whether who asks could write there.
        """
        found = self._digests.get(key)
        if found is None:
            return None
        digest, owner, same = found
        if same is None and writeable:
            return None
        if _lies_at(owner(), key) and (same is None or same()):
            return digest
        # What was written to is never again what it was.
        if self._digests.get(key) is found:
            self._digests.pop(key, None)
        return None

    def __len__(self) -> int:
        return len(self._digests)


def _lies_at(owner: Any, key: tuple[int, int]) -> bool:
    """Return whether a mapping still is where it was: once closed or resized, its place may be another's."""
    if type(owner) is not mmap.mmap:
        return owner is not None
    return not owner.closed and (address(owner), len(owner)) == key


# Of this process.
MAPPED = Mapped()


# Below this a list is as good.
FEWEST = 64


def joined(values: list[Any]) -> tuple[Any, ...] | None:
    """Return all values as one, if each is exactly a `str` and none contains U+0000; else None.

    Returns:
        "joined", how many, and the BLAKE3 of the UTF-8 of the texts with U+0000 between them.
    """
    count = len(values)
    # A count takes half the time of a set of the types.
    if count < FEWEST or list(map(type, values)).count(str) != count:
        return None
    text = "\0".join(values)
    if text.count("\0") != count - 1:
        return None
    return "joined", count, buffer_digest(text.encode("utf-8", "surrogatepass"))
