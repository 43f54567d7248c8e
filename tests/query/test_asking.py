"""What one asks of kept calls, and gets."""

from __future__ import annotations

import datetime
import pickle
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import KINDS, new

import wellkept
from wellkept import (
    ANY,
    AmbiguousDigest,
    ConfigError,
    Digest,
    NotKept,
    above,
    at_least,
    at_most,
    below,
    between,
    like,
    named,
    one_of,
)


@pytest.fixture(autouse=True)
def cache(home: Path) -> Iterator[wellkept.Cache]:
    with wellkept.open("store") as cache, wellkept.use(cache):
        yield cache


@wellkept.keep(name="asked.f", version=1)
def f(n: Any, m: Any = 0) -> Any:
    return [n, m]


def ns(matches: wellkept.Matches) -> list[Any]:
    return [match.arguments["n"] for match in matches]


class TestValues:
    def test_are_exact(self) -> None:
        asked: list[Any] = [1, 1.0, True, "1", b"1", None, (1,), [1], np.int64(1), 0.0, -0.0]
        for value in asked:
            f(value)
        for value in asked:
            found = f.query(value).one()
            assert wellkept.digest(found.arguments.get("n", value)) == wellkept.digest(value)
            assert found.key == f.key(value)
        assert f.query().count() == len(asked)

    def test_none_is_a_value_and_any_is_not(self) -> None:
        f(None), f(1)
        assert ns(f.query(None)) == [None]
        assert f.query(ANY).count() == f.query(n=ANY).count() == 2
        assert repr(ANY) == "wellkept.ANY"
        assert pickle.loads(pickle.dumps(ANY)) is ANY

    def test_by_digest(self) -> None:
        array = np.arange(5)
        f(array), f(5), f("x")
        for value in (array, 5, "x"):
            digest = wellkept.digest(value)
            assert f.query(digest).one().key == f.key(value)
            assert f.query(named(digest)).one().key == f.key(value)
        assert f.query(named(wellkept.digest(array)[:10])).one().key == f.key(array)
        assert f.query(array).one().key == f.key(array)

    def test_a_digest_inside_a_value_stands_for_itself(self) -> None:
        inner = wellkept.digest([1, 2])
        g = wellkept.keep(name="asked.g", version=1)(lambda pair: 0)
        g((1, inner))
        assert g.query((1, inner)).one().key == g.key((1, inner))

    def test_ranges(self) -> None:
        for value in (1, 2.5, 3, True, "a", "b", None, [2]):
            f(value)
        assert ns(f.query(between(1, 3))) == [1, 2.5, 3]
        assert ns(f.query(above(1))) == [2.5, 3]
        assert ns(f.query(at_least(1))) == [1, 2.5, 3]
        assert ns(f.query(below(3))) == [1, 2.5]
        assert ns(f.query(at_most(2.5))) == [1, 2.5]
        assert ns(f.query(at_least("a"))) == ["a", "b"]
        assert ns(f.query(above("a"))) == ["b"]
        assert ns(f.query(between(float("-inf"), 2))) == [1]
        assert ns(f.query(between(2, 10**30))) == [2.5, 3]

    def test_choices_and_patterns(self) -> None:
        for value in (1, 2, 3, "ab", "ac", "b"):
            f(value)
        assert ns(f.query(one_of(1, 3, "b", "none"))) == [1, 3, "b"]
        assert ns(f.query(one_of(1, between(3, 9)))) == [1, 3]
        assert ns(f.query(one_of())) == []
        assert ns(f.query(like("a*"))) == ["ab", "ac"]

    def test_long_texts_and_hidden_arguments(self) -> None:
        g = wellkept.keep(name="asked.f", version=1, arguments="digests")(lambda n, m: 0)
        f("x" * 500), f("y"), g("y", 1), g(3, 1)
        assert f.query("x" * 500).one().key == f.key("x" * 500)
        assert f.query("y").count() == 2
        assert f.query(n=3).one().key == g.key(3, 1)
        assert f.query(one_of("y", 3)).count() == 3


