"""Certificates pass on functions that keep, and on nothing else."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import wellkept
from wellkept.testing import assert_faithful, assert_invalidates

RATE = 3


@pytest.fixture(autouse=True, params=["memory", "directory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[wellkept.Cache]:
    url = "memory:" if request.param == "memory" else str(tmp_path / "cache")
    with wellkept.open(url) as cache, wellkept.use(cache):
        yield cache


def helper(n: int) -> int:
    return n * RATE


@wellkept.keep
def good(n: int, config: Any = None) -> Any:
    return {"n": helper(n), "a": np.arange(3), "config": config}


class Model:
    size = 2

    @wellkept.keep
    def fit(self, n: int) -> list[int]:
        return [self.size * n]


@wellkept.keep
def items(n: int) -> Iterator[int]:
    yield from range(n)


@wellkept.keep
async def later(n: int) -> int:
    return n


@wellkept.keep
async def stream(n: int) -> AsyncIterator[int]:
    for i in range(n):
        yield i


@wellkept.keep(errors=ValueError)
def fails(n: int) -> None:
    raise ValueError(n)


@wellkept.keep
def fibonacci(n: int) -> int:
    return n if n < 2 else int(fibonacci(n - 1) + fibonacci(n - 2))


class TestFaithful:
    def test_functions_that_are(self) -> None:
        assert_faithful(good, 1)
        assert_faithful(good, 1, config={"a": [1, np.zeros(3)]})
        assert_faithful(Model().fit, 3)
        assert_faithful(items, 3)
        assert_faithful(later, 3)
        assert_faithful(stream, 3)
        assert_faithful(fails, 3)
        assert_faithful(fibonacci, 9)
        assert_faithful(wellkept.keep(name="none", version=1)(lambda: None))
        good(5)
        assert_faithful(good, 5)  # kept before

    def test_a_plain_function_is_not(self) -> None:
        for plain in (helper, len, Model, good.__wrapped__):
            with pytest.raises(AssertionError, match="keeps nothing: it is no kept function"):
                assert_faithful(plain, 1)

    def test_nor_is_one_whose_cache_keeps_nothing(self, cache: wellkept.Cache) -> None:
        with (
            wellkept.use("void:"),
            pytest.raises(AssertionError, match=r"not kept.*\n.*\n.*keeps nothing"),
        ):
            assert_faithful(good, 1)
        good(1)
        with wellkept.use(cache.readonly()), pytest.raises(AssertionError, match="not kept"):
            assert_faithful(good, 1)
        limited = wellkept.keep(cache=cache.limited(calls=0), name="limited")(lambda n: n)
        with pytest.raises(AssertionError, match="not kept"):
            assert_faithful(limited, 1)

    @pytest.mark.filterwarnings("ignore::wellkept.KeptWarning")
    @pytest.mark.parametrize(
        ("made", "said"),
        [
            (lambda: wellkept.keep(lambda n: threading.Lock()), "can't encode a lock"),
            (lambda: wellkept.keep(when=lambda result: False)(lambda n: n), "said not to keep"),
            (lambda: wellkept.keep(ttl=1e-9)(lambda n: n), "computed again.*\n.*expired"),
            (lambda: wellkept.keep(require="m")(lambda n, m=None: n), "keeps no call without m"),
            (lambda: wellkept.keep(lambda n: 1 / 0), "body raised ZeroDivisionError.*not kept"),
            (lambda: wellkept.keep(lambda n: (x for x in [n])), "can't encode a generator"),
        ],
    )
    def test_nor_one_that_keeps_no_results(self, made: Callable[[], Any], said: str) -> None:
        with pytest.raises(AssertionError, match=rf"(?s){said}"):
            assert_faithful(made(), 1)

    @pytest.mark.filterwarnings("ignore::wellkept.KeptWarning")
    def test_nor_one_whose_arguments_have_no_identity(self) -> None:
        with pytest.raises(AssertionError, match="keeps nothing of this call"):
            assert_faithful(good, iter([1]))

        def raises(n: int) -> int:
            raise wellkept.Undigestible("no key")

        with pytest.raises(AssertionError, match="no key"):
            assert_faithful(wellkept.keep(key=raises)(lambda n: n), 1)

    def test_nor_one_that_depends_on_more_than_its_arguments(self) -> None:
        counter = itertools.count()
        for body in (
            lambda n: np.random.default_rng().random(),
            lambda n: time.perf_counter(),
            lambda n: object.__repr__(object()) + str(next(counter)),
            lambda n: next(counter),
            lambda n: [n] if next(counter) % 2 else (n,),
        ):
            with pytest.raises(AssertionError, match="computed twice it gives two results"):
                assert_faithful(wellkept.keep(version=1, name="some")(body), 1)

        @wellkept.keep(version=1, errors=ValueError)
        def fails() -> None:
            raise ValueError(next(counter))

        with pytest.raises(AssertionError, match="computed twice"):
            assert_faithful(fails)

    def test_nor_one_that_changes_its_arguments(self) -> None:
        @wellkept.keep(version=1)
        def appends(rows: list[int]) -> int:
            rows.append(1)
            return 1

        with pytest.raises(AssertionError, match="changes argument 1, which a hit does not"):
            assert_faithful(appends, [1])
        with pytest.raises(AssertionError, match="changes rows"):
            assert_faithful(appends, rows=[1])

        @wellkept.keep(version=1, ignore="log")
        def logs(n: int, log: list[int]) -> int:
            log.append(n)
            return n

        with pytest.raises(AssertionError, match="changes argument 2"):
            assert_faithful(logs, 1, [])

        class Grows:
            def __init__(self) -> None:
                self.rows: list[int] = []

            @wellkept.keep(version=1)
            def add(self, n: int) -> int:
                self.rows.append(n)
                return n

        with pytest.raises(AssertionError, match="changes self"):
            assert_faithful(Grows().add, 1)

    def test_nor_one_whose_kept_result_is_another(
        self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        load = wellkept.Cache.value
        monkeypatch.setattr(wellkept.Cache, "value", lambda *args: [load(*args)])
        with pytest.raises(AssertionError, match="is not what the body gave"):
            assert_faithful(good, 1)


class TestInvalidates:
    def test_a_change_of_what_the_code_reaches(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert_invalidates(good, lambda: monkeypatch.setitem(globals(), "RATE", 4), 1)
        assert_invalidates(good, mock.patch.dict(globals(), {"RATE": 5}), 1)
        assert RATE == 4
        assert_invalidates(Model().fit, mock.patch.object(Model, "size", 3), 1)

    def test_a_function_of_the_same_name(self) -> None:
        def newer(n: int) -> Any:
            return n + 1

        newer.__module__, newer.__qualname__ = good.__module__, good.__qualname__
        assert_invalidates(good, lambda: wellkept.keep(name=good.function_name)(newer), 1)
        with pytest.raises(AssertionError, match="another function"):
            assert_invalidates(good, lambda: later, 1)

    def test_what_is_not_noticed(self) -> None:
        @wellkept.keep(code="off")
        def off(n: int) -> int:
            return helper(n)

        @wellkept.keep(code="own")
        def own(n: int) -> int:
            return helper(n)

        @wellkept.keep(version=1)
        def versioned(n: int) -> int:
            return helper(n)

        for f in (off, own, versioned):
            with pytest.raises(AssertionError, match="still served from what was kept before"):
                assert_invalidates(f, mock.patch.dict(globals(), {"RATE": 9}), 1)
        with pytest.raises(AssertionError, match="still served"):
            assert_invalidates(good, lambda: None, 1)

    def test_what_keeps_nothing(self, cache: wellkept.Cache) -> None:
        change = mock.patch.dict(globals(), {"RATE": 9})
        with pytest.raises(AssertionError, match="no kept function"):
            assert_invalidates(helper, change, 1)
        with wellkept.use("void:"), pytest.raises(AssertionError, match="not kept"):
            assert_invalidates(good, change, 1)
        with pytest.raises(AssertionError, match="not kept"):
            assert_invalidates(wellkept.keep(when=lambda n: False)(helper), change, 1)

    def test_forgetting_is_no_change(self, cache: wellkept.Cache) -> None:
        for change in (
            lambda: good.forget(1),
            lambda: cache.evict(function="*"),
            wellkept.use("void:"),
        ):
            with pytest.raises(AssertionError, match="what was kept is gone"):
                assert_invalidates(good, change, 1)

    def test_what_keeps_nothing_afterwards(self, monkeypatch: pytest.MonkeyPatch) -> None:
        @wellkept.keep
        def breaks(n: int) -> Any:
            return threading.Lock() if RATE == 9 else n

        with (
            pytest.warns(wellkept.KeptWarning),
            pytest.raises(AssertionError, match="computed again, not found"),
        ):
            assert_invalidates(breaks, mock.patch.dict(globals(), {"RATE": 9}), 1)


def test_they_need_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; from wellkept.testing import assert_faithful"
    subprocess.run([sys.executable, "-c", code], check=True)
