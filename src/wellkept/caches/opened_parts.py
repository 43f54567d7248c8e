"""The parts of an open result: one that is lost is computed again, and another process reads them there."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from wellkept.codecs import Envelope
from wellkept.errors import DamagedValue, KeptError, StoreError
from wellkept.records import Buffer
from wellkept.stores.parts import Parts

if TYPE_CHECKING:
    from wellkept.caches.core import CacheCore


class OpenedParts(Parts):
    """The buffers of the result of a call.

    It pickles by its call, if another process can open the cache; else with its content.

    Args:
        cache: where the call is kept.
        key: of the call.
        envelope: of its result.
    """

    def __init__(self, cache: CacheCore, key: bytes, envelope: Envelope) -> None:
        super().__init__(cache.backend.load, envelope)
        self._cache, self._key = cache, key

    def _part(self, n: int) -> Buffer:
        """Return one buffer.

        Raises:
            DamagedValue: it is damaged, or was evicted; the call is then computed when it is made again.
            DecodeError, StoreError: it can't be read, or what has it does not answer.
        """
        try:
            return super()._part(n)
        except DamagedValue as error:
            self._lost(error)
            raise DamagedValue(
                f"a chunk of a kept result is damaged, or was evicted ({error}): make the call again"
            ) from error

    def _lost(self, error: DamagedValue) -> None:
        """Forget the call, if what is kept of it still is what can't be read."""
        cache = self._cache
        with contextlib.suppress(KeptError):
            found = cache.backend.fetch(self._key)
            if found is not None and _same(found.envelope, self._envelope):
                cache.damage(self._key, error)
                cache.calls.delete(self._key.hex())

    def __reduce__(self) -> tuple[Any, ...]:
        # Loaded on first use: few values are sent.
        from wellkept.caches.transport import NEARBY, pack

        packed = pack(self._cache)  # type: ignore[arg-type]  # each is a `Cache`
        if packed == NEARBY:
            return super().__reduce__()
        return _reopened, (packed, self._key, self._envelope._replace(source=None))


def _reopened(packed: bytes, key: bytes, envelope: Envelope) -> OpenedParts:
    from wellkept.caches.transport import unpack

    cache = unpack(packed)
    row = cache.backend.fetch(key)
    found = None if row is None else row.envelope
    if found is None or not _same(found, envelope):
        raise StoreError(f"a result that was sent here is not kept in {cache} any more")
    return OpenedParts(cache, key, found)


def _same(one: Envelope | None, other: Envelope) -> bool:
    return one is not None and (one.payload, one.blobs) == (other.payload, other.blobs)