class TestNames:
    def test_as_the_binder_gives_them(self) -> None:
        @wellkept.keep(name="asked.names", version=1)
        def g(a: int, /, b: int = 2, *rest: int, c: int = 3, **more: int) -> int:
            return a

        g(1), g(1, 5), g(1, 2, 6, 7), g(1, c=4, d=8, a=9)
        assert g.query().count() == 4
        assert g.query(1).count() == g.query(1, 2).count() + 1 == 4
        assert g.query(1, 2).count() == 3
        assert g.query(b=5).count() == 1
        assert g.query(1, 2, 6, 7).one().key == g.key(1, 2, 6, 7)
        assert g.query(rest=(6, 7)).one().key == g.key(1, 2, 6, 7)
        assert g.query(rest=()).count() == 3
        assert g.query(ANY, ANY, c=3).count() == 3
        assert g.query(d=8).one().key == g.key(1, c=4, d=8, a=9)
        assert g.query(**{"**a": 9}).one().key == g.key(1, c=4, d=8, a=9)

    def test_defaults_count_as_if_they_were_given(self) -> None:
        f(1), f(1, 0), f(2, 1)
        assert f.query(m=0).count() == 1

    def test_methods(self) -> None:
        class Model:
            def __init__(self, size: int) -> None:
                self.size = size

            @wellkept.keep(version=1)
            def fit(self, n: int) -> int:
                return self.size * n

            @classmethod
            @wellkept.keep(version=1)
            def made(cls, n: int) -> int:
                return n

        small, large = Model(1), Model(2)
        small.fit(1), small.fit(2), large.fit(1), Model.made(3)
        assert small.fit.query().count() == 2
        assert [match.result for match in large.fit.query(1)] == [2]
        assert Model.fit.query(ANY, 1).count() == 2

    def test_key_functions_ignored_arguments_and_sentinels(self) -> None:
        nothing = object()
        g = wellkept.keep(name="asked.key", version=1, key=lambda n, m: n % 2)(lambda n, m: n)
        h = wellkept.keep(name="asked.ignore", version=1, ignore="m")(lambda n, m: n)

        @wellkept.keep(name="asked.sentinel", version=1)
        def s(n: Any = nothing) -> int:
            return 1

        g(1, 2), g(2, 2), h(1, 2), s(), s(5)
        assert g.query(key=1).one().result == 1
        assert h.query(1).one().result == 1
        assert h.query(1, ANY).count() == 1
        assert s.query(nothing).count() == 1
        assert s.query(n=5).count() == 1

    def test_only_its_own_calls_whatever_the_code(self, cache: wellkept.Cache) -> None:
        g = wellkept.keep(name="asked.f", version=2)(lambda n, m=0: -n)
        other = wellkept.keep(name="asked.ff", version=1)(lambda n: n)
        f(1), g(1), other(1)
        assert f.query().count() == g.query().count() == 2
        assert f.query().where(version=2).one().result == -1
        assert f.query().where(code="version:1").one().result == [1, 0]


