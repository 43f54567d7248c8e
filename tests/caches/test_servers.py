"""What one does with a whole cache, on every medium that teams share."""

import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, new
from tests.caches.sent import anything, parts
from tests.remote.webs import Anywhere

import wellkept
from wellkept import Cache, ConfigError, KeptWarning, Pool, Stack, StoreError
from wellkept.interrupts import Owner
from wellkept.stores import Sqlite, stack
from wellkept.stores.parts import Parts

KINDS = ["files", "sqlite", "postgresql", "redis", "http"]
KINDS += [pytest.param(kind, marks=pytest.mark.long) for kind in ("ssh", "mariadb", "s3")]
LARGE = 30_000
ROOT = Path(__file__).parents[2]


def opened(request: pytest.FixtureRequest, kind: str, home: Path) -> Cache:
    if kind == "files":
        return wellkept.open(f"files:{home / 'files'}")
    if kind == "sqlite":
        Sqlite(home / "items.db").close()  # of items: what is opened is a medium
        return wellkept.open(f"sqlite:///{home / 'items.db'}")
    if kind == "s3":
        return wellkept.open(
            f"s3://{request.getfixturevalue('s3_bucket')}/wellkept",
            endpoint=request.getfixturevalue("s3_url"),
            region="us-east-1",
            access_key_id="test",
            secret_access_key="test",
        )
    if kind == "ssh":
        options = request.getfixturevalue("ssh_options")
        return wellkept.open(request.getfixturevalue("ssh_url"), **options)
    if kind == "http":
        anywhere = request.getfixturevalue("anywhere")
        return wellkept.open(f"{anywhere.url}{home}/far", **anywhere.options)
    return wellkept.open(request.getfixturevalue(f"{kind}_url"))


@pytest.fixture(scope="module")
def anywhere() -> Iterator[Anywhere]:
    made = Anywhere()
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def cache(request: pytest.FixtureRequest, home: Path) -> Iterator[Cache]:
    with opened(request, request.param, home) as made:
        yield made


def value(x: int) -> Any:
    return {"x": x, "array": np.arange(LARGE) + x} if x >= 0 else [x]


def same(found: Any, x: int) -> bool:
    return bool(found["x"] == x and found["array"][0] == x) if x >= 0 else found == [x]


def test_calls_are_kept_looked_at_and_forgotten(cache: Cache) -> None:
    counted = Counted(value)
    f = counted.into(cache, strict=True)
    for x in (-1, 0, 1, -1, 0, 1):
        assert same(f(x), x)
    assert counted.runs == 3
    cache.flush()
    assert f.call(1).uses == 1
    assert [call.uses for call in cache.query("counted").calls()] == [1, 1, 1]
    assert cache.expand(cache.shrink(f.key(1))) == f.key(1)
    assert same(cache.load(f.call(1).result), 1)
    assert (cache.size().calls, cache.size().values, cache.size().blobs) == (3, 3, 2)
    assert cache.verify().problems == ()
    copy = pickle.loads(pickle.dumps(cache))
    assert same(counted.into(copy)(0), 0)
    copy.close()
    assert f.forget(-1)
    assert cache.evict("counted").blobs == 2
    assert cache.size().calls == cache.size().blobs == 0
    assert counted.runs == 3


def test_moving_migrating_and_collecting(cache: Cache) -> None:
    counted = Counted(value)
    f = counted.into(cache, strict=True)
    for x in range(-2, 4):
        f(x)
    near = new("embedded")
    assert cache.transfer(near).calls == 6
    assert near.transfer(cache, move=True).same == 6
    assert cache.migrate().same == 6
    done = cache.transform(lambda call: None if call.arguments["x"].value == 3 else call)
    assert (done.calls, done.same) == (1, 5)
    at_once = str(cache).startswith(("ssh:", "http:"))  # what changes a directory needs no grace
    collected = cache.gc(grace=0).items
    assert collected == 0 if at_once else collected >= 1
    assert cache.size().blobs == 3
    assert all(same(f(x), x) for x in range(-2, 3))
    assert cache.verify().ok
    assert counted.runs == 6


