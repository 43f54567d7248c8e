"""Whatever becomes of a server, or of what leads to it: the caller has its result and a warning, or a
`StoreError` where the store itself was asked; and never waits for long."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from tests.caches.places import Counted
from tests.faults.test_full import disk, fill
from tests.remote.cutting import Between
from tests.remote.hosts import Served
from tests.services import Service, ssh_options_of
from tests.thorough import some

import wellkept
from wellkept import KeptWarning, StoreError
from wellkept.records import Call
from wellkept.remote import ssh
from wellkept.remote.ssh import Piped
from wellkept.remote.wire import HEADER, REQUEST, Commit, pack
from wellkept.stores import silence
from wellkept.stores.record_format import pack_call

__all__ = ["disk"]
SHORT = 0.5
ARRAY = np.arange(150_000)


@pytest.fixture(autouse=True)
def soon(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "PAUSE", 0.1)
    # What sshd starts may take a while on a busy machine.
    if "ssh_url" not in request.fixturenames:
        monkeypatch.setattr(ssh, "_CONNECT", 3.0)


@pytest.fixture
def stream(home: Path) -> Iterator[Served]:
    """Serves a directory over a stream alone."""
    with Served(home / "far") as made:
        yield made


def value(x: int) -> Any:
    return [x, ARRAY + x] if x >= 0 else {"x": x}


def right(found: Any, x: int) -> bool:
    if x < 0:
        return bool(found == {"x": x})
    return bool(found[0] == x and np.array_equal(found[1], ARRAY + x))


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def reached(f: Any, x: int) -> bool:
    with contextlib.suppress(StoreError):
        return bool(f.contains(x))
    return False


# -- what stands between ------------------------------------------------------------------------------


CUTS = [(how, way) for how in ("end", "reset", "hang", "garble") for way in ("down", "up")]
SOON = {("end", "down"), ("garble", "up")}


@pytest.mark.parametrize(
    ("how", "way"),
    [pytest.param(*cut, marks=() if cut in SOON else pytest.mark.long) for cut in CUTS],
)
def test_cut_anywhere(host: Any, how: str, way: str) -> None:
    with host.client() as cache:
        Counted(value).into(cache, strict=True)(7)
    with Between(host.port) as between:
        counted = Counted(value)
        place = between.port
        with host.client(port=place, deadline=SHORT, memory=0) as cache:
            f = counted.into(cache)
            for x, after in enumerate(some((0, 9, 30, 200, 400, 2_000, 900_000), 3)):
                setattr(between, way, after)
                between.how = how
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", KeptWarning)
                    assert right(f(x), x)
                    assert right(f(7), 7)
                setattr(between, way, -1)
            until(lambda: reached(f, 7))
            runs = counted.runs
            assert right(f(7), 7)
            assert counted.runs == runs
    with host.client() as cache:
        counted = Counted(value)
        f = counted.into(cache, strict=True)
        assert all(right(f(x), x) for x in range(8)), "a wrong value was kept"
        assert cache.verify().problems == ()


def test_one_warning_for_a_thousand_calls(host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "PAUSE", 60.0)  # not asked again, however slow this machine is
    with Between(host.port) as between, host.client(port=between.port, deadline=SHORT) as cache:
        counted = Counted(value)
        f = counted.into(cache)
        f(-1)
        between.how, between.down = "hang", 0
        with pytest.warns(KeptWarning) as told:
            assert all(right(f(x), x) for x in range(-30, -1))
        assert len(told) == 1
        assert f.stats().unavailable >= 29
        with pytest.raises(StoreError):
            cache.calls.get("0" * 64)


def test_a_connection_that_broke_while_it_was_idle_is_no_trouble(host: Any) -> None:
    with host.client() as cache:
        counted = Counted(value)
        f = counted.into(cache, strict=True)
        f(1)
        host.cut()
        assert right(f(1), 1)
        host.cut()
        assert right(f(2), 2)
        assert counted.runs == 2


# -- servers that are none ----------------------------------------------------------------------------


BANNER = b"\0kept-wire 2\n"
ANSWERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no `wellkept serve`"),
    "another program": (b"SSH-2.0-OpenSSH_9.2\r\n" * 4000, "no `wellkept serve`"),
    "another version": (b"\0kept-wire 1\n", "version 1 of the wire.*upgrade the older"),
    "garbage": (BANNER + b"\xff" * 1000, "no message"),
    "half a message": (BANNER + b"\x10\0\0\0\x02\x01\0\0\0abc", "inside a message|ended"),
    "half a banner": (b"\0kept-wire", "no `wellkept serve`"),
    "an answer that is none": (
        BANNER + b"\x01\0\0\0\x02\x01\0\0\0q",
        "can't be read|ended|gone",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_answers_is_no_server(name: str) -> None:
    content, message = ANSWERS[name]

    def answer(link: socket.socket) -> None:
        link.sendall(content)
        link.shutdown(socket.SHUT_WR)
        while link.recv(1000):
            pass

    refused_by_any_name(Between(answer=answer), message)


def test_what_answers_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "_CONNECT", 0.1)
    refused_by_any_name(Between(answer=lambda link: time.sleep(60)), "does not start in time")


def test_what_answers_stops_after_it_began() -> None:
    def answer(link: socket.socket) -> None:
        link.sendall(BANNER)
        time.sleep(60)

    refused_by_any_name(Between(answer=answer), "no answer to hello")


def refused_by_any_name(between: Between, message: str) -> None:
    relay = Path(__file__).with_name("relay.py")
    with between:
        place = Piped([sys.executable, "-I", "-S", str(relay), str(between.port)], deadline=SHORT)
        with wellkept.Cache(backend=place) as cache:
            with pytest.raises(StoreError, match=message):
                cache.calls.get("0" * 64)
            with pytest.warns(KeptWarning):
                assert right(Counted(value).into(cache)(3), 3)


def test_what_a_login_script_writes_is_passed_over(stream: Served, home: Path) -> None:
    serve = f"exec {sys.executable} -m wellkept serve --stdio {home}/s"
    noisy = ["/bin/sh", "-c", f"echo Welcome; echo news >&2; {serve}"]
    with wellkept.Cache(backend=Piped(noisy)) as cache:
        counted = Counted(value)
        f = counted.into(cache, strict=True)
        f(1)
        assert right(f(1), 1)
        assert counted.runs == 1


def test_no_kept_there(sshd: Service, ssh_url: str) -> None:
    options = {**ssh_options_of(sshd), "command": "wellkept-is-not-here"}
    with wellkept.open(ssh_url, **options) as cache:
        with pytest.raises(StoreError, match=r"wellkept-is-not-here.*not found"):
            cache.calls.get("0" * 64)
        with pytest.warns(KeptWarning, match="not found"):
            assert Counted(value).into(cache)(-1) == {"x": -1}


def test_no_ssh_here(ssh_url: str) -> None:
    with (
        wellkept.open(ssh_url, ssh="no-such-ssh") as cache,
        pytest.raises(StoreError, match="can't run no-such-ssh"),
    ):
        cache.calls.get("0" * 64)


def test_a_key_that_is_not_let_in(sshd: Service, ssh_url: str) -> None:
    options = ssh_options_of(sshd)
    options["ssh"] += " -o PubkeyAuthentication=no"
    with (
        wellkept.open(ssh_url, **options) as cache,
        pytest.raises(StoreError, match=r"[Pp]ermission denied"),
    ):
        cache.calls.get("0" * 64)


# -- real processes -----------------------------------------------------------------------------------


def servers(sshd: Service) -> list[psutil.Process]:
    assert sshd._process is not None
    family = psutil.Process(sshd._process.pid).children(recursive=True)
    return [each for each in family if "--stdio" in each.cmdline() and "wellkept" in each.cmdline()]


@pytest.fixture
def freeze(sshd: Service) -> Iterator[Callable[[], None]]:
    """Has the servers that there are stand still; they end with the test."""
    frozen: list[psutil.Process] = []

    def now() -> None:
        frozen.extend(servers(sshd))
        for process in frozen:
            process.suspend()

    yield now
    for process in frozen:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_killed_and_back(sshd: Service, ssh_url: str, ssh_options: dict[str, Any]) -> None:
    with wellkept.open(ssh_url, **ssh_options) as cache:
        counted = Counted(value)
        f = counted.into(cache)
        for x in range(2):
            assert right(f(x), x)
            for process in servers(sshd):
                process.kill()
        sshd.kill()
        with pytest.warns(KeptWarning, match="can't connect"):
            assert right(f(2), 2)
        with pytest.raises(StoreError):
            cache.calls.get("0" * 64)
        sshd.start()
        until(lambda: reached(f, 0))
        runs = counted.runs
        assert right(f(0), 0)
        assert counted.runs == runs


def test_frozen(ssh_url: str, ssh_options: dict[str, Any], freeze: Callable[[], None]) -> None:
    with wellkept.open(ssh_url, deadline=SHORT, **ssh_options) as cache:
        f, g = Counted(value).into(cache), Counted(value).into(cache)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", KeptWarning)
            until(lambda: right(g(1), 1) and reached(g, 1))
        freeze()
        with pytest.warns(KeptWarning, match="no answer to fetch within 0.5 s"):
            assert right(f(2), 2)
        # That connection is given up; a new one gets through, though the old server hangs still.
        until(lambda: reached(f, 1))
        assert right(f(2), 2)


def test_the_disk_there_is_full(serve: Any, disk: Path, home: Path) -> None:
    with serve(disk / "far") as host, host.client(memory=0) as cache:
        counted = Counted(value)
        f = counted.into(cache)
        f(-1)
        filler = fill(disk, 60_000)
        with pytest.warns(KeptWarning, match="(?i)space|full"):
            assert right(f(1), 1)  # 1 MB
        with pytest.raises(StoreError, match=r"(?i)space|full"):
            counted.into(cache, strict=True)(2)
        assert f(-1) == {"x": -1}
        filler.unlink()
        fill(disk, 400_000).unlink()
        assert not list((disk / "far" / "tmp").iterdir())
        assert cache.verify().problems == ()


def test_the_disk_here_is_full(host: Any, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = np.arange(2_000_000)
    with host.client(memory=0) as cache:
        counted = Counted(lambda x: large)
        f = counted.into(cache)
        f(1)
        monkeypatch.setattr("tempfile.tempdir", str(disk))
        with pytest.warns(KeptWarning, match="can't write a blob"):
            assert np.array_equal(f(1), large)


def test_a_client_that_vanishes_leaves_nothing(home: Path) -> None:
    source = """
