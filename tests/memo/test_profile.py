"""`f.profile(…)` and `wellkept profile`: what is measured, and what is said of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.cli.app import run
from wellkept.memo import inspection
from wellkept.runs import profile


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[wellkept.Cache]:
    with wellkept.open(tmp_path / "cache") as cache, wellkept.use(cache):
        yield cache


def took(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """Let each part take so long, whatever it takes."""
    told = iter(())

    def measured(work: Callable[[], Any]) -> float:
        nonlocal told
        work()
        found = next(told, None)
        if found is None:
            told = iter(seconds.values())
            found = next(told)
        return found

    for module in (inspection, profile):
        monkeypatch.setattr(module, "measured", measured)


@wellkept.keep(name="profiled.f", version=1)
def f(n: Any, m: int = 0) -> Any:
    return [n]


def computed_in(seconds: float, *args: Any) -> None:
    f(*args)
    call = f.call(*args)
    f.cache.calls.put(call.key, call.replace(seconds=seconds))


def test_the_parts_are_those_of_a_hit(cache: wellkept.Cache) -> None:
    found = f.profile([1] * 10_000)
    assert set(found.parts) == set(found.memory) == {"key", "lookup", "load"}
    assert all(seconds > 0 for seconds in (*found.parts.values(), *found.memory.values()))
    assert found.hit == sum(found.parts.values())
    assert found.recompute == f.call([1] * 10_000).seconds
    assert found.dominating == max(found.parts, key=lambda part: found.parts[part])
    assert f.stats().computed >= 1


def test_nothing_is_counted_of_what_is_kept(cache: wellkept.Cache) -> None:
    f(1)
    stats = f.stats().to_dict()
    assert f.profile(1).uses == 0
    assert f.stats().to_dict() == stats
    assert f.call(1).uses == 0


def test_it_pays(cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    took(monkeypatch, key=0.001, look=0.002, load=0.007)
    computed_in(1.0, 1)
    f(1), f(1)
    found = f.profile(1)
    assert (found.pays, found.ratio, found.dominating) == (True, pytest.approx(100), "load")
    text = str(found)
    assert text.startswith("f(n=1, m=0): keeping pays, computing takes 100 x as long as a hit")
    assert "7 ms (70 %)" in text
    assert "which saved 2 s" in text
    assert found.advice == []
    assert json.loads(json.dumps(found.to_dict()))["pays"] is True
    assert found._repr_html_().startswith("<table>")
    assert "keeping pays" in found.__rich__().plain


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ((0.2, 0.001, 0.001), "the argument n takes 200 ms to digest: give its wellkept.Digest"),
        ((0.001, 0.2, 0.001), "put a near one before it, wellkept.Stack(near, far)"),
        ((0.001, 0.001, 0.2), "the result is"),
    ],
)
def test_the_dominating_cost_and_what_to_do(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch, seconds: tuple[float, ...], said: str
) -> None:
    names = ("key", "look", "load")
    took(monkeypatch, **dict(zip(names, seconds, strict=True)))
    computed_in(1.0, 5)
    found = f.profile(5)
    assert found.pays
    assert said in " ".join(found.advice)


def test_it_does_not_pay(cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    took(monkeypatch, key=0.1, look=0.1, load=0.1)
    computed_in(0.001, 1)
    found = f.profile(1)
    assert not found.pays
    assert "keeping does not pay" in str(found)
    assert "keep what calls it" in found.advice[0]


def test_what_is_not_kept_is_made_first(cache: wellkept.Cache) -> None:
    assert not f.contains(77)
    assert f.profile(77).hit is not None
    assert f.contains(77)


def test_what_can_not_be_kept(cache: wellkept.Cache) -> None:
    lock = wellkept.keep(name="profiled.lock")(lambda n: threading.Lock())
    with pytest.warns(wellkept.KeptWarning):
        found = lock.profile(1)
    assert (found.pays, found.hit, found.ratio, found.dominating) == (False, None, None, None)
    assert found.recompute > 0
    assert "could not be kept" in str(found)
    with wellkept.use("void:"):
        assert "keeps nothing" in str(f.profile(1))


def test_methods_generators_and_coroutines(cache: wellkept.Cache) -> None:
    class Model:
        @wellkept.keep(version=1)
        def fit(self, n: int) -> int:
            return n

        def __digest__(self) -> int:
            return 1

    @wellkept.keep(name="profiled.gen", version=1)
    def gen(n: int) -> Iterator[int]:
        yield from range(n)

    @wellkept.keep(name="profiled.co", version=1)
    async def co(n: int) -> int:
        return n

    assert Model().fit.profile(1).hit
    assert gen.profile(3).hit
    with pytest.raises(wellkept.NotKept, match="await the call once"):
        co.profile(1)


def test_all_functions_of_a_cache(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    took(monkeypatch, key=0.001, look=0.001, load=0.002)
    cheap = wellkept.keep(name="profiled.cheap", version=1)(lambda n: n)
    unused = wellkept.keep(name="profiled.unused", version=1)(lambda n: n)
    for n in range(3):
        computed_in(2.0, n)
        f(n)
        cheap(n)
        # Whatever it took: on a busy machine that may be milliseconds.
        cache.calls.put(cheap.key(n), cheap.call(n).replace(seconds=1e-6))
    unused(1)
    cache.calls.put(unused.key(1), unused.call(1).replace(seconds=1.0))
    cache.flush()
    monkeypatch.setenv("COLUMNS", "100")
    where = ["--cache", str(cache)]

    assert run(["profile", *where]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    assert out.splitlines()[1].startswith("profiled.f ")
    assert "pays, 500 x" in out
    assert "pays, 250 x, unused" in out
    assert "does not pay\n" in out
    assert "keep what calls the function" in out

    assert run(["profile", "profiled.f", "--json", "--load", *where]) == 0
    (row,) = json.loads(capsys.readouterr().out)["functions"]
    assert (row["pays"], row["ratio"], row["uses"]) == (True, pytest.approx(500), 3)
    assert row["saved"] == pytest.approx(3 * (2 - 0.004))

    assert run(["profile", "nonesuch", *where]) == 1
    assert "no function nonesuch" in capsys.readouterr().err


def test_reading_runs_no_code_unless_asked(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    f(1)

    def refused(codec: str) -> Any:
        raise AssertionError("decoded")

    monkeypatch.setattr("wellkept.codecs.decoder", refused)
    assert profile.profiles(cache)[0]["load"] > 0
    with pytest.raises(AssertionError, match="decoded"):
        profile.profiles(cache, load=True)


def test_long_work_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(profile, "perf_counter", lambda: next(clock))
    done: list[int] = []
    assert profile.measured(lambda: done.append(1)) == 1
    assert done == [1]
