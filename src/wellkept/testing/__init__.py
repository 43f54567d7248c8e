"""For tests of one's own: certificates of kept functions, and suites that a store can be held to.

`assert_faithful` and `assert_invalidates` certify a function in a test of any framework. The suites need
pytest; nothing else of wellkept does: subclass `StoreContract` in a test module, say how the store is made,
and run pytest on it.
"""

from typing import TYPE_CHECKING, Any

from wellkept.testing.certificates import assert_faithful, assert_invalidates

if TYPE_CHECKING:
    from wellkept.testing.contract import Accessor, StoreContract

__all__ = ["Accessor", "StoreContract", "assert_faithful", "assert_invalidates"]


def __getattr__(name: str) -> Any:
    if name in ("Accessor", "StoreContract"):
        # Needs pytest.
        from wellkept.testing import contract

        return getattr(contract, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