import sys, numpy as np, wellkept
from wellkept.remote.ssh import Piped
from wellkept.remote.wire import Send
place = Piped([sys.executable, "-m", "wellkept", "serve", "--stdio", sys.argv[1]])
place.locks.acquire(b"k" * 32)
print("ready", flush=True)
sys.stdin.readline()
place.line._send(Send(b"n" * 32, 1 << 40), memoryview(bytearray(1 << 28)))
"""
    far = home / "far"
    command = [sys.executable, "-c", source, str(far)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline() == b"ready\n"
        with wellkept.open(far) as cache:
            assert not cache.backend.locks.acquire(b"k" * 32)
            client.stdin.write(b"\n")
            client.stdin.flush()
            until(lambda: any((far / "tmp").iterdir()))
            client.kill()
            until(lambda: bool(cache.backend.locks.acquire(b"k" * 32)))
            cache.backend.locks.release(b"k" * 32)
            until(lambda: not any((far / "tmp").iterdir()))


def test_a_client_that_reads_slowly_holds_up_nobody(stream: Served) -> None:
    with stream.client(memory=0) as cache:
        f = Counted(value).into(cache, strict=True)
        for x in range(20):
            f(x)
        slow = socket.create_connection(("127.0.0.1", stream.port))
        for n in range(1, 60):
            envelope = stream.cache.backend.fetch(f.key(n % 20).raw).envelope
            content = pack(
                ["blob", {"name": envelope.blobs[0].name, "size": envelope.blobs[0].size}]
            )
            slow.sendall(HEADER.pack(len(content), REQUEST, n) + content)
        for x in range(20):
            assert right(f(x), x)
        assert f.stats().computed == 20
        slow.close()


def test_a_program_ends_though_its_server_hangs(
    sshd: Service, ssh_url: str, freeze: Callable[[], None]
) -> None:
    source = """
