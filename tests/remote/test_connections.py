"""The connections of a client over http: an answer belongs to its request, and few are open."""

from __future__ import annotations

import base64
import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.remote.cutting import Between
from tests.remote.test_http_faults import WIRE, read_request
from tests.remote.test_http_server import BLOB, NAME, keep_blob, secured
from tests.remote.webs import WebServed

import wellkept
from wellkept import StoreError
from wellkept.remote import connections
from wellkept.remote.client import Http
from wellkept.remote.wire import Read, digest, pack

__all__ = ["secured"]


@pytest.fixture
def host(home: Path) -> Iterator[WebServed]:
    with WebServed(home / "far") as made:
        yield made


@pytest.fixture
def between(host: WebServed) -> Iterator[Between]:
    with Between(host.port) as made:
        yield made


@pytest.fixture
def backend(host: WebServed, between: Between) -> Iterator[Http]:
    made = host.backend(between.port, deadline=20.0)
    yield made
    made.close()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError, ValueError])
def test_after_half_an_answer_the_connection_is_not_used_again(
    host: WebServed, between: Between, backend: Http, kind: type[BaseException]
) -> None:
    keep_blob(host)
    host.cache.backend.notes.put("runs/x", b"mine")
    assert backend.notes.get("runs/x") == b"mine"
    assert between.connections == 1

    def ended(part: bytes) -> None:
        raise kind("the reader was interrupted")

    with pytest.raises(kind, match="the reader"):
        backend.line.ask(Read(bytes.fromhex(NAME), len(BLOB)), ended)
    assert backend.notes.get("runs/x") == b"mine"
    assert between.connections == 2


@pytest.mark.parametrize("surplus", [1, 50_000])
def test_what_comes_after_an_answer_is_no_answer(surplus: int) -> None:
    def answer(link: socket.socket) -> None:
        number = between.connections
        read_request(link)
        body = pack({"runs/x": b"%d" % number})
        head = f"HTTP/1.1 200 OK\r\n{WIRE}\r\nwellkept-digest: {digest(body)}\r\n"
        one = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        link.sendall(one + one * surplus)
        read_request(link)
        link.sendall(one)

    with Between(answer=answer) as between:
        backend = Http(f"http://127.0.0.1:{between.port}", deadline=20.0)
        assert backend.notes.get("runs/x") == b"1"
        assert backend.notes.get("runs/x") == b"2"
        backend.close()


def test_an_old_connection_is_not_used_again(
    between: Between, backend: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert backend.notes.create("runs/1", b"x")
    assert backend.notes.create("runs/2", b"x")
    assert between.connections == 1
    monkeypatch.setattr(connections, "_IDLE", 0.0)
    assert backend.notes.create("runs/3", b"x")
    assert between.connections == 2


def test_one_that_the_server_closed_loses_no_request(host: WebServed) -> None:
    backend = host.backend()
    for i in range(5):
        assert backend.notes.create(f"runs/{i}", b"x")
        host.cut()
    backend.close()


def test_threads_wait_for_a_connection(
    between: Between, backend: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CONNECTIONS", 2)
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda i: backend.notes.create(f"runs/{i}", b"x"), range(40)))
    assert between.connections <= 2


