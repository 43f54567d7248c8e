"""What a configuration can say of stores, stacks, pools, limits and secrets; and back."""

import pickle
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import ConfigError, Pool, Stack
from wellkept.caches import named, settings
from wellkept.caches.active import reset
from wellkept.caches.config import Settings, Spec, find, read
from wellkept.stores import Files, Hdf5, Memory, Sql, Sqlite


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")


def write(text: str, path: str = "wellkept.toml") -> Path:
    made = Path(path)
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(text)
    return made.absolute()


ALL = """
cache = "team"

[caches]
scratch = "memory:"

[caches.local]
url = "data/local"
memory = "1 MB"

[caches.shared]
url = "sqlite:///data/shared.db"
durability = "power"

[caches.team]
stack = ["local", "shared"]
write = "first"
memory = "2 MB"

[caches.both]
pool = ["shared", "local", "files:data/old"]

[caches.small]
url = "files:data/small"
limit = { bytes = "10 MB", calls = 500, policy = "lru" }

[caches.mixed]
values = { url = "files:data/values", durability = "power" }
calls = "sqlite:///data/calls.db"

[caches.look]
of = "shared"
write = "none"

[caches.look-small]
of = "look"
limit = { bytes = 5000 }
"""


def use(cache: wellkept.Cache, x: int = 1) -> Any:
    f = wellkept.keep(cache=cache, name="f", version=1)(lambda x: [x])
    f(x)
    return f


def test_all_kinds_of_caches_are_configured(home: Path) -> None:
    write(ALL, "a/wellkept.toml")
    Path("a/b").mkdir()
    import os

    os.chdir("a/b")
    found = settings()
    assert (found.name, found.url) == ("team", "stack of local, shared, write = first")
    team = wellkept.keep(len).cache
    assert isinstance(team, Stack)
    assert (team.write, team.tier.limit) == ("first", 2_000_000)
    assert team.caches == (named("local"), named("shared"))
    assert named("local").url == str(home / "a/data/local")
    assert named("shared").url == f"sqlite:///{home}/a/data/shared.db"
    assert named("shared").options["durability"] == "power"
    f = use(team)
    assert f.contains(1)
    assert use(named("shared"), 2).contains(2)
    assert f.contains(2)
    both = named("both")
    assert isinstance(both, Pool)
    assert both.caches[2].url == f"files:{home}/a/data/old"
    small = named("small")
    assert "limited" in repr(small)
    use(small)
    mixed = named("mixed")
    assert (type(mixed.backend.values.items), type(mixed.backend.calls.items)) == (Files, Sqlite)
    assert mixed.backend.values.items.durable
    use(mixed)
    look = use(named("look"), 5)
    assert look.contains(2)
    assert not look.contains(5)
    assert "readonly" in repr(named("look-small"))
    assert named("team") is team or isinstance(named("team"), Stack)
    for name in ("look", "small", "mixed", "both", "team"):
        assert repr(pickle.loads(pickle.dumps(named(name)))) == repr(named(name))
    assert not (home / "a/b/data").exists()


def test_settings_are_written_and_read_again(home: Path) -> None:
    found = read(write(ALL, "a/wellkept.toml"))
    assert found is not None
    again = read(write(found.to_toml(), "elsewhere/wellkept.toml"))
    assert again is not None
    assert again._replace(source=found.source) == found
    assert again.to_toml() == found.to_toml()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "memory = 0\n",
        'cache = "./x"\nmemory = "1 MB"\ntrust = true\n',
        'cache = "x"\nmemory = 5\n[caches.x]\nurl = "./x"\n[caches.y]\nurl = "memory:"\n',
        'cache = "é w"\n[caches."é w"]\nurl = "./a \\" \\\\ \\u007f"\n',
        'cache = "s3://bucket/${NAME}?x=1"\n',
    ],
)
def test_any_settings_come_back(text: str) -> None:
    found = read(write(text, "a/wellkept.toml"))
    assert found is not None
    again = read(write(found.to_toml(), "b/wellkept.toml"))
    assert again is not None
    assert again.active == found.active
    assert {**found.caches, "": ""}.items() <= {**again.caches, "": ""}.items()


def test_caches_that_there_are_become_a_configuration() -> None:
    local, far = wellkept.open("local", memory="1 MB"), wellkept.open("files:far")
    caches = {
        "main": Stack(local, far, write="first").limited(bytes="1 GB", policy="lfu"),
        "far": far,
        "look": Pool(local, far.readonly()),
    }
    made = Settings.of(caches, "main")
    read_again = read(write(made.to_toml()))
    assert read_again is not None
    assert (read_again.active, dict(read_again.caches)) == (made.active, dict(made.caches))
    for cache in (local, far):
        cache.close()
    for name, cache in caches.items():
        assert repr(named(name)) == repr(cache)
    for cache, says in [
        (far.filtered(lambda call: True), "can't be written into a configuration, which holds no"),
    ]:
        with pytest.raises(ConfigError, match=says):
            Settings.of({"x": cache}, "x")
    with pytest.raises(ConfigError, match="no cache is named 'y'"):
        Settings.of({"x": far}, "y")
    with pytest.raises(ConfigError, match="not a name"):
        Settings.of({"a b": far}, "a b")


