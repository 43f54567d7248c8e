"""Asking which calls are kept: conditions, and the lazy answer."""

from wellkept.conditions import ANY, Query
from wellkept.query.matches import Cost, Match, Matches, add_costs
from wellkept.query.operators import above, at_least, at_most, below, between, like, named, one_of

__all__ = [
    "ANY",
    "Cost",
    "Match",
    "Matches",
    "Query",
    "above",
    "add_costs",
    "at_least",
    "at_most",
    "below",
    "between",
    "like",
    "named",
    "one_of",
]
