"""Caches to look at, and a client of the page."""

from __future__ import annotations

import html.parser
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urljoin, urlparse

import httpx

import wellkept
from wellkept import Cache, keep
from wellkept.kv import Jobs
from wellkept.web.serving import Serving
from wellkept.web.site import Site

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</textarea></title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u202c \u0000 \x1b[31m",
    "../../../../etc/passwd",
    "'; DROP TABLE calls; --",
    "&lt;b&gt; &amp; &#x3c;script&#x3e;",
    "مرحبا بالعالم " * 12,
    "a" * 600,
    "//evil.example/x",
    "%2e%2e%2f%00",
]


def filled(cache: Cache) -> Cache:
    """A cache with something on each page."""
    for version, who in ((1, "monday"), (2, "tuesday")):
        _sweep(cache, version, who)
    state = wellkept.store("progress", cache=cache)
    state.set("batch", 3)
    state.set("told", "yes", ttl="1 h")
    Jobs(wellkept.store("jobs", cache=cache)).create([1, 2], id="first")
    return cache


def _sweep(cache: Cache, version: int, who: str) -> None:
    load = keep(cache=cache, name="lab.clean:load", version=1)(lambda path: [path] * 3)
    fails = keep(cache=cache, name="lab.bad:fails", errors=ValueError, version=1)(_raises)

    def body(data: list[str], lr: float, kind: str = "a") -> dict[str, object]:
        return {"weights": [lr, len(data), version], "kind": kind}

    fit = keep(cache=cache, name="lab.train:fit", version=version)(body)
    with wellkept.run(who, tags={"who": "me"}, cache=cache):
        for path in ("a.csv", "b.csv"):
            data = load(path)
            for lr in (0.1, 0.01):
                fit(data, lr)
            load(path)
        with_error(fails)


def _raises() -> None:
    raise ValueError("no")


def with_error(function: Callable[..., Any], *arguments: Any) -> None:
    """Call what raises."""
    try:
        function(*arguments)
    except ValueError:
        return
    raise AssertionError("it was to raise")


def hostile(cache: Cache) -> Cache:
    """A cache whose names, values, notes and results try to be markup."""
    for i, text in enumerate(HOSTILE):
        _attack(cache, i, text, text.replace("\0", ""))
    return cache


def _attack(cache: Cache, i: int, text: str, clean: str) -> None:
    with wellkept.run(clean[:100], tags={clean[:50]: text}, cache=cache):
        named = keep(cache=cache, name=f"lab:{clean}", version=text)(lambda x, lr: text)
        named(text, i), named(text, i + 1)
        keep(cache=cache, name=f"lab.{i}:dict", version=1)(lambda **k: {text: [text]})(**{text: i})
        keep(cache=cache, name=f"lab.{i}:json", version=1, codec="json")(lambda: [{text: text}])()
        fails = keep(cache=cache, name=f"lab.{i}:fails", errors=ValueError, version=1)(_says)
        with_error(fails, text)
    store = wellkept.store(f"s{clean[:60]}", scope=clean[:60], cache=cache)
    store.set(clean[:200], {"value": text})
    Jobs(wellkept.store(f"jobs{i}", cache=cache)).create(text, owner=text)


def _says(text: str) -> None:
    raise ValueError(text)


class Client:
    """Who was let in."""

    def __init__(self, serving: Serving) -> None:
        self.url = serving.url
        found = urlparse(self.url)
        self.base = f"{found.scheme}://{found.netloc}"
        self.http = httpx.Client(base_url=self.base, timeout=60.0)
        self.http.get(self.url, follow_redirects=True)

    def get(self, path: str = "/", **ask: Any) -> httpx.Response:
        return self.http.get(path, params=ask or None)

    def json(self, page: str, **ask: Any) -> Any:
        answer = self.get(f"/{page}.json", **ask)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pages(self, each: int = 20) -> Iterator[tuple[str, str]]:
        """The pages that links lead to and their texts, some of each kind."""
        todo, seen, kinds = ["/"], set(), Counter[str]()
        while todo:
            path = todo.pop(0)
            kind = urlparse(path).path
            if path in seen or kinds[kind] >= each:
                continue
            seen.add(path)
            kinds[kind] += 1
            answer = self.http.get(path)
            assert answer.status_code == 200, (path, answer.text[-500:])
            if not answer.headers["content-type"].startswith("text/html"):
                continue
            yield path, answer.text
            for link in links(answer.text):
                if link.startswith("/") and not link.startswith(("/events", "/static")):
                    todo.append(link)


@contextmanager
def served(cache: Cache, **options: Any) -> Iterator[Client]:
    """A client of the pages of a cache."""
    with Serving(Site(cache, **options)) as serving:
        client = Client(serving)
        yield client
        client.http.close()


class Markup(html.parser.HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def links(text: str) -> list[str]:
    """The addresses that a page leads to."""
    return [
        found["href"] or "" for tag, found in Markup(text).tags if tag == "a" and "href" in found
    ]


def address(page: str, **ask: Any) -> str:
    """The address of a page."""
    return urljoin("/", page) + (f"?{urlencode(ask)}" if ask else "")
