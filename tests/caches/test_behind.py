"""Stacks that write behind: the far layer gets what the near one has, now or when it can."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.caches.places import Counted, new

import wellkept
from wellkept import ConfigError, KeptWarning, Stack, StoreError
from wellkept.caches.active import reset
from wellkept.stores import stack as layers_module
from wellkept.stores import write_behind as behind_module


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind_module, "_PAUSE", 0.05)
    monkeypatch.setattr(layers_module, "PAUSE", 0.05)


class Flaky:
    """A place that can be told not to answer, or to wait."""

    def __init__(self, place: Any) -> None:
        self.backend = place
        self.down = False
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.backend, name)
        if name in ("fetch", "fetch_many", "commit"):

            def ask(*args: Any) -> Any:
                self.asked.append(name)
                if name == "commit":
                    assert self.gate.wait(30)
                if self.down:
                    raise StoreError("it is down")
                return found(*args)

            return ask
        return found


def stack() -> tuple[Stack, wellkept.Cache, Flaky]:
    near, far = new("embedded"), new("files")
    flaky = Flaky(far.backend)
    far.backend = flaky  # type: ignore[assignment]  # it is one, as far as a stack asks
    return Stack(near, far, write="behind"), far, flaky


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def value(x: int) -> Any:
    return {"x": x, "array": np.arange(20_000) + x}


def there(f: Any, far: wellkept.Cache, xs: range) -> bool:
    return all(far.backend.backend.fetch(f.key(x).raw) is not None for x in xs)


def test_the_caller_does_not_wait_for_the_far_layer() -> None:
    both, far, flaky = stack()
    f = Counted(value).into(both, strict=True)
    flaky.gate.clear()
    for x in range(5):
        f(x)
    assert not there(f, far, range(1))
    flaky.gate.set()
    assert both.delivered()
    assert there(f, far, range(5))
    assert not list(both.caches[0].backend.notes.keys("behind/")), "all of it was settled"
    other = Counted(value)
    assert other.into(far)(3)["array"][1] == 4
    assert other.runs == 0


def test_a_miss_asks_a_far_layer_once_and_a_hit_not_at_all() -> None:
    both, _, flaky = stack()
    f = Counted(value).into(both, strict=True)
    f(1)
    both.delivered()
    assert flaky.asked == ["fetch", "commit"]
    f(1)
    both.caches[0].tier.clear()
    f(1)
    assert flaky.asked == ["fetch", "commit"]


def test_what_could_not_be_delivered_is_when_it_can() -> None:
    both, far, flaky = stack()
    f = Counted(value).into(both)
    flaky.down = True
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for x in range(30):
            assert f(x)["x"] == x
        assert not both.delivered(5)
    assert sum("delivered later" in str(one.message) for one in told) == 1
    flaky.down = False
    until(lambda: there(f, far, range(30)))
    assert both.delivered()


def test_more_than_waits_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind_module, "_BOUND", 4)
    both, far, flaky = stack()
    f = Counted(value).into(both, strict=True)
    flaky.gate.clear()
    for x in range(40):
        f(x)
    flaky.gate.set()
    assert both.delivered()
    assert there(f, far, range(40))


def test_what_was_forgotten_does_not_come_back() -> None:
    both, far, flaky = stack()
    f = Counted(value).into(both, strict=True)
    flaky.gate.clear()
    f(1), f(2)
    until(lambda: "commit" in flaky.asked)
    f.forget(1), f.forget(2)
    flaky.gate.set()
    assert both.delivered()
    assert list(far.backend.backend.calls.keys()) == []


def test_a_fork() -> None:
    both, far, _ = stack()
    f = Counted(value).into(both, strict=True)
    f(1)
    both.delivered()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            f(2)
            code = 0 if both.delivered() else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert there(f, far, range(1, 3))
    f(3)
    assert both.delivered()
    assert there(f, far, range(3, 4))


RUN = """
import os, sys, wellkept
near, far, how = sys.argv[1:]
both = wellkept.Stack(wellkept.open(near), wellkept.open(far), write="behind")
f = wellkept.keep(cache=both, name="f", version=1)(lambda x: {"x": x})
for x in range(20):
    f(x)
print("ready", flush=True)
if how == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_the_next_program_delivers_what_one_could_not(home: Path, how: str) -> None:
    near = home / "near"
    # A far cache that can be opened and takes nothing: its server is not there.
    url = "redis://127.0.0.1:1/0"
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(near), url, how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "ready\n", done.stderr
    assert ("wait to be delivered" in done.stderr) is (how == "ended"), done.stderr
    with wellkept.open(near) as cache:
        assert len(list(cache.backend.notes.keys("behind/"))) == 20
        # The same far cache, by the name that it has, is there now.
        layers = layers_module.StackBackend(
            [cache.backend, new("files").backend], "behind", ["", f"<wellkept.Cache {url}>"]
        )
        layers.behind[0].begin()
        assert layers.behind[0].flush() == 0
        assert len(list(layers.backends[1].calls.keys())) == 20


def test_exit_waits_for_the_last_deliveries(home: Path) -> None:
    near, far = home / "near", home / "far"
    command = [sys.executable, "-c", RUN, str(near), str(far), "ended"]
    subprocess.run(command, check=True, capture_output=True)
    with wellkept.open(far) as cache:
        assert cache.size().calls == 20


def test_configured_pickled_and_refused(home: Path) -> None:
    both = Stack(new("embedded"), new("files"), write="behind")
    assert pickle.loads(pickle.dumps(both)).write == "behind"
    with pytest.raises(ConfigError, match="outlives the program"):
        Stack(wellkept.open("memory:"), new("files"), write="behind")
    (home / "wellkept.toml").write_text(
        'cache = "both"\n[caches]\nnear = "./n"\nfar = "files:./f"\n'
        'both = { stack = ["near", "far"], write = "behind" }\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WELLKEPT_CACHE")
        reset()

        @wellkept.keep(version=1)
        def f(x: int) -> int:
            return x

        with warnings.catch_warnings():
            warnings.simplefilter("error", KeptWarning)
            f(1)
        reset()
    with wellkept.open("files:./f") as far:
        until(lambda: far.size().calls == 1)
