"""What blocks say of the calls in them: tags and metadata, from where they reach, and how they are found."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.caches.places import every, new

import wellkept
from wellkept.caches import active


@wellkept.keep(name="said:f", version=1)
def f(n: int) -> int:
    return n + 1


@wellkept.keep(name="said:later", version=1)
async def later(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1


@wellkept.keep(name="said:each", version=1)
def each(n: int) -> Any:
    yield from range(n)


def tags_of(n: int) -> Any:
    return f.call(n).metadata.get("tags")


def test_blocks_nest_and_end() -> None:
    with wellkept.tags(project="a", who="me"):
        f(1)
        with (
            wellkept.tags({"day of": "may"}, project="b"),
            wellkept.meta(note="x", deep={"q": [1]}),
        ):
            f(2)
        f(3)
    f(4)
    assert tags_of(1) == tags_of(3) == {"project": "a", "who": "me"}
    assert tags_of(2) == {"project": "b", "who": "me", "day of": "may"}
    assert tags_of(4) is None
    assert (f.call(2).metadata["note"], f.call(2).metadata["deep"]) == ("x", {"q": [1]})
    assert "note" not in f.call(3).metadata


def test_a_block_is_where_it_is_entered() -> None:
    later = wellkept.tags(step=1)
    with wellkept.tags(project="a"), later:
        f(1)
    assert tags_of(1) == {"project": "a", "step": 1}


@every
def test_calls_are_found_by_what_blocks_say(kind: str, home: Path) -> None:
    with new(kind) as cache, wellkept.use(cache):
        with wellkept.tags(project="a"), wellkept.meta(note="x"):
            f(1)
        with wellkept.run("r", tags={"project": "b"}) as run:
            f(2)
            with wellkept.run("inner", tags={"who": "me"}) as inner:
                f(3), f(1)
        f(4)

        def ns(**said: Any) -> list[Any]:
            return [match.arguments["n"] for match in cache.query(**said)]

        assert ns(tags={"project": "a"}) == ns(metadata={"note": "x"}) == [1]
        assert ns(tags={"project": "b"}) == ns(run=run) == ns(run=run.id) == [2, 3]
        assert ns(tags={"who": "me"}) == ns(run=inner) == [3]
        assert ns(tags="project") == ns(tags={"project": {}}) == [1, 2, 3]
        assert f.query().where(tags={"project": "b"}, run=inner).count() == 1


def test_they_reach_where_calls_are_sent() -> None:
    with ThreadPoolExecutor(1) as early:
        early.submit(int).result()  # its thread is there before the block
        with wellkept.tags(project="a"):
            thread = threading.Thread(target=f, args=(1,))
            thread.start(), thread.join()
            f.submit(early, 2).result()
            with wellkept.executor(early) as kept:
                kept.submit(f, 3).result()
            call = f.bind(4)
            with ProcessPoolExecutor(1) as pool:
                f.submit(pool, 5).result()
        call()
    assert [tags_of(n) for n in range(1, 6)] == [{"project": "a"}] * 5


def test_tasks_do_not_see_each_other_s() -> None:
    async def one(n: int) -> None:
        with wellkept.tags(n=n):
            await asyncio.sleep(0)
            await later(n)

    async def all_of_them() -> None:
        await asyncio.gather(*map(one, range(3)))

    asyncio.run(all_of_them())
    assert [later.call(n).metadata["tags"] for n in range(3)] == [{"n": n} for n in range(3)]


def test_a_generator_has_what_was_said_when_it_began() -> None:
    with wellkept.tags(project="a"):
        items = each(2)
        next(items)
    list(items)
    assert each.call(2).metadata["tags"] == {"project": "a"}


def test_a_block_has_the_last_word() -> None:
    g = wellkept.keep(name="said:g", version=1, meta={"tags": {"project": "g", "for": "paper"}})(
        str
    )
    with wellkept.tags(project="a"):
        g(1)
    assert g.call(1).metadata["tags"] == {"project": "a", "for": "paper"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: wellkept.tags(a=[1]), "the tag 'a'"),
        (lambda: wellkept.tags({1: 2}), "the name of a tag"),  # type: ignore[dict-item]  # refused
        (lambda: wellkept.tags(a=float("nan")), "can't be kept"),
        (lambda: wellkept.meta(run="x"), "recorded anyway"),
        (lambda: wellkept.meta(tags={}), r"wellkept\.tags"),
        (lambda: wellkept.meta(a={1, 2}), "plain data"),
    ],
)
def test_what_is_none(make: Any, message: str) -> None:
    with pytest.raises(wellkept.ConfigError, match=message):
        make()


# -- collectors that see the call -----------------------------------------------------------------


def test_collectors_see_the_call_before_and_its_result_after() -> None:
    seen: list[Any] = []

    def before(call: wellkept.Call) -> dict[str, Any]:
        seen.append("before")
        return {"key": call.key, "state": call.state, "n": call.arguments["n"].value}

    def after(call: wellkept.Call, result: Any) -> dict[str, Any]:
        return {"key": call.key, "state": call.state, "result": repr(result)}

    options: Any = {"version": 1, "meta": [before, after], "errors": ValueError}

    @wellkept.keep(name="said:h", **options)
    def h(n: int) -> Any:
        seen.append("body")
        if n < 0:
            raise ValueError(n)
        return [n]

    @wellkept.keep(name="said:k", **options)
    def k(n: int) -> Any:
        yield n

    h(1), h(1), list(k(1))
    with pytest.raises(ValueError, match="-1"):
        h(-1)
    assert seen == ["before", "body", "before", "before", "body"]
    key = str(h.key(1))
    assert h.call(1).metadata["before"] == {"key": key, "state": "not kept", "n": 1}
    assert h.call(1).metadata["after"] == {"key": key, "state": "done", "result": "[1]"}
    assert h.call(-1).metadata["after"]["result"] == "ValueError(-1)"
    assert k.call(1).metadata["after"]["result"] == "[1]"


def test_collectors_that_see_calls_are_not_asked_of_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.conftest import forget_the_default_cache

    (home / "shopped.py").write_text("def seen(call):\n    return {'n': call.key[:4]}\n")
    monkeypatch.syspath_prepend(home)
    monkeypatch.delenv("WELLKEPT_CACHE")
    (home / "wellkept.toml").write_text('cache = "./here"\n[meta]\nmine = "shopped:seen"\n')
    forget_the_default_cache()
    with wellkept.run("r") as run:
        f(1)
    assert f.call(1).metadata["mine"] == {"n": f.key(1)[:4]}
    assert "mine" not in run.record.metadata


def test_a_collector_takes_no_more_than_that() -> None:
    with pytest.raises(wellkept.ConfigError, match=r"\(call, result\)"):
        wellkept.keep(meta=lambda a, b, c: {})(lambda: 1)


# -- what is recorded anyway ----------------------------------------------------------------------


def test_the_working_directory_and_what_children_used(home: Path) -> None:
    @wellkept.keep(name="said:child", version=1)
    def child(n: int) -> None:
        subprocess.run([sys.executable, "-Sc", f"sum(range({n}))"], check=True)

    child(10**6), f(1)
    assert child.call(10**6).metadata["children"] > 0
    assert child.call(10**6).metadata["directory"] == str(Path.cwd())
    assert "children" not in f.call(1).metadata
    assert active().query(metadata={"directory": str(Path.cwd())}).count() == 2


def test_a_directory_that_is_gone_is_not_recorded(home: Path) -> None:
    f(0)
    gone = home / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    try:
        f(1)
    finally:
        os.chdir(home)
    assert "directory" not in f.call(1).metadata
