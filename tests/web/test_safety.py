"""Who is let in, what an answer carries, and that what is kept never becomes markup or runs."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from urllib.parse import urlparse

import httpx
import pytest
from tests.web.sites import HOSTILE, Client, Markup, filled, links, served

import wellkept
from wellkept.records import Value

TAGS = frozenset(
    re.findall(
        r"\S+",
        """
        html head meta title link script body a header div strong span nav ul li main p footer
        h1 h2 h3 small b dl dt dd section aside figure figcaption table thead tbody tr th td
        details summary pre code form label input button noscript progress img svg g rect text
        line polyline path defs marker
        """,
    )
)
ATTRIBUTES = frozenset(
    re.findall(
        r"\S+",
        """
        lang charset name content rel href src defer class id tabindex aria-label aria-current
        aria-labelledby aria-live role dir title scope open method action type value placeholder
        size inputmode alt max http-equiv data-at data-live data-line data-pan data-watch xmlns viewbox
        width height preserveaspectratio font-family font-size fill stroke stroke-width stroke-
        dasharray x y x1 x2 y1 y2 rx d points text-anchor markerwidth markerheight refx refy
        orient marker-end
        """,
    )
)


def test_the_first_address_lets_in_and_is_a_secret(client: Client) -> None:
    fresh = httpx.Client(base_url=client.base)
    assert fresh.get("/").status_code == 403
    assert fresh.get("/functions.json").status_code == 403
    assert fresh.get("/?token=wrong").status_code == 403
    first = fresh.get(client.url)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    said = first.headers["set-cookie"].lower()
    assert "httponly" in said
    assert "samesite=strict" in said
    assert fresh.get("/").status_code == 200
    token = client.url.partition("token=")[2]
    assert httpx.get(
        f"{client.base}/index.json", headers={"authorization": f"Bearer {token}"}
    ).is_success


def test_the_first_address_leads_nowhere_else(client: Client) -> None:
    token = client.url.partition("token=")[2]
    for path in (
        "//evil.example/",
        "/\\evil.example",
        "/https://evil.example",
        "/%2f/evil.example",
    ):
        found = httpx.get(f"{client.base}{path}?token={token}", follow_redirects=False)
        assert found.headers["location"] == "/"


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", "", "10.0.0.1"]
)
def test_another_name_of_this_host_is_refused(client: Client, host: str) -> None:
    assert client.http.get("/", headers={"host": host}).status_code in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "127.0.0.1:1", "[::1]:80"])
def test_a_tunnel_is_let_in(client: Client, host: str) -> None:
    assert client.http.get("/", headers={"host": host}).status_code == 200


def test_each_answer_forbids_what_comes_from_elsewhere(client: Client) -> None:
    for path in ("/", "/index.json", "/nowhere", "/static/ui.css", "/call?key=0000"):
        said = client.get(path).headers
        assert "default-src 'self'" in said["content-security-policy"], path
        assert "frame-ancestors 'none'" in said["content-security-policy"]
        assert "unsafe" not in said["content-security-policy"]
        assert said["x-content-type-options"] == "nosniff"
        assert said["referrer-policy"] == "no-referrer"


def check_markup(path: str, text: str) -> None:
    """Nothing on a page is markup, a script or an address that the templates do not have."""
    for tag, said in Markup(text).tags:
        assert tag in TAGS, (path, tag)
        assert set(said) <= ATTRIBUTES, (path, tag, said)
        if tag == "script":
            assert said == {"src": "/static/ui.js", "defer": None}, path
    assert "<style" not in text
    for link in links(text):
        assert link.startswith(("/", "#")), (path, link)
        assert not link.startswith("//"), (path, link)


@pytest.mark.parametrize("each", [6, pytest.param(20, marks=pytest.mark.long)])
def test_what_is_kept_never_becomes_markup(attacked: Client, each: int) -> None:
    seen = set()
    for path, text in attacked.pages(each):
        check_markup(path, text)
        seen.add(urlparse(path).path)
    assert {
        "/",
        "/functions",
        "/function",
        "/call",
        "/runs",
        "/run",
        "/state",
        "/live",
        "/lineage",
    } <= seen
    assert "onerror" in attacked.get("/functions").text, "the corpus is there, escaped"


_ASKED = "name key id with of store scope free find after arg.x state up down prefix".split()  # noqa: SIM905  short


def held_in(cache: wellkept.Cache) -> set[str]:
    """The digests of the results that a cache holds."""
    return set(iter(cache.values.keys()))


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.long)])
def test_addresses_may_ask_for_anything(attacked: Client, step: int) -> None:
    for number, text in enumerate(HOSTILE):
        pages = (
            "function",
            "call",
            "run",
            "compare",
            "lineage",
            "state",
            "disk",
            "functions",
            text,
        )
        for page in pages[number % step :: step]:  # each page is asked some of them
            names = (
                "name",
                "key",
                "id",
                "with",
                "of",
                "store",
                "scope",
                "free",
                "find",
                "after",
                "arg.x",
                "state",
            )
            answer = attacked.get(f"/{page}" if page != text else "/", **dict.fromkeys(names, text))
            assert answer.status_code in (200, 400, 404), (page, text, answer.status_code)
            check_markup(page, answer.text)


def test_nothing_is_unpickled(attacked: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    import wellkept.codecs
    import wellkept.codecs.pickle

    for module, name in (
        (pickle, "loads"),
        (pickle, "load"),
        (pickle, "Unpickler"),
        (wellkept.codecs.pickle, "decode"),
        (wellkept.codecs, "decoder"),
        (wellkept.codecs, "decode"),
    ):
        monkeypatch.setattr(module, name, refused)
    assert sum(1 for _ in attacked.pages(3)) > 20


class Evil:
    """Whoever unpickles it makes a file."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (Path("evil.txt"), "made")


