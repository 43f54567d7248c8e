"""diskcache's interface on wellkept, beside diskcache itself where it is installed."""

import _thread
import contextlib
import errno
import io
import operator
import os
import pickle
import random
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.integrations import diskcache as kept

REAL = "diskcache itself"


@pytest.fixture(params=["wellkept", REAL])
def dc(request: pytest.FixtureRequest) -> Any:
    return kept if request.param == "wellkept" else pytest.importorskip("diskcache")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[kept.Cache]:
    with kept.Cache(tmp_path / "cache") as cache:
        yield cache


# -- the same as diskcache ----------------------------------------------------------------------------


# None in the range of the numbers that a queue gives its items.
KEYS: list[Any] = [
    0,
    -1,
    -2.5,
    "a",
    "b",
    b"a",
    ("a", 1),
    None,
    True,
    2**70,
    "é",
    ("a", (None, 2.5)),
]
VALUES: list[Any] = [
    0,
    -1.5,
    "text",
    b"bytes",
    None,
    [1, "x"],
    {"a": (1, 2)},
    "x" * 40_000,
    b"y" * 40_000,
]


def told(step: Any, cache: Any) -> Any:
    """What it gives, or the kind of error that it raises."""
    try:
        return step(cache)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return type(error).__name__


def one_step(pick: random.Random) -> Any:
    key, value, tag = pick.choice(KEYS), pick.choice(VALUES), pick.choice([None, "red", "blue", 1])
    side, prefix = pick.choice(["front", "back"]), pick.choice([None, "q"])
    return pick.choice(
        [
            lambda c: c.set(key, value, tag=tag),
            lambda c: c.set(key, value, expire=1000, tag=tag),
            lambda c: c.set(key, value, expire=-1),
            lambda c: c.set(key, io.BytesIO(b"file" * 10), read=True),
            lambda c: c.add(key, value),
            lambda c: c.get(key, "none", tag=True),
            lambda c: c.get(key, expire_time=True)[1] is None,
            lambda c: c[key],
            lambda c: key in c,
            lambda c: c.incr(("n", tag), 2, default=5),
            lambda c: c.incr("missing", default=None),
            lambda c: c.decr("n"),
            lambda c: c.pop(key, "none", tag=True),
            lambda c: c.delete(key),
            lambda c: operator.delitem(c, key),
            lambda c: c.touch(key, 1000),
            lambda c: c.push(value, prefix=prefix, side=side),
            lambda c: c.pull(prefix=prefix, side=side),
            lambda c: c.peek(prefix=prefix, side=side),
            lambda c: c.peekitem(last=side == "back"),
            lambda c: c.evict(tag),
            lambda c: list(c),
            lambda c: list(reversed(c)),
            lambda c: [
                key for key in c.iterkeys() if type(key) in (int, float, str) and key != 2**70
            ],
            len,
        ]
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_same_steps_have_the_same_answers(seed: int, tmp_path: Path) -> None:
    real = pytest.importorskip("diskcache")
    pick = random.Random(seed)
    with real.Cache(tmp_path / "real") as theirs, kept.Cache(tmp_path / "kept") as ours:
        for number in range(250):
            step = one_step(pick)
            assert told(step, ours) == told(step, theirs), (seed, number)
        assert list(ours) == list(theirs)
        assert ours.check() == []


def test_expired_items_count_until_they_are_removed(dc: Any, tmp_path: Path) -> None:
    with dc.Cache(tmp_path, cull_limit=0) as cache:
        for number in range(5):
            cache.set(number, number, expire=-1)
        cache["here"] = 1
        assert (len(cache), 0 in cache, cache.get(0)) == (6, False, None)
        assert list(cache) == [0, 1, 2, 3, 4, "here"]
        assert cache.expire() == 5
        assert list(cache) == ["here"]


@pytest.mark.parametrize(
    ("policy", "stay"),
    [
        ("least-recently-stored", [2, 3, 4, 5, 6]),
        ("least-recently-used", [0, 3, 4, 5, 6]),
        ("least-frequently-used", [0, 3, 4, 5, 6]),
        ("none", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_what_goes_first(dc: Any, tmp_path: Path, policy: str, stay: list[int]) -> None:
    with dc.Cache(tmp_path, eviction_policy=policy, cull_limit=2, size_limit=10**9) as cache:
        for number in range(6):
            cache[number] = b"x" * 100_000
        for _ in range(3):
            cache[0], cache[3], cache[4], cache[5]
        cache.reset("size_limit", 600_000)
        cache[6] = b"x" * 100_000
        assert list(cache) == stay


def test_deques_and_indexes(dc: Any, tmp_path: Path) -> None:
    deque = dc.Deque("abc", tmp_path / "deque", maxlen=4)
    deque.extend("de")
    deque.appendleft("z")
    assert list(deque) == ["z", "b", "c", "d"]
    deque.rotate(-1)
    deque.reverse()
    assert (deque[0], deque[-1], deque.pop(), deque.popleft()) == ("z", "b", "b", "z")
    assert deque == ["d", "c"]
    assert deque > ["a", "z"]
    again = pickle.loads(pickle.dumps(deque))
    assert (list(again), again.maxlen) == (["d", "c"], 4)
    index = dc.Index(os.fspath(tmp_path / "index"), [("a", 1), ("b", 2)], c=3)
    assert (list(index), index.popitem(), index.popitem(last=False)) == (
        ["a", "b", "c"],
        ("c", 3),
        ("a", 1),
    )
    assert index == {"b": 2}
    assert (index.setdefault("b", 5), index.setdefault("d", 6)) == (2, 6)
    assert list(reversed(index)) == ["d", "b"]
    assert pickle.loads(pickle.dumps(index)) == index


def test_a_fanout_cache(dc: Any, tmp_path: Path) -> None:
    with dc.FanoutCache(tmp_path, shards=3, eviction_policy="none") as cache:
        for number in range(20):
            cache.set(number, str(number), tag=number % 2)
        assert sorted(cache) == list(range(20))
        assert list(reversed(cache)) == list(cache)[::-1]
        assert cache.evict(1) == 10
        assert (len(cache), cache[4], cache.get(5), cache.eviction_policy) == (
            10,
            "4",
            None,
            "none",
        )
        with cache.transact():
            cache.incr("n")
            cache.incr("m")
        cache.deque("tasks").append("x")
        cache.index("a/b")["k"] = 1
        assert (cache.deque("tasks").popleft(), cache.cache("c").get(0)) == ("x", None)
        again = pickle.loads(pickle.dumps(cache))
        assert (again["n"], again.index("a/b")["k"]) == (1, 1)


def test_memoize(dc: Any, tmp_path: Path) -> None:
    ran = []
    with dc.Cache(tmp_path) as cache:

        @cache.memoize(tag="squares", ignore={"log"})
        def square(x: int, log: Any = None) -> int:
            ran.append(x)
            return x * x

        assert [square(3), square(3, log="told"), square(4)] == [9, 9, 16]
        assert ran == [3, 4]
        assert cache[square.__cache_key__(3)] == 9
        assert cache.evict("squares") == 2
        with pytest.raises(TypeError, match="callable"):
            cache.memoize(square)


def test_recipes(dc: Any, tmp_path: Path) -> None:
    with dc.Cache(tmp_path) as cache:
        average = dc.Averager(cache, "average")
        for number in (1, 2, 6):
            average.add(number)
        assert (average.get(), average.pop(), average.get()) == (3.0, 3.0, None)
        now, slept = [0.0], []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

        @dc.throttle(cache, 2, 1, time_func=lambda: now[0], sleep_func=sleep)
        def call() -> None: ...

        for _ in range(4):
            call()
        assert slept == [0.5, 0.5]
        lock, ran = dc.RLock(cache, "lock"), []

        @dc.barrier(cache, dc.Lock)
        def alone() -> None:
            ran.append(1)

        with lock, lock:
            alone()
        assert ran == [1]
        with pytest.raises(AssertionError, match="un-acquired"):
            lock.release()
        ran.clear()

        @dc.memoize_stampede(cache, expire=60)
        def slow(x: int) -> int:
            ran.append(x)
            return x

        assert [slow(1), slow(1)] == [1, 1]
        assert ran == [1]


# -- keys ---------------------------------------------------------------------------------------------


def test_equal_keys_agree_in_every_process(cache: kept.Cache, tmp_path: Path) -> None:
    twice = "".join(["a", "b"])
    cache["ab", "ab"] = "one object or two"
    assert cache[twice, "ab"] == "one object or two"
    cache[frozenset("abcdefgh")] = "a set"
    cache[1] = "one"
    assert cache[1.0] == "one"
    done = get_context("spawn").Pool(1)
    with done:
        assert done.apply(found_under, (cache.directory, frozenset("hgfedcba"))) == "a set"
    assert list(cache) == [("ab", "ab"), frozenset("abcdefgh"), 1]


def found_under(directory: str, key: Any) -> Any:
    with kept.Cache(directory) as cache:
        return cache[key]


@pytest.mark.parametrize(
    "key",
    [
        float("nan"),
        float("inf"),
        (float("nan"), 1),
        "\ud800",
        "with\0nul",
        2**5000,
        10**5000,
        [1, [2, (3, None)]],
        {"a": 1},
        b"('a', 1)",
        int,
        Path("/a"),
    ],
    ids=lambda key: type(key).__name__,
)
def test_keys_of_every_kind_come_back(cache: kept.Cache, key: Any) -> None:
    cache["('a', 1)"] = "text"
    cache["a", 1] = "tuple"
    cache[key] = "here"
    assert cache[key] == "here"
    (found,) = [each for each in cache if cache[each] == "here"]
    assert repr(found) == repr(key) if type(key) is not int else found == key
    assert (cache["('a', 1)"], cache["a", 1]) == ("text", "tuple")
    assert cache.pop(key) == "here"


def test_calls_never_share_a_key(cache: kept.Cache) -> None:
    @cache.memoize()
    def call(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    # Of diskcache these two have one key.
    assert call(1, None, "a") == ((1, None, "a"), {})
    assert call(1, a=None) == ((1,), {"a": None})
    assert call(True) == ((True,), {})
    assert call(1) == ((1,), {})


def test_json_disks_find_keys_whatever_their_order(tmp_path: Path) -> None:
    with kept.Cache(tmp_path, disk=kept.JSONDisk, disk_compress_level=6) as cache:
        cache[{"a": 1, "b": [2]}] = {"x": [1.5, None]}
        assert cache[{"b": [2], "a": 1}] == {"x": [1.5, None]}
        with pytest.raises(TypeError):
            cache[1] = object()
    again = kept.Cache(tmp_path, disk=kept.JSONDisk)
    assert list(again) == [{"a": 1, "b": [2]}]


# -- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [float("nan"), "a\r\nb\n" * 20_000, "\ud800", "é" * 40_000, 2**80, True, -0.0]
)
def test_values_come_back_as_they_were(cache: kept.Cache, value: Any) -> None:
    cache["a"] = value
    assert repr(cache["a"]) == repr(value)


def test_what_nothing_can_hold_is_an_error_of_pickle(cache: kept.Cache) -> None:
    with pytest.raises(pickle.PicklingError, match="lock"):
        cache["a"] = threading.Lock()
    with pytest.raises(wellkept.EncodeError):
        cache["a"] = threading.Lock()
    assert "a" not in cache


def test_a_file_is_read_in_pieces_and_is_a_file_again(cache: kept.Cache, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 20_000)
    with source.open("rb") as file:
        cache.set("data", file, read=True)
    with cache.read("data") as handle:
        assert handle.read(300) == (bytes(range(256)) * 2)[:300]
    assert cache["data"] == source.read_bytes()
    with pytest.raises(KeyError):
        cache.read("none")


def files(cache: kept.Cache) -> list[Path]:
    return [path for path in Path(cache.directory, "values").rglob("*") if path.is_file()]


@pytest.mark.filterwarnings("ignore:an item of a cache counts")
def test_damaged_and_missing_files_are_misses(cache: kept.Cache) -> None:
    for key in ("damaged", "missing"):
        cache[key] = key * 10_000
    with kept.Cache(cache.directory) as other:
        for path in files(cache):
            if path.read_bytes().startswith(b"d"):
                path.write_bytes(path.read_bytes()[:-1] + b"?")
            else:
                path.unlink()
        assert other.get("missing") is None
        with pytest.warns(wellkept.KeptWarning, match="damaged"):
            assert other.get("damaged") is None
        with pytest.raises(KeyError):
            other.peekitem()
        assert len(other) == 0


@pytest.mark.parametrize("take", ["pop", "pull", "peek", "peekitem"])
def test_what_only_this_process_can_not_read_stays(
    cache: kept.Cache, take: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = cache.push(b"x" * 50_000)

    def fails(*_: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(cache.disk, "fetch", fails)
        with pytest.raises(OSError, match="too many"):
            getattr(cache, take)(*([key] if take == "pop" else []))
    assert cache.pull() == (key, b"x" * 50_000)
    assert (len(cache), files(cache)) == (0, [])


def test_check_says_and_mends(cache: kept.Cache) -> None:
    cache["a"], cache["b"] = b"x" * 50_000, b"y" * 50_000
    assert cache.check() == []
    (first, _) = files(cache)
    first.write_bytes(b"short")
    Path(cache.directory, "values", "zz").mkdir()
    unknown = Path(cache.directory, "values", "yy", "unknown.val")
    unknown.parent.mkdir()
    unknown.write_bytes(b"")
    under_way = unknown.with_name("under-way.val")
    under_way.write_bytes(b"")
    os.utime(unknown, (0, 0))
    found = [(each.category, str(each.message)) for each in cache.check(fix=True)]
    assert {kind for kind, _ in found} == {
        UserWarning,
        kept.UnknownFileWarning,
        kept.EmptyDirWarning,
    }
    assert cache.check() == []
    assert (len(cache), under_way.exists()) == (1, True)
    os.utime(under_way, (0, 0))
    assert len(cache.check(fix=True)) == 1
    assert cache.check() == []


def test_room_is_given_back(cache: kept.Cache) -> None:
    cache["kept"] = 1
    with cache.transact():
        for number in range(300):
            cache[number] = b"x" * 10_000
    file = Path(cache.directory, "state.sqlite")
    cache.close()
    before = file.stat().st_size
    cache.store["state"] = 1
    del cache["kept"]
    cache["last"] = 2
    assert cache.clear() == 301
    cache["a"] = 1
    cache.close()
    assert file.stat().st_size < before / 10
    assert (cache["a"], cache.store["state"], list(cache), cache.check()) == (1, 1, ["a"], [])


def open_one(directory: str) -> None:
    with kept.FanoutCache(directory, shards=3) as cache:
        cache.set(os.getpid(), 1, retry=True)


def test_many_processes_open_a_new_directory_at_once(tmp_path: Path) -> None:
    place = str(tmp_path / "new")
    processes = [get_context("fork").Process(target=open_one, args=(place,)) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 5
    assert len(kept.FanoutCache(place, shards=3)) == 5


# -- transactions -------------------------------------------------------------------------------------


def test_a_block_is_done_as_a_whole_or_not_at_all(cache: kept.Cache) -> None:
    cache["old"] = b"o" * 50_000

    def fail() -> None:
        with cache.transact():
            cache["new"] = b"n" * 50_000
            del cache["old"]
            with cache.transact():
                cache.incr("n")
            assert (cache["n"], "old" in cache, list(cache)) == (1, False, ["new", "n"])
            cache.reset("disk_min_file_size", 0)
            assert cache.incr("big", 2**70) == 2**70
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(cache) == ["old"]
    assert cache["old"] == b"o" * 50_000
    assert len(files(cache)) == 1
    with cache.transact():
        cache["old"] = 1
        assert len(files(cache)) == 1
    assert files(cache) == []
    assert cache.check() == []


def test_others_read_what_was_before_and_do_not_write(cache: kept.Cache) -> None:
    cache["a"] = 1
    hasty = kept.Cache(cache.directory, timeout=0.01)
    seen: list[Any] = []

    def look() -> None:
        seen.append(cache["a"])
        seen.append(hasty["a"])
        with pytest.raises(kept.Timeout, match="timeout"):
            hasty.set("a", 3)

    with cache.transact():
        cache["a"] = 2
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [1, 1]
    assert hasty["a"] == 2
    waits = kept.FanoutCache(cache.directory, timeout=0.01, shards=1)
    with waits.transact():
        thread = threading.Thread(target=lambda: seen.append(waits.set("a", 4)))
        thread.start()
        thread.join()
    assert seen[-1] is False


def test_who_reads_does_not_wait_for_who_waits_to_write(cache: kept.Cache) -> None:
    cache["a"] = 1
    with cache.transact():
        writer = threading.Thread(target=cache.set, args=("b", 2), kwargs={"retry": True})
        writer.start()
        seen: list[Any] = []
        reader = threading.Thread(target=lambda: seen.extend([cache["a"], list(cache)]))
        reader.start()
        reader.join(30)
        assert seen == [1, ["a"]]
    writer.join(30)
    assert cache["b"] == 2


@pytest.mark.parametrize("how", ["set", "transact"])
def test_an_interrupt_ends_a_wait(cache: kept.Cache, how: str) -> None:
    held, end = threading.Event(), threading.Event()

    def hold() -> None:
        with cache.transact():
            held.set()
            end.wait(30)

    def wait() -> None:
        threading.Timer(0.1, _thread.interrupt_main).start()
        if how == "set":
            cache.set("a", 1, retry=True)
        else:
            with cache.transact():
                pass

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        held.wait()
        with pytest.raises(KeyboardInterrupt):
            wait()
        assert holder.is_alive()
    finally:
        end.set()
        holder.join()
    cache.set("a", 2)
    with cache.transact():
        assert cache["a"] == 2


def write_in_a_child(cache: kept.Cache) -> None:
    with pytest.raises(kept.Timeout):
        cache.set("child", 1)


def test_a_child_has_no_part_in_a_block_of_its_parent(tmp_path: Path) -> None:
    cache = kept.Cache(tmp_path, timeout=0.01)
    with cache.transact():
        cache["a"] = 1
        process = get_context("fork").Process(target=write_in_a_child, args=(cache,))
        process.start()
        process.join(60)
        assert process.exitcode == 0
        cache["b"] = 2
    assert list(cache) == ["a", "b"]


class Stop(BaseException):
    """What comes between any two instructions."""


def test_an_exception_anywhere_leaves_no_block_open(tmp_path: Path) -> None:
    cache = kept.Cache(tmp_path)
    other = kept.Cache(tmp_path, timeout=0)
    cache["n"] = 0
    with cache.transact():
        pass
    number, over = 0, False
    while not over:
        number += 1
        left = number

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            if "ordered_items" not in frame.f_code.co_filename:
                return None
            if event == "line":
                left -= 1
                if left == 0:
                    sys.settrace(None)
                    raise Stop
            return trace

        sys.settrace(trace)
        try:
            with cache.transact():
                cache["n"] = number
            over = True
        except Stop:
            pass
        finally:
            sys.settrace(None)
        other["n"] = cache["n"]
    assert number > 20
    assert cache["n"] == number


def add(directory: str, count: int) -> None:
    with kept.Cache(directory) as cache:
        for _ in range(count):
            cache.incr("n", retry=True)
            with cache.transact(retry=True):
                cache["m"] = cache.get("m", 0) + 1
            cache.push("x")


def test_processes_and_threads_count_right(cache: kept.Cache) -> None:
    workers: list[Any] = [
        get_context("fork").Process(target=add, args=(cache.directory, 30)) for _ in range(2)
    ]
    workers += [threading.Thread(target=add, args=(cache.directory, 30)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert (cache["n"], cache["m"], len(cache)) == (120, 120, 122)


def die_in_a_block(directory: str) -> None:
    cache = kept.Cache(directory)
    with cache.transact():
        cache["a"] = 2
        os._exit(1)


def test_a_killed_process_leaves_nothing_half_done(cache: kept.Cache) -> None:
    cache["a"] = 1
    process = get_context("fork").Process(target=die_in_a_block, args=(cache.directory,))
    process.start()
    process.join(60)
    assert (process.exitcode, cache["a"]) == (1, 1)
    cache["a"] = 3
    assert cache["a"] == 3


# -- locks --------------------------------------------------------------------------------------------


def test_only_its_holder_releases_a_lock(cache: kept.Cache) -> None:
    lock, other = kept.Lock(cache, "k", expire=60), kept.Lock(cache, ("k", 1))
    with lock, other:
        assert lock.locked()
        errors: list[Any] = []

        def release() -> None:
            try:
                kept.Lock(cache, "k").release()
            except AssertionError as error:
                errors.append(error)

        thread = threading.Thread(target=release)
        thread.start()
        thread.join()
        assert len(errors) == 1
        assert cache.clear() == 0
        assert lock.locked()
    assert not lock.locked()
    few = kept.BoundedSemaphore(cache, "s", value=2)
    few.acquire()
    with few:
        pass
    few.release()


# -- what is refused ----------------------------------------------------------------------------------


class Planted:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("was-run"),))


def test_what_others_could_have_written_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "shared"
    with kept.Cache(place) as cache:
        cache["a"] = 1
        cache["b"] = b"x" * 50_000
        mine = [Path(cache.directory, "values"), *files(cache)]
        assert not [path for path in mine if path.stat().st_mode & 0o022]
    place.chmod(0o777)
    with pytest.raises(wellkept.UntrustedSource):
        kept.Cache(place)
    with kept.Cache(place, trust=True) as cache:
        assert cache["a"] == 1


def test_a_cache_of_diskcache_is_told_of_and_not_unpickled(tmp_path: Path) -> None:
    real = pytest.importorskip("diskcache")
    with real.Cache(tmp_path) as theirs:
        theirs["a"] = Planted()
    with pytest.warns(wellkept.KeptWarning, match="wellkept import diskcache"):
        cache = kept.Cache(tmp_path)
    assert list(cache) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.Cache(tmp_path)
    with real.FanoutCache(tmp_path / "parts", shards=2) as theirs:
        theirs["a"] = Planted()
    with pytest.warns(wellkept.KeptWarning, match="into=FanoutCache") as told_of:
        assert list(kept.FanoutCache(tmp_path / "parts", shards=2)) == []
    assert len(told_of) == 1
    assert not Path("was-run").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directory": "redis://localhost"}, "redis://localhost"),
        ({"sizelimit": 5}, "sizelimit"),
        ({"size_limit": "1 GB"}, "size_limit"),
        ({"cull_limit": -1}, "cull_limit"),
        ({"eviction_policy": "lru"}, "least-recently-used"),
        ({"disk": dict}, "disk"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(wellkept.ConfigError, match=message):
        kept.Cache(**{"directory": tmp_path, **settings})


def test_settings_stay_with_the_directory(tmp_path: Path) -> None:
    with kept.Cache(tmp_path, eviction_policy="none", size_limit=5, disk_min_file_size=10) as cache:
        cache.stats(enable=True)
        cache["a"] = b"x" * 10
        assert len(files(cache)) == 1
        assert (cache.get("a"), cache.get("b")) == (b"x" * 10, None)
    again = kept.Cache(tmp_path, size_limit=6)
    assert (again.eviction_policy, again.size_limit, again.disk.min_file_size) == ("none", 6, 10)
    assert again.stats() == (1, 1)
    with pytest.raises(TypeError, match="tag"):
        again.set("a", 1, tag=("a",))
    with pytest.raises(ValueError, match="expire"):
        again.set("a", 1, expire=float("nan"))
    with pytest.raises(ValueError, match="side"):
        again.push(1, side="left")  # type: ignore[arg-type]


def test_a_program_may_go_to_another_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cache = kept.Cache("here")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    cache["a"] = b"x" * 50_000
    assert cache["a"] == b"x" * 50_000
    with kept.Lock(cache, "k"):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "here"]
    assert not [*(tmp_path / "elsewhere").iterdir()]


def test_a_cache_that_was_written_before_is_read(tmp_path: Path) -> None:
    written = Path(__file__).parent / "data" / "diskcache-1"
    place = tmp_path / "cache"
    place.mkdir(mode=0o700)
    for path in written.rglob("*.val"):
        to = place / path.relative_to(written)
        to.parent.mkdir(parents=True, mode=0o700)
        to.write_bytes(path.read_bytes())
    (place / "values").chmod(0o700)
    with contextlib.closing(sqlite3.connect(place / "state.sqlite")) as made:
        made.executescript((written / "state.sql").read_text())
        made.execute("PRAGMA user_version = 1")
        made.execute("PRAGMA application_id = 0x6b657074")
    with kept.Cache(place) as cache:
        assert {key: cache[key] for key in cache} == {
            "text": "é",
            1: -(2**63),
            2.5: 1.5,
            b"b": b"bytes",
            ("a", None, 2**70): {"a": [1, None]},
            frozenset("ab"): ("tuple", 1),
            "long": "long\r\n" * 10,
            "file": b"f" * 60,
            "json": ["j"] * 20,
            "pickled": ("p",) * 40,
            "tagged": 1,
            "q-500000000000000": "first",
        }
        assert cache.stats() == (13, 1)
        assert cache.pull("q") == ("q-500000000000000", "first")
        assert (cache.evict("red"), cache.eviction_policy, cache.check()) == (1, "none", [])
        cache.close()
    with contextlib.closing(sqlite3.connect(place / "state.sqlite")) as made:
        made.execute("UPDATE Settings SET value = 2 WHERE key = 'scheme'")
        made.commit()
    with pytest.raises(wellkept.NewerSchema, match="upgrade"):
        kept.Cache(place)


def test_named_state_and_results_are_beside_it(cache: kept.Cache) -> None:
    cache.store["seen"] = 3
    cache["seen"] = 4
    with wellkept.open(cache.directory) as place:
        assert wellkept.store("diskcache", cache=place)["seen"] == 3
    assert cache["seen"] == 4


def test_a_result_is_refreshed_before_it_expires(cache: kept.Cache) -> None:
    ran = threading.Semaphore(0)

    @kept.memoize_stampede(cache, expire=60, beta=1e9)
    def slow(x: int) -> float:
        ran.release()
        return time.perf_counter()

    first = slow(1)
    assert slow(1) == first
    for _ in range(2):
        assert ran.acquire(timeout=30)
