"""Stores that hold a store: each does one thing, and they nest."""

from wellkept.stores.wrappers.compressed import Compressed
from wellkept.stores.wrappers.locked import Locked
from wellkept.stores.wrappers.logged import Logged
from wellkept.stores.wrappers.prefix import Prefix
from wellkept.stores.wrappers.readonly import ReadOnly
from wellkept.stores.wrappers.retry import Retry

__all__ = ["Compressed", "Locked", "Logged", "Prefix", "ReadOnly", "Retry"]
