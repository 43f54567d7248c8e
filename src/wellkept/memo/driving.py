"""The sync drivers of a call's flow, and the thread that refreshes a stale result."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from wellkept.guards import settle
from wellkept.memo.flow import Flow, Given, Raise, keeping, outcome
from wellkept.stores.leases import Owner

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

__all__ = ["advance", "advance_async", "drive", "refresh"]


def advance(flow: Flow, sent: Any = None) -> tuple[Given | None, Any]:
    """Run a flow until the body is to be called: its arguments. At the end: None, and the outcome.

    Args:
        sent: what the body gave, or a `Raise` of what it raised.
    """
    try:
        step = flow.send(sent)
        while type(step) is not tuple:
            time.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
            step = next(flow)
    except StopIteration as stop:
        return None, stop.value
    except BaseException as error:
        if not isinstance(error, Exception):
            settle()  # it may have come between any two instructions
        raise
    return step, None


async def advance_async(flow: Flow, sent: Any = None) -> tuple[Given | None, Any]:
    """The same in an event loop."""
    try:
        step = flow.send(sent)
        while type(step) is not tuple:
            import asyncio  # loaded: a loop runs

            await asyncio.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
            step = next(flow)
    except StopIteration as stop:
        return None, stop.value
    except BaseException as error:
        if not isinstance(error, Exception):
            settle()  # it may have come between any two instructions
        raise
    return step, None


def drive(kept: Kept[..., Any], values: tuple[Any, ...], given: Given, again: bool = False) -> Any:
    """Run the flow of one call to its end; what it gives. `Kept.__call__` does the same in its place.

    Args:
        again: compute even where a result is kept, and replace it.
    """
    flow = keeping(kept, values, given, again)
    try:
        step, result = advance(flow)
        while step is not None:
            try:
                result = kept.__wrapped__(*step[0], **step[1])
            except BaseException as error:
                step, result = advance(flow, Raise(error))
                if type(result) is Raise and result.error is error:
                    # Raised on from here, it has no frame of the flow, and its context stays.
                    result = None
                    raise
            else:
                step, result = advance(flow, result)
    finally:
        flow.close()
    return outcome(result)


def refresh(kept: Kept[..., Any], given: Given) -> None:
    """Compute a stale result again in the background, once at a time."""
    found = kept._located(kept._values(*given))
    locks, look = found.cache.backend.locks, Owner()
    taken = False
    try:
        taken = locks.acquire(found.key, look)  # whether somebody is at it already
    finally:
        look.over = True
        locks.release(found.key, look)
    if taken:
        thread = threading.Thread(
            target=_refresh, args=(kept, given), name="wellkept-refresh", daemon=True
        )
        thread.start()


def _refresh(kept: Kept[..., Any], given: Given) -> None:
    try:
        kept._run(*given, again=True)
    except Exception as error:  # noqa: BLE001  nobody else would hear of it
        kept.warn("refresh", f"refreshing a stale result failed: {error!r}")
