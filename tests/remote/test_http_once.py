"""One computation a key among clients of a server over http, whatever becomes of who computes."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.faults.processes import Child, notes
from tests.faults.test_once import ALL, CIRCLE, FORKING, SLOW
from tests.remote.webs import Anywhere

START = """
import json, os, sys, time, random, warnings
from pathlib import Path
import wellkept
from wellkept import keep
sys.path.insert(0, os.environ["ROOT"])
from tests.faults.processes import note
LOG = Path(os.environ["LOG"])
cache = wellkept.open(os.environ["STORE"], **json.loads(os.environ["OPTIONS"]))
"""


@pytest.fixture(scope="module")
def anywhere() -> Iterator[Anywhere]:
    made = Anywhere()
    yield made
    made.close()


@pytest.fixture
def child(home: Path, anywhere: Anywhere) -> Iterator[Callable[..., Child]]:
    made: list[Child] = []

    def start(source: str, *args: object, here: bool = False) -> Child:
        environment = {
            "ROOT": str(Path(__file__).parents[2]),
            "LOG": str(home / "log"),
            "STORE": f"{home}/store" if here else f"{anywhere.url}{home}/store",
            "OPTIONS": "{}" if here else json.dumps(anywhere.options),
        }
        made.append(Child(START + textwrap.dedent(source), *args, **environment))
        return made[-1]

    yield start
    for one in made:
        one.__exit__()


def test_clients_and_who_has_the_directory_compute_each_call_once(
    child: Callable[..., Child], home: Path
) -> None:
    for one in [child(ALL, seed, here=seed == 3) for seed in range(4)]:
        one.end(100)
    assert Counter(notes(home / "log")) == {str(i): 1 for i in range(50)}


def owner_and_waiter(child: Callable[..., Child], seconds: float) -> tuple[Child, Child]:
    owner, waiter = child(SLOW, seconds), child(SLOW, 0)
    owner.expect("ready")
    waiter.expect("ready")
    owner.say("")
    owner.expect("in the body")
    waiter.say("")
    return owner, waiter


@pytest.mark.long
def test_a_waiter_takes_over_from_a_killed_owner(child: Callable[..., Child]) -> None:
    owner, waiter = owner_and_waiter(child, 600)
    with pytest.raises(TimeoutError):
        waiter.line(1.0)
    owner.kill()
    waiter.expect("in the body")
    waiter.expect("result 1 1")


@pytest.mark.long
def test_a_slow_owner_is_not_pre_empted(child: Callable[..., Child], home: Path) -> None:
    owner, waiter = owner_and_waiter(child, 6.5)
    owner.expect("result 1 1", 30)
    waiter.expect("result 1 0", 30)
    assert len(notes(home / "log")) == 1


@pytest.mark.long
def test_a_forked_child_does_not_hold_its_parents_lease(child: Callable[..., Child]) -> None:
    owner, waiter = child(FORKING, "fork"), child(FORKING, "no")
    owner.expect("ready")
    waiter.expect("ready")
    owner.say("")
    owner.expect("in the body")
    owner.expect("forked")
    waiter.say("")
    with pytest.raises(TimeoutError):
        waiter.line(0.5)
    owner.kill()  # its child lives on
    waiter.expect("in the body", 30.0)
    waiter.expect("result 1")


@pytest.mark.long
def test_processes_that_wait_for_each_other_go_on(child: Callable[..., Child]) -> None:
    one, other = child(CIRCLE, "f"), child(CIRCLE, "g")
    one.expect("in f")
    other.expect("in g")
    one.say("")
    other.say("")
    assert {one.line(30), other.line(30)} <= {"result 10", "result 11", "result 12"}
