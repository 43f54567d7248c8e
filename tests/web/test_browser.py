"""The pages in a real Chromium: nothing overflows or overlaps, nothing is told on the console, everything is
reached by keys and named for those who hear it, and all of it is there without scripts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import services
from tests.web.browser import Browser, axe, program
from tests.web.sites import HOSTILE, Client, address, filled, served

import wellkept
from wellkept import keep
from wellkept.web.export import write
from wellkept.web.site import Site

pytestmark = pytest.mark.long

SCREENS = ["/", "/functions", "/runs", "/live", "/disk?free=1+kB", "/lineage", "/state", "/health"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if program() is None:
        if services._REQUIRED:
            pytest.fail("no Chromium is here: scripts/install-services")
        pytest.skip("no Chromium is here: scripts/install-services")
    with Browser() as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Browser:
    """The browser as it is at first."""
    browser.scripts(True)
    browser.scheme("light")
    browser.size(1280)
    browser.errors.clear()
    return browser


def places_of(client: Client, name: str) -> list[str]:
    """Each kind of page of a cache."""
    (call, *_) = client.json("function", name=name)["calls"]
    now, before, *_ = client.json("runs")["runs"]
    (store, *_) = client.json("state")["stores"]
    return [
        *SCREENS,
        address("function", name=name),
        address("call", key=call["key"]),
        address("lineage", of=call["key"]),
        address("run", id=now["id"]),
        address("compare", id=now["id"], **{"with": before["id"]}),
        address("state", store=store["store"], scope=store["scope"]),
        "/nowhere",
    ]


OVERFLOW = """
(() => {
  const wide = document.documentElement.scrollWidth, room = document.documentElement.clientWidth;
  const inside = ".scroll, .graph, pre, .cmd code, figure, .cache, .data td, .tag, .skip";
  const out = [...document.querySelectorAll("body *")].filter((one) => {
    if (one.closest(inside)) return false;
    const box = one.getBoundingClientRect();
    return box.width > 0 && (box.right > room + 1 || box.left < -1);
  });
  return { wide, room, out: out.slice(0, 5).map((one) => one.outerHTML.slice(0, 200)) };
})()
"""

OVERLAP = """
(() => {
  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || !parent) continue;
    if (parent.closest("title, .skip, script, details:not([open]) > :not(summary)")) continue;
    range.selectNodeContents(node);
    for (const box of range.getClientRects()) {
      let clip = { left: box.left, right: box.right, top: box.top, bottom: box.bottom };
      for (let up = parent; up; up = up.parentElement) {
        if (getComputedStyle(up).overflowX === "visible") continue;
        const frame = up.getBoundingClientRect();
        clip = { left: Math.max(clip.left, frame.left), right: Math.min(clip.right, frame.right),
                 top: Math.max(clip.top, frame.top), bottom: Math.min(clip.bottom, frame.bottom) };
      }
      const seen = clip.right - clip.left > 2 && clip.bottom - clip.top > 2;
      if (seen) boxes.push([clip, parent, node.data.trim().slice(0, 60)]);
    }
  }
  const found = [];
  for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length && found.length < 5; j++) {
    const [a, p, s] = boxes[i], [b, q, t] = boxes[j];
    if (p === q || p.contains(q) || q.contains(p)) continue;
    const x = Math.min(a.right, b.right) - Math.max(a.left, b.left);
    const y = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
    if (x > 3 && y > 4) found.push([s, t, x, y]);
  }
  return found;
})()
"""


def check_layout(browser: Browser, where: str) -> None:
    """Nothing is wider than the page, and no text lies on another."""
    found = browser.run(OVERFLOW)
    assert found["wide"] <= found["room"], (where, found)
    assert not found["out"], (where, found["out"])
    assert browser.run(OVERLAP) == [], where


@pytest.mark.parametrize("width", [400, 1280, 1920])
def test_every_page_fits(page: Browser, client: Client, width: int) -> None:
    page.size(width)
    page.open(client.url)
    for path in places_of(client, "lab.train:fit"):
        page.open(client.base + path)
        check_layout(page, f"{path} at {width}")
    assert [one for one in page.errors if "404" not in one] == []


@pytest.mark.parametrize("width", [400, 1280])
def test_long_names_and_other_directions_fit(page: Browser, attacked: Client, width: int) -> None:
    page.size(width)
    page.open(attacked.url)
    names = [
        f"lab:{text}"
        for text in HOSTILE
        if "a" * 600 in text or "مرحبا" in text or "script" in text
    ]
    assert len(names) >= 3
    for path in [
        *SCREENS,
        *(place for name in names[:3] for place in places_of(attacked, name)[8:11]),
    ]:
        page.open(attacked.base + path)
        check_layout(page, f"{path} at {width}")
    assert page.errors == []


AXE = """
axe.run(document, {
  resultTypes: ["violations"],
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
}).then((found) => found.violations.map((one) => [
  one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + node.failureSummary.slice(0, 200)),
]))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_heard_and_read(page: Browser, client: Client, scheme: str) -> None:
    page.scheme(scheme)
    page.open(client.url)
    script = axe()
    for path in places_of(client, "lab.train:fit"):
        page.open(client.base + path)
        page.run(script + "; 0")
        assert page.run(AXE) == [], (path, scheme)


