"""What a program keeps, finds and names by hand: values, records, results of calls, arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import every, new, url_of

import wellkept
from wellkept import AmbiguousDigest, Argument, Cache, ConfigError, NotKept, StoreError
from wellkept.records import ARGUMENT, ELEMENT, VALUE

RAN: list[Any] = []


@pytest.fixture(autouse=True)
def ran(home: Path) -> None:
    RAN.clear()


def body(a: Any, n: int = 0) -> Any:
    RAN.append(n)
    total = a.sum() if isinstance(a, np.ndarray) else len(a)
    return [int(total), n]


def kept(cache: Cache, **options: Any) -> Any:
    return wellkept.keep(cache=cache, name="hand:f", version=1, **options)(body)


# -- values and records ---------------------------------------------------------------------------


@every
def test_a_value_is_kept_until_it_is_evicted(kind: str) -> None:
    url = url_of(kind)
    with wellkept.open(url) as cache:
        for value in ([1, {"a": np.arange(3.0)}], "text", None, np.zeros(5000)):
            digest = cache.put(value)
            assert digest == cache.put(value) == wellkept.digest(value)
            np.testing.assert_equal(cache.load(digest), value)
            np.testing.assert_equal(cache.load(digest[:12]), value)
        cache.gc(grace=0), cache.gc(grace=0)
        assert cache.query(VALUE).count() == 4
        assert cache.verify().ok
        cache.evict(VALUE)
        with pytest.raises(NotKept):
            cache.load(wellkept.digest("text"))


def test_a_value_that_is_none() -> None:
    with new("memory") as cache:
        with pytest.raises(wellkept.Undigestible):
            cache.put(object())
        with pytest.raises(StoreError, match="read-only"):
            cache.readonly().put(1)
        with pytest.raises(StoreError, match="takes no such"):
            cache.filtered(lambda call: False).put(1)


@every
def test_a_record_that_a_program_made(kind: str) -> None:
    with new(kind) as cache:
        f = kept(cache)
        planned = f.call([1, 2], n=3)
        assert (planned.state, planned.key) == ("not kept", f.key([1, 2], n=3))
        done = cache.save(planned.replace(metadata={"by": "hand"}, seconds=2), [7, 3])
        assert (done.key, done.state, done.seconds) == (planned.key, "done", 2.0)
        assert (f([1, 2], n=3), RAN) == ([7, 3], [])
        assert f.call([1, 2], n=3).metadata == {"by": "hand"}
        # Of plain arguments, and of a value that is kept.
        other = planned.replace(arguments={"a": [1, 2], "n": 4}, result=cache.put([8, 4]))
        assert cache.save(other).key == f.key([1, 2], n=4)
        assert (f([1, 2], n=4), RAN) == ([8, 4], [])
        # What it shows of an argument is the argument, whatever digest stands beside it.
        lying = {"a": planned.arguments["a"], "n": Argument(wellkept.digest(9), 5, True)}
        assert cache.save(planned.replace(arguments=lying), [9, 5]).key == f.key([1, 2], n=5)
        assert cache.verify().ok


def test_a_failure_and_a_generator_that_a_program_made() -> None:
    with new("embedded") as cache:
        g = wellkept.keep(cache=cache, name="hand:g", version=1)(lambda n: iter(()))
        cache.save(g.call(1).replace(state="failed"), ValueError("no"))
        with pytest.raises(ValueError, match="no"):
            g.load(1)

        @wellkept.keep(cache=cache, name="hand:each", version=1)
        def each(n: int) -> Any:
            yield n

        cache.save(each.call(2).replace(state="items"), [1, 2])
        assert list(each(2)) == [1, 2]


def test_a_record_that_is_none() -> None:
    with new("memory") as cache:
        f = kept(cache)
        planned = f.call([1])
        for wrong in (
            {"function": ""},
            {"code": None},
            {"state": "fine"},
            {"arguments": {1: 2}},
            {"metadata": {"a": {1, 2}}},
            {"created": "now"},
            {"result": "abcd"},
            {"state": "failed"},
        ):
            with pytest.raises(ConfigError):
                cache.save(planned.replace(**wrong), 1)
        with pytest.raises(ConfigError, match="takes a"):
            cache.save(planned, 1, 2)
        with pytest.raises(ConfigError, match="takes a"):
            cache.save({"function": "f"}, 1)  # type: ignore[arg-type]  # what is refused
        with pytest.raises(NotKept, match="give the result"):
            cache.save(planned)
        assert cache.query().count() == 0


# -- results of calls -----------------------------------------------------------------------------


@every
def test_a_result_is_put(kind: str) -> None:
    with new(kind) as cache:
        f = kept(cache)
        call = f.put([1, 1], [3], n=2)
        assert (call.key, call.state, call.seconds) == (f.key([3], n=2), "done", 0.0)
        assert (f([3], n=2), RAN) == ([1, 1], [])
        f.put([2, 2], [3], n=2)
        assert (f([3], n=2), RAN) == ([2, 2], [])
        assert "started" in f.call([3], n=2).metadata
        with pytest.raises(StoreError, match="read-only"):
            kept(cache.readonly()).put(1, [3])
        with pytest.raises(StoreError, match="takes no such"):
            kept(cache.filtered(lambda call: False)).put(1, [4])
        with pytest.raises(TypeError):
            f.put(1)


def test_a_result_of_a_method_a_coroutine_or_a_generator_is_put() -> None:
    import asyncio

    class Tool:
        @wellkept.keep(name="hand:use", version=1)
        def use(self, n: int) -> int:
            raise AssertionError

        def __digest__(self) -> str:
            return "tool"

    @wellkept.keep(name="hand:later", version=1)
    async def later(n: int) -> int:
        raise AssertionError

    @wellkept.keep(name="hand:items", version=1)
    def items(n: int) -> Any:
        raise AssertionError
        yield n

    Tool().use.put(5, 1)
    later.put(6, 1)
    items.put(range(3), 1)
    assert (Tool().use(1), asyncio.run(later(1)), list(items(1))) == (5, 6, [0, 1, 2])


def test_a_call_before_it_is_kept() -> None:
    with new("memory") as cache:
        f = kept(cache)
        call = f.call([1], n=2)
        assert (call.state, call.function, call.code) == ("not kept", "hand:f", "version:1")
        assert (call.arguments["n"].value, call.created, call.metadata) == (2, 0.0, {})
        f([1], n=2)
        assert f.call([1], n=2).state == "done"
        assert f.call([1], n=2).key == call.key


# -- arguments that are kept as values ------------------------------------------------------------


@every
def test_arguments_are_loaded(kind: str) -> None:
    with new(kind) as cache:
        f = kept(cache, arguments="values")
        array = np.arange(12.0).reshape(3, 4)
        f(array), f([1, "x"], n=1), f(array, n=2)
        first, second, third = f.query()
        np.testing.assert_array_equal(first.arguments["a"], array)
        assert (second.arguments["a"], second.arguments["n"]) == ([1, "x"], 1)
        assert first.arguments["a"] is not array
        # They are no calls, and each is there once.
        assert cache.query().count() == len(list(cache.query())) == 3
        assert cache.query(ARGUMENT).count() == 2
        assert cache.query(given=array).count() == 2
        assert f.rerun(**third.arguments) == [66, 2]
        assert wellkept.verify(f, sample=1.0).tally("same") == 3
        cache.gc(grace=0), cache.gc(grace=0)
        assert f.query().first().arguments["a"][2, 3] == 11.0
        assert cache.verify().ok


@every
def test_they_go_with_the_last_call_that_has_them(kind: str) -> None:
    with new(kind) as cache:
        f = kept(cache, arguments="values")
        f([1]), f([1], n=1), f([2])
        f.query(n=0).evict()
        assert cache.query(ARGUMENT).count() == 1
        assert f.query().one().arguments["a"] == [1]
        f.forget([1], n=1)
        assert cache.gc(grace="1 h") is not None
        assert cache.query(ARGUMENT).count() == 1
        cache.gc(grace=0)
        assert cache.query(ARGUMENT).count() == 0


def test_an_argument_is_kept_as_it_was() -> None:
    with new("embedded") as cache:

        @wellkept.keep(cache=cache, name="hand:spoil", version=1, arguments="values")
        def spoil(a: Any) -> Any:
            a[0] = 99
            return 1

        array, given = np.arange(2000), [1, 2]
        spoil(array), spoil(given)
        first, second = spoil.query()
        np.testing.assert_array_equal(first.arguments["a"], np.arange(2000))
        assert second.arguments["a"] == [1, 2]


def test_an_argument_that_can_not_be_kept_costs_a_warning_alone() -> None:
    class Odd:
        def __digest__(self) -> str:
            return "odd"

        def __reduce__(self) -> Any:
            raise TypeError("not me")

    with new("memory") as cache:
        f = wellkept.keep(cache=cache, name="hand:odd", version=1, arguments="values")(lambda a: 1)
        with pytest.warns(wellkept.KeptWarning, match="the argument a is not kept"):
            f(Odd())
        assert f.contains(Odd())
        with pytest.raises(NotKept):
            f.query().one().arguments["a"]


def test_a_filter_that_fails_of_parts_costs_no_call() -> None:
    with new("memory") as cache:
        some = cache.filtered(lambda call: call.arguments["n"].value == 1)
        f = kept(some, arguments="values", share="elements")
        with pytest.warns(wellkept.KeptWarning):
            assert f([1], n=1) == [1, 1]
        assert f.contains([1], n=1)


def test_in_whatever_form_an_argument_counts() -> None:
    class Tool:
        def __init__(self, size: int) -> None:
            self.size = size

        @wellkept.keep(name="hand:grow", version=1, arguments="values")
        def grow(self, *rest: Any, **named: Any) -> int:
            return self.size

    @wellkept.keep(name="hand:ordered", version=1, arguments="values", ordered="steps")
    def ordered(steps: dict[str, int]) -> list[str]:
        return list(steps)

    ordered({"b": 1, "a": 2})
    assert list(ordered.query().one().arguments["steps"]) == ["b", "a"]
    Tool(3).grow([1], [2], x=[3])
    found = Tool.grow.query().one().arguments
    assert (found["*rest"], found["x"]) == (([1], [2]), [3])


def test_what_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.conftest import forget_the_default_cache

    from wellkept.caches.config import find

    monkeypatch.delenv("WELLKEPT_CACHE")
    Path("wellkept.toml").write_text('cache = "./here"\narguments = "values"\n')
    forget_the_default_cache()
    assert find().arguments == "values"
    assert 'arguments = "values"' in find().to_toml()
    f = wellkept.keep(name="hand:f", version=1)(body)
    f([1])
    assert f.query().one().arguments["a"] == [1]
    g = wellkept.keep(name="hand:h", version=1, arguments="scalars")(body)
    g([2])
    with pytest.raises(NotKept):
        g.query().one().arguments["a"]
    Path("wellkept.toml").write_text('arguments = "all"\n')
    with pytest.raises(ConfigError, match="arguments"):
        find()
    with pytest.raises(ConfigError, match="arguments="):
        wellkept.keep(arguments="all")  # type: ignore[call-overload]  # what is refused


def test_a_worker_keeps_them_and_so_does_the_caller() -> None:
    from concurrent.futures import ProcessPoolExecutor

    with new("embedded") as shared, new("memory") as near, ProcessPoolExecutor(1) as pool:
        for cache in (shared, near):
            f = wellkept.keep(cache=cache, version=1, arguments="values")(len)
            f.submit(pool, (1, 2)).result()
            (found,) = f.query()
            assert list(found.arguments.values()) == [(1, 2)]


def test_a_transfer_brings_them_along() -> None:
    with new("embedded") as near, new("files") as far:
        f = kept(near, arguments="values")
        f([1]), f([2])
        near.transfer(far, f.query([2]))
        assert [match.arguments["a"] for match in far.query()] == [[2]]
        assert far.query(ARGUMENT).count() == 1


def test_they_are_no_origin_of_results() -> None:
    with new("memory") as cache:
        f = kept(cache, arguments="values")
        result = f([1])
        said = str(wellkept.lineage(result, cache=cache))
        assert "hand:f" in said or "f(" in said
        assert ARGUMENT not in said


def test_what_no_record_shows_is_told_by_how_it_looks() -> None:
    pandas = pytest.importorskip("pandas")
    with new("embedded") as cache:
        f = kept(cache)
        f(np.zeros((3, 4))), f(pandas.DataFrame({"x": [1, 2]})), f([1, 2, 3])
        cache.flush()
        shown = [repr(match.arguments) for match in f.query()]
        assert shown[0].startswith("a=<float64 (3, 4) ")
        assert shown[1].startswith("a=<DataFrame (2, 1) ")
        assert shown[2].startswith("a=<list of 3 ")
        assert "a=<float64 (3, 4) " in repr(f.query().first())
        assert "float64 (5,)" in str(f.explain(np.zeros(5)))


def test_a_list_of_calls_tells_it_too(capsys: pytest.CaptureFixture[str]) -> None:
    from wellkept.cli.inspect import list_calls

    with new("memory") as cache:
        f = kept(cache)
        f(np.zeros((3, 4)), n=7)
        cache.flush()
        list_calls(cache, list(f.query().calls()), ["hand:f"], 1, "memory:", False)
        assert "a=<float64 (3, 4)" in capsys.readouterr().out


# -- elements of results --------------------------------------------------------------------------


@every
def test_elements_of_results_are_loaded_by_their_digests(kind: str) -> None:
    array, text = np.arange(3000.0), "a text"

    def made(n: int) -> Any:
        return {"all": [array, (text, n)], "n": n}

    with new(kind) as cache:
        f = wellkept.keep(cache=cache, name="hand:made", version=1, share="elements")(made)
        f(1), f(2)
        for part in (array, text, (text, 1), [array, (text, 2)]):
            loaded = cache.load(wellkept.digest(part))
            assert wellkept.digest(loaded) == wellkept.digest(part)
        assert f(1)["all"][1] == ("a text", 1)
        assert cache.query().count() == 2
        with pytest.raises(NotKept):
            cache.load(wellkept.digest(1))
        f.query(n=1).evict()
        cache.gc(grace=0), cache.gc(grace=0)
        assert cache.load(wellkept.digest(text)) == text
        with pytest.raises(NotKept):
            cache.load(wellkept.digest((text, 1)))
        f.query(n=2).evict()
        assert cache.query(ELEMENT).count() == 0
        assert cache.verify().ok


def test_how_deep_and_what_is_none() -> None:
    nested = [["a", "b"], ["c", ["d"]]]
    with new("memory") as cache:
        f = wellkept.keep(cache=cache, version=1, share=("elements", 1))(lambda n: nested)
        f(1)
        for part in (["a", "b"], ["d"], ["c", ["d"]]):
            assert cache.load(wellkept.digest(part)) == part
        with pytest.raises(NotKept):
            cache.load(wellkept.digest("a"))
        g = wellkept.keep(cache=cache, version=2)(lambda n: [["x"]])
        g(1)
        with pytest.raises(NotKept):
            cache.load(wellkept.digest(["x"]))
    for wrong in (
        "all",
        ("elements", -1),
        ("elements", "1"),
        1,
        ("elements",),
        True,
        ["elements", 1],
    ):
        with pytest.raises(ConfigError, match="share="):
            wellkept.keep(share=wrong)  # type: ignore[call-overload]  # what is refused


def test_elements_go_along_in_a_transfer() -> None:
    with new("embedded") as near, new("files") as far:
        f = wellkept.keep(cache=near, version=1, share="elements")(lambda n: [str(n)])
        f(1), f(2)
        near.transfer(far, f.query(2))
        assert far.load(wellkept.digest("2")) == "2"
        assert far.query(ELEMENT).count() == 1


# -- short digests --------------------------------------------------------------------------------


@every
def test_many_digests_are_shortened_in_one_pass(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with new(kind) as cache:
        f = kept(cache)
        keys = []
        for n in range(60):
            f.put(n, [], n=n)
            keys.append(str(f.key([], n=n)))
        asked = []
        real = type(cache.calls).keys

        def counted(self: Any, prefix: str = "") -> Any:
            asked.append(prefix)
            return real(self, prefix)

        monkeypatch.setattr(type(cache.calls), "keys", counted)
        found = cache.shrink(keys)
        assert len(asked) == 1
        monkeypatch.undo()
        assert found == [cache.shrink(key) for key in keys]
        assert [cache.expand(short) for short in found] == keys
        assert min(map(len, found)) == 4
        assert cache.shrink([]) == []
        with pytest.raises(NotKept):
            cache.shrink([keys[0], "0" * 64])


def test_the_beginning_is_as_long_as_it_has_to_be() -> None:
    keys = [start.ljust(64, "0") for start in ("abcd", "abcde", "abcdef1", "abd")]

    class Store:
        def keys(self, prefix: str = "") -> list[str]:
            return [key for key in keys if key.startswith(prefix)]

    with new("memory") as cache:
        found = [cache.shrink(key, Store()) for key in keys]
        assert found == cache.shrink(keys, Store())
        assert found == ["abcd0", "abcde0", "abcdef", "abd0"]
        assert [cache.expand(short, Store()) for short in found] == keys
        with pytest.raises(AmbiguousDigest):
            cache.expand("abcd", Store())


@every
def test_a_short_digest_stands_where_a_full_one_may(kind: str) -> None:
    with new(kind) as cache, wellkept.use(cache):
        f = kept(cache)
        digest = cache.put([1, 2, 3])
        short = wellkept.D(digest[:10])
        assert short == digest == wellkept.D(digest) == wellkept.D(digest[:10], cache)
        assert f(short) == [3, 0]
        assert f.query(short).one().key == f.key([1, 2, 3])
        for wrong in ("0" * 10, "ab", "xyzw"):
            with pytest.raises(NotKept):
                wellkept.D(wrong)
