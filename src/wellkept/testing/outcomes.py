"""What a call came to, worked off to its end, so that two of them can be compared."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

from wellkept.caches.encoded import encoded
from wellkept.errors import KeptError

__all__ = ["Outcome", "outcome"]


class Outcome(NamedTuple):
    """What a call gave, or raised."""

    value: Any
    error: BaseException | None = None

    def same(self, other: Outcome) -> bool:
        """Whether both are of the same type and content."""
        if (self.error is None) != (other.error is None):
            return False
        return self._name() == other._name()

    def _name(self) -> bytes:
        what = self.value if self.error is None else [self.error]
        try:
            return encoded(what, "pickle")[1]
        except KeptError:
            return repr(what).encode()

    def __str__(self) -> str:
        text = repr(self.value) if self.error is None else f"raising {self.error!r}"
        return text if len(text) <= 200 else f"{text[:199]}…"


def outcome(call: Callable[[], Any]) -> Outcome:
    """Make a call, await what is to be awaited, take every item of a generator."""
    try:
        return Outcome(_worked_off(call()))
    except Exception as error:  # noqa: BLE001  what is raised is what it came to
        return Outcome(None, error)


def _worked_off(made: Any) -> Any:
    if inspect.iscoroutine(made):
        return asyncio.run(made)
    if inspect.isasyncgen(made):
        return asyncio.run(_items(made))
    if inspect.isgenerator(made):
        items = []
        while True:
            try:
                items.append(next(made))
            except StopIteration as stop:
                return [items, stop.value]
    return made


async def _items(made: Any) -> list[Any]:
    return [item async for item in made]
