"""Object stores: an S3 endpoint, a directory and memory."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.services import Service
from tests.stores.agreement import check_agreement
from tests.stores.racing import check_races, die_in_time
from tests.thorough import often

import wellkept
from wellkept.errors import ConfigError, StoreError
from wellkept.stores.base import Creates, Many, Replaces
from wellkept.stores.object_store import Objects
from wellkept.testing import StoreContract

obs = pytest.importorskip("obstore", reason="obstore is not installed")

SERVER = Path(__file__).parents[1] / "s3server.py"
KEYS = {"access_key_id": "an-access-key", "secret_access_key": "a-secret-key"}
MIB = 1024 * 1024


def _start(*options: str) -> Iterator[Service]:
    pytest.importorskip("moto", reason="moto is not installed")
    service = Service(
        "s3-one-by-one",
        lambda _, port: [sys.executable, SERVER, str(port), *options],
        lambda port: _ask(f"http://127.0.0.1:{port}/moto-api/", "GET"),
        url="http://127.0.0.1:{port}",
    )
    try:
        yield service
    finally:
        service.close()


def _ask(url: str, method: str, data: bytes | None = None) -> None:
    plain = {"Content-Type": "text/plain"}
    asked = urllib.request.Request(url, method=method, data=data, headers=plain)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(asked, timeout=5).close()


@pytest.fixture(scope="module")
def _exact() -> Iterator[Service]:
    yield from _start()


@pytest.fixture
def server(_exact: Service) -> Service:
    """An endpoint whose conditional writes are atomic, as those of S3 are."""
    _exact.start()
    return _exact


@pytest.fixture(scope="module")
def loose() -> Iterator[Service]:
    """An endpoint that ignores conditions."""
    yield from _start("--ignore-conditions")


@pytest.fixture
def bucket(server: Service) -> str:
    return _bucket(server)


def _bucket(server: Service) -> str:
    name = f"test-{os.urandom(6).hex()}"
    _ask(f"{server.url}/{name}", "PUT")
    return name


@pytest.fixture
def opened(server: Service, bucket: str) -> Callable[..., Objects]:
    def make(prefix: str = "pre/fix", **options: Any) -> Objects:
        return Objects(f"s3://{bucket}/{prefix}", **{"endpoint": server.url, **KEYS, **options})

    return make


@pytest.fixture
def store(opened: Callable[..., Objects]) -> Objects:
    return opened()


class Around:
    """The objects, by obstore alone."""

    def __init__(self, store: Any, leaf: str = "") -> None:
        self.store, self.leaf = store, leaf

    def read(self, key: str) -> Any:
        try:
            return bytes(obs.get(self.store, key + self.leaf).bytes())
        except FileNotFoundError:
            return None

    def write(self, key: str, item: bytes) -> None:
        obs.put(self.store, key + self.leaf, item)

    def keys(self) -> list[str]:
        return [m["path"].removesuffix(self.leaf) for page in obs.list(self.store) for m in page]

    def damage(self, key: str) -> bool:
        return False  # bytes are served as they are; whoever reads them verifies them


class TestS3(StoreContract):
    pickles = True
    forks = False  # the driver's threads are not in the child
    large = 20_000_000  # in parts

    @pytest.fixture(autouse=True)
    def _opened(self, opened: Callable[..., Objects]) -> None:
        self.opened = opened

    def make(self, place: Path) -> Objects:
        return self.opened()

    def accessor(self, store: Any, place: Path) -> Around:
        given = {**store.options, "client_options": {"allow_http": True}}
        return Around(obs.store.from_url(store.url, **given))


class TestDirectory(StoreContract):
    pickles = True
    forks = False  # the driver's threads are not in the child
    large = 20_000_000

    def make(self, place: Path) -> Objects:
        return Objects((place / "with a space").as_uri())

    def accessor(self, store: Any, place: Path) -> Around:
        return Around(obs.store.LocalStore(prefix=place / "with a space"), "~")


class TestMemory(StoreContract):
    persistent = False

    def make(self, place: Path) -> Objects:
        return Objects("memory:///")


def test_it_has_these_abilities(store: Objects) -> None:
    for ability in (Creates, Replaces, Many):
        assert isinstance(store, ability)


def test_s3_agrees_with_a_dict(opened: Callable[..., Objects]) -> None:
    check_agreement(lambda: opened(os.urandom(6).hex()), examples=6)


def test_a_directory_agrees_with_a_dict(tmp_path: Path) -> None:
    check_agreement(
        lambda: Objects((tmp_path / os.urandom(6).hex()).as_uri()), examples=10, replaces=False
    )


def test_memory_agrees_with_a_dict() -> None:
    check_agreement(lambda: Objects("memory:///"), examples=10)


@pytest.mark.long
def test_one_winner_and_no_lost_increment(store: Objects) -> None:
    check_races(store, keys=20, times=15)


def test_the_bucket_itself_without_a_prefix(opened: Callable[..., Objects]) -> None:
    store = opened("")
    store.put("calls/a", b"1")
    assert list(store.keys("ca")) == ["calls/a"]
    other = opened("elsewhere")
    assert list(other.keys()) == []
    assert other.get("calls/a") is None


@pytest.mark.long
def test_a_listing_asks_for_the_pages_it_needs(store: Objects, server: Service) -> None:
    log = server.directory / "log"
    keys = [f"calls/{n:04x}" for n in range(0, 0x10000, 63)]  # two pages
    store.put_many(dict.fromkeys(keys, b""))
    for prefix in ("calls/", "calls/f", "calls/ff0", "calls/0", "calls/ab", "calls/a", "ca"):
        before = log.read_text().count("list-type=2")
        assert sorted(store.keys(prefix)) == [k for k in keys if k.startswith(prefix)], prefix
        asked = log.read_text().count("list-type=2") - before
        assert asked <= (2 if len(prefix) < 7 else 1), prefix
    store.delete_many(keys)
    assert list(store.keys()) == []


# -- large items -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8 * MIB, 8 * MIB + 1, 64 * MIB, 73 * MIB + 7])
@pytest.mark.long
def test_items_in_parts(store: Objects, size: int, tmp_path: Path) -> None:
    item = os.urandom(size)
    store.put("blobs/a", memoryview(item))
    assert store.get("blobs/a") == item
    (tmp_path / "file").write_bytes(item)
    store.put_file("blobs/b", tmp_path / "file")
    assert store.get("blobs/b") == item


@pytest.mark.parametrize("url", ["s3", "memory:///", "file"])
def test_ranges(url: str, store: Objects, tmp_path: Path) -> None:
    store = store if url == "s3" else Objects(url if url[0] == "m" else tmp_path.as_uri())
    store.put("a", b"0123456789")
    store.put("empty", b"")
    assert store.read_range("a", 2, 5) == b"234"
    assert store.read_range("a", 7, 50) == b"789"
    assert store.read_range("a", 10, 12) == store.read_range("a", 50, 60) == b""
    assert store.read_range("a", 3, 3) == store.read_range("empty", 0, 5) == b""
    assert store.read_range("none", 0, 1) is store.read_range("none", 0, 0) is None
    assert [store.size_of(key) for key in ("a", "empty", "none")] == [10, 0, None]
    for start, end in ((-1, 2), (3, 2)):
        with pytest.raises(ConfigError, match="range"):
            store.read_range("a", start, end)


@pytest.mark.long
def test_an_item_replaced_while_it_is_read_is_one_of_the_two(tmp_path: Path) -> None:
    store = Objects(tmp_path.as_uri())
    items = [bytes([n]) * (66 * MIB) for n in (1, 2)]
    store.put("blobs/a", items[0])
    stop = threading.Event()

    def work() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            store.put("blobs/a", items[n % 2])
            time.sleep(0.05)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for _ in range(often(10, 20)):
            assert store.get("blobs/a") in items, "a mixture"
    finally:
        stop.set()
        writer.join()


_MEMORY = """
import os, sys, threading
from pathlib import Path
from wellkept.stores.object_store import Objects

