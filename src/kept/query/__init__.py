"""Asking which calls are kept: conditions, and the lazy answer."""

from kept.conditions import ANY, Query
from kept.query.matches import Match, Matches
from kept.query.operators import above, at_least, at_most, below, between, like, named, one_of

__all__ = [
    "ANY",
    "Match",
    "Matches",
    "Query",
    "above",
    "at_least",
    "at_most",
    "below",
    "between",
    "like",
    "named",
    "one_of",
]
