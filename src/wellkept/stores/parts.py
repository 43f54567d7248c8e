"""The buffers of a value that is read part by part: each is loaded, and verified, when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wellkept.codecs import LAZY, Envelope
from wellkept.records import Buffer

Load = Callable[[Envelope], tuple[Buffer, Sequence[Buffer]]]


class Parts(Sequence[Buffer]):
    """The buffers of an envelope.

    Args:
        load: gives payload and buffers of an envelope, verified, as `Backend.load` does.
        envelope: of a value.
    """

    def __init__(self, load: Load, envelope: Envelope) -> None:
        self._load, self._envelope = load, envelope

    def __len__(self) -> int:
        return len(self._envelope.blobs) - (self._envelope.payload is None)

    @property
    def payload(self) -> Buffer:
        """The payload of the value, which may be a blob too."""
        payload = self._envelope.payload
        return self._part(len(self)) if payload is None else payload

    def __getitem__(self, n: Any) -> Any:
        """Return one buffer; raises as `Backend.load`."""
        return self._part(range(len(self))[n])

    def _part(self, n: int) -> Buffer:
        return self._load(self._envelope.alone(n))[1][0]

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([bytes(one) for one in self],)


def opened(load: Load, envelope: Envelope) -> tuple[Buffer, Sequence[Buffer]]:
    """Return payload and buffers of an envelope as `load` does; of one that is read part by part, `Parts`."""
    if envelope.codec not in LAZY:
        return load(envelope)
    parts = Parts(load, envelope)
    return parts.payload, parts
