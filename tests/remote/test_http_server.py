"""What the server offers beside its verbs: TLS, ranges, conditions, limits, health, metrics, a page."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from blake3 import blake3
from tests.caches.places import Counted
from tests.faults.processes import Child
from tests.remote.webs import WebServed, WebService, until

import wellkept
from wellkept import KeptWarning, StoreError, keep
from wellkept.remote.auth import Rates
from wellkept.remote.connections import Answer
from wellkept.remote.server import Limits
from wellkept.remote.wire import Failure, Fetch, Lease, pack, unpack

BLOB = np.random.default_rng(0).bytes(3_000_000)
NAME = blake3(BLOB).hexdigest()


@pytest.fixture
def host(home: Path) -> Iterator[WebServed]:
    with WebServed(home / "far") as made:
        yield made


@pytest.fixture
def raw(host: WebServed) -> Iterator[httpx.Client]:
    with host.raw() as client:
        yield client


def keep_blob(host: WebServed) -> None:
    with host.client() as cache:
        made = np.frombuffer(BLOB, np.uint8)
        keep(cache=cache, name="blob", version=1, strict=True)(lambda: made)()


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture
def secured(home: Path) -> tuple[str, str]:
    """A certificate of this host's own, and its key."""
    cert, key = str(home / "cert.pem"), str(home / "key.pem")
    name = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    make += ["-nodes", "-days", "2", "-keyout", key, "-out", cert, *name]
    subprocess.run(make, check=True, capture_output=True)
    return cert, key


def test_over_tls(home: Path, secured: tuple[str, str]) -> None:
    with WebServed(home / "far", secured=secured) as host:
        with host.client(ca=secured[0]) as cache:
            counted = Counted(lambda x: np.arange(x))
            f = counted.into(cache, strict=True)
            for _ in range(2):
                assert f(1_000_000)[-1] == 999_999
            assert counted.runs == 1
        with host.client() as cache, pytest.raises(StoreError, match="certificate"):
            cache.size()
        plain = host.url.replace("https", "http")
        with wellkept.open(plain, token="x") as cache, pytest.raises(StoreError):
            cache.size()


def test_a_served_process_over_tls(secured: tuple[str, str]) -> None:
    options = ["--cert", secured[0], "--key", secured[1]]
    service = WebService({"me": {"default": "write"}}, *options, secured=secured[0])
    try:
        with service.open("me", ca=secured[0]) as cache:
            f = keep(cache=cache, name="f", version=1, strict=True)(abs)
            assert f(-1) == f(-1) == 1
    finally:
        service.close()


# -- ranges and conditions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=2999990-", 2_999_990, 3_000_000),
        ("bytes=-5", 2_999_995, 3_000_000),
        ("bytes=100-99999999", 100, 3_000_000),
        ("bytes=1000000-2000000", 1_000_000, 2_000_001),
    ],
)
def test_a_range(host: WebServed, raw: httpx.Client, asked: str, start: int, stop: int) -> None:
    keep_blob(host)
    got = raw.get(f"/default/v2/blobs/{NAME}", headers={"range": asked})
    assert got.status_code == 206
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/3000000"
    assert got.content == BLOB[start:stop]


def test_blobs_as_http_knows_them(host: WebServed, raw: httpx.Client) -> None:
    path = f"/default/v2/blobs/{NAME}"
    assert raw.get(path).status_code == 404
    keep_blob(host)
    assert raw.get(path).content == BLOB
    for odd in ("bytes=5-2", "bytes=3000000-", "lines=1-2", "bytes=0-1,5-6", "bytes=-"):
        got = raw.get(path, headers={"range": odd})
        assert got.status_code in (200, 416)
        assert got.status_code == 416 or got.content == BLOB
    etag = raw.get(path).headers["etag"]
    assert raw.get(path, headers={"if-none-match": etag}).status_code == 304
    assert raw.get(path, headers={"range": "bytes=0-1", "if-range": '"x"'}).status_code == 200
    head = raw.head(path)
    assert (head.status_code, head.headers["content-length"]) == (200, "3000000")
    put = {"if-none-match": "*"}
    assert raw.put(path, content=BLOB, headers=put).status_code == 412
    assert raw.put(path, content=BLOB).status_code == 201
    wrong = raw.put(f"/default/v2/blobs/{'0' * 64}", content=BLOB)
    assert (wrong.status_code, unpack(wrong.content, Failure).kind) == (422, "DamagedValue")
    assert raw.get(f"/default/v2/blobs/{'0' * 64}").status_code == 404


