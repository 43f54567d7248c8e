"""Kept functions and calls that travel: pickled, to threads, to forked and spawned processes."""

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import wellkept
from wellkept import ConfigError, keep

RAN: list[Any] = []


@keep
def triple(x: int) -> tuple[int, int]:
    return x * 3, os.getpid()


@keep(version=2)
async def later(x: int) -> int:
    RAN.append(x)
    return x * 4


def bare(x: int) -> int:
    return x + 1


again = keep(name="again")(bare)


def test_a_wrapper_of_a_module_pickles_by_name() -> None:
    assert pickle.loads(pickle.dumps(triple)) is triple
    assert pickle.loads(pickle.dumps(later)) is later
    assert len(pickle.dumps(triple)) < 200


def test_a_wrapper_under_another_name() -> None:
    copy = pickle.loads(pickle.dumps(again))
    assert copy.key(1) == again.key(1)
    assert copy.options == again.options
    assert copy(1) == 2


def test_a_local_wrapper_by_cloudpickle() -> None:
    by = 5

    @keep
    def f(x: int) -> int:
        return x * by

    copy = cloudpickle.loads(cloudpickle.dumps(f))
    assert copy(2) == 10
    lambda_ = cloudpickle.loads(cloudpickle.dumps(keep(lambda x: x + 1)))
    assert lambda_(1) == 2


@pytest.mark.parametrize("how", ["fork", "spawn", "forkserver"])
def test_process_pools(how: str) -> None:
    context = multiprocessing.get_context(how)
    with wellkept.open("here") as cache, wellkept.use(cache):
        value, me = triple(1)
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            assert triple.submit(pool, 1).result() == (3, me)  # kept: no process is asked
            value, other = triple.submit(pool, 2).result()
            assert (value, other != me) == (6, True)
            assert pool.submit(triple.bind(2)).result() == (6, other)
            assert later.submit(pool, 3).result() == 12
        assert triple(2) == (6, other)  # kept in the cache that is active here
        assert later.contains(3)


def test_a_bound_call_takes_the_active_cache_along() -> None:
    with wellkept.use("./one"):
        call = triple.bind(4)
    copy = pickle.loads(pickle.dumps(call))
    assert not triple.contains(4)
    call()
    assert not triple.contains(4)
    with wellkept.use("./one"):
        assert triple.contains(4)
        assert triple.forget(4)
    copy()
    assert not triple.contains(4)
    with wellkept.use("./one"):
        assert triple.contains(4)


def test_a_wrong_call_fails_where_it_is_bound() -> None:
    for args, kwargs in [((1, 2), {}), ((), {"y": 1}), ((1,), {"x": 1})]:
        with pytest.raises(TypeError, match="triple"):
            triple.bind(*args, **kwargs)
    with pytest.raises(TypeError, match="triple"):
        triple.bind().bind(1, 2)
    with pytest.raises(TypeError, match="triple"):
        triple.bind()()
    with ThreadPoolExecutor(1) as pool:
        with pytest.raises(TypeError, match="triple"):
            triple.submit(pool, 1, 2)  # type: ignore[call-arg]  # wrong on purpose
        for wrong in (triple, triple.bind()):
            with pytest.raises(TypeError, match="triple"):
                wellkept.executor(pool).submit(wrong)


@keep
def joined(*parts: str, sep: str = "-", end: str) -> str:
    return sep.join(parts) + end


def test_a_call_is_bound_in_part() -> None:
    begun = joined.bind("a")
    for copy in (begun, pickle.loads(pickle.dumps(begun))):
        assert copy("b", end=".") == "a-b."
        assert copy.bind("b", sep="+")(end="!") == "a+b!"
    assert joined.contains("a", "b", end=".")
    by_name = joined.bind(end=".", sep="/")
    assert (by_name("x", "y"), by_name("x", sep="+"), by_name("x", end="?")) == ("x/y.", "x.", "x?")
    with ThreadPoolExecutor(1) as pool, wellkept.executor(pool) as executor:
        assert executor.submit(begun, "b", end=".").result() == "a-b."
        assert list(executor.map(by_name, "xy")) == ["x.", "y."]
    assert joined.stats().computed == 7


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    @keep
    def add(self, x: int, y: int) -> int:
        return self.by + x + y


def test_a_method_is_bound_in_part() -> None:
    assert Adder(1).add.bind(2)(3) == Adder(1).add.bind(y=3)(2) == 6


def reached(x: int) -> tuple[int, str]:
    return triple(x)[0], str(wellkept.active_cache().url)


def numbers(n: int) -> Iterator[int]:
    yield from range(n)