class TestFilters:
    def test_functions(self, cache: wellkept.Cache) -> None:
        one = wellkept.keep(name="pkg.mod:load", version=1)(lambda n: n)
        two = wellkept.keep(name="pkg.mod:Model.load", version=1)(lambda n: n)
        f(1), one(1), two(1)
        assert cache.query().count() == 3
        assert cache.query("pkg.mod:load").count() == 1
        assert cache.query("load").count() == 1
        assert cache.query("*load").count() == 2
        assert cache.query(one).count() == 1
        assert cache.query(one_of("load", "asked.f")).count() == 2
        assert cache.query(module="pkg.mod").count() == 2
        assert cache.query(module="pkg.*").count() == 2
        assert cache.query(module="").count() == 1
        assert cache.query(arguments={"n": 1}).count() == 3
        assert cache.query("nothing*").count() == 0

    def test_states_and_errors(self, cache: wellkept.Cache) -> None:
        @wellkept.keep(name="asked.fails", version=1, errors=ValueError)
        def fails(n: int) -> int:
            raise ValueError(f"number {n}")

        @wellkept.keep(name="asked.items", version=1)
        def items(n: int) -> Any:
            yield from range(n)

        with pytest.raises(ValueError, match="number 1"):
            fails(1)
        list(items(3)), f(1)
        failed = cache.query(state="failed").one()
        assert repr(failed.error) == "ValueError('number 1')"
        with pytest.raises(ValueError, match="number 1"):
            failed.result
        assert cache.query(state="items").one().result == [0, 1, 2]
        assert cache.query(state=one_of("done", "items")).count() == 2
        assert cache.query(state="done").one().error is None

    def test_times(self, cache: wellkept.Cache) -> None:
        before = time.time()
        f(1)
        after = time.time()
        f(2)
        assert ns(f.query().where(since=after)) == [2]
        assert ns(f.query().where(until=after)) == [1]
        assert ns(f.query().where(created=between(before, after))) == [1]
        assert f.query().where(since=datetime.timedelta(minutes=1)).count() == 2
        assert f.query().where(since=datetime.datetime.now()).count() == 0
        assert f.query().where(until=datetime.datetime.fromtimestamp(before)).count() == 0

    def test_costs_sizes_uses_and_expiry(self, cache: wellkept.Cache) -> None:
        g = wellkept.keep(name="asked.ttl", version=1, ttl=60)(lambda n: "x" * n)
        g(10), g(1000), f(1), f(1), f(1)
        assert cache.query(size=at_least(1000)).one().result == "x" * 1000
        assert cache.query(expires=ANY).count() == 2
        assert cache.query(expires=None).count() == 1
        assert cache.query(uses=2).one().key == f.key(1)
        assert cache.query(uses=0).count() == 2
        assert cache.query(used=None).count() == 2
        assert cache.query(used=ANY).count() == 1
        assert cache.query(seconds=below(5)).count() == 3
        assert cache.query(seconds=above(5)).count() == 0

    def test_results(self, cache: wellkept.Cache) -> None:
        array = np.arange(100_000)
        g = wellkept.keep(name="asked.array", version=1)(lambda n: array + n)
        g(0), g(1), f(1), f(2)
        assert cache.query(result=[1, 0]).one().key == f.key(1)
        assert cache.query(result=array).one().key == g.key(0)
        digest = wellkept.digest(array)
        assert cache.query(result=digest).one().digest == digest
        assert cache.query(result=named(digest[:12])).one().key == g.key(0)
        assert cache.query(result=one_of(array, [2, 0])).count() == 2
        assert cache.query(result=[9]).count() == 0

    def test_given(self, cache: wellkept.Cache) -> None:
        g = wellkept.keep(name="asked.g", version=1)(lambda left, right: [left, right])
        f([1, 2]), g([1, 2], 3), g(3, [1, 2]), g([1], 2)
        assert cache.query(given=[1, 2]).count() == 3
        assert cache.query(given=wellkept.digest([1, 2])).count() == 3
        assert cache.query("asked.g", given=named(wellkept.digest([1])[:9])).one().result == [
            [1],
            2,
        ]
        assert cache.query(given=[9]).count() == 0
        assert cache.query(given=3).count() == 0  # the record shows it

    def test_keys(self, cache: wellkept.Cache) -> None:
        f(1), f(2)
        assert cache.query(key=f.key(1)).one().result == [1, 0]
        assert cache.query(key=f.key(1)[:8]).one().result == [1, 0]
        assert cache.query(key=one_of(f.key(1), f.key(2)[:10])).count() == 2
        assert cache.query(key="0" * 64).count() == 0

    def test_metadata(self, cache: wellkept.Cache) -> None:
        for n, said in enumerate(
            [
                {"run": "r1", "tags": {"color": "red", "n": 1}, "git": {"commit": "abc"}},
                {"run": "r2", "tags": {"color": "blue", "n": 1.0}, "wall": 0.1},
                {"tags": ["quick", "red"], "wall": 2},
                {},
            ]
        ):
            f(n)
            call = f.call(n)
            cache.calls.put(call.key, call.replace(metadata=said))
        assert ns(f.query().where(run="r1")) == [0]
        assert ns(f.query().where(run=one_of("r1", "r2"))) == [0, 1]
        assert ns(f.query().where(run=ANY)) == [0, 1]
        assert ns(f.query().where(tags={"color": "red"})) == [0]
        assert ns(f.query().where(tags={"n": 1})) == [0]
        assert ns(f.query().where(tags={"color": like("b*")})) == [1]
        assert ns(f.query().where(tags="color")) == [0, 1]
        assert ns(f.query().where(tags=["quick", "red"])) == [2]
        assert ns(f.query().where(metadata={"git": {"commit": "abc"}})) == [0]
        assert ns(f.query().where(metadata={"wall": below(1)})) == [1]
        assert ns(f.query().where(metadata={"wall": 0.1})) == [1]
        assert ns(f.query().where(metadata="git")) == [0]
        assert ns(f.query().where(metadata=["tags", "wall"])) == [1, 2]
        assert ns(f.query().where(metadata="git.commit")) == [0]
        assert [value for value, _ in f.query().group_by("metadata.run")] == ["r1", "r2"]
        assert ns(f.query().order_by("-metadata.wall").limit(2)) == [2, 1]

    def test_metadata_that_calls_have_in_common(
        self, cache: wellkept.Cache, tmp_path: Path
    ) -> None:
        """A record names the note that it stands in."""

        def large() -> dict[str, Any]:
            return {"numpy": {"version": "2.1"}, "rest": "x" * 3000}

        def small() -> dict[str, Any]:
            return {"numpy": {"version": "2.0"}}

        g = wellkept.keep(name="asked.large", version=1, meta={"packages": large})(lambda n: n)
        h = wellkept.keep(name="asked.small", version=1, meta={"packages": small})(lambda n: n)
        g(1), h(2), f(3), g(4)
        assert g.call(1).metadata["packages"].keys() == {"note"}
        ask = {"packages": {"numpy": {"version": like("2*")}}}
        found = cache.query(metadata=ask)
        assert (found.count(), ns(found), found.exists()) == (3, [1, 2, 4], True)
        assert ns(found.order_by("-n").limit(2)) == [4, 2]
        assert ns(cache.query(metadata={"packages": {"numpy": {"version": "2.1"}}})) == [1, 4]
        assert ns(cache.query(metadata="packages.numpy.version")) == [1, 2, 4]
        assert cache.query(metadata="packages.scipy").count() == 0
        here = platform.python_version()
        assert ns(cache.query(metadata={"env": {"python": here}})) == [1, 2, 3, 4]
        assert cache.query(metadata={"env": {"python": "2.7"}}).count() == 0
        both = cache.query(metadata=ask | {"env": {"cpus": above(0)}})
        assert ns(both) == [1, 2, 4]
        assert ns(cache.filtered(both).query()) == [1, 2, 4]
        table = found.to_pandas(metadata=["packages.numpy.version", "env.python"])
        assert list(table["metadata.packages.numpy.version"]) == ["2.1", "2.0", "2.1"]
        assert set(table["metadata.env.python"]) == {here}
        with wellkept.open("memory:") as other:
            assert found.transfer(other).calls == 3
            assert ns(other.query(metadata=ask)) == [1, 2, 4]
        assert found.evict().calls == 3
        assert ns(cache.query()) == [3]

    def test_several_at_once(self, cache: wellkept.Cache) -> None:
        for n in range(20):
            f(n, n % 4)
        found = f.query(n=between(5, 15), m=2).where(since=0, state="done", size=above(0))
        assert ns(found) == [6, 10, 14]
        assert ns(found.where(arguments={"n": above(6)})) == [10, 14]


