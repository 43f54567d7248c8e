"""Who may do what over http: nobody anything without a token, and with one only what it grants."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.remote.webs import WebService, until

import wellkept
from wellkept import ConfigError, KeptWarning, NotKept, StoreError, keep
from wellkept.cli import main
from wellkept.remote import wire
from wellkept.remote.auth import Tokens
from wellkept.remote.wire import Failure, pack, unpack

NAMESPACES = {"one": "./one", "two": "./two"}
GRANTS = {
    "reader": {"one": "read"},
    "writer": {"one": "write"},
    "admin": {"one": "admin"},
    "other": {"two": "admin"},
    "all": {"*": "read", "two": "write"},
}
KEY = bytes(32)
CLIENT = httpx.Client(timeout=30.0, verify=False)


@pytest.fixture(scope="module")
def service() -> Iterator[WebService]:
    made = WebService(GRANTS, "--largest", "1 MB", served=NAMESPACES)
    with CLIENT:
        yield made
    made.close()


def ask(
    service: WebService, token: str | None, method: str, path: str, **options: Any
) -> httpx.Response:
    headers = options.pop("headers", {})
    if token is not None:
        said = service.tokens.get(token, token)
        headers = {**headers, "authorization": f"Bearer {said}"}
    return CLIENT.request(method, service.url + path, headers=headers, **options)


ASKED: list[wire.Request] = [
    wire.Fetch([]),
    wire.Use({}),
    wire.Get("meta", []),
    wire.List("call"),
    wire.Find(),
    wire.Have([]),
    wire.Verify(),
    wire.Totals(),
    wire.Commit(KEY, b""),
    wire.Put("meta", {}),
    wire.Create("made", b""),
    wire.Delete("call", []),
    wire.Lease([]),
    wire.Collect(dry_run=True),
    wire.Evict("f", dry_run=True),
    wire.Verify(repair=True),
]
"""All that can be asked with a message."""


def verb(
    service: WebService, token: str | None, request: wire.Request, namespace: str = "one"
) -> int:
    path = f"/{namespace}/v2/{request.verb}"
    return ask(service, token, "POST", path, content=pack(request)).status_code


def test_all_requests_are_tried_here() -> None:
    others = {"hello", "blob", "send"}  # of a stream, or with paths of their own
    assert {request.verb for request in ASKED} == wire.REQUESTS.keys() - others


@pytest.mark.parametrize("token", [None, "kept_wrong", "kept_" + "A" * 43])
def test_without_a_token_nothing(service: WebService, token: str | None) -> None:
    for request in ASKED:
        assert verb(service, token, request) == 401
    for method, path in (
        ("GET", "/one/v2/blobs/" + "0" * 64),
        ("PUT", "/one/v2/blobs/" + "0" * 64),
        ("GET", "/nothing/v2/blobs/" + "0" * 64),
        ("GET", "/metrics"),
    ):
        found = ask(service, token, method, path)
        assert found.status_code == 401
        assert found.headers["www-authenticate"] == "Bearer"


def test_a_right_is_for_what_it_says(service: WebService) -> None:
    rights = {request.verb: request.right for request in ASKED[:-1]}
    assert {verb for verb, right in rights.items() if right == "admin"} == {"collect", "evict"}
    writing = {"commit", "put", "create", "delete", "lease"}
    assert {verb for verb, right in rights.items() if right == "write"} == writing
    assert ASKED[-1].right == "admin"  # to repair, where to verify is to read
    for request in ASKED:
        right = request.right
        assert (verb(service, "reader", request) == 403) is (right != "read"), request
        assert (verb(service, "writer", request) == 403) is (right == "admin"), request
        assert verb(service, "admin", request) != 403, request
    path = "/one/v2/blobs/" + "0" * 64
    assert ask(service, "reader", "PUT", path, content=b"").status_code == 403
    assert ask(service, "reader", "GET", path).status_code == 404


def test_a_namespace_is_no_other(service: WebService) -> None:
    for request in ASKED:
        for namespace in ("two", "nothing"):  # which of them there is is not told
            assert verb(service, "admin", request, namespace) == 403
        assert verb(service, "other", request) == 403
    get, put = wire.Get("meta", []), wire.Put("meta", {})
    assert verb(service, "all", get, "one") == 200
    assert verb(service, "all", put, "one") == 403
    assert verb(service, "all", put, "two") == 200
    assert verb(service, "all", get, "nothing") == 404


def test_what_is_kept_in_one_is_not_in_another(service: WebService) -> None:
    with service.open("writer", "one") as one, service.open("other", "two") as two:
        keep(cache=one, name="f", version=1, strict=True)(abs)(-9)
        assert one.size().calls == 1
        assert two.size().calls == 0


def test_a_reader_has_results_and_leaves_nothing(service: WebService) -> None:
    def body(x: int) -> list[int]:
        return [x]

    with service.open("writer", "one") as cache:
        keep(cache=cache, name="read", version=1, strict=True)(body)(1)
    with service.open("reader", "one") as cache:
        f = keep(cache=cache, name="read", version=1)(body)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert f(1) == [1]
            assert f.stats().hits == 1
            cache.flush()
        with pytest.warns(KeptWarning, match="needs 'write'"):
            assert f(2) == [2]
        with pytest.raises(StoreError, match="needs 'write'"):
            cache.calls.delete(str(f.key(1)))
    with service.open("writer", "one") as cache:
        f = keep(cache=cache, name="read", version=1)(body)
        assert f.contains(1)
        assert not f.contains(2)


def test_a_client_without_a_right_has_its_results(service: WebService) -> None:
    for token in ("wrong", "other"):
        service.tokens["wrong"] = "kept_wrong"
        with service.open(token, "one") as cache:
            f = keep(cache=cache, name="f", version=1)(abs)
            with pytest.warns(KeptWarning, match="token"):
                assert f(-2) == 2
            assert f.stats().unavailable
            with pytest.raises(StoreError, match="token"):
                cache.size()
            with pytest.raises(StoreError, match="token"):
                keep(cache=cache, name="f", version=1, strict=True)(abs)(-2)


TRICKS = [
    "/one/v2/blobs/../../two/v2/blobs/a",
    "/one/v2/blobs/..%2f..%2fetc/passwd",
    "/one/v2/blobs/%2e%2e/%2e%2e/x",
    "/one/v2/blobs/%2fetc/passwd",
    "/one/v2/blobs//etc/passwd",
    "/one/v2/blobs/a%00b",
    "/one/v2/blobs/" + "a" * 201,
    "/one/v2/blobs/..%2findex.sqlite",
    "/one/v2/blobs/" + "A" * 64,
    "/one/v2/blobs/" + "0" * 63,
    "/one/v2/blobs/" + "0" * 63 + "%0a",
    "/..%2ftwo/v2/blobs/a",
    "/one%00/v2/blobs/a",
    "/%2e%2e/v2/blobs/a",
    "/one/v1/blobs/a",
    "/etc/passwd",
    "/one/v2/../../../etc/passwd",
]


def raw(service: WebService, head: str, body: bytes = b"", patience: float = 20) -> bytes:
    """What comes back for exactly these bytes, until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=patience) as link:
        got = b""
        with contextlib.suppress(ConnectionError):  # it does not read what it has refused
            link.sendall(head.replace("\n", "\r\n").encode() + body)
        with contextlib.suppress(ConnectionError):
            while part := link.recv(65536):
                got += part
        return got