def test_a_connection_that_an_interrupt_loses_leaves_room_for_another(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CONNECTIONS", 2)
    found = connections.Connections(f"http://127.0.0.1:{between.port}", 20.0, None)
    for _ in range(5):
        # As where a signal comes between the return and the assignment.
        found.take().sock.close()
    errors = []
    between.close()
    for _ in range(5):
        with pytest.raises(StoreError, match="can't connect") as got:
            found.take()
        errors.append(got.value)
    assert found.seats.qsize() == 2


def test_when_none_comes_free_in_time_that_is_no_answer(
    between: Between, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_CONNECTIONS", 0)
    backend = Http(f"http://127.0.0.1:{between.port}", deadline=0.05)
    with pytest.raises(StoreError, match=r"no answer to get within 0\.05 s"):
        backend.notes.get("runs/x")


# -- what an answer looks like --------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
READ = {
    "with its length": (OK + b"Content-Length:  3 \r\nX-Y:\r\n\r\nabc", True),
    "in chunks": (CHUNKED + b"2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n", True),
    "after another head": (
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"content-length: 3\r\n\r\nabc",
        True,
    ),
    "and more": (OK + b"content-length: 3\r\n\r\nabcd", False),
    "in chunks and more": (CHUNKED + b"3\r\nabc\r\n0\r\n\r\nd", False),
    "with headers behind": (CHUNKED + b"3\r\nabc\r\n0\r\nx: y\r\n\r\n", False),
    "the last": (OK + b"connection: Close\r\ncontent-length: 3\r\n\r\nabc", False),
    "of old": (b"HTTP/1.0 200\r\ncontent-length: 3\r\n\r\nabc", False),
    "until the end": (OK + b"\r\nabc", False),
    "with both": (CHUNKED[:-2] + b"content-length: 9\r\n\r\n3\r\nabc\r\n0\r\n\r\n", False),
}
UNREAD = {
    "no head": b"",
    "half a head": OK + b"content-length: 3",
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "two lengths": OK + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc",
    "no length": OK + b"content-length: +3\r\n\r\nabc",
    "another coding": OK + b"transfer-encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "a folded header": OK + b"x: y\r\n content-length: 3\r\n\r\nabc",
    "a header with a space": OK + b"content-length : 3\r\n\r\nabc",
    "less": OK + b"content-length: 4\r\n\r\nabc",
    "no chunk": CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
    "a long chunk": CHUNKED + b"2\r\nabc\r\n0\r\n\r\n",
    "no last chunk": CHUNKED + b"3\r\nabc\r\n",
    "an endless head": OK + b"x: y\r\n" * 20_000,
    "heads alone": b"HTTP/1.1 102 Wait\r\n\r\n" * 100,
}


def read(said: bytes, piece: int) -> connections.Answer:
    """Read an answer that comes in pieces of so many bytes."""

    class Socket:
        at = 0

        def recv(self, most: int) -> bytes:
            came = said[self.at : self.at + min(most, piece)]
            self.at += len(came)
            return came

    answer = connections.Answer(Socket(), 20.0)  # type: ignore[arg-type]  # in the place of one
    assert b"".join(answer.parts()) == b"abc"
    return answer


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("name", READ)
def test_an_answer(name: str, piece: int) -> None:
    said, again = READ[name]
    # Of what comes later nothing can be known here; the socket tells of it.
    assert read(said, piece).whole == (again or (piece == 1 and "more" in name))


@pytest.mark.parametrize("piece", [1, 1000])
@pytest.mark.parametrize("name", UNREAD)
def test_what_is_no_answer(name: str, piece: int) -> None:
    with pytest.raises(connections.BROKEN):
        read(UNREAD[name], piece)


# -- proxies --------------------------------------------------------------------------------------


def test_https_goes_in_a_tunnel_and_nothing_tells_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    heads: list[bytes] = []

    def refuse(link: socket.socket) -> None:
        heads.append(read_request(link))
        link.sendall(b"HTTP/1.1 407 Who\r\ncontent-length: 0\r\n\r\n")

    with Between(answer=refuse) as between, caplog.at_level(logging.DEBUG):
        proxy = f"127.0.0.1:{between.port}"
        monkeypatch.setenv("https_proxy", f"http://me:pass%40word@{proxy}")
        monkeypatch.setenv("no_proxy", "")
        cache = wellkept.open("https://far.example/team", token="tok3n", deadline=20)
        with cache, pytest.raises(StoreError, match=rf"can't .* proxy {proxy}: .*407") as got:
            cache.size()
    assert heads[0].startswith(b"CONNECT far.example:443 ")
    assert base64.b64encode(b"me:pass@word") in heads[0]
    assert b"tok3n" not in heads[0]
    for said in (str(got.value), caplog.text):
        assert "tok3n" not in said
        assert "word" not in said


def test_a_hit_through_a_tunnel(
    home: Path, secured: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []

    def carry(link: socket.socket) -> None:
        heads.append(read_request(link))
        with socket.create_connection(("127.0.0.1", host.port)) as there:
            link.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            threading.Thread(target=copied, args=(there, link), daemon=True).start()
            copied(link, there)

    def copied(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    with WebServed(home / "far", secured=secured) as host, Between(answer=carry) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        with host.client(memory=0, ca=secured[0]) as cache:
            f = wellkept.keep(cache=cache, name="f", version=1, strict=True)(abs)
            assert f(-2) == f(-2) == 2
            assert f.stats().hits == 1
    assert len(heads) == proxy.connections >= 1
    assert heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert host.token.encode() not in b"".join(heads)


@pytest.mark.parametrize("proxy", ["socks5://me:secret@127.0.0.1:9", "http://[", "http://:0"])
def test_a_proxy_that_can_not_be_used_is_refused(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")
    cache = wellkept.open("http://far.example", deadline=20)
    with cache, pytest.raises(StoreError, match="can't use the proxy for http") as got:
        cache.size()
    assert "secret" not in str(got.value)


def test_a_close_lets_those_who_ask_end(
    between: Between, backend: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go = threading.Event(), threading.Event()
    real = connections.Answer.parts

    def slow(answer: connections.Answer) -> Iterator[bytes]:
        inside.set()
        assert go.wait(20)
        return real(answer)

    monkeypatch.setattr(connections.Answer, "parts", slow)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(backend.notes.create, "runs/x", b"x")
        assert inside.wait(20)
        backend.close()
        go.set()
        assert asked.result(20)
    assert backend.notes.get("runs/x") == b"x"
    assert between.connections == 2
