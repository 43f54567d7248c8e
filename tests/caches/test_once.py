"""One computation a key on every medium that processes share, whatever becomes of who computes."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from tests.faults.processes import Child, notes

ROOT = Path(__file__).parents[2]
# tests/faults/test_once.py has it for a directory.
ALL_KINDS = ("files", "redis", "sqlite", "postgresql", "mariadb", "s3")
KINDS = [
    *ALL_KINDS[:2],
    *(pytest.param(kind, marks=pytest.mark.long) for kind in ALL_KINDS[2:]),
]
PROCESSES, CALLS = 4, 50

START = """
import json, os, sys, time, random, warnings
from pathlib import Path
sys.path.insert(0, os.environ["ROOT"])
import wellkept
from wellkept import keep
from wellkept.stores import leases
from tests.faults.processes import note
LOG = Path(os.environ["LOG"])
if os.environ["STORE"]:
    options = json.loads(os.environ["OPTIONS"])
    if os.environ.get("SHARED") and os.environ["STORE"].startswith(("files", "sqlite")):
        options["network"] = True  # by hosts: leases are records there
    cache = wellkept.open(os.environ["STORE"], **options)
if os.environ.get("HOST"):
    cache.backend.locks._host = os.environ["HOST"]
else:
    leases.DEAD = 600.0  # nobody of this host waits for a heartbeat
"""

ALL = """
@keep(cache=cache)
def work(i):
    note(LOG, str(i))
    time.sleep(0.002)
    return {"i": i, "data": list(range(i % 50))}

warnings.simplefilter("error", wellkept.KeptWarning)
keys = list(range(int(sys.argv[2])))
random.Random(int(sys.argv[1])).shuffle(keys)
print("ready", flush=True)
sys.stdin.readline()
for i in keys:
    assert work(i) == {"i": i, "data": list(range(i % 50))}
print("done", work.stats().computed, flush=True)
"""

SLOW = """
@keep(cache=cache)
def slow(i):
    note(LOG, f"{os.getpid()}")
    print("in the body", flush=True)
    time.sleep(float(sys.argv[1]))
    return i

