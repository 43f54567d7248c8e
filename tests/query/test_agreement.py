"""Every kind of place gives the answer that a plain filter of its records gives, in the same order."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.caches.places import new

import wellkept
from wellkept.conditions import (
    ANY,
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
    order_of,
)
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.query.operators import is_value
from wellkept.records import Argument, Call, Digest, Value

KINDS = ["embedded", "network", "power", "files", "sqlite", "items", "memory", "stack", "limited"]

numbers = st.sampled_from([0, 1, 2, 3, -1, 10**6, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**80])
floats = st.sampled_from([0.0, -0.0, 1.0, 2.5, -1.0, 1e300, float(2**53), 0.1, 0.30000000000000004])
texts = st.sampled_from(
    ["", "a", "ab", "A", "é", "名", "\0", "a\0b", "1", "*", "x" * 300, "\ud800"]
)
scalars = numbers | floats | st.booleans() | st.none() | texts
values = scalars | st.sampled_from([(1, 2), (1, 2, 3), b"bytes", float("inf")])
names = st.sampled_from(["n", "x", "*rest", "@run", "@directory", "a b", 'q"q', "\udcff"])
functions = st.sampled_from(["m:f", "m:g", "other.m:f", "named", "m:C.f"])
codes = st.sampled_from(["version:1", "code:abcd", "none"])
metadata = st.fixed_dictionaries(
    {},
    optional={
        "run": st.sampled_from(["r1", "r2", 3]),
        "tags": st.dictionaries(st.sampled_from(["color", "n", 'k"']), scalars, max_size=2)
        | st.lists(st.sampled_from(["a", "b"]), max_size=2),
        "git": st.fixed_dictionaries(
            {"commit": st.sampled_from(["abc", "abd", None, 1, 1.5, 0.1])}
        ),
        "wall": floats,
    },
)
times = st.sampled_from([1000.0, 1001.0, 1001.5, 1002.25, 2000.0])


def _shows(value: Any) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    if type(value) is float:
        return value - value == 0
    return value is None or type(value) is bool or (type(value) is str and len(value) <= 200)


@st.composite
def records(draw: st.DrawFn) -> Call:
    arguments = {}
    for name in draw(st.lists(names, max_size=3, unique=True)):
        value = draw(values)
        digest = Digest.of(digest_bytes(value))
        shown = _shows(value) and draw(st.integers(0, 9)) > 0
        arguments[name] = Argument(digest, value, True) if shown else Argument(digest)
    function, code = draw(functions), draw(codes)
    pairs = [(name, argument.digest.raw) for name, argument in arguments.items()]
    result = draw(st.integers(0, 3))
    said = draw(metadata)
    return Call(
        key=Digest.of(call_key(function, code, pairs)),
        function=function,
        code=code,
        arguments=arguments,
        result=Digest.of(digest_bytes(result)),
        state=draw(st.sampled_from(["done", "done", "failed", "items"])),
        created=draw(times),
        seconds=draw(st.sampled_from([0.0, 0.5, 2.0])),
        size=1,
        expires=draw(st.none() | times),
        metadata=said,
    )


spans = st.one_of(
    st.builds(
        Span, numbers | floats | st.just(float("inf")), st.none() | numbers | floats, st.booleans()
    ),
    st.builds(Span, st.none(), numbers | floats, st.just(False), st.booleans()),
    st.builds(Span, texts, st.none() | texts, st.booleans(), st.booleans()),
)
tests_of_values = st.recursive(
    values.map(is_value)
    | values.map(lambda value: Is(Digest.of(digest_bytes(value))))
    | spans
    | st.just(Present())
    | st.sampled_from(["a*", "?", "*"]).map(Like),
    lambda inner: st.lists(inner, max_size=3).map(lambda some: Choice(tuple(some))),
    max_leaves=3,
)
plain = scalars.map(Equal) | spans | st.just(Present()) | st.just(Equal(["a"]))
paths = st.sampled_from(
    [("run",), ("tags",), ("tags", "color"), ("tags", 'k"'), ("git", "commit"), ("git",), ("wall",)]
)
time_spans = times.map(Span) | st.tuples(st.none() | times, times).map(lambda ends: Span(*ends))
conditions = st.one_of(
    st.builds(Condition, st.just("argument"), names.map(lambda name: (name,)), tests_of_values),
    st.builds(Condition, st.just("function"), st.just(()), functions.map(Equal)),
    st.builds(Condition, st.just("function"), st.just(()), st.sampled_from(["f", "m:*"]).map(Like)),
    st.builds(
        Condition, st.just("module"), st.just(()), st.sampled_from(["m", "", "o*"]).map(Like)
    ),
    st.builds(Condition, st.just("code"), st.just(()), codes.map(Equal)),
    st.builds(
        Condition, st.just("state"), st.just(()), st.sampled_from(["done", "failed"]).map(Equal)
    ),
    st.builds(
        Condition,
        st.just("result"),
        st.just(()),
        st.integers(0, 3).map(is_value) | st.sampled_from("0123456789abcdef").map(Begins),
    ),
    st.builds(
        Condition,
        st.just("given"),
        st.just(()),
        values.map(is_value) | st.sampled_from("0123456789abcdef").map(Begins),
    ),
    st.builds(Condition, st.sampled_from(["created", "expires"]), st.just(()), time_spans),
    st.builds(
        Condition, st.just("expires"), st.just(()), st.just(Present()) | st.just(Equal(None))
    ),
    st.builds(Condition, st.just("seconds"), st.just(()), st.just(Span(0.5)) | st.just(Equal(0.5))),
    st.builds(Condition, st.just("uses"), st.just(()), st.just(Span(1)) | st.just(Span(None, 0))),
    st.builds(Condition, st.just("used"), st.just(()), st.just(Equal(None)) | st.just(Present())),
    st.builds(Condition, st.just("metadata"), paths, plain),
    st.builds(Condition, st.just("metadata"), st.just(("tags",)), st.sampled_from("ab").map(Has)),
    st.builds(
        Condition, st.just("key"), st.just(()), st.sampled_from("0123456789abcdef").map(Begins)
    ),
)
orders = st.builds(
    Order,
    st.sampled_from(
        ["created", "seconds", "size", "uses", "used", "expires", "key", "function", "state"]
    ),
    st.just(()),
    st.booleans(),
) | st.one_of(
    st.builds(Order, st.just("argument"), names.map(lambda name: (name,)), st.booleans()),
    st.builds(Order, st.just("metadata"), paths, st.booleans()),
)
queries = st.builds(
    Query, st.lists(conditions, max_size=3).map(tuple), orders, st.none() | st.integers(0, 5)
)


def opened(kind: str) -> wellkept.Cache:
    if kind == "network":
        return new("embedded", network=True)
    if kind == "power":
        return new("embedded", durability="power")
    if kind == "items":
        from wellkept.stores import Sqlite

        items: Any = Sqlite(f"{next(_numbers)}.items")
        return wellkept.Cache(values=items, calls=items)
    if kind == "stack":
        return wellkept.Stack(new("memory"), new("embedded"))
    if kind == "limited":
        return new("embedded").limited(calls=10_000)
    return new(kind)


_numbers = itertools.count()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    return request.param


def shown(arguments: Any, name: str) -> Any:
    found = arguments.get(name)
    return None if found is None else found.value if found.shown else str(found.digest)


def expected(records: list[Call], query: Query) -> list[str]:
    """What the words mean, without any help."""
    fitting = [call for call in records if all(one.holds(call) for one in query.conditions)]
    fitting.sort(key=lambda call: order_of(query.order, call), reverse=query.order.descending)
    return [call.key for call in fitting[: query.limit]]


asking = given(
    made=st.lists(records(), max_size=12), asked=st.lists(queries, min_size=1, max_size=6)
)
often = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


class TestAgreement:
    @asking
    @settings(often, max_examples=10)
    def test_with_a_plain_filter(
        self, home: Any, kind: str, made: list[Call], asked: list[Query]
    ) -> None:
        self.agree(kind, made, asked)

    @pytest.mark.long
    @pytest.mark.parametrize("kind", ["embedded", "files", "items", "memory"])
    @asking
    @often
    def test_with_a_plain_filter_more_often(
        self, home: Any, kind: str, made: list[Call], asked: list[Query]
    ) -> None:
        self.agree(kind, made, asked)

    def agree(self, kind: str, made: list[Call], asked: list[Query]) -> None:
        with opened(kind) as cache:
            known: dict[str, Call] = {}
            for i, call in enumerate(made):
                cache.backend.commit(call, Value("pickle", b"x"))
                known[call.key] = call
                if i % 3 == 1:
                    cache.backend.count({call.key.raw: i})
                if i % 5 == 3:
                    cache.calls.delete(call.key)
                    known.pop(call.key)
            stored = [found for key in known if (found := cache.calls.get(key)) is not None]
            assert len(stored) == len(known)
            for query in asked:
                found = [call.key for call in cache.backend.find(query)]
                assert found == expected(stored, query), query
                count = cache.backend.found(query)
                assert count is None or count == len(found), query
                table = getattr(cache.backend, "table", lambda query: None)(query)
                assert table is None or table.fields["key"] == found, query
                if table is not None:
                    for name, column in table.arguments.items():
                        assert column == [shown(known[key].arguments, name) for key in found]


INDEXED = {"embedded", "network", "power", "sqlite", "limited"}


def test_an_index_counts_calls_and_makes_columns_of_them(home: Any, kind: str) -> None:
    with opened(kind) as cache, wellkept.use(cache):
        f = wellkept.keep(name="m:f", version=1)(lambda n: n)
        for n in range(5):
            f(n)
        cache.flush()
        query = Query((Condition("function", (), Like("m:f")),))
        table = getattr(cache.backend, "table", lambda query: None)(query)
        if kind in INDEXED:
            assert cache.backend.found(query) == 5
            assert table.arguments == {"n": [0, 1, 2, 3, 4]}
            # The order of what is in no column takes the records.
            assert cache.backend.found(query._replace(limit=3)) == 3
        else:  # the records tell
            assert cache.backend.found(query) is None
            assert table is None


SERVERS = ["postgresql", "mariadb", "redis"]


@pytest.fixture(params=[*KINDS, *SERVERS])
def cache(home: Any, request: pytest.FixtureRequest) -> Iterator[wellkept.Cache]:
    name = request.param
    server = name in SERVERS
    made = wellkept.open(request.getfixturevalue(f"{name}_url")) if server else opened(name)
    with made, wellkept.use(made):
        yield made


def test_evicted_and_replaced_calls_are_not_found(cache: wellkept.Cache) -> None:
    f = wellkept.keep(name="f", version=1)(lambda n, m: n)
    for n in range(20):
        f(n, n % 3)
    f.rerun(3, 0)
    f.forget(4, 1)
    cache.evict(keys=[f.key(5, 2)])
    assert f.query().count() == 18
    assert sorted(match.arguments["n"] for match in f.query(m=0)) == [0, 3, 6, 9, 12, 15, 18]
    assert f.query(m=2).count() == 5
    assert f.query(n=wellkept.between(10, 12)).count() == 3
    assert [m.result for m in f.query(m=1).order_by("-n").limit(2)] == [19, 16]
    latest = f.query().latest()
    assert latest is not None
    assert latest.arguments["n"] == 3
    cache.gc(grace=0)
    assert f.query().count() == 18
    assert f.query(m=ANY).count() == 18
    assert f.query(m=0).evict().calls in (7, 14)  # of a stack, in each layer
    assert f.query().count() == 11
