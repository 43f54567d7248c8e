"""Caches as tables of a configuration, and back: every kind of cache and store, and never a secret."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import Cache, ConfigError, Pool, Stack
from wellkept.caches import named
from wellkept.caches.config import Settings
from wellkept.stores import (
    Compressed,
    Files,
    Hdf5,
    Locked,
    Logged,
    Memory,
    Prefix,
    ReadOnly,
    Redis,
    Retry,
    Sql,
    Sqlite,
    Void,
)


def oldest(call: wellkept.Call) -> float:
    return call.created


def of_f(call: wellkept.Call) -> bool:
    return call.function == "f"


def kept(cache: Cache, x: int = 1) -> Any:
    f = wellkept.keep(cache=cache, name="f", version=1)(lambda x: [x])
    f(x)
    return f


def shown(cache: Any) -> Any:
    """What a cache is, all the way down."""
    parts = getattr(cache, "caches", None) or [getattr(cache, "source", None)]
    if parts != [None]:
        how = getattr(cache, "made_by", None) or (cache.write if isinstance(cache, Stack) else "")
        return type(cache).__name__, how, [shown(part) for part in parts]
    if cache.stores is not None:
        return [store(one) for one in cache.stores]
    return cache.url, cache.options


def store(one: Any) -> Any:
    held = getattr(one, "store", None)
    if held is not None:
        return type(one).__name__, one._options, store(held)
    if type(one) in (Memory, Void) or "memory" in repr(one):
        return type(one).__name__
    return type(one).__name__, one.__reduce__()[1]


def far() -> Cache:
    return wellkept.open("files:far", durability="power", memory="1 MB")


def database() -> str:
    return f"sqlite:///{Path.cwd()}/v.db"


CACHES: dict[str, Any] = {
    "directory": lambda: wellkept.open("d", memory=0, durability="power"),
    "memory": lambda: wellkept.open("memory:"),
    "compressed": lambda: wellkept.open("files:c", compression="gzip:3"),
    "sqlite": lambda: wellkept.open("sqlite:///s.db"),
    "void": lambda: wellkept.open("void:"),
    "redis": lambda: wellkept.open("redis://h:1/2", prefix="mine:"),
    "stack": lambda: Stack(wellkept.open("near"), far(), write="first", memory="2 MB"),
    "behind": lambda: Stack(
        wellkept.open("near"), Stack(far(), wellkept.open("x")), write="behind"
    ),
    "pool": lambda: Pool(wellkept.open("near"), far().readonly()),
    "readonly": lambda: far().readonly(),
    "limited": lambda: far().limited(bytes="5 MB", calls=7, policy="lru").limited(calls=5),
    "own policy": lambda: far().limited(calls=7, policy=oldest),
    "filtered": lambda: far().filtered(of_f).readonly(),
    "files": lambda: Cache(Files("v", durable=True), Files("c"), memory="3 MB"),
    "hdf5": lambda: Cache(Hdf5("v"), Sqlite("c.db", durable=True)),
    "sql": lambda: Cache(Sql(database(), "items"), Sql(database(), "calls", timeout=5)),
    "in memory": lambda: Cache(Sql(), Memory()),
    "nothing": lambda: Cache(Void(), Void()),
    "wrapped": lambda: Cache(
        Compressed(Retry(Prefix(Files("v"), "a/"), times=5, wait=0.5), "gzip", 9),
        Locked(Logged(ReadOnly(Files("v")), level=logging.INFO), per_key=True),
    ),
}


@pytest.mark.parametrize("kind", CACHES)
def test_every_cache_comes_back(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = CACHES[kind]()
    config = cache.to_config()
    assert json.loads(json.dumps(config)) == config
    cache.close()
    again = Cache.from_config(config)
    assert shown(again) == shown(cache)
    assert again.to_config() == config
    # In a file too, wherever that is.
    path = Path("elsewhere/wellkept.toml").absolute()
    path.parent.mkdir()
    path.write_text(Settings.of({"main": cache}, "main").to_toml())
    monkeypatch.chdir(path.parent)
    monkeypatch.delenv("WELLKEPT_CACHE")
    wellkept.caches.active.__globals__["reset"]()
    assert shown(named("main")) == shown(cache)


@pytest.mark.parametrize(
    "kind", ["directory", "stack", "files", "hdf5", "sql", "filtered", "limited"]
)
def test_what_was_kept_is_found_by_the_cache_that_comes_back(kind: str) -> None:
    cache = CACHES[kind]()
    (far() if kind == "filtered" else cache).flush()
    f = kept(far() if kind == "filtered" else cache)
    again = Cache.from_config(cache.to_config())
    assert wellkept.keep(cache=again, name="f", version=1)(f.__wrapped__).contains(1)


def test_a_table_of_names_and_tables() -> None:
    Path("wellkept.toml").write_text('[caches]\nteam = "./team"\n')
    made: Any = Cache.from_config(
        {"stack": [{"url": "./near", "memory": 0}, "team", "files:./old"], "write": "first"}
    )
    assert made.caches[1] is named("team")
    assert [Path(cache.url.partition(":")[2] or cache.url).name for cache in made.caches] == [
        "near",
        "team",
        "old",
    ]
    assert Cache.from_config("team") is named("team")
    assert shown(Cache.from_config(["./near", "team"])) == shown(
        Cache.from_config({"stack": ["./near", "team"]})
    )
    assert Cache.from_config({"values": {"kind": "Sql"}, "calls": "memory:"}).stores is not None


SECRET = "hush"


@pytest.mark.parametrize(
    ("make", "variables"),
    [
        (lambda: wellkept.open(f"redis://me:{SECRET}@h:1"), {"WELLKEPT_PASSWORD"}),
        (lambda: wellkept.open(f"redis://:{SECRET}@h:1"), {"WELLKEPT_PASSWORD"}),
        (lambda: wellkept.open("http://localhost:1/ns", token=SECRET), {"WELLKEPT_TOKEN"}),
        (lambda: wellkept.open(f"http://{SECRET}@localhost:1/ns"), {"WELLKEPT_TOKEN"}),
        (lambda: Cache(Redis(f"redis://me:{SECRET}@h:1"), Memory()), {"WELLKEPT_PASSWORD"}),
        (lambda: Cache(f"redis://me:{SECRET}@h:1", "memory:"), {"WELLKEPT_PASSWORD"}),
        (lambda: Cache.from_config({"url": "redis://me:${MINE}@h:1"}), {"MINE"}),
        (lambda: named("redis://me:${MINE}@h:1").readonly(), {"MINE"}),
        (
            lambda: Cache.from_config({"values": "redis://me:${MINE}@h:1", "calls": "memory:"}),
            {"MINE"},
        ),
    ],
)
def test_no_secret_is_written(
    make: Any, variables: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINE", SECRET)
    cache = make()
    config = cache.to_config()
    texts = [json.dumps(config), Settings.of({"x": cache}, "x").to_toml()]
    for text in texts:
        assert SECRET not in text
        assert all(f"${{{name}}}" in text for name in variables)
    for name in variables:
        monkeypatch.delenv(name, raising=False)
        with pytest.raises(ConfigError, match=f"variable {name} is not set"):
            Cache.from_config(config)
    for name in variables:
        monkeypatch.setenv(name, SECRET)
    again: Any = Cache.from_config(config)
    assert shown(again) == shown(cache)
    assert again.to_config() == config


class Items(dict[str, bytes]):
    def put(self, key: str, item: bytes) -> None: ...
    def delete(self, key: str) -> None: ...


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: far().filtered(lambda call: True), "can't be written into a configuration"),
        (lambda: far().limited(calls=1, policy=lambda call: 1), "holds no function but one"),
        (lambda: far().filtered(far().query(state="done")), "holds no function but one"),
        (lambda: Cache(Items(), Items()), "can't be written into a configuration"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: Cache(Retry(Memory(), wait=lambda n: 1.0), Memory()), "wait= of a Retry"),
        (lambda: Cache(Logged(Memory(), logging.getLogger("x")), Memory()), "logger= of a Logged"),
    ],
)
def test_what_no_configuration_says(make: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make().to_config()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({}, "url: is missing, or not text"),
        (None, "takes a table, a list of parts or a name, not None"),
        ([], "stack: must be a list of names"),
        ({"url": 3}, "url: is missing, or not text"),
        ({"url": {"kind": "Sql"}}, "url: is missing, or not text"),
        ({"url": "./x", "colour": 1}, "colour: is not known"),
        ({"values": {"kind": "Sqlit", "url": "x"}, "calls": "memory:"}, "no kind of store 'Sqlit'"),
        ({"values": {"kind": "Prefix"}, "calls": "memory:"}, "values: is missing, or not text"),
        ({"stack": [{"url": "nosuch://x"}]}, "no such scheme"),
        ({"stack": ["nosuch"]}, "no cache is named 'nosuch'"),
        ({"of": "./x", "where": 3}, "where: is 'package.module:function'"),
        ({"url": "./x", "where": "a:b"}, "where: is 'package.module:function'"),
        ({"of": "./x", "where": "nosuch.module:f"}, "no function is 'nosuch.module:f'"),
        ({"of": "./x", "limit": {"calls": 3, "policy": "os:sep"}}, "'os:sep' is no function"),
    ],
)
def test_a_table_that_says_no_cache(config: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Cache.from_config(config)


def test_the_user_s_own_configuration_holds_where_no_file_is_nearer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wellkept.caches.config import find

    monkeypatch.delenv("WELLKEPT_CACHE")
    own = home / ".config/wellkept/wellkept.toml"
    own.parent.mkdir(parents=True)
    own.write_text('cache = "mine"\n[caches]\nmine = "~/kept"\nteam = "data"\n')
    found = find()
    assert (found.source, found.url) == (str(own), str(home / "kept"))
    assert found.named("team").url == str(own.parent / "data")
    assert named("mine").url == str(home / "kept")
    monkeypatch.setenv("WELLKEPT_CACHE", "team")
    assert find().url == str(own.parent / "data")
    monkeypatch.delenv("WELLKEPT_CACHE")
    Path("pyproject.toml").write_text("[tool.other]\n")
    assert find().source == str(own)
    Path("wellkept.toml").write_text('cache = "./project"\n')
    assert find().source == str(Path("wellkept.toml").absolute())
    assert find().caches == {}
    Path("wellkept.toml").unlink()
    own.write_text("cache = 3\n")
    with pytest.raises(ConfigError, match=f"{own}:1: cache"):
        find()
