"""Caches behind a real sshd: how they are named and reached, and what goes through in parts."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from tests.caches.places import Counted
from tests.services import Service

import wellkept
from wellkept import ConfigError
from wellkept.caches import named
from wellkept.remote.ssh import Ssh


def test_a_miss_a_commit_and_a_hit(ssh_url: str, ssh_options: dict[str, Any]) -> None:
    counted = Counted(lambda x: {"x": x, "array": np.arange(50_000) + x})
    with wellkept.open(ssh_url, compress=True, **ssh_options) as cache:
        f = counted.into(cache, strict=True)
        assert f(3)["array"][0] == 3
        assert f(3)["array"][0] == 3
        assert counted.runs == 1


def test_the_home_directory_and_odd_paths(
    sshd: Service, home: Path, ssh_options: dict[str, Any]
) -> None:
    odd = home / "a b;c'd$HOME"
    ssh_options["command"] = f"HOME={home} {ssh_options['command']}"
    for url, path in ((f"{sshd.url}/~/mine", home / "mine"), (f"{sshd.url}{odd}", odd)):
        with wellkept.open(url, **ssh_options) as cache:
            Counted(lambda x: x).into(cache, strict=True)(1)
        assert (path / "index.sqlite").exists()


def test_a_cache_by_its_name_in_the_configuration_there(
    sshd: Service, home: Path, ssh_options: dict[str, Any]
) -> None:
    far = home / "it's far"
    far.mkdir()
    (far / "wellkept.toml").write_text('[caches]\nteam = "./results"\nmemory = "memory:"\n')
    url = f"{sshd.url}{quote(str(far))}?cache=team"
    Path("wellkept.toml").write_text(f'[caches.team]\nurl = "{url}"\n')
    options = "".join(f"{name} = {value!r}\n" for name, value in ssh_options.items())
    with Path("wellkept.toml").open("a") as file:
        file.write(options)
    f = Counted(lambda x: x).into(named("team"), strict=True)
    f(1)
    f.cache.close()
    with wellkept.open(far / "results") as cache:
        assert len(list(cache.calls.keys())) == 1
    with (
        wellkept.open(url.replace("team", "nosuch"), **ssh_options) as cache,
        pytest.raises(wellkept.StoreError, match="no cache is named 'nosuch'"),
    ):
        cache.size()


def test_a_cache_by_its_name_in_the_user_s_own_configuration_there(
    sshd: Service, home: Path, ssh_options: dict[str, Any]
) -> None:
    own = home / "config/wellkept/wellkept.toml"
    own.parent.mkdir(parents=True)
    own.write_text(f'[caches]\nteam = "{home}/theirs"\n')
    ssh_options["command"] = f"XDG_CONFIG_HOME={home}/config {ssh_options['command']}"
    with wellkept.open(f"{sshd.url}/?cache=team", **ssh_options) as cache:
        assert wellkept.Cache.from_config(cache.to_config()).url == cache.url
        Counted(lambda x: x).into(cache, strict=True)(1)
    assert (home / "theirs/index.sqlite").exists()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("ssh://host", "names a host and a path"),
        ("ssh://host/", "names a host and a path"),
        ("ssh:///path", "names a host and a path"),
        ("ssh://user:secret@host/path", "has no password"),
        ("ssh://-oProxyCommand=touch/path", "its host or user"),
        ("ssh://-l@host/path", "its host or user"),
        ("ssh://ho st/path", "its host or user"),
        ("ssh://host/path?x=1", "has no query but"),
        ("ssh://host/?cache=", "has no query but"),
        ("ssh://host/?cache=./x", "has no query but"),
        ("ssh://host/?cache=-x", "has no query but"),
        ("ssh://host/?cache=a&x=1", "has no query but"),
        ("ssh://host/?cache=a%0Ab", "has no query but"),
        ("ssh://host:port/path", "can't be read"),
        ("ssh://host/a%0Ab", "line breaks"),
    ],
)
def test_what_is_no_url(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        wellkept.open(url)
    assert "secret" not in str(caught.value)


def test_options_that_are_none() -> None:
    with pytest.raises(ConfigError, match="no such option 'nonsense'"):
        wellkept.open("ssh://host/path", nonsense=1)
    with pytest.raises(ConfigError, match="deadline"):
        wellkept.open("ssh://host/path", deadline=0)
    assert repr(Ssh("ssh://me@host:22/path")) == "Ssh('ssh://me@host:22/path')"
    assert repr(Ssh("ssh://host/?cache=team")) == "Ssh('ssh://host/?cache=team')"


class Peak:
    """The most memory of its own that a process had inside the block, over what it had before."""

    def __init__(self, process: psutil.Process) -> None:
        self._status = Path(f"/proc/{process.pid}/status")
        self._stop = threading.Event()
        self.added = 0

    def _now(self) -> int:
        lines = dict(line.split(":", 1) for line in self._status.read_text().splitlines())
        return sum(int(lines[name].split()[0]) for name in ("RssAnon", "RssShmem")) * 1024

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self.added = max(self.added, self._now() - self._start)

    def __enter__(self) -> Peak:
        self._start = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_array_takes_no_memory_on_its_way(
    sshd: Service, ssh_url: str, ssh_options: dict[str, Any]
) -> None:
    array = np.arange(32_000_000)  # 256 MB
    with wellkept.open(ssh_url, memory=0, deadline=120, **ssh_options) as cache:
        counted = Counted(lambda x: array)
        f = counted.into(cache, strict=True)
        cache.calls.get("0" * 64)
        assert sshd._process is not None
        family = psutil.Process(sshd._process.pid).children(recursive=True)
        server = next(each for each in family if "--stdio" in each.cmdline())
        for _ in ("there", "back"):
            with Peak(psutil.Process()) as mine, Peak(server) as theirs:
                found = f(1)
            assert np.array_equal(found, array)
            assert max(mine.added, theirs.added) < 128_000_000
        assert counted.runs == 1
