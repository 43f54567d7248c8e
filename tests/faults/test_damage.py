"""Damage to any byte of any file: right answers, no exception, no hang, and the store heals."""

import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.faults import damaging
from tests.faults.damaging import (
    Damage,
    N,
    Outcome,
    copy,
    delete,
    files,
    flip,
    garbage,
    show,
    sweep,
    truncate,
    zero,
)
from tests.thorough import new_seed, often, some

import wellkept
from wellkept.errors import KeptWarning, NewerSchema

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="copies are judged in forks")

INDEX = "index.sqlite"

# Damages at some of the places; at all of them where there is time.
STEPS = pytest.mark.parametrize("step", [6, pytest.param(1, marks=pytest.mark.long)])


@pytest.fixture(scope="module")
def fast() -> Iterator[Path]:
    """Scratch space in memory where there is some: the copies are thousands."""
    shm = Path("/dev/shm")
    place = shm if shm.is_dir() and os.access(shm, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="wellkept-damage-", dir=place) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def good(fast: Path) -> Path:
    """A store that was closed."""
    damaging.make_store(fast / "good")
    return fast / "good"


@pytest.fixture(scope="module")
def killed(fast: Path) -> Path:
    """A store whose process was killed: its log and the log's index are left."""
    root = fast / "killed"
    pid = os.fork()
    if pid == 0:
        try:
            cache = wellkept.open(root)
            with wellkept.use(cache):
                damaging.call_all()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert (root / f"{INDEX}-wal").stat().st_size > 20_000
    assert (root / f"{INDEX}-shm").exists()
    return root


@pytest.fixture
def scratch(fast: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=fast) as made:
        yield Path(made)


def size_of(root: Path, path: str = INDEX) -> int:
    return (root / path).stat().st_size


def check(outcomes: list[Outcome]) -> None:
    assert not [o for o in outcomes if o.complaint], show(outcomes)
    for o in outcomes:
        # A whole index is lost for a reason that is told. Rows that are not found, and the end of a
        # log, which its checksums cut off, are not told from what was never there.
        lost = o.name.startswith(("delete", "truncate")) or "-wal" in o.name
        if o.computed == N * 4 and INDEX in o.name and not lost:
            assert "damaged" in o.warned, o
        if o.counted:
            assert "damaged" in o.warned, o


def sampled_flips(path: str, size: int, count: int, seed: int = 1) -> list[Damage]:
    rnd = random.Random(seed)
    return [flip(path, rnd.randrange(size), rnd.randrange(8)) for _ in range(count)]


