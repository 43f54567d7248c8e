"""Each kind of damage is listed and repaired, the rest stays; salvage takes what is sound."""

import contextlib
import os
import random
import shutil
import sqlite3
import struct
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import Cache, KeptWarning, StoreError, keep
from wellkept.hashing.digests import call_key
from wellkept.stores import index_tables
from wellkept.stores.reports import Report

N = 12


@keep(version=1)
def blob(i: int) -> bytearray:
    return bytearray(b"%06d" % i) * 20_000


@keep(version=1)
def small(i: int, word: str = "a", more: tuple[int, ...] = (5,)) -> list[object]:
    return [i, word]


@keep(version=1)
def text(i: int) -> str:
    return f"{i:05d}" * 500


FUNCTIONS = (blob, small, text)


def call_all() -> int:
    """Call everything and check it; how many bodies ran."""
    before = sum(f.counts.computed for f in FUNCTIONS)
    for i in range(N):
        for function in FUNCTIONS:
            assert function(i) == function.__wrapped__(i)
    return sum(f.counts.computed for f in FUNCTIONS) - before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole") / "cache"
    with wellkept.open(root) as cache, wellkept.use(cache):
        call_all()
    return root


@pytest.fixture
def root(whole: Path, home: Path) -> Path:
    shutil.copytree(whole, home / "copy")
    (home / "copy").chmod(0o700)
    return home / "copy"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", KeptWarning)
        yield


def verify(root: Path, **options: Any) -> Report:
    with quiet(), wellkept.open(root) as cache:
        return cache.verify(**options)


def kinds(report: Report) -> set[str]:
    return {problem.kind for problem in report.problems}


def recomputed(root: Path) -> int:
    with warnings.catch_warnings(), wellkept.open(root) as cache, wellkept.use(cache):
        warnings.simplefilter("error", KeptWarning)  # nothing damaged may be left to be met
        return call_all()


@contextlib.contextmanager
def index(root: Path) -> Iterator[sqlite3.Connection]:
    c = sqlite3.connect(root / "index.sqlite")
    with contextlib.closing(c), c:
        yield c


def the_blob(root: Path) -> Path:
    return min((root / "blobs").rglob("*" * 1 + "?" * 60))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x10
    path.chmod(0o600)
    path.write_bytes(content)