def resident(which):
    return next(int(l.split()[1]) * 1024 for l in open("/proc/self/status") if l.startswith(which))

def peak_over(do):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS:")
    result = do()
    return resident("VmHWM:") - before, result

url, size, options = sys.argv[1], int(sys.argv[2]), eval(sys.argv[3])
store = Objects(url, **options)
store.put("blobs/small", b"1"); store.get("blobs/small")
item = bytearray(os.urandom(1 << 20) * (size >> 20))
print(peak_over(lambda: store.put("blobs/a", item))[0])
with open("item", "wb") as file:
    file.write(item)
print(peak_over(lambda: store.put_file("blobs/b", "item"))[0])
os.unlink("item")
expected = hash(bytes(item))
del item
over, found = peak_over(lambda: store.get("blobs/b"))
assert hash(found) == expected
print(over - size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "where",
    [
        "file",
        pytest.param("s3", marks=pytest.mark.long),
        pytest.param("file, larger", marks=pytest.mark.long),
    ],
)
def test_memory_is_bounded(where: str, opened: Callable[..., Objects], tmp_path: Path) -> None:
    store = opened() if where == "s3" else None
    url = store.url if store else tmp_path.as_uri()
    size = (often(400, 1024) if where == "file, larger" else 160) * MIB
    command = [sys.executable, "-c", _MEMORY, url, str(size), repr(store.options if store else {})]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path)
    put, put_file, get = map(int, done.stdout.split())
    assert max(put, put_file, get) < 160 * MIB, (put, put_file, get)


