"""`output=True`: what a body prints, logs and warns of comes again with a hit."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import wellkept
from wellkept import Cache, keep
from wellkept.errors import ConfigError

log = logging.getLogger("somebody.else")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return wellkept.open(tmp_path / "cache")


def speak(x: int) -> int:
    print("begin", x)
    log.warning("at %d", x)
    print("to err", file=sys.stderr)
    warnings.warn(f"odd {x}", RuntimeWarning, stacklevel=1)
    sys.stdout.write("end\n")
    return x + 1


def heard(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, call) -> tuple:
    caplog.clear()
    capsys.readouterr()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = call()
    out, err = capsys.readouterr()
    return (
        result,
        out,
        err,
        [(r.name, r.levelno, r.getMessage()) for r in caplog.records],
        [(w.category, str(w.message)) for w in warned],
    )


def test_a_hit_writes_what_the_body_wrote(cache, capsys, caplog) -> None:
    f = keep(cache=cache, output=True)(speak)
    first = heard(capsys, caplog, lambda: f(1))
    assert first == (
        2,
        "begin 1\nend\n",
        "to err\n",
        [("somebody.else", logging.WARNING, "at 1")],
        [(RuntimeWarning, "odd 1")],
    )
    assert heard(capsys, caplog, lambda: f(1)) == first
    assert f.stats().hits == 1


def test_the_order_is_kept(cache, capsys) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)

    @keep(cache=cache, output=True)
    def f() -> int:
        print("1", file=sys.stdout)
        log.error("2")
        print("3", file=sys.stdout)
        return 0

    log.addHandler(handler)
    try:
        with contextlib.redirect_stdout(stream):
            f()
            f()
    finally:
        log.removeHandler(handler)
    assert f.stats().hits == 1
    assert stream.getvalue() == "1\n2\n3\n" * 2


def test_a_handler_that_writes_to_the_same_stream_is_recorded_once(cache, capsys) -> None:
    handler = logging._StderrHandler()  # looks for sys.stderr at each record
    quiet = logging.getLogger("somebody.quiet")
    quiet.propagate = False
    quiet.addHandler(handler)

    @keep(cache=cache, output=True)
    def f() -> None:
        quiet.error("once")

    try:
        f()
        f()
    finally:
        quiet.removeHandler(handler)
    assert f.stats().hits == 1
    assert capsys.readouterr().err == "once\n" * 2


def test_streams_are_what_they_were_afterwards(cache) -> None:
    def now() -> list[object]:
        of = [sys.stdout, sys.stderr, logging.getLogRecordFactory(), warnings.showwarning]
        return [*of, vars(sys.stdout).copy(), vars(sys.stderr).copy()]

    before = now()

    @keep(cache=cache, output=True)
    def f() -> None:
        print("x")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        f()
    assert now() == before


def test_other_threads_are_not_recorded(cache, capsys) -> None:
    begun, printed = threading.Event(), threading.Event()

    @keep(cache=cache, output=True)
    def f() -> None:
        begun.set()
        assert printed.wait(10)
        print("mine")

    def other() -> None:
        assert begun.wait(10)
        print("theirs")
        printed.set()

    thread = threading.Thread(target=other)
    thread.start()
    f()
    thread.join()
    capsys.readouterr()
    f()
    assert capsys.readouterr().out == "mine\n"


def test_coroutines_side_by_side(cache, capsys) -> None:
    @keep(cache=cache, output=True)
    async def f(x: int) -> int:
        print("a", x)
        await asyncio.sleep(0)
        print("b", x)
        return x

    async def both() -> None:
        await asyncio.gather(f(1), f(2))

    asyncio.run(both())
    capsys.readouterr()
    asyncio.run(f(1))
    assert capsys.readouterr().out == "a 1\nb 1\n"


def test_an_outer_body_records_what_an_inner_hit_writes(cache, capsys) -> None:
    inner = keep(cache=cache, output=True)(speak)
    inner(1)

    @keep(cache=cache, output=True)
    def outer() -> int:
        return inner(1)

    outer()
    capsys.readouterr()
    outer()
    assert outer.stats().hits == 1
    assert capsys.readouterr().out == "begin 1\nend\n"


def test_a_stream_that_can_t_be_listened_to_is_computed_again(cache, monkeypatch) -> None:
    class Sealed:
        __slots__ = ()

        def write(self, text: str) -> int:
            return len(text)

    @keep(cache=cache, output=True)
    def f() -> None:
        print("x")

    monkeypatch.setattr(sys, "stdout", Sealed())
    f()
    f()
    assert (f.stats().computed, f.stats().hits) == (2, 0)


def test_it_changes_no_key_of_what_names_a_stream(tmp_path) -> None:
    # In a process of its own: pytest has streams of its own, which count as others.
    script = tmp_path / "job.py"
    script.write_text(
        """
