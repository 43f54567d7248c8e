"""Runs: what they record of calls, from where, and what they tell of themselves."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

import wellkept
from wellkept.caches import active
from wellkept.runs.collectors import _commit
from wellkept.runs.recorder import EVENTS, HEADS


@wellkept.keep(name="shop:price", version=1)
def price(item: str) -> float:
    return len(item) + 0.25


@wellkept.keep(name="shop:total", version=1)
def total(items: tuple[str, ...]) -> float:
    return sum(price(item) for item in items) + 100


@wellkept.keep(name="shop:refuse", version=1)
def refuse(n: int) -> None:
    raise ValueError(n)


@wellkept.keep(name="shop:later", version=1)
async def later(n: int) -> int:
    await asyncio.sleep(0)
    return n + 1000


@wellkept.keep(name="shop:each", version=1)
def each(n: int) -> Any:
    yield from range(n, n + 3)


def outcomes(run: wellkept.Run, **said: Any) -> list[tuple[str, str, int]]:
    """Function, outcome and count of each event, in the order of the alphabet."""
    return sorted(
        (event.function.partition(":")[2], event.outcome, event.count)
        for event in run.events(**said)
    )


def test_a_hit_a_computation_and_a_failure_are_events_with_their_cost() -> None:
    price("hat")
    with wellkept.run("sweep", tags={"for": "paper"}) as run:
        for _ in range(3):
            price("hat")
        total(("shoe",))
        with pytest.raises(ValueError, match="7"):
            refuse(7)
        assert run.state == "running"
    assert outcomes(run) == [
        ("price", "computed", 1),
        ("price", "hit", 3),
        ("refuse", "failed", 1),
        ("total", "computed", 1),
    ]
    by_name = {(e.function, e.outcome): e for e in run.events()}
    hit, made = by_name["shop:price", "hit"], by_name["shop:price", "computed"]
    whole, failed = by_name["shop:total", "computed"], by_name["shop:refuse", "failed"]
    assert (hit.key, hit.result) == (price.key("hat"), wellkept.digest(3.25))
    assert hit.seconds == price.call("hat").seconds
    assert (made.key, made.parent, whole.parent) == (price.key("shoe"), whole.key, None)
    assert whole.seconds >= made.seconds > 0
    assert whole.code == price.call("shoe").code == "version:1"
    assert (failed.error, failed.shown, failed.result) == ("ValueError", {"n": 7}, None)
    assert failed.arguments == {"n": wellkept.digest(7)}
    totals = run.totals()
    assert (totals.hits, totals.computed, totals.failed, totals.lost) == (3, 2, 1, 0)
    assert totals.saved == pytest.approx(3 * hit.seconds)
    assert (run.state, run.name, dict(run.tags)) == ("done", "sweep", {"for": "paper"})
    assert run.seconds is not None
    again = wellkept.runs()["sweep"]
    assert again == run
    assert outcomes(again) == outcomes(run)
    assert again.totals() == totals


def test_what_is_recorded_with_each_call() -> None:
    began = time.time()
    with wellkept.run("one") as run:
        total(("coat",))
    call, parent = price.call("coat"), total.call(("coat",))
    assert call.metadata["parent"] == parent.key
    assert "parent" not in parent.metadata
    assert call.metadata["run"] == parent.metadata["run"] == run.id
    assert began - 0.001 <= parent.metadata["started"] <= call.metadata["started"] <= time.time()
    assert 0 < call.seconds <= parent.seconds
    assert call.metadata["cpu"] >= 0
    env = json.loads(active().backend.notes.get(f"env/{call.metadata['env']}") or b"")
    assert env["python"] == ".".join(map(str, sys.version_info[:3]))
    assert env["wellkept"] == wellkept.__version__
    assert env["host"]
    assert env["user"]
    assert [m.key for m in price.query().where(run=run)] == [call.key]
    assert active().query(run=run.id).count() == 2
    assert active().query(run="another").count() == 0


def test_what_a_body_took_is_recorded() -> None:
    # More than this process ever had, or than the one had that began it.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = peak - psutil.Process().memory_info().rss + 80_000_000

    @wellkept.keep(name="shop:busy", version=1)
    def busy() -> int:
        end = time.process_time() + 0.05
        held = bytearray(os.urandom(1)) * size
        while time.process_time() < end:
            os.stat(".")  # noqa: PTH116  time in the kernel
        return len(held)

    busy()
    call = busy.call()
    spent = call.metadata["cpu"] + call.metadata["system"]
    assert 0.045 < spent <= call.seconds + 0.05
    assert call.metadata["memory"] > 30_000_000


def test_the_package_that_a_function_comes_from_is_recorded() -> None:
    import numpy as np

    wellkept.keep(np.linalg.norm)([3.0, 4.0])
    (found,) = active().query("numpy*").calls()
    assert found.metadata["package"] == f"numpy {np.__version__}"
    price("tie")
    assert "package" not in price.call("tie").metadata  # tests are no distribution


def test_runs_inside_one_another() -> None:
    with wellkept.run("outer") as outer:
        price("a")
        with wellkept.run("inner") as inner:
            price("b")
            with wellkept.run("innermost"):
                price("c")
        price("d")
    assert inner.record.outer == outer.id
    assert len(outcomes(outer)) == 4
    assert len(outcomes(inner)) == 2
    assert len(outcomes(outer, inner=False)) == 2
    assert outer.totals().computed == 4
    assert outer.totals(inner=False).computed == 2
    assert price.call("b").metadata["run"] == inner.id
    assert [run.name for run in wellkept.runs()] == ["innermost", "inner", "outer"]
    outer.forget()
    assert list(wellkept.runs()) == []
    assert price.contains("c")


def test_threads_tasks_generators_and_maps() -> None:
    with ThreadPoolExecutor(1) as before:
        before.submit(int).result()  # its thread was started outside
        with wellkept.run("many") as run:
            thread = threading.Thread(target=price, args=("thread",))
            thread.start()
            thread.join()
            before.submit(price.bind("sent")).result()
            before.submit(price, "not sent").result()  # by a thread that knows of no run

            async def tasks() -> None:
                await asyncio.gather(later(1), later(2), asyncio.to_thread(price, "to thread"))

            asyncio.run(tasks())
            assert list(each(5)) == [5, 6, 7]
            assert price.map(["x", "y"]) == [1.25, 1.25]
        thread = threading.Thread(target=price, args=("after",))
        thread.start()
        thread.join()
    assert outcomes(run) == [
        ("each", "computed", 1),
        ("later", "computed", 1),
        ("later", "computed", 1),
        *[("price", "computed", 1)] * 5,
    ]


def test_a_thread_that_outlives_its_run_records_no_more() -> None:
    go, gone = threading.Event(), threading.Event()

    def work() -> None:
        go.wait(30)
        price("late")
        gone.set()

    with wellkept.run("outer") as outer:
        with wellkept.run("short") as short:
            threading.Thread(target=work).start()
        go.set()
        assert gone.wait(30)
    assert outcomes(short) == []
    assert outcomes(outer, inner=False) == [("price", "computed", 1)]


def sent(items: tuple[str, ...]) -> float:
    return total(items)


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_process_pools(how: str) -> None:
    context = multiprocessing.get_context(how)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(int).result()  # the worker was started outside of the run
        with wellkept.run("pool") as run:
            submitted = [total.submit(pool, (f"{how}{n}",)) for n in range(2)]
            bound = pool.submit(total.bind((f"{how}3",)))
            joined = pool.submit(in_a_run, run, (f"{how}4",))
            assert [future.result() for future in (*submitted, bound, joined)]
    assert outcomes(wellkept.runs()["pool"]) == [
        *[("price", "computed", 1)] * 4,
        *[("total", "computed", 1)] * 4,
    ]
    assert price.call(f"{how}0").metadata["parent"] == total.key((f"{how}0",))
    assert active().query(run=run).count() == 8


def in_a_run(run: wellkept.Run, items: tuple[str, ...]) -> float:
    with run.joined():
        return total(items)


@wellkept.keep(name="shop:many", version=1, ignore="pool")
def many(items: tuple[str, ...], pool: Any) -> float:
    return float(sum(pool.submit(price.bind(item)).result() for item in items))


def test_who_called_a_sent_call_is_its_parent() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        with wellkept.run("sent"):
            many(("p", "q"), pool)
        pool.submit(price.bind("alone")).result()
    parents = [price.call(item).metadata.get("parent") for item in ("p", "q", "alone")]
    assert parents == [many.key(("p", "q"), None)] * 2 + [None]


CRASHES = """
import os, sys, time, wellkept

