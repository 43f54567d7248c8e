"""One computation a key, wherever its callers are: leases that a server holds by its own clock."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.services import Service, ssh_options_of

import wellkept
from wellkept.remote import handlers
from wellkept.remote import lease_requests as locks_module
from wellkept.remote.wire import Lease
from wellkept.stores.leases import Leases

KEY, OTHER = b"k" * 32, b"o" * 32
PATIENCE = 0.5


@pytest.fixture
def host(serve: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(locks_module, "BEAT", 0.05)
    with serve(home / "far", patience=PATIENCE) as made:
        yield made


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_has_it_and_those_on_the_server_itself_meet_it(host: Any, home: Path) -> None:
    first, second = host.backend().locks, host.backend().locks
    assert first.acquire(KEY)
    assert not first.acquire(KEY), "not twice either"
    assert not second.acquire(KEY)
    assert second.acquire(OTHER)
    with wellkept.open(home / "far") as there:
        source = "import sys, wellkept as w; print(bool(w.open(sys.argv[1]).backend.locks.acquire(b'k' * 32)))"
        command = [sys.executable, "-c", source, str(home / "far")]
        assert subprocess.run(command, capture_output=True).stdout == b"False\n"
        first.release(KEY)
        until(lambda: second.acquire(KEY))
        assert there.calls.get("0" * 64) is None


def test_while_its_heart_beats_nobody_takes_it(host: Any) -> None:
    slow, eager = host.backend().locks, host.backend().locks
    assert slow.acquire(KEY)
    until_ = time.monotonic() + 1.5 * PATIENCE
    while time.monotonic() < until_:
        assert not eager.acquire(KEY)
        time.sleep(0.05)
    slow.release(KEY)
    until(lambda: eager.acquire(KEY))


def test_a_standstill_of_the_server_is_none_of_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(handlers, "time", SimpleNamespace(monotonic=lambda: now))
    held = handlers.HeldLeases(Leases(), patience=4.0)
    assert held.acquire("a", KEY)
    for _ in range(9):
        now += 1000
        held.tick()
        assert not held.acquire("b", KEY), "what it sent meanwhile was not read yet"
        assert held.beat("a", [KEY]) == [KEY]
    for _ in range(5):
        assert not held.acquire("b", KEY)
        now += 1.0
    assert held.acquire("b", KEY)


def test_whose_heart_stands_still_loses_it_and_can_do_no_harm(
    host: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off, successor, third = (host.backend() for _ in range(3))
    assert cut_off.locks.acquire(KEY)
    reaching = cut_off.line.ask
    monkeypatch.setattr(cut_off.line, "ask", lambda *_, **__: [])  # nothing gets through
    until(lambda: successor.locks.acquire(KEY))
    monkeypatch.setattr(cut_off.line, "ask", reaching)  # healed
    assert cut_off.line.ask(Lease([KEY], "keep")) == [], "it is told that it is its own no more"
    cut_off.locks.release(KEY)  # late: it must not free what its successor has
    assert cut_off.line.ask(Lease([KEY], "keep")) == []
    assert not third.locks.acquire(KEY)
    successor.locks.release(KEY)
    until(lambda: third.locks.acquire(KEY))


def test_cut_off_for_a_moment_it_is_still_ones_own(host: Any) -> None:
    """The connection breaks and is made again within the patience of the server."""
    place, other = host.backend(), host.backend()
    assert place.locks.acquire(KEY)
    host.cut()
    until(lambda: place.line.ask(Lease([KEY], "keep")) == [KEY])
    assert not other.locks.acquire(KEY)


RUN = """
import os, pickle, sys, time, wellkept
url, options, log = pickle.loads(bytes.fromhex(sys.argv[1]))
@wellkept.keep(cache=wellkept.open(url, **options), name="slow", version=1, strict=True)
def slow(x):
    with open(log, "a") as file:
        file.write(f"{os.getpid()} {x}\\n")
    time.sleep(0.3)
    return x * 2
print("ready", flush=True)
sys.stdin.readline()
print([slow(x) for x in range(2)])
"""


def test_processes_over_ssh_compute_each_key_once(sshd: Service, ssh_url: str, home: Path) -> None:
    sent = pickle.dumps((ssh_url, ssh_options_of(sshd), str(home / "log"))).hex()
    command = [sys.executable, "-c", RUN, sent]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    for each in running:
        assert each.communicate(timeout=60)[0] == "[0, 2]\n"
    assert len((home / "log").read_text().splitlines()) == 2


def test_an_owner_over_ssh_that_is_killed_is_followed_soon(
    sshd: Service, ssh_url: str, home: Path, ssh_options: dict[str, Any]
) -> None:
    sent = pickle.dumps((ssh_url, ssh_options, str(home / "log"))).hex()
    source = RUN.replace("time.sleep(0.3)", "time.sleep(300)")
    with subprocess.Popen(
        [sys.executable, "-c", source, sent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdin is not None
        owner.stdin.write(b"\n")
        owner.stdin.flush()
        until(lambda: (home / "log").exists())
        with wellkept.open(ssh_url, **ssh_options) as cache:
            f = wellkept.keep(cache=cache, name="slow", version=1, strict=True)(lambda x: x * 2)
            place = cache.backend
            assert not place.locks.acquire(f.key(0).raw)
            owner.kill()
            assert f(0) == 0
