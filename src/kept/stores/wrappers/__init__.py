"""Stores that hold a store: each does one thing, and they nest."""

from kept.stores.wrappers.compressed import Compressed
from kept.stores.wrappers.locked import Locked
from kept.stores.wrappers.logged import Logged
from kept.stores.wrappers.prefix import Prefix
from kept.stores.wrappers.readonly import ReadOnly
from kept.stores.wrappers.retry import Retry

__all__ = ["Compressed", "Locked", "Logged", "Prefix", "ReadOnly", "Retry"]
