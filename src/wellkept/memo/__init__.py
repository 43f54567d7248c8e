"""`@keep`: binding, the flow of a call and its drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellkept.memo.keep import keep

if TYPE_CHECKING:
    from wellkept.memo.keep_options import Ignored, Ordered, Required
    from wellkept.memo.kept import BoundCall, Kept
    from wellkept.memo.stats import Stats

__all__ = ["BoundCall", "Ignored", "Kept", "Ordered", "Required", "Stats", "keep"]


def __getattr__(name: str) -> Any:
    # Imported with the first decorated function, as what `keep` is made of.
    if name in ("BoundCall", "Kept"):
        from wellkept.memo import kept as room
    elif name in ("Ignored", "Ordered", "Required"):
        from wellkept.memo import keep_options as room  # type: ignore[no-redef]  # one of three
    elif name == "Stats":
        from wellkept.memo import stats as room  # type: ignore[no-redef]  # one of three
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(room, name)
    return found