class TestAnswers:
    @pytest.fixture(autouse=True)
    def filled(self, cache: wellkept.Cache) -> None:
        for n in (3, 1, 2):
            f(n, n % 2)

    def test_iterate_again_and_anew(self) -> None:
        found = f.query()
        assert ns(found) == ns(found) == [3, 1, 2]
        f(4, 0)
        assert ns(found) == [3, 1, 2, 4]

    def test_order_and_limit(self) -> None:
        assert ns(f.query().order_by("n")) == [1, 2, 3]
        assert ns(f.query().order_by("n", descending=True)) == [3, 2, 1]
        assert ns(f.query().order_by("-n").limit(2)) == [3, 2]
        assert ns(f.query().order_by("-created")) == [2, 1, 3]
        assert ns(f.query().order_by("arguments.n").limit(1)) == [1]
        assert ns(f.query().limit(2).limit(5)) == [3, 1]
        assert ns(f.query().limit(0)) == []
        assert f.query().limit(2).count() == 2
        assert f.query().limit(0).count() == 0
        assert ns(f.query().limit(None)) == [3, 1, 2]
        keys = [match.key for match in f.query().order_by("key")]
        assert keys == sorted(keys)

    def test_one_of_them(self) -> None:
        first = f.query().first()
        assert first is not None
        assert first.result == [3, 1]
        assert f.query(n=9).first() is None
        assert f.query(n=9).latest() is None
        latest, oldest = f.query().latest(), f.query().order_by("n").oldest()
        assert latest is not None
        assert oldest is not None
        assert (latest.result, oldest.result) == ([2, 0], [3, 1])
        assert f.query(n=3).one().result == [3, 1]
        assert f.query().exists()
        assert not f.query(n=9).exists()
        with pytest.raises(NotKept, match=r"no call fits .*n=9"):
            f.query(n=9).one()
        with pytest.raises(AmbiguousDigest, match="several calls fit"):
            f.query().one()

    def test_a_match_shows_its_record(self) -> None:
        match, call = f.query(n=3).one(), f.call(3, 1)
        assert match.call == call
        assert match.digest == call.result
        for name in ("key", "function", "code", "state", "created", "seconds", "size", "uses"):
            assert getattr(match, name) == getattr(call, name)
        assert dict(match.arguments) == {"n": 3, "m": 1}
        assert repr(match) == "<asked.f(n=3, m=1)>"
        with pytest.raises(AttributeError):
            match.nothing
        assert list(f.query().results()) == [[3, 1], [1, 1], [2, 0]]
        assert [dict(one)["n"] for one in f.query().arguments()] == [3, 1, 2]

    def test_an_argument_is_loaded_if_it_is_a_kept_result(self) -> None:
        g = wellkept.keep(name="asked.g", version=1)(lambda data: len(data))
        g(f(3, 1)), g([0, 0, 0])
        first, second = g.query()
        assert first.arguments["data"] == [3, 1]
        assert first.arguments.digest("data") == wellkept.digest([3, 1])
        with pytest.raises(NotKept):
            second.arguments["data"]
        assert second.arguments.get("data", "gone") == "gone"
        assert repr(second.arguments) == f"data=<list of 3 {wellkept.digest([0, 0, 0])[:8]}>"

    def test_an_evicted_result(self, cache: wellkept.Cache) -> None:
        match = f.query(n=3).one()
        cache.evict(keys=[match.key])
        with pytest.raises(NotKept):
            match.result

    def test_groups(self) -> None:
        groups = f.query().group_by("m")
        assert [(value, ns(found)) for value, found in groups] == [(1, [3, 1]), (0, [2])]
        assert [value for value, _ in f.query().group_by("function")] == ["asked.f"]
        assert [found.count() for _, found in f.query().group_by("code")] == [3]
        f(True, 1), f(1.0, 1)
        assert [(value, found.count()) for value, found in f.query(m=1).group_by("n")] == [
            (3, 1),
            (1, 1),
            (True, 1),
            (1.0, 1),
        ]
        f([1], 5), f([2], 5)
        digests = [value for value, _ in f.query(m=5).group_by("n")]
        assert digests == [wellkept.digest([1]), wellkept.digest([2])]
        assert [ns_.count() for _, ns_ in f.query(m=5).group_by("n")] == [1, 1]

    def test_evict(self, cache: wellkept.Cache) -> None:
        assert f.query(m=1).evict(dry_run=True).calls == 2
        assert f.query(m=1).evict().calls == 2
        assert ns(f.query()) == [2]
        assert f.query(m=1).evict().calls == 0

    def test_transfer(self, cache: wellkept.Cache) -> None:
        with wellkept.open("other") as other:
            assert f.query(m=1).transfer(other).calls == 2
            assert other.query("asked.f").count() == 2
            assert cache.transfer(other, f.query(n=2), move=True).calls == 1
            assert ns(f.query()) == [3, 1]
            assert [match.result for match in other.query(arguments={"n": 2})] == [[2, 0]]

    def test_filtered(self, cache: wellkept.Cache) -> None:
        view = cache.filtered(f.query(m=1))
        assert view.query().count() == 2
        assert [match.result for match in view.query().order_by("-n").limit(1)] == [[3, 1]]
        assert pickle.loads(pickle.dumps(view)).query().count() == 2

    def test_other_caches(self, cache: wellkept.Cache) -> None:
        for other in (
            cache.readonly(),
            cache.limited(calls=100),
            wellkept.Pool(cache),
            wellkept.Stack(wellkept.open("memory:"), cache),
        ):
            assert other.query(arguments={"m": 1}).count() == 2
            assert [m.result for m in other.query().order_by("-n")] == [[3, 1], [2, 0], [1, 1]]

    def test_shown(self) -> None:
        found = f.query(n=between(1, 2), m=ANY).where(state="done").order_by("-n").limit(3)
        shown = "function='asked.f', n=[1, 2], m=ANY, state='done', order_by='-argument.n', limit=3"
        assert repr(found) == f"<wellkept.Matches {shown}>"
        assert repr(wellkept.Matches(f.cache)) == "<wellkept.Matches all calls>"
        html = f.query()._repr_html_()
        assert html.count("<tr>") == 4
        assert "asked.f(n=2, m=0)" in html


