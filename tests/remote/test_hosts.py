"""Hosts that share a cache over ssh, each in a network of its own that can be cut off and healed."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services import Service, ssh_options_of, start_sshd

import wellkept

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("ip") is None,
        reason="networks are made by root, with `ip`",
    ),
]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Host:
    """A network namespace, joined with this one by a link."""

    def __init__(self, number: int) -> None:
        self.name = f"kept{os.getpid() % 10_000}{number}"
        self.link = f"{self.name}v"
        self.server = f"10.231.{number}.1"
        ip("netns", "add", self.name)
        ip("link", "add", self.link, "type", "veth", "peer", "eth0", "netns", self.name)
        ip("addr", "add", f"{self.server}/24", "dev", self.link)
        ip("link", "set", self.link, "up")
        ip("-n", self.name, "addr", "add", f"10.231.{number}.2/24", "dev", "eth0")
        ip("-n", self.name, "link", "set", "eth0", "up")
        ip("-n", self.name, "link", "set", "lo", "up")

    def run(self, source: str, sent: Any) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", self.name, sys.executable, "-c", source]
        return subprocess.Popen(
            [*command, pickle.dumps(sent).hex()], stdout=subprocess.PIPE, text=True
        )

    def cut(self) -> None:
        ip("link", "set", self.link, "down")

    def heal(self) -> None:
        ip("link", "set", self.link, "up")

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("link", "del", self.link)
        with contextlib.suppress(subprocess.CalledProcessError):
            ip("netns", "del", self.name)


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    made: list[Host] = []
    try:
        try:
            made += [Host(1)]
            made += [Host(2)]
        except subprocess.CalledProcessError as error:
            pytest.skip(f"networks can't be made here: {error.stderr}")
        yield made
    finally:
        for host in made:
            host.close()


@pytest.fixture
def sshd() -> Iterator[Service]:
    made = start_sshd("0.0.0.0")
    yield made
    made.close()


RUN = """
import os, pickle, sys, time, warnings, wellkept
url, options, name, until, log = pickle.loads(bytes.fromhex(sys.argv[1]))
warnings.simplefilter("always")
cache = wellkept.open(url, deadline=2, **options)
@wellkept.keep(cache=cache, name="slow", version=1)
def slow(x):
    with open(log, "a") as file:
        file.write(name + "\\n")
    while not os.path.exists(until):
        time.sleep(0.01)
    return x * 2
print(slow(21), flush=True)
"""


def until(holds: Callable[[], Any], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_owner_that_is_cut_off_is_followed_and_comes_back(
    hosts: list[Host], sshd: Service, home: Path
) -> None:
    log, options, go = home / "log", ssh_options_of(sshd), home / "go"

    def ran() -> list[str]:
        return log.read_text().split() if log.exists() else []

    def run(host: Host, name: str, until: Path = home) -> subprocess.Popen[str]:
        url = f"ssh://{host.server}:{sshd.port}{home}/far"
        return host.run(RUN, (url, options, name, str(until), str(log)))

    first, second = hosts
    with run(first, "owner", go) as owner:
        until(lambda: ran() == ["owner"])
        with run(second, "follower") as follower:
            time.sleep(1.5)  # no condition: that nothing happens is what is looked at
            assert ran() == ["owner"], "somebody computed while the owner's heart beat"
            assert follower.poll() is None
            first.cut()
            assert follower.communicate(timeout=60)[0] == "42\n"
        assert ran() == ["owner", "follower"]
        assert owner.poll() is None
        first.heal()
        go.touch()
        assert owner.communicate(timeout=60)[0] == "42\n"
    with run(first, "nobody") as third:
        assert third.communicate(timeout=60)[0] == "42\n"
    assert ran() == ["owner", "follower"]
    with wellkept.open(home / "far") as there:
        assert there.verify().ok
        assert there.size().calls == 1


def test_a_host_without_a_network_computes_by_itself(
    hosts: list[Host], sshd: Service, home: Path
) -> None:
    host, log = hosts[0], home / "log"
    url = f"ssh://{host.server}:{sshd.port}{home}/far"
    host.cut()
    began = time.monotonic()
    with host.run(RUN, (url, ssh_options_of(sshd), "alone", str(home), str(log))) as alone:
        assert alone.communicate(timeout=90)[0] == "42\n"
    assert time.monotonic() - began < 80
    assert log.read_text() == "alone\n"