# -- trouble ---------------------------------------------------------------------------------------


def test_an_endpoint_that_ignores_conditions_is_refused(loose: Service) -> None:
    store = Objects(f"s3://{_bucket(loose)}", endpoint=loose.url, **KEYS)
    for _ in range(2):
        with pytest.raises(StoreError, match="ignores If-None-Match"):
            store.create("a", b"1")
        with pytest.raises(StoreError, match="without a race"):
            store.replace("a", b"1", b"2")
    assert list(store.keys()) == []
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_a_directory_has_no_compare_and_set(tmp_path: Path) -> None:
    store = Objects(tmp_path.as_uri())
    store.put("a", b"1")
    assert store.create("a", b"2") is False
    assert not isinstance(store, Replaces)
    assert isinstance(pickle.loads(pickle.dumps(store)), Creates)
    assert store.get("a") == b"1"


def test_a_cache_in_a_directory_of_objects(tmp_path: Path) -> None:
    store = Objects(tmp_path.as_uri())
    cache = wellkept.Cache(values=store, calls=store)
    f = wellkept.keep(cache=cache, version=1, strict=True)(lambda x: [x])
    assert f(1) == f(1) == [1]
    assert f.stats().hits == 1
    cache.flush()
    assert f.call(1).uses == 1


def test_a_large_item_has_no_condition(store: Objects) -> None:
    item = bytes(64 * MIB + 1)
    with pytest.raises(StoreError, match="use put"):
        store.create("a", item)
    with pytest.raises(StoreError, match="use put"):
        store.replace("a", b"1", item)


def _everything(store: Objects) -> list[Callable[[], object]]:
    return [
        lambda: store.get("a"),
        lambda: store.put("a", b"1"),
        lambda: store.put("a", bytes(9 * MIB)),
        lambda: store.delete("a"),
        lambda: list(store.keys()),
        lambda: store.create("a", b"1"),
        lambda: store.replace("a", b"1", b"2"),
        lambda: store.get_many(["a", "b"]),
        lambda: store.put_many({"a": b"1", "b": b"1"}),
        lambda: store.delete_many(["a", "b"]),
        lambda: store.read_range("a", 0, 1),
    ]