@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_tricks_with_paths(service: WebService, method: str, path: str) -> None:
    token = service.tokens["admin"]
    before = {p for p in service.directory.rglob("*") if "log" not in p.name}
    got = raw(
        service,
        f"{method} {path} HTTP/1.1\nhost: x\nauthorization: Bearer {token}\n"
        "content-length: 1\nconnection: close\n\n",
        b"x",
    )
    assert got.split(b" ")[1] in (b"400", b"403", b"404"), got
    assert {p for p in service.directory.rglob("*") if "log" not in p.name} == before


def test_oversize_input_is_refused(service: WebService) -> None:
    name = "0" * 64
    found = ask(service, "writer", "PUT", f"/one/v2/blobs/{name}", content=bytes(1_000_001))
    assert found.status_code == 413
    assert "1,000,000" in unpack(found.content, Failure).text
    found = ask(service, "writer", "POST", "/one/v2/fetch", content=bytes(17 * 1024 * 1024))
    assert found.status_code == 413
    bearer = f"authorization: Bearer {service.tokens['writer']}\n"
    # Said to be small and sent in chunks without a length: refused where it grows too large.
    parts = b"".join(b"100000\r\n" + bytes(1 << 20) + b"\r\n" for _ in range(17)) + b"0\r\n\r\n"
    got = raw(
        service,
        f"POST /one/v2/fetch HTTP/1.1\nhost: x\n{bearer}transfer-encoding: chunked\n\n",
        parts,
    )
    assert b" 413 " in got.splitlines()[0]
    # And lengths that are none.
    for said in ("-1", "1e3", "99999999999999999999999999"):
        got = raw(
            service,
            f"PUT /one/v2/blobs/{name} HTTP/1.1\nhost: x\n{bearer}content-length: {said}\n\n",
        )
        assert got.split(b" ")[1] in (b"400", b"411", b"413")
    got = raw(
        service, f"GET /one/v2/blobs/{name} HTTP/1.1\nhost: x\n{bearer}x: {'y' * 200_000}\n\n"
    )
    assert got.split(b" ")[1] == b"400"
    got = raw(service, f"GET /one/v2/blobs/{name} HTTP/1.1\nhost: x\nx: {'y' * 1_000_000}")
    assert got.split(b" ")[1] == b"400", "a head without an end is not read for ever"
    with service.open("writer", "one") as cache:
        f = keep(cache=cache, name="large", version=1)(lambda n: os.urandom(n))
        with pytest.warns(KeptWarning, match="1,000,000"):
            assert len(f(1_000_001)) == 1_000_001
        assert not f.contains(1_000_001)


