"""Calls on the move: to another cache, and under other keys."""

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import KINDS, Counted, every, new

import wellkept
from wellkept import Call, ConfigError, StoreError, keep
from wellkept.stores import Sql
from wellkept.stores.reports import Moved

pairs = pytest.mark.parametrize("kinds", [(a, b) for a in KINDS for b in KINDS])
LARGE = 50_000


def fill(cache: wellkept.Cache) -> tuple[Counted, Any]:
    counted = Counted(lambda x: np.arange(x) if x > 10 else [x])
    f = counted.into(cache)
    for x in (1, 2, 3, LARGE, LARGE + 1):
        f(x)
        f(x)
    cache.flush()
    return counted, f


def shape(moved: Moved) -> tuple[int, int, int]:
    return moved.calls, moved.same, moved.skipped


# -- transfer -------------------------------------------------------------------------------------


@pairs
def test_transfer_copies_calls_with_results(kinds: tuple[str, str]) -> None:
    source, target = new(kinds[0]), new(kinds[1])
    counted, f = fill(source)
    steps: list[tuple[int, int]] = []
    would = source.transfer(target, dry_run=True)
    assert list(target.calls.keys()) == []
    done = source.transfer(target, progress=lambda *step: steps.append(step))
    assert done == would
    assert shape(done) == (5, 0, 0)
    assert done.bytes == source.size().result_bytes
    assert steps == [*((i, 5) for i in range(5)), (5, 5)]
    assert shape(source.transfer(target)) == (0, 5, 0)
    there = counted.into(target)
    for x in (1, 2, 3, LARGE, LARGE + 1):
        assert np.array_equal(there(x), f(x))
        before, after = f.call(x), there.call(x)
        assert before._replace(used=None, uses=0) == after._replace(used=None, uses=0)
        assert after.uses >= 1
    assert counted.runs == 5
    assert target.verify().ok


@pairs
def test_transfer_moves_what_is_wanted(kinds: tuple[str, str]) -> None:
    source, target = new(kinds[0]), new(kinds[1])
    counted, f = fill(source)

    def large(call: Call) -> bool:
        return bool(call.size > 1000)

    assert shape(source.transfer(target, large, move=True, dry_run=True)) == (2, 0, 0)
    assert source.size().calls == 5
    assert shape(source.transfer(target, large, move=True)) == (2, 0, 0)
    assert (source.size().calls, target.size().calls) == (3, 2)
    assert source.size().blobs == 0
    assert not f.contains(LARGE)
    assert len(counted.into(target)(LARGE)) == LARGE
    assert counted.runs == 5
    assert source.verify().problems == target.verify().problems == ()
    # What is there already is moved too, by being forgotten here.
    f(LARGE)
    assert shape(source.transfer(target, large, move=True)) == (0, 1, 0)
    assert not f.contains(LARGE)


@pytest.mark.parametrize("move", [False, True])
@pairs
def test_another_result_of_the_same_call_stays(kinds: tuple[str, str], move: bool) -> None:
    source, target = new(kinds[0]), new(kinds[1])
    numbers = iter(range(100))

    @keep(name="drifting", version=1)
    def drifting(x: int) -> int:
        return next(numbers) * 1000

    with wellkept.use(source):
        old = drifting(1)
    with wellkept.use(target):
        newer = drifting(1)
        key = drifting.key(1)
    done = source.transfer(target, move=move)
    assert (done.calls, done.same, done.skipped, done.other) == (0, 0, 0, 1)
    with wellkept.use(target):
        assert drifting(1) == newer
    with wellkept.use(source):
        assert drifting(1) == old, "nor is it gone here"
    assert source.transfer(target, move=move, overwrite="older", dry_run=True).other == 1
    back = target.transfer(source, move=move, overwrite="older")
    assert (back.calls, back.other) == (1, 0)
    with wellkept.use(source):
        assert drifting(1) == newer
    assert (target.calls.get(key) is None) is move
    with wellkept.use(target):
        drifting.rerun(1)
    assert source.transfer(target, overwrite=True).calls == 1
    with wellkept.use(target):
        assert drifting(1) == newer
    with pytest.raises(ConfigError, match="overwrite="):
        source.transfer(target, overwrite="always")
    with pytest.raises(ConfigError, match=r"target= is a cache, not './there': wellkept.open"):
        source.transfer("./there")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"where= .*cache.query\('f'\)"):
        source.transfer(target, "f")  # type: ignore[arg-type]


