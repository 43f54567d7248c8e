"""PostgreSQL, MariaDB and SQLite by way of SQLAlchemy, against real servers."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.services import PASSWORD, Service
from tests.stores.agreement import check_agreement
from tests.stores.racing import WORKERS, check_races, race

from wellkept.errors import ConfigError, NewerSchema, StoreError
from wellkept.stores import silence
from wellkept.stores.base import Creates, Finds, Many, Replaces
from wellkept.stores.sql import Sql
from wellkept.testing import StoreContract

sqlalchemy = pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed")

DRIVERS = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/items.db"
    return request.getfixturevalue(f"{request.param}_url")


@pytest.fixture(params=["postgresql", "mariadb"])
def served(request: pytest.FixtureRequest) -> tuple[Service, str]:
    """A server and the URL of an empty database on it."""
    service = request.getfixturevalue(request.param)
    return service, request.getfixturevalue(f"{request.param}_url")


@pytest.fixture
def store(url: str) -> Iterator[Sql]:
    made = Sql(url)
    yield made
    made.close()


class Around:
    """The database, by SQLAlchemy's own statements on an engine of its own."""

    def __init__(self, url: str, table: str = "kept") -> None:
        scheme, _, rest = url.partition(":")
        self.engine = sqlalchemy.create_engine(
            f"{DRIVERS.get(scheme, scheme)}:{rest}", poolclass=sqlalchemy.pool.NullPool
        )
        self.scheme, self.table = scheme, table

    def run(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            done = connection.execute(sqlalchemy.text(statement), values)
            return list(done) if done.returns_rows else []

    def read(self, key: str) -> Any:
        rows = self.run(f"SELECT item FROM {self.table} WHERE name = :key", key=key.encode())
        return rows[0][0] if rows else None

    def write(self, key: str, item: bytes) -> None:
        self.run(f"DELETE FROM {self.table} WHERE name = :key", key=key)
        self.run(f"INSERT INTO {self.table} VALUES (:key, :item)", key=key, item=item)

    def keys(self) -> list[str]:
        names = [name for (name,) in self.run(f"SELECT name FROM {self.table}")]
        return [name.decode() if isinstance(name, bytes) else name for name in names]

    def damage(self, key: str) -> bool:
        return False  # bytes are served as they are; whoever reads them verifies them


class SqlContract(StoreContract):
    pickles = True

    def make(self, place: Path) -> Sql:
        return Sql(self.url)

    def prepare(self, store: Any, item: Any) -> None:
        store.get("anything")  # has the tables made

    def accessor(self, store: Any, place: Path) -> Around:
        around = Around(self.url)
        if self.url.startswith("mariadb"):
            return around
        around.read = lambda key: next(  # type: ignore[method-assign]  # names are text here
            iter(around.run("SELECT item FROM kept WHERE name = :key", key=key)), (None,)
        )[0]
        return around


class TestPostgresql(SqlContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgresql_url: str) -> None:
        self.url = postgresql_url


@pytest.mark.long  # any sequence of operations, and all below, run on it in the others
class TestMariadb(SqlContract):
    @pytest.fixture(autouse=True)
    def _server(self, mariadb_url: str) -> None:
        self.url = mariadb_url


class TestSqlite(SqlContract):
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/items.db"


class TestInMemory(StoreContract):
    persistent = False

    def make(self, place: Path) -> Sql:
        return Sql("sqlite:///:memory:")


def test_a_database_in_memory_is_its_process_s() -> None:
    store = Sql()
    store.put("a", b"1", {"t": 2})
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: store.put(f"k/{n}", bytes(n)), range(50)))
    store.close()
    assert (store.count("k/"), store.get("a"), list(store.find({"t": 2}))) == (50, b"1", ["a"])
    assert Sql().get("a") is None
    pid = os.fork()
    if pid == 0:
        os._exit(0 if store.get("a") == b"1" and store.count() == 51 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store.put("after", b"")
    assert store.get("after") == b""


def test_it_has_these_abilities(store: Sql) -> None:
    for ability in (Creates, Replaces, Many, Finds):
        assert isinstance(store, ability)


def test_it_agrees_with_a_dict(url: str) -> None:
    def make() -> Sql:
        made = Sql(url, table="agreeing")
        made.delete_many(list(made.keys()))
        return made

    check_agreement(make, examples=8)


# -- what is kept ---------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize("content", [bytes(64 << 20), b"\\'\0\r\n\x1a%" * (64 << 20 >> 3)])
def test_64_mib(store: Sql, content: bytes) -> None:
    store.put("blobs/large", content)
    assert store.get("blobs/large") == content


def test_every_byte_and_a_quote_in_every_place(store: Sql) -> None:
    items = {f"b/{n}": bytes([n, 92, 39, n, 37, 115]) for n in range(256)}
    store.put_many(items)
    assert store.get_many(items) == items
    assert all(store.replace(key, item, item + b"'") for key, item in list(items.items())[:60])


def test_buffers_of_other_kinds(store: Sql) -> None:
    import array

    for n, item in enumerate(
        [bytearray(b"abc"), memoryview(b"abcdef")[::2], memoryview(array.array("d", [1.5, 2]))]
    ):
        store.put(f"b/{n}", item)
        assert store.get(f"b/{n}") == bytes(item)
        assert store.replace(f"b/{n}", bytes(item), item)
        assert store.create(f"c/{n}", item)


def test_an_item_that_no_row_can_hold_is_refused_before_it_is_sent(store: Sql) -> None:
    class Huge(bytes):
        pass

    item = memoryview(bytearray(1)).cast("B")
    import wellkept.stores.sql as module

    large = module._LARGEST
    module._LARGEST = 0
    try:
        with pytest.raises(StoreError, match=r"too large for a row.*values elsewhere"):
            store.put("a", item)
    finally:
        module._LARGEST = large


def test_many_batches(store: Sql) -> None:
    items = {f"k/{n:05}": b"%d" % n for n in range(2345)}
    store.put_many(items)
    assert store.get_many([*items, "k/none"]) == items
    assert list(store.keys("k/")) == sorted(items)
    assert list(store.keys("k/0234")) == [f"k/{n:05}" for n in range(2340, 2345)]
    assert store.count() == 2345
    assert store.count("k/000") == 100
    store.delete_many(key for key in items if not key.endswith("7"))
    assert list(store.keys()) == sorted(key for key in items if key.endswith("7"))


@pytest.mark.long
def test_large_items_go_in_batches_that_a_server_as_installed_takes(mariadb_url: str) -> None:
    Around(mariadb_url).run("SET GLOBAL max_allowed_packet = 16777216")
    store = Sql(mariadb_url)
    try:
        items = {f"k/{n}": os.urandom(3 << 20) for n in range(12)}
        store.put_many(items)
        assert store.get_many(["k/3", "k/11"]) == {key: items[key] for key in ("k/3", "k/11")}
        with pytest.raises(StoreError, match="max_allowed_packet: raise that"):
            store.put("large", os.urandom(17 << 20))
        assert store.get("k/0") == items["k/0"]
    finally:
        store.close()
        Around(mariadb_url).run("SET GLOBAL max_allowed_packet = 268435456")


def test_keys_are_compared_byte_by_byte(postgresql: Service, mariadb_url: str) -> None:
    around = Around(postgresql.url)
    with around.engine.connect() as connection:
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(sqlalchemy.text("DROP DATABASE IF EXISTS sorted"))
        connection.execute(
            sqlalchemy.text(
                "CREATE DATABASE sorted TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'"
            )
        )
    urls = (postgresql.url.replace("/postgres", "/sorted"), mariadb_url)
    for url in urls:
        store = Sql(url)
        keys = ["A", "B", "a", "a-b", "a.b", "a/b", "aB", "ab", "b"]
        store.put_many(dict.fromkeys(keys, b""))
        assert list(store.keys()) == sorted(keys)
        assert list(store.keys("a")) == [key for key in sorted(keys) if key[0] == "a"]
        assert list(store.keys("a.")) == ["a.b"]
        store.close()


# -- at once --------------------------------------------------------------------------------------


def test_no_part_of_a_transaction_fails_unseen(store: Sql) -> None:
    store.put("a", b"1")
    connection = store.connections._connection()
    text = store.connections.dialect.text
    meets_none = (text("DELETE FROM {items} WHERE name = 'b'"), ())
    with pytest.raises(store.connections.errors):
        store.connections.dialect.together(
            connection,
            [(text("DELETE FROM {items}"), ()), meets_none, (text("DELETE FROM {items} x y"), ())],
        )
    store.connections._drop(connection)
    assert store.get("a") == b"1"


def test_a_put_has_ended_when_it_returns(mariadb_url: str) -> None:
    store = Sql(mariadb_url)
    store.put("a", b"1", terms={"n": 1})
    (connection,) = store.connections._idle
    assert not connection._result.has_next
    store.close()


@pytest.mark.long
def test_one_of_many_processes_creates_and_no_increment_is_lost(url: str) -> None:
    # A file answers so fast that few increments would not meet.
    check_races(Sql(url), keys=10, times=200 if url.startswith("sqlite") else 40)


def put_and_find(store: Sql, me: int) -> int:
    for n in range(60):
        store.put(f"calls/{n % 7}", b"%d" % me, terms={"who": me, f"field {n % 3}": n})
        store.put_many({f"values/{m}": b"%d" % me for m in range((me + n) % 20)})
        if n % 10 == 0:
            store.delete(f"calls/{n % 7}")
    return me


@pytest.mark.long
def test_many_processes_make_the_tables_and_put_the_same(url: str) -> None:
    store = Sql(url)  # the tables are made by whichever process comes first
    assert sorted(race(put_and_find, store)) == list(range(WORKERS))
    keys = set(store.keys("calls/"))
    for key in keys:
        item = store.get(key)
        assert item is not None
        assert key in set(store.find({"who": int(item)})), "its terms are another's"
    assert set(store.find({"who": (0, 8)})) == keys
    store.close()


def test_threads_beyond_the_pool(url: str) -> None:
    store = Sql(url, pool=2)
    store.put("a", b"1")
    found: list[Any] = []

    def work() -> None:
        found.extend(store.get("a") for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"1"] * 120
    store.close()


def test_a_connection_for_every_thread_or_an_error_that_says_so(url: str) -> None:
    store = Sql(url, pool=1)
    store.put("a", b"1")
    store._connections._timeout = 0.3
    held = [store._connections._connection() for _ in range(2)]
    with pytest.raises(StoreError, match=r"all 2 connections .* larger `pool`"):
        store.get("a")
    for one in held:
        store._connections._drop(one)
    assert store.get("a") == b"1"
    for _ in range(5):  # a failure gives back what it had
        with pytest.raises(StoreError):
            store._run("read", "nothing", store._dialect.rows, "SELECT nonsense FROM nowhere", ())
    assert store.get("a") == b"1"
    store.close()


def test_threads_that_wait_do_not_all_collect_the_garbage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That stops all threads, so servers' answers would come too late for those that connect."""
    store = Sql(f"sqlite:///{tmp_path}/items.db", pool=1, timeout=0.3)
    store.put("a", b"1")
    held = [store._connections._connection() for _ in range(2)]
    collected: list[float] = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(time.sleep(0.05) or 0.0))

    def work() -> None:
        with pytest.raises(StoreError, match="larger `pool`"):
            store.get("a")

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(collected) < 10
    for one in held:
        store._connections._drop(one)
    store.close()