class TestTables:
    @pytest.fixture(autouse=True)
    def filled(self, cache: wellkept.Cache) -> None:
        for n in range(3):
            f(n, [n])
        f("x", None)
        f("x", None)

    def test_pandas(self) -> None:
        import pandas as pd

        table = f.query().to_pandas()
        assert list(table["n"]) == [0, 1, 2, "x"]
        assert list(table["m"])[:3] == [wellkept.digest([n]) for n in range(3)]
        assert pd.isna(table["m"][3])
        assert list(table["uses"]) == [0, 0, 0, 1]
        assert str(table["created"].dtype).startswith("datetime64")
        assert table["key"][0] == f.key(0, [0])
        assert pd.isna(table["used"][0])
        assert not pd.isna(table["used"][3])
        assert "result" not in table
        assert list(f.query().to_pandas(results=True)["result"])[1] == [1, [1]]
        assert len(f.query(n=99).to_pandas()) == 0

    def test_the_quick_way_and_the_slow_one_agree(self, cache: wellkept.Cache) -> None:
        import pandas as pd

        quick = f.query().to_pandas(metadata=["env", "tags.color"])
        slow = (
            cache.filtered(lambda call: True)
            .query("asked.f")
            .to_pandas(metadata=["env", "tags.color"])
        )
        pd.testing.assert_frame_equal(quick, slow)

    def test_columns_that_are_called_as_others(self, cache: wellkept.Cache) -> None:
        g = wellkept.keep(name="asked.size", version=1)(lambda size, result: size)
        g(5, 6)
        table = g.query().to_pandas(results=True)
        assert list(table["arguments.size"]) == [5]
        assert list(table["arguments.result"]) == [6]
        assert list(table["result"]) == [5]

    def test_polars_and_arrow(self) -> None:
        table = f.query(n=between(0, 9)).to_polars()
        assert table["n"].to_list() == [0, 1, 2]
        assert table["created"].dtype.is_temporal()
        arrow = f.query(n=between(0, 9)).to_arrow()
        assert arrow.column("n").to_pylist() == [0, 1, 2]
        assert f.query().to_arrow().column("n").to_pylist() == ["0", "1", "2", "'x'"]
        assert f.query().to_polars()["n"].to_list() == [0, 1, 2, "x"]

    def test_a_missing_library(self, cache: wellkept.Cache) -> None:
        code = (
            "import sys; sys.modules['pandas'] = None; import wellkept\n"
            "try: wellkept.open('store').query().to_pandas()\n"
            "except wellkept.ConfigError as error: print(error)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "pip install 'wellkept[pandas]'" in done.stdout


def test_damaged_calls_are_left_out(cache: wellkept.Cache) -> None:
    for n in range(6):
        f(n)
    f.query().count()
    place: Any = cache.backend
    with place.database.writing() as c:
        for n, change in enumerate(
            (
                "body = substr(body, 1, 40) || x'00' || substr(body, 42)",
                "arguments = '[[\"n\", nonsense'",
                "arguments = 'null'",
                "metadata = '{'",
            )
        ):
            row = int.from_bytes(f.key(n).raw[:8], "big", signed=True)
            c.execute(f"UPDATE calls SET {change} WHERE id = ?", (row,))
    assert ns(f.query()) == [3, 4, 5]
    assert list(f.query().to_pandas(metadata=["env"])["n"]) == [3, 4, 5]
    assert f.query(n=4).one().result == [4, 0]


class TestBadInput:
    def test_an_unknown_argument(self) -> None:
        with pytest.raises(ConfigError, match=r"has no argument 'size'; it has n, m"):
            f.query(size=1)
        with pytest.raises(ConfigError, match="takes 2 arguments by position, and not 3"):
            f.query(1, 2, 3)
        with pytest.raises(ConfigError, match="said twice"):
            f.query(1, n=2)

    def test_an_unknown_argument_of_a_function_that_is_named(self, cache: wellkept.Cache) -> None:
        with pytest.raises(ConfigError, match=r"f has no argument 'size'; it has n, m"):
            cache.query(f, arguments={"size": 1})

        @wellkept.keep(name="asked.more", version=1)
        def more(n: int, *rest: int, **named: int) -> int:
            return n

        more(1, 2, size=3)
        assert cache.query(more, arguments={"size": 3, "*rest": (2,)}).count() == 1

    def test_one_that_does_not_count(self) -> None:
        g = wellkept.keep(name="asked.g", ignore="m")(lambda n, m: n)
        with pytest.raises(ConfigError, match=r"m of .* is ignored"):
            g.query(m=1)
        h = wellkept.keep(name="asked.h", key=lambda n: n)(lambda n: n)
        with pytest.raises(ConfigError, match=r"ask for that alone, key="):
            h.query(n=1)

    def test_an_unknown_filter(self, cache: wellkept.Cache) -> None:
        with pytest.raises(ConfigError, match=r"no filter 'n'; there are function, .*arguments="):
            cache.query(n=1)

    @pytest.mark.parametrize(
        "filters",
        [
            {"state": "fine"},
            {"key": "xyz"},
            {"key": 5},
            {"since": "yesterday"},
            {"size": "large"},
            {"seconds": [1]},
            {"function": 5},
            {"arguments": ["n"]},
            {"metadata": 5},
            {"run": object()},
            {"created": None},
        ],
    )
    def test_a_filter_of_the_wrong_kind(
        self, cache: wellkept.Cache, filters: dict[str, Any]
    ) -> None:
        with pytest.raises(ConfigError):
            cache.query(**filters)

    def test_a_comparison_of_what_has_no_order(self) -> None:
        for made in (
            lambda: between([1], [2]),
            lambda: above(None),
            lambda: at_least(np.arange(3)),
            lambda: between(1, "a"),
            lambda: below(float("nan")),
            lambda: above(True),
        ):
            with pytest.raises(ConfigError, match=r"compare|range"):
                made()

    def test_a_comparison_with_what_no_record_shows(self) -> None:
        f([1, 2]), f((3,))
        with pytest.raises(ConfigError, match="argument n can't be compared: no record shows it"):
            f.query(n=between(1, 2)).count()
        with pytest.raises(ConfigError, match="argument n can't be compared"):
            list(f.query(n=above(1)))
        f(5)
        assert f.query(n=above(7)).count() == 0  # some are shown
        g = wellkept.keep(name="asked.g", arguments="digests")(lambda n: n)
        with pytest.raises(ConfigError, match="arguments='digests'"):
            g.query(n=above(1))

    def test_a_digest_that_fits_several(self, cache: wellkept.Cache) -> None:
        keys: dict[str, str] = {}
        n = 0
        while True:
            key = f.key(n)
            if key[:4] in keys:
                break
            keys[key[:4]] = key
            n += 1
        f(n), f(next(k for k in range(n) if f.key(k) == keys[key[:4]]))
        for ask in (
            lambda: cache.query(key=key[:4]).count(),
            lambda: list(cache.query(key=one_of(key[:4]))),
        ):
            with pytest.raises(
                AmbiguousDigest, match=f"{key[:4]} fits several: .*give more digits"
            ):
                ask()
        with pytest.raises(ConfigError, match="no digest"):
            named("abc")

    def test_numbers_are_compared_with_numbers(self) -> None:
        for name in ("size", "seconds", "uses", "created", "used", "expires"):
            with pytest.raises(
                ConfigError, match=f"{name}= is compared with a number, not with 'a'"
            ):
                f.query().where(**{name: wellkept.above("a")})

    def test_no_order_or_limit(self) -> None:
        for made in (
            lambda: f.query().limit(-1),
            lambda: f.query().limit(True),
            lambda: f.query().limit("5"),  # type: ignore[arg-type]
            lambda: f.query().order_by(""),
            lambda: f.query().order_by(5),  # type: ignore[arg-type]
        ):
            with pytest.raises(ConfigError):
                made()

    def test_no_identity(self) -> None:
        with pytest.raises(wellkept.Undigestible, match=r'arguments\["n"\]'):
            f.query(n=iter([1]))


def test_versions_are_written_as_keys_have_them(cache: wellkept.Cache) -> None:
    for version in (1, "a", 1.5, True, (1, 2), "x" * 100, None):
        g = wellkept.keep(name="asked.versions", version=version)(lambda: 1)
        g()
        if version is not None:
            assert cache.query(version=version).one().key == g.key()


def test_a_digest_is_one_whatever_it_stands_for() -> None:
    assert isinstance(named(wellkept.digest(1)).digest, Digest)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "filters",
    [
        {"metadata": {"x": {}}},
        {"metadata": {"x": {"y": {}}}},
        {"metadata": {"x": []}},
        {"metadata": {"tags": []}},
        {"metadata": {"tags": {}}},
        {"metadata": {"": {}}},
        {"metadata": {}},
        {"metadata": []},
        {"tags": {}},
        {"tags": []},
        {"tags": {"a": {}}},
        {"arguments": {}},
        {"function": ""},
        {"run": ""},
        {"key": ""},
        {"since": None},
    ],
    ids=str,
)
def test_no_empty_condition_widens(filters: dict[str, Any], home: Path) -> None:
    with wellkept.open(home / "c") as cache, wellkept.use(cache):

        @wellkept.keep(name="f", version=1)
        def f(x: int) -> int:
            return x

        f(1)
        try:
            found = cache.query(**filters)
        except ConfigError:
            return
        assert found.count() == 0
        found.evict()
        assert cache.query().count() == 1


