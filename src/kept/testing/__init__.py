"""Suites that a store of one's own can be held to. They need pytest; nothing else of kept does.

Subclass `StoreContract` in a test module, say how the store is made, and run pytest on it.
"""

from kept.testing.accessors import Accessor
from kept.testing.contract import StoreContract

__all__ = ["Accessor", "StoreContract"]
