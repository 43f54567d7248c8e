"""The site: every link leads somewhere, nothing is fetched from elsewhere, each page is Markdown too."""

from __future__ import annotations

import re
import sys
import zlib
from pathlib import Path

import pytest
from tests import services

import wellkept

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import docs_nav  # noqa: E402 - it lies beside the tests, not among the packages
import docs_site  # noqa: E402


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built of the pages as they are."""
    if not services._REQUIRED:
        pytest.importorskip("zensical", reason="pip install --group docs")
    made = tmp_path_factory.mktemp("made")
    assert docs_site.build(made) == []
    return made / "site"


def test_the_lists_of_the_home_page_are_the_navigation() -> None:
    home = "# x\n\n[no](no.md)\n\n## A\n\n- [One](a/one.md): about\n  it\n- text, [two](a/two.md#x)\n\n"
    home += "### B\n\n- [Three](b/three.md)\n\n## C\n\n- [Four](c.md), [One](a/one.md)\n"
    found = list(docs_nav.entries(home))
    assert [(entry.page, entry.about) for entry in found] == [
        ("a/one.md", "about it"), ("b/three.md", ""), ("c.md", ""),
    ]  # fmt: skip
    assert docs_nav.navigation(found) == [
        "index.md",
        {"A": [{"One": "a/one.md"}, {"B": [{"Three": "b/three.md"}]}]},
        {"C": [{"Four": "c.md"}]},
    ]


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="none.html">', "there is no none.html"),
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


def test_a_style_that_is_fetched_from_elsewhere_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("a{background:url(x.png)} @import 'https://example.com/x.css'")
    assert len(list(docs_site.faults(tmp_path))) == 1


def test_every_page_is_markdown_beside_its_html(site: Path) -> None:
    pages = {page.relative_to(site) for page in site.rglob("*.html")} - {Path("404.html")}
    assert len(pages) > 50
    said = (site / "llms.txt").read_text()
    for page in pages:
        beside = (site / page).with_suffix(".md")
        assert beside.read_text().startswith("# "), page
        assert page.name == "index.html" or f"]({page.with_suffix('.md').as_posix()})" in said


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
    for path in (site / "reference/api").glob("*.md"):
        assert not re.search(r"^(Args|Raises|Returns|Attributes):$", path.read_text(), re.M), path
