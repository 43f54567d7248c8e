"""Results that other code gave, blessed; and results computed again, compared."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep

OLD = """
import wellkept

@wellkept.keep
def f(n, rest=()):
    return n + 1

class Model:
    rate = 2

    @wellkept.keep
    def scaled(self, n):
        return n * self.rate
"""
NEW = OLD.replace("n + 1", "1 + n").replace("n * self.rate", "self.rate * n")


def module(source: str, place: Path) -> Any:
    """A module as one process has it."""
    path = place / f"m{len(list(place.iterdir()))}.py"
    path.write_text(source)
    made = types.ModuleType("project")
    made.__file__ = str(path)
    exec(compile(source, str(path), "exec", dont_inherit=True), vars(made))
    return made


@pytest.fixture
def old(tmp_path: Path) -> Any:
    return module(OLD, tmp_path)


@pytest.fixture
def new(old: Any, tmp_path: Path) -> Any:
    return module(NEW, tmp_path)


def test_blessed_results_are_hits(old: Any, new: Any) -> None:
    assert [old.f(1), old.f(2, rest=[3])] == [2, 3]
    assert not new.f.contains(1)
    dry = wellkept.bless(new.f, dry_run=True)
    assert (dry.calls, new.f.contains(1)) == (2, False)
    done = wellkept.bless(new.f)
    assert (done.calls, done.same, done.skipped) == (2, 0, 0)
    assert (done.before, done.code) == (old.f.code_tag, new.f.code_tag)
    assert [new.f(1), new.f(2, rest=[3])] == [2, 3]
    assert new.f.stats().computed == 0
    blessed = new.f.call(1).metadata["blessed"]
    assert blessed["from"] == old.f.code_tag
    assert blessed["at"] > 0
    assert "blessed" not in old.f.call(1).metadata
    assert old.f.contains(1)
    assert wellkept.bless(new.f)._replace(function="") == done._replace(
        function="", calls=0, same=2
    )


def test_a_function_that_is_isolated_is_blessed_in_its_directory(
    old: Any, new: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (wellkept.keep(isolate=True, name="far")(m.f.__wrapped__) for m in (old, new))
    assert before(1) == 2
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert before(1) == 2  # of another directory: computed again
    assert (before.stats().computed, before.stats().hits) == (2, 0)
    assert wellkept.bless(after).calls == 2
    assert after(1) == 2
    monkeypatch.chdir(tmp_path)
    assert (after.stats().computed, after.stats().hits) == (0, 1)
    assert not after.contains(2)


def test_a_method_is_blessed_with_what_it_asks_of_its_class(old: Any, new: Any) -> None:
    assert old.Model().scaled(3) == 6
    assert "@class" in old.Model.scaled.call(old.Model(), 3).arguments
    assert wellkept.bless(new.Model.scaled).calls == 1
    assert new.Model().scaled(3) == 6
    assert new.Model.scaled.stats().computed == 0


def test_the_latest_other_code_is_blessed_unless_another_is_named(
    old: Any, new: Any, tmp_path: Path
) -> None:
    old.f(1)
    new.f(2)
    third = module(NEW.replace("1 + n", "(1 + n)*1"), tmp_path)
    assert wellkept.bless(third.f).before == new.f.code_tag
    assert [third.f.contains(n) for n in (1, 2)] == [False, True]
    wellkept.bless(third.f, code=old.f.code_tag.removeprefix("deep:")[:12])
    assert third.f.contains(1)


def test_results_of_own_code_are_blessed_for_deep(old: Any) -> None:
    own = keep(code="own")(old.f.__wrapped__)
    own(1)
    assert not old.f.contains(1)
    assert wellkept.bless(old.f).calls == 1
    assert old.f.contains(1)


def test_what_depends_names_is_blessed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    f = keep(depends=[helper, wellkept.env("MODE")])(plain)
    monkeypatch.setenv("MODE", "a")
    f(1)
    monkeypatch.setitem(globals(), "RATE", 3)
    assert not f.contains(1)
    assert wellkept.bless(f).calls == 1
    assert f.contains(1)
    monkeypatch.setenv("MODE", "b")
    assert not f.contains(1)


RATE = 2


def helper() -> int:
    return RATE


def plain(n: int) -> int:
    return n


def test_wrong_blessings(old: Any) -> None:
    assert wellkept.bless(old.f).before == ""
    with pytest.raises(wellkept.ConfigError, match=r"no call of .* begins with 'deep:00'"):
        wellkept.bless(old.f, code="deep:00")
    with pytest.raises(wellkept.ConfigError, match="only a kept function"):
        wellkept.bless(plain)  # type: ignore[arg-type]  # what is wrong


class TestVerify:
    def test_what_drifted_is_told_and_stays(self) -> None:
        world = {"rate": 1}

        @keep(version=1)
        def f(n: int, *rest: int, by: tuple[int, ...] = (), **more: int) -> int:
            return n * world["rate"]

        f(1), f(2, by=()), f(3, more=4)
        done = wellkept.verify(f, sample=1)
        assert (done.kept, done.tally("same"), done.drifted) == (3, 3, ())
        world["rate"] = 2
        done = wellkept.verify(f, sample=1)
        assert done.tally("differs") == 3
        assert any("n=1" in one.call for one in done.drifted)
        assert f(1) == 1
        assert len(wellkept.verify(f, sample=0.4, seed=1).checked) == 1

    def test_what_raises_now(self) -> None:
        broken: list[int] = []

        @keep(version=1)
        def f(n: int) -> int:
            return n // (0 if broken else 1)

        f(1)
        broken.append(1)
        (one,) = wellkept.verify(f).checked
        assert (one.outcome, one.detail[:17]) == ("raised", "ZeroDivisionError")

    def test_arguments_that_are_kept_themselves_are_loaded(self) -> None:
        @keep(version=1)
        def numbers(n: int) -> list[int]:
            return list(range(n))

        @keep(version=1)
        def total(of: list[int]) -> int:
            return sum(of)

        total(numbers(3))
        total([7])
        done = wellkept.verify(total, sample=1)
        assert (done.tally("same"), done.tally("unknown")) == (1, 1)

    def test_coroutines_and_generators(self) -> None:
        import asyncio

        @keep(version=1)
        async def later(n: int) -> int:
            return n

        @keep(version=1)
        def each(n: int) -> Iterator[int]:
            yield from range(n)

        asyncio.run(later(1))
        list(each(2))
        assert wellkept.verify(later).tally("same") == 1
        assert wellkept.verify(each).tally("same") == 1

    @pytest.mark.parametrize("share", [0, -1, 1.5, True, "all"])
    def test_wrong(self, share: Any) -> None:
        with pytest.raises(wellkept.ConfigError, match="sample="):
            wellkept.verify(keep(plain), sample=share)
        with pytest.raises(wellkept.ConfigError, match="only a kept function"):
            wellkept.verify(plain)  # type: ignore[arg-type]  # what is wrong
