"""`@keep`: binding, the flow of a call and its drivers."""

from wellkept.memo.keep import keep
from wellkept.memo.keep_options import Ignored, Ordered, Required
from wellkept.memo.kept import BoundCall, Kept
from wellkept.memo.stats import Stats

__all__ = ["BoundCall", "Ignored", "Kept", "Ordered", "Required", "Stats", "keep"]
