"""Whatever becomes of a server or of what leads to it: the result and a warning, or a `StoreError`."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from tests.caches.places import Counted
from tests.remote.cutting import Between
from tests.remote.webs import WebServed, WebService, until

import wellkept
from wellkept import KeptWarning, StoreError, keep
from wellkept.remote.server import Limits
from wellkept.remote.wire import digest, pack

SHORT = 0.4
LARGE = np.arange(400_000)


def value(x: int) -> Any:
    return {"x": x, "array": LARGE + x} if x >= 0 else [x]


def same(found: Any, x: int) -> bool:
    if x < 0:
        return bool(found == [x])
    return bool(found["x"] == x and np.array_equal(found["array"], LARGE + x))


@pytest.fixture(scope="module")
def service() -> Iterator[WebService]:
    made = WebService({"me": {"default": "write"}})
    yield made
    made.close()


def opened(service: WebService, between: Between, **options: Any) -> wellkept.Cache:
    options = {"memory": 0, "deadline": SHORT, **options}
    return wellkept.open(f"http://127.0.0.1:{between.port}", token=service.tokens["me"], **options)


@contextlib.contextmanager
def told() -> Iterator[list[str]]:
    """What kept warns of."""
    said: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield said
    said += [str(one.message) for one in caught if issubclass(one.category, KeptWarning)]
    assert len(said) == len(caught), [str(one.message) for one in caught]


# -- the server -----------------------------------------------------------------------------------


def test_killed_and_started_again(service: WebService) -> None:
    with service.open("me") as cache:
        f = Counted(value)
        kept_f = f.into(cache)
        assert all(same(kept_f(x), x) for x in (-1, 1))
        service.kill()
        with told() as said:
            assert all(same(kept_f(x), x) for x in (-1, 1, -2, 2))
        assert said
        assert "can't connect" in said[0]
        with pytest.raises(StoreError, match="can't connect"):
            f.into(cache, strict=True)(1)
        with pytest.raises(StoreError, match="can't connect"):
            cache.size()
        service.start()
        runs = f.runs
        with told() as said:
            assert all(same(kept_f(x), x) for x in (-1, 1))
        assert f.runs == runs
        assert not said


# -- what answers there ---------------------------------------------------------------------------


def read_request(link: socket.socket) -> bytes:
    got = b""
    while b"\r\n\r\n" not in got:
        more = link.recv(65536)
        if not more:
            raise OSError("gone")
        got += more
    return got


def saying(
    status: str, *headers: str, body: bytes = b"", length: int | None = None
) -> Callable[[socket.socket], None]:
    def answer(link: socket.socket) -> None:
        while True:
            read_request(link)
            length_ = len(body) if length is None else length
            lines = [f"HTTP/1.1 {status}", *headers, f"content-length: {length_}", "", ""]
            link.sendall("\r\n".join(lines).encode() + body)
            if length_ > len(body):
                return

    return answer


def noise(link: socket.socket) -> None:
    read_request(link)
    link.sendall(random.Random(1).randbytes(5000))


def silence(link: socket.socket) -> None:
    while link.recv(65536):
        pass


def endless(link: socket.socket) -> None:
    read_request(link)
    link.sendall(b"HTTP/1.1 200 OK\r\nwellkept-wire: 2\r\n\r\n")
    while True:
        link.sendall(b"x" * 65536)


def dripping(link: socket.socket) -> None:
    read_request(link)
    link.sendall(b"HTTP/1.1 200 OK\r\nwellkept-wire: 2\r\ncontent-length: 100000\r\n\r\n")
    closed = threading.Event()
    while not closed.wait(0.05):
        link.sendall(b"x")


def long_head(link: socket.socket) -> None:
    read_request(link)
    link.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        link.sendall(b"x: " + b"y" * 4000 + b"\r\n")


WIRE = "wellkept-wire: 2"


def with_digest(body: bytes) -> Callable[[socket.socket], None]:
    return saying("200 OK", WIRE, f"wellkept-digest: {digest(body)}", body=body)


ANSWERS = {
    "nothing": (silence, "no answer"),
    "an answer without its digest": (saying("200 OK", WIRE, body=pack({})), "damaged"),
    "noise": (noise, "broke"),
    "a page": (saying("200 OK", body=b"<html>"), "no `wellkept serve`"),
    "a proxy's error": (saying("502 Bad Gateway", body=b"<html>"), "502"),
    "elsewhere": (saying("302 Found", "location: http://127.0.0.1:1/"), "302"),
    "another version": (saying("200 OK", "wellkept-wire: 1", body=pack({})), "upgrade the older"),
    "no message": (with_digest(b"\xff\xff"), "can't be read"),
    "another message": (with_digest(pack([1, 2])), "can't be read"),
    "rows of nothing": (with_digest(pack({"body": b"x"})), "can't be read|damaged"),
    "an error of its own": (saying("418 Teapot", WIRE, body=b"?"), "damaged"),
    "less than it says": (saying("200 OK", WIRE, body=b"xx", length=9), "broke"),
    "without an end": (endless, "longer than any message"),
    "drop by drop": (dripping, "no answer"),
    "a head without an end": (long_head, "broke"),
    "packed": (saying("200 OK", WIRE, "content-encoding: gzip", body=b"\x1f\x8b"), "damaged"),
    "later": (saying("429 Later", WIRE, "retry-after: 99999"), "too many requests"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_are_none(name: str) -> None:
    answer, says = ANSWERS[name]
    with Between(answer=answer) as between:
        url = f"http://127.0.0.1:{between.port}"
        with wellkept.open(url, token="t", deadline=SHORT, memory=0) as cache:
            with pytest.raises((StoreError, wellkept.DecodeError), match=says):
                cache.backend.fetch(bytes(32))
            cache.backend.line.silence.over()
            f = keep(cache=cache, version=1)(abs)
            with told() as said:
                assert f(-3) == 3
            assert said


# -- clients --------------------------------------------------------------------------------------


@pytest.fixture
def strict(home: Path) -> Iterator[WebServed]:
    """A server with little patience."""
    with WebServed(home / "far", limits=Limits(deadline=SHORT)) as made:
        yield made


def connected(host: WebServed) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(host.url.rpartition(":")[2])), timeout=20)


def head(host: WebServed, line: str, *more: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "host: x", f"authorization: Bearer {host.token}", *more, "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\nx"])
def test_who_begins_no_request_is_let_go(strict: WebServed, sent: bytes) -> None:
    with connected(strict) as link:
        link.sendall(sent)
        with contextlib.suppress(ConnectionError):
            assert link.recv(1000) == b""


def test_who_sends_half_a_request_is_let_go(strict: WebServed) -> None:
    with connected(strict) as link:
        link.sendall(head(strict, "POST /default/v2/fetch", "content-length: 1000") + b"xx")
        assert link.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_who_sends_drop_by_drop_is_let_go(strict: WebServed) -> None:
    with connected(strict) as link:
        link.sendall(head(strict, "POST /default/v2/fetch", "content-length: 100000"))
        link.settimeout(0.05)
        got = b""
        deadline = time.monotonic() + 20
        while not got:
            assert time.monotonic() < deadline
            with contextlib.suppress(ConnectionError):
                link.sendall(b"x")
            with contextlib.suppress(TimeoutError):
                got = link.recv(1000)
        assert got.startswith(b"HTTP/1.1 408 ")


def test_who_does_not_read_is_let_go(strict: WebServed) -> None:
    with strict.client(memory=0) as cache:
        made = np.random.default_rng(0).integers(0, 255, 60_000_000, np.uint8)
        f = keep(cache=cache, name="f", version=1, strict=True)(lambda: made)
        f()
        name = blake3(made).hexdigest()
    with connected(strict) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.sendall(head(strict, f"GET /default/v2/blobs/{name}"))
        assert link.recv(100)
        until(lambda: not strict._server.server_state.connections)


def test_a_client_that_vanishes_leaves_nothing(strict: WebServed, home: Path) -> None:
    scratch = home / "far" / "tmp"

    def staged() -> list[Path]:
        return [path for path in scratch.iterdir() if path.is_file()] if scratch.exists() else []

    with connected(strict) as link:
        link.sendall(
            head(strict, f"PUT /default/v2/blobs/{'0' * 64}", "content-length: 9000000")
            + bytes(3_000_000)
        )
        until(lambda: staged())
    until(lambda: not staged())
    with strict.client() as cache:
        assert keep(cache=cache, name="f", version=1, strict=True)(abs)(-1) == 1


def test_a_lease_whose_answer_was_lost_is_given_with_the_next(service: WebService) -> None:
    with Between(service.port) as between, opened(service, between, deadline=5.0) as cache:
        key = keep(cache=cache, name="lost", version=1)(abs).key(-1).raw
        between.down, between.how = 100, "end"
        assert cache.backend.claim(key) is None
        assert between.connections == 2
        assert cache.backend.locks.acquire(key)
        with service.open("me") as other:
            assert other.backend.claim(key) is None
            assert not other.backend.locks.acquire(key)


def test_a_client_that_vanishes_leaves_its_lease(home: Path) -> None:
    with WebServed(home / "far", patience=0.3) as host, host.client() as cache:
        f = keep(cache=cache, name="f", version=1, strict=True)(abs)
        gone = host.backend()
        assert gone.locks.acquire(f.key(-1).raw)
        gone.locks._heart.stop()  # its heart beats no more
        assert f(-1) == 1
        gone.line.close()


def test_told_to_end_it_answers_what_it_was_asked_and_leaves_nothing(home: Path) -> None:
    service = WebService({"me": {"default": "write"}})
    try:
        process = service._process
        assert process is not None
        link = socket.create_connection(("127.0.0.1", service.port), timeout=20)
        with link, service.open("me") as cache:
            f = keep(cache=cache, name="f", version=1)(value)
            f(1)
            lines = ["PUT /default/v2/blobs/" + "0" * 64 + " HTTP/1.1", "host: x"]
            lines += [
                f"authorization: Bearer {service.tokens['me']}",
                "content-length: 100",
                "",
                "",
            ]
            link.sendall("\r\n".join(lines).encode())
            scratch = service.directory / "cache" / "tmp"
            until(lambda: any(scratch.iterdir()))
            process.terminate()
            link.sendall(bytes(100))
            assert link.recv(1000).startswith(b"HTTP/1.1 422 ")
            assert process.wait(20) == 0
            assert not any(scratch.iterdir())
            with told():
                assert same(f(1), 1)
    finally:
        service.close()


def test_the_server_ends_while_it_is_asked(home: Path) -> None:
    service = WebService({"me": {"default": "write"}})
    try:
        with service.open("me", deadline=5.0) as cache:
            f = keep(cache=cache, name="f", version=1)(value)
            stop = threading.Timer(0.3, service.kill)
            stop.start()
            with told():
                for x in range(60):
                    assert same(f(x % 7), x % 7)
            stop.join()
            service.start()
            with told() as said:
                assert same(f(0), 0)
            assert not said
            assert cache.verify().problems == ()
    finally:
        service.close()


def test_requests_that_break_are_not_done_twice_where_that_counts(service: WebService) -> None:
    with Between(service.port) as between, opened(service, between) as cache:
        assert not cache.backend.notes.get("runs/one")
        between.down, between.how = 0, "end"  # it is done, and the answer is lost
        with pytest.raises(StoreError):
            cache.backend.notes.create("runs/one", b"x")
        assert cache.backend.notes.create("runs/one", b"y") is False
        assert cache.backend.notes.get("runs/one") == b"x"


@pytest.mark.parametrize("excepted", [False, True])
def test_a_proxy_of_the_environment_is_asked(
    excepted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def answer() -> None:
            connection, _ = proxy.accept()
            with connection:
                heads.append(connection.recv(65536).split(b"\r\n")[0])
                connection.sendall(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")

        at = f"127.0.0.1:{proxy.getsockname()[1]}"
        # The one of the environment, or the server itself.
        threading.Thread(target=answer, daemon=True).start()
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9" if excepted else f"http://{at}")
        monkeypatch.setenv("no_proxy", "127.0.0.1" if excepted else "")
        url = f"http://{at}" if excepted else "http://far.example"
        with wellkept.open(url, deadline=20) as cache, pytest.raises(StoreError, match="502"):
            cache.size()
    (head,) = heads
    assert head.startswith(b"POST /default/" if excepted else b"POST http://far.example/default/")
