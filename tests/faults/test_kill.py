"""A process killed at any instant: the next call works, and nothing half-written is ever read."""

import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from tests.stores import written
from tests.thorough import new_seed, often

import wellkept
from wellkept import keep
from wellkept.stores import embedded, index_tables, leases
from wellkept.stores.blobs import Blobs
from wellkept.stores.embedded import Embedded
from wellkept.stores.leases import RangeLeases
from wellkept.stores.sqlite_file import Database

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

NETWORK = pytest.mark.parametrize("network", [False, True], ids=["local", "network"])


@keep(version=1)
def large(i: int) -> bytearray:
    return bytearray(b"%6d" % i) * 30_000


@keep(version=1)
def small(i: int) -> tuple[int, str]:
    return i, "small"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def until_killed(do: Callable[[], None]) -> None:
    """Run in a forked child, which must be killed."""
    pid = os.fork()
    if pid == 0:
        try:
            do()
        except BaseException as error:  # noqa: BLE001  the parent sees the status
            os.write(2, f"in the child: {error!r}\n".encode())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, "it lived on"


def audit(root: Path, network: bool = False) -> None:
    """What is there after a kill is whole: each blob is what its name says, each row what it was."""
    for path in (root / "blobs").glob("??/*"):
        assert blake3(path.read_bytes()).hexdigest() == path.name, "a half-written blob has a name"
    store = Embedded(root, network=network)
    try:
        for key in store.calls.keys():  # noqa: SIM118  a store is no dict
            call = store.calls.get(key)
            assert call is not None
        for key in store.values.keys():  # noqa: SIM118  as above
            assert store.values.get(key) is not None
    finally:
        store.close()
    with closing(sqlite3.connect(root / "index.sqlite")) as c:
        assert c.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert list((root / "tmp").iterdir()) == [], "leftovers were not swept"


def works(root: Path, network: bool = False) -> None:
    """Calls are answered, and kept."""
    with wellkept.open(root, network=network) as cache, wellkept.use(cache):
        for function in (large, small):
            assert function(1) == function.__wrapped__(1)
            assert function(2) == function.__wrapped__(2)
            assert function.contains(1)
            assert function.contains(2)
    assert cache.counts["damaged"] == 0


# -- where it is killed: each takes a way to patch, and patches in the child -----------------------

Patch = Callable[[Any, str, Any], None]


def before_the_blob(patch: Patch) -> None:
    patch(Blobs, "_write", lambda *_: die())