print("ready", flush=True)
sys.stdin.readline()
result = slow(1)
print("result", result, slow.stats().computed, flush=True)
"""


class Start:
    """Starts processes on one store."""

    def __init__(self, url: str, home: Path, **environment: str) -> None:
        self.environment = {
            "ROOT": str(ROOT),
            "LOG": str(home / "log"),
            "STORE": url,
            **environment,
        }
        self.made: list[Child] = []

    def __call__(self, source: str, *args: object, **environment: str) -> Child:
        self.made.append(Child(START + source, *args, **self.environment, **environment))
        return self.made[-1]


@pytest.fixture(params=KINDS)
def start(request: pytest.FixtureRequest, home: Path) -> Iterator[Start]:
    started = on(request.param, request, home)
    yield started
    for one in started.made:
        one.__exit__()


@pytest.fixture
def starts(request: pytest.FixtureRequest, home: Path) -> Iterator[dict[str, Start]]:
    """On all media at once, for what waits for long; each with a log of its own."""
    made = {}
    for kind in ALL_KINDS:
        with contextlib.suppress(pytest.skip.Exception):  # a server that is not installed
            made[kind] = on(kind, request, home, LOG=str(home / f"{kind}.log"))
    yield made
    for started in made.values():
        for one in started.made:
            one.__exit__()


def on(kind: str, request: pytest.FixtureRequest, home: Path, **environment: str) -> Start:
    options: dict[str, str] = {}
    if kind == "files":
        url = f"files:{home / 'files'}"
    elif kind == "sqlite":
        url = f"sqlite:///{home / 'items.db'}"
    elif kind == "s3":
        endpoint = request.getfixturevalue("s3_url")
        url = f"s3://{request.getfixturevalue('s3_bucket')}/wellkept"
        options = {"endpoint": endpoint, "region": "us-east-1"}
        options |= {"access_key_id": "test", "secret_access_key": "test"}
    else:
        url = request.getfixturevalue(f"{kind}_url")
    return Start(url, home, OPTIONS=json.dumps(options), **environment)


def test_four_processes_compute_each_call_once(start: Start, home: Path) -> None:
    children = [start(ALL, seed, CALLS) for seed in range(PROCESSES)]
    for one in children:
        one.expect("ready")
    for one in children:
        one.say("")
    computed = [int(one.line(200).removeprefix("done ")) for one in children]
    for one in children:
        one.end(30)
    assert Counter(notes(home / "log")) == {str(i): 1 for i in range(CALLS)}
    assert sum(computed) == CALLS


def test_four_stacks_on_one_shared_cache_compute_each_call_once(home: Path) -> None:
    start = Start("", home, OPTIONS="{}")
    stacked = 'cache = wellkept.Stack(wellkept.open(f"./near{sys.argv[1]}"), wellkept.open("files:./far"))\n'
    try:
        for seed in range(PROCESSES):
            start.made.append(Child(START + stacked + ALL, seed, 50, **start.environment))
        for one in start.made:
            one.expect("ready")
        for one in start.made:
            one.say("")
        assert sum(int(one.line(100).removeprefix("done ")) for one in start.made) == 50
        assert Counter(notes(home / "log")) == {str(i): 1 for i in range(50)}
    finally:
        for one in start.made:
            one.__exit__()


def owners_and_waiters(
    starts: Iterable[Start], seconds: float, **of_waiter: str
) -> list[tuple[Child, Child]]:
    shared = {"SHARED": "1"} if of_waiter else {}
    pairs = [
        (start(SLOW, seconds, **shared), start(SLOW, 0, **shared, **of_waiter)) for start in starts
    ]
    for pair in pairs:
        for one in pair:
            one.expect("ready")
    for owner, _ in pairs:
        owner.say("")
    for owner, waiter in pairs:
        owner.expect("in the body")
        waiter.say("")
    return pairs


def test_a_waiter_takes_over_from_a_killed_owner(start: Start) -> None:
    ((owner, waiter),) = owners_and_waiters([start], 600)
    with pytest.raises(TimeoutError):
        waiter.line(0.5)
    owner.kill()
    waiter.expect("in the body")
    waiter.expect("result 1 1")


@pytest.mark.long
def test_a_waiter_elsewhere_takes_over_when_the_heart_stops(starts: dict[str, Start]) -> None:
    pairs = owners_and_waiters(starts.values(), 600, HOST="elsewhere")
    for _, waiter in pairs:
        with pytest.raises(TimeoutError):
            waiter.line(0.1)
    for owner, _ in pairs:
        owner.kill()
    for kind, (_, waiter) in zip(starts, pairs, strict=True):
        assert waiter.line() == "in the body", kind
        assert waiter.line() == "result 1 1", kind


@pytest.mark.long
def test_a_slow_owner_is_never_pre_empted(starts: dict[str, Start], home: Path) -> None:
    pairs = owners_and_waiters(starts.values(), 6, HOST="elsewhere")
    for kind, (owner, waiter) in zip(starts, pairs, strict=True):
        assert owner.line() == "result 1 1", kind
        assert waiter.line() == "result 1 0", kind
        assert len(notes(home / f"{kind}.log")) == 1, kind


CIRCLE = """
from wellkept.memo import inflight

inflight.PATIENCE, inflight._AGAIN = 0.2, 0.1

@keep(cache=cache, name="first", version=1)
def first(i):
    print("in first", flush=True)
    sys.stdin.readline()
    return second(i) + 1 if sys.argv[1] == "first" else 1

@keep(cache=cache, name="second", version=1)
def second(i):
    print("in second", flush=True)
    sys.stdin.readline()
    return first(i) + 1 if sys.argv[1] == "second" else 1

print("result", {"first": first, "second": second}[sys.argv[1]](1) > 0, flush=True)
"""


def test_processes_that_wait_for_each_other_go_on(start: Start) -> None:
    a, b = start(CIRCLE, "first"), start(CIRCLE, "second")
    a.expect("in first")
    b.expect("in second")
    for one in (a, b):
        one.say("")
    for one in (a, b):
        one.say("")  # for whichever of them computes twice
    found = {one: one.line(30) for one in (a, b)}
    for one, line in found.items():
        while not line.startswith("result"):
            line = one.line(30)
        assert line == "result True"