def test_results_in_chunks_are_read_where_they_are(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    da = pytest.importorskip("dask.array")
    counted = Counted(lambda x: da.arange(x, x + LARGE * 5, chunks=LARGE))
    f = counted.into(cache, strict=True, codec="chunks")
    f(1)
    seen = []
    part = Parts._part

    def counting(self: Parts, n: int) -> Any:
        seen.append(n)
        return part(self, n)

    monkeypatch.setattr(Parts, "_part", counting)
    for found in (f(1), cache.load(f.call(1).result), counted.into(cache.readonly())(1)):
        assert seen == []
        assert wellkept.digest(found) == f.call(1).result
        # Of a server nobody has signed it, so the digests that came with it are not believed.
        assert len(seen) == (5 if str(cache).startswith(("ssh:", "http:")) else 0)
        seen.clear()
        assert found[LARGE * 3].compute() == LARGE * 3 + 1
        assert seen.pop() == 3
    assert f(1).sum().compute() == sum(range(1, LARGE * 5 + 1))
    near = new("embedded")
    for made in (Stack(near, cache), near):
        assert counted.into(made, codec="chunks")(1)[LARGE].compute() == LARGE + 1
    assert counted.runs == 1
    assert cache.verify().ok


def test_derived(cache: Cache) -> None:
    counted = Counted(value)
    f = counted.into(cache.limited(bytes=LARGE * 8 * 4, policy="fifo"), strict=True)
    for x in range(8):
        f(x)
    assert cache.size().calls == 8
    assert cache.size().blobs in (3, 4)
    for made in (cache.readonly(), Pool(cache), Stack(new("embedded"), cache)):
        assert same(counted.into(made)(7), 7)
    assert counted.runs == 8
    assert cache.verify().problems == ()


def needs_forks(cache: Cache) -> None:
    """Skip an object store, which a forked child can't use: `tests/stores/test_object_store.py`."""
    if str(cache.url).startswith("s3:"):
        pytest.skip("a forked child can't use an object store")


def test_a_fork(cache: Cache) -> None:
    needs_forks(cache)
    counted = Counted(value)
    f = counted.into(cache, strict=True)
    f(1)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            f(2)
            code = 0 if same(f(1), 1) and counted.runs == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert same(f(2), 2)
    assert counted.runs == 1


def make_bucket(url: str, name: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(urllib.request.Request(f"{url}/{name}", method="PUT"), timeout=5).close()


def until_it_answers(f: Any) -> None:
    """Wait until a function's cache answers, and is asked again after it did not."""
    deadline = time.monotonic() + 60
    x = 0
    while not _there(f, x):  # some servers have forgotten what they had
        assert time.monotonic() < deadline, "it does not answer"
        time.sleep(0.02)
        x -= 1
        f(x)


def troubles(caught: list[warnings.WarningMessage]) -> list[str]:
    """Return what this library warned of; what the collector frees meanwhile may warn too."""
    return [str(one.message) for one in caught if issubclass(one.category, KeptWarning)]


LONGER = [pytest.param(kind, marks=pytest.mark.long) for kind in ("postgresql", "mariadb", "s3")]


@pytest.mark.parametrize("kind", ["redis", *LONGER])
def test_killed_and_restarted_in_the_middle_of_many_calls(
    request: pytest.FixtureRequest, kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wellkept.stores import silence

    monkeypatch.setattr(silence, "PAUSE", 0.2)
    service = request.getfixturevalue(kind)
    cache = opened(request, kind, home)
    counted = Counted(lambda x: {"x": x, "text": str(x)})
    f = counted.into(cache)
    at, told, killed = 0, [], threading.Event()

    def crash() -> None:
        service.kill()
        killed.set()
        while at < 64:
            time.sleep(0.001)
        service.start()
        if kind == "s3":  # moto's server keeps its buckets in memory
            make_bucket(service.url, request.getfixturevalue("s3_bucket"))

    thread = threading.Thread(target=crash)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for x in range(110):
            at = x
            if x == 40:
                thread.start()
            if x == 60:
                assert killed.wait(30)
            if x == 70:
                thread.join()
                until_it_answers(f)
                told = troubles(caught)
            # Every third call asks for what an earlier one gave.
            for y in (x, x // 2) if x % 3 == 0 else (x,):
                assert f(y) == {"x": y, "text": str(y)}
    assert len(told) == 1, told
    assert told == troubles(caught), "it warns once, and not after the restart"
    assert f.stats().unavailable > 0
    assert all(f.contains(x) for x in range(70, 110))
    runs = counted.runs
    assert f(109)["x"] == 109
    assert counted.runs == runs


LOOK = """
import pickle, sys
from pathlib import Path
caches, key = pickle.loads(Path(sys.argv[1]).read_bytes())
for cache in caches:
    assert cache.load(cache.calls.get(key).result) == [-1], cache
print(len(caches))
"""


def test_every_guise_in_another_process_and_in_a_fork(cache: Cache, home: Path) -> None:
    f = Counted(value).into(cache, strict=True)
    assert f(-1) == [-1]
    guises = [
        cache,
        cache.readonly(),
        cache.filtered(anything),
        cache.limited(calls=5),
        Pool(cache, new("embedded")),
        Stack(new("embedded"), cache),
        Stack(new("embedded"), cache.readonly()).readonly(),
    ]
    (home / "sent").write_bytes(pickle.dumps((guises, str(f.key(-1)))))
    command = [sys.executable, "-c", LOOK, str(home / "sent")]
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        command, env={**os.environ, **paths}, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{len(guises)}\n", done.stderr
    needs_forks(cache)
    child = os.fork()
    if child == 0:
        right = 0
        try:
            for guise in guises:
                call = guise.calls.get(str(f.key(-1)))
                right += call is not None and guise.load(call.result) == [-1]
        except BaseException:  # noqa: BLE001  the child must end here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(right)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(guises)
    assert f(-1) == [-1]
    assert f.stats().computed == 1


WRITE = """
import pickle, sys
from pathlib import Path
import wellkept
from tests.caches.sent import parts
cache, count = pickle.loads(Path(sys.argv[1]).read_bytes())
write = wellkept.keep(cache=cache, name="parts", version=1, strict=True)(parts)
for i in range(count):
    write(i)
    if i % 3 == 0:
        write.forget(i)
"""


def test_collecting_while_another_process_writes_loses_nothing(cache: Cache, home: Path) -> None:
    count = 20 if str(cache.url).startswith("s3:") else 60
    (home / "sent").write_bytes(pickle.dumps((cache, count)))
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", WRITE, str(home / "sent")]
    removed = 0
    with subprocess.Popen(command, env={**os.environ, **paths}) as writer:
        while writer.poll() is None:
            removed += cache.gc(grace=0.3).items
            time.sleep(0.01)
    assert writer.returncode == 0
    assert cache.gc(grace=0).items + removed > 0
    f = wellkept.keep(cache=cache, name="parts", version=1, strict=True)(parts)
    for i in range(count):
        if i % 3:
            assert [int(part[0]) for part in f(i)] == [i, i % 7, -(i // 10)]
    assert f.stats().computed == 0, "some were lost"
    assert cache.verify().problems == ()


# Not S3: moto's server keeps its buckets in memory.
@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "redis"])
def test_a_far_server_that_dies_and_comes_back(
    request: pytest.FixtureRequest, kind: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(stack, "PAUSE", 0.2)
    service = request.getfixturevalue(kind)
    far = opened(request, kind, home)
    counted = Counted(value)
    f = counted.into(Stack(new("embedded"), far), strict=True)
    f(-1)
    service.kill()
    with pytest.warns(KeptWarning, match="does not answer"):
        f(-2)
    assert same(f(-1), -1)
    service.start()
    deadline = time.monotonic() + 30
    x = -3
    while time.monotonic() < deadline and not _there(counted.into(far), x):
        x -= 1
        assert same(f(x), x)
        time.sleep(0.02)
    assert _there(counted.into(far), x)


def _there(f: Any, x: int) -> bool:
    try:
        return bool(f.contains(x))
    except StoreError:
        return False


@pytest.mark.parametrize("kind", ["postgresql", "mariadb", "redis"])
def test_wrong_credentials_are_one_error_without_the_password(
    request: pytest.FixtureRequest, kind: str
) -> None:
    from urllib.parse import urlsplit

    split = urlsplit(request.getfixturevalue(f"{kind}_url"))
    url = split._replace(netloc=f"nobody:wr0ng@{split.hostname}:{split.port}").geturl()
    with pytest.raises((StoreError, ConfigError)) as caught:
        wellkept.open(url).calls.get("0" * 64)
    assert "wr0ng" not in str(caught.value)
    assert "password" in str(caught.value) or "credential" in str(caught.value)


def test_what_is_kept_beside_calls_and_said_of_them(cache: Cache) -> None:
    options: Any = {"cache": cache, "version": 1, "arguments": "values", "share": "elements"}
    f = wellkept.keep(name="beside", strict=True, **options)(lambda a, n=0: [a[:2], f"text {n}"])
    array = np.arange(LARGE)
    with wellkept.tags(project="a"), wellkept.use(cache):
        f(array)
        with wellkept.run("beside", tags={"who": "me"}) as run, wellkept.run("inner"):
            f(array, n=1)
    assert cache.query("beside", tags={"project": "a"}).count() == 2
    assert cache.query(run=run, tags={"who": "me"}).one().arguments["a"][-1] == LARGE - 1
    assert cache.load(wellkept.digest("text 1")) == "text 1"
    f.put([1, 2], array, n=2)
    saved = cache.save(f.call(array, n=3), [3])
    assert (f(array, n=2), f(array, n=3), saved.key) == ([1, 2], [3], f.key(array, n=3))
    digest = cache.put({"a": array})
    with wellkept.refresh():
        f(array), f(array)
    assert f.stats().computed == 3
    cache.gc(grace=0), cache.gc(grace=0)
    assert cache.load(digest)["a"][-1] == LARGE - 1
    assert f.query(n=3).one().arguments["a"][-1] == LARGE - 1
    assert cache.query(metadata={"none": {}}).evict().calls == 0
    assert cache.query().count() == 5
    f.query().evict()
    assert list(cache.query("wellkept:[ae]*")) == []


class TestSweeps:
    """What is made for many calls and for calls that cost money, on what teams share."""

    def test_functions_of_many_items(self, cache: Cache) -> None:
        got: list[Any] = []

        @wellkept.keep(cache=cache, name="many", version=1, each="xs", batch=3, errors=ValueError)
        def many(xs: list[int]) -> list[Any]:
            got.append(xs)
            return [ValueError("odd") if x == 7 else x * 2 for x in xs]

        assert many([1, 2, 3, 4]) == [2, 4, 6, 8]
        assert many([5, 1, 4]) == [10, 2, 8]
        with pytest.raises(ValueError, match="odd"):
            many([7, 1])
        assert got == [[1, 2, 3], [4], [5], [7]]

    def test_output_costs_and_replicates(self, cache: Cache, capsys: Any) -> None:
        @wellkept.keep(
            cache=cache, name="paid", version=1, output=True, cost={"usd": lambda answer: 0.25}
        )
        def paid(x: int) -> int:
            print("asked", x)
            return x

        for _ in range(2):
            assert (paid(1), paid.replicate(1)(1)) == (1, 1)
            assert capsys.readouterr().out == "asked 1\nasked 1\n"
        assert paid.stats().hits == 1
        assert paid.query().costs()["usd"].spent == 0.5
        assert paid.evict(1).calls == 2
        assert not paid.contains(1)

    def test_clearing(self, cache: Cache) -> None:
        f = wellkept.keep(cache=cache, name="f", version=1)(lambda x: x)
        g = wellkept.keep(cache=cache, name="g", version=1)(lambda x: x)
        f(1)
        g(1)
        assert f.clear().calls == 1
        assert g.contains(1)
        assert cache.clear().calls >= 1
        assert not g.contains(1)


def test_it_is_planned_followed_and_served_though_code_changed(cache: Cache) -> None:
    def scaled(by: int) -> Any:
        scope: dict[str, Any] = {"__name__": "lab"}
        exec(f"def f(x): return [x * {by} + 5000]", scope)
        return wellkept.keep(cache=cache, name="lab:f", code="warn")(scope["f"])

    first = wellkept.keep(cache=cache, name="lab:first", version=1)(lambda result: result[0])
    second = wellkept.keep(cache=cache, name="lab:second", version=1)(lambda number: number + 1)
    f = scaled(2)
    with wellkept.run("one", cache=cache) as run:
        f.map([1, 2])
        second(first(f(1)))
    assert sum(group.calls for group in run.causes()) == 4
    assert (f.plan([1, 2, 3]).todo, f.plan([1, 2, 3]).kept) == ([2], 2)
    there = f.query(1).downstream()
    assert [match.function for match in there] == ["lab:f", "lab:first", "lab:second"]
    assert second.query().upstream().count() == 3
    changed = scaled(3)
    with pytest.warns(KeptWarning, match="code changed"):
        assert changed(1) == [5002]
    assert changed.explain(2).outcome == "outdated"
    assert changed.plan([1, 2, 3]).outdated == 2
    # No lease is left held.
    key, owner = bytes.fromhex(changed.key(1)), Owner()
    assert cache.backend.locks.acquire(key, owner)
    cache.backend.locks.release(key, owner)
    assert there.evict().calls == 3
    assert (changed(1), changed(3)) == ([5003], [5009])
