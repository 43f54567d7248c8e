"""What notebooks show of results: tables, with times and sizes as people read them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept.readable import ago, data_size, duration, facts


@pytest.fixture
def cache(tmp_path: Path) -> Any:
    with wellkept.open(tmp_path / "cache") as cache, wellkept.use(cache):
        yield cache


@keep(name="shown.fit", version="a<b")
def fit(n: int, label: str = "") -> list[int]:
    return [n] * 1000


@keep(name="shown.fit", version=2)
def changed(n: int, label: str = "") -> list[int]:
    return [n]


def cells(thing: Any) -> dict[str, str]:
    """The rows of a table: what stands beside what."""
    text = thing._repr_html_()
    assert text.startswith("<table>")
    found = re.findall(r"<tr><td[^>]*>(.*?)</td><td[^>]*>(.*?)</td></tr>", text)
    return dict(found)


def title(thing: Any) -> str:
    return re.findall(r"<th[^>]*>(.*?)</th>", thing._repr_html_())[0]


def test_a_call_and_a_match(cache: wellkept.Cache) -> None:
    fit(1, "<x>")
    call = fit.call(1, "<x>")
    for one in (call, fit.query().one()):
        assert title(one) == "shown.fit(n=1, label=&#x27;&lt;x&gt;&#x27;)"
        rows = cells(one)
        assert rows["code"] == "version:&#x27;a&lt;b&#x27;"
        assert rows["size"] == data_size(call.size)
        assert rows["took"] == duration(call.seconds)
        assert rows["computed"].endswith(" ago")
        assert rows["key"] == call.key
        assert "expires" not in rows


def test_what_a_function_did(cache: wellkept.Cache) -> None:
    before = fit.stats().to_dict()
    fit(1), fit(1)
    rows = cells(fit.stats())
    assert rows["hits"] == str(before["hits"] + 1)
    assert rows["computed"] == str(before["computed"] + 1)
    assert "drifted" not in rows
    assert re.fullmatch(r"[\d.]+ \w+|0 us", rows["time saved"])


def test_a_cache_and_its_size(cache: wellkept.Cache) -> None:
    fit(1), fit(2)
    assert title(cache).startswith("wellkept.Cache ")
    assert title(cache.size()) == "Totals of a cache"
    for one in (cache, cache.size()):
        rows = cells(one)
        assert (rows["functions"], rows["calls"]) == ("1", "2")
        assert rows["size"].endswith("B")
        assert "." not in rows["hits"]


def test_a_cache_that_can_t_be_read_says_so() -> None:
    far = wellkept.open("redis://localhost:1/0")
    assert "can&#x27;t be read" in cells(far)


def test_calls_of_other_code_are_told_apart(cache: wellkept.Cache) -> None:
    fit(1), changed(1)
    first, second = map(repr, cache.query("shown.fit"))
    assert first != second
    assert second == "<shown.fit(n=1, label=''), version 2>"


def test_a_data_frame_begins_with_what_went_in_and_came_out(cache: wellkept.Cache) -> None:
    pytest.importorskip("pandas")
    fit(1, "a"), fit(2, "b")
    plain = list(fit.query().to_pandas().columns)
    assert plain[:4] == ["n", "label", "key", "function"]
    whole = fit.query().to_pandas(results=True, metadata=["env.host"])
    assert list(whole.columns)[:4] == ["n", "label", "result", "key"]
    assert list(whole.columns)[-1] == "metadata.env.host"
    assert list(whole["n"]) == [1, 2]
    assert whole["result"][1] == [2] * 1000


def test_times_and_sizes() -> None:
    assert [duration(s) for s in (0.0, 12e-6, 0.0034, 5.6, 720, 12240)] == [
        "0 us", "12 us", "3.4 ms", "5.6 s", "12 min", "3.4 h",
    ]  # fmt: skip
    assert [data_size(n) for n in (5, 1234, 1.2e6)] == ["5 B", "1.2 kB", "1.2 MB"]
    assert ago(None) == "never"
    assert "<td" in facts("a", {"b": 0, "c": None})
    assert "c" not in re.sub("<.*?>", "", facts("a", {"b": 0, "c": None}))