def test_a_function_is_bound_to_a_cache() -> None:
    cache = wellkept.open("one")
    bound = cache.bind(reached)
    for copy in (bound, pickle.loads(pickle.dumps(bound))):
        assert copy(4) == (12, cache.url)
    with ProcessPoolExecutor(1) as pool:
        assert pool.submit(bound, 5).result() == (15, cache.url)
    assert not any(map(triple.contains, (4, 5)))
    of_kept = cache.bind(triple)
    assert (of_kept.contains(4), of_kept.load(5)[0], of_kept(6)[0]) == (True, 15, 18)
    assert of_kept.stats().computed == triple.stats().computed
    assert not triple.contains(6)

    async def later(x: int) -> Any:
        return reached(x)

    assert asyncio.run(cache.bind(later)(4)) == (12, cache.url)
    with pytest.raises(ConfigError, match="a function is bound to a cache, not 3"):
        cache.bind(3)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(ConfigError, match="a generator function is not bound"):
        cache.bind(keep(numbers))


def test_submit_tells_of_failures_through_the_future() -> None:
    @keep(errors=ValueError)
    def f(x: int) -> None:
        raise ValueError(x)

    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            future: Future[None] = f.submit(pool, 1)
            with pytest.raises(ValueError, match="1"):
                future.result()


def test_submit_of_what_cannot_be_looked_up() -> None:
    @keep
    def f(x: Any) -> int:
        return next(x)  # type: ignore[no-any-return]

    with ThreadPoolExecutor(1) as pool, pytest.warns(wellkept.KeptWarning):
        assert f.submit(pool, iter([7])).result() == 7


def test_map_with_several_iterables_and_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    @keep
    def add(x: int, y: int = 0) -> int:
        RAN.append((x, y))
        return x + y

    assert add.map([1, 2, 1], [1, 1, 1, 9]) == [2, 3, 2]
    assert RAN == [(1, 1), (2, 1)]
    assert add.map(iter([1]), progress=True) == [1]
    assert "add" in capsys.readouterr().err
    assert add.map([]) == []


MAIN = """
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
from wellkept import keep

class Thing:
    def __init__(self, n):
        self.n = n

    @keep
    def double(self):
        print("ran", self.n, flush=True)
        return Thing(self.n * 2)

@keep
def make(n):
    print("ran", n, flush=True)
    return Thing(n)

if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(make)) is make
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(sys.argv[1])) as pool:
        thing = pool.submit(make, 3).result()
        assert type(thing) is Thing and thing.n == 3
        assert make.submit(pool, 4).result().n == 4
    assert type(make(3)) is Thing and make(4).n == 4
    assert isinstance(make(3).double(), Thing)
    print(make(3).double().n)
"""


@pytest.mark.parametrize("how", [pytest.param("fork", marks=pytest.mark.long), "spawn"])
def test_functions_and_classes_of_a_script(how: str) -> None:
    Path("script.py").write_text(textwrap.dedent(MAIN))
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "script.py", how],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert "Warning" not in done.stderr
        outputs.append(done.stdout.split("\n")[:-1])
    assert outputs == [["ran 3", "ran 4", "ran 3", "6"], ["6"]]


SCRIPT = """
import pickle, subprocess, sys
import cloudpickle
from wellkept import keep

BY = 5

@keep
def f(x, y=2):
    return x * y * BY + (f(x - 1) if x else 0)

@keep(name="named")
def g(x):
    return x

class Grid:
    def __digest__(self):
        return 1
    @keep
    def cell(self, x):
        return x * BY

if __name__ == "__main__":
    assert pickle.loads(pickle.dumps(f)) is f
    assert pickle.loads(pickle.dumps(Grid.cell)) is Grid.cell
    print(f.key(2), g.key(2), f(2), Grid().cell(3), sep="\\n")
    with open("sent", "wb") as file:
        cloudpickle.dump((f, g, Grid().cell, f.bind(2)), file)
"""

OTHER = """
import pickle
with open("sent", "rb") as file:
    f, g, cell, call = pickle.load(file)
print(f.key(2), g.key(2), f(2), cell(3), sep="\\n")
assert f.stats().hits == 1 and f.stats().computed == 0
assert (call(), f.__name__, f.__qualname__) == (f(2), "f", "f")
assert pickle.loads(__import__("cloudpickle").dumps(f)).key(1) == f.key(1)
"""


def test_functions_of_a_script_in_a_process_that_runs_another(home: Path) -> None:
    said = []
    for name, text in {"script.py": SCRIPT, "other.py": OTHER}.items():
        (home / name).write_text(text)
        done = subprocess.run([sys.executable, name], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        (home / name).unlink()  # as on a host that has no such file
    assert said[0] == said[1]
