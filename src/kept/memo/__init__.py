"""`@keep`: binding, the flow of a call and its drivers."""

from kept.memo.keep import keep
from kept.memo.kept import BoundCall, Kept
from kept.memo.marks import Ignored, Ordered, Required
from kept.memo.stats import Stats

__all__ = ["BoundCall", "Ignored", "Kept", "Ordered", "Required", "Stats", "keep"]
