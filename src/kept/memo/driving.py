"""The sync driver of a call's flow, and the thread that refreshes a stale result."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kept.memo.flow import keeping

if TYPE_CHECKING:
    from kept.memo.kept import Kept

__all__ = ["drive", "refresh"]


def drive(kept: Kept[..., Any], values: tuple[Any, ...], again: bool = False) -> Any:
    """Run the flow of one call to its end; what it returns.

    Args:
        again: compute even where a result is kept, and replace it.
    """
    flow = keeping(kept, values, again)
    stopped: StopIteration | None = None
    try:
        step = next(flow)
        while True:
            if type(step) is tuple:
                try:
                    result = kept._binder.call(kept.__wrapped__, step)
                except BaseException as error:  # noqa: BLE001  the flow raises it again
                    if isinstance(error, StopIteration):
                        stopped = error
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
            else:
                time.sleep(step)  # type: ignore[arg-type]  # a float; see `Flow`
                step = next(flow)
    except StopIteration as stop:
        return stop.value
    except RuntimeError as error:
        if stopped is not None and error.__cause__ is stopped:
            raise stopped from None  # no generator, so neither our flow, lets one through
        raise
    finally:
        flow.close()


def refresh(kept: Kept[..., Any], values: tuple[Any, ...]) -> None:
    """Compute a stale result again in the background, once at a time."""
    found = kept._located(values)
    locks = found.cache.place.locks
    if locks.acquire(found.key):  # a look whether somebody is at it already
        locks.release(found.key)
        thread = threading.Thread(
            target=_refresh, args=(kept, values), name="kept-refresh", daemon=True
        )
        thread.start()


def _refresh(kept: Kept[..., Any], values: tuple[Any, ...]) -> None:
    try:
        kept._run(values, again=True)
    except Exception as error:  # noqa: BLE001  nobody else would hear of it
        kept.warn("refresh", f"refreshing a stale result failed: {error!r}")