def change(sql: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        with index(root) as c:
            c.create_function("flip", 2, lambda b, at: b[:at] + bytes([b[at] ^ 1]) + b[at + 1 :])
            assert c.execute(sql).rowcount == 1

    return damage


ONE = "WHERE id = (SELECT id FROM {} LIMIT 1)"
A_SMALL = (
    "WHERE id = (SELECT c.id FROM calls c JOIN functions f ON f.id = c.function "
    "WHERE f.name LIKE '%small' LIMIT 1)"
)
A_TEXT = A_SMALL.replace("small", "text")
A_VALUE = ONE.format('"values"')


def stray(root: Path) -> None:
    name = "ab" + "0" * 62
    (root / "blobs" / "ab").mkdir(exist_ok=True)
    (root / "blobs" / "ab" / name).write_bytes(b"stray")
    os.utime(root / "blobs" / "ab" / name, (0, 0))  # of long ago


def misplaced(root: Path) -> None:
    (root / "blobs" / "note.txt").write_text("mine")


def leftover(root: Path) -> None:
    path = root / "tmp" / "another-host~1~ab"
    path.write_bytes(b"half")
    os.utime(path, (1, 1))


def pipe(root: Path) -> None:
    path = the_blob(root)
    path.unlink()
    os.mkfifo(path)


DAMAGES: dict[str, tuple[Callable[[Path], None], str, int]] = {
    # name: what is done, the kind that is listed, how many calls are lost
    "a body": (change(f"UPDATE calls SET body = flip(body, 20) {A_SMALL}"), "call", 1),
    "a seal": (change(f"UPDATE calls SET body = flip(body, 0) {A_SMALL}"), "call", 1),
    "a result in its row": (
        change(f"UPDATE calls SET body = flip(body, length(body) - 2) {A_SMALL}"),
        "call",
        1,
    ),
    "a body cut short": (change(f"UPDATE calls SET body = x'00' {A_SMALL}"), "call", 1),
    "a body of another kind": (change(f"UPDATE calls SET body = 7 {A_SMALL}"), "call", 1),
    "a key": (change(f"UPDATE calls SET key = flip(key, 30) {A_SMALL}"), "call", 1),
    "a key of another kind": (change(f"UPDATE calls SET key = 'key' {A_SMALL}"), "call", 1),
    "a place": (change(f"UPDATE calls SET id = 12345 {A_SMALL}"), "call", 1),
    "an argument's digest": (
        change(f"UPDATE calls SET arguments = replace(arguments, '0', '1') {A_SMALL}"),
        "call",
        1,
    ),
    "what an argument shows": (
        change(f"""UPDATE calls SET arguments = replace(arguments, '"a"', '"b"') {A_SMALL}"""),
        "call",
        1,
    ),
    "arguments that are none": (change(f"UPDATE calls SET arguments = '[[' {A_SMALL}"), "call", 1),
    "deep arguments": (
        change(f"UPDATE calls SET arguments = replace(hex(zeroblob(50000)), '0', '[') {A_SMALL}"),
        "call",
        1,
    ),
    "arguments that are not UTF-8": (
        change(f"UPDATE calls SET arguments = CAST(x'ff5b' AS TEXT) {A_SMALL}"),
        "call",
        1,
    ),
    "metadata": (change(f"UPDATE calls SET metadata = '{{' {A_SMALL}"), "call", 1),
    "a time": (change(f"UPDATE calls SET created = created + 1 {A_SMALL}"), "call", 1),
    "a size": (change(f"UPDATE calls SET size = size + 1 {A_SMALL}"), "call", 1),
    "a function's number": (change(f"UPDATE calls SET function = 99 {A_SMALL}"), "call", 1),
    "a pointer to a value": (change(f"UPDATE calls SET value = 5 {A_TEXT}"), "missing result", 1),
    "a head": (change(f'UPDATE "values" SET head = flip(head, 40) {A_VALUE}'), "value", 1),
    "a value's digest": (change(f"UPDATE \"values\" SET digest = x'00' {A_VALUE}"), "value", 1),
    "a value that is gone": (change(f'DELETE FROM "values" {A_VALUE}'), "missing result", 1),
    "a blob's content": (lambda root: flip(the_blob(root), 777), "blob", 1),
    "a blob cut short": (lambda root: os.truncate(the_blob(root), 5), "blob", 1),
    "a blob that is gone": (lambda root: the_blob(root).unlink(), "missing blob", 1),
    "a blob that is a pipe": (pipe, "blob", 1),
    "a stray blob": (stray, "stray", 0),
    "a stray file": (misplaced, "stray", 0),
    "a leftover": (leftover, "leftover", 0),
}


def test_a_whole_store_has_no_problems(root: Path) -> None:
    report = verify(root)
    assert report.ok
    assert report.problems == ()
    assert (report.calls, report.values, report.blobs) == (3 * N, 3 * N, N)
    assert N * 120_000 < report.bytes < N * 120_100
    assert recomputed(root) == 0


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_listed_and_repaired_and_the_rest_is_whole(root: Path, name: str) -> None:
    damage, kind, lost = DAMAGES[name]
    if name == "a leftover":
        cache = wellkept.open(root)  # opening sweeps what is there
        damage(root)
    else:
        cache = contextlib.nullcontext()  # type: ignore[assignment]  # only its end matters
        damage(root)
    with cache:
        before = sorted(path for path in root.rglob("*"))
        found = verify_open(cache, root)
        assert kinds(found) == {kind}
        assert len(found.problems) == 1
        assert not found.ok
        after = sorted(path for path in root.rglob("*") if "index" not in path.name)
        assert after == [path for path in before if "index" not in path.name], "nothing changes"
        repaired = verify_open(cache, root, repair=True)
    assert kinds(repaired) == {kind}
    assert repaired.ok
    assert verify(root).problems == ()
    assert recomputed(root) == lost
    assert verify(root).problems == ()


def verify_open(cache: Any, root: Path, **options: Any) -> Report:
    return cache.verify(**options) if isinstance(cache, Cache) else verify(root, **options)


def test_a_newer_format_is_listed_and_left_alone(root: Path) -> None:
    from wellkept.stores.record_format import rowid, seal

    with index(root) as c:
        id_, digest, head = c.execute('SELECT id, digest, head FROM "values"').fetchone()
        newer = bytearray(head[16:])
        newer[2] = 200
        sealed, old = seal(digest, bytes(newer)), id_
        id_ = rowid(sealed)
        c.execute('UPDATE "values" SET head = ?, id = ? WHERE id = ?', (sealed, id_, old))
        c.execute("UPDATE calls SET value = ? WHERE value = ?", (id_, old))
    found = verify(root, repair=True)
    assert [problem.repaired for problem in found.problems] == [False]
    assert "upgrade" in found.problems[0].detail
    with index(root) as c:
        assert c.execute('SELECT count(*) FROM "values" WHERE id = ?', (id_,)).fetchone() == (1,)


def damaged_copy(root: Path, pages: list[int], content: bytes = b"\xa5" * 4096) -> None:
    path = root / "index.sqlite"
    raw = bytearray(path.read_bytes())
    for page in pages:
        raw[page * 4096 : (page + 1) * 4096] = content
    path.write_bytes(raw)


def root_page(root: Path, table: str) -> int:
    with index(root) as c:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(c.execute(query, (table,)).fetchone()[0]) - 1


def leaf_pages(root: Path, table: str) -> list[int]:
    """The leaves of a table whose root leads to them all."""
    with index(root):
        pass  # closing it brings what is in the log into the file
    at = root_page(root, table) * 4096
    page = (root / "index.sqlite").read_bytes()[at : at + 4096]
    assert page[0] == 5, "the root is no interior page"
    (count,) = struct.unpack_from(">H", page, 3)
    cells = struct.unpack_from(f">{count}H", page, 12)
    children = [struct.unpack_from(">I", page, cell)[0] for cell in cells]
    return [number - 1 for number in (*children, struct.unpack_from(">I", page, 8)[0])]


def test_salvage_takes_every_row_but_those_of_a_destroyed_page(root: Path) -> None:
    leaves = leaf_pages(root, "calls")
    assert len(leaves) > 1
    damaged_copy(root, [leaves[1]])
    listed = verify(root)
    assert "index" in kinds(listed)
    assert (root / "index.sqlite").exists()
    assert not list(root.glob("*damaged*")), "only a repair moves it"
    repaired = verify(root, repair=True)
    assert repaired.ok
    lost = 3 * N - repaired.salvaged_calls
    assert 0 < lost < 3 * N
    assert len(list(root.glob("index.salvaged-*.sqlite"))) == 1
    assert verify(root).problems == ()
    assert recomputed(root) == lost


def before_schema_7(root: Path) -> None:
    """Give the index the tables that it had while ids were row numbers."""
    shutil.rmtree(root)
    root.mkdir(mode=0o700)
    with contextlib.closing(sqlite3.connect(root / "index.sqlite", isolation_level=None)) as c:
        for statement in index_tables._texts(4):
            c.execute(statement)
        index_tables._mark(c, 4)
    with wellkept.open(root) as cache, wellkept.use(cache):
        for function in FUNCTIONS:
            for i in range(N):
                function(i)


def far_numbers(root: Path) -> None:
    """As if billions of calls had come and gone."""
    with index(root) as c:
        c.execute("UPDATE calls SET rowid = rowid + 1 << 40")


@pytest.mark.parametrize("end", [-1, None])
@pytest.mark.parametrize("change", [None, far_numbers, before_schema_7])
def test_salvage_goes_round_several_pages(
    root: Path, change: Callable[[Path], None] | None, end: int | None
) -> None:
    if change is not None:
        change(root)
    with wellkept.open(root) as cache, wellkept.use(cache):
        for i in range(100, 500):
            small(i)
    leaves = leaf_pages(root, "calls")
    broken = leaves[1:end:4]
    assert len(broken) > 3
    if end is None:
        broken.append(leaves[-1])
    damaged_copy(root, broken)
    repaired = verify(root, repair=True)
    assert repaired.ok
    assert (
        0 < 3 * N + 400 - repaired.salvaged_calls < (3 * N + 400) * 1.5 * len(broken) / len(leaves)
    )


def test_where_the_way_to_the_rows_is_destroyed_the_rest_is_salvaged(root: Path) -> None:
    damaged_copy(root, [root_page(root, "calls")])
    repaired = verify(root, repair=True)
    assert repaired.ok
    assert repaired.salvaged_calls == 0
    assert repaired.salvaged_values > 0
    assert verify(root).problems == ()
    assert recomputed(root) == 3 * N


def test_salvage_without_the_first_page(root: Path) -> None:
    damaged_copy(root, [0])
    repaired = verify(root, repair=True)  # opening it set it aside
    assert kinds(repaired) == {"set aside"}
    assert repaired.salvaged_calls == 3 * N
    assert recomputed(root) == 0
    assert verify(root).problems == ()


def test_salvage_reads_the_log_too(root: Path) -> None:
    cache = wellkept.open(root)
    with wellkept.use(cache):
        small(100)
    aside = root / f"index.damaged-{time.time_ns()}.sqlite"
    assert (root / "index.sqlite-wal").stat().st_size > 4096
    for end in ("", "-wal"):
        shutil.copy(root / f"index.sqlite{end}", f"{aside}{end}")
    cache.close()
    for path in root.glob("index.sqlite*"):
        path.unlink()
    assert verify(root, repair=True, discard=True).salvaged_calls == 3 * N + 1
    assert not list(root.glob("*damaged*")) + list(root.glob("*salvaged*"))
    with wellkept.open(root) as again, wellkept.use(again):
        assert small.contains(100)


def test_salvage_takes_no_row_that_was_deleted_or_replaced(root: Path) -> None:
    with wellkept.open(root) as cache, wellkept.use(cache):
        for i in range(N):
            text.forget(i)
        small.rerun(0)
        new = small.call(0).created
    damaged_copy(root, [0])
    verify(root, repair=True)
    with wellkept.open(root) as cache, wellkept.use(cache):
        assert not any(text.contains(i) for i in range(N))
        assert small.call(0).created == new


def test_salvage_takes_no_row_of_a_page_that_was_emptied(root: Path) -> None:
    with wellkept.open(root) as cache, wellkept.use(cache):
        for i in range(100, 500):
            small(i)
        keys = [small.key(i) for i in range(100, 500)]
        # Some builds of SQLite wipe what they free.
        cache.backend.database.connection.execute("PRAGMA secure_delete = OFF")
        assert cache.evict(keys=keys).calls == 400
    damaged_copy(root, [0])
    assert verify(root, repair=True).salvaged_calls <= 3 * N
    with wellkept.open(root) as cache, wellkept.use(cache):
        assert not any(small.contains(i) for i in range(100, 500))
        assert sum(f.contains(i) for f in FUNCTIONS for i in range(N)) > N


def test_what_the_present_index_has_is_newer_and_stays(root: Path) -> None:
    damaged_copy(root, [0])
    with pytest.warns(KeptWarning, match="verify --repair"):
        cache = wellkept.open(root)
    with cache:
        with wellkept.use(cache):
            small(3)
            new = small.call(3).created
        assert cache.verify(repair=True).salvaged_calls == 3 * N - 1
        with wellkept.use(cache):
            assert small.call(3).created == new


def test_uses_are_salvaged(root: Path) -> None:
    with wellkept.open(root) as cache, wellkept.use(cache):
        small(1)
        small(1)
    damaged_copy(root, [0])
    verify(root, repair=True)
    with wellkept.open(root) as cache, wellkept.use(cache):
        assert small.call(1).uses == 2


@pytest.mark.parametrize("seed", range(25))
def test_no_damage_of_an_index_breaks_the_check_or_its_repair(root: Path, seed: int) -> None:
    path = root / "index.sqlite"
    raw = bytearray(path.read_bytes())
    chance = random.Random(seed)
    for _ in range(chance.choice([1, 5, 60])):
        at = chance.randrange(len(raw))
        raw[at] = chance.randrange(256)
    if seed % 5 == 0:
        del raw[chance.randrange(len(raw)) :]
    path.write_bytes(raw)
    verify(root)
    verify(root, repair=True)
    assert verify(root).ok
    with quiet(), wellkept.open(root) as cache, wellkept.use(cache):
        call_all()


def test_files_that_are_no_index_are_salvaged_of_nothing(root: Path) -> None:
    for i, content in enumerate(
        [b"", b"x", os.urandom(9000), b"SQLite format 3\0" + b"\xff" * 9000]
    ):
        (root / f"index.damaged-{i}.sqlite").write_bytes(content)
        (root / f"index.damaged-{i}.sqlite-wal").write_bytes(os.urandom(5000))
    (root / "index.damaged-odd.sqlite").write_bytes(struct.pack(">100I", *range(100)))
    report = verify(root, repair=True)
    assert report.ok
    assert len(report.problems) == 5
    assert report.salvaged_calls == 0
    assert recomputed(root) == 0


def test_a_read_only_store_can_be_verified_and_not_repaired(root: Path) -> None:
    the_blob(root).unlink()
    with wellkept.open(root) as cache:
        cache.backend.database.readonly = True  # a directory's mode does not stop a superuser
        assert kinds(cache.verify()) == {"missing blob"}
        with pytest.raises(StoreError, match="read-only"):
            cache.verify(repair=True)
        cache.backend.database.readonly = False


def test_progress_is_told(root: Path) -> None:
    told: list[tuple[str, int, int]] = []
    verify(root, progress=lambda *what: told.append(what))
    assert {stage for stage, _, _ in told} == {"index", "values", "calls", "blobs"}
    assert all(0 <= done <= total for _, done, total in told)
    assert max(done for stage, done, _ in told if stage == "blobs") > N * 120_000


def test_a_medium_is_verified_item_by_item() -> None:
    with wellkept.open("memory:") as cache, wellkept.use(cache):
        call_all()
        assert cache.verify().ok
        items = cache.backend.calls.items
        key = small.call(0).key
        items.put(f"calls/{'0' * 64}", items.get(f"calls/{key}"))  # in the place of another
        items.put(f"calls/{key}", items.get(f"calls/{key}")[:-1] + b"?")
        lost, damaged = list(items.keys("blobs/"))[:2]
        items.delete(lost)
        items.put(damaged, b"?" + items.get(damaged)[1:])
        items.put("values/" + "0" * 64, b"nothing")
        report = cache.verify()
        kinds = sorted(problem.kind for problem in report.problems)
        assert kinds == ["blob", "call", "call", "missing blob", "missing blob", "value"]
        assert not report.ok
        assert cache.verify(repair=True).ok
        assert cache.verify().problems == ()
        assert call_all() == 3


@pytest.mark.parametrize("place", ["memory:", "here"])
def test_a_result_that_was_evicted_is_no_damage(place: str) -> None:
    with wellkept.open(place) as cache, wellkept.use(cache):
        call_all()
        for function in FUNCTIONS:
            cache.values.delete(function.call(1).result)
        assert {problem.kind for problem in cache.verify().problems} <= {"stray"}  # its blob
        assert cache.verify(repair=True).calls == 3 * N
        assert call_all() == 3


def test_a_key_is_given_back_by_its_record(home: Path) -> None:
    @keep
    def every(a: int, /, b: object, *rest: int, c: float = -0.0, **more: object) -> int:
        return 1

    @keep(key=lambda x: x % 3, isolate=True)
    def keyed(x: int) -> int:
        return x

    @keep(isolate=True, code="off", arguments="digests")
    def alone(x: object) -> int:
        return 2

    with wellkept.open(home / "keys") as cache, wellkept.use(cache):
        every(1, [2], 3, 4, é="\ud800", c=1e300)
        keyed(7)
        alone("x")
        alone(wellkept.digest("x"))
        keys = list(cache.calls.keys())
        made = [cache.calls.get(key) for key in keys]
        assert len(made) == 3
        for call in made:
            assert call is not None
            items = [(name, argument.digest.raw) for name, argument in call.arguments.items()]
            assert call_key(call.function, call.code, items) == call.key.raw
        assert cache.verify().ok


def test_what_was_forgotten_just_now_is_no_problem(home: Path) -> None:
    with wellkept.open(home / "c") as cache, wellkept.use(cache):

        @wellkept.keep(name="f", version=1)
        def f() -> bytearray:
            return bytearray(100_000)

        f()
        f.forget()
        assert cache.verify().ok
        assert cache.size().blobs == 1
        assert {problem.kind for problem in cache.verify(repair=True).problems} == {"stray"}
        assert cache.size().blobs == 0
