"""Two stores, one of calls and one of values, as the one place that a cache needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kept.records import Buffer, Call, Value
from kept.stores.base import Store
from kept.stores.processlocks import ProcessLocks
from kept.stores.tables import Body

__all__ = ["Held", "Pair"]


class Encoded(NamedTuple):
    """An encoded value, with the names that a frame has."""

    codec: str
    payload: bytes
    blobs: Sequence[Buffer]


class Held(NamedTuple):
    """What a fetch finds: the call's body, and its encoded result if that is kept."""

    body: Body
    frame: Encoded | None
    exact: bool = True


class Pair:
    """The generic way: two trips where an embedded store makes one."""

    words: memoryview | None = None

    def __init__(self, values: Store[Value], calls: Store[Call]) -> None:
        self.values, self.calls = values, calls
        self.locks = ProcessLocks()

    def fetch(self, key: bytes) -> Held | None:
        call = self.calls.get(key.hex())
        if call is None:
            return None
        value = self.values.get(call.result)
        return Held(
            Body.of(call), Encoded(value.codec, value.head, value.buffers) if value else None
        )

    def load(self, frame: Encoded) -> tuple[Buffer, Sequence[Buffer]]:
        # Copies: what a caller changes must not change what is kept.
        return frame.payload, [bytearray(buffer) for buffer in frame.blobs]

    def commit(self, call: Call, value: Value, uses: Mapping[bytes, int] | None = None) -> None:
        buffers = tuple(bytes(buffer) for buffer in value.buffers)
        self.values.put(call.result, Value(value.codec, value.head, buffers, value.names))
        self.calls.put(call.key, call)

    def count(self, uses: Mapping[bytes, int]) -> None:
        """Uses are not counted here."""

    def token(self) -> None:
        return None

    def listen(self, told: Callable[[], None]) -> None:
        """`words` never change."""

    def stale(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""
