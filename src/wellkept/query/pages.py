"""Answers page by page, for lists that people go through: by keys, as offsets move with every new call."""

from __future__ import annotations

import json
from typing import Any

from wellkept.conditions import Condition, Span, order_of
from wellkept.errors import ConfigError
from wellkept.query.matches import Matches
from wellkept.records import Call

_NUMBERS = ("created", "seconds", "size", "uses")


def page(matches: Matches, size: int, after: str = "") -> tuple[list[Call], str]:
    """Return a page of records and the mark of the next page, which is empty on the last one.

    Calls that are kept or deleted meanwhile move no call from one page to another.

    Args:
        matches: the calls, ordered by time or by another number of the record.
        size: how many records.
        after: the mark that came with the page before.

    Raises:
        ConfigError: the mark is invalid, or the store does not have this order.
        StoreError: the store can't be read.
    """
    order, some = matches.query.order, matches
    if matches.steps or order.field not in _NUMBERS:
        raise ConfigError(f"{matches!r} has no pages: order it by one of {', '.join(_NUMBERS)}")
    last: tuple[Any, ...] = ()
    if after:
        last = _unmarked(after)
        ends = Span(high=last[1]) if order.descending else Span(low=last[1])
        some = Matches(matches.cache, matches.query.narrowed(Condition(order.field, (), ends)))
    found: list[Call] = []
    for call in some.calls():
        at = order_of(order, call)
        if last and not (at < last if order.descending else at > last):
            continue
        found.append(call)
        if len(found) > size:
            break
    if len(found) <= size:
        return found, ""
    return found[:size], json.dumps(order_of(order, found[size - 1]), separators=(",", ":"))


def _unmarked(text: str) -> tuple[Any, ...]:
    try:
        kind, value, created, number = json.loads(text)
        if all(type(one) in (int, float) for one in (kind, value, created, number)):
            return kind, value, created, number
    except (ValueError, TypeError):
        pass
    raise ConfigError(f"{text!r:.80} is no mark of a page: begin at the first page")