def test_everything_is_reached_by_keys(page: Browser, client: Client) -> None:
    page.open(client.url)
    page.key("Tab")
    assert page.run("document.activeElement.textContent") == "To the content"
    assert page.run("document.activeElement.getBoundingClientRect().left >= 0"), "it is seen then"
    page.key("Enter")
    assert page.run("document.activeElement.id") == "main"
    page.run("document.querySelector('summary').focus()")
    before = page.run("document.querySelector('details').open")
    page.key("Enter")
    assert page.run("document.querySelector('details').open") != before
    page.run("document.querySelector('nav a').focus()")
    seen = []
    for _ in range(8):
        seen.append(page.run("document.activeElement.textContent"))
        page.key("Tab")
    assert seen == ["Today", "Functions", "Runs", "Live", "Disk", "Lineage", "State", "Health"]
    ring = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.run(ring) != "none", "who goes by keys sees where"


def test_without_scripts(page: Browser, client: Client) -> None:
    page.open(client.url)
    page.scripts(False)
    for path in places_of(client, "lab.train:fit")[:-1]:
        page.open(client.base + path)
        assert page.run("document.querySelector('h1').textContent.trim().length") > 0, path
        check_layout(page, path)
    page.open(f"{client.base}/disk")
    page.run(
        "document.querySelector('input[name=free]').value = '1 kB'; document.querySelector('form').submit()"
    )
    page._until("Page.loadEventFired")
    assert "wellkept evict --free 1000B" in page.run("document.querySelector('#plan').textContent")
    assert page.errors == []


def test_the_policy_of_the_page_stops_what_gets_in(page: Browser, client: Client) -> None:
    page.open(client.url)
    page.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">"
        "<script>window.hit = 2</script>'); const s = document.createElement('script'); "
        "s.textContent = 'window.hit = 3'; document.body.append(s); "
        "fetch('http://127.0.0.1:9/').catch(() => 0)"
    )
    assert page.run("window.hit === undefined")
    assert any("Content Security Policy" in one for one in page.errors)


def until(page: Browser, script: str) -> Any:
    """What a script gives as soon as that is something."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if found := page.run(script):
            return found
        page.run("new Promise((done) => setTimeout(done, 50))")
    raise AssertionError(script)


def test_what_happens_is_seen_without_reloading(page: Browser, home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache, served(cache) as client:
        square = keep(cache=cache, name="lab:square", version=1)(lambda x: x * x)
        square(1)
        page.open(client.url)
        page.open(f"{client.base}/live")
        until(
            page,
            "performance.getEntriesByType('resource').some((one) => one.name.endsWith('/events')) || 1",
        )
        with wellkept.run("going on", cache=cache):
            ends = time.monotonic() + 60
            while "going on" not in page.run("document.querySelector('main').textContent"):
                assert time.monotonic() < ends
                square(time.monotonic())
                page.run("new Promise((done) => setTimeout(done, 200))")
        assert page.errors == []


def test_the_slider_says_what_freeing_costs(page: Browser, client: Client) -> None:
    page.open(client.url)
    page.open(f"{client.base}/disk")
    page.run(
        "const range = document.querySelector('input[type=range]'); range.value = 500; "
        "range.dispatchEvent(new Event('input'))"
    )
    assert "would go" in until(page, "document.querySelector('#plan').textContent.trim()")
    assert page.run("document.querySelector('input[name=free]').value").endswith("B")
    assert page.errors == []


def test_a_graph_is_panned_and_zoomed(page: Browser, client: Client) -> None:
    (call, *_) = client.json("function", name="lab.train:fit")["calls"]
    page.open(client.url)
    page.open(client.base + address("lineage", of=call["key"]))
    view = "document.querySelector('[data-pan] svg').getAttribute('viewBox')"
    before = page.run(view)
    page.run("document.querySelector('[data-pan]').focus()")
    page.key("+")
    assert float(page.run(view).split()[2]) < float(before.split()[2])
    page.key("0")
    assert page.run(view).split() == before.split()


def test_files_are_pages_too(page: Browser, home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache:
        write(Site(cache), home / "out")
    page.open((home / "out" / "index.html").as_uri())
    check_layout(page, "index.html")
    page.run("document.querySelector('nav a[href^=functions]').click()")
    page._until("Page.loadEventFired")
    assert page.run("document.title").startswith("Functions")
    assert page.errors == []


def test_a_notebook_shows_it_in_a_frame(page: Browser, home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache:
        shown = wellkept.ui(cache)
        (home / "notebook.html").write_text(shown._repr_html_())
        page.open((home / "notebook.html").as_uri())
        ends = time.monotonic() + 60
        while shown.url not in (found := json.dumps(page.call("Target.getTargets"))):
            frames = page.call("Page.getFrameTree")["frameTree"].get("childFrames", [])
            if any(one["frame"]["url"] == shown.url for one in frames):
                break
            assert time.monotonic() < ends, found
        page.open(shown.url)
        assert "lab.train:fit" in page.run("document.querySelector('main').textContent")
        page.run("document.querySelector('nav a[href$=runs]').click()")
        page._until("Page.loadEventFired")
        assert "tuesday" in page.run("document.querySelector('main').textContent"), (
            "and so do its links"
        )
        shown.close()
        assert json.dumps(page.errors) == "[]"