def test_no_bucket(server: Service) -> None:
    store = Objects("s3://no-such-bucket/pre", endpoint=server.url, **KEYS)
    for ask in _everything(store):
        with pytest.raises(StoreError, match="no such bucket") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_wrong_credentials(server: Service, bucket: str) -> None:
    store = Objects(f"s3://{bucket}", endpoint=server.url, **KEYS)
    _ask(f"{server.url}/moto-api/reset-auth", "POST", b"0")
    try:
        for ask in _everything(store):
            with pytest.raises(StoreError, match="refuses these credentials") as caught:
                ask()
            text = f"{caught.value} {caught.value.__cause__!r}"
            assert KEYS["access_key_id"] not in text
            assert KEYS["secret_access_key"] not in text
    finally:
        _ask(f"{server.url}/moto-api/reset-auth", "POST", b"1000000000")
    assert store.get("a") is None


@pytest.mark.parametrize("endpoint", ["http://no-such-host.invalid", "http://127.0.0.1:1"])
def test_nobody_there(endpoint: str) -> None:
    store = Objects("s3://bucket", endpoint=endpoint, **KEYS)
    for ask in (lambda: store.get("a"), lambda: store.create("a", b""), lambda: list(store.keys())):
        begun = time.monotonic()
        with pytest.raises(StoreError, match="no connection"):
            ask()
        assert time.monotonic() - begun < 15


def test_an_endpoint_that_does_not_answer(server: Service, bucket: str) -> None:
    store = Objects(
        f"s3://{bucket}",
        endpoint=server.url,
        client_options={"timeout": "300ms"},
        retry_config={"max_retries": 1},
        **KEYS,
    )
    store.put("a", b"1")
    server.freeze()
    try:
        for ask in (lambda: store.get("a"), lambda: store.create("b", b"1")):
            store.silence.over()
            with pytest.raises(StoreError, match="no answer in time"):
                ask()
        for _ in range(100):
            with pytest.raises(StoreError, match="no answer in time"):
                store._ask("read", "a", lambda: pytest.fail("it waits again"))
    finally:
        server.thaw()
    store.silence.over()  # as after a pause
    assert store.get("a") == b"1"


@pytest.mark.long
def test_killed_and_started_again(store: Objects, server: Service, bucket: str) -> None:
    store.put("a", b"1")
    server.kill()
    begun = time.monotonic()
    for ask in _everything(store):
        store.silence.over()
        with pytest.raises(StoreError, match="no connection"):
            ask()
    assert time.monotonic() - begun < 60
    server.start()
    store.silence.over()  # as after a pause
    _ask(f"{server.url}/{bucket}", "PUT")  # this one forgets everything
    assert store.get("a") is None
    store.put("a", b"2")
    assert store.get("a") == b"2"
    server.restart()
    _ask(f"{server.url}/{bucket}", "PUT")
    assert store.create("a", b"3")


def test_no_credentials_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    for url, says in (
        ("s3://bucket", "AWS_ACCESS_KEY_ID"),
        ("gs://bucket", "GOOGLE_APPLICATION_CREDENTIALS"),
        ("az://container", "AZURE_STORAGE_ACCOUNT_KEY"),
    ):
        with pytest.raises(ConfigError, match=says):
            Objects(url)
    Objects("s3://bucket", skip_signature=True)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    Objects("s3://bucket")


def test_the_environment_tells_all(
    server: Service, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    store = Objects(f"s3://{bucket}")
    store.put("a", b"1")
    assert store.get("a") == b"1"


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://bucket", {}),
        ("", {}),
        ("bucket", {}),
        ("s3://", {}),
        ("s3:///prefix", {}),
        ("s3://name:s3cret-word@bucket", {}),
        ("s3://s3cret-word@bucket", {}),
        ("s3://bucket?secret=s3cret-word", {}),
        ("s3://[bucket", {}),
        ("file:///", {}),
        ("file://host/path", {}),
        ("memory://name", {}),
        ("s3://bucket", {"no_such_option": "s3cret-word"}),
        ("file:///proc/no/such", {}),
        ("memory:///", {"no_such_option": 1}),
    ],
)
def test_a_wrong_url_or_option_is_told_at_once(url: str, options: dict[str, Any]) -> None:
    keys = KEYS if url.startswith("s3") else {}
    with pytest.raises(ConfigError) as caught:
        Objects(url, **keys, **options)
    text = f"{caught.value} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "s3cret-word" not in text
    assert KEYS["secret_access_key"] not in text


