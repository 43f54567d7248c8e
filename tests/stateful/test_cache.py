"""A cache beside a dict, with two real processes that share it: what one does, the other sees."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.faults.processes import Child
from tests.remote.webs import Anywhere
from tests.services import Service, ssh_options_of
from tests.stateful.actor import TTL, Actor
from tests.thorough import often

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

NAMES = st.sampled_from(["small", "text", "large", "brief"])
NUMBERS = st.integers(0, 2)
ACTORS = st.sampled_from(["A", "B", "B", "A", "A in a fork", "B in a fork"])
ROOT = Path(__file__).parents[2]


class Processes:
    """A, which is this one, and B, which lives as long as the test does, unless it is killed."""

    def __init__(self) -> None:
        self.a = Actor()
        self.b: Child | None = None
        shm = Path("/dev/shm")
        place = shm if shm.is_dir() and os.access(shm, os.W_OK) else None
        self.scratch = Path(tempfile.mkdtemp(prefix="wellkept-stateful-", dir=place))
        self.last: tuple[Any, ...] = ()
        self.reach: tuple[Any, ...] = ()
        self.number = 0

    def do(self, actor: str, *command: Any) -> Any:
        if actor.endswith("in a fork"):
            command = ("in_fork", *command)
        if actor.startswith("A"):
            return self.a.do(*command)
        if self.b is None:
            source = """
            import sys
            sys.path.insert(0, sys.argv[1])
            from tests.stateful.actor import main
            main()
            """
            self.b = Child(source, ROOT)
            if self.reach:
                self.do("B", *self.reach)
            if command[0] != "reset":
                self.do("B", *self.last)
        self.b.say(json.dumps(command))
        answer = json.loads(self.b.line())
        assert "error" not in answer, answer["error"]
        return answer["is"]

    def reset(self, memory: str, network: bool) -> Path:
        self.number += 1
        root = self.scratch / str(self.number)
        self.last = ("reset", str(root), memory, network, 0.0)
        for actor in "AB":
            self.do(actor, *self.last)
        return root

    def over_ssh(self, service: Service) -> None:
        self.reach = "reach", service.url, ssh_options_of(service)
        self.a.do(*self.reach)

    def over_http(self, service: Anywhere) -> None:
        self.reach = "reach", service.url, service.options
        self.a.do(*self.reach)

    def kill(self) -> None:
        if self.b is not None:
            self.b.__exit__()
            self.b = None

    def close(self) -> None:
        self.kill()
        self.a.do("close")
        shutil.rmtree(self.scratch, ignore_errors=True)


class Machine(RuleBasedStateMachine):
    """The model: what is kept under each call, and when it was computed."""

    processes: Processes

    @initialize(
        memory=st.sampled_from(["256 MB", "256 MB", "0", "20 KB"]),
        network=st.sampled_from([False, False, True]),
    )
    def begin(self, memory: str, network: bool) -> None:
        self.root = self.processes.reset(memory, network)
        self.kept: dict[tuple[str, int], tuple[str, float]] = {}
        self.ran: Counter[str] = Counter()
        self.now = 0.0
        self.nonces = 0

    def nonce(self) -> str:
        self.nonces += 1
        return f"n{self.nonces}"

    def current(self, call: tuple[str, int]) -> bool:
        if call not in self.kept:
            return False
        return call[0] != "brief" or self.now - self.kept[call][1] < TTL

    def compute(self, call: tuple[str, int], nonce: str) -> None:
        self.kept[call] = nonce, self.now
        self.ran[f"{call[0]} {call[1]}"] += 1

    @rule(actor=ACTORS, name=NAMES, i=NUMBERS)
    def call(self, actor: str, name: str, i: int) -> None:
        nonce = self.nonce()
        if not self.current((name, i)):
            self.compute((name, i), nonce)
        got = self.processes.do(actor, "call", name, i, nonce)
        assert got == f"{i} {self.kept[name, i][0]}"

    @rule(actor=ACTORS, name=NAMES, i=NUMBERS)
    def rerun(self, actor: str, name: str, i: int) -> None:
        nonce = self.nonce()
        self.compute((name, i), nonce)
        assert self.processes.do(actor, "rerun", name, i, nonce) == f"{i} {nonce}"

    @rule(actor=ACTORS, name=NAMES, i=NUMBERS)
    def forget(self, actor: str, name: str, i: int) -> None:
        there = self.kept.pop((name, i), None) is not None
        assert self.processes.do(actor, "forget", name, i) is there

    @rule(actor=ACTORS, name=NAMES, i=NUMBERS)
    def contains(self, actor: str, name: str, i: int) -> None:
        assert self.processes.do(actor, "contains", name, i) is self.current((name, i))

    @rule(actor=ACTORS, name=NAMES, i=NUMBERS)
    def load(self, actor: str, name: str, i: int) -> None:
        wanted = f"{i} {self.kept[name, i][0]}" if self.current((name, i)) else "not kept"
        assert self.processes.do(actor, "load", name, i) == wanted

    @rule(actor=ACTORS, name=NAMES)
    def evict(self, actor: str, name: str) -> None:
        gone = [call for call in self.kept if call[0] == name]
        assert self.processes.do(actor, "evict", name) == len(gone)
        for call in gone:
            del self.kept[call]

    @rule(actor=ACTORS)
    def verify(self, actor: str) -> None:
        assert self.processes.do(actor, "verify") == []

    @rule(actor=ACTORS)
    def collect(self, actor: str) -> None:
        self.processes.do(actor, "gc")

    @rule(actor=ACTORS)
    def flush(self, actor: str) -> None:
        self.processes.do(actor, "flush")

    @rule(actor=st.sampled_from("AB"), how=st.sampled_from(["close", "reopen"]))
    def close_or_reopen(self, actor: str, how: str) -> None:
        self.processes.do(actor, how)

    @rule(seconds=st.sampled_from([30.0, 60.0, 95.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.processes.last = (*self.processes.last[:-1], self.now)
        for actor in "AB":
            self.processes.do(actor, "clock", self.now)

    @rule()
    def kill_b(self) -> None:
        if self.nonces % 5 == 4:  # a new process takes a while
            self.processes.kill()

    @invariant()
    def bodies_ran_as_often_as_they_should(self) -> None:
        log = Path(f"{self.root}.log") if hasattr(self, "root") else None
        if log is not None:
            ran = Counter(log.read_text().splitlines()) if log.exists() else Counter()
            assert ran == self.ran

    def teardown(self) -> None:
        if hasattr(self, "root"):
            shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture
def processes() -> Iterator[Processes]:
    import time

    real = time.time
    Machine.processes = Processes()
    yield Machine.processes
    Machine.processes.close()
    time.time = real


def run(examples: int, steps: int) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=checks,
        ),
    )


def test_two_processes_and_a_dict(processes: Processes) -> None:
    run(8, 20)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_processes_and_a_dict_for_long(processes: Processes) -> None:
    run(often(10, 60), 60)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_processes_and_a_dict_over_ssh_for_long(processes: Processes, sshd: Service) -> None:
    processes.over_ssh(sshd)
    run(often(2, 4), often(25, 40))


@pytest.fixture
def anywhere() -> Iterator[Anywhere]:
    made = Anywhere()
    yield made
    made.close()


def test_two_processes_and_a_dict_over_http(processes: Processes, anywhere: Anywhere) -> None:
    processes.over_http(anywhere)
    run(2, 12)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_processes_and_a_dict_over_http_for_long(
    processes: Processes, anywhere: Anywhere
) -> None:
    processes.over_http(anywhere)
    run(often(4, 8), 40)
