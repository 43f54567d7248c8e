"""Large blobs of a medium that can't map them, held near: in this process's memory, mapped from there.

A blob is named by its content, so what is held can never be out of date. Whether a call still has it
is asked of the medium each time, before anything is taken from here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from wellkept.codecs import Envelope
from wellkept.interrupts import Guard
from wellkept.records import Buffer
from wellkept.stores.memory import Memory

__all__ = ["Near"]

Loaded = tuple[Buffer, Sequence[Buffer]]


class Near:
    """The blobs that were loaded last, up to `limit` bytes.

    Args:
        limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: Memory[Any] = Memory()
        self._sizes: OrderedDict[str, int] = OrderedDict()
        self._total = 0
        self._lock = Guard()

    def load(self, envelope: Envelope, far: Callable[[Envelope], Loaded]) -> Loaded:
        """Payload and buffers of an envelope that has blobs, each free to be changed.

        Args:
            far: what loads them from the medium, verified.
        """
        names = [blob.name.hex() for blob in envelope.blobs]
        found = [self._held.map(name) for name in names]
        if None not in found:
            blobs: list[Any] = found
            with self._lock:
                for name in names:
                    if name in self._sizes:
                        self._sizes.move_to_end(name)
            return (
                (envelope.payload, blobs) if envelope.payload is not None else (blobs.pop(), blobs)
            )
        payload, buffers = far(envelope)
        blobs = [*buffers] if envelope.payload is not None else [*buffers, payload]
        for name, blob in zip(names, blobs, strict=True):
            self._hold(name, blob)
        return payload, buffers

    def _hold(self, name: str, blob: Buffer) -> None:
        size = memoryview(blob).nbytes
        if size > self.limit:
            return
        with self._lock:
            if name not in self._sizes:
                self._held.put(name, blob)
                self._sizes[name] = size
                self._total += size
            while self._total > self.limit:
                gone, size = self._sizes.popitem(last=False)
                self._held.delete(gone)
                self._total -= size

    def __reduce__(self) -> tuple[Any, ...]:
        return Near, (self.limit,)
