"""What is told of hits and misses as they happen."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.interrupting import interrupted, points

import wellkept
from wellkept.runs import listeners


@pytest.fixture
def cache(tmp_path: Path) -> wellkept.Cache:
    return wellkept.open(tmp_path / "cache")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_told", set())
    monkeypatch.setattr(listeners, "_last", -1e9)
    monkeypatch.setattr(listeners, "_left_out", 0)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    found = [(r.levelname, r.getMessage()) for r in caplog.records if r.name[:9] == "wellkept."]
    caplog.clear()
    return found


def test_hits_and_misses_are_logged_when_that_is_asked_for(cache: Any, caplog: Any) -> None:
    @wellkept.keep(cache=cache, name="f", version=1)
    def f(x: int) -> int:
        return x

    f(1)
    f(1)
    assert lines(caplog) == []
    # A level that is set later is followed, also by hits that look nothing up.
    with caplog.at_level(logging.DEBUG, "wellkept"):
        f(1)
        f(2)
        f(2)
    [hit, miss, again] = lines(caplog)
    assert hit[0] == again[0] == "DEBUG"
    assert hit[1].startswith(f"hit: f {f.key(1)[:8]} (")
    assert miss[0] == "INFO"
    assert miss[1].startswith(f"miss: f {f.key(2)[:8]} computed in ")
    assert "the nearest kept call differs in 1 place" in miss[1]
    f(1)
    f(3)
    assert lines(caplog) == []


def test_who_logs_everything_pays_for_no_causes(cache: Any, caplog: Any) -> None:
    f = wellkept.keep(cache=cache, name="f", version=1)(lambda x: x)
    f(0)
    with caplog.at_level(logging.INFO):
        f(1)
    [(level, text)] = lines(caplog)
    assert level == "INFO"
    assert text.endswith(f"s: wellkept explain {f.key(1)[:8]} says why")


def test_a_miss_says_that_its_result_had_expired(cache: Any, caplog: Any) -> None:
    @wellkept.keep(cache=cache, name="f", version=1, ttl=1e-6)
    def f() -> int:
        return 1

    f()
    with caplog.at_level(logging.INFO, "wellkept"):
        f()
    [(_, text)] = lines(caplog)
    assert "expired" in text


def slow(cache: Any, monkeypatch: Any, version: Any = 1, name: str = "f") -> Any:
    monkeypatch.setattr("wellkept.memo.flow.SLOW", 0.0)
    monkeypatch.setattr(listeners, "SLOW", 0.0)

    @wellkept.keep(cache=cache, name=name, version=version)
    def f(x: Any) -> Any:
        return x

    return f


def test_a_surprising_miss_is_told_unasked_once(cache: Any, caplog: Any, monkeypatch: Any) -> None:
    slow(cache, monkeypatch, 1)(1)
    assert lines(caplog) == []
    f = slow(cache, monkeypatch, 2)
    f(1)
    [(level, text)] = lines(caplog)
    assert level == "WARNING"
    assert text.startswith("computed again: f, as the version changed: ")
    assert text.endswith(f"(1 kept call) - wellkept explain {f.key(1)[:8]}")
    f(2)
    assert lines(caplog) == []


def test_what_code_changed_is_named(tmp_path: Path) -> None:
    script = tmp_path / "lib.py"
    text = "import sys, wellkept\nfrom wellkept.runs import listeners as l\n"
    text += "from wellkept.memo import flow as f\n"
    text += "l.SLOW = f.SLOW = 0\ncache = wellkept.open(sys.argv[1])\n"
    text += "def clean(x):\n    return x + 1\n"
    text += "@wellkept.keep(cache=cache)\ndef work(x):\n    return clean(x)\nwork(1)\n"
    command = [sys.executable, script, tmp_path / "c"]
    script.write_text(text)
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    script.write_text(text.replace("x + 1", "x + 2"))
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert first.stderr == ""
    assert second.stderr.startswith(
        "computed again: lib.clean changed (1 kept call of lib.work) - "
    )


def test_one_place_inside_an_argument_is_a_surprise(
    cache: Any, caplog: Any, monkeypatch: Any
) -> None:
    f = slow(cache, monkeypatch)
    f({"a": 1, "b": 2})
    f({"a": 1, "b": 3})
    [(_, text)] = lines(caplog)
    assert """arguments["x"]["b"] is another""" in text


def test_another_argument_is_none(cache: Any, caplog: Any, monkeypatch: Any) -> None:
    f = slow(cache, monkeypatch)
    for x in range(3):
        f(x)
    assert lines(caplog) == []


def test_many_surprises_are_one_line(cache: Any, caplog: Any, monkeypatch: Any) -> None:
    for name in "abc":
        slow(cache, monkeypatch, 1, name)(1)
    for name in "abc":
        slow(cache, monkeypatch, 2, name)(1)
    assert [level for level, _ in lines(caplog)] == ["WARNING"]
    monkeypatch.setattr(listeners, "_last", -1e9)
    slow(cache, monkeypatch, 3, "a")(1)
    [(_, text)] = lines(caplog)
    assert "and 2 more such misses" in text


def test_troubles_are_logged_where_there_is_a_handler(cache: Any, caplog: Any) -> None:
    @wellkept.keep(cache=cache)
    def f(x: Any) -> Any:
        return 1

    with pytest.warns(wellkept.KeptWarning):
        f(x for x in ())
    [(level, text)] = lines(caplog)
    assert level == "WARNING"
    assert "computed, not kept" in text


def test_the_environment_turns_it_on(tmp_path: Path) -> None:
    program = "import wellkept\nkeep = wellkept.keep(cache='./c', name='f', version=1)\n"
    program += "f = keep(lambda x: x)\nf(1)\nf(1)"

    def run(wanted: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={**os.environ, "WELLKEPT_LOG": wanted},
        )
        return done.stderr.splitlines()

    assert run("misses")[0].startswith("wellkept: miss: f ")
    assert [line[:16] for line in run("hits, misses")] == ["wellkept: hit: f"] * 2
    (said, *_) = run("mises")
    assert "WELLKEPT_LOG='mises' is left out: it takes hits, misses and troubles" in said
    assert said.startswith("<string>:")


def test_listeners_hear_of_hits_and_computations(cache: Any) -> None:
    heard: list[Any] = []

    class Listener:
        def hit(self, function: str, key: str, saved: float) -> None:
            heard.append(("hit", function))

        def begin(self, function: str, key: str) -> Any:
            heard.append(("begin", function))
            return lambda error: heard.append(("end", type(error).__name__))

    @wellkept.keep(cache=cache, name="f", version=1)
    def f(x: int) -> float:
        return 1 / x

    listener = Listener()
    listeners.listen(listener)
    try:
        f(1)
        f(1)
        with pytest.raises(ZeroDivisionError):
            f(0)
    finally:
        listeners.unlisten(listener)
    f(1)
    f(2)
    assert heard == [
        *[("begin", "f"), ("end", "NoneType"), ("hit", "f")],
        *[("begin", "f"), ("end", "ZeroDivisionError")],
    ]


@pytest.fixture
def unlogged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A program in which nothing was logged yet."""
    monkeypatch.setattr(listeners, "_loggers", {})
    misses, heard = listeners.MISSES[:], listeners.HEARD[:]
    listeners.MISSES.clear()
    yield
    listeners.MISSES[:], listeners.HEARD[:] = misses, heard


@pytest.mark.usefixtures("unlogged")
def test_a_call_in_the_midst_of_the_import_of_logging(
    cache: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    f, g = (wellkept.keep(cache=cache, version=1)(each) for each in (abs, threading.Lock))
    with monkeypatch.context() as patch:
        # As a signal's handler finds it.
        patch.setitem(sys.modules, "logging", types.ModuleType("logging"))
        listeners._loggers.clear()
        listeners.MISSES.clear()
        assert f(-1) == 1
        assert f.map([-2, -3]) == [2, 3]
        with pytest.warns(wellkept.KeptWarning, match="not kept"):
            assert not g().locked()
    assert listeners.logger("hits") is logging.getLogger("wellkept.hits")


@pytest.mark.usefixtures("unlogged")
def test_loggers_are_there_after_an_interrupt() -> None:
    def make() -> None:
        listeners._loggers.clear()
        listeners.logger("misses")

    for at in points(make):
        interrupted(make, at)
        assert listeners.logger("hits") is logging.getLogger("wellkept.hits")
        assert len(listeners.MISSES) == 1
        assert listeners.HEARD.count(listeners._hits) == 1