@every
def test_what_cannot_be_transferred_is_skipped_and_stays(kind: str) -> None:
    source, target = new(kind), new(kind)
    _, f = fill(source)
    source.values.delete(f.call(1).result)
    assert shape(source.transfer(target, move=True)) == (4, 0, 1)
    assert list(source.calls.keys()) == [str(f.key(1))]
    with pytest.raises(ConfigError, match="not to itself"):
        source.transfer(source)


@pytest.mark.parametrize("url", ["here", "files:here", "sqlite:///here"])
def test_nothing_is_moved_to_where_it_is(url: str) -> None:
    source = wellkept.open(url)
    _, f = fill(source)
    Path("link").symlink_to("here")
    near = new("memory")
    for target in (wellkept.open(url), wellkept.open(url.replace("here", "link"))):
        with pytest.raises(ConfigError, match="not to itself"):
            source.transfer(target, move=True)
        stack = wellkept.Stack(near, target)
        for a, b in ((stack, source), (source, stack)):
            with pytest.raises(ConfigError, match="a part of it"):
                a.transfer(b, move=True)
        assert source.transfer(wellkept.Stack(near, target)).skipped == 0
    assert f.contains(LARGE)
    assert source.size().calls == 5


def test_a_transfer_that_fails_in_the_middle_forgets_nothing() -> None:
    source, target = new("embedded"), new("memory")
    _, f = fill(source)
    commit, count = target.backend.commit, [0]

    def full(*args: Any) -> None:
        count[0] += 1
        if count[0] == 3:
            raise StoreError("the disk is full")
        commit(*args)

    target.backend.commit = full  # type: ignore[method-assign]  # for once
    with pytest.raises(StoreError, match="full"):
        source.transfer(target, move=True)
    assert source.size().calls == 5
    assert shape(source.transfer(target, move=True)) == (3, 2, 0)
    assert source.size().calls == 0
    assert target.verify().ok
    assert not f.contains(1)


def test_transfer_to_a_stack_and_from_one() -> None:
    source = new("embedded")
    counted, _ = fill(source)
    near, far = new("files"), new("sqlite")
    assert source.transfer(wellkept.Stack(near, far)).calls == 5
    assert near.size().calls == far.size().calls == 5
    copy = new("memory")
    assert wellkept.Stack(near, far).transfer(copy).calls == 5
    assert len(counted.into(copy)(LARGE)) == LARGE
    assert counted.runs == 5


def test_an_argument_that_was_another_calls_result_is_one_blob() -> None:
    cache = new("embedded")

    @keep(cache=cache, version=1)
    def make(n: int) -> np.ndarray:
        return np.arange(n)

    @keep(cache=cache, version=1)
    def pair(array: np.ndarray) -> list[Any]:
        return [array, array.sum()]

    pair(make(LARGE))
    assert cache.size().blobs == 1
    other = new("files")
    cache.transfer(other)
    assert other.size().blobs == 1


# -- transform ------------------------------------------------------------------------------------


@every
def test_records_are_transformed_and_keys_follow(kind: str) -> None:
    cache = new(kind)
    counted, f = fill(cache)

    def renamed(call: Call) -> Call | None:
        if call.arguments["x"].value == 2:
            return None
        return call._replace(function="another")

    would = cache.transform(renamed, dry_run=True)
    assert f.contains(1)
    assert cache.transform(renamed) == would
    assert shape(would) == (5, 0, 0)
    g = keep(cache=cache, name="another", version=1)(counted.function)
    assert [f.contains(1), f.contains(2)] == [False, False]
    assert [g.contains(1), g.contains(2)] == [True, False]
    assert len(g.load(LARGE)) == LARGE
    assert g.call(1).uses >= 1
    assert cache.size().calls == 4
    assert shape(cache.transform(renamed)) == (0, 4, 0)
    assert cache.verify().ok


