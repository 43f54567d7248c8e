"""Asking which calls are kept: conditions, and the lazy answer."""

from wellkept.conditions import ANY, Query
from wellkept.query.matches import Match, Matches
from wellkept.query.operators import above, at_least, at_most, below, between, like, named, one_of

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
