"""The answer to a query: lazy, and as often as one asks."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kept.conditions import (
    Begins,
    Choice,
    Condition,
    Equal,
    Has,
    Is,
    Like,
    Order,
    Present,
    Query,
    Span,
    Test,
    order_of,
)
from kept.errors import AmbiguousDigest, ConfigError, NotKept
from kept.query import building
from kept.query.match import LoadedArguments, Match
from kept.query.noted import Either, predicate, resolved
from kept.query.tests import is_value
from kept.records import Call, Digest

__all__ = ["Matches"]

_ALL = Query()
_LOOKED_AT = 200  # calls by which it is found out whether an argument is shown at all


class Matches:
    """The calls that fit a query. Nothing is read until it is asked for, and each time anew.

    Iterating gives each as a `Match`. `where`, `order_by` and `limit` make another answer of it.

    Args:
        cache: whose calls.
        query: which of them.
    """

    def __init__(self, cache: Any, query: Query = _ALL) -> None:
        self.cache = cache
        self.query = query

    # -- narrowing --------------------------------------------------------------------------------

    def where(self, **filters: Any) -> Matches:
        """Those for which this holds, too; see `Cache.query`."""
        return Matches(self.cache, self.query.narrowed(*building.conditions(filters)))

    def order_by(self, field: str, descending: bool | None = None) -> Matches:
        """In another order than that in which they were computed.

        Args:
            field: of `Call` (`"seconds"`), `"metadata.<name>"`, or the name of an argument
                (`"arguments.<name>"` where that is also a field); `"-seconds"` for descending.

        Calls that have no such argument, or one that their record does not show, come first.
        """
        return Matches(self.cache, self.query._replace(order=building.order(field, descending)))

    def limit(self, count: int | None) -> Matches:
        """So many at the most, the first in order.

        Raises:
            ConfigError: it is no number from 0 up.
        """
        if count is not None and (type(count) is not int or count < 0):
            raise ConfigError(f"a limit is a number from 0 up, or None, not {count!r:.80}")
        now = self.query.limit
        limits = [one for one in (now, count) if one is not None]
        return Matches(self.cache, self.query._replace(limit=min(limits, default=None)))

    # -- reading ----------------------------------------------------------------------------------

    def calls(self) -> Iterator[Call]:
        """The records, one after the other.

        Raises:
            AmbiguousDigest: a shortened digest fits several.
            ConfigError: a comparison with an argument that no record shows.
            StoreError: the store can't be read.
        """
        some = self.query.limit == 0
        for call in self._found():
            some = True
            yield call
        if not some:
            self._check_shown()

    def predicate(self) -> Query | Either:
        """What tells of a record whether it is one of them."""
        return predicate(self.cache.place.notes, self.query)

    def table(self) -> Any:
        """The calls as a `Table`, where the store has a quicker way to that than to records; otherwise
        None, and where there are none."""
        quick = getattr(self.cache.place, "table", None)
        asked = [] if quick is None else self._prepared()
        found = quick(asked[0]) if quick is not None and len(asked) == 1 else None
        return None if found is None or not found.metadata else found

    def __iter__(self) -> Iterator[Match]:
        return (Match(self.cache, call) for call in self.calls())

    def first(self) -> Match | None:
        """The first in order; None if there is none."""
        return next(iter(self.limit(1)), None)

    def latest(self) -> Match | None:
        """The one that was computed last; None if there is none."""
        return self.order_by("created", descending=True).first()

    def oldest(self) -> Match | None:
        """The one that was computed first; None if there is none."""
        return self.order_by("created", descending=False).first()

    def one(self) -> Match:
        """The only one.

        Raises:
            NotKept: there is none.
            AmbiguousDigest: there are several.
        """
        found = list(self.limit(2))
        if not found:
            raise NotKept(f"no call fits {self!r}")
        if len(found) > 1:
            keys = ", ".join(match.key[:12] for match in found)
            raise AmbiguousDigest(f"several calls fit {self!r}: {keys}, …; say more")
        return found[0]

    def count(self) -> int:
        """How many there are."""
        asked = self._prepared()
        found: int | None = self.cache.place.found(asked[0]) if len(asked) == 1 else None
        if found is None:
            found = sum(1 for _ in self._found())
        if not found and self.query.limit != 0:
            self._check_shown()
        return found

    def exists(self) -> bool:
        """Whether there is one."""
        return self.first() is not None

    def results(self) -> Iterator[Any]:
        """Their results, each loaded when it is its turn; see `Match.result`."""
        return (match.result for match in self)

    def arguments(self) -> Iterator[LoadedArguments]:
        """Their arguments; see `Match.arguments`."""
        return (match.arguments for match in self)

    def group_by(self, field: str) -> list[tuple[Any, Matches]]:
        """The values of a field (of `Call`, or `"module"`), an argument or `"metadata.<name>"`, in the
        order in which they are met, each with an answer of the calls that have it. An argument that no
        record shows stands for itself by its digest; calls without one are left out, and so is a limit.

        Raises:
            ConfigError: it is a list or a mapping.
        """
        by = building.group(field)
        every = self.query._replace(limit=None)
        found: dict[tuple[type, Any], Matches] = {}
        for call in Matches(self.cache, every).calls():
            there, value = _value(call, by)
            if there:
                if isinstance(value, (list, dict)):
                    raise ConfigError(f"calls are not grouped by {field}: {value!r:.80}")
                at = type(value), value
                if at not in found:
                    digested = by.field in ("argument", "result")
                    test = is_value(value) if digested else Equal(value)
                    condition = Condition(by.field, by.path, test)
                    found[at] = Matches(self.cache, every.narrowed(condition))
        return [(value, matches) for (_, value), matches in found.items()]

    # -- doing ------------------------------------------------------------------------------------

    def evict(self, *, dry_run: bool = False) -> Any:
        """Throw them away, and what only they referenced; see `Cache.evict`."""
        return self.cache.evict(keys=[call.key for call in self.calls()], dry_run=dry_run)

    def transfer(
        self,
        target: Any,
        *,
        move: bool = False,
        overwrite: bool | str = False,
        dry_run: bool = False,
    ) -> Any:
        """Copy (or move) them with their results to another cache; see `Cache.transfer`."""
        return self.cache.transfer(target, self, move=move, overwrite=overwrite, dry_run=dry_run)

    # -- tables -----------------------------------------------------------------------------------

    def to_pandas(self, *, results: bool = False, metadata: Sequence[str] = ()) -> Any:
        """A `pandas.DataFrame`: a row a call, a column a field or argument.

        Args:
            results: with a column of results, all loaded now.
            metadata: parts of the metadata that get columns: `"run"`, `"git.commit"`.

        Raises:
            ConfigError: pandas is not there.
        """
        from kept.query import frames  # who asks for no table has no need of it

        return frames.to_pandas(self, results=results, metadata=metadata)

    def to_polars(self, *, results: bool = False, metadata: Sequence[str] = ()) -> Any:
        """The same as a `polars.DataFrame`."""
        from kept.query import frames  # as above

        return frames.to_polars(self, results=results, metadata=metadata)

    def to_arrow(self, *, results: bool = False, metadata: Sequence[str] = ()) -> Any:
        """The same as a `pyarrow.Table`."""
        from kept.query import frames  # as above

        return frames.to_arrow(self, results=results, metadata=metadata)

    # -- before asking ----------------------------------------------------------------------------

    def _prepared(self) -> list[Query]:
        """The query, whose shortened digests fit one each; counts of uses are written down first. Where
        it asks for metadata that is kept as notes, several, of which a call has to fit one.
        """
        self.cache.flush()
        for condition in self.query.conditions:
            test = condition.test
            for one in test.tests if isinstance(test, Choice) else (test,):
                if isinstance(one, Begins):
                    self._check_one(condition._replace(test=one))
        return resolved(self.cache.place.notes, self.query)

    def _found(self) -> Iterator[Call]:
        """The records that fit, in order."""
        asked, place = self._prepared(), self.cache.place
        if len(asked) == 1:
            return iter(place.find(asked[0]))
        order = self.query.order
        found = [place.find(one) for one in asked]
        merged = heapq.merge(
            *found, key=lambda call: order_of(order, call), reverse=order.descending
        )
        once = (next(same) for _, same in itertools.groupby(merged, lambda call: call.key))
        return itertools.islice(once, self.query.limit)

    def _check_one(self, condition: Condition) -> None:
        others = [one for one in self.query.conditions if one.field == "function"]
        found: set[Digest] = set()
        for call in self.cache.place.find(Query((*others, condition))):
            if condition.field == "given":
                hidden = [one for one in call.arguments.values() if not one.shown]
                found.update(one.digest for one in hidden if condition.test.holds(one))
            elif condition.path:
                found.add(call.arguments[condition.path[0]].digest)
            else:
                found.add(getattr(call, condition.field))
            if len(found) > 1:
                fits = ", ".join(sorted(digest[:16] for digest in found))
                prefix = getattr(condition.test, "prefix", "")
                raise AmbiguousDigest(f"{prefix} fits several: {fits}; give more digits")

    def _check_shown(self) -> None:
        """Nothing was found: perhaps because what was compared is nothing that can be."""
        for condition in self.query.conditions:
            field, path, test = condition
            if field == "argument" and isinstance(test, (Span, Like)):
                others = [one for one in self.query.conditions if one.field == "function"]
                there = Condition(field, path, Present())
                calls = self.cache.place.find(Query((*others, there), limit=_LOOKED_AT))
                found = [call.arguments[path[0]] for call in calls]
                compared = any(type(one.value) in (int, float, str) for one in found if one.shown)
                if not compared and not all(one.shown for one in found):
                    raise ConfigError(
                        f"the argument {path[0]} can't be compared: no record shows it, as it is not "
                        "a number, a short text, or arguments='digests' was said"
                    )

    def __repr__(self) -> str:
        said = [_shown(condition) for condition in self.query.conditions]
        order, limit = self.query.order, self.query.limit
        if order != Order():
            name = ".".join((order.field, *order.path)) if order.path else order.field
            said.append(f"order_by={'-' * order.descending + name!r}")
        if limit is not None:
            said.append(f"limit={limit}")
        return f"<kept.Matches {', '.join(said) or 'all calls'}>"

    def _repr_html_(self) -> str:
        from kept.query import frames  # as above

        return frames.to_html(self)


def _value(call: Call, by: Order) -> tuple[bool, Any]:
    """Whether a call has it, and what it is."""
    if by.field == "argument":
        found = call.arguments.get(by.path[0])
        if found is None:
            return False, None
        return True, found.value if found.shown else found.digest
    if by.field == "metadata":
        value: Any = call.metadata
        for key in by.path:
            if not isinstance(value, Mapping) or key not in value:
                return False, None
            value = value[key]
        return True, value
    if by.field == "module":
        return True, call.function.rpartition(":")[0]
    return True, getattr(call, by.field)


def _shown(condition: Condition) -> str:
    name = ".".join((condition.field, *condition.path)) if condition.path else condition.field
    if condition.field == "argument":
        name = condition.path[0]
    return f"{name}={_said(condition.test)}"


def _said(test: Test) -> str:
    if isinstance(test, Is):
        return repr(test.value) if test.scalar else f"<{test.digest[:12]}>"
    if isinstance(test, Equal):
        return repr(test.value)
    if isinstance(test, Span):
        opening, closing = "(" if test.above else "[", ")" if test.below else "]"
        low = "" if test.low is None else repr(test.low)
        high = "" if test.high is None else repr(test.high)
        return f"{opening}{low}, {high}{closing}"
    if isinstance(test, Present):
        return "ANY"
    if isinstance(test, Like):
        return repr(test.pattern)
    if isinstance(test, Begins):
        return f"<{test.prefix}…>"
    if isinstance(test, Has):
        return f"has {test.item!r}"
    return " or ".join(_said(one) for one in test.tests)
