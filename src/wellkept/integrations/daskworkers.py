"""What `wellkept.integrations.dask.use` puts into the workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed import WorkerPlugin

from wellkept.caches.active import set_cache
from wellkept.caches.transport import unpack

if TYPE_CHECKING:
    from distributed import Worker

    from wellkept.caches import Cache

__all__ = ["Shared"]


class Shared(WorkerPlugin):
    """The default cache of a worker."""

    name = "wellkept"

    def __init__(self, packed: bytes) -> None:
        self.packed = packed
        self._before: Cache | None = None

    def setup(self, worker: Worker) -> None:
        self._before = set_cache(unpack(self.packed))

    def teardown(self, worker: Worker) -> None:
        found = set_cache(self._before)
        if found is not None:
            found.flush()