class TestWhatIsEmpty:
    """No condition that says nothing chooses more than none would."""

    def test_metadata_that_is_there(self, cache: wellkept.Cache) -> None:
        g = wellkept.keep(name="asked.g", version=1, meta={"mine": lambda: {"row": {"a": 1}}})(str)
        g(1), f(1)
        for said in ({"mine": {}}, {"mine": {"row": {}}}, {"mine.row": {}}, "mine", ["mine.row.a"]):
            assert [match.key for match in cache.query(metadata=said)] == [g.key(1)]
        assert not cache.query(metadata={"none": {}}).exists()
        assert cache.query(metadata={"none": {}}).evict().calls == 0
        assert cache.query().count() == 2

    @pytest.mark.parametrize("name", ["arguments", "metadata", "tags", "function", "key", "state"])
    @pytest.mark.parametrize("value", [{}, [], (), "", None, set()])
    def test_nothing_widens(self, cache: wellkept.Cache, name: str, value: Any) -> None:
        f(1), f(2)
        try:
            found = cache.query(**{name: value}).count()
        except ConfigError:
            found = 0
        assert found == 0

    def test_neither_does_it_evict(self, cache: wellkept.Cache) -> None:
        f(1)
        assert cache.evict(keys=[]).calls == cache.evict("").calls == 0
        assert cache.evict(keys=[], older=0).calls == 0
        assert cache.query(key=one_of()).evict().calls == 0
        with pytest.raises(ConfigError):
            cache.evict()
        assert f.contains(1)