class TestIndex:
    def test_undamaged(self, good: Path, scratch: Path) -> None:
        (out,) = sweep(good, [("nothing", lambda root: None)], scratch)
        assert (out.complaint, out.computed, out.warned) == ("", 0, "")

    def test_flips(self, good: Path, scratch: Path) -> None:
        check(sweep(good, sampled_flips(INDEX, size_of(good), 30), scratch))

    def test_bytes_of_the_header(self, good: Path, scratch: Path) -> None:
        rnd = random.Random(2)
        check(sweep(good, [flip(INDEX, at, rnd.randrange(8)) for at in range(16, 108, 3)], scratch))

    @pytest.mark.long
    def test_each_bit_of_the_header(self, good: Path, scratch: Path) -> None:
        damages = [flip(INDEX, at, bit) for at in range(110) for bit in range(8)]
        check(sweep(good, some(damages, 150), scratch))

    @pytest.mark.long
    @pytest.mark.timeout(1800)
    def test_each_byte(self, good: Path, scratch: Path) -> None:
        rnd = random.Random(new_seed())
        content = (good / INDEX).read_bytes()
        # Of the free space in the middle of pages every 24th byte will do.
        places = [
            at + rnd.randrange(3)
            for at in range(0, len(content) - 3, 3)
            if at % 8 == 0 or any(content[max(0, at - 40) : at + 40])
        ]
        damages = [flip(INDEX, at, rnd.randrange(8)) for at in places]
        check(sweep(good, some(damages, 350), scratch))

    @STEPS
    def test_truncated(self, good: Path, scratch: Path, step: int) -> None:
        sizes = {*range(0, size_of(good), 1024 * step), 1, 15, 16, 99, 100, 511, 4095, 4097}
        check(sweep(good, [truncate(INDEX, at) for at in sorted(sizes)], scratch))

    @STEPS
    def test_zeroed_and_overwritten(self, good: Path, scratch: Path, step: int) -> None:
        places = range(0, size_of(good), 4096)
        damages = [zero(INDEX, at) for at in places] + [
            garbage(INDEX, at, 4096, at) for at in places
        ]
        damages += [zero(INDEX, at, 512) for at in range(0, size_of(good), 1536)]
        damages += [garbage(INDEX, at, 64, at) for at in range(100, size_of(good), 1777)]
        check(sweep(good, damages[::step], scratch))

    def test_deleted(self, good: Path, scratch: Path) -> None:
        names = [INDEX, "CACHEDIR.TAG", "locks", "blobs", "tmp"]
        check(sweep(good, [delete(name) for name in names], scratch))

    @STEPS
    def test_pages_swapped(self, good: Path, scratch: Path, step: int) -> None:
        def swap(a: int, b: int) -> Damage:
            def do(root: Path) -> None:
                content = bytearray((root / INDEX).read_bytes())
                one, two = slice(a * 4096, a * 4096 + 4096), slice(b * 4096, b * 4096 + 4096)
                content[one], content[two] = content[two], content[one]
                (root / INDEX).write_bytes(content)

            return f"swap pages {a} and {b}", do

        pages = size_of(good) // 4096
        pairs = [(a, b) for a in range(1, pages) for b in range(a)]
        check(sweep(good, [swap(a, b) for a, b in pairs[::step]], scratch))