def test_garbage_for_a_message(service: WebService) -> None:
    for content in (b"", b"\xff" * 100, b"\xdd\xff\xff\xff\xff", pack([1]), pack({"key": "short"})):
        for name in ("fetch", "commit", "find", "put", "lease", "hello", "send", "nothing"):
            found = ask(service, "writer", "POST", f"/one/v2/{name}", content=content)
            assert found.status_code == 400, (name, content, found.status_code)
            assert unpack(found.content, Failure).kind == "StoreError"
    for request in (wire.Hello("12345678"), wire.Send(KEY, 1)):
        assert verb(service, "writer", request) == 400
    assert verb(service, "writer", wire.Fetch([])) == 200


@pytest.mark.long
def test_a_token_is_taken_away_and_ends(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = WebService({"soon": {"default": "read"}})
    try:
        file = service.directory / "tokens.json"
        known = Tokens(file)
        assert verb(service, "soon", wire.Fetch([]), "default") == 200
        assert service.tokens["soon"] not in file.read_text()
        assert file.stat().st_mode & 0o777 == 0o600
        late = known.add("late", {"default": "admin"}, expires=time.time() + 1000)
        past = known.add("past", {"default": "admin"}, expires=time.time() - 1)
        until(lambda: verb(service, late, wire.Fetch([]), "default") == 200, 5)
        assert verb(service, past, wire.Fetch([]), "default") == 401
        known.remove("soon")
        until(lambda: verb(service, "soon", wire.Fetch([]), "default") == 401, 5)
        again = known.add("soon", {"default": "read"})
        until(lambda: verb(service, again, wire.Fetch([]), "default") == 200, 5)
        file.write_text("{ garbage")  # whoever it was: nobody is let in
        until(lambda: verb(service, again, wire.Fetch([]), "default") == 503, 5)
    finally:
        service.close()


def test_the_commands(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        code = 0
        try:
            main(["tokens", *arguments])
        except SystemExit as error:
            code = int(error.code or 0)
        return code, capsys.readouterr().out.strip()

    code, token = run("add", "ann", "read", "write:team", "--days", "2")
    assert (code, token.startswith("kept_"), len(token)) == (0, True, 48)
    assert run("add", "ann")[0] == 2
    assert run("add", "bob", "own:team")[0] == 2
    assert run("add", "bob", "read:../x")[0] == 2
    assert run("add", "a b")[0] == 2
    code, listed = run("ls")
    assert "ann" in listed
    assert "read:default write:team" in listed
    assert token not in listed
    told = json.loads(run("ls", "--json")[1])["tokens"]
    assert told[0]["rights"] == {"default": "read", "team": "write"}
    assert run("rm", "bob")[0] == 1
    assert run("rm", "ann") == (0, "")
    assert run("ls") == (0, "")
    with pytest.raises(NotKept):
        Tokens(home / "nothing").remove("ann")


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("http://elsewhere.example/x", {"token": "t"}, "read in transfer"),
        ("https://host/a/../b", {}, "not a namespace"),
        ("https://host/UPPER", {}, "not a namespace"),
        ("https://host/v1", {}, "not a namespace"),
        ("https:///x", {}, "names its host"),
        ("https://host/x?token=s3cret", {}, "no query"),
        ("https://user:s3cret@host/x", {}, "no password"),
        ("https://host:99999/x", {}, "can't be read"),
        ("https://host/x", {"token": "s3 cret"}, "visible ASCII"),
        ("https://host/x", {"deadline": 0}, "deadline"),
        ("https://host/x", {"ca": "nothing.pem"}, "certificates"),
        ("https://host/x", {"tokens": "x"}, "no such option"),
    ],
)
def test_urls_that_are_none(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as told:
        wellkept.open(url, **options)
    assert "s3" not in str(told.value)


def test_a_token_counts_from_the_moment_it_is_made(home: Path) -> None:
    served, ours = Tokens(home / "tokens.json"), Tokens(home / "tokens.json")
    first = ours.add("first", {"*": "read"})
    assert served.find(first) is not None
    assert served.find("unknown") is None
    assert served.find(ours.add("second", {"*": "read"})) is not None
