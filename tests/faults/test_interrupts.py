"""An exception at any instruction: what comes after it is computed and kept, here and elsewhere."""

import contextlib
import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.faults import interrupting
from tests.faults.interrupting import Interrupt, elsewhere, interrupted, points
from tests.thorough import often

import wellkept
from wellkept.errors import StoreError
from wellkept.interrupts import Guard, Owner, settle, undisturbed
from wellkept.memo.inflight import Flight, Landing
from wellkept.stores.query_index import Listing
from wellkept.stores.sqlite_file import Writing

PROGRAM = Path(interrupting.__file__)
ROOT = Path(__file__).parents[2]
KINDS = ("miss", "hit", "disk-hit", "set", "batch", "each")
LOCAL = ("{}/c", "memory:", "files:{}/f", "sqlite:///{}/x.db")
SERVERS = ("redis", "postgresql")


def run(kinds: Sequence[str], url: str, step: int) -> None:
    seed = random.randrange(step)
    done = subprocess.run(
        [sys.executable, PROGRAM, ",".join(kinds), url, str(step), str(seed)],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    print(seed, done.stdout)
    said = f"each {step} from {seed} on: {done.stdout[-1000:]} {done.stderr[-2000:]}"
    assert done.stdout.count(" 0 wrong") == len(kinds), said


def url_of(medium: str, home: Path, request: pytest.FixtureRequest) -> str:
    url: str = medium.format(home)
    return request.getfixturevalue(f"{medium}_url") if medium in SERVERS else url


@pytest.mark.parametrize("medium", LOCAL, ids=["embedded", "memory", "files", "sqlite"])
def test_some_instructions(medium: str, home: Path, request: pytest.FixtureRequest) -> None:
    run([random.choice(KINDS)], url_of(medium, home, request), 40)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "medium", [*LOCAL, *SERVERS], ids=["embedded", "memory", "files", "sqlite", *SERVERS]
)
def test_each_instruction(medium: str, home: Path, request: pytest.FixtureRequest) -> None:
    run(KINDS, url_of(medium, home, request), often(48 if medium in SERVERS else 24, 1))


# -- transactions ---------------------------------------------------------------------------------


@pytest.fixture
def cache(home: Path) -> Iterator[wellkept.Cache]:
    made = wellkept.open(home / "c")
    yield made
    made.close()


def left_open(cache: wellkept.Cache, held: list[object]) -> None:
    """A write transaction whose end was interrupted before it began, as nothing can prevent."""
    writing = Writing(cache.backend.database, None)
    c = writing.__enter__()
    c.execute("INSERT OR REPLACE INTO meta VALUES ('left', '1')")
    held.append(writing)


def written_by_another(cache: wellkept.Cache) -> bool:
    with contextlib.closing(sqlite3.connect(cache.backend.database.path, timeout=0.05)) as c:
        try:
            c.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return False
        return True


def test_a_transaction_that_nobody_is_in_is_undone_by_the_next_use(cache: wellkept.Cache) -> None:
    held: list[object] = []
    left_open(cache, held)
    assert not written_by_another(cache)
    f = wellkept.keep(cache=cache, version=1)(interrupting.body)
    assert f(1) == interrupting.body(1)
    assert f.contains(1)
    assert f.stats().unavailable == 0
    assert written_by_another(cache)
    assert not any(cache.backend.database.rows("SELECT 1 FROM meta WHERE name = 'left'"))
    assert elsewhere(lambda: str(f(2) == interrupting.body(2))) == "True", "its lock is free"


def test_it_is_undone_at_once_where_the_exception_leaves_the_library(cache: wellkept.Cache) -> None:
    held: list[object] = []
    left_open(cache, held)
    settle()
    assert written_by_another(cache)
    assert elsewhere(lambda: str(cache.backend.database.token() is not None)) == "True"