WRONG = [
    ('[caches.a]\nurl = "./x"\nstack = ["b"]\n', 3, "caches.a.stack: goes not with url"),
    ('[caches.a]\nvalues = "./x"\n', 2, "needs both values and calls"),
    ('[caches.a]\ncalls = "./x"\n', 2, "needs both values and calls"),
    ("[caches.a]\nvalues = 3\ncalls = 'x'\n", 2, "caches.a.values: is missing, or not text"),
    ("[caches.a]\nstack = []\n", 2, "must be a list"),
    ('[caches.a]\nstack = "b"\n', 2, "must be a list"),
    ("[caches.a]\npool = [3]\n", 2, "not 3"),
    ('[caches.a]\nstack = ["b"]\n', 1, "no cache is named 'b'"),
    ('[caches.a]\nstack = ["b"]\n[caches.b]\nof = "a"\n', 1, "made of itself: a of b of a"),
    ('[caches.a]\nof = "a"\n', 1, "made of itself"),
    ('[caches.a]\nurl = "./x"\nwrite = "first"\n', 3, "is one of all, none here"),
    ('[caches.a]\nstack = ["./x"]\nwrite = "some"\n', 3, "is one of all, first, behind, none"),
    ('[caches.a]\nurl = "./x"\nlimit = []\n', 3, "or a table of bytes"),
    ('[caches.a]\nurl = "./x"\nlimit = {}\n', 3, "nothing is limited"),
    ('[caches.a]\nurl = "./x"\nlimit = {bytes = "x"}\n', 3, "not a size"),
    ('[caches.a]\nurl = "./x"\nlimit = {byte = 1}\n', 3, "byte is not known"),
    ('[caches.a]\nurl = "./x"\nlimit = {calls = 1, policy = "mru"}\n', 3, "policy= is one of"),
    ('[caches.a]\nstack = ["redsi://x"]\n', 2, "no such scheme"),
    ('[caches.a]\nurl = "files://host/x"\n', 2, "write files:PATH"),
    ('[caches.a]\nurl = "redis://h"\ncolour = []\n', 3, "caches.a.colour: is not known"),
]


@pytest.mark.parametrize(("text", "line", "says"), WRONG)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str) -> None:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        find()
    assert str(caught.value).startswith(f"{path}:{line}: "), caught.value
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[caches.a]\nurl = "files:x"\ncolour = 1\n', "no such option 'colour'; there are dura"),
        ('[caches.a]\nurl = "memory:"\ntrust = true\n', "memory: no such option 'trust'"),
        ('[caches.a]\npool = ["./x"]\nmemory = 5\n', "memory: say that of the cache"),
        ('[caches.a]\nstack = ["./x"]\ntrust = true\n', "trust: say that of the cache"),
        ('[caches.a]\nvalues = "./x"\ncalls = "./y"\ntrust = true\n', "of which of the two"),
    ],
)
def test_what_does_not_go_with_a_place_is_told_when_it_is_opened(text: str, says: str) -> None:
    path = write(text)
    reset()
    with pytest.raises(ConfigError) as caught:
        named("a")
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


