"""`@keep(each=…)`: functions of many items."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import wellkept
from wellkept.errors import ConfigError
from wellkept.memo import batch_commits
from wellkept.memo.containers import Container


@pytest.fixture(params=["", "files:", "sqlite:///", "memory:"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> wellkept.Cache:
    at = {"": tmp_path / "c", "memory:": "memory:"}.get(request.param)
    return wellkept.open(at or f"{request.param}{tmp_path / 'c'}")


class Seen:
    """A function of many items, and what its body got."""

    def __init__(self, cache: wellkept.Cache, body: Callable[..., Any], **options: Any) -> None:
        self.got: list[Any] = []

        def f(items: Any, n: int = 1) -> Any:
            self.got.append(items)
            return body(items, n)

        options = {"name": "f", "version": 1, "each": "items"} | options
        self.f = wellkept.keep(cache=cache, **options)(f)


def upper(items: list[str], n: int) -> list[str]:
    return [item.upper() * n for item in items]


def test_only_what_is_missing_reaches_the_body(cache: wellkept.Cache) -> None:
    seen = Seen(cache, upper)
    assert seen.f(["a", "b", "c"]) == ["A", "B", "C"]
    assert seen.f(["b", "d", "a", "e", "d"]) == ["B", "D", "A", "E", "D"]
    assert seen.got == [["a", "b", "c"], ["d", "e"]]
    assert seen.f(["a", "e"]) == ["A", "E"]
    assert seen.f(["a"], n=2) == ["AA"]
    assert seen.got[2:] == [["a"]]
    stats = seen.f.stats()
    assert (stats.computed, stats.hits) == (6, 4)


def test_each_item_is_a_call(cache: wellkept.Cache) -> None:
    seen = Seen(cache, upper)
    seen.f(["a", "b"])
    assert seen.f.contains("a")
    assert not seen.f.contains("c")
    assert seen.f.load("b") == "B"
    assert seen.f.query(items="a").one().result == "A"
    assert seen.f.call("a").arguments["items"].value == "a"
    assert (
        str(seen.f.explain("b")).startswith("Seen.__init__.<locals>.f(items='b'")
        or seen.f.explain("b").hit
    )
    assert seen.f.forget("a")
    assert seen.f(["a", "b"]) == ["A", "B"]
    assert seen.got == [["a", "b"], ["a"]]


def test_at_most_a_batch_at_once(cache: wellkept.Cache) -> None:
    seen = Seen(cache, upper, batch=3)
    items = list("abcdefgh")
    assert seen.f(items) == [item.upper() for item in items]
    assert [len(got) for got in seen.got] == [3, 3, 2]


CONTAINERS = {
    "list": (["a", "b", "c"], lambda items, n: [len(item) for item in items]),
    "tuple": (("a", "b", "c"), lambda items, n: tuple(item * 2 for item in items)),
    "dict": ({"x": 1, "y": 2, "z": 3}, lambda items, n: {k: v * 2 for k, v in items.items()}),
    "array": (np.arange(12.0).reshape(3, 4), lambda items, n: items * 2),
    "numbers": (np.arange(3, dtype="i2"), lambda items, n: items + 1),
    "texts": (["a", "bb", "ccc"], lambda items, n: np.array(items)),
    "objects": (
        [1, 2, 3],
        lambda items, n: np.array([[i] * i for i in items] + [None], object)[:-1],
    ),
    "embeddings": (["a", "bb", "c"], lambda items, n: np.array([[len(i), 0] for i in items], "f4")),
    "series": (
        pd.Series(["a", "bb", "ccc"], index=[7, 8, 9], name="text"),
        lambda items, n: items.str.len(),
    ),
    "frame": (
        pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "z"]}, index=list("rst")),
        lambda items, n: items.assign(c=items.a * 2.5),
    ),
    "frame to list": (
        pd.DataFrame({"a": [1, 2, 3]}),
        lambda items, n: [int(a) for a in items.a],
    ),
}


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()
    if isinstance(a, (pd.Series, pd.DataFrame)):
        return a.equals(b) and a.index.equals(b.index)
    return bool(a == b)


@pytest.mark.parametrize("name", CONTAINERS)
def test_order_and_container_are_kept(name: str, tmp_path: Path) -> None:
    items, body = CONTAINERS[name]
    seen = Seen(wellkept.open(tmp_path), body)
    want = body(items, 1)
    if isinstance(want, (pd.Series, pd.DataFrame)):
        want.index = items.index
    got = Container(items)
    part = got.some([1])
    seen.f(part)
    assert len(seen.got) == 1
    for _ in range(2):
        assert same(seen.f(items), want)
    assert len(seen.got) == 2
    assert len(seen.got[1]) == 2
    again = Seen(wellkept.open(tmp_path), body)
    assert same(again.f(items), want)
    assert again.got == []


def test_rows_are_known_whatever_their_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1, 2, 3]}, index=[5, 6, 7])
    seen = Seen(wellkept.open(tmp_path), lambda items, n: list(items.a + items.index * 100))
    seen.f(frame)
    assert seen.f(frame.iloc[::-1].reset_index(drop=True)) == [203, 102, 1]
    assert len(seen.got) == 1


def test_nothing_at_all_is_the_body_s(cache: wellkept.Cache) -> None:
    seen = Seen(cache, upper)
    assert seen.f([]) == []
    assert seen.got == [[]]


def test_equal_items_are_computed_once_and_are_not_one_object(tmp_path: Path) -> None:
    seen = Seen(wellkept.open(tmp_path), lambda items, n: [[item] for item in items])
    for _ in range(2):
        result = seen.f([1, 1, True])
        assert result == [[1], [1], [True]]
        assert result[0] is not result[1]
        result[0].append(2)
    assert seen.got == [[1, True]]


def test_a_failing_item_names_itself_and_the_others_are_kept(cache: wellkept.Cache) -> None:
    def body(items: list[int], n: int) -> list[float]:
        return [1 / item for item in items]

    seen = Seen(cache, body, errors=ZeroDivisionError)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as caught:
            seen.f([1, 2, 0, 4])
        assert caught.value.__notes__ == ["in items[2]: 0"]
    bodies = len(seen.got)
    assert seen.f([1, 2, 4]) == [1, 0.5, 0.25]
    with pytest.raises(ZeroDivisionError):
        seen.f([0])
    assert len(seen.got) == bodies


def test_an_exception_in_place_of_a_result_is_that_item_s(cache: wellkept.Cache) -> None:
    def body(items: list[int], n: int) -> list[Any]:
        return [ValueError("bad") if item == 2 else item for item in items]

    seen = Seen(cache, body, errors=ValueError)
    with pytest.raises(ValueError, match="bad"):
        seen.f([1, 2, 3])
    assert seen.f([1, 3]) == [1, 3]
    assert len(seen.got) == 1


def test_a_failure_that_is_not_kept_says_where(cache: wellkept.Cache) -> None:
    seen = Seen(cache, lambda items, n: [1 / item for item in items], batch=2)
    with pytest.raises(ZeroDivisionError) as caught:
        seen.f([1, 2, 3, 0])
    assert caught.value.__notes__ == ["in a batch of 2 items of items, from number 2 to 3"]
    assert seen.f([1, 2]) == [1, 0.5]
    assert len(seen.got) == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda items, n: items[:-1], "returned 1 results for 2 items"),
        (lambda items, n: "ab", "returned str; with each='items' it returns one result an item"),
        (lambda items, n: {"a": 1}, "returned a dict"),
        (lambda items, n: (i for i in items), "returned generator"),
    ],
)
def test_a_body_that_does_not_return_one_each(body: Any, why: str, cache: wellkept.Cache) -> None:
    seen = Seen(cache, body)
    with pytest.raises(ConfigError, match=why):
        seen.f(["a", "b"])
    assert not seen.f.contains("a")


def test_other_containers_at_other_times_are_told(tmp_path: Path) -> None:
    seen = Seen(
        wellkept.open(tmp_path), lambda items, n: items if len(items) == 2 else tuple(items)
    )
    seen.f([1, 2])
    with pytest.raises(ConfigError, match="returned a tuple here, and a list before"):
        seen.f([1, 3])


@pytest.mark.parametrize("given", [iter("ab"), "ab", {1, 2}, 3, None, np.array(3)])
def test_what_is_no_container_is_refused_before_the_body(given: Any, cache: wellkept.Cache) -> None:
    seen = Seen(cache, upper)
    with pytest.raises(ConfigError, match="items= takes many items: a list"):
        seen.f(given)
    assert seen.got == []


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"each": "nothing"}, "each='nothing' names no argument"),
        ({"each": "rest"}, "each='rest' names no argument"),
        ({"each": "x", "ignore": "x"}, "each='x' names no argument"),
        ({"each": 3}, "each= takes the name"),
        ({"each": "x", "batch": 0}, "batch= is the most items"),
        ({"batch": 3}, "batch= goes with each="),
        ({"each": "x", "output": True}, "output= says nothing beside each="),
    ],
)
def test_bad_options(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        wellkept.keep(**options)(lambda x, *rest: x)


def test_generators_are_refused() -> None:
    with pytest.raises(ConfigError, match="each= is not for generators"):

        @wellkept.keep(each="x")
        def f(x: list[int]) -> Any:
            yield from x


def test_coroutines(cache: wellkept.Cache) -> None:
    got: list[Any] = []

    @wellkept.keep(cache=cache, name="f", version=1, each="items", batch=2)
    async def f(items: list[int]) -> list[int]:
        got.append(items)
        await asyncio.sleep(0)
        return [item + 1 for item in items]

    async def both() -> Any:
        return await asyncio.gather(f([1, 2, 3]), f([3, 2, 4]))

    assert asyncio.run(both()) == [[2, 3, 4], [4, 3, 5]]
    assert sorted(item for items in got for item in items) == [1, 2, 3, 4]
    assert asyncio.run(f([4, 1])) == [5, 2]
    assert sorted(item for items in got for item in items) == [1, 2, 3, 4]


def test_threads_share_what_is_under_way(cache: wellkept.Cache) -> None:
    started, go = threading.Event(), threading.Event()

    def body(items: list[int], n: int) -> list[int]:
        started.set()
        assert go.wait(20)
        return items

    seen = Seen(cache, body)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(seen.f, [1, 2])
        assert started.wait(20)
        second = pool.submit(seen.f, [2, 3])
        until = time.monotonic() + 20
        while len(seen.got) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        go.set()
        assert (first.result(20), second.result(20)) == ([1, 2], [2, 3])
    assert seen.got == [[1, 2], [3]]


def test_methods_rerun_replicates_and_pickles(tmp_path: Path) -> None:
    class Model:
        @wellkept.keep(cache=tmp_path, each="xs")
        def predict(self, xs: list[int]) -> list[float]:
            return [time.perf_counter() + x for x in xs]

    model = Model()
    first = model.predict([1, 2])
    assert model.predict([2, 1]) == first[::-1]
    assert model.predict.replicate(1)([1, 2]) != first
    second = model.predict.rerun([1, 2])
    assert second != first
    assert model.predict([1, 2]) == second


@wellkept.keep(name="test_batches.double", version=1, each="xs")
def double(xs: list[int]) -> list[int]:
    return [2 * x for x in xs]


def test_map_and_executors(tmp_path: Path) -> None:
    with wellkept.use(wellkept.open(tmp_path)) as cache, ThreadPoolExecutor(2) as pool:
        assert double.map([[1, 2], [3]]) == [[2, 4], [6]]
        assert double.submit(pool, [3, 4]).result() == [6, 8]
        assert wellkept.executor(pool).submit(double, [5]).result() == [10]
        assert double.map([[1], [6]], executor=pool) == [[2], [12]]
        assert pickle.loads(pickle.dumps(double.bind([1, 7])))() == [2, 14]
        assert cache.query().count() == 7


def test_expired_items_are_computed_again(tmp_path: Path) -> None:
    seen = Seen(wellkept.open(tmp_path), upper, ttl=1e-9)
    seen.f(["a"])
    seen.f(["a"])
    assert seen.got == [["a"], ["a"]]


def test_a_stale_item_is_served_and_refreshed(tmp_path: Path) -> None:
    seen = Seen(wellkept.open(tmp_path), upper, ttl=1e-9, stale="1 h")
    seen.f(["a", "b"])
    assert seen.f(["a"]) == ["A"]
    until = time.monotonic() + 20
    while len(seen.got) < 2 and time.monotonic() < until:
        time.sleep(0.005)
    assert seen.got == [["a", "b"], ["a"]]


def test_without_the_note_of_the_container_all_is_computed(tmp_path: Path) -> None:
    seen = Seen(wellkept.open(tmp_path), upper)
    seen.f(["a"])
    notes = seen.f.cache.backend.notes
    notes.delete(next(iter(notes.keys("each/"))))
    again = Seen(wellkept.open(tmp_path), upper)
    assert again.f(["a", "b"]) == ["A", "B"]
    assert again.got == [["a", "b"]]
    assert again.f(["b", "a"]) == ["B", "A"]
    assert len(again.got) == 1


def test_a_run_and_costs_count_items(tmp_path: Path) -> None:
    cache = wellkept.open(tmp_path)
    seen = Seen(cache, upper, cost={"usd": lambda result: 0.5})
    with wellkept.run("items", cache=cache) as run:
        seen.f(["a", "b"])
        seen.f(["a", "b", "c"])
    totals = run.totals()
    assert (totals.computed, totals.hits) == (3, 2)
    assert seen.f.query().costs()["usd"].spent == 1.5
    took = [call.seconds for call in seen.f.query().calls()]
    assert all(seconds < 1 for seconds in took)


def _killed(path: str, started: Any) -> None:
    def body(items: list[int], n: int) -> list[int]:
        if items[0] >= 4:
            started.set()
            time.sleep(60)
        return items

    Seen(wellkept.open(path), body, batch=4).f(list(range(8)))


def test_a_kill_in_a_batch_loses_that_batch(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = context.Event()
    process = context.Process(target=_killed, args=(str(tmp_path), started))
    process.start()
    assert started.wait(30)
    process.kill()
    process.join()
    seen = Seen(wellkept.open(tmp_path), lambda items, n: items, batch=4)
    assert seen.f(list(range(8))) == list(range(8))
    assert seen.got == [[4, 5, 6, 7]]


ORDERED = pd.CategoricalDtype(["b", "a", "z"], ordered=True)

EXACT: dict[str, tuple[list[Any], Any]] = {
    "fields": ([[1, 2]], lambda items, n: np.array([(i, i / 2) for i in items], "i4, f8")),
    "byte order": ([[1, 2]], lambda items, n: np.array([[i, i] for i in items], ">f8")),
    "lists in an array": (
        [[1, 2]],
        lambda items, n: np.array([[i, i] for i in items] + [None], object)[:-1],
    ),
    "categories": (
        [["a", "b"], ["a"]],
        lambda items, n: pd.Series(pd.Categorical(items, dtype=ORDERED)),
    ),
    "categories of a column": (
        [["a", "b"]],
        lambda items, n: pd.DataFrame({"c": pd.Categorical(items, dtype=ORDERED)}),
    ),
    "codes of categories": (
        [pd.Series(list("ab"), dtype=pd.CategoricalDtype(list(order))) for order in ("ab", "ba")],
        lambda items, n: items.cat.codes,
    ),
    "codes of a column": (
        [
            pd.DataFrame({"c": pd.Categorical(list("ab"), categories=list(order))})
            for order in ("ab", "ba")
        ],
        lambda items, n: items.c.cat.codes,
    ),
    "widths": (
        [pd.Series([1, 4096], dtype=dtype) for dtype in ("int64", "int32", "float32", "float64")],
        lambda items, n: items * 2**20,
    ),
    "types of rows": (
        [np.arange(6).reshape(3, 2), np.arange(6.0).reshape(3, 2)],
        lambda items, n: items.sum(axis=1),
    ),
    "names": (
        [pd.Series([1, 2], name=name) for name in ("x", "y", None)],
        lambda items, n: items * 2,
    ),
    "columns of one name": (
        [pd.DataFrame([[1, 2.5], [3, 4.0]], columns=["a", "a"])],
        lambda items, n: items,
    ),
    "numbered columns": ([pd.DataFrame([[1, 2], [3, 4]])], lambda items, n: items),
    "what was given": ([[1, 2], (1, 2), [3], (3, 4)], lambda items, n: type(items)(items)),
}


@pytest.mark.parametrize("name", EXACT)
def test_what_is_put_together_is_what_the_body_gives(name: str, tmp_path: Path) -> None:
    calls, body = EXACT[name]
    for seen in (Seen(wellkept.open(tmp_path), body) for _ in range(2)):
        for items in calls:
            want, found = body(items, 1), seen.f(items)
            assert type(found) is type(want)
            if isinstance(want, pd.Series):
                pd.testing.assert_series_equal(found, want)
            elif isinstance(want, pd.DataFrame):
                pd.testing.assert_frame_equal(found, want)
            elif isinstance(want, np.ndarray):
                assert (found.dtype, found.tolist()) == (want.dtype, want.tolist())
            else:
                assert found == want
    assert seen.got == []


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda items, n: pd.Series(items, index=items), "a Series with an index of its own"),
        (lambda items, n: pd.Series(items)[::-1], "a Series with an index of its own"),
        (lambda items, n: pd.Series(items, name=("a", 1)), r"a Series with the name \('a', 1\)"),
        (
            lambda items, n: pd.DataFrame({pd.Timestamp(0): items}),
            "a frame with the name Timestamp",
        ),
        (
            lambda items, n: pd.DataFrame({"a": items}).rename_axis(columns="of"),
            "a frame with the name 'of'|a frame whose columns have a name",
        ),
        (
            lambda items, n: pd.Series(pd.Categorical([pd.Timestamp(0) for _ in items])),
            "a Series of CategoricalDtype",
        ),
    ],
)
def test_what_can_not_be_put_together_is_refused(
    body: Any, why: str, cache: wellkept.Cache
) -> None:
    seen = Seen(cache, body)
    with pytest.raises(ConfigError, match=f"returned {why}"):
        seen.f([1, 2])
    assert not seen.f.contains(1)


def test_the_body_gets_the_values_that_digests_name(tmp_path: Path) -> None:
    cache = wellkept.open(tmp_path)
    seen = Seen(cache, lambda items, n: [len(one) for one in items])
    named = cache.put([4, 4, 4])
    assert seen.f([named, [1]]) == [3, 1]
    assert seen.f([[4, 4, 4]]) == [3]
    assert seen.got[0] == [[4, 4, 4], [1]]
    with pytest.raises(ConfigError, match="digests in place of values come in a list or tuple"):
        seen.f(np.array([named], object))


def test_a_refresh_block_computes_each_item_again_once(tmp_path: Path) -> None:
    seen = Seen(wellkept.open(tmp_path), upper)
    seen.f(["a", "b"])
    with wellkept.refresh():
        assert seen.f(["a", "b", "c"]) == ["A", "B", "C"]
        seen.f(["b", "c", "a"])
    seen.f(["a", "b", "c"])
    assert seen.got == [["a", "b"], ["a", "b", "c"]]


def test_what_is_verified_is_computed_again(cache: wellkept.Cache) -> None:
    got = []

    @wellkept.keep(each="items", version=1, verify=1.0, cache=cache)
    def f(items: list[int]) -> list[int]:
        got.append(list(items))
        return list(items)

    assert f([1, 2]) == f([1, 2]) == [1, 2]
    assert got == [[1, 2], [1, 2]]


@pytest.mark.filterwarnings("ignore::wellkept.KeptWarning")
def test_equal_items_whose_result_can_not_be_copied(cache: wellkept.Cache) -> None:
    seen = Seen(cache, lambda items, n: [(c for c in item) for item in items])
    first, second = seen.f(["ab", "ab"])
    assert list(first) == ["a", "b"]
    assert second is first


def test_without_the_cache_the_body_gets_batches_too(tmp_path: Path) -> None:
    items = [threading.Lock() for _ in range(5)]
    batched = Seen(wellkept.open(tmp_path), lambda items, n: [1] * len(items), batch=2)
    with pytest.warns(wellkept.KeptWarning, match="computed, not kept"):
        assert batched.f(items) == [1] * 5
    assert [len(got) for got in batched.got] == [2, 2, 1]
    assert batched.got[0] == items[:2]


def test_a_store_that_is_gone_breaks_no_caller(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    gone: Any = str(tmp_path / "file" / "cache")
    seen = Seen(gone, upper)
    with pytest.warns(wellkept.KeptWarning, match="computed without the cache"):
        assert seen.f(["a", "b", "a"]) == ["A", "B", "A"]
    with pytest.raises(wellkept.StoreError):
        Seen(gone, upper, strict=True).f(["a"])


def test_a_batch_is_one_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Seen(wellkept.open(tmp_path), upper, batch=50)
    commits: list[int] = []
    commit = seen.f.cache.backend.commit_many
    monkeypatch.setattr(batch_commits, "SOON", 60.0)
    monkeypatch.setattr(batch_commits, "LATE", 60.0)
    monkeypatch.setattr(
        seen.f.cache.backend,
        "commit_many",
        lambda made, *a: (commits.append(len(made)), commit(made, *a))[1],
    )
    seen.f([str(i) for i in range(100)])
    assert commits == [50, 50]
