#!/usr/bin/env python3
"""Build the site of the documentation, into site/ or the directory that is given.

What it holds beside the pages of docs/: the reference of all public names, from their docstrings; each
page's Markdown beside it, and llms.txt, which lists them. A link that leads nowhere, or anything that a
reader's browser would fetch from elsewhere, ends it with exit code 1.
"""

from __future__ import annotations

import json
import posixpath
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

sys.path.insert(0, str(Path(__file__).parent))
from docs_api import FOLDER, Reference
from docs_nav import HOME, Entry, entries, navigation

ROOT = Path(__file__).resolve().parents[1]
ICONS = {"Repository": "material/source-repository", "Releases": "material/package-variant"}
ABOUT = "A persistent cache for Python functions"
BENCHMARKS, TABLE = "explanation/benchmarks.md", "<!-- the table of benchmarks/README.md -->"
# What a browser loads by itself, by the attribute that says from where.
_LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
_RELATIONS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch"}


class Links(HTMLParser):
    """What a page can be linked at, what it links, and what a browser loads for it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.unclosed = html.count("<code>") != html.count("</code>")
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        target = given.get(_LOADED.get(tag, ""), "")
        if target and (tag != "link" or _RELATIONS & set(given.get("rel", "").split())):
            self.loaded.append(target)


def faults(site: Path, root: str = "/") -> Iterator[str]:
    """Give the links of a built site that lead nowhere, and what its pages load from elsewhere.

    Args:
        site: its directory.
        root: the path under which it is served, which links of the page for errors begin with.
    """
    pages = {
        path.relative_to(site).as_posix(): Links(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    for page, found in pages.items():
        # So it is where the generator takes `id=` in a heading for an attribute, and cuts it out.
        if found.unclosed:
            yield f"{page}: the code of a heading is cut off"
        for link in found.links + found.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in found.loaded and parts.scheme != "data":
                    yield f"{page}: loads {link} from elsewhere"
                continue
            path = re.sub(f"^{re.escape(root)}", "/", unquote(parts.path))
            base = page if path else ""
            target = posixpath.normpath(posixpath.join("/", posixpath.dirname(base), path))[1:]
            target = target if path else page
            if (site / target).is_dir():
                target = posixpath.join(target, "index.html").lstrip("./")
            if not (site / target).is_file():
                yield f"{page}: there is no {link}"
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors | {""}:
                yield f"{page}: {target} has no #{parts.fragment}"
    for path in sorted(site.rglob("*.css")):
        for url in re.findall(
            r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')]+", path.read_text()
        ):
            yield f"{path.relative_to(site)}: loads {url} from elsewhere"


def summary(page: str) -> str:
    """Return the first sentence of a page's text, without its marks."""
    for part in re.split(r"\n\s*\n", re.sub(r"^(```|~~~).*?^\1", "", page, flags=re.S | re.M)):
        text = " ".join(part.split())
        if text and not text.startswith(("#", "|", "<", "!", "- ", "[^")):
            text = re.sub(r"\[([^\]]+)\]\([^)]*\)|[`*]", lambda found: found[1] or "", text)
            return re.split(r"(?<=[.!?]) (?=[A-Z`])|:$", text)[0]
    return ""


def described(text: str) -> str:
    """Return a page as the generator reads it: with the description that search engines show.

    A `|` in the code of a table is escaped for those who read the page as it is, and here it must not be.
    """
    heading = text.partition("\n")[0].lstrip("# ").replace("`", "")
    # The title of a window, and of what search engines find; the navigation has shorter ones.
    title = json.dumps(heading if heading != "wellkept" else ABOUT, ensure_ascii=False)
    about = json.dumps(summary(text), ensure_ascii=False)
    rows = re.sub(r"^\|.*", lambda row: re.sub(r"`[^`]*`", _unescaped, row[0]), text, flags=re.M)
    return f"---\ntitle: {title}\ndescription: {about}\n---\n\n{rows}"


def _unescaped(code: re.Match[str]) -> str:
    return code[0].replace("\\|", "|")


def llms(listed: list[Entry], about: str) -> str:
    """Return llms.txt: every page's Markdown, by title, in the sections of the home page."""
    lines, heading = [f"# wellkept\n\n> {about}"], ""
    for entry in listed:
        if entry.headings[0] != heading:
            heading = entry.headings[0]
            lines.append(f"\n## {heading}\n")
        lines.append(f"- [{entry.title}]({entry.page}){': ' * bool(entry.about)}{entry.about}")
    return "\n".join(lines) + "\n"