import sys, wellkept
cache = wellkept.open(sys.argv[1])
@wellkept.keep(cache=cache)
def inner():
    print("x", file=sys.stderr)
@wellkept.keep(cache=cache, output=True)
def outer():
    inner()
inner()
outer()
print(inner.stats().hits, inner.stats().computed)
"""
    )
    done = subprocess.run(
        [sys.executable, script, tmp_path / "c"], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("1 1\n", "x\n")


def test_a_kept_failure_writes_too(cache, capsys) -> None:
    @keep(cache=cache, output=True, errors=ValueError)
    def f() -> None:
        print("about to fail")
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            f()
        assert capsys.readouterr().out == "about to fail\n"
    assert f.stats().hits == 1


def test_a_result_kept_without_its_output_is_computed_again(cache, capsys) -> None:
    keep(cache=cache)(speak)(1)
    f = keep(cache=cache, output=True)(speak)
    capsys.readouterr()
    f(1)
    assert capsys.readouterr().out == "begin 1\nend\n"
    assert (f.stats().computed, f.stats().hits) == (1, 0)
    f(1)
    assert f.stats().hits == 1


def test_much_output_is_a_note_and_too_much_is_cut(cache, capsys) -> None:
    @keep(cache=cache, output=True)
    def f(n: int) -> None:
        for _ in range(n):
            print("x" * 9_999)

    for n in (10, 500):
        f(n)
        capsys.readouterr()
        f(n)
        out, err = capsys.readouterr()
        if n == 10:
            assert (len(out), err) == (100_000, "")
        else:
            assert 4_000_000 < len(out) <= 1 << 22
            assert "more characters of output were not kept" in err
    assert f.stats().hits == 2


def test_it_comes_in_the_order_of_map(cache, capsys) -> None:
    f = keep(cache=cache, output=True)(speak)
    f(2)
    with ThreadPoolExecutor(1) as pool:
        f.map([1, 2], executor=pool)
        capsys.readouterr()
        assert f.map([1, 2], executor=pool) == [2, 3]
    assert capsys.readouterr().out == "begin 1\nend\nbegin 2\nend\n"


def test_a_category_of_a_warning_is_never_imported(cache, tmp_path, monkeypatch) -> None:
    (tmp_path / "mined.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    from wellkept.memo.output import _emit_warning

    with pytest.warns(UserWarning, match="x"):
        _emit_warning("mined:Boom", "x", "f.py", 1)


@pytest.mark.parametrize(
    "bad",
    [
        None,
        {},
        {"events": 3},
        {"events": [["out", 3]]},
        {"events": [["no", "x"]]},
        {"note": "gone"},
    ],
)
def test_output_that_is_not_what_it_should_be_is_not_known(cache, bad) -> None:
    from wellkept.memo.output import read

    assert read(cache, bad) is None


def test_without_metadata_it_is_kept_all_the_same(cache, capsys) -> None:
    f = keep(cache=cache, output=True, meta=False)(speak)
    f(1)
    capsys.readouterr()
    f(1)
    assert f.stats().hits == 1
    assert capsys.readouterr().out == "begin 1\nend\n"


def test_bad_options() -> None:
    with pytest.raises(ConfigError, match=r"output= is True or False, not 'all'"):
        keep(output="all")(speak)
    with pytest.raises(ConfigError, match="output= is not for generators"):

        @keep(output=True)
        def g():
            yield 1