def in_the_middle_of_the_blob(patch: Patch) -> None:
    write = os.write

    def some(fd: int, content: Any) -> int:
        write(fd, bytes(content[: len(content) // 2]))
        die()
        return 0

    patch(os, "write", some)


def before_the_rename(patch: Patch) -> None:
    patch(os, "replace", lambda *_: die())


def after_the_rename(patch: Patch) -> None:
    rename = os.replace

    def then(*args: Any) -> None:
        rename(*args)
        die()

    patch(os, "replace", then)


def _at_the_transaction(patch: Patch, where: str) -> None:
    writing = Database.writing

    @contextlib.contextmanager
    def around(self: Database, **options: Any) -> Iterator[sqlite3.Connection]:
        if where == "before":
            die()
        with writing(self, **options) as c:
            if where == "begun":
                die()
            yield c
            if where == "written":
                die()
        die()

    patch(Database, "writing", around)


def before_the_transaction(patch: Patch) -> None:
    _at_the_transaction(patch, "before")


def when_the_transaction_has_begun(patch: Patch) -> None:
    _at_the_transaction(patch, "begun")


def before_the_commit(patch: Patch) -> None:
    _at_the_transaction(patch, "written")


def after_the_commit(patch: Patch) -> None:
    _at_the_transaction(patch, "after")


def with_the_lock_of_blobs(patch: Patch) -> None:
    writing_blobs = RangeLeases.writing_blobs

    @contextlib.contextmanager
    def around(self: RangeLeases) -> Iterator[None]:
        with writing_blobs(self):
            die()
            yield

    patch(RangeLeases, "writing_blobs", around)


def while_uses_are_flushed(patch: Patch) -> None:
    def count(self: Embedded, uses: Any) -> None:
        with self.database.writing() as c:
            c.execute("INSERT INTO uses VALUES (1, 1, 1.0)")
            die()

    patch(Embedded, "count", count)


def before_closing(patch: Patch) -> None:
    patch(Database, "close", lambda self: die() if self._connection else None)


def in_the_checkpoint(patch: Patch) -> None:
    def close(self: Database) -> None:
        if self._connection is not None:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            die()

    patch(Database, "close", close)


POINTS = [
    before_the_blob,
    in_the_middle_of_the_blob,
    before_the_rename,
    after_the_rename,
    before_the_transaction,
    when_the_transaction_has_begun,
    before_the_commit,
    after_the_commit,
    with_the_lock_of_blobs,
    while_uses_are_flushed,
    before_closing,
    in_the_checkpoint,
]


@NETWORK
@pytest.mark.parametrize("empty", [True, False], ids=["new", "used"])
@pytest.mark.parametrize("point", POINTS, ids=lambda point: point.__name__)
def test_killed(home: Path, point: Callable[[Patch], None], empty: bool, network: bool) -> None:
    root = home / "store"
    if not empty:
        with wellkept.open(root, network=network) as cache, wellkept.use(cache):
            small(1)
            large(3)

    def child() -> None:
        with wellkept.open(root, network=network) as cache, wellkept.use(cache):
            point(setattr)
            large(1)
            large(1)
            small(2)

    until_killed(child)
    works(root, network)
    audit(root, network)
    works(root, network)


@NETWORK
def test_killed_with_the_lease_and_in_the_body(
    home: Path, network: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = home / "store"

    @keep(version=2, name="mine")
    def deadly(i: int) -> int:
        if os.getpid() != parent:
            die()
        return i

    parent = os.getpid()

    def child() -> None:
        with wellkept.open(root, network=network) as cache, wellkept.use(cache):
            deadly(1)

    until_killed(child)
    with wellkept.open(root, network=network) as cache, wellkept.use(cache):
        monkeypatch.setattr(leases, "DEAD", 600.0)  # at once, not for want of a heartbeat
        assert deadly(1) == 1
        assert deadly.stats().computed == 1
    audit(root, network)


NEW, MIGRATED = index_tables._texts(index_tables.SCHEMA), index_tables._texts(4)
MAKING = [*NEW, *MIGRATED]
ALL = len(NEW)


def killed_after_statement(patch: Patch, number: int) -> None:
    class Mortal:
        """A connection that lives for so many statements that make something."""

        def __init__(self, c: sqlite3.Connection) -> None:
            self.c, self.left = c, number

        def execute(self, statement: str, *values: Any) -> Any:
            if statement in MAKING:
                if self.left == 0:
                    die()
                self.left -= 1
            done = self.c.execute(statement, *values)
            if statement == "COMMIT":
                die()
            return done

    make = index_tables.make
    patch(embedded, "make", lambda c: make(Mortal(c)))  # type: ignore[arg-type]  # does for one


SINCE_1 = len(MIGRATED) - len(index_tables._texts(1))


@NETWORK
@pytest.mark.parametrize("number", [0, 1, 3, ALL - 1, ALL])
def test_killed_while_the_index_is_made(home: Path, number: int, network: bool) -> None:
    root = home / "store"

    def child() -> None:
        killed_after_statement(setattr, number)
        wellkept.open(root, network=network)

    until_killed(child)
    works(root, network)
    audit(root, network)


@NETWORK
@pytest.mark.parametrize("number", [0, 1, SINCE_1 - 1, SINCE_1])
def test_killed_while_the_index_is_migrated(home: Path, number: int, network: bool) -> None:
    root = written.restored(1, home / "store")

    def child() -> None:
        killed_after_statement(setattr, number)
        wellkept.open(root, network=network)

    until_killed(child)
    with closing(sqlite3.connect(root / "index.sqlite")) as c:
        (version,) = c.execute("PRAGMA user_version").fetchone()
        assert version == (4 if number == SINCE_1 else 1)
    with wellkept.open(root, network=network) as cache, wellkept.use(cache):
        for function, arguments in written.calls():
            before = function.stats().computed
            assert function(*arguments) == function.__wrapped__(*arguments)
            assert function.stats().computed == before
    works(root, network)
    assert wellkept.open(root, network=network).verify().ok


@pytest.mark.parametrize("after", ["connect", "mode"])
def test_killed_while_the_index_is_opened(home: Path, after: str) -> None:
    root = home / "store"

    def child() -> None:
        if after == "connect":
            Database._prepare = lambda *_: die()  # type: ignore[method-assign]  # only in the child
        else:
            embedded.make = lambda *_: die()  # type: ignore[assignment]  # as above
        wellkept.open(root)

    until_killed(child)
    works(root)
    audit(root)


def busy(root: Path, seed: int, network: bool) -> None:
    rnd = random.Random(seed)
    while True:
        with wellkept.open(root, network=network) as cache, wellkept.use(cache):
            for _ in range(rnd.randrange(1, 12)):
                function = rnd.choice((large, small))
                i = rnd.randrange(400)
                match rnd.randrange(8):
                    case 0:
                        function.forget(i)
                    case 1:
                        function.rerun(i)
                    case _:
                        assert function(i) == function.__wrapped__(i)


def killed_at_random(root: Path, rounds: int, network: bool) -> None:
    seed = new_seed()
    print("seed", seed)
    rnd = random.Random(seed)
    for n in range(rounds):
        pids = []
        for k in range(2):
            pid = os.fork()
            if pid == 0:
                try:
                    busy(root, seed + n * 10 + k, network)
                except BaseException as error:  # noqa: BLE001  the parent sees the status
                    os.write(2, f"in the child: {error!r}\n".encode())
                finally:
                    os._exit(1)
            pids.append(pid)
        for pid in pids:
            time.sleep(rnd.random() * 0.04)
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, "it failed"
        if n % 8 == 0 or n == rounds - 1:
            works(root, network)
            audit(root, network)


@NETWORK
def test_killed_at_random_instants(home: Path, network: bool) -> None:
    killed_at_random(home / "store", 8, network)


@pytest.mark.long
@pytest.mark.timeout(600)
@NETWORK
def test_killed_at_many_random_instants(home: Path, network: bool) -> None:
    killed_at_random(home / "store", often(50, 250), network)
