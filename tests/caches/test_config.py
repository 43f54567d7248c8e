"""Where the configuration comes from, what it may say, and what is told of a wrong one."""

from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.caches.config import Spec, find, read


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")


def write(path: str, text: str) -> Path:
    made = Path(path)
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(text)
    return made.absolute()


def test_the_default(home: Path) -> None:
    found = find()
    assert (found.url, found.source, dict(found.options)) == (
        str(home / ".cache/wellkept"),
        "default",
        {},
    )


def test_the_nearest_file_wins(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outer = write("wellkept.toml", 'cache = "./outer"')
    inner = write("a/wellkept.toml", 'cache = "./inner"')
    Path("a/b/c").mkdir(parents=True)
    assert (find().url, find().source) == (str(home / "outer"), str(outer))
    monkeypatch.chdir("a/b/c")
    assert (find().url, find().source) == (str(home / "a/inner"), str(inner))


def test_pyproject_counts_if_it_has_the_table(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("pyproject.toml", '[tool.wellkept]\ncache = "./outer"\n')
    write("a/pyproject.toml", '[project]\nname = "x"\n')
    monkeypatch.chdir("a")
    assert find().url == str(home / "outer")
    write(
        "pyproject.toml",
        '[project]\nname = "x"\n[tool.wellkept]\ncache = "./here"\nmemory = "1 MB"\n',
    )
    assert (find().url, find().options) == (str(home / "a/here"), {"memory": "1 MB"})


def test_kept_toml_goes_before_pyproject(home: Path) -> None:
    write("pyproject.toml", '[tool.wellkept]\ncache = "./p"\n')
    write("wellkept.toml", 'cache = "./k"\n')
    assert find().url == str(home / "k")


def test_another_tools_broken_pyproject_is_not_ours(home: Path) -> None:
    write("pyproject.toml", "[tool.other\n")
    assert find().source == "default"


def test_an_empty_kept_toml_is_the_default_place(home: Path) -> None:
    path = write("wellkept.toml", "")
    assert (find().url, find().source) == (str(home / ".cache/wellkept"), str(path))


NAMED = """
cache = "fast"
memory = "1 MB"

[caches]
plain = "./plain"
gone = "void:"

[caches.fast]
url = "sub/fast"
memory = "2 MB"
durability = "power"

[caches."far away"]
url = "~/far"
"""


def test_named_caches(home: Path) -> None:
    write("a/wellkept.toml", NAMED)
    found = find(Path("a"))
    assert found.url == str(home / "a/sub/fast")
    assert found.options == {"memory": "2 MB", "durability": "power"}
    assert found.named("plain") == Spec(str(home / "a/plain"))
    assert found.named("gone") == Spec("void:")
    assert found.named("far away").url == str(home / "far")
    with pytest.raises(
        wellkept.ConfigError,
        match="no cache is named 'slow'; there are far away, fast, gone, plain",
    ):
        found.named("slow")


def test_a_named_cache_in_use(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("a/wellkept.toml", NAMED)
    monkeypatch.chdir("a")
    f = wellkept.keep(cache="plain")(lambda x: x)
    f(1)
    assert (home / "a/plain/index.sqlite").exists()
    with wellkept.use("fast") as cache:
        assert cache.tier.limit == 2_000_000
        assert cache is wellkept.keep(len).cache
    assert wellkept.keep(len).cache.url == str(home / "a/sub/fast")
    with (
        pytest.raises(wellkept.ConfigError, match=r"wellkept\.toml.*no cache is named 'slow'"),
        wellkept.use("slow"),
    ):
        pass


def test_kept_cache_goes_before_the_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("wellkept.toml", NAMED)
    for value, url in [
        ("~/x", home / "x"),
        ("./y", home / "y"),
        ("/z/z", "/z/z"),
        ("memory:", "memory:"),
    ]:
        monkeypatch.setenv("WELLKEPT_CACHE", value)
        assert (find().url, find().source) == (str(url), "WELLKEPT_CACHE")
        assert not find().options
    monkeypatch.setenv("WELLKEPT_CACHE", "fast")
    assert find().options == {"memory": "2 MB", "durability": "power"}
    monkeypatch.setenv("WELLKEPT_CACHE", "")
    assert find().source.endswith("wellkept.toml")


def test_an_unknown_name_in_kept_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    write("wellkept.toml", NAMED)
    monkeypatch.setenv("WELLKEPT_CACHE", "fats")
    with pytest.raises(
        wellkept.ConfigError, match=r"WELLKEPT_CACHE.*no cache is named 'fats'.*fast.*\./fats"
    ):
        find()


WRONG: list[tuple[str, int, str]] = [
    ('cache = "./a"\nmemory = "lots"\n', 2, "memory"),
    ('cache = "./a"\n\nmemory = true\n', 3, "memory"),
    ("memory = -1\n", 1, "memory"),
    ("memory = 1.5\n", 1, "memory"),
    ('# a comment\nmemroy = "1 MB"\n', 2, "memroy"),
    ("cache = 3\n", 1, "cache"),
    ('cache = ""\n', 1, "cache"),
    ('memory = 0\ncache = "nonesuch"\n', 2, "cache"),
    ('caches = "x"\n', 1, "caches"),
    ("caches = [1]\n", 1, "caches"),
    ("[caches]\nfast = 3\n", 2, "caches.fast"),
    ("[caches.fast]\nmemory = 5\n", 1, "caches.fast.url"),
    ("[caches.fast]\nurl = 3\n", 2, "caches.fast.url"),
    ('[caches.fast]\nurl = ""\n', 2, "caches.fast.url"),
    (
        '[caches.slow]\nurl = "./s"\n[caches.fast]\nurl = "./f"\nmemory = "x"\n',
        5,
        "caches.fast.memory",
    ),
    ('memory = 5\n[caches.fast]\nurl = "./f"\nmemory = "x"\n', 4, "caches.fast.memory"),
    ('[caches.fast]\nurl = "./f"\ncolour = 1\n', 3, "caches.fast.colour"),
    ('[caches]\nfast = {url = "./f", trust = "yes"}\n', 2, "caches.fast.trust"),
    ('durability = "much"\n', 1, "durability"),
    ("durability = 5\n", 1, "durability"),
    ("trust = 1\n", 1, "trust"),
    ('readonly = "no"\n', 1, "readonly"),
    ('network = "no"\n', 1, "network"),
    ('[stores]\na = "./x"\n', 1, "stores"),
    ('cache = "redsi://x"\n', 1, "cache"),
    ('[caches]\nfast = "redsi://x"\n', 2, "caches.fast.url"),
]


@pytest.mark.parametrize(("text", "line", "key"), WRONG)
@pytest.mark.parametrize("name", ["wellkept.toml", "pyproject.toml"])
def test_a_wrong_file_is_told_with_file_line_and_key(
    name: str, text: str, line: int, key: str
) -> None:
    if name == "pyproject.toml":
        text = "[project]\nmemory = 1\n[tool.wellkept]\n" + text.replace(
            "[caches", "[tool.wellkept.caches"
        ).replace("[stores]", "[tool.wellkept.stores]")
        line += 3
    path = write(name, text)
    with pytest.raises(wellkept.ConfigError) as caught:
        find()
    assert str(caught.value).startswith(f"{path}:{line}: "), caught.value
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("cache = \n", 1, "cache"),
        ('cache = "./a"\nmemory = = 3\n', 2, "memory"),
        ("[caches\n", 1, ""),
        ("a\n", 1, ""),
    ],
)
def test_what_is_no_toml(text: str, line: int, key: str) -> None:
    path = write("wellkept.toml", text)
    with pytest.raises(wellkept.ConfigError) as caught:
        find()
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert key in str(caught.value)


def test_a_file_that_cannot_be_read() -> None:
    Path("wellkept.toml").write_bytes(b"cache = '\xff'\n")
    with pytest.raises(wellkept.ConfigError, match=r"wellkept\.toml.*can't be read"):
        find()


def test_a_table_that_is_none() -> None:
    write("pyproject.toml", "tool.wellkept = 3\n[tool.wellkept_not]\n")
    with pytest.raises(wellkept.ConfigError, match=r"pyproject\.toml:1: tool\.wellkept"):
        find()


@pytest.mark.parametrize("strict", [False, True])
def test_a_wrong_configuration_is_never_a_silent_fallback(home: Path, strict: bool) -> None:
    write("wellkept.toml", 'memory = "lots"\n')
    ran = Path("ran")

    @wellkept.keep(strict=strict)
    def f(x: int) -> int:
        ran.touch()
        return x

    calls: list[Any] = [f, f.key, f.contains, f.load, f.rerun]
    for call in calls:
        with pytest.raises(wellkept.ConfigError, match=r"wellkept\.toml:1: memory"):
            call(1)
    assert not ran.exists()
    assert not (home / ".cache").exists()
    write("wellkept.toml", 'memory = "1 MB"\n')
    assert f(1) == 1  # read again once it is right


def test_options_that_do_not_go_with_the_place() -> None:
    write("wellkept.toml", 'cache = "memory:"\ndurability = "power"\n')
    with pytest.raises(wellkept.ConfigError, match=r"wellkept\.toml.*durability"):
        wellkept.keep(len).contains([])


def test_read_is_for_one_file() -> None:
    assert read(write("pyproject.toml", "[project]\n")) is None
    found = read(write("wellkept.toml", "memory = 0\n"))
    assert found is not None
    assert found.options == {"memory": 0}


def test_the_environment_switches_caching_off(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WELLKEPT_CACHE", "off")
    assert find(home).active.url == "void:"
    ran: list[int] = []
    square = wellkept.keep(name="square", version=1)(lambda n: ran.append(n) or n * n)
    assert [square(3), square(3)] == [9, 9]
    assert ran == [3, 3]
    (home / "wellkept.toml").write_text('[caches.off]\nurl = "./off"\n')
    assert find(home).active.url == str(home / "off"), "a cache of that name comes first"
