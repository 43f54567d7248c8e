"""`wellkept.block`: a piece of a script that runs only where nothing is kept of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import wellkept
from wellkept.errors import ConfigError


def test_a_block_runs_once(tmp_path: Path) -> None:
    ran = []
    for n in (3, 3, 4):

        @wellkept.block("tripled", inputs=([1, 2], n), cache=tmp_path, ignore_globals=["ran"])
        def result(items: list[int], n: int) -> list[int]:
            ran.append(n)
            return items * n

        assert result == [1, 2] * n
    assert ran == [3, 4]


def test_what_it_reads_around_it_counts(tmp_path: Path) -> None:
    found = []
    for scale in (1, 2, 1):

        @wellkept.block("scaled", cache=tmp_path)
        def result() -> list[int]:
            return [scale]  # noqa: B023  it is called at once

        found += result
    assert found == [1, 2, 1]
    assert wellkept.open(tmp_path).query(function="scaled").count() == 2


def test_inputs_by_name(tmp_path: Path) -> None:
    @wellkept.block(inputs={"b": 2, "a": 1}, cache=tmp_path)
    def result(a: int, b: int) -> tuple[int, int]:
        return a, b

    assert result == (1, 2)


def test_a_coroutine_is_awaited(tmp_path: Path) -> None:
    async def script() -> int:
        @wellkept.block("later", inputs=(1,), cache=tmp_path)
        async def result(x: int) -> int:
            return x + 1

        return await result

    assert asyncio.run(script()) == asyncio.run(script()) == 2


def test_bad_inputs() -> None:
    with pytest.raises(ConfigError, match=r"inputs= takes a tuple .* not 3"):
        wellkept.block(inputs=3)
    with pytest.raises(ConfigError, match=r"inputs= takes a tuple"):
        wellkept.block(inputs="text")
    with pytest.raises(ConfigError, match="needs parentheses"):

        @wellkept.block
        def result() -> int:
            return 1
