"""Results that other libraries kept, taken over: `from_diskcache`, `from_joblib` and `from_fleche`.

Each is imported when it is first named, as its library is then needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from wellkept.integrations.importers.taking import Item, Taken

if TYPE_CHECKING:
    from wellkept.integrations.importers.diskcache_entries import from_diskcache
    from wellkept.integrations.importers.fleche_records import from_fleche
    from wellkept.integrations.importers.joblib_memory import from_joblib

__all__ = ["Item", "Taken", "from_diskcache", "from_fleche", "from_joblib"]

_WHERE = {
    "from_diskcache": "diskcache_entries",
    "from_fleche": "fleche_records",
    "from_joblib": "joblib_memory",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
