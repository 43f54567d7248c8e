"""What `dir` and completion show: the names that the reference documents, and no others."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md"


def shown(thing: Any) -> set[str]:
    return {name for name in dir(thing) if name[:1] != "_"}


def documented(title: str) -> set[str]:
    """The names in the first column of the first table below a title."""
    text = REFERENCE.read_text("utf-8").partition(f"### `{title}")[2]
    rows = text.partition("\n| | |\n|---|---|\n")[2].partition("\n\n")[0]
    cells = re.findall(r"^\| (.*?) \| ", rows, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"[`.](\w+)[(`]", cell)} - {"__wrapped__"}


@keep
def double(x: int) -> int:
    return 2 * x


@keep(each="xs")
def many(xs: list[int]) -> list[int]:
    return xs


class Model:
    @keep(ignore="self")
    def fit(self, x: int) -> int:
        return x


def test_the_package() -> None:
    assert dir(wellkept) == sorted(wellkept.__all__)
    # Also when its rooms are loaded, and before anything is.
    code = "import wellkept; print(dir(wellkept) == sorted(wellkept.__all__))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
    for name in wellkept.__all__:
        assert getattr(wellkept, name) is not None


@pytest.mark.parametrize("function", [double, many, Model.fit, Model().fit])
def test_a_kept_function(function: Any) -> None:
    assert shown(function) == documented("Kept")
    assert {"__wrapped__", "__name__", "__doc__"} <= set(dir(function))
    assert not [name for name in dir(function) if re.match("_[^_]", name)]


def test_what_a_function_carries_is_shown() -> None:
    def plain(x: int) -> int:
        return x

    plain.tag = "mine"  # type: ignore[attr-defined]  # a program's own
    assert shown(keep(plain)) == documented("Kept") | {"tag"}


def test_a_call_of_one() -> None:
    assert shown(double.bind(1)) == {"args", "bind", "key", "kwargs"}


def test_a_cache() -> None:
    cache = wellkept.open("memory:")
    assert shown(cache) == documented("Cache")
    assert shown(cache.limited("1 MB")) == shown(cache.readonly()) == shown(cache)
    assert shown(wellkept.Stack(cache)) == shown(cache) | {"caches", "delivered"}
    assert shown(wellkept.Pool(cache)) == shown(cache) | {"caches"}