def test_a_handler_that_calls_in_the_midst_of_a_write_leaves_it_whole(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    f = wellkept.keep(cache=cache, version=1)(interrupting.body)
    inside = Listing.add
    seen = []

    def add(self: Listing, *arguments: Any) -> None:
        monkeypatch.setattr(Listing, "add", inside)
        inside(self, *arguments)
        with pytest.warns(wellkept.KeptWarning, match="in the midst of a write"):
            assert f(1) == interrupting.body(1)
        settle()
        seen.append(written_by_another(cache))

    monkeypatch.setattr(Listing, "add", add)
    assert f(2) == interrupting.body(2)
    assert seen == [False], "it went on"
    assert f.contains(2)
    assert f(1) == interrupting.body(1)
    assert f.contains(1)
    assert written_by_another(cache)


def test_a_handler_that_closes_in_the_midst_of_a_write_loses_nothing(cache: wellkept.Cache) -> None:
    f = wellkept.keep(cache=cache, version=1)(interrupting.body)
    numbers = itertools.count(1)

    def make() -> None:
        given = [next(numbers), next(numbers)]
        assert f.map(given) == [interrupting.body(n) for n in given]
        assert all(f.contains(n) for n in given)

    make()
    listed = Listing.add.__code__
    for at in [at for at in points(make) if at[0] is listed]:
        interrupted(make, at, cache.close)


def test_a_signal_in_the_midst_of_state_leaves_no_lock(home: Path) -> None:
    store = wellkept.store("s", cache=home / "c")
    store.set("a", 1)
    todo = points(lambda: store.increment("a"))
    for at in random.sample(todo, min(60, len(todo))):
        interrupted(lambda: store.increment("a"), at)
        assert isinstance(store.increment("a"), int)
    other = "import wellkept, sys; wellkept.store('s', cache=sys.argv[1]).set('b', 2); print('set', flush=True)"
    done = subprocess.run(
        [sys.executable, "-c", other, home / "c"], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "set", done.stderr


# -- leases ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("medium", LOCAL, ids=["embedded", "memory", "files", "sqlite"])
@pytest.mark.parametrize("thread", ["the same", "another"])
def test_a_lease_that_nobody_computes_under_is_taken_over(
    medium: str, thread: str, home: Path
) -> None:
    f = wellkept.keep(cache=medium.format(home), version=1)(interrupting.body)
    locks, key = f.cache.backend.locks, f.key(1).raw
    dead = Flight(None, locks, key)
    assert dead.take()
    assert not locks.acquire(key)
    if thread == "another":  # which can tell once this one does no call of ours
        assert elsewhere(lambda: str(f(1) == interrupting.body(1))) == "True"
    else:
        assert f(1) == interrupting.body(1)
    assert f.contains(1)


def test_a_lease_ends_with_the_frame_that_had_it(home: Path) -> None:
    f = wellkept.keep(cache=home / "c", version=1)(interrupting.body)
    locks, key = f.cache.backend.locks, f.key(1).raw
    landing = Landing()
    flight = Flight(None, locks, key, None, landing)
    assert flight.take()
    del landing
    assert locks.holder(key) is None


def test_an_owner_that_is_over_holds_nothing(home: Path) -> None:
    locks = wellkept.open(home / "c").backend.locks
    one, other = Owner(), Owner()
    key = b"k" * 32
    assert locks.acquire(key, one)
    assert not locks.acquire(key, other)
    one.over = True
    assert locks.acquire(key, other)
    locks.release(key, one)
    assert locks.holder(key) is other, "what is another's is not let go"
    locks.release(key, other)
    assert locks.holder(key) is None


# -- guards and imports ---------------------------------------------------------------------------


def test_settle_lets_go_of_a_guard() -> None:
    guard = Guard()
    guard.acquire()
    guard.acquire()
    settle()
    assert elsewhere(lambda: str(guard.acquire(blocking=False))) == "True"


def test_no_signal_interrupts_what_is_undisturbed() -> None:
    entered, ended = threading.Event(), threading.Event()

    def long() -> int:
        entered.set()
        time.sleep(0.05)
        ended.set()
        return 1

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Interrupt):
            undisturbed(long)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert ended.wait(30)
    assert undisturbed(long) == 1
    with pytest.raises(StoreError):
        undisturbed(raising)


def raising() -> None:
    raise StoreError("as it is")


IMPORTING = """
import sys, warnings, signal
warnings.simplefilter("ignore")
import wellkept

@wellkept.keep(cache=sys.argv[1], version=1)
def f(n):
    return n

signal.signal(signal.SIGALRM, signal.default_int_handler)
try:
    signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
    f(1)
except KeyboardInterrupt:
    pass
signal.setitimer(signal.ITIMER_REAL, 0)
print(f(1), f(2))
"""


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1/0", "postgresql://wellkept@127.0.0.1:1/wellkept"], ids=SERVERS
)
def test_a_driver_is_imported_whole(url: str) -> None:
    for at in (0.03, 0.15):
        done = subprocess.run(
            [sys.executable, "-c", IMPORTING, url, str(at)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "1 2\n", (at, done.stderr)


# -- servers --------------------------------------------------------------------------------------


def test_an_answer_that_nobody_waited_for_is_given_to_nobody(redis_url: str) -> None:
    store = wellkept.stores.Redis(redis_url)
    store.put("a", b"1")
    store.put("b", b"2")
    for at in points(lambda: store.get("a")):
        for _ in range(3):
            interrupted(lambda: store.get("a"), at)
            assert store.get("b") == b"2"
    pool = store._client.connection_pool
    assert len(pool._in_use_connections) == 0


LOSING = """
import gc, random, sys
from tests.faults.interrupting import interrupted, points
import wellkept

store = wellkept.stores.Sql(sys.argv[1], pool=1, timeout=2.0)
store.put("a", b"1")
todo = points(lambda: store.get("a"))
gc.freeze()  # what is lost is found by the collector, which is given nothing else to look at
for at in random.sample(todo, 20):
    for _ in range(3):
        interrupted(lambda: store.get("a"), at)
    assert store.get("a") == b"1", at
print("all is well")
"""


def test_lost_connections_take_no_room(postgresql_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSING, postgresql_url],
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert done.stdout == "all is well\n", done.stderr[-3000:]