@pytest.mark.parametrize("key", ["", "/a", "a b", "a..b", "~probe/a", "é", "a" * 201, None])
def test_what_is_no_key_is_refused(key: Any) -> None:
    store = Objects("memory:///")
    for ask in (
        lambda: store.get(key),
        lambda: store.put(key, b"1"),
        lambda: store.put_file(key, __file__),
        lambda: store.delete(key),
        lambda: store.create(key, b"1"),
        lambda: store.replace(key, b"1", b"2"),
        lambda: store.read_range(key, 0, 1),
        lambda: store.get_many([key, "a"]),
        lambda: store.put_many({key: b"1"}),
        lambda: store.delete_many([key]),
    ):
        with pytest.raises(ConfigError, match="not a key"):
            ask()
    assert list(store.keys()) == []


def test_without_obstore(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wellkept.stores.object_store._driver", None)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[s3\]'"):
        Objects("memory:///")


# -- elsewhere -------------------------------------------------------------------------------------


def test_importing_it_imports_no_driver() -> None:
    code = "import sys, wellkept.stores.object_store; assert 'obstore' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_memory_does_not_travel() -> None:
    with pytest.raises(StoreError, match="this process"):
        pickle.dumps(Objects("memory:///"))


def test_no_secret_is_shown(store: Objects) -> None:
    assert KEYS["secret_access_key"] not in repr(store)


def refused(store: Objects) -> bool:
    """Whether everything that a store does is refused with an error that says what to do."""
    for ask in (
        lambda: store.get("a"),
        lambda: store.put("a", b"2"),
        lambda: store.create("b", b"2"),
        lambda: store.delete("a"),
        lambda: list(store.keys()),
        lambda: store.get_many(["a", "b"]),
        lambda: store.put_many({"a": b"2", "b": b"2"}),
        lambda: store.delete_many(["a"]),
        lambda: Objects(store.url, **store.options).get("a"),
    ):
        try:
            ask()
        except StoreError as error:
            if "spawn" not in str(error) or "forkserver" not in str(error):
                return False
        else:
            return False
    return True


def test_a_forked_child_is_told_to_be_started_otherwise(store: Objects) -> None:
    """It has none of the driver's threads, nor has its child: it must not wait for them."""
    store.put("a", b"1")
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            store.get("a")

    def generation(n: int) -> int:
        pid = os.fork()
        if pid == 0:
            die_in_time()
            status = 1
            try:
                if refused(store) and (n == 0 or generation(n - 1) == 0):
                    status = 0
            finally:
                os._exit(status)
        return os.waitpid(pid, 0)[1]

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert generation(1) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert store.get("a") == b"1"


def test_a_call_in_a_forked_child_is_computed(store: Objects) -> None:
    with wellkept.Cache(values=store, calls=store, memory=0) as cache:
        f = wellkept.keep(cache=cache, version=1)(lambda n: [n])
        assert f(1) == [1]
        pid = os.fork()
        if pid == 0:
            die_in_time()
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                right = f(1) == [1] and f(2) == [2]
            os._exit(0 if right and any("spawn" in str(each.message) for each in told) else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert f.stats().hits == 0
        assert f(1) == [1]
        assert f.stats().hits == 1


def test_children_that_open_it_themselves_or_are_spawned_use_it(store: Objects) -> None:
    store.put("a", b"1")
    code = """
import multiprocessing, pickle, sys
def work(n):
    return pickle.loads(bytes.fromhex(sys.argv[1])).get("a")
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, range(10)) == [b"1"] * 10
        pool.close()
        pool.join()
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(pickle.loads(bytes.fromhex(sys.argv[1])).get, ["a"]) == [b"1"]
        pool.close()
        pool.join()
"""
    script = Path(tempfile.mkdtemp()) / "script.py"
    script.write_text(code)
    subprocess.run(
        [sys.executable, str(script), pickle.dumps(store).hex()], check=True, timeout=100
    )


def test_after_close_it_opens_again(store: Objects) -> None:
    store.put("a", b"1")
    store.close()
    assert store.get("a") == b"1"