class TestSteps:
    """What is done with functions, after the store has found the calls; over every backend."""

    @pytest.fixture(params=KINDS)
    def found(self, request: pytest.FixtureRequest) -> Iterator[wellkept.Matches]:
        with new(request.param) as other, wellkept.use(other):
            for n in (3, 1, 2, 5, 4):
                f(n, n % 2)
            yield f.query()

    def test_skip(self, found: wellkept.Matches) -> None:
        assert ns(found.skip(2)) == [2, 5, 4]
        assert ns(found.skip(1).limit(2)) == [1, 2]
        assert ns(found.limit(3).skip(1)) == [1, 2]
        assert ns(found.order_by("n").skip(3)) == [4, 5]
        assert ns(found.skip(3).order_by("-n")) == [5, 4]
        assert ns(found.skip(1).where(arguments={"m": 1})) == [1, 5]
        assert ns(found.where(arguments={"m": 1}).skip(1)) == [1, 5]
        assert (found.skip(4).count(), found.skip(5).count()) == (1, 0)
        assert not found.skip(9).exists()
        assert found.skip(4).one().result == [4, 0]
        latest, oldest = found.skip(1).latest(), found.skip(1).oldest()
        assert latest is not None
        assert oldest is not None
        assert (latest.result, oldest.result) == ([4, 0], [1, 1])

    def test_filter(self, found: wellkept.Matches) -> None:
        odd = found.filter(lambda match: match.result[1])
        assert ns(odd) == [3, 1, 5]
        assert (odd.count(), list(odd.results())) == (3, [[3, 1], [1, 1], [5, 1]])
        assert ns(odd.filter(lambda match: match.arguments["n"] > 1).limit(1)) == [3]
        assert odd.evict(dry_run=True).calls == 3
        assert odd.evict().calls == 3
        assert ns(found) == [2, 4]

    def test_sorted(self, found: wellkept.Matches) -> None:
        by_n = found.sorted(lambda match: match.arguments["n"])
        assert ns(found.sorted("n")) == ns(by_n) == [1, 2, 3, 4, 5]
        assert ns(found.sorted("n", reverse=True)) == ns(found.sorted("-n")) == [5, 4, 3, 2, 1]
        both = found.order_by(lambda match: (match.arguments["m"], -match.arguments["n"]))
        assert ns(both) == [4, 2, 5, 3, 1]
        assert ns(found.sorted(lambda match: match.arguments["m"]).limit(3)) == [2, 4, 3]
        down = found.sorted(lambda match: match.arguments["m"], reverse=True)
        assert ns(down.skip(3)) == [2, 4]
        assert (ns(found.sorted()), ns(found.sorted(reverse=True))) == (ns(found), ns(found)[::-1])

    def test_unique(self, found: wellkept.Matches) -> None:
        assert ns(found.unique("m")) == [3, 2]
        assert ns(found.sorted("n").unique(lambda match: match.arguments["n"] // 3)) == [1, 3]
        assert ns(found.unique("nosuch")) == ns(found)
        f(True, 1)
        assert found.unique(lambda match: match.arguments["n"]).count() == 6
        with pytest.raises(ConfigError, match=r"not grouped by .*: \[3, 1\]"):
            list(found.unique(lambda match: match.result))

    def test_groups(self, found: wellkept.Matches) -> None:
        by = found.group_by(lambda match: match.arguments["n"] > 2)
        assert [(value, ns(some)) for value, some in by] == [(True, [3, 5, 4]), (False, [1, 2])]
        for grouped in (found.skip(1).groupby("m").items(), found.skip(1).group_by("m")):
            assert {value: ns(some) for value, some in grouped} == {1: [1, 5], 0: [2, 4]}
        assert {n: ns(some) for n, some in found.limit(2).groupby("n").items()} == {3: [3], 1: [1]}
        f(True, 1)
        assert found.groupby("n")[1].count() == 2
        groups = found.groupby(lambda match: float("nan"))
        assert [some.count() for some in groups.values()] == [6]

    def test_they_go_everywhere_where_answers_go(self, found: wellkept.Matches) -> None:
        odd = found.filter(lambda match: match.result[1]).sorted("n")
        assert list(odd.to_pandas()["n"]) == [1, 3, 5]
        assert "n=5" in odd._repr_html_()
        assert repr(found.skip(2).limit(1)).endswith("skip=2, limit=1>")
        target = wellkept.open("memory:")
        assert odd.transfer(target).calls == 3
        assert target.query().count() == 3
        with pytest.raises(ConfigError, match="no record tells by itself"):
            found.cache.filtered(odd)

    def test_what_is_wrong(self) -> None:
        asked: Any = f.query()
        for name, given in [
            ("skip", -1),
            ("skip", True),
            ("filter", "n"),
            ("sorted", 3),
            ("unique", 3),
            ("groupby", None),
        ]:
            with pytest.raises(ConfigError):
                getattr(asked, name)(given)