@wellkept.keep(version=1)
def f(n):
    return n * 1000

with wellkept.run("doomed") as run:
    f(1)
    f(1)
    while not list(wellkept.runs(name="doomed").totals()):
        time.sleep(0.01)
    print(run.id, flush=True)
    sys.stdin.read()
"""


def test_a_run_whose_process_was_killed_has_crashed(home: Path) -> None:
    (home / "doomed.py").write_text(CRASHES)
    process = subprocess.Popen(
        [sys.executable, "doomed.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin
    assert process.stdout
    name = process.stdout.readline().strip()
    assert wellkept.runs()["doomed"].state == "running"
    with pytest.raises(wellkept.ConfigError, match="running"):
        wellkept.runs()["doomed"].forget()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    run = wellkept.runs()["doomed"]
    assert (run.id, run.state, run.seconds) == (name, "crashed", None)
    assert run.totals().computed == 1
    assert "crashed" in str(wellkept.runs())
    run.forget()
    assert not list(wellkept.runs())


def test_an_exception_leaves_the_run_failed() -> None:
    run = wellkept.run("broken")
    with pytest.raises(ValueError, match="8"), run:
        refuse(8)
    assert (run.state, run.record.error) == ("failed", "ValueError")
    assert wellkept.runs()["broken"].state == "failed"


def test_a_run_of_another_host_that_did_not_end_is_unfinished() -> None:
    with wellkept.run("far") as run:
        pass
    owner = {**run.record.owner, "host": "elsewhere"}
    far = wellkept.Run(run.record._replace(ended=None, owner=owner), run.cache)
    assert (far.state, far.seconds) == ("unfinished", None)


def test_hits_are_gathered_and_written_in_one_piece() -> None:
    for n in range(50):
        price("h" * n)
    with wellkept.run("hits") as run:
        for _ in range(4):
            for n in range(50):
                price("h" * n)
        assert run.totals().hits == 200
    notes = active().backend.notes
    assert len(list(notes.keys(f"{EVENTS}{run.id}/"))) <= 3  # not one for each event
    assert {event.count for event in run.events()} == {4}


def test_more_hits_than_one_table_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["wellkept.runs.recorder"], "_HELD", 10)
    for n in range(25):
        price("t" * n)
    with wellkept.run("full") as run:
        for _ in range(2):
            for n in range(25):
                price("t" * n)
    assert run.totals().hits == 50


def test_a_store_that_does_not_take_notes_costs_only_a_warning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with wellkept.run("deaf") as run:
        price("w")
        notes = type(run.cache.backend.notes)  # type: ignore[union-attr]  # it is kept

        def refuse_all(self: Any, items: Any) -> None:
            raise wellkept.StoreError("no")

        with monkeypatch.context() as patch:
            patch.setattr(notes, "put_many", refuse_all)
            with pytest.warns(wellkept.KeptWarning, match="events of the run"):
                assert run.totals().computed == 1
    assert run.totals().computed == wellkept.runs()["deaf"].totals().computed == 1


def test_damaged_notes_are_left_out() -> None:
    with wellkept.run("a"):
        price("a")
    with wellkept.run("b") as b:
        price("b")
    notes = active().backend.notes
    notes.put(f"{HEADS}{b.id}", b"nonsense")
    (events,) = notes.keys(f"{EVENTS}{b.id}/")
    notes.put(events, b"nonsense")
    assert [run.name for run in wellkept.runs()] == ["a"]
    assert b.events() == []


def test_a_run_pickles() -> None:
    with wellkept.run("p") as run:
        price("p")
    again = pickle.loads(pickle.dumps(run))
    assert again == run
    assert outcomes(again) == outcomes(run)


def test_a_memory_cache_has_runs_too() -> None:
    with wellkept.open("memory:") as cache, wellkept.use(cache):
        with wellkept.run("brief") as run:
            price("m")
        assert [r.name for r in wellkept.runs()] == ["brief"]
        assert outcomes(run) == [("price", "computed", 1)]
    assert list(wellkept.runs()) == []


# -- choosing --------------------------------------------------------------------------------------


def test_runs_are_chosen_by_name_id_tags_and_place() -> None:
    ids = []
    for name, tags in [
        ("sweep 1", {"n": 1}),
        ("sweep 2", {"n": 2}),
        ("sweep 2", {"n": 2}),
        ("x", {}),
    ]:
        with wellkept.run(name, tags=tags) as run:
            ids.append(run.id)
    runs = wellkept.runs()
    assert [run.id for run in runs] == ids[::-1]
    assert len(runs) == 4
    assert runs["sweep 2"].id == ids[2]
    assert runs[ids[0]].id == runs["sweep 1"].id == ids[0]
    assert (runs[0].id, runs[-1].id) == (ids[3], ids[0])
    assert [run.id for run in runs[1:3]] == [ids[2], ids[1]]
    assert [run.id for run in wellkept.runs("sweep*")] == ids[2::-1]
    assert [run.id for run in wellkept.runs(tags={"n": 2})] == [ids[2], ids[1]]
    with pytest.raises(wellkept.AmbiguousDigest, match="several"):
        runs["swe"]
    with pytest.raises(wellkept.NotKept, match="no run 'nothing'"):
        runs["nothing"]
    with pytest.raises(IndexError):
        runs[4]
    with pytest.raises(wellkept.ConfigError, match="which runs"):
        runs.forget()
    assert wellkept.runs("sweep*").forget() == ids[2::-1]
    assert wellkept.runs().forget(older="1 h") == []
    assert wellkept.runs().forget("x") == [ids[3]]
    assert repr(wellkept.runs()).endswith(" yet")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"name": 3}, "a run's name is text"),
        ({"tags": ["a"]}, "tags= is a dict"),
        ({"tags": {1: 2}}, "the name of a tag"),
        ({"tags": {"a": [1]}}, "the tag 'a'"),
        ({"tags": {"a": float("nan")}}, "a tag can't be kept"),
    ],
)
def test_what_is_no_run(said: dict[str, Any], message: str) -> None:
    with pytest.raises(wellkept.ConfigError, match=message):
        wellkept.run(**said)


def test_a_run_is_one_block() -> None:
    run = wellkept.run("once")
    assert repr(run).endswith("'once' not begun>")
    with pytest.raises(wellkept.ConfigError, match="not open"):
        run.joined()
    with run:
        pass
    with pytest.raises(wellkept.ConfigError, match="began already"):
        run.__enter__()
    with pytest.raises(wellkept.ConfigError, match="by='call'"):
        run.table(by="day")
    with pytest.raises(wellkept.ConfigError, match="with a run"):
        run.compare("another")  # type: ignore[arg-type]  # what is refused


# -- collectors ------------------------------------------------------------------------------------


def test_collectors_of_a_function(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("SHOP_MODE", "fast")
    monkeypatch.setenv("SHOP_TOKEN", "hidden")
    asked = []

    def shelf() -> dict[str, Any]:
        asked.append(1)
        return {"row": 3}

    @wellkept.keep(
        version=1,
        meta={
            "environment": ["SHOP_*"],
            "packages": ["numpy", "no-such-package"],
            "tags": {"color": "red"},
            "mine": shelf,
        },
    )
    def sell(n: int) -> int:
        return n

    sell(1)
    sell(1)
    said = sell.call(1).metadata
    assert said["environment"] == {"SHOP_MODE": "fast"}
    assert said["packages"]["no-such-package"] == "not installed"
    assert said["packages"]["numpy"][0].isdigit()
    assert (said["tags"], said["mine"], asked) == ({"color": "red"}, {"row": 3}, [1])
    assert sell.query().where(tags={"color": "red"}).count() == 1
    assert sell.query().where(metadata="mine.row").count() == 1


def test_git_is_asked_once_a_process(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    def git(*words: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.com"]
        subprocess.run(["git", *who, *words], check=True, capture_output=True)

    git("init", "-b", "trunk")
    (home / "a.txt").write_text("a")
    git("add", "a.txt")
    git("commit", "-m", "a")
    asked, real = [], subprocess.run

    def run(*args: Any, **kwargs: Any) -> Any:
        asked.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(subprocess, "run", run)
    _commit.cache_clear()
    made = wellkept.keep(name="git:f", version=1, meta="git")(eval("lambda n: n"))  # of no file
    made(1), made(2)
    said = made.call(1).metadata["git"]
    assert len(asked) == 1
    assert (said["branch"], said["dirty"], len(said["commit"])) == ("trunk", False, 40)
    assert active().query(metadata={"git.commit": said["commit"]}).count() == 2


def test_a_collector_that_fails_costs_only_a_warning() -> None:
    @wellkept.keep(
        version=1, meta={"broken": lambda: 1 / 0, "wrong": lambda: 3, "fine": lambda: {"a": 1}}
    )
    def f(n: int) -> int:
        return n

    with pytest.warns(wellkept.KeptWarning) as told:
        assert (f(1), f(2)) == (1, 2)
    assert sorted(str(one.message).split("'")[1] for one in told) == ["broken", "wrong"]
    assert f.call(2).metadata["fine"] == {"a": 1}
    assert "broken" not in f.call(2).metadata


def test_what_collectors_give_may_be_large() -> None:
    large = {"text": "x" * 5_000}

    @wellkept.keep(version=1, meta={"large": lambda: large})
    def f(n: int) -> int:
        return n

    f(1), f(2)
    (name,) = {f.call(n).metadata["large"]["note"] for n in (1, 2)}
    assert json.loads(active().backend.notes.get(f"env/{name}") or b"") == large


def test_nothing_is_recorded_if_nothing_is_to_be() -> None:
    f = wellkept.keep(name="shop:silent", version=1, meta=False)(lambda n: n)
    f(1)
    assert dict(f.call(1).metadata) == {}


def test_collectors_of_the_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "shopping.py").write_text("def row():\n    return {'row': 4}\n")
    monkeypatch.syspath_prepend(home)
    monkeypatch.delenv("WELLKEPT_CACHE")
    (home / "wellkept.toml").write_text(
        'cache = "./here"\n[meta]\npackages = ["numpy"]\nmine = "shopping:row"\ntags = {who = "me"}\n'
    )
    from tests.conftest import forget_the_default_cache

    forget_the_default_cache()
    with wellkept.run("said") as run:
        price("conf")
    for said in (price.call("conf").metadata, run.record.metadata):
        assert said["mine"] == {"row": 4}
        assert said["tags"] == {"who": "me"}
        assert list(said["packages"]) == ["numpy"]


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        (["gitt"], "no collector 'gitt'"),
        (3, "takes collectors"),
        ({"git": 3}, "only switched on"),
        ({"run": lambda: {}}, "recorded anyway"),
        ({"environment": ["MY_TOKEN"]}, "looks like that of a secret"),
        ({"tags": {"a": [1]}}, "tags are names"),
    ],
)
def test_collectors_that_are_none(meta: Any, message: str) -> None:
    with pytest.raises(wellkept.ConfigError, match=message):
        wellkept.keep(meta=meta)(lambda: 1)