class TestLeftByAKill:
    """The log and its index, which the next process recovers."""

    @pytest.mark.parametrize("end", ["-wal", "-shm", ""])
    def test_flips(self, killed: Path, scratch: Path, end: str) -> None:
        name = INDEX + end
        check(sweep(killed, sampled_flips(name, size_of(killed, name), 12, 4), scratch))

    @pytest.mark.parametrize("end", ["-wal", "-shm", ""])
    def test_truncated_zeroed_deleted(self, killed: Path, scratch: Path, end: str) -> None:
        name = INDEX + end
        size = size_of(killed, name)
        damages = [truncate(name, at) for at in range(0, size, max(1, size // 8))]
        damages += [zero(name, at) for at in range(0, size, max(4096, size // 8))]
        damages += [garbage(name, at, 200, at) for at in range(0, size, max(1, size // 8))]
        check(sweep(killed, [*damages, delete(name)], scratch))

    def test_both_deleted(self, killed: Path, scratch: Path) -> None:
        def do(root: Path) -> None:
            (root / f"{INDEX}-wal").unlink()
            (root / f"{INDEX}-shm").unlink()

        check(sweep(killed, [("delete both", do)], scratch))

    @pytest.mark.long
    @pytest.mark.timeout(900)
    def test_the_log_and_its_index_densely(self, killed: Path, scratch: Path) -> None:
        damages = []
        for end in ("-wal", "-shm"):
            size = size_of(killed, INDEX + end)
            damages += sampled_flips(INDEX + end, size, often(150, 900), new_seed())
        check(sweep(killed, damages, scratch))


class TestBlobs:
    @pytest.fixture
    def blobs(self, good: Path) -> list[str]:
        return [name for name, _ in files(good) if name.startswith("blobs/")]

    def test_damaged(self, good: Path, scratch: Path, blobs: list[str]) -> None:
        rnd = random.Random(6)
        damages = []
        for name in blobs:
            size = size_of(good, name)
            damages += sampled_flips(name, size, 3, rnd.randrange(1000))
            damages += [truncate(name, at) for at in (0, 1, size // 2, size - 1)]
            damages += [zero(name, rnd.randrange(size)), delete(name)]
            damages.append((f"longer {name}", lambda root, name=name: _append(root / name)))
        outcomes = sweep(good, damages, scratch)
        check(outcomes)
        for o in outcomes:
            assert o.computed == 1, o
            assert o.counted == 1, o
            assert "damaged and will be computed again" in o.warned, o

    def test_one_in_place_of_another(self, good: Path, scratch: Path, blobs: list[str]) -> None:
        a, b = blobs[:2]
        damage = ("exchanged", lambda root: (root / a).replace(root / b))
        (out,) = sweep(good, [damage], scratch)
        assert (out.complaint, out.computed, out.counted) == ("", 2, 2)

    def test_a_directory_in_its_place(self, good: Path, scratch: Path, blobs: list[str]) -> None:
        def do(root: Path) -> None:
            (root / blobs[0]).unlink()
            (root / blobs[0]).mkdir()

        (out,) = sweep(good, [("directory", do)], scratch)
        assert "Error" not in out.complaint, out  # right answers; healing is for people here


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


class TestWhileOpen:
    """Damage that appears while a process has the cache open."""

    @STEPS
    def test_index(self, good: Path, scratch: Path, step: int) -> None:
        size = size_of(good)
        damages = sampled_flips(INDEX, size, 25, 8)
        damages += [zero(INDEX, at) for at in range(0, size, 4096)]
        damages += [garbage(INDEX, at, 4096, at) for at in range(0, size, 4096)]
        damages += [truncate(INDEX, at) for at in range(0, size, 4096)]
        check(sweep(good, damages[::step], scratch, while_open=True))

    def test_blobs(self, good: Path, scratch: Path) -> None:
        names = [name for name, _ in files(good) if name.startswith("blobs/")]
        damages = [flip(name, 5000, 1) for name in names] + [delete(name) for name in names]
        damages += [truncate(name, 100) for name in names]
        outcomes = sweep(good, damages, scratch, while_open=True)
        check(outcomes)
        assert all(o.computed == 1 for o in outcomes), outcomes

    def test_deleted(self, good: Path, scratch: Path) -> None:
        names = [INDEX, f"{INDEX}-wal", f"{INDEX}-shm", "locks", "blobs", "tmp", "CACHEDIR.TAG"]
        check(sweep(good, [delete(name) for name in names], scratch, while_open=True))

    def test_everything_deleted(self, good: Path, scratch: Path) -> None:
        import shutil

        damage = ("everything", lambda root: shutil.rmtree(root))
        check(sweep(good, [damage], scratch, while_open=True))


class TestSchema:
    def _set(self, root: Path, *statements: str) -> bytes:
        with closing(sqlite3.connect(root / INDEX, isolation_level=None)) as c:
            for statement in statements:
                c.execute(statement)
        return (root / INDEX).read_bytes()

    @pytest.mark.parametrize("version", [8, 9, 99, 2**30])
    def test_a_newer_one_is_refused_untouched(
        self, good: Path, scratch: Path, version: int
    ) -> None:
        root = scratch / "copy"
        copy(good, root)
        before = self._set(
            root,
            f"PRAGMA user_version = {version}",
            f"UPDATE meta SET value = '{version}' WHERE name = 'schema'",
        )
        names = sorted(path.name for path in root.iterdir())
        with pytest.raises(NewerSchema, match=r"upgrade wellkept"):
            wellkept.open(root)
        assert (root / INDEX).read_bytes() == before
        assert sorted(path.name for path in root.iterdir()) == names

    def test_user_version_alone_says_so_too(self, good: Path, scratch: Path) -> None:
        root = scratch / "copy"
        copy(good, root)
        before = self._set(root, "PRAGMA user_version = 99")
        with pytest.raises(NewerSchema, match=r"schema 99"):
            wellkept.open(root)
        assert (root / INDEX).read_bytes() == before

    @pytest.mark.parametrize("bit", range(32))
    def test_a_flipped_bit_is_no_version(self, good: Path, scratch: Path, bit: int) -> None:
        (out,) = sweep(good, [flip(INDEX, 60 + bit // 8, bit % 8)], scratch)
        assert (out.complaint, out.computed) == ("", 0)

    @pytest.mark.parametrize("bit", range(8))
    def test_nor_is_one_in_the_table(self, good: Path, scratch: Path, bit: int) -> None:
        at = (good / INDEX).read_bytes().index(b"schema7") + 6
        (out,) = sweep(good, [flip(INDEX, at, bit)], scratch)
        assert out.complaint == ""
        assert out.computed in ((0,) if bit < 7 else (0, 12)), out

    def test_a_table_that_means_something_else(self, good: Path, scratch: Path) -> None:
        at = (good / INDEX).read_bytes().index(b"TABLE calls (id INTEGER") + 22
        (out,) = sweep(good, [flip(INDEX, at, 0)], scratch)
        assert (out.complaint, out.computed) == ("", 12)
        assert "is damaged" in out.warned

    def test_a_call_says_so(self, good: Path, scratch: Path) -> None:
        root = scratch / "copy"
        copy(good, root)
        self._set(root, "PRAGMA user_version = 99")

        @wellkept.keep(cache=str(root))
        def f() -> int:
            return 1

        with pytest.raises(NewerSchema):
            f()


class TestSetAside:
    def test_the_damaged_file_stays_beside(self, good: Path, scratch: Path) -> None:
        root = scratch / "copy"
        copy(good, root)
        garbage(INDEX, 0, 4096, 1)[1](root)
        broken = (root / INDEX).read_bytes()
        with pytest.warns(KeptWarning, match="kept as"):
            cache = wellkept.open(root)
        with wellkept.use(cache):
            damaging.call_all()
        cache.close()
        (aside,) = root.glob("index.damaged-*.sqlite")
        assert aside.read_bytes() == broken

    def test_several_processes_meet_it_at_once(self, good: Path, scratch: Path) -> None:
        root = scratch / "copy"
        copy(good, root)
        garbage(INDEX, 0, 100, 1)[1](root)
        pids = []
        for _ in range(6):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    warnings.simplefilter("ignore")
                    with wellkept.open(root) as cache, wellkept.use(cache):
                        damaging.call_all()
                    status = 0
                except BaseException as error:  # noqa: BLE001  the parent sees the status
                    os.write(2, f"{error!r}\n".encode())
                finally:
                    os._exit(status)
            pids.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0] * 6
        assert len(list(root.glob("index.damaged-*.sqlite"))) == 1
        (out,) = sweep(root, [("nothing", lambda root: None)], scratch / "again")
        assert (out.complaint, out.computed) == ("", 0)


class TestOnANetwork:
    """The same with a rollback journal, and with the journal that a killed process leaves."""

    @pytest.fixture
    def there(self, good: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("wellkept.stores.sqlite_file.on_network", lambda directory: True)
        return good

    @STEPS
    def test_index(self, there: Path, scratch: Path, step: int) -> None:
        size = size_of(there)
        damages = sampled_flips(INDEX, size, 50, 9)
        damages += [truncate(INDEX, at) for at in range(0, size, 4096)]
        damages += [garbage(INDEX, at, 300, at) for at in range(0, size, 3000)]
        check(sweep(there, [*damages[::step], delete(INDEX)], scratch))

    def test_a_journal_that_is_no_journal(self, there: Path, scratch: Path) -> None:
        def leave(content: bytes) -> Damage:
            def do(root: Path) -> None:
                (root / f"{INDEX}-journal").write_bytes(content)

            return f"a journal of {len(content)} bytes in index", do

        magic = bytes.fromhex("d9d505f920a163d7")
        contents = [b"", b"x" * 5000, magic, magic + bytes(600), magic + b"\xff" * 600]
        for out in sweep(there, [leave(content) for content in contents], scratch):
            assert not out.complaint, out


WHOLE = """
import sys, warnings
warnings.simplefilter("ignore")
from tests.faults.damaging import call_all
print("computed", call_all(), flush=True)
"""


def test_as_whole_processes(good: Path, scratch: Path) -> None:
    blob = next(name for name, _ in files(good) if name.startswith("blobs/"))
    for name, do in (truncate(INDEX, 5000), flip(blob, 70, 7)):
        root = scratch / "copy"
        copy(good, root)
        do(root)
        for again in (False, True):
            run = subprocess.run(
                [sys.executable, "-c", WHOLE],
                env={**os.environ, "WELLKEPT_CACHE": str(root)},
                cwd=Path(__file__).parents[2],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert run.returncode == 0, (name, run.stderr)
            if again:
                assert run.stdout == "computed 0\n", name
        import shutil

        shutil.rmtree(root)
