"""How many Python frames of the library a call goes through, and how many of its files.

A frame costs some 50 ns, and each file is one that a reader has to open. The numbers are what was
reached: who needs more says why, and who needs fewer lowers them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept.caches.tier import Entry

HERE = f"{Path(wellkept.__file__).parent}{os.sep}"


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[wellkept.Cache]:
    with wellkept.open(tmp_path / "cache") as cache, wellkept.use(cache):
        yield cache


@wellkept.keep(name="frames.scalar")
def scalar(n: int) -> list[int]:
    return [n] * 3


@wellkept.keep(name="frames.array")
def array(values: Any) -> list[int]:
    return [1]


def frames(call: Callable[[], Any]) -> list[str]:
    """The files of the library's frames that begin while a call is made, in their order."""
    found: list[str] = []

    def began(frame: Any, event: str, argument: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(HERE):
            found.append(name[len(HERE) :])

    before = sys.getprofile()
    sys.setprofile(began)
    try:
        call()
    finally:
        sys.setprofile(before)
    return found


def fewest(call: Callable[[int], Any], before: Callable[[int], Any]) -> list[str]:
    """The same of the shortest of several calls: now and then one flushes, or finds a place gone."""
    found = []
    for n in range(5):
        before(n)
        found.append(frames(lambda n=n: call(n)))  # type: ignore[misc]  # called at once
    return min(found, key=len)


def nothing(_: int) -> None:
    pass


class TestFrames:
    def test_of_a_hit_in_memory(self, cache: wellkept.Cache) -> None:
        scalar(1)
        assert len(fewest(lambda _: scalar(1), nothing)) <= 9

    def test_of_a_hit_in_the_index(self, cache: wellkept.Cache) -> None:
        for n in range(5):
            scalar(n)
        found = fewest(scalar, lambda _: cache.tier.clear())
        assert len(found) <= 18

    def test_of_a_hit_that_another_process_kept(self, cache: wellkept.Cache) -> None:
        """Its second hit here: the first one learns the key by heart, whichever way it takes."""
        for n in range(5):
            scalar(n)
        anew = [wellkept.keep(name="frames.scalar")(scalar.__wrapped__) for _ in range(5)]

        def first(n: int) -> None:
            anew[n](n)
            cache.tier.clear()

        assert len(fewest(lambda n: anew[n](n), first)) <= 18

    def test_of_a_hit_with_an_array(self, cache: wellkept.Cache) -> None:
        values = np.arange(1024.0)
        array(values)
        assert len(fewest(lambda _: array(values), nothing)) <= 42

    def test_of_a_miss(self, cache: wellkept.Cache) -> None:
        scalar(-1)
        found = fewest(lambda n: scalar(1000 + n), nothing)
        assert len(found) <= 67
        # One of them is what tells other processes that a commit has only added.
        assert len(set(found)) <= 21

    def test_are_counted(self, cache: wellkept.Cache) -> None:
        found = frames(lambda: Entry(None, None))  # type: ignore[arg-type]  # only made
        assert found == [str(Path("caches", "tier.py"))]