@every
def test_a_transform_of_metadata_keeps_the_key(kind: str) -> None:
    cache = new(kind)
    _, f = fill(cache)
    done = cache.transform(lambda call: call._replace(metadata={"by": "me"}))
    assert shape(done) == (5, 0, 0)
    assert f.call(1).metadata == {"by": "me"}
    assert f.call(1).uses == 1
    assert shape(cache.transform()) == (0, 5, 0)


@every
def test_records_without_results_stay_as_they_are(kind: str) -> None:
    cache = new(kind)
    _, f = fill(cache)
    cache.values.delete(f.call(1).result)
    done = cache.transform(lambda call: call._replace(function="another"))
    assert shape(done) == (4, 0, 1)
    assert f.call(1).function == "counted"


# -- migrate --------------------------------------------------------------------------------------


# A class for each, as it is registered once and for all.
POINTS: dict[str, Any] = {}
for _kind in KINDS:
    POINTS[_kind] = dataclasses.make_dataclass(f"Point_{_kind}", [("x", int)])
    POINTS[_kind].__module__ = __name__
    globals()[f"Point_{_kind}"] = POINTS[_kind]


@every
def test_results_whose_digest_changed_migrate_without_recomputing(kind: str) -> None:
    cache = new(kind)
    runs = [0, 0]
    Point = POINTS[kind]

    @keep(cache=cache, version=1)
    def make(x: int) -> Any:
        runs[0] += 1
        return Point(x)

    @keep(cache=cache, version=1)
    def move(point: Any, by: int) -> list[Any]:
        runs[1] += 1
        return [Point(point.x + by), point]

    for x in range(5):
        move(make(x), 1)
    assert shape(cache.migrate()) == (0, 10, 0)
    old = make.call(1).result
    wellkept.register_digest(Point, lambda point: point.x)
    assert wellkept.digest(Point(1)) != old
    assert not move.contains(make(1), 1)
    steps: list[tuple[int, int]] = []
    would = cache.migrate(dry_run=True)
    assert make.call(1).result == old
    assert cache.migrate(progress=lambda *step: steps.append(step)) == would
    assert shape(would) == (10, 0, 0)
    assert steps[-1] == (20, 20)
    assert steps == sorted(steps)
    for x in range(5):
        assert move(make(x), 1) == [Point(x + 1), Point(x)]
    assert runs == [5, 5]
    assert make.call(1).result == wellkept.digest(Point(1))
    assert cache.load(make.call(1).result) == Point(1)
    assert shape(cache.migrate()) == (0, 10, 0)
    assert cache.size().calls == 10
    assert cache.verify().ok


@every
def test_migrate_leaves_what_it_cannot_read(kind: str) -> None:
    cache = new(kind)
    counted, f = fill(cache)
    cache.keep(
        wellkept.digest("odd").raw, b"x", function="odd", code="none", arguments={}, codec="pickle"
    )
    assert shape(cache.migrate()) == (1, 5, 0)  # under the key that its record gives
    assert f(1) == [1]
    assert counted.runs == 5