import sys, wellkept, pickle
options = pickle.loads(bytes.fromhex(sys.argv[2]))
f = wellkept.keep(cache=wellkept.open(sys.argv[1], deadline=0.5, **options))(abs)
f(-1)
print("ready", flush=True)
sys.stdin.readline()
"""
    options = pickle.dumps(ssh_options_of(sshd)).hex()
    command = [sys.executable, "-c", source, ssh_url, options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        freeze()
        client.communicate(b"\n", timeout=30)
        assert client.returncode == 0


def test_many_threads_share_one_connection(stream: Served) -> None:
    with stream.client(memory=0) as cache:
        f = Counted(value).into(cache, strict=True)
        wrong = []

        def work(me: int) -> None:
            for x in range(-12, 6):
                if not right(f(x), x):
                    wrong.append((me, x))

        threads = [threading.Thread(target=work, args=(me,)) for me in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong
        assert f.stats().computed == 18
        assert len(stream._links) == 1


def test_a_forked_child_has_its_own(host: Any) -> None:
    with host.client() as cache:
        counted = Counted(value)
        f = counted.into(cache, strict=True)
        f(1)
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                code = 0 if right(f(1), 1) and right(f(2), 2) and counted.runs == 2 else 2
            os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert right(f(2), 2)
        assert counted.runs == 1


def test_a_record_of_another_key_is_refused(host: Any) -> None:
    with host.client() as cache:
        f = Counted(value).into(cache, strict=True)
        f(-1)
        call = f.call(-1)
        assert isinstance(call, Call)
        with pytest.raises(StoreError, match="can't be read"):
            cache.backend.line.ask(Commit(b"x" * 32, pack_call(call, b"")))