def test_a_pickle_that_would_run_is_only_described(home: Path) -> None:
    with wellkept.open(home / "evil", memory=0) as cache:
        plain = wellkept.keep(cache=cache, name="lab:evil", version=1)(lambda: 1)
        plain()
        record = plain.call()
        cache.backend.commit(record, Value("pickle", pickle.dumps(Evil())))
        with served(cache) as client:
            (call,) = client.json("function", name="lab:evil")["calls"]
            shown = client.json("call", key=call["key"])["preview"]
            assert "write_text" in shown["text"]
            assert client.get("/call", key=call["key"]).is_success
    assert not Path("evil.txt").exists()


def test_forms_are_taken_with_their_secret_only(home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache, served(cache, write=True) as client:
        before = cache.query().count()
        held = len(held_in(cache))
        page = client.get("/disk", free="1 GB").text
        (secret, *_) = [
            said["value"]
            for tag, said in Markup(page).tags
            if tag == "input" and said.get("name") == "token"
        ]
        asked = {"free": "1 GB"}
        assert client.http.post("/disk", data=asked).status_code == 403
        assert client.http.post("/disk", data=asked | {"token": "x"}).status_code == 403
        good = asked | {"token": secret}
        evil = {"origin": "http://evil.example"}
        assert client.http.post("/disk", data=good, headers=evil).status_code == 403
        assert httpx.post(f"{client.base}/disk", data=good).status_code == 403, (
            "and with the cookie"
        )
        assert len(held_in(cache)) == held
        done = client.http.post("/disk", data=good)
        assert "threw away" in done.text
        assert len(held_in(cache)) == 0
        assert cache.query().count() == before, "records stay"


def test_without_write_nothing_is_changed(home: Path) -> None:
    with filled(wellkept.open(home / "c", memory=0)) as cache, served(cache) as client:
        held = held_in(cache)
        text = client.get("/health").text
        secret = next(
            s["value"] for t, s in Markup(text).tags if t == "input" and s.get("name") == "token"
        )
        assert "Throw it away" not in client.get("/disk", free="1 GB").text
        refused = client.http.post("/disk", data={"free": "1 GB", "token": secret})
        assert refused.status_code == 400
        assert "--write" in refused.text
        for _ in client.pages(5):
            pass
        assert held_in(cache) == held


def test_looking_leaves_a_damaged_result_where_it_is(home: Path) -> None:
    with wellkept.open(home / "c", memory=0) as cache:
        large = wellkept.keep(cache=cache, name="lab:large", version=1)(lambda: b"x" * 300_000)
        large()
        (blob,) = [path for path in (home / "c" / "blobs").rglob("*") if path.is_file()]
        blob.chmod(0o600)
        blob.write_bytes(b"y" * blob.stat().st_size)
        with served(cache) as client:
            (call,) = client.json("function", name="lab:large")["calls"]
            answer = client.get("/call", key=call["key"])
            assert answer.status_code == 200
            assert "can&#39;t be read" in answer.text
        assert blob.exists()
