"""Redis, against a real server."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services import Service
from tests.stores.agreement import check_agreement
from tests.stores.racing import check_races, die_in_time

from wellkept.errors import ConfigError, StoreError
from wellkept.stores import silence
from wellkept.stores.base import Creates, Many, Replaces
from wellkept.stores.redis import Redis
from wellkept.testing import StoreContract

redis_py = pytest.importorskip("redis", reason="redis-py is not installed")


@pytest.fixture
def store(redis_url: str) -> Iterator[Redis]:
    made = Redis(redis_url)
    yield made
    made.close()


class Around:
    """The server, by a client of its own."""

    def __init__(self, url: str) -> None:
        self.client = redis_py.Redis.from_url(url)

    def read(self, key: str) -> Any:
        return self.client.get(f"kept:{key}")

    def write(self, key: str, item: bytes) -> None:
        self.client.set(f"kept:{key}", item)

    def keys(self) -> list[str]:
        return [name.decode().removeprefix("kept:") for name in self.client.keys("kept:*")]

    def damage(self, key: str) -> bool:
        return False  # bytes are served as they are; whoever reads them verifies them


class TestRedis(StoreContract):
    pickles = True

    @pytest.fixture(autouse=True)
    def _server(self, redis_url: str) -> None:
        self.url = redis_url

    def make(self, place: Path) -> Redis:
        return Redis(self.url)

    def accessor(self, store: Any, place: Path) -> Around:
        return Around(self.url)


def test_it_has_these_abilities(store: Redis) -> None:
    for ability in (Creates, Replaces, Many):
        assert isinstance(store, ability)


def test_it_agrees_with_a_dict(redis_url: str) -> None:
    client = redis_py.Redis.from_url(redis_url)

    def make() -> Redis:
        client.flushall()
        client.set("other:calls/aa", b"not ours")
        return Redis(redis_url, prefix="k[e]*?^:")

    check_agreement(make, examples=15)


def test_one_winner_and_no_lost_increment(store: Redis) -> None:
    check_races(store, keys=10, times=15)


def test_prefixes_are_apart(redis_url: str) -> None:
    one, other, wild = (Redis(redis_url, prefix=p) for p in ("one:", "other:", "o*:"))
    one.put("a", b"1")
    other.put("a", b"2")
    assert (one.get("a"), other.get("a"), wild.get("a")) == (b"1", b"2", None)
    assert list(wild.keys()) == []
    one.delete("a")
    assert list(other.keys()) == ["a"]


def test_many_thousand_keys_are_listed_once_each(store: Redis) -> None:
    items = {f"calls/{n:064x}": b"%d" % n for n in range(5000)}
    store.put_many(items)
    assert sorted(store.keys("calls/")) == sorted(items)
    assert store.get_many(items) == items
    store.delete_many(items)
    assert list(store.keys()) == []


def test_many_are_one_round_trip(store: Redis, redis_url: str) -> None:
    around = redis_py.Redis.from_url(redis_url)
    keys = [f"values/{n}" for n in range(500)]
    store.put_many(dict.fromkeys(keys, b"x"))

    def calls(command: str) -> int:
        return int(around.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])

    before = calls("mget"), calls("get"), calls("unlink")
    store.get_many(keys)
    store.delete_many(keys)
    assert (calls("mget"), calls("get"), calls("unlink")) == (
        before[0] + 1,
        before[1],
        before[2] + 1,
    )
    store.get(keys[0])
    assert calls("get") == before[1] + 1


def test_what_expires_is_gone(store: Redis) -> None:
    store.put("a", b"1", ttl=0.05)
    store.put("b", b"1", ttl=60)
    store.put("b", b"2")
    assert store.create("c", b"1", ttl=0.05)
    assert store.replace("b", b"2", b"3", ttl=0.05)
    store.put_many({"d": b"1"}, ttl=0.05)
    store.put("e", b"1", ttl=0.05)
    store.put("e", b"2")
    time.sleep(0.15)
    assert list(store.keys()) == ["e"]
    assert store.create("c", b"2")


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf")])
def test_a_ttl_is_a_positive_number(store: Redis, ttl: float) -> None:
    with pytest.raises(ConfigError, match="ttl"):
        store.put("a", b"1", ttl=ttl)
    assert store.get("a") is None


def test_the_clock_is_the_servers(store: Redis) -> None:
    first = store.now()
    assert abs(first - time.time()) < 60
    assert store.now() >= first


def test_large_items_belong_elsewhere(redis_url: str) -> None:
    store = Redis(redis_url, limit=1000)
    store.put("a", b"x" * 1000)
    for put in (store.put, store.create, lambda k, i: store.put_many({k: i})):
        with pytest.raises(StoreError, match="elsewhere"):
            put("b", b"x" * 1001)
    assert list(store.keys()) == ["a"]


# -- trouble ---------------------------------------------------------------------------------------


def test_killed_and_started_again(store: Redis, redis: Service) -> None:
    store.put("a", b"1")
    redis.kill()
    begun = time.monotonic()
    for ask in (
        lambda: store.get("a"),
        lambda: store.put("b", b"2"),
        lambda: store.create("c", b"3"),
        lambda: list(store.keys()),
        lambda: store.get_many(["a"]),
        lambda: store.put_many({"a": b"2"}),
    ):
        with pytest.raises(StoreError, match="is the server running"):
            ask()
    assert time.monotonic() - begun < 10
    redis.start()
    assert store.get("a") == b"1"
    redis.restart()  # each pooled connection is dead, and nobody is told
    store.put("b", b"2")
    redis.restart()
    assert store.create("c", b"3")
    redis.restart()
    assert store.get_many(["a", "b", "c"]) == {"a": b"1", "b": b"2", "c": b"3"}


def test_restarted_below_working_threads(store: Redis, redis: Service) -> None:
    """What was acknowledged is there, and what failed said so."""
    stop, failed = threading.Event(), []
    done: list[list[str]] = [[] for _ in range(4)]

    def work(me: int) -> None:
        n = 0
        while not stop.is_set():
            n += 1
            key = f"calls/{me}.{n}"
            try:
                store.put(key, key.encode())
                assert store.get(key) == key.encode()
            except StoreError as error:
                failed.append(error)
                time.sleep(0.01)
            else:
                done[me].append(key)

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = sum(map(len, done))
        deadline = time.monotonic() + 20
        while sum(map(len, done)) < before + 20 and time.monotonic() < deadline:
            time.sleep(0.01)
        redis.restart()
    count = sum(map(len, done))
    deadline = time.monotonic() + 20
    while sum(map(len, done)) <= count and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert sum(map(len, done)) > count, "it did not go on after the restart"
    # The server's log is written behind: the last moments before a kill are not promised.
    after = [key for keys in done for key in keys[-5:]]
    assert store.get_many(after) == {key: key.encode() for key in after}


def test_a_frozen_server_is_an_error_in_time(
    redis: Service, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silence, "PAUSE", 600.0)
    store = Redis(redis_url, socket_timeout=0.3, socket_connect_timeout=0.3)
    Redis(redis_url).put("a", b"1")
    redis.freeze()
    try:
        with pytest.raises(StoreError, match="no answer in time"):
            store.get("a")
        store.silence.over()
        with pytest.raises(StoreError, match="no answer in time"):
            store.create("b", b"1")
        with monkeypatch.context() as patch:
            patch.setattr(store, "_client", None)  # nobody waits for it again
            for _ in range(100):
                with pytest.raises(StoreError, match="no answer in time"):
                    store.get("a")
    finally:
        redis.thaw()
    deadline = time.monotonic() + 60
    found = None
    while found is None and time.monotonic() < deadline:
        store.silence.over()  # as after a pause
        with contextlib.suppress(StoreError):
            found = store.get("a")
    assert found == b"1"


def test_an_answer_that_was_lost_is_not_guessed() -> None:
    """A server that ends the connection after a create: whether it was done is not known."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        asked: list[bytes] = []

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                with connection:
                    while data := connection.recv(65536):
                        if b"SETINFO" in data:
                            connection.sendall(b"+OK\r\n" * data.count(b"SETINFO"))
                        else:
                            asked.append(data)
                            break

        threading.Thread(target=serve, daemon=True).start()
        store = Redis(f"redis://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(StoreError):
            store.create("a", b"1")
        assert len(asked) == 1, "a create was sent twice"
        with pytest.raises(StoreError):
            store.replace("a", b"0", b"1")
        assert len(asked) == 2
        with pytest.raises(StoreError):
            store.get("a")
        assert len(asked) == 4, "a get is tried once more"
        server.shutdown(socket.SHUT_RDWR)


def test_a_full_server_says_so(redis: Service, redis_url: str) -> None:
    client = redis_py.Redis.from_url(redis_url)
    store = Redis(redis_url)
    store.put("a", b"1")
    client.config_set("maxmemory", 1)
    try:
        for put in (store.put, store.create, lambda k, i: store.put_many({k: i})):
            with pytest.raises(StoreError, match="full") as caught:
                put("b", b"secret item")
            assert "secret item" not in _whole(caught.value)
        assert store.get("a") == b"1"
    finally:
        client.config_set("maxmemory", 0)
    store.put("b", b"2")


def test_wrong_credentials(redis: Service, redis_url: str) -> None:
    client = redis_py.Redis.from_url(redis_url)
    client.acl_setuser(
        "ann", enabled=True, passwords=["+right-word"], keys=["kept:*"], commands=["+get"]
    )
    try:
        wrong = f"redis://ann:wrong-word@127.0.0.1:{redis.port}/0"
        with pytest.raises(StoreError, match="refuses user or password") as caught:
            Redis(wrong).get("a")
        assert "wrong-word" not in _whole(caught.value)
        assert "wrong-word" not in repr(Redis(wrong))
        right = Redis(f"redis://ann@127.0.0.1:{redis.port}/0", password="right-word")
        assert right.get("a") is None
        with pytest.raises(StoreError, match="refuses user or password"):
            right.put("a", b"1")
    finally:
        client.acl_deluser("ann")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://no-such-host.invalid", "no connection"),
        ("redis://127.0.0.1:1", "no connection"),
        ("unix:///no/such/socket", "no connection"),
        (f"redis://{'x' * 70}.invalid", "no connection"),
    ],
)
def test_nobody_there(url: str, says: str) -> None:
    begun = time.monotonic()
    with pytest.raises(StoreError, match=says):
        Redis(url).get("a")
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1", {}),
        ("", {}),
        ("127.0.0.1:6379", {}),
        ("redis://127.0.0.1:port/0", {}),
        ("redis://ann:s3cret/word@127.0.0.1", {}),
        ("redis://127.0.0.1/calls", {}),
        ("redis://127.0.0.1/0?socket_timeout=s3cret", {}),
        ("redis://127.0.0.1/0?no_such_option=1", {}),
        ("redis://127.0.0.1", {"no_such_option": 1}),
        ("redis://127.0.0.1", {"max_connections": "s3cret"}),
    ],
)
def test_a_wrong_url_or_option_is_told_at_once(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        Redis(url, **options)
    assert "s3cret" not in _whole(caught.value)


@pytest.mark.parametrize("key", ["", "/a", "a b", "a..b", "é", "a" * 201, "a\n", None, b"a"])
def test_what_is_no_key_is_refused(store: Redis, key: Any) -> None:
    for ask in (
        lambda: store.get(key),
        lambda: store.put(key, b"1"),
        lambda: store.delete(key),
        lambda: store.create(key, b"1"),
        lambda: store.replace(key, b"1", b"2"),
        lambda: store.get_many([key]),
        lambda: store.put_many({key: b"1"}),
        lambda: store.delete_many([key]),
    ):
        with pytest.raises(ConfigError, match="not a key"):
            ask()
    assert list(store.keys()) == []


def test_another_kind_under_the_key(store: Redis, redis_url: str) -> None:
    redis_py.Redis.from_url(redis_url).lpush("kept:a", b"1")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        store.get("a")


def test_without_redis_py(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[redis\]'"):
        Redis("redis://127.0.0.1")


# -- elsewhere -------------------------------------------------------------------------------------


def test_importing_it_imports_no_driver() -> None:
    code = "import sys, wellkept.stores.redis; assert 'redis' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_options_travel(redis_url: str) -> None:
    again = pickle.loads(pickle.dumps(Redis(redis_url, "p:", limit=7, socket_timeout=3)))
    assert (again.url, again.prefix, again.limit) == (redis_url, "p:", 7)
    assert again.options == {"socket_timeout": 3}


def test_parent_and_forked_children_do_not_mix_answers(store: Redis) -> None:
    for n in range(50):
        store.put(f"a/{n}", b"%d" % n)
    children = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            die_in_time()
            right = all(store.get(f"a/{n}") == b"%d" % n for _ in range(10) for n in range(50))
            os._exit(0 if right else 1)
        children.append(pid)
    assert all(store.get(f"a/{n}") == b"%d" % n for _ in range(10) for n in range(50))
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4


def test_forked_below_working_threads(store: Redis) -> None:
    store.put("a", b"1")
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            store.get("a")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                die_in_time()
                os._exit(0 if store.get("a") == b"1" else 1)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_after_close_it_opens_again(store: Redis) -> None:
    store.put("a", b"1")
    store.close()
    assert store.get("a") == b"1"


def _whole(error: BaseException | None) -> str:
    """What a traceback would show of it."""
    text = ""
    while error is not None:
        text += f"{error} {error!r} {error.args} "
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text