# -- processes ------------------------------------------------------------------------------------


def test_a_fork_uses_connections_of_its_own(store: Sql) -> None:
    store.put("a", b"1")
    for n in range(3):
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                for m in range(50):
                    store.put(f"child/{n}", b"%d" % m)
                    assert store.get("a") == b"1"
                os._exit(0)
            os._exit(1)
        for m in range(50):
            store.put("a", b"1")
            assert store.get("a") == b"1"
            del m
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert store.get(f"child/{n}") == b"49"


def test_pickling(store: Sql) -> None:
    store.put("a", b"1")
    again = pickle.loads(pickle.dumps(store))
    assert again.get("a") == b"1"
    assert repr(again) == repr(store)
    again.close()


def test_closed_it_opens_again(store: Sql) -> None:
    store.put("a", b"1")
    store.close()
    assert store.get("a") == b"1"


# -- servers that go and come ---------------------------------------------------------------------


def until_it_answers(store: Sql, do: Callable[[], object]) -> None:
    """A server that gave no answer is not asked again for a while."""
    deadline = time.monotonic() + 30
    while True:
        try:
            do()
        except StoreError:
            if time.monotonic() > deadline:
                raise
            store._connections.silence.over()
            time.sleep(0.1)
        else:
            return


def test_a_restart_between_two_operations_is_not_noticed(served: tuple[Service, str]) -> None:
    service, url = served
    store = Sql(url)
    store.put("a", b"1", terms={"n": 1})
    for work in (
        lambda: store.get("a"),
        lambda: store.put("a", b"1"),
        lambda: store.create("b", b"1"),
        lambda: store.replace("b", b"1", b"2"),
        lambda: store.delete("b"),
        lambda: list(store.keys()),
        lambda: store.get_many(["a"]),
    ):
        service.restart()
        work()
    assert store.get("a") == b"1"
    assert store.get("b") is None
    store.close()


