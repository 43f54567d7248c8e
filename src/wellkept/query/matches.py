"""The matches of a query: kept calls, read when they are needed."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

from wellkept.conditions import (
    ANY,
    Begins,
    Choice,
    Condition,
    Equal,
    Like,
    Order,
    Other,
    Present,
    Query,
    Span,
    order_of,
)
from wellkept.errors import AmbiguousDigest, ConfigError, KeptError, NotKept
from wellkept.query import noted, operators
from wellkept.query.operators import is_value
from wellkept.records import PARTS, Call, Digest


class Loads(Protocol):
    """Loads values; a cache does."""

    @property
    def backend(self) -> Any: ...
    def load(self, digest: str) -> Any: ...
    def find(self, key: bytes) -> Any: ...
    def value(self, key: bytes, entry: Any, *, hit: bool = True) -> Any: ...


class Match:
    """A call that matches a query.

    Attributes:
        call: its record. `key`, `function`, `code`, `state`, `created`, `seconds`, `size`, `expires`, `uses`,
            `used` and `metadata` are attributes of the match too.
    """

    __slots__ = ("_cache", "call")

    def __init__(self, cache: Loads, call: Call) -> None:
        self._cache = cache
        self.call: Call = call

    @property
    def key(self) -> Digest:
        """Return the digest that names the call."""
        return self.call.key

    @property
    def digest(self) -> Digest:
        """Return the result's digest."""
        return self.call.result

    @property
    def result(self) -> Any:
        """Load and return the result; for a generator, the list of its items. A kept exception is raised.

        Raises:
            NotKept: it was evicted.
            DecodeError: it is damaged.
            StoreError: it can't be read.
        """
        value = self._load()
        if self.call.state == "failed":
            raise value[0]
        return value[0] if self.call.state == "items" else value

    @property
    def error(self) -> BaseException | None:
        """Load and return the kept exception; None if the call returned. Raises as `result`."""
        return self._load()[0] if self.call.state == "failed" else None

    def _load(self) -> Any:
        key = self.call.key.raw
        entry = self._cache.find(key)
        if entry is not None and entry.body.result == self.call.result.raw:
            return self._cache.value(key, entry, hit=False)
        return self._cache.load(self.call.result)

    @property
    def arguments(self) -> LoadedArguments:
        """Return the arguments by name.

        One that the record does not show is loaded when it is used, which works if it is a kept result, or was
        kept itself (`arguments="values"`).
        """
        return LoadedArguments(self._cache, self.call)

    def __getattr__(self, name: str) -> Any:
        if name in _FIELDS:
            return getattr(self.call, name)
        raise AttributeError(f"a match has no {name}")

    def __repr__(self) -> str:
        # Calls of other code, which are listed beside it, are to be told from it; the first version goes
        # without saying.
        kind, _, tag = self.call.code.partition(":")
        named = f", version {tag[:20]}" if kind == "version" else f", code {tag[:8]}"
        code = "" if tag in ("", "1") else named
        return f"<{self.call.function.rpartition(':')[2]}({self.arguments!r}){code}>"

    def _repr_html_(self) -> str:
        return self.call._repr_html_()


_FIELDS = frozenset(Call._fields) - {"key", "result", "arguments"}


