"""The memory tier: exact across processes, bounded, and never another caller's object."""

import os
import random
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept.caches.tier import Entry, Tier
from wellkept.codecs.envelope import Envelope
from wellkept.stores.embedded import Embedded

RAN: list[Any] = []
STAMP = ["a"]  # what the body returns now


@keep(version=1, name="f")
def f(x: int) -> Any:
    RAN.append(x)
    value = f"{x} {STAMP[0]}"
    return [value] if x % 2 else value


CHILD = """
import sys
import wellkept
from wellkept import keep

STAMP = ["?"]

@keep(version=1, name="f")
def f(x):
    value = f"{x} {STAMP[0]}"
    return [value] if x % 2 else value

with wellkept.use("./here"):
    for line in sys.stdin:
        what, x, STAMP[0] = line.split()
        print(repr(getattr(f, what)(int(x)) if what != "ask" else f(int(x))), flush=True)
"""


class Child:
    """Another process that works on the same cache, one order at a time."""

    def __init__(self) -> None:
        Path("child.py").write_text(textwrap.dedent(CHILD))
        self.process = subprocess.Popen(
            [sys.executable, "child.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self, what: str, x: int, stamp: str = "child") -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{what} {x} {stamp}\n")
        self.process.stdin.flush()
        return eval(self.process.stdout.readline())


@pytest.fixture
def child() -> Iterator[Child]:
    made = Child()
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.fixture(autouse=True)
def cache() -> Iterator[wellkept.Cache]:
    RAN.clear()
    STAMP[0] = "a"
    with wellkept.open("here") as made, wellkept.use(made):
        yield made


def value(x: int, stamp: str) -> Any:
    return [f"{x} {stamp}"] if x % 2 else f"{x} {stamp}"


def test_what_another_process_forgets_is_gone_at_once(child: Child) -> None:
    for x in (0, 1):
        assert f(x) == f(x) == value(x, "a")
        assert child("forget", x) is True
        assert not f.contains(x)
        STAMP[0] = "b"
        assert f(x) == value(x, "b")
        STAMP[0] = "a"


def test_what_another_process_replaces_is_seen_at_once(child: Child) -> None:
    for x in (0, 1):
        assert f(x) == f(x) == value(x, "a")
        assert child("rerun", x, "new") == value(x, "new")
        assert f(x) == value(x, "new")
        assert f.load(x) == value(x, "new")


@pytest.mark.parametrize("seed", range(3))
def test_two_processes_and_a_dict(child: Child, seed: int) -> None:
    """Each does what it likes; every answer is what one dict would have given."""
    rng = random.Random(seed)
    model: dict[int, Any] = {}
    for step in range(250):
        what = rng.choice(["ask", "ask", "ask", "ask", "rerun", "forget", "contains"])
        x = rng.randrange(4)
        stamp = STAMP[0] = f"s{step}"
        got = (
            child(what, x, stamp)
            if rng.random() < 0.4
            else f(x)
            if what == "ask"
            else getattr(f, what)(x)
        )
        if what == "forget":
            expected: Any = model.pop(x, None) is not None
        elif what == "contains":
            expected = x in model
        elif what == "rerun":
            expected = model[x] = value(x, stamp)
        else:
            expected = model.setdefault(x, value(x, stamp))
        assert got == expected, (step, what, x)


@pytest.fixture
def read(cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The keys that were asked of the index."""
    found: list[bytes] = []
    fetch = cache.backend.fetch
    monkeypatch.setattr(cache.backend, "fetch", lambda key: (found.append(key), fetch(key))[1])
    return found


def test_what_another_process_adds_leaves_the_tier_as_it_is(
    child: Child, read: list[bytes]
) -> None:
    f(0), f(1)
    child("ask", 2)
    f(0)  # its commit follows one that says nothing of what was changed before
    read.clear()
    for x in range(3, 40):
        assert child("ask", x) == value(x, "child")
        assert f(0) == value(0, "a")
        assert f(1) == value(1, "a")
    assert not read
    assert f(39) == value(39, "child")
    assert child("forget", 0) is True
    child("ask", 50)
    assert not f.contains(0)


KILLED = """
import os
import sys
import wellkept
from wellkept.stores.epoch import Epochs
sys.path.insert(0, ".")
from child import f

cache = wellkept.open("here")
with wellkept.use(cache):
    f(0)
    if sys.argv[1] == "killed":
        # Right after the commit, before anybody is told what it was.
        Epochs.commit = lambda *_: os._exit(0)
    elif sys.argv[1] == "older":
        # As a version of the library that knows no epochs.
        cache.backend.database.epochs = None
    f.forget(0)
"""


@pytest.mark.parametrize("how", ["killed", "older", "foreign"])
def test_a_commit_that_does_not_say_what_it_did_counts_as_any_change(
    how: str, child: Child
) -> None:
    f(0), f(1)
    child("ask", 2)
    child("ask", 3)
    assert f(0) == value(0, "a")  # held in the epoch of the child's commits
    program = KILLED
    if how == "foreign":
        program = (
            "import sqlite3\nc = sqlite3.connect('here/index.sqlite')\n"
            "c.execute('DELETE FROM calls')\nc.commit()"
        )
    else:
        program = program.replace("from child import f", textwrap.dedent(CHILD).split("with ")[0])
    done = subprocess.run([sys.executable, "-c", program, how], check=False)
    assert done.returncode == 0
    # What adds a call now must not make what was done before it look like an addition.
    child("ask", 4)
    assert not f.contains(0)
    STAMP[0] = "b"
    assert f(0) == value(0, "b")


def test_what_is_evicted_elsewhere_is_gone_at_once(child: Child) -> None:
    for x in range(4):
        f(x)
    with wellkept.open("here") as other:
        child("ask", 10)
        child("ask", 11)
        assert f(0) == value(0, "a")
        other.evict(keys=[f.key(0)])
        child("ask", 12)
        assert not f.contains(0)
        assert f(1) == value(1, "a")
        with wellkept.use(other.limited(calls=1)):
            f(30)
        child("ask", 13)
        assert not f.contains(1)


def test_a_forked_child_and_its_parent_see_each_other() -> None:
    f(0), f(1), f(2)
    read, write = os.pipe()
    back, forth = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            STAMP[0] = "child"
            assert f(0) == value(0, "a")
            f.forget(0)
            f.rerun(1)
            f(4)
            os.write(write, b"x")
            os.read(back, 1)
            assert f(2) == value(2, "parent")
            os._exit(0)
        finally:
            os._exit(1)
    os.read(read, 1)
    assert f.load(1) == value(1, "child")
    assert f.load(4) == value(4, "child")
    STAMP[0] = "parent"
    assert f(0) == value(0, "parent")
    f.rerun(2)
    os.write(forth, b"x")
    assert os.waitpid(pid, 0)[1] == 0


def test_two_caches_of_one_process() -> None:
    with wellkept.open("here") as other:
        assert f(0) == f(0) == value(0, "a")
        STAMP[0] = "b"
        with wellkept.use(other):
            assert f(0) == value(0, "a")
            f.rerun(0)
        assert f(0) == value(0, "b")
        f.forget(0)
        with wellkept.use(other):
            assert not f.contains(0)


def until_computed_again(x: int) -> None:
    end = time.monotonic() + 20
    ran = len(RAN)
    while len(RAN) == ran:
        assert time.monotonic() < end, "what was removed is still served"
        f(x)
        time.sleep(0.02)


@pytest.mark.parametrize(
    "how", ["directory", "replaced", pytest.param("index", marks=pytest.mark.long)]
)
def test_an_index_that_is_removed_under_a_running_process(
    how: str, cache: wellkept.Cache, child: Child
) -> None:
    f(0), f(1)
    assert isinstance(cache.backend, Embedded)
    if how == "directory":
        shutil.rmtree("here")
    else:
        for path in Path("here").glob("index.sqlite*"):
            path.unlink()
    if how == "replaced":
        child("ask", 0, "child")
        cache.backend._looked = 0.0  # it looks once a second
        end = time.monotonic() + 20
        while f(0) != value(0, "child"):
            assert time.monotonic() < end
            time.sleep(0.02)
    else:
        cache.backend._looked = 0.0
        until_computed_again(0)
    STAMP[0] = "again"
    f.rerun(1)
    end = time.monotonic() + 20
    while child("ask", 1) != value(1, "again"):
        assert time.monotonic() < end
        time.sleep(0.02)


def held(cache: wellkept.Cache) -> int:
    return sum(entry.cost for entry in cache.tier.entries.values())


def test_it_is_bounded() -> None:
    with wellkept.open("small", memory="100 kB") as cache, wellkept.use(cache):
        big = keep(lambda n: bytes(n) * 1000)
        many = keep(lambda n: "x" * 500 + str(n))
        for i in range(40):
            big(i), big(i)
            assert held(cache) <= 105_000
        for i in range(200):
            many(i)
            assert held(cache) <= 105_000
        assert 10 < len(cache.tier.entries) < 200
        assert all(many(i) == "x" * 500 + str(i) for i in range(200))
        assert held(cache) <= 105_000


def test_it_is_bounded_when_it_is_filled_by_hits() -> None:
    with wellkept.open("small", memory=0) as cache, wellkept.use(cache):
        for i in range(100):
            keep(str.upper)("x" * 2000 + str(i))
    with wellkept.open("small", memory="50 kB") as cache, wellkept.use(cache):
        for i in [*range(100), *range(100)]:
            assert keep(str.upper)("x" * 2000 + str(i)) == "X" * 2000 + str(i)
            assert held(cache) <= 52_500


def test_one_that_is_too_large_is_not_held() -> None:
    with wellkept.open("small", memory="10 kB") as cache, wellkept.use(cache):
        large = keep(lambda n: "x" * n)
        assert len(large(50_000)) == len(large(50_000)) == 50_000
        assert not cache.tier.entries
        assert large.stats().hits == 1


def test_it_can_be_switched_off() -> None:
    with wellkept.open("here", memory=0) as cache, wellkept.use(cache):
        assert f(0) == f(0) == f(0)
        assert RAN == [0]
        assert not cache.tier.entries
        f.forget(0)
        assert not f.contains(0)


def test_what_is_used_stays() -> None:
    tier = Tier(10_000)

    def small() -> Entry:
        # With what an entry takes besides: 1,000 bytes.
        return Entry(None, Envelope("pickle", bytes(400), ()))  # type: ignore[arg-type]  # it is not read

    often = small()
    tier.follow((1, 1), None)
    tier.add(b"often", often, (1, 1))
    for i in range(30):
        often.hot = True
        tier.add(b"%d" % i, small(), (1, 1))
    assert b"often" in tier.entries
    assert len(tier.entries) == 10
    assert tier.follow((2, 2), None)
    assert not tier.entries  # something was committed: nothing older is served


def test_a_hit_in_memory_is_never_aliased() -> None:
    one, two = f(1), f(1)
    one.append("changed")
    two.append("too")
    assert f(1) == value(1, "a")


def test_expiry_is_seen_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    g = keep(ttl=100, name="g")(lambda x: RAN.append(x) or x)
    g(0), g(0)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 101)
    g(0)
    assert RAN == [0, 0]


def test_of_calls_that_are_replaced_together_none_is_served_as_it_was(
    cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    f(0), f(2)
    made: list[Any] = []
    for x in (0, 2):
        call = cache.calls.get(f.key(x))
        assert call is not None
        made.append((f.key(x).raw, "new", call, cache.values.get(call.result)))
    advance, held = cache.tier.advance, []

    def advanced(*given: Any) -> None:
        advance(*given)
        held.append([cache.fresh(f.key(x).raw) for x in (0, 2)])

    monkeypatch.setattr(cache.tier, "advance", advanced)
    before = [cache.fresh(f.key(x).raw) for x in (0, 2)]
    assert None not in before
    cache.keep_all(made)
    assert held
    assert not set(before) & {entry for entries in held for entry in entries}


def test_who_shares_a_commit_with_what_another_thread_replaced_serves_nothing_of_before(
    cache: wellkept.Cache,
) -> None:
    f(0), f(2)
    keys = [f.key(x).raw for x in (0, 2)]
    items: list[Any] = []
    for key in keys:
        call = cache.calls.get(key.hex())
        assert call is not None
        items.append((call, cache.values.get(call.result)))
    assert None not in map(cache.fresh, keys)
    done = cache.backend.commit_many(items)
    # One thread has heard of the commit, the other not yet.
    first = done[0]
    assert first is not None
    cache.tier.advance(first[0], keys[0], None)
    assert cache.fresh(keys[1]) is None


def test_notes_leave_the_tier_as_it_is() -> None:
    cache, other = wellkept.open("here"), wellkept.open("here")
    with wellkept.use(cache):
        f(0)
        f(2)
        key = f.key(2).raw
        assert cache.fresh(key) is not None
        cache.backend.notes.put("env/a", b"note")
        cache.backend.notes.put_many({"env/b": b"1", "env/c": b"2"})
        assert cache.fresh(key) is not None
        other.backend.notes.put("env/d", b"note")
        assert cache.fresh(key) is not None
        # A note together with what another one did is a change.
        with wellkept.use(other):
            f.forget(0)
        cache.backend.notes.put("env/e", b"note")
        assert cache.fresh(key) is None
        assert not f.contains(0)
