"""The site: every link leads somewhere, nothing is fetched from elsewhere, each page is Markdown too."""

from __future__ import annotations

import functools
import json
import re
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests import services
from tests.thorough import some
from tests.web.browser import Browser, axe, program

import wellkept

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import docs_nav  # noqa: E402 - it lies beside the tests, not among the packages
import docs_site  # noqa: E402


# `make docs` builds it too, which takes some seconds: who asks for it is a long test.
@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built of the pages as they are."""
    if not services._REQUIRED:
        pytest.importorskip("zensical", reason="pip install --group docs")
    made = tmp_path_factory.mktemp("made")
    assert docs_site.build(made) == []
    return made / "site"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if program() is None:
        if services._REQUIRED:
            pytest.fail("no Chromium is here: scripts/install-services")
        pytest.skip("no Chromium is here: scripts/install-services")
    with Browser() as found:
        yield found


def test_the_lists_of_the_home_page_are_the_navigation() -> None:
    home = "# x\n\n[no](no.md)\n\n## A\n\n- [One](a/one.md): about\n  it\n- text, [two](a/two.md#x)\n\n"
    home += "### B\n\n- [Three](b/three.md)\n\n## C\n\n- [Four](c.md), [One](a/one.md)\n"
    found = list(docs_nav.entries(home))
    assert [(entry.page, entry.about) for entry in found] == [
        ("a/one.md", "about it"), ("b/three.md", ""), ("c.md", ""),
    ]  # fmt: skip
    assert docs_nav.navigation(found) == [
        {"Home": "index.md"},
        {"A": [{"One": "a/one.md"}, {"B": [{"Three": "b/three.md"}]}]},
        {"C": [{"Four": "c.md"}]},
    ]


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="none.html">', "there is no none.html"),
        ("<code>f(dataset_>", "the code of a heading is cut off"),
        ('<a href="b.html#none">', "b.html has no #none"),
        ('<a href="#none">', "a.html has no #none"),
        ('<a href="/none">', "there is no /none"),
        ('<img src="none.png">', "there is no none.png"),
        ('<img src="https://example.com/x.png">', "loads https://example.com/x.png from elsewhere"),
        ('<link rel="stylesheet" href="//example.com/x.css">', "from elsewhere"),
        ('<script src="http://example.com/x.js"></script>', "from elsewhere"),
    ],
)
def test_what_leads_nowhere_is_a_fault(tmp_path: Path, html: str, said: str) -> None:
    (tmp_path / "b.html").write_text('<h1 id="here">x</h1>')
    (tmp_path / "a.html").write_text('<a href="b.html#here"><a href="https://example.com/">')
    assert list(docs_site.faults(tmp_path)) == []
    (tmp_path / "a.html").write_text(html)
    (found,) = docs_site.faults(tmp_path)
    assert found.startswith("a.html: ")
    assert said in found


def test_the_page_for_errors_links_from_the_root_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "404.html").write_text('<a href="/docs/404.html"><a href="/404.html">')
    assert list(docs_site.faults(tmp_path, "/docs/")) == []
    assert len(list(docs_site.faults(tmp_path))) == 1


def test_a_style_that_is_fetched_from_elsewhere_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("a{background:url(x.png)} @import 'https://example.com/x.css'")
    assert len(list(docs_site.faults(tmp_path))) == 1


@pytest.mark.long
def test_every_page_is_markdown_beside_its_html(site: Path) -> None:
    pages = {page.relative_to(site) for page in site.rglob("*.html")} - {Path("404.html")}
    assert len(pages) > 50
    said = (site / "llms.txt").read_text()
    for page in pages:
        beside = (site / page).with_suffix(".md")
        assert f'type="text/markdown" href="{beside.name}"' in (site / page).read_text()
        assert beside.read_text().startswith("# "), page
        # Escaped for those who read the Markdown, and not for those who read the page.
        assert not re.search(r"<code>[^<]*\\\|", (site / page).read_text()), page
        assert page.name == "index.html" or f"]({page.with_suffix('.md').as_posix()})" in said


@pytest.mark.long
def test_every_public_name_can_be_linked_from_other_sites(site: Path) -> None:
    head, _, body = (site / "objects.inv").read_bytes().partition(b"using zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2\n# Project: wellkept\n# Version: ")
    places = {}
    for line in zlib.decompress(body).decode().splitlines():
        name, role, priority, uri, shown = line.split(" ")
        assert role.startswith("py:")
        assert (priority, shown) == ("1", "-")
        places[name] = uri.replace("$", name)
    pages: dict[str, docs_site.Links] = {}
    for name, uri in places.items():
        page, _, anchor = uri.partition("#")
        if page not in pages:
            pages[page] = docs_site.Links((site / page).read_text())
        assert anchor in pages[page].anchors, name
    public = set(wellkept.__all__) - {"kv", "__version__"}
    assert {f"wellkept.{name}" for name in public} <= places.keys()
    assert {f"wellkept.kv.{name}" for name in wellkept.kv.__all__} <= places.keys()
    assert {"wellkept.Cache.load", "wellkept.caches.cache.Cache.load"} <= places.keys()


@pytest.mark.long
def test_the_reference_has_signatures_types_and_links(site: Path) -> None:
    page = (site / "reference/api/caches.md").read_text()
    load = page[page.index("### `Cache.load` {#wellkept.Cache.load}") :].partition("###")[2]
    assert "Cache.load(digest: str) -> Any" in load
    assert "- [`NotKept`](errors.md#wellkept.NotKept): no such value." in load
    keep = (site / "reference/api/memo.md").read_text()
    assert (
        "- **`cache`** ([`Cache`](caches.md#wellkept.Cache) `| str | os.PathLike[str] | None`"
        in keep
    )
    assert "](api/memo.md#wellkept.keep)" in (site / "reference/api.md").read_text()
    # It has the name of a class that the reference describes, and is another one.
    diskcache = (site / "reference/api/diskcache.md").read_text()
    assert "{#wellkept.integrations.diskcache.Cache.incr}" in diskcache
    for path in (site / "reference/api").glob("*.md"):
        assert not re.search(r"^(Args|Raises|Returns|Attributes):$", path.read_text(), re.M), path


# What readers type, and the pages that answer it.
SOUGHT = {
    "memoize": ["index", "reference/api", "how-to/coming-from-lru-cache"],
    "memoization": ["index"],
    "invalidate": ["tutorial/first-steps", "how-to/expire-and-refresh"],
    "clear": ["how-to/keep-it-small"],
    "delete": ["how-to/keep-it-small"],
    "jupyter": ["how-to/notebooks"],
    "notebook": ["how-to/notebooks"],
    "github actions": ["how-to/github-actions"],
    "docker": ["how-to/docker"],
    "slurm": ["how-to/slurm"],
    "fastapi": ["how-to/fastapi"],
    "dask": ["how-to/dask"],
    "windows": ["how-to/windows-and-macos", "how-to/install"],
    "install": ["how-to/install"],
    "django": ["how-to/django"],
    "zarr": ["how-to/zarr-xarray-dask"],
    "diskcache": ["how-to/coming-from-diskcache"],
    "joblib": ["how-to/coming-from-joblib"],
    "lru_cache": ["how-to/coming-from-lru-cache"],
    "streamlit": ["how-to/coming-from-streamlit"],
    "torch": ["how-to/scikit-learn-torch-hugging-face"],
    "expire": ["how-to/expire-and-refresh"],
    "ttl": ["how-to/expire-and-refresh"],
    "async": ["how-to/use-in-async-code"],
    "pytest": ["how-to/test-code-that-keeps"],
    "embeddings": ["how-to/functions-of-many-items"],
    "llm": ["how-to/calls-that-cost-money"],
    "langgraph": ["how-to/key-value-stores"],
    "multiprocessing": ["how-to/share-work-between-processes"],
    "tqdm": ["how-to/run-on-executors"],
    "s3": ["reference/stores/objects"],
    "redis": ["reference/stores/redis"],
    "postgresql": ["reference/stores/sql"],
    "sqlite": ["reference/stores/sqlite"],
    "ssh": ["reference/stores/ssh", "how-to/share-over-ssh"],
    "export": ["how-to/export-results"],
    "csv": ["how-to/export-results"],
    "locks": ["how-to/locks-and-queues"],
    "numpy": ["reference/codecs"],
    "pandas": ["reference/codecs"],
    "hash": ["reference/digest-spec"],
    "mypy": ["reference/api"],
    "license": ["how-to/install"],
    "security": ["explanation/why-another-cache"],
    "disable cache": ["how-to/expire-and-refresh"],
    "force recompute": ["how-to/expire-and-refresh"],
    "benchmark": ["explanation/benchmarks"],
    "poisoning": ["how-to/github-actions"],
}

# The site's own search, by the messages that its page sends to its worker.
SEARCH = """
(async () => {
  const index = await (await fetch("search.json")).json()
  const page = await (await fetch("index.html")).text()
  const worker = new Worker(page.match(/"search": *"([^"]+)"/)[1])
  const ask = (message) => new Promise((told, failed) => {
    worker.onmessage = (event) => told(event.data)
    worker.onerror = failed
    worker.postMessage(message)
  })
  await ask({ type: 0, data: index })
  const found = {}
  for (const input of %s) {
    const { data } = await ask({ type: 2, data: { input } })
    found[input] = data.items.map((item) => index.items[item.id].location)
  }
  worker.terminate()
  return found
})()
"""


@pytest.mark.long
def test_search_finds_what_readers_type(served: str, browser: Browser) -> None:
    browser.open(served + "index.html")
    found = browser.run(SEARCH % json.dumps(list(SOUGHT)))
    first = {word: next(iter(places), "").partition(".html")[0] for word, places in found.items()}
    assert {word: page for word, page in first.items() if page not in SOUGHT[word]} == {}


AXE = """
axe.run(document, {
  resultTypes: ["violations"],
  runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"],
}).then((found) => found.violations.map((one) => [
  one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 160) + node.failureSummary.slice(0, 200)),
]))
"""
# One page of each kind.
LOOKED_AT = [
    "index", "tutorial/examples", "how-to/look-at-a-cache", "how-to/notebooks", "explanation/architecture",
    "explanation/benchmarks", "reference/api", "reference/api/records", "reference/cli", "reference/kv",
]  # fmt: skip


# Each page takes seconds of a processor, which others may use too.
@pytest.mark.timeout(600)
@pytest.mark.long
@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
def test_pages_are_read_on_every_screen(
    served: str, browser: Browser, width: int, scheme: str
) -> None:
    browser.size(width)
    browser.scheme(scheme)
    script = axe()
    browser.open(f"{served}index.html")
    # The theme remembers the scheme that was chosen first.
    browser.run("localStorage.clear()")
    for page in some(LOOKED_AT, 5):
        browser.open(f"{served}{page}.html")
        assert browser.run("document.body.dataset.mdColorScheme") == (
            "slate" if scheme == "dark" else "default"
        )
        assert browser.run("document.documentElement.scrollWidth - innerWidth") <= 0, page
        loaded = browser.run("performance.getEntriesByType('resource').map((one) => one.name)")
        assert [url for url in loaded if not url.startswith((served, "data:"))] == [], page
        browser.run(script + "; 0")
        assert browser.run(AXE) == [], page
    assert browser.errors == []