class LoadedArguments(Mapping[str, Any]):
    """The values of a call's arguments."""

    __slots__ = ("_cache", "_call")

    def __init__(self, cache: Loads, call: Call) -> None:
        self._cache, self._call = cache, call

    def __getitem__(self, name: str) -> Any:
        found = self._call.arguments[name]
        return found.value if found.shown else self._cache.load(found.digest)

    def __iter__(self) -> Iterator[str]:
        return iter(self._call.arguments)

    def __len__(self) -> int:
        return len(self._call.arguments)

    def digest(self, name: str) -> Digest:
        """Return the digest of an argument, without loading it."""
        return self._call.arguments[name].digest

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value, or `default` if the call has no such argument or its value is not kept."""
        try:
            return self[name]
        except (KeyError, KeptError):
            return default

    def __repr__(self) -> str:
        return noted.described(self._cache.backend.notes, self._call)


class Cost(NamedTuple):
    """The sum of a cost other than time."""

    calls: int = 0
    """How many kept calls have that cost."""
    spent: float = 0.0
    saved: float = 0.0
    """The cost that the uses of kept results would have had."""


def add_costs(found: dict[str, Cost], call: Call, computed: int, used: int) -> None:
    """Add to sums what a call cost each time that it was computed, and would have when it was used."""
    for name, amount in call.metadata.get("cost", {}).items():
        calls, spent, saved = found.get(name, Cost())
        found[name] = Cost(calls + 1, spent + computed * amount, saved + used * amount)


class Step(NamedTuple):
    """A change of the matches that the store has found, such as a filter."""

    shown: str
    change: Callable[[Iterator[Match]], Iterator[Match]]


_ALL = Query()
_OF_ONE = ("function", "module", "key")
"""What a query says that may be about parts of calls; otherwise it is about calls."""
# More calls than there are.
_EVERY = 1 << 31
# Calls that are read to find out whether records show an argument at all.
_LOOKED_AT = 200


class Matches:
    """The calls that match a query. They are read when they are used, and anew at each use.

    Iterating yields each as a `Match`. `where`, `order_by`, `limit`, `skip`, `unique`, `filter` and `sorted`
    return other matches.

    Args:
        cache: the cache.
        query: which of its calls.
        steps: changes that are made in turn after the store has found them.
    """

    def __init__(self, cache: Any, query: Query = _ALL, steps: tuple[Step, ...] = ()) -> None:
        self.cache = cache
        self.query = query
        self.steps = steps

    # -- narrowing --------------------------------------------------------------------------------

    def where(self, **filters: Any) -> Matches:
        """Return the matches for which these filters hold too; see `Cache.query`."""
        conditions = operators.conditions(filters)
        if self.steps:
            # A filter after a step applies to what the step returns, so the store can't apply it.
            asked = Matches(self.cache, Query(tuple(conditions)))
            return self._then(f"where={asked!r}", lambda found: _fitting(asked, found))
        return Matches(self.cache, self.query.narrowed(*conditions))

    def order_by(
        self, field: str | Callable[[Match], Any], descending: bool | None = None
    ) -> Matches:
        """Return the matches in another order than that in which they were computed.

        Calls without that argument, or whose record does not show it, come first.

        Args:
            field: a field of `Call` (`"seconds"`), `"metadata.<name>"`, or the name of an argument
                (`"arguments.<name>"` if that is also a field); `"-seconds"` for descending. Or a function of a
                `Match`.
            descending: whether to reverse the order.
        """
        if callable(field):
            return self._sorted(field, bool(descending), field)
        order = operators.order(field, descending)
        if self.steps:
            return self._sorted(lambda match: order_of(order, match.call), order.descending, field)
        return Matches(self.cache, self.query._replace(order=order))

    def sorted(
        self, key: str | Callable[[Match], Any] = "created", *, reverse: bool = False
    ) -> Matches:
        """Return the same as `order_by`, with the parameters of the builtin."""
        return self.order_by(key, descending=reverse or None)

    def _sorted(self, key: Callable[[Match], Any], down: bool, shown: Any) -> Matches:
        return self._then(
            f"order_by={'-' * down}{shown}",
            lambda found: iter(sorted(found, key=key, reverse=down)),
        )

    def filter(self, fits: Callable[[Match], Any]) -> Matches:
        """Return the matches for which a function of a `Match` is true.

        Each call is read from the store first, so `where` is faster for what it can express.
        """
        if not callable(fits):
            raise ConfigError(f"filter takes a function of a match, not {fits!r:.80}")
        return self._then(f"filter={fits}", lambda found: (one for one in found if fits(one)))

    def skip(self, count: int) -> Matches:
        """Return the matches without the first `count`.

        Raises:
            ConfigError: `count` is not a number from 0 up.
        """
        if type(count) is not int or count < 0:
            raise ConfigError(f"skip takes a number from 0 up, not {count!r:.80}")
        return self._then(f"skip={count}", lambda found: itertools.islice(found, count, None))

    def unique(self, key: str | Callable[[Match], Any]) -> Matches:
        """Return the first match for each value of a field, an argument (see `group_by`) or a function.

        Matches without a value all stay.
        """
        value_of = _value_of(key)

        def once(found: Iterator[Match]) -> Iterator[Match]:
            seen = set()
            for match in found:
                there, value = value_of(match)
                at = _at(value, key) if there else match.key
                if at not in seen:
                    seen.add(at)
                    yield match

        return self._then(f"unique={key}", once)

    def _then(self, shown: str, change: Callable[[Iterator[Match]], Iterator[Match]]) -> Matches:
        return Matches(self.cache, self.query, (*self.steps, Step(shown, change)))

    def limit(self, count: int | None) -> Matches:
        """Return the first `count` matches.

        Raises:
            ConfigError: `count` is not a number from 0 up.
        """
        if count is not None and (type(count) is not int or count < 0):
            raise ConfigError(f"a limit is a number from 0 up, or None, not {count!r:.80}")
        if self.steps:
            return self._then(f"limit={count}", lambda found: itertools.islice(found, count))
        now = self.query.limit
        limits = [one for one in (now, count) if one is not None]
        return Matches(self.cache, self.query._replace(limit=min(limits, default=None)))

    # -- what came of them ------------------------------------------------------------------------

    def downstream(self) -> Matches:
        """Return these and all that is made of their results, so that it can be thrown away at once: the calls
        that took one of the results as an argument, the calls whose bodies made one of these, all that
        those made afterwards, and so on.

        Results and arguments are connected where they are equal; None, True, False and what is empty
        connect nothing. What a body took from a call that was kept already is not recorded, nor is a
        result inside of a list that is an argument.
        """
        return self._walked("downstream")

    def upstream(self) -> Matches:
        """Return these and all that they are made from: the calls that gave their arguments, the calls that
        their bodies made, and so on; see `downstream`.
        """
        return self._walked("upstream")

    def _walked(self, way: Literal["downstream", "upstream"]) -> Matches:
        # Few follow calls; it brings what reads pickles.
        from wellkept.query.links import Walk

        def walked(found: Iterator[Match]) -> Iterator[Match]:
            walk = Walk(self.cache, _EVERY)
            of = walk.downstream if way == "downstream" else walk.upstream
            calls = of(match.call for match in found)
            calls.sort(key=lambda call: (call.created, call.key))
            return (Match(self.cache, call) for call in calls)

        return self._then(way, walked)

    # -- reading ----------------------------------------------------------------------------------

    def calls(self) -> Iterator[Call]:
        """Yield the records.

        Raises:
            AmbiguousDigest: several digests begin as a shortened one.
            ConfigError: an argument is compared that no record shows.
            StoreError: the store can't be read.
        """
        some = self.query.limit == 0
        for call in self._found():
            some = True
            yield call
        if not some:
            self._check_shown()

    def predicate(self) -> Query | noted.Either:
        """Return the test of whether a record matches.

        Raises:
            ConfigError: a record alone does not tell.
        """
        if self.steps:
            raise ConfigError(f"{self!r}: no record tells by itself whether it is one of these")
        return noted.predicate(self.cache.backend.notes, self.query)

    def table(self) -> Any:
        """Return the calls as a `Table`; None if the store needs records for that, or there are no calls."""
        asked = self._pushed_down()
        found = None if asked is None else self.cache.backend.table(asked)
        return None if found is None or not found.metadata else found

    def __iter__(self) -> Iterator[Match]:
        return (Match(self.cache, call) for call in self.calls())

    def first(self) -> Match | None:
        """Return the first match; None if there is none."""
        return next(iter(self.limit(1)), None)

    def latest(self) -> Match | None:
        """Return the match that was computed last; None if there is none."""
        return self.order_by("created", descending=True).first()

    def oldest(self) -> Match | None:
        """Return the match that was computed first; None if there is none."""
        return self.order_by("created", descending=False).first()

    def one(self) -> Match:
        """Return the only match.

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
        """Return how many calls match."""
        asked = self._pushed_down()
        found: int | None = None if asked is None else self.cache.backend.found(asked)
        if found is None:
            found = sum(1 for _ in self._found())
        if not found and self.query.limit != 0:
            self._check_shown()
        return found

    def exists(self) -> bool:
        """Return whether any call matches."""
        return self.first() is not None

    def results(self) -> Iterator[Any]:
        """Yield the results, each loaded when it is reached; see `Match.result`."""
        return (match.result for match in self)

    def arguments(self) -> Iterator[LoadedArguments]:
        """Yield the arguments; see `Match.arguments`."""
        return (match.arguments for match in self)

    def costs(self) -> dict[str, Cost]:
        """Return the costs other than time (`cost=` of `keep`) of the calls and of their uses, by name."""
        self.cache.flush()
        found: dict[str, Cost] = {}
        for call in self.where(metadata={"cost": ANY}).calls():
            add_costs(found, call, 1, call.uses)
        return found

    def group_by(self, field: str | Callable[[Match], Any]) -> list[tuple[Any, Matches]]:
        """Return the values of a field, an argument or a function, each with the matches that have it.

        They come in the order in which they are found. An argument that no record shows is represented by its
        digest. Calls without a value are left out, and a limit is ignored.

        Args:
            field: a field of `Call`, `"module"`, the name of an argument, `"metadata.<name>"`, or a function of
            a
                `Match`.

        Raises:
            ConfigError: a value is a list or a mapping.
        """
        if callable(field) or self.steps:
            every = Matches(self.cache, self.query._replace(limit=None), self.steps)
            each = map(_value_of(field), every)
            values = {_at(value, field): value for there, value in each if there}
            return [(value, every._having(field, at)) for at, value in values.items()]
        by = operators.group(field)
        unlimited = self.query._replace(limit=None)
        found: dict[tuple[type, Any], Matches] = {}
        for call in Matches(self.cache, unlimited).calls():
            there, value = _value(call, by)
            if there:
                if isinstance(value, (list, dict)):
                    raise ConfigError(f"calls are not grouped by {field}: {value!r:.80}")
                at = type(value), value
                if at not in found:
                    digested = by.field in ("argument", "result")
                    test = is_value(value) if digested else Equal(value)
                    condition = Condition(by.field, by.path, test)
                    found[at] = Matches(self.cache, unlimited.narrowed(condition))
        return [(value, matches) for (_, value), matches in found.items()]

    def groupby(self, key: str | Callable[[Match], Any]) -> dict[Any, Matches]:
        """Return `group_by` as a dict, in which equal values such as 1 and True are one; a limit counts."""
        value_of = _value_of(key)
        found: dict[Any, set[tuple[type, Any]]] = {}
        for there, value in map(value_of, self):
            if there:
                found.setdefault(value, set()).add(_at(value, key))
        return {value: self._having(key, *wanted) for value, wanted in found.items()}

    def _having(self, key: str | Callable[[Match], Any], *wanted: tuple[type, Any]) -> Matches:
        """Return the matches that have one of these values."""
        value_of = _value_of(key)

        def having(found: Iterator[Match]) -> Iterator[Match]:
            for match in found:
                there, value = value_of(match)
                if there and _at(value, key) in wanted:
                    yield match

        return self._then(f"{key}={[value for _, value in wanted]}", having)

    # -- doing ------------------------------------------------------------------------------------

    def evict(self, *, dry_run: bool = False) -> Any:
        """Delete the calls, and what only they referenced; see `Cache.evict`."""
        return self.cache.evict(self, dry_run=dry_run)

    def transfer(
        self,
        target: Any,
        *,
        move: bool = False,
        overwrite: bool | str = False,
        dry_run: bool = False,
    ) -> Any:
        """Copy (or move) the calls with their results to another cache; see `Cache.transfer`."""
        return self.cache.transfer(target, self, move=move, overwrite=overwrite, dry_run=dry_run)

    # -- tables -----------------------------------------------------------------------------------

    def to_pandas(self, *, results: bool = False, metadata: Sequence[str] = ()) -> Any:
        """Return a `pandas.DataFrame` with a row for each call, and a column for each field and argument.

        Args:
            results: add a column of results, which are all loaded.
            metadata: parts of the metadata that become columns: `"run"`, `"git.commit"`.

        Raises:
            ConfigError: pandas is not installed.
        """
        # Loaded on first use, as in the next three methods: only tables need it.
        from wellkept.query import exports

        return exports.to_pandas(self, results=results, metadata=metadata)

    def to_polars(self, *, results: bool = False, metadata: Sequence[str] = ()) -> Any:
        """Return the same as a `polars.DataFrame`."""
        from wellkept.query import exports

        return exports.to_polars(self, results=results, metadata=metadata)

    def to_arrow(self, *, results: bool = False, metadata: Sequence[str] = ()) -> Any:
        """Return the same as a `pyarrow.Table`."""
        from wellkept.query import exports

        return exports.to_arrow(self, results=results, metadata=metadata)

    # -- before asking ----------------------------------------------------------------------------

    def _prepared(self) -> list[Query]:
        """Return the queries of which a call has to match one: several if metadata is kept as notes.

        Raises:
            AmbiguousDigest: several digests begin as a shortened one.
        """
        # The counts of uses that this process holds may be asked for.
        self.cache.flush()
        for condition in self.query.conditions:
            test = condition.test
            for one in test.tests if isinstance(test, Choice) else (test,):
                if isinstance(one, Begins):
                    self._check_one(condition._replace(test=one))
        query = self.query
        if not any(one.field in _OF_ONE for one in query.conditions):
            query = query.narrowed(*(Condition("function", (), Other(part)) for part in PARTS))
        return noted.resolved(self.cache.backend.notes, query)

    def _pushed_down(self) -> Query | None:
        """Return the one query that the store can answer by itself; None if there is none."""
        asked = self._prepared()
        return asked[0] if len(asked) == 1 and not self.steps else None

    def _found(self) -> Iterator[Call]:
        """Return the records that match, in order."""
        found = self._in_store()
        if not self.steps:
            return found
        matches: Iterator[Match] = (Match(self.cache, call) for call in found)
        for step in self.steps:
            matches = step.change(matches)
        return (match.call for match in matches)

    def _in_store(self) -> Iterator[Call]:
        asked, backend = self._prepared(), self.cache.backend
        if len(asked) == 1:
            return iter(backend.find(asked[0]))
        order = self.query.order
        found = [backend.find(one) for one in asked]
        merged = heapq.merge(
            *found, key=lambda call: order_of(order, call), reverse=order.descending
        )
        once = (next(same) for _, same in itertools.groupby(merged, lambda call: call.key))
        return itertools.islice(once, self.query.limit)

    def _check_one(self, condition: Condition) -> None:
        others = [one for one in self.query.conditions if one.field == "function"]
        found: set[Digest] = set()
        for call in self.cache.backend.find(Query((*others, condition))):
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
        """Raise ConfigError if nothing was found because no record shows an argument that is compared."""
        for condition in self.query.conditions:
            field, path, test = condition
            if field == "argument" and isinstance(test, (Span, Like)):
                others = [one for one in self.query.conditions if one.field == "function"]
                there = Condition(field, path, Present())
                calls = self.cache.backend.find(Query((*others, there), limit=_LOOKED_AT))
                found = [call.arguments[path[0]] for call in calls]
                compared = any(type(one.value) in (int, float, str) for one in found if one.shown)
                if not compared and not all(one.shown for one in found):
                    raise ConfigError(
                        f"the argument {path[0]} can't be compared: no record shows it, as it is neither "
                        "a number nor a short text, or because of arguments='digests'"
                    )

    def __repr__(self) -> str:
        said = [operators.shown(condition) for condition in self.query.conditions]
        order, limit = self.query.order, self.query.limit
        if order != Order():
            name = ".".join((order.field, *order.path)) if order.path else order.field
            said.append(f"order_by={'-' * order.descending + name!r}")
        if limit is not None:
            said.append(f"limit={limit}")
        said += [step.shown for step in self.steps]
        return f"<wellkept.Matches {', '.join(said) or 'all calls'}>"

    def _repr_html_(self) -> str:
        from wellkept.query import exports

        return exports.to_html(self)


def _value_of(key: str | Callable[[Match], Any]) -> Callable[[Match], tuple[bool, Any]]:
    """Return a function that tells whether a match has a value, and which; see `group_by`."""
    by = None if callable(key) else operators.group(key)

    def value_of(match: Match) -> tuple[bool, Any]:
        there, value = (True, key(match)) if by is None else _value(match.call, by)  # type: ignore[operator]  # see above
        # All NaNs are one group, though no two of them are equal.
        return there, math.nan if isinstance(value, float) and value != value else value

    return value_of


def _at(value: Any, key: Any) -> tuple[type, Any]:
    """Return a key that differs for equal values of different types."""
    try:
        hash(value)
    except TypeError:
        raise ConfigError(f"calls are not grouped by {key}: {value!r:.80}") from None
    return type(value), value


def _fitting(asked: Matches, found: Iterator[Match]) -> Iterator[Match]:
    asked._prepared()
    fits = asked.predicate()
    return (match for match in found if fits(match.call))


def _value(call: Call, by: Order) -> tuple[bool, Any]:
    """Return whether a call has a value, and the value."""
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
