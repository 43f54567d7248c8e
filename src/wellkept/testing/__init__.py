"""For tests of one's own: certificates of kept functions, and suites that a store can be held to.

`assert_faithful` and `assert_invalidates` certify a function in a test of any framework. The suites need
pytest; nothing else of wellkept does: subclass `StoreContract` in a test module, say how the store is made,
and run pytest on it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wellkept.testing.certificates import assert_faithful, assert_invalidates
    from wellkept.testing.contract import Accessor, StoreContract

__all__ = ["Accessor", "StoreContract", "assert_faithful", "assert_invalidates"]

# The plugin of pytest lies here too, and is imported in sessions that need none of these.
_ROOMS = {"Accessor": "contract", "StoreContract": "contract"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        room = import_module(f"{__name__}.{_ROOMS.get(name, 'certificates')}")
        return getattr(room, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