# -- opening --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    ["files:x", "files:./x", "files:/{home}/x", "files:///{home}/x", "sqlite:///x", "sqlite:x"],
)
def test_media_are_opened_by_url(home: Path, url: str) -> None:
    url = url.replace("/{home}", str(home))
    with wellkept.open(url) as cache:
        assert use(cache).contains(1)
    assert (home / "x").exists()
    with wellkept.open(url, durability="power") as cache:
        assert use(cache).contains(1)
        copy = pickle.loads(pickle.dumps(cache))
        assert use(copy).call(1)
        copy.close()
    with wellkept.open("files:~/y"):
        assert (home / "y").exists()


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("nosuch://x", {}, "no such scheme as 'nosuch'; there are paths, memory:"),
        ("files:", {}, "names no path"),
        (
            ":memory:",
            {},
            "names no directory and no file; a cache in this process's memory is memory:",
        ),
        ("sqlite:///x/:memory:", {}, "names no directory and no file"),
        ("files::memory:", {}, "names no directory and no file"),
        ("sqlite+pysqlite:///x.db", {}, "sqlite: takes no driver; write sqlite:"),
        ("files://host/x", {}, "takes no host, and got 'host'; write files:PATH"),
        ("files:x", {"colour": 1}, "files: no such option 'colour'; there are durability, trust"),
        ("files:x", {"durability": "much"}, "durability is 'process' or 'power'"),
        ("sqlite:///x", {"colour": 1}, "no such option 'colour'; there are memory, durability"),
        ("hdf5:x", {"readonly": True}, "hdf5: no such option 'readonly'; there are"),
        ("void:x", {}, "takes no path"),
        ("void:", {"trust": True}, "it takes none"),
        ("redis://h:x/", {}, "not a Redis URL"),
    ],
)
def test_wrong_urls(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        wellkept.open(url, **options)
    assert list(Path().iterdir()) == []


def test_sqlite_in_memory(home: Path) -> None:
    write(
        '[caches.a]\nurl = "sqlite:///:memory:"\n[caches.b]\nvalues = "sqlite:///:memory:"\ncalls = "./c"\n'
    )
    for cache in (
        wellkept.open("sqlite:///:memory:"),
        wellkept.open("sqlite::memory:", memory=0),
        wellkept.Cache("sqlite:///:memory:", "memory:"),
        wellkept.Cache(Sql(), Sql("sqlite:///:memory:")),
        named("a"),
        named("b"),
    ):
        f = use(cache, 3)
        cache.close()
        assert f.contains(3)
        assert cache.query(f, arguments={"x": 3}).count() == 1
    for wrong in (
        lambda: named(":memory:"),
        lambda: wellkept.set_cache(Path(":memory:")),
        lambda: use(":memory:"),  # type: ignore[arg-type]  # a name
        lambda: wellkept.Cache(":memory:", "memory:"),
        lambda: Files(":memory:"),
        lambda: Sqlite(":memory:"),
        lambda: Hdf5(":memory:"),
        lambda: Sql("sqlite:///x/:memory:"),
    ):
        with pytest.raises(ConfigError, match=":memory:"):
            wrong()
    write('[caches.a]\nurl = ":memory:"\n')
    with pytest.raises(ConfigError, match=r"toml:2: caches.a.url: .*names no directory"):
        find()
    assert not [*home.rglob("*memory*")]


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ConfigError, match=r"pip install 'wellkept\[redis\]'"):
        wellkept.open("redis://localhost")


@pytest.mark.parametrize("scheme", ["", "files:", "sqlite:"])
@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({}, {"durability": "power"}, "open in this process with durability='process'"),
        ({"durability": "power"}, {}, "can't be opened with durability='process' too"),
        ({"trust": True}, {"trust": False}, "trust=True.*trust=False"),
    ],
)
def test_two_caches_on_one_path_agree(
    scheme: str, first: dict[str, Any], second: dict[str, Any], says: str
) -> None:
    one = wellkept.open(f"{scheme}x", **first)
    Path("link").symlink_to("x")
    for url in ("x", "./x", "link"):
        with pytest.raises(ConfigError, match=says):
            wellkept.open(f"{scheme}{url}", **second)
    same = wellkept.open(f"{scheme}link", memory=0, **first)
    assert use(one).contains(1)
    assert use(same).contains(1)
    one.close()
    same.close()
    with wellkept.open(f"{scheme}x", **second) as other:
        assert use(other).contains(1)


def test_two_caches_on_one_server_may_differ() -> None:
    for prefix in ("a:", "b:"):
        assert wellkept.open("redis://localhost:1", prefix=prefix).options["prefix"] == prefix


def test_a_cache_of_any_two_stores(home: Path) -> None:
    for values, calls in [
        (Files("v"), Sqlite("c.db")),
        ("v", "sqlite:///c.db"),
        (home / "v", Sqlite("c.db")),
    ]:
        with wellkept.Cache(values=values, calls=calls) as cache:
            f = wellkept.keep(cache=cache, name="f", version=1)(lambda x: bytes(x))
            assert [len(f(5)), len(f(100_000))] == [5, 100_000]
            assert cache.verify().ok
            copy = pickle.loads(pickle.dumps(cache))
            assert copy.calls.get(f.key(5)) is not None
    kinds = {key.partition("/")[0] for key in Files("v").keys()}  # noqa: SIM118  a store is no dict
    assert kinds == {"values", "blobs"}
    assert "Files" in repr(cache)
    for wrong, says in [
        (3, "not a store: 3"),
        (wellkept.open("here").values, "is a store of Values; a cache holds stores of bytes"),
        (wellkept.open("memory:").calls, "is a store of Calls"),
        ("nosuch:x", "no such scheme"),
    ]:
        with pytest.raises(ConfigError, match=says):
            wellkept.Cache(values=wrong, calls=Memory())  # type: ignore[arg-type]  # wrong on purpose


def test_importing_the_stores_imports_no_driver() -> None:
    import subprocess
    import sys

    code = (
        "import sys, wellkept.stores; from wellkept.stores import Files, Sqlite\n"
        "print(sorted({'sqlalchemy', 'redis', 'obstore', 'h5py', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        wellkept.stores.Nothing
    assert Spec("x").shown == "x"