@every
@pytest.mark.parametrize("overwrite", [False, "older", True])
def test_what_is_kept_meanwhile_is_not_overwritten(
    kind: str, overwrite: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the target and the commit, somebody keeps a newer result there."""
    source, target = new(kind), new(kind)
    f = keep(cache=source, name="f", version=1)(lambda x: [x])
    f(1), f(2)
    record = f.call(1)
    backend, looks = target.backend, []
    fetch = backend.fetch

    def fetched(key: bytes) -> Any:
        found = fetch(key)
        if key == record.key.raw and not looks:
            looks.append(key)
            newer = {"function": "f", "code": record.code, "arguments": record.arguments}
            target.keep(key, ["newer"], **newer)
        return found

    monkeypatch.setattr(backend, "fetch", fetched)
    done = source.transfer(target, move=True, overwrite=overwrite)
    monkeypatch.undo()
    g = keep(cache=target, name="f", version=1)(f.__wrapped__)
    if overwrite is True:
        assert (done.calls, done.other, done.replaced) == (2, 0, 1)
        assert g.load(1) == [1]
    else:
        assert (done.calls, done.other, done.replaced) == (1, 1, 0)
        assert (g.load(1), f.load(1)) == (["newer"], [1])
    assert not f.contains(2)


@every
def test_what_is_kept_in_the_source_meanwhile_stays(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = new(kind), new(kind)
    f = keep(cache=source, name="f", version=1)(lambda x: [x, len(again)])
    again: list[int] = []
    f(1)
    commit = target.backend.commit_over

    def committed(*given: Any) -> bool:
        done = commit(*given)
        again.append(1)
        f.rerun(1)
        return done

    monkeypatch.setattr(target.backend, "commit_over", committed)
    assert source.transfer(target, move=True).calls == 1
    assert f.load(1) == [1, 1]


@every
def test_what_is_being_computed_there_is_left(kind: str) -> None:
    source, target = new(kind), new(kind)
    f = keep(cache=source, name="f", version=1)(lambda x: [x])
    f(1)
    began, go = threading.Event(), threading.Event()

    def slow(x: int) -> list[int]:
        began.set()
        assert go.wait(30)
        return [x, x]

    g = keep(cache=target, name="f", version=1)(slow)
    thread = threading.Thread(target=lambda: g(1))
    thread.start()
    assert began.wait(30)
    done = source.transfer(target, move=True)
    go.set()
    thread.join()
    if kind in ("embedded", "sqlite"):  # it compares in its transaction, and needs no lease
        assert (done.calls, done.other) == (1, 0)
    else:
        assert (done.calls, done.other) == (0, 1)
        assert f.contains(1)
    assert g.load(1) == [1, 1]


def renamed(call: Call, **names: str) -> Call:
    return call._replace(function=names.get(call.function, call.function))


@every
def test_two_calls_that_become_one(kind: str) -> None:
    cache = new(kind)
    f, g, h = (
        keep(cache=cache, name=name, version=1)(body)
        for name, body in [("f", lambda x: [x]), ("g", lambda x: [x]), ("h", lambda x: -x)]
    )
    for x in range(3):
        f(x), g(x), h(x)
    for dry_run in (True, False):
        done = cache.transform(lambda call: renamed(call, g="f", h="f"), dry_run=dry_run)
        # Of f and g the results are equal, of h they are others: these stay, but for that of nothing.
        assert (done.same, done.calls, done.merged, done.other) == (3, 3, 3, 3)
    assert [f.contains(x) for x in range(3)] == [True] * 3
    assert [g.contains(x) for x in range(3)] == [False] * 3
    assert [h.load(x) for x in range(3)] == [0, -1, -2]
    assert f.load(2) == [2]
    assert cache.verify().ok


@every
def test_calls_that_change_places(kind: str) -> None:
    cache = new(kind)

    def times(sign: int) -> Any:
        return lambda x: [x * sign] * 3

    f, g, h = (
        keep(cache=cache, name=name, version=1)(times(sign))
        for name, sign in [("f", 1), ("g", 10), ("h", 100)]
    )
    f(1), g(1), h(1)
    done = cache.transform(lambda call: renamed(call, f="g", g="h", h="f"))
    assert (done.calls, done.skipped, done.other, done.merged) == (3, 0, 0, 0)
    assert (f.load(1), g.load(1), h.load(1)) == ([100] * 3, [1] * 3, [10] * 3)
    done = cache.transform(lambda call: renamed(call, f="g", g="h", h="i"))
    assert done.calls == 3
    assert (f.contains(1), g.load(1), h.load(1)) == (False, [100] * 3, [1] * 3)
    assert cache.verify().ok


def test_a_database_in_memory_is_moved_from_and_to() -> None:
    source, target = (wellkept.Cache(Sql(), Sql()) for _ in range(2))
    f = keep(cache=source, name="f", version=1)(lambda x: [x])
    f(1)
    assert source.transfer(target, move=True).calls == 1
    assert target.query().one().result == [1]
    with pytest.raises(ConfigError, match="not to itself"):
        target.transfer(target)
