"""The leases of a place that is made of places."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from wellkept.errors import StoreError
from wellkept.stores.leases import LOOKED, SOMEBODY, Owner

if TYPE_CHECKING:
    from wellkept.stores.stack import Layers

__all__ = ["LayerLocks"]


class LayerLocks:
    """Leases of the near place, and of the farthest that is written to, where others meet us."""

    def __init__(self, layers: Layers) -> None:
        self._layers = layers
        written = layers._written
        self._near: Any = written[0].locks if written else None
        self.far: Any = written[-1] if len(written) > 1 else None

    @property
    def waits(self) -> Any:
        """See `Locks`: of the place where most meet."""
        backend = self.far.locks if self.far is not None else self._near
        return getattr(backend, "waits", None)

    def acquire(self, key: bytes, owner: Owner = SOMEBODY) -> int:
        """See `Locks`; `LOOKED` where only the near place has to be looked at again."""
        if self._near is None:
            return True  # what is written nowhere is computed by everybody
        if not self._near.acquire(key, owner):
            return False
        if self.far is None:
            return LOOKED
        got = None
        with contextlib.suppress(StoreError):
            got = self._layers.ask(self.far, lambda: self.far.locks.acquire(key, owner))
        if got is False:
            self._near.release(key, owner)
            return False
        return LOOKED if got is None else got

    def release(self, key: bytes, owner: Owner | None = None) -> None:
        """See `Locks`."""
        if self.far is not None and self.far.locks.holder(key) is not None:
            with contextlib.suppress(StoreError):  # it runs out, or is tried again there
                self.far.locks.release(key, owner)
        if self._near is not None:
            self._near.release(key, owner)

    def holder(self, key: bytes) -> Owner | None:
        """See `Locks`."""
        found: Owner | None = None if self._near is None else self._near.holder(key)
        return found
