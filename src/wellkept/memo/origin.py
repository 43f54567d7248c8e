"""Where a call was sent from: the run and the computation that it is part of, wherever it is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from wellkept.memo.flights import Flight, current, flights
from wellkept.runs.recording import OPEN, Recorder, recorder

__all__ = ["Origin"]


class Origin(NamedTuple):
    """A place in the order of calls. It pickles, as far as it means something elsewhere."""

    run: Recorder | None
    caller: Flight | None

    @classmethod
    def here(cls) -> Self:
        """This place."""
        return cls(recorder() if OPEN else None, flights.caller())

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Be there for a block: a worker may have been forked, or started, somewhere else."""
        token = current.set(self.caller)
        try:
            with contextlib.nullcontext() if self.run is None else self.run.joined():
                yield
        finally:
            current.reset(token)

    def __reduce__(self) -> tuple[Any, ...]:
        run = self.run if self.run is not None and self.run.travels else None
        key = None if self.caller is None else self.caller.key
        return _elsewhere, (run, key)


def _elsewhere(run: Recorder | None, key: bytes | None) -> Origin:
    return Origin(run, None if key is None else Flight(None, None, key))
