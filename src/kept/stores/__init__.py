"""Where records and bytes live; one file a medium. The seam is in `base`."""

from kept.stores.base import Creates, Store
from kept.stores.memory import Memory

__all__ = ["Creates", "Memory", "Store"]