def test_of_many_who_create_a_record_one_does(host: WebServed) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with host.client() as cache:
        notes = cache.backend.notes
        with ThreadPoolExecutor(8) as pool:
            done = list(pool.map(lambda i: notes.create("runs/x", b"%d" % i), range(24)))
        assert sorted(done) == [False] * 23 + [True]
        assert notes.get("runs/x") == b"%d" % done.index(True)


def test_a_download_goes_on_where_it_broke(host: WebServed, monkeypatch: Any) -> None:
    keep_blob(host)
    broken: list[int] = []
    real = Answer.parts

    def breaking(answer: Answer) -> Iterator[bytes]:
        got = 0
        for part in real(answer):
            got += len(part)
            if len(broken) < 3 and got > 500_000:
                broken.append(got)
                raise ConnectionResetError("it broke")
            yield part

    monkeypatch.setattr(Answer, "parts", breaking)
    with host.client(memory=0) as cache:
        found = keep(cache=cache, name="blob", version=1, strict=True)(lambda: None)()
        assert found.tobytes() == BLOB
    assert len(broken) == 3
    assert host.since().count("blob") == 4


def test_a_client_is_not_taken_for_one_with_another_token(host: WebServed) -> None:
    key, headers = b"k" * 32, {"wellkept-owner": "0123456789abcdef"}
    with host.raw() as one, host.raw(host.tokens.add("other", {"default": "admin"})) as other:

        def ask(client: httpx.Client, request: Lease) -> list[bytes]:
            found = client.post("/default/v2/lease", content=pack(request), headers=headers)
            return unpack(found.content, list[bytes])

        assert other.get("/metrics").status_code == 200  # a token counts at once
        assert ask(one, Lease([key])) == [key]
        ask(other, Lease([key], "release"))
        assert ask(other, Lease([key])) == []
        assert ask(one, Lease([key], "keep")) == [key]


def test_where_all_is_read_only_no_token_may_write(home: Path) -> None:
    with WebServed(home / "far", limits=Limits(readonly=True)) as host, host.raw() as raw:
        assert raw.post("/default/v2/lease", content=pack(Lease([]))).status_code == 403
        assert raw.post("/default/v2/fetch", content=pack(Fetch([]))).status_code == 200


def test_an_older_client_is_told_the_version(raw: httpx.Client) -> None:
    found = raw.post("/default/v1/fetch", content=b"m")
    assert (found.status_code, found.headers["wellkept-wire"]) == (404, "2")


# -- limits ---------------------------------------------------------------------------------------


def test_a_bucket_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("wellkept.remote.auth.time.monotonic", lambda: now)
    rates = Rates(10.0)
    assert [rates.wait("a") for _ in range(20)] == [0.0] * 20
    assert rates.wait("a") == pytest.approx(0.1)
    assert rates.wait("b") == 0.0
    now += 0.11
    assert rates.wait("a") == 0.0
    assert rates.wait("a") > 0
    now += 1000
    assert [rates.wait("a") for _ in range(21)].count(0.0) == 20
    assert Rates(0).wait("a") == 0.0


@pytest.mark.long
def test_who_asks_too_often_is_slowed_and_nothing_is_lost(home: Path) -> None:
    with WebServed(home / "far", limits=Limits(rate=40.0)) as host:
        with host.raw() as raw:
            found = [raw.get(f"/default/v2/blobs/{NAME}") for _ in range(100)]
            late = [one for one in found if one.status_code == 429]
            assert late
            assert 0 < float(late[0].headers["retry-after"]) <= 1
        with host.client() as cache:
            counted = Counted(lambda x: [x])
            f = counted.into(cache, strict=True)
            # Twice as many requests as may come at once.
            assert [f(x) for x in range(50)] == [[x] for x in range(50)]
            assert f.stats().unavailable == 0
        with host.client(deadline=0.001) as cache:
            f = Counted(lambda x: [x]).into(cache)
            with pytest.warns(KeptWarning):
                assert [f(x) for x in range(1000, 1100)] == [[x] for x in range(1000, 1100)]


# -- about the server -----------------------------------------------------------------------------


def test_health(host: WebServed, monkeypatch: pytest.MonkeyPatch) -> None:
    with host.raw("") as anybody:
        assert anybody.get("/health").json() == {"status": "ok"}


