"""What each screen says, as JSON: the same that its HTML shows."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests import services
from tests.caches import places
from tests.caches.test_servers import opened
from tests.remote.webs import Anywhere
from tests.web.sites import Client, Markup, filled, served

import wellkept
from wellkept import keep
from wellkept._process import part_name
from wellkept.web import preview, render, serving, upkeep_pages
from wellkept.web.export import write
from wellkept.web.serving import Serving
from wellkept.web.site import Price, Site

SCREENS = ["", "functions", "runs", "live", "disk", "lineage", "state", "health"]


def test_every_screen_has_its_json(client: Client) -> None:
    for path, text in client.pages(3):
        (found,) = [
            said["href"]
            for tag, said in Markup(text).tags
            if tag == "a" and ".json" in (said.get("href") or "")
        ]
        answer = client.get(found)
        assert answer.headers["content-type"] == "application/json", path
        assert json.loads(answer.text)


def test_today(client: Client) -> None:
    found = client.json("index")
    assert found["complete"]
    assert found["saved"]["uses"] >= 6
    assert (found["calls"], found["functions"]) == (11, 3)
    (again,) = found["again"]
    assert (again["kind"], again["label"], again["calls"]) == ("version", "version 1 -> 2", 4)
    said = dict(again["commands"])
    assert said["accept"] == "wellkept bless lab.train:fit"
    assert said["verify"] == "wellkept verify --function lab.train:fit"
    assert sum(found["chart"]["computed"]) == 11
    assert sum(found["chart"]["hits"]) >= 6
    assert {one["kind"] for one in found["first"]} == {"never called", "arguments"}


def test_money_where_the_price_is_known(home: Path) -> None:
    with (
        filled(wellkept.open(home / "c", memory=0)) as cache,
        served(cache, price=Price(36, "EUR")) as client,
    ):
        assert client.json("index")["saved"]["money"].endswith(" EUR")
        assert " EUR" in client.get("/").text


def test_functions_and_one_of_them(client: Client) -> None:
    names = [one["function"] for one in client.json("functions")["functions"]]
    assert sorted(names) == ["lab.bad:fails", "lab.clean:load", "lab.train:fit"]
    assert [one["function"] for one in client.json("functions", find="TRAIN")["functions"]] == [
        "lab.train:fit"
    ]
    found = client.json("function", name="lab.train:fit")
    assert (found["total"], len(found["calls"]), found["sampled"]) == (8, 8, 8)
    assert [one["code"] for one in found["versions"]] == ["version:2", "version:1"]
    (lr,) = [one for one in found["facets"] if one["name"] == "lr"]
    assert {(one["said"], one["calls"]) for one in lr["values"]} == {("0.1", 4), ("0.01", 4)}
    some = client.json("function", name="lab.train:fit", **{"arg.lr": "0.1"})
    assert some["total"] == 4
    assert client.json("function", name="lab.train:fit", **{"arg.lr": ">0.05"})["total"] == 4
    assert client.json("function", name="lab.train:fit", **{"arg.lr": "0..0.05"})["total"] == 4
    assert client.get("/function", name="lab:no").status_code == 404


def test_a_name_is_no_pattern(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        for name in ("lab:*", "lab:f", "f", "__main__:g"):
            for version in (1, 2):
                keep(cache=cache, name=name, version=version)(lambda: 1)()
        assert client.json("function", name="lab:*")["total"] == 2
        assert client.json("function", name="f")["total"] == 2
        # What the first page says is as of a moment ago.
        commands: dict[str, dict[str, str]] = {}
        ends = time.monotonic() + 60
        while len(commands) < 4:
            assert time.monotonic() < ends, commands
            commands = {
                one["function"]: dict(one["commands"]) for one in client.json("index")["again"]
            }
        assert commands["lab:*"]["clear"] == "wellkept evict --function 'lab:[*]'"
        assert commands["lab:f"]["accept"] == "wellkept bless lab:f"
        assert commands["f"]["accept"] == "wellkept bless SCRIPT.py:f"
        assert commands["__main__:g"]["verify"] == "wellkept verify --function SCRIPT.py:g"


def test_calls_are_paged_by_what_they_are_ordered_by(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        square = keep(cache=cache, name="lab:square", version=1)(lambda x: x * x)
        for x in range(120):
            square(x)
        seen: list[str] = []
        after: Any = ""
        for _ in range(4):
            page = client.json("function", name="lab:square", after=after)
            seen += [one["key"] for one in page["calls"]]
            after = page["after"]
            # What comes in meanwhile moves nothing.
            square(1000 + len(seen))
            if not after:
                break
        assert len(seen) == len(set(seen)) == 120
        assert client.get("/function", name="lab:square", after="[1,2").status_code == 400


def test_one_call(client: Client) -> None:
    (row, *_) = client.json("function", name="lab.train:fit")["calls"]
    found = client.json("call", key=row["key"][:12])
    assert found["call"]["key"] == row["key"]
    assert "'weights': [" in found["preview"]["text"]
    assert found["explained"]["outcome"] == "hit"
    assert [one["function"] for one in found["graph"]["nodes"]] == [
        "lab.clean:load",
        "lab.train:fit",
    ]
    assert found["where"]["python"]
    assert found["load"].startswith("wellkept.open(")
    assert client.get("/call", key="zz").status_code == 404


def test_runs_and_two_of_them(client: Client) -> None:
    found = client.json("runs")["runs"]
    assert [one["name"] for one in found] == ["tuesday", "monday"]
    one = client.json("run", id=found[0]["id"])
    assert len(one["bars"]) == one["events"]
    assert all(bar["end"] >= bar["begin"] >= 0 for bar in one["bars"])
    both = client.json("compare", id=found[0]["id"], **{"with": found[1]["id"]})
    kinds = {one["kind"]: one for one in both["kinds"]}
    assert kinds["changed"]["total"] == 4
    assert kinds["changed"]["calls"][0]["because"] == "version 1 -> 2"
    assert kinds["reused"]["total"] >= 2
    assert client.get("/run", id="nope").status_code == 404


def test_runs_are_paged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wellkept.web import run_pages

    monkeypatch.setattr(run_pages, "PAGE", 3)
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        for i in range(7):
            with wellkept.run(f"r{i}", cache=cache):
                pass
        names, after = [], ""
        while True:
            page = client.json("runs", after=after)
            names += [one["name"] for one in page["runs"]]
            after = page["after"]
            if not after:
                break
        assert sorted(names) == [f"r{i}" for i in range(7)]


def test_live_shows_who_computes(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        inside, leave = threading.Event(), threading.Event()

        def body() -> int:
            inside.set()
            assert leave.wait(60)
            return 1

        slow = keep(cache=cache, name="lab:slow", version=1)(body)
        with wellkept.run("now", cache=cache):
            thread = threading.Thread(target=slow)
            thread.start()
            assert inside.wait(60)
            found = client.json("live")
            leave.set()
            thread.join(60)
        assert [one["name"] for one in found["runs"]] == ["now"]
        if sys.platform.startswith("linux"):
            (lease,) = found["leases"]
            assert lease["pid"] == os.getpid()
            assert slow.key().startswith(lease["key"])
        assert client.json("live")["leases"] == []


def test_jobs_and_state(client: Client) -> None:
    (jobs,) = client.json("live")["jobs"]
    assert (jobs["store"], jobs["counts"]["requested"]) == ("jobs", 1)
    stores = {one["store"]: one["keys"] for one in client.json("state")["stores"]}
    assert stores == {"jobs": 1, "progress": 2}
    entries = {one["key"]: one for one in client.json("state", store="progress")["entries"]}
    assert entries["batch"]["value"] == "3"
    assert entries["batch"]["left"] is None
    assert 3000 < entries["told"]["left"] <= 3600
    assert client.json("state", store="progress", prefix="b")["entries"][0]["key"] == "batch"
    assert client.get("/state", store="nope").status_code == 404


def test_the_latest_changes_of_a_store_are_seen(client: Client) -> None:
    found = client.json("state", store="progress")["changes"]
    assert [(one["kind"], one["key"]) for one in found] == [("insert", "told"), ("insert", "batch")]


def test_an_index_that_is_not_there_yet_is_made_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with filled_calls(wellkept.open(home / "c", memory=0)) as cache:
        site = Site(cache)
        go = threading.Event()
        count = cache.query().count()

        def slowly() -> int:
            assert go.wait(60)
            return count

        monkeypatch.setattr(site._indexed, "_make", slowly)
        with Serving(site) as serving:
            client = Client(serving)
            answer = client.get("/")
            assert answer.status_code == 202
            assert answer.headers["refresh"] == "2"
            assert "is being made" in answer.text
            assert client.get("/functions.json").status_code == 503
            go.set()
            while client.get("/").status_code == 202:
                pass
            assert client.get("/").status_code == 200


def test_what_comes_with_the_package_is_small() -> None:
    import zlib

    place = Path(render.__file__).parent
    files = [path for path in place.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {"ui.css", "ui.js", "today.html"} <= {path.name for path in files}
    assert sum(len(zlib.compress(path.read_bytes(), 6)) for path in files) < 200_000
    for path in files:
        if path.suffix in (".html", ".js", ".css", ".svg"):
            text = path.read_text().replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text, path
            assert "https://" not in text, path


def test_state_is_paged(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep_pages, "PAGE", 10)
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        wellkept.store("many", cache=cache).update({f"{i:03}": i for i in range(25)})
        keys, after = [], ""
        while True:
            page = client.json("state", store="many", after=after)
            keys += [one["key"] for one in page["entries"]]
            after = page["after"]
            if not after:
                break
        assert keys == [f"{i:03}" for i in range(25)]


def test_disk_says_what_freeing_costs(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        for name, size in (("small", 1000), ("large", 400_000)):
            keep(cache=cache, name=f"lab:{name}", version=1)(lambda size: b"x" * size)(size)
        found = client.json("disk", free="300 kB")
        assert [one["name"] for one in found["tiles"]] == ["lab:large", "lab:small"]
        plan = found["plan"]
        assert 299_000 < plan["bytes"] <= 300_001
        assert plan["functions"][0]["function"] == "lab:large"
        assert plan["command"] == "wellkept evict --free 300000B"
        assert found["line"][-1]["bytes"] == found["results"]
        assert client.get("/disk", free="a lot").status_code == 400


def test_health_says_what_the_doctor_says(client: Client) -> None:
    names = {one["name"]: one["state"] for one in client.json("health")["checks"]}
    assert names["schema"] == names["damage"] == names["answers"] == "ok"
    assert {"space", "file system", "leases", "versions"} <= set(names)


def test_every_byte_is_checked_when_it_is_asked_for(home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache:
        site = Site(cache)
        assert upkeep_pages.well(site, {})["verified"] is None
        site.verify()
        assert site.verified is not None
        assert site.verified.get(60) is not None
        assert upkeep_pages.well(site, {})["verified"][0]["state"] == "ok"


@places.every
def test_every_place_has_its_pages(kind: str) -> None:
    with filled(places.new(kind, memory=0)) as cache, served(cache) as client:
        for screen in SCREENS:
            assert client.get(f"/{screen}").status_code == 200, screen
            client.json(screen or "index")
        found = client.json("function", name="lab.train:fit")
        assert found["total"] == 8
        client.json("call", key=found["calls"][0]["key"])
        assert client.json("disk", free="1 kB")["plan"]["calls"] >= 1


@pytest.fixture(scope="module")
def anywhere() -> Iterator[Anywhere]:
    """A server of caches, over http."""
    made = Anywhere()
    yield made
    made.close()


@pytest.mark.parametrize(
    "kind",
    [
        *("redis", "http"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("postgresql", "s3")),
    ],
)
def test_caches_on_servers_have_their_pages(
    kind: str, request: pytest.FixtureRequest, home: Path
) -> None:
    with filled_calls(opened(request, kind, home)) as cache, served(cache) as client:
        key = client.json("function", name="lab:square")["calls"][0]["key"]
        for path in (*(f"/{screen}" for screen in SCREENS), f"/call?key={key}", "/call?key=0000"):
            answer = client.get(path)
            assert answer.status_code == (404 if path.endswith("0000") else 200), path
            assert services.PASSWORD not in answer.text, path
        found = client.json("function", name="lab:square")
        assert found["total"] == 3
        shown = client.json("call", key=found["calls"][0]["key"])["preview"]
        assert shown.get("text") in ("[0]", "[1]", "[4]"), shown


def filled_calls(cache: wellkept.Cache) -> wellkept.Cache:
    """A cache with a few calls in a run."""
    square = keep(cache=cache, name="lab:square", version=1)(lambda x: [x * x])
    with wellkept.run("some", cache=cache):
        for x in range(3):
            square(x)
    return cache


def test_an_empty_cache_says_what_to_do(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        for screen in SCREENS:
            assert client.get(f"/{screen}").status_code == 200
        assert "from wellkept import keep" in client.get("/").text
        assert "wellkept.run(" in client.get("/runs").text
        assert "wellkept.store(" in client.get("/state").text


def test_pages_as_files(home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache:
        count = write(Site(cache), home / "out")
    files = {path.name for path in (home / "out").iterdir()}
    assert {"index.html", "index.json", "functions.html", "ui.css", "health.json"} <= files
    assert sum(name.endswith(".html") for name in files) == count
    for name in files:
        if name.endswith(".html"):
            text = (home / "out" / name).read_text()
            for tag, said in Markup(text).tags:
                for key in ("href", "src"):
                    link = said.get(key)
                    assert link is None or link.startswith("#") or link in files, (name, tag, link)
                assert tag not in ("form", "script"), name
            assert str(json.loads((home / "out" / name.replace(".html", ".json")).read_text()))


def test_changes_are_told_while_somebody_listens(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_BEAT", 0.05)
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        square = keep(cache=cache, name="lab:square", version=1)(lambda x: x * x)
        with client.http.stream("GET", "/events") as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            for x in itertools.count():
                square(x)
                if next(lines).startswith("data:"):
                    break
        # The one who listened is gone, in the midst of an answer; others are answered.
        assert client.get("/live").status_code == 200


def test_a_client_that_vanishes(client: Client) -> None:
    port = int(client.base.rpartition(":")[2])
    for sent in (
        b"",
        b"GET / HTT",
        b"POST /disk HTTP/1.1\r\nhost: localhost\r\ncontent-length: 99\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), 30) as gone:
            gone.sendall(sent)
    assert client.get("/").status_code == 200


def test_a_page_that_fails_says_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:

        def broken(*_: object) -> None:
            raise wellkept.StoreError("the store <b>is gone</b>")

        monkeypatch.setattr(cache.backend, "find", broken)
        answer = client.get("/function")
        assert answer.status_code == 503
        assert "the store &lt;b&gt;is gone&lt;/b&gt;" in answer.text
        assert "wellkept doctor" in answer.text
        assert client.get("/function.json").json() == {"error": "the store <b>is gone</b>"}
        monkeypatch.setattr(cache.backend, "find", lambda query: 1 / 0)
        assert client.get("/function").status_code == 500


def test_costs_beside_time_are_shown(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        ask = keep(cache=cache, name="lab:ask", version=1, cost={"EUR": lambda result: 0.5})(
            lambda q: q
        )
        with wellkept.run("asked", cache=cache):
            ask("a"), ask("a")
        assert client.json("index")["saved"]["costs"]["EUR"]["saved"] == 0.5
        assert "EUR saved" in client.get("/").text
        (run,) = client.json("runs")["runs"]
        assert client.json("run", id=run["id"])["costs"]["EUR"]["spent"] == 0.5


RESULTS: list[tuple[str, Any, str, str]] = [
    ("pickle", {"a": [1, 2.5, None, True]}, "text", "{'a': [1, 2.5, None, True]}"),
    ("pickle", "täxt", "text", "täxt"),
    ("pickle", np.arange(6.0).reshape(2, 3), "table", "3 4 5"),
    ("pickle", np.arange(200_000), "table", "0"),
    ("pickle", np.float64(2.5), "text", "2.5"),
    ("npy", np.arange(4, dtype="<i4"), "table", "3"),
    ("json", [{"n": 1}, {"n": 2}], "table", "1"),
    ("json", {"n": "<b>"}, "text", "<b>"),
    ("pickle", b"\x89PNG\r\n\x1a\n" + bytes(100), "image", ""),
    ("pickle", b"plain bytes", "text", "b'plain bytes'"),
    ("arrow", pd.DataFrame({"n": [1, 2], "s": ["x", "y"]}), "table", "1 x"),
]


@pytest.mark.parametrize(("codec", "value", "kind", "part"), RESULTS, ids=itertools.count())
def test_what_is_seen_of_a_result(codec: Any, value: Any, kind: str, part: str) -> None:
    with places.new("embedded", memory=0) as cache:
        made = keep(cache=cache, name="lab:made", version=1, codec=codec)(lambda: value)
        made()
        shown = preview.preview(cache, made.call())
        assert (shown["kind"], shown["codec"]) == (kind, codec)
        said = shown.get("text", "") + " ".join(" ".join(row[-3:]) for row in shown.get("rows", ()))
        assert part in said
        assert (preview.image(cache, made.call()) is not None) == (kind == "image")


def test_an_exception_and_a_generator_are_seen() -> None:
    with places.new("embedded", memory=0) as cache:
        fails = keep(cache=cache, name="lab:fails", version=1, errors=ValueError)(_fails)
        with pytest.raises(ValueError, match="no"):
            fails()
        assert "ValueError('no')" in preview.preview(cache, fails.call())["text"]


def _fails() -> None:
    raise ValueError("no")


def made_of(how: str, home: Path) -> wellkept.Cache:
    near, far = (
        wellkept.open(home / "near", memory=0),
        wellkept.open(f"files:{home / 'far'}", memory=0),
    )
    if how == "void":
        return wellkept.open("void:")
    if how == "stack":
        return filled(wellkept.Stack(near, far))
    filled(near)
    return {
        "pool": lambda: wellkept.Pool(near, far),
        "readonly": near.readonly,
        "filtered": lambda: near.filtered(lambda call: call.function != "lab.bad:fails"),
        "limited": lambda: near.limited(calls=1000),
    }[how]()


@pytest.mark.parametrize("how", ["stack", "pool", "readonly", "filtered", "limited", "void"])
def test_caches_that_are_made_of_others_have_their_pages(how: str, home: Path) -> None:
    with made_of(how, home) as cache, served(cache, write=True) as client:
        for screen in SCREENS:
            answer = client.get(f"/{screen}")
            assert answer.status_code == 200, (screen, answer.text[-800:])
        if how != "void":
            found = client.json("function", name="lab.train:fit")
            assert found["total"] == 8
            assert [one["code"] for one in found["versions"]] == ["version:2", "version:1"]
            assert client.get("/call", key=found["calls"][0]["key"]).status_code == 200
        (plan,) = [client.json("disk", free="1 kB")]
        assert plan["write"] == (how not in ("pool", "readonly"))


def test_who_waits_for_whom(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        wait = home / "c" / "tmp" / f"{part_name()}.wait"
        wait.parent.mkdir(exist_ok=True)
        wait.write_text(json.dumps({"holds": ["a" * 64], "waits": "b" * 64}))
        (home / "c" / "tmp" / "damaged.wait").write_text("{")
        (found,) = client.json("live")["waits"]
        assert (found["pid"], found["holds"], found["waits"]) == (
            str(os.getpid()),
            ["a" * 64],
            "b" * 64,
        )
        assert f"Process {os.getpid()} waits for" in client.get("/live").text


def test_a_cache_that_is_removed_meanwhile(home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache, served(cache) as client:
        assert client.json("index")["calls"] == 11
        shutil.rmtree(home / "c")
        ends = time.monotonic() + 60
        # Within a second of the removal an answer may say that the place is gone.
        while client.get("/function.json").json().get("total", 1):
            assert time.monotonic() < ends, "what was removed is still shown"
        assert client.get("/").status_code == 200