def referenced(docs: Path, sources: dict[str, str], listed: list[Entry]) -> list[Entry]:
    """Add the reference that is made of docstrings to the pages; return the list with it.

    What the other pages of the reference say stays, and leads to the signatures of what it is about.
    """
    api = Reference(ROOT / "src", sources)
    places = {
        page: {
            dotted: f"{posixpath.relpath(FOLDER, posixpath.dirname(page))}/{place}"
            for dotted, place in api.places.items()
        }
        for page in sources
        if page.startswith("reference/")
    }
    for page, found in places.items():

        def led(heading: re.Match[str], found: dict[str, str] = found) -> str:
            names = re.findall(r"`(?:wellkept\.)?([A-Za-z_][\w.]*)", heading[0])
            links = {
                f"[`{name}`]({found[dotted]})": None
                for name in names
                for dotted in (f"wellkept.{name}", f"wellkept.kv.{name}")
                if dotted in found
            }
            return (
                f"{heading[0]}\n\nSignature and types: {', '.join(links)}" if links else heading[0]
            )

        sources[page] = re.sub(r"^###? .*`.*$", led, sources[page], flags=re.M)
    made = []
    (docs / FOLDER).mkdir()
    for name, (title, _) in api.pages.items():
        page = f"{FOLDER}/{name}.md"
        sources[page] = api.page(name)
        section = "Integrations" if "." in title else "API"
        short = title.rpartition(".")[2]
        made.append(Entry(page, short, "signatures and types", ("Reference", section)))
    (docs / "objects.inv").write_bytes(api.inventory(about_package()["version"]))
    at = max(i for i, entry in enumerate(listed) if entry.headings == ("Reference",))
    return listed[: at + 1] + made + listed[at + 1 :]


def about_package() -> dict[str, Any]:
    """Return what the package says of itself."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project: dict[str, Any] = tomllib.loads(text)["project"]
    return project


def build(work: Path) -> list[str]:
    """Build the site into `site` in an empty directory; return what is wrong with it."""
    project = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    docs, site = work / "docs", work / "site"
    shutil.copytree(ROOT / "docs", docs)
    listed = list(entries((docs / HOME).read_text(encoding="utf-8")))
    sources = {
        path.relative_to(docs).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(docs.rglob("*.md"))
    }
    bench = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    table = bench.partition("<!-- table -->")[2].partition("<!-- /table -->")[0].strip()
    sources[BENCHMARKS] = sources[BENCHMARKS].replace(TABLE, table)
    listed = referenced(docs, sources, listed)
    for page, text in sources.items():
        (docs / page).write_text(described(text), encoding="utf-8")
    project |= {"docs_dir": "docs", "site_dir": "site", "nav": navigation(listed)}
    urls = about_package().get("urls", {})
    if address := urls.get("Documentation"):
        project["site_url"] = address
    # As links, and not as the theme's `repo_url`, for which its script asks the host for numbers.
    project["extra"] = {
        "social": [
            {"icon": ICONS.get(name, "material/link"), "link": url, "name": name}
            for name, url in urls.items()
        ]
    }
    # JSON is YAML: the generator's own format can't be written by what comes with Python.
    (work / "mkdocs.yml").write_text(json.dumps(project), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", "mkdocs.yml"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if done.returncode:
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        return [said.partition("Traceback")[0].rstrip()]
    for page, text in sources.items():
        (site / page).write_text(text, encoding="utf-8")
        built = (site / page).with_suffix(".html")
        beside = f'<link rel="alternate" type="text/markdown" href="{built.stem}.md">\n</head>'
        built.write_text(
            built.read_text(encoding="utf-8").replace("</head>", beside, 1), encoding="utf-8"
        )
    about = project["site_description"]
    (site / "llms.txt").write_text(llms(listed, about), encoding="utf-8")
    lost = sorted(sources.keys() - {HOME, *(entry.page for entry in listed)})
    unlisted = [f"{page}: docs/{HOME} does not list it" for page in lost]
    return [*unlisted, *faults(site, urlsplit(address or "/").path or "/")]


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    with tempfile.TemporaryDirectory(prefix="wellkept-site-") as work:
        found = build(Path(work))
        for fault in found:
            print(fault, file=sys.stderr)
        if found:
            return 1
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(Path(work) / "site", target)
    print(f"{len(list(target.rglob('*.html')))} pages in {target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