def test_ill_health(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServed(home / "far") as host, host.raw("") as anybody:

        def failing(key: str) -> None:
            raise StoreError("no disk")

        monkeypatch.setattr(host.cache.backend.notes, "get", failing)
        found = anybody.get("/health")
        assert (found.status_code, found.json()) == (503, {"status": "failing"})


LINE = re.compile(r'[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9.e+-]+', re.ASCII)


def test_metrics(host: WebServed, raw: httpx.Client) -> None:
    with host.client(memory=0) as cache:
        f = Counted(lambda x: [x]).into(cache, strict=True)
        for x in (1, 2, 1, 1):
            f(x)
    raw.post("/default/v2/" + "x" * 50)
    with host.raw("kept_wrong") as nobody:
        nobody.post("/default/v2/secretly")
    text = raw.get("/metrics").text
    for line in text.splitlines():
        assert line.startswith("# ") or LINE.fullmatch(line), line
    assert 'wellkept_lookups_total{found="hit",namespace="default"} 2.0' in text
    assert 'wellkept_lookups_total{found="miss",namespace="default"} 2.0' in text
    assert 'wellkept_requests_total{namespace="default",status="200",verb="commit"} 2.0' in text
    assert 'wellkept_request_seconds_count{namespace="default",verb="fetch"} 4.0' in text
    assert "secretly" not in text  # who may nothing names nothing
    assert "xxx" not in text
    resident = re.search(r"^process_resident_memory_bytes (\S+)", text, re.MULTILINE)
    assert resident is None or float(resident[1]) > 10_000_000  # where the system tells it


def test_metrics_are_for_who_may_administer(home: Path) -> None:
    with WebServed(home / "far", "write") as host, host.raw() as raw:
        assert raw.get("/metrics").status_code == 403
        other = host.tokens.add("other", {"elsewhere": "admin", "default": "read"})
        host.handlers.host.size(b"\0" * 32)
        with host.raw(other) as client:
            deadline = time.monotonic() + 10
            while (found := client.get("/metrics")).status_code == 401:
                assert time.monotonic() < deadline
            assert found.status_code == 200
            assert 'namespace="default"' not in found.text


# -- memory ---------------------------------------------------------------------------------------


def test_a_server_holds_little_of_an_index_in_memory(host: WebServed) -> None:
    database = host.cache.backend.database
    assert database.connection.execute("PRAGMA cache_size").fetchone() == (-32768,)
    database.close()
    assert database.connection.execute("PRAGMA cache_size").fetchone() == (-32768,)


STREAMING = """
import sys, threading
import numpy as np, psutil
import wellkept
from wellkept import keep

url, token, server, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
cache = wellkept.open(url, token=token, memory=0)
f = keep(cache=cache, name="large", version=1, strict=True)(lambda: made)
g = keep(cache=cache, name="small", version=1, strict=True)(abs)
g(-1), g(-1)
made = np.frombuffer(np.random.default_rng(0).bytes(size), np.uint8)
both = psutil.Process(), psutil.Process(server)

def held():
    found = [one.memory_info() for one in both]
    return [one.rss - one.shared for one in found]

start, most, stop = held(), [0, 0], threading.Event()

def watch():
    while not stop.wait(0.01):
        most[:] = map(max, most, held())

thread = threading.Thread(target=watch)
thread.start()
f()
found = f()
stop.set()
thread.join()
assert f.stats().hits == 1 and np.array_equal(found, made)
print(*(now - before for now, before in zip(most, start)))
"""


@pytest.mark.long
def test_a_large_array_takes_little_memory_on_either_side() -> None:
    service = WebService({"me": {"default": "write"}})
    try:
        arguments = [service.url, service.tokens["me"], str(service.pid), str(256 << 20)]
        with Child(STREAMING, *arguments) as child:
            client, server = map(int, child.line(100).split())
        print(f"client {client / 1e6:.0f} MB, server {server / 1e6:.0f} MB")
        assert 0 <= client < 128e6
        assert 0 <= server < 128e6
    finally:
        service.close()


@pytest.mark.long
def test_clients_that_do_not_read_cost_little_memory_and_give_it_back() -> None:
    service = WebService({"me": {"default": "write"}})
    made = np.random.default_rng(0).integers(0, 255, 20_000_000, np.uint8)
    lines = [f"GET /default/v2/blobs/{blake3(made).hexdigest()} HTTP/1.1", "host: x"]
    lines += [f"authorization: Bearer {service.tokens['me']}", "", ""]

    def held() -> int:
        found = psutil.Process(service.pid).memory_info()
        return int(found.rss - found.shared)

    try:
        with service.open("me") as cache:
            keep(cache=cache, name="f", version=1, strict=True)(lambda: made)()
        start, most = held(), []
        for _ in range(4):
            with contextlib.ExitStack() as stack:
                for _ in range(100):
                    link = socket.socket()
                    stack.enter_context(link)
                    link.settimeout(20)
                    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    link.connect(("127.0.0.1", service.port))
                    link.sendall("\r\n".join(lines).encode())
                    assert link.recv(1)
                most.append(held() - start)
        assert max(most) < 80e6, most
        assert most[-1] < most[0] + 20e6, most
    finally:
        service.close()


# -- what is held in memory -----------------------------------------------------------------------


def test_a_result_at_hand_is_never_an_old_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hit is answered without a thread, until anybody replaces or removes the call."""
    from wellkept.remote.server import Web

    hops: list[str] = []
    real = Web._answered

    def answered(web: Web, asked: Any, verb: str, content: bytes) -> bytes:
        hops.append(verb)
        return real(web, asked, verb, content)

    monkeypatch.setattr(Web, "_answered", answered)
    with WebServed(home / "far") as host, host.client(memory=0) as one, host.client() as other:
        made = iter(range(100))
        f = keep(cache=one, name="f", version=1, strict=True)(lambda x: [x, next(made)])
        again = keep(cache=other, name="f", version=1, strict=True)(lambda x: [x, next(made)])
        there = keep(cache=host.cache, name="f", version=1)(lambda x: [x, next(made)])
        assert f(1) == f(1) == [1, 0]

        def at_hand(calls: dict[int, list[int]]) -> bool:
            hops.clear()
            assert {x: f(x) for x in calls} == calls
            return not hops

        # Notes of the process may still be on their way.
        until(lambda: at_hand({1: [1, 0]}))
        for change in (
            lambda: again.rerun(1),
            lambda: there.rerun(1),
            lambda: (again.forget(1), again(1)),
            lambda: (there.forget(1), there(1)),
            lambda: (one.clear(), again(1)),
        ):
            before = f(1)
            change()
            assert f(1) == f(1) == [1, before[1] + 1]
        # Other calls leave it where it is, and are at hand themselves once they are kept.
        hops.clear()
        f(2)
        assert "fetch" in hops
        until(lambda: at_hand({1: [1, 5], 2: [2, 6]}))


def test_what_a_client_keeps_is_at_hand(home: Path) -> None:
    with WebServed(home / "far") as host, host.client(memory=0) as cache:
        f = keep(cache=cache, name="f", version=1, strict=True)(abs)
        assert f(-1) == 1
        until(lambda: host.cache.fresh(f.key(-1).raw) is not None)


def test_what_is_at_hand_needs_a_right_too(home: Path) -> None:
    with WebServed(home / "far") as host, host.client(memory=0) as cache:
        f = keep(cache=cache, name="f", version=1, strict=True)(abs)
        assert f(-1) == f(-1) == 1
        asked = pack(Fetch([f.key(-1).raw]))
        with host.raw() as raw, host.raw("") as nobody:
            assert raw.post("/default/v2/fetch", content=asked).status_code == 200
            assert nobody.post("/default/v2/fetch", content=asked).status_code == 401
            assert raw.post("/other/v2/fetch", content=asked).status_code in (403, 404)
            text = raw.get("/metrics").text
    assert 'wellkept_lookups_total{found="hit",namespace="default"} 2.0' in text


def test_a_head_goes_with_what_follows_it() -> None:
    from wellkept.remote.listening import _Joined

    class Transport:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.sent.append(data)

        def close(self) -> None:
            self.sent.append(b"closed")

    head, more = b"HTTP/1.1 200 OK\r\nx: y\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"
    below = Transport()
    joined = _Joined(below)
    for data in (more, head, b"one", b"two", head, b""):
        joined.write(data)
    joined.write(head)
    joined.flush()
    joined.write(head)
    joined.close()
    assert below.sent == [more, head + b"one", b"two", head, head, head, b"closed"]


def test_who_is_cancelled_waits_for_its_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    from wellkept.remote.server import _run

    inside, go = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        go.wait(20)
        raise OSError("nobody hears it")

    async def main(pool: ThreadPoolExecutor) -> None:
        task, late = (asyncio.create_task(_run(pool, work)) for _ in range(2))
        await asyncio.to_thread(inside.wait, 20)
        late.cancel()
        task.cancel()
        # The one that has not begun is over at once.
        with pytest.raises(asyncio.CancelledError):
            await late
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(main(pool))