def test_a_server_that_is_down_is_an_error_at_once_and_comes_back(
    served: tuple[Service, str],
) -> None:
    service, url = served
    store = Sql(url)
    store.put("a", b"1")
    service.kill()
    for _ in range(3):
        with pytest.raises(StoreError, match=r"no server answers there|went away") as caught:
            store.get("a")
        assert PASSWORD not in str(caught.value)
    service.start()
    store._connections.silence.over()  # a busy machine may take a while to refuse
    assert store.get("a") == b"1"
    store.close()


@pytest.mark.long
def test_killed_in_the_middle_of_many_operations(served: tuple[Service, str]) -> None:
    service, url = served
    store = Sql(url)
    known: dict[str, bytes] = {}
    failed = 0
    timer = threading.Timer(0.3, service.restart)
    timer.start()
    n = 0
    while timer.is_alive() or n % 100:
        key, item = f"k/{n % 50}", b"%d" % n
        n += 1
        try:
            store.put(key, item)
            known[key] = item
        except StoreError:
            failed += 1
            known.pop(key, None)
        try:
            found = store.get(key)
            assert key not in known or found == known[key]
        except StoreError:
            failed += 1
    timer.join()
    assert failed > 0, "the server was never down"
    until_it_answers(store, lambda: store.put("after", b"1"))
    assert store.get("after") == b"1"
    store.close()


def test_a_server_that_does_not_answer_is_given_up(
    served: tuple[Service, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "PAUSE", 600.0)
    service, url = served
    store = Sql(url, timeout=0.5, connect_timeout=2)
    until_it_answers(store, lambda: store.put("a", b"1"))
    service.freeze()
    try:
        with pytest.raises(StoreError, match="does not answer in time"):
            store.get("a")
        with monkeypatch.context() as patch:
            patch.setattr(store._connections, "apart", None)  # nobody waits for it again
            for _ in range(100):
                with pytest.raises(StoreError, match="does not answer in time"):
                    store.get("a")
    finally:
        service.thaw()
    until_it_answers(store, lambda: store.get("a"))
    assert store.get("a") == b"1"
    store.close()


def test_an_unknown_outcome_is_said(served: tuple[Service, str]) -> None:
    service, url = served
    store = Sql(url, timeout=0.5)
    until_it_answers(store, lambda: store.put("a", b"1"))
    service.freeze()
    try:
        with pytest.raises(StoreError, match="it may or may not have been done"):
            store.create("b", b"1")
    finally:
        service.thaw()
    store.close()


def test_dropped_tables_are_made_again(store: Sql, url: str) -> None:
    store.put("a", b"1", terms={"n": 1})
    for table in ("kept_terms", "kept", "kept_meta"):
        Around(url).run(f"DROP TABLE {table}")
    assert store.get("a") is None
    store.put("a", b"2")
    assert store.get("a") == b"2"
    assert list(store.find({"n": 1})) == []


# -- finding --------------------------------------------------------------------------------------


def test_find(store: Sql) -> None:
    calls = {
        f"calls/{n:03}": {"function": f"f{n % 3}", "n": n, "x": n / 4, "none": None, "odd": n % 2}
        for n in range(60)
    }
    for key, terms in calls.items():
        store.put(key, b"x", terms=terms)
    store.put("values/1", b"x", terms={"n": 7})
    store.put("calls/none", b"x")

    def find(prefix: str = "calls/", **where: Any) -> list[int]:
        found = list(store.find(where, prefix))
        assert len(set(found)) == len(found)
        return sorted(int(key[6:]) for key in found)

    assert find(n=7) == [7]
    assert list(store.find({"n": 7})) in (["calls/007", "values/1"], ["values/1", "calls/007"])
    assert find(n=7.0) == [7]
    assert find(n="7") == []
    assert find(odd=True) == list(range(1, 60, 2))
    assert find(x=2.25) == [9]
    assert find(n=(5, 8)) == [5, 6, 7, 8]
    assert find(n=(None, 2)) == [0, 1, 2]
    assert find(n=(57.5, None)) == [58, 59]
    assert find(n=(8, 5)) == []
    assert find(none=None) == list(range(60))
    assert find(none=0) == []
    assert find(function="f1", n=(0, 9)) == [1, 4, 7]
    assert find(function="f1", n=(0, 30), odd=0, none=None) == [4, 10, 16, 22, 28]
    assert find(function=("f1", "f2"), n=(0, 5)) == [1, 2, 4, 5]
    assert find(function=("f2", None), n=(None, 8)) == [2, 5, 8]
    assert find("calls/00", function="f0") == [0, 3, 6, 9]
    assert find(missing=1) == []
    assert len(list(store.find({}, "calls/"))) == 61


def test_a_put_replaces_the_terms_and_a_delete_removes_them(store: Sql, url: str) -> None:
    store.put("a", b"1", terms={"n": 1, "m": 1})
    store.put("a", b"2", terms={"n": 2})
    assert list(store.find({"n": 1})) == list(store.find({"m": 1})) == []
    assert list(store.find({"n": 2})) == ["a"]
    store.put("a", b"3")
    assert list(store.find({"n": 2})) == []
    store.put("a", b"4", terms={"n": 4})
    assert store.replace("a", b"4", b"5")
    assert list(store.find({"n": 4})) == ["a"]
    store.delete("a")
    assert list(store.find({"n": 4})) == []
    assert Around(url).run("SELECT COUNT(*) FROM kept_terms")[0][0] == 0


def test_numbers_and_texts_in_order(store: Sql) -> None:
    import math

    numbers = [-math.inf, -1e300, -(2**63), -(2**53) - 1, -(2**53), -1, -0.5, -5e-324, 0, 5e-324]
    numbers += [0.5, 1, 2**53, 2**53 + 1, 2**63 - 1, 2.0**63, 1e300, math.inf]
    texts = ["", "A", "a", "a\0", "a b", "ab", "b", "é", "€", "𝄞"]
    for n, number in enumerate(numbers):
        store.put(f"n/{n}", b"", terms={"v": number})
    for n, text in enumerate(texts):
        store.put(f"t/{n}", b"", terms={"v": text})
    for n, number in enumerate(numbers):
        assert list(store.find({"v": number})) == [f"n/{n}"]
        assert set(store.find({"v": (number, None)})) == {f"n/{m}" for m in range(n, len(numbers))}
        assert set(store.find({"v": (None, number)})) == {f"n/{m}" for m in range(n + 1)}
    texts.sort()
    order = {text: n for n, text in enumerate(texts)}
    for n, text in enumerate(["", "A", "a", "a\0", "a b", "ab", "b", "é", "€", "𝄞"]):
        assert list(store.find({"v": text})) == [f"t/{n}"]
        assert len(list(store.find({"v": (text, None)}))) == len(texts) - order[text]
    assert list(store.find({"v": -0.0})) == ["n/8"]


def test_long_terms_are_found(store: Sql) -> None:
    long = "x" * 5000
    store.put("a", b"", terms={"t": long + "a", "n" * 500: 1, "名" * 100: 2})
    store.put("b", b"", terms={"t": long + "b", "n" * 499: 1})
    assert list(store.find({"t": long + "a"})) == ["a"]
    assert list(store.find({"t": long + "b"})) == ["b"]
    assert list(store.find({"n" * 500: 1})) == ["a"]
    assert list(store.find({"名" * 100: 2})) == ["a"]


def test_pages_of_matches(store: Sql) -> None:
    store.put_many(
        {f"k/{n:04}": b"" for n in range(2500)},
        {f"k/{n:04}": {"f": "f", "n": n // 2} for n in range(2500)},
    )
    assert list(store.find({"f": "f"})) == [f"k/{n:04}" for n in range(2500)]
    assert sorted(store.find({"n": (0, 1200)})) == [f"k/{n:04}" for n in range(2402)]
    assert len(list(store.find({"f": "f", "n": (None, None)}))) == 2500


def test_what_is_no_term(store: Sql) -> None:
    for bad in (float("nan"), 2**63, b"x", [1], (1, 2, 3), "\ud800"):
        with pytest.raises(ConfigError):
            list(store.find({"n": bad}))
        with pytest.raises(ConfigError):
            store.put("a", b"", terms={"n": bad})
        assert store.get("a") is None


def test_no_range_from_text_to_number(store: Sql) -> None:
    with pytest.raises(ConfigError, match="no range"):
        list(store.find({"n": ("a", 1)}))


def test_finding_touches_only_the_matches(url: str) -> None:
    store = Sql(url)
    items = {f"calls/{n:05}": b"" for n in range(6_000)}
    terms = {
        key: {"function": "one" if n < 5_990 else "other", "n": n, "half": n // 2}
        for n, key in enumerate(items)
    }
    store.put_many(items, terms)
    around = Around(url)
    if around.scheme == "postgresql":
        around.run("ANALYZE")
    elif around.scheme == "mariadb":
        around.run("ANALYZE TABLE kept_terms")
    for where, matches in (
        ({"n": 7}, 1),
        ({"n": (7, 16)}, 10),
        ({"function": "one", "n": (7, 16)}, 10),
        ({"function": ("a", "z"), "n": 7}, 1),
        ({"half": 50, "function": "one"}, 2),
        ({"function": "other"}, 10),
    ):
        assert len(list(store.find(where, "calls/"))) == matches
        text, values, last = store._plan(_wanted(where), "calls/")
        if around.scheme == "mariadb":
            assert _handled(store, text, [*values, *last]) <= 4 * matches + 4
            continue
        plan = _explained(store, around.scheme, text, [*values, *last])
        if around.scheme == "sqlite":
            assert "SCAN" not in plan.replace("SCALAR", ""), plan
            assert "kept_terms_found (field=? AND value" in plan, plan
            assert "TEMP B-TREE" not in plan, plan
        else:
            assert "Seq Scan" not in plan, plan
            touched = _rows_touched(plan)
            assert touched <= 4 * matches + 4, plan


def _wanted(where: dict[str, Any]) -> list[Any]:
    from wellkept.stores.sql import Condition

    return [Condition.of(name, value) for name, value in where.items()]


def _explained(store: Sql, scheme: str, text: str, values: list[Any]) -> str:
    how = "EXPLAIN QUERY PLAN " if scheme == "sqlite" else "EXPLAIN (ANALYZE, COSTS OFF) "
    return "\n".join(str(row[-1]) for row in store._rows(how + text, values))


def _handled(store: Sql, text: str, values: list[Any]) -> int:
    """How many rows MariaDB's engine read for a statement (its EXPLAIN only estimates)."""
    dialect = store._dialect
    connection = store._connections._connection()
    dialect.run(connection, "FLUSH STATUS", ())
    dialect.rows(connection, dialect.text(text), values)
    counts = dialect.rows(connection, "SHOW SESSION STATUS LIKE 'Handler_read%%'", ())
    store._connections._drop(connection)
    return sum(int(count) for _, count in counts)


def _rows_touched(plan: str) -> int:
    import re

    found = 0
    for line in plan.splitlines():
        scan = re.search(r"Scan .*rows=(\d+) loops=(\d+)", line.replace(".00", ""))
        if scan:
            found += int(scan[1]) * int(scan[2])
        if removed := re.search(r"Rows Removed by \w+: (\d+)", line):
            found += int(removed[1])
    return found


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("oracle://host/x", "no such database as 'oracle'"),
        ("nonsense", "no such database"),
        ("postgresql://u:p@h@:x/y/z:1", "can't be read|names no database|not"),
        ("postgresql://user:pw@host", "names no database"),
        ("mariadb://user:s3cret-word@host:port/db", "can't be read"),
        ("sqlite://", "names no file"),
        ("sqlite:////tmp/:memory:", "is no file; a database in memory is sqlite:///:memory:"),
    ],
)
def test_urls_that_are_wrong(bad: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        Sql(bad)
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None or PASSWORD not in str(caught.value.__cause__)


def test_options_that_are_wrong() -> None:
    for table in ("", "a b", "kept; DROP TABLE x", "x" * 60, "1a", None):
        with pytest.raises(ConfigError, match="not a name for a table"):
            Sql("sqlite:///x.db", table=table)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="above 0"):
        Sql("sqlite:///x.db", timeout=0)


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[postgresql\]'"):
        Sql("postgresql://u:p@h/d")
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[mariadb\]'"):
        Sql("mariadb://u:p@h/d")


def _error(url: str, **options: Any) -> str:
    store = Sql(url, **options)
    with pytest.raises(StoreError) as caught:
        store.get("a")
    text = str(caught.value)
    assert text.startswith("can't read a in ")
    assert "\n" not in text
    assert caught.value.__cause__ is not None
    for said in (text, repr(store)):
        assert PASSWORD not in said
        assert "wrong-word" not in said
    store.close()
    return text


def test_wrong_credentials(served: tuple[Service, str]) -> None:
    _, url = served
    assert "the user or the password is wrong" in _error(url.replace(PASSWORD, "wrong-word"))
    assert "the user or the password is wrong" in _error(url.replace("wellkept:", "nobody:"))


def test_an_unknown_database(served: tuple[Service, str]) -> None:
    _, url = served
    assert "there is no such database" in _error(url.rpartition("/")[0] + "/nothing")


def test_an_unknown_host(served: tuple[Service, str]) -> None:
    _, url = served
    assert "the host is not known" in _error(url.replace("127.0.0.1", "no-such-host.invalid"))


def test_a_port_where_nobody_is(served: tuple[Service, str]) -> None:
    service, url = served
    service.kill()
    assert "no server answers there" in _error(url)


def test_no_rights(served: tuple[Service, str]) -> None:
    _, url = served
    around = Around(url)
    secret = "wrong-word"
    if around.scheme == "postgresql":
        around.run("DROP ROLE IF EXISTS reader")
        around.run(f"CREATE ROLE reader LOGIN PASSWORD '{secret}'")
    else:
        around.run("DROP USER IF EXISTS reader@'%'")
        around.run(f"CREATE USER reader@'%' IDENTIFIED BY '{secret}'")
        around.run(f"GRANT SELECT ON {url.rpartition('/')[2]}.* TO reader@'%'")
    limited = url.replace(f"wellkept:{PASSWORD}", f"reader:{secret}")
    assert "has no right" in _error(limited)
    owner = Sql(url)
    owner.put("a", b"1")
    if around.scheme == "postgresql":
        around.run("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
    reader = Sql(limited)
    assert reader.get("a") == b"1"
    with pytest.raises(StoreError, match="has no right"):
        reader.put("a", b"2")
    assert owner.get("a") == b"1"
    for one in (owner, reader):
        one.close()
    if around.scheme == "postgresql":
        around.run("DROP OWNED BY reader")
        around.run("DROP ROLE reader")


def test_a_read_only_server(served: tuple[Service, str]) -> None:
    _, url = served
    store = Sql(url)
    store.put("a", b"1")
    around = Around(url)
    name = url.rpartition("/")[2]
    if around.scheme == "postgresql":
        around.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    else:
        # One who may not write where the server is read-only: SUPER may.
        around.run("DROP USER IF EXISTS plain@'%'")
        around.run(f"CREATE USER plain@'%' IDENTIFIED BY '{PASSWORD}'")
        around.run(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO plain@'%'")
        around.run("SET GLOBAL read_only = 1")
        url = url.replace("wellkept:", "plain:")
    limited = Sql(url)
    try:
        assert limited.get("a") == b"1"
        with pytest.raises(StoreError, match="the database is read-only"):
            limited.put("a", b"2")
    finally:
        if around.scheme == "mariadb":
            around.run("SET GLOBAL read_only = 0")
    for one in (store, limited):
        one.close()


def test_a_newer_schema_is_left_alone(store: Sql, url: str) -> None:
    store.put("a", b"1")
    Around(url).run("UPDATE kept_meta SET value = '2'")
    newer = Sql(url)
    with pytest.raises(NewerSchema, match=r"schema 2; this one knows 1"):
        newer.get("a")
    with pytest.raises(NewerSchema):
        newer.put("a", b"2")
    assert store.get("a") == b"1"
    newer.close()


def test_a_table_of_somebody_else(url: str) -> None:
    Around(url).run("CREATE TABLE kept (id INTEGER, something VARCHAR(10))")
    store = Sql(url)
    with pytest.raises(StoreError, match="that wellkept did not make: choose another"):
        store.get("a")
    store.close()


def test_two_tables_in_one_database(url: str) -> None:
    one, other = Sql(url, table="one"), Sql(url, table="Other")
    one.put("a", b"1", terms={"n": 1})
    other.put("a", b"2", terms={"n": 2})
    assert (one.get("a"), other.get("a")) == (b"1", b"2")
    assert list(one.find({"n": 2})) == []
    one.close()
    other.close()


def test_what_is_no_key(store: Sql) -> None:
    works: tuple[Callable[[Any], object], ...] = (
        store.get,
        lambda key: store.put(key, b""),
        lambda key: store.create(key, b""),
        lambda key: store.replace(key, b"", b""),
        store.delete,
        lambda key: store.get_many([key]),
        lambda key: store.delete_many([key]),
    )
    for key in ("", "/a", "a..b", "a%", "a'b", "é", "a\0", "k" * 201, 5, None):
        for work in works:
            with pytest.raises(ConfigError):
                work(key)


def test_sqlite_files_that_are_wrong(tmp_path: Path) -> None:
    assert "its directory is missing" in _error(f"sqlite:///{tmp_path}/no/such.db")
    (tmp_path / "text.db").write_bytes(b"no database at all, but long enough" * 100)
    assert "no SQLite database" in _error(f"sqlite:///{tmp_path}/text.db")
