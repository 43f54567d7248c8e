"""Opening a cache by a path or a URL, and with which options."""

import os
import pickle
import stat
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.caches.option_text import parse_duration, parse_size
from wellkept.stores.memory import Memory


def use_it(cache: wellkept.Cache) -> None:
    @wellkept.keep(cache=cache)
    def f(x: int) -> int:
        return x

    assert [f(1), f(1)] == [1, 1]
    assert f.stats().hits >= 1
    assert f.contains(1)


@pytest.mark.parametrize("place", ["a", "./a/b", "~/c", "é ü", "with:colon"])
def test_paths(home: Path, place: str) -> None:
    for made in (place, Path(place)) if ":" not in place else (f"./{place}",):
        with wellkept.open(made) as cache:
            use_it(cache)
            root = home / place.replace("~/", "")
            assert (root / "index.sqlite").exists()
            assert str(root) in repr(cache)


def test_what_a_new_directory_is_like() -> None:
    wellkept.open("a/b").close()
    root = Path("a/b")
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert (
        (root / "CACHEDIR.TAG")
        .read_text()
        .startswith("Signature: 8a477f597d28d172789f06886806bc55")
    )


def test_memory_and_void() -> None:
    with wellkept.open("memory:") as cache:
        use_it(cache)
    with wellkept.open("void:") as cache:
        f = wellkept.keep(cache=cache)(lambda x: x)
        assert [f(1), f(1)] == [1, 1]
        assert f.stats().hits == 0
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("", {}, "empty"),
        ("redsi://x", {}, r"redsi.*there are paths, memory:, void:"),
        ("memory:x", {}, "takes no path"),
        ("memory:", {"trust": True}, "trust"),
        ("a", {"memroy": 1}, r"memroy.*memory, durability, trust, readonly"),
        ("a", {"memory": "lots"}, r"not a size: 'lots'"),
        ("a", {"memory": -1}, "not a size"),
        ("a", {"memory": True}, "not a size"),
        ("a", {"memory": None}, "not a size"),
        ("a", {"memory": 1.5}, "not a size"),
        ("a", {"durability": "much"}, "durability is 'process' or 'power'"),
    ],
)
def test_wrong_urls_and_options(url: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(wellkept.ConfigError, match=says):
        wellkept.open(url, **options)
    assert list(Path().iterdir()) == []


def test_places_that_cannot_be_used() -> None:
    Path("file").write_text("x")
    for place in ("file", "file/below"):
        with pytest.raises(wellkept.StoreError, match="file"):
            wellkept.open(place)


@pytest.mark.parametrize(
    "options", [{"durability": "power"}, {"readonly": True}, {"network": True}, {"memory": 0}]
)
def test_options_that_work(options: dict[str, Any]) -> None:
    for _ in range(2):
        with wellkept.open("a", **options) as cache:
            f = wellkept.keep(cache=cache, name="f")(lambda x: x)
            assert f(1) == f(1) == 1
            assert f.contains(1)


def test_a_cache_opens_again_after_it_was_closed() -> None:
    cache = wellkept.open("a")
    use_it(cache)
    cache.close()
    cache.close()
    use_it(cache)
    cache.close()


def test_a_cache_pickles_as_how_to_open_it() -> None:
    with wellkept.open("a", memory="1 MB") as cache:
        copy = pickle.loads(pickle.dumps(cache))
        assert copy.url == cache.url
        assert copy.tier.limit == 1_000_000
        assert pickle.loads(pickle.dumps(cache)) is copy  # one a process
        use_it(copy)
        copy.close()


def test_a_cache_needs_both_stores() -> None:
    with pytest.raises(wellkept.ConfigError, match="values=…, calls=…"):
        wellkept.Cache(values=Memory())


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, 0), (1000, 1000), ("0", 0), ("123", 123), ("10 B", 10), ("256 MB", 256_000_000),
        ("256mb", 256_000_000), ("1.5 GB", 1_500_000_000), ("1 GiB", 2**30), ("2k", 2000),
        ("4 KiB", 4096), (" 1  TB ", 10**12),
    ],
)  # fmt: skip
def test_sizes(size: Any, expected: int) -> None:
    assert parse_size(size) == expected


@pytest.mark.parametrize(
    "size", ["", "MB", "-1 MB", "1 XB", "1 MB 2", "1e3", "½ MB", "\u0661 MB", None, 1.0, True, -5]
)
def test_no_sizes(size: Any) -> None:
    with pytest.raises(wellkept.ConfigError, match=r"not a size.*256 MB"):
        parse_size(size)


@pytest.mark.parametrize(
    ("span", "expected"),
    [(5, 5.0), (0, 0.0), (1.5, 1.5), ("30 s", 30.0), ("12h", 43200.0), ("7 d", 604800.0),
     ("2w", 1209600.0), ("5 min", 300.0), ("5m", 300.0), ("10", 10.0), ("1 week", 604800.0),
     ("12 hours", 43200.0), ("1d12h", 129600.0), ("1 day, 2 hours", 93600.0), ("500 ms", 0.5)],
)  # fmt: skip
def test_durations(span: Any, expected: float) -> None:
    assert parse_duration(span) == expected


@pytest.mark.parametrize(
    "span", ["", "soon", "-5 s", "1 y", "1d12", "1.2.3d", "d", None, True, -1, float("nan"), [1]]
)
def test_no_durations(span: Any) -> None:
    with pytest.raises(wellkept.ConfigError, match=r"not a duration.*ms, s, min, h, d and w"):
        parse_duration(span)


def test_a_duration_that_needs_its_unit() -> None:
    assert parse_duration("0", unit=True) == 0
    assert parse_duration("2 d", unit=True) == 172800
    with pytest.raises(wellkept.ConfigError, match=r"30 of what.*30s, 30min"):
        parse_duration("30", unit=True)


def test_a_ttl_of_nothing_is_refused() -> None:
    for nothing in (0, "0 s", 0.0):
        with pytest.raises(wellkept.ConfigError, match=r"ttl=.* keeps nothing.*ms, s, min"):
            wellkept.keep(ttl=nothing)(len)
    wellkept.keep(ttl=0, stale="1 h")(len)
    with pytest.raises(wellkept.ConfigError, match="ttl=: not a duration: 'soon'"):
        wellkept.keep(ttl="soon")(len)


def test_a_duration_is_refused_by_the_name_of_its_option() -> None:
    cache, store = wellkept.open("memory:"), wellkept.store("s", cache=wellkept.open("memory:"))
    for option, refused in {
        "older": lambda: cache.evict(older="soon"),
        "grace": lambda: cache.gc(grace="soon"),
        "ttl": lambda: store.set("k", 1, ttl="soon"),
    }.items():
        with pytest.raises(wellkept.ConfigError, match=f"^{option}=: not a duration: 'soon'"):
            refused()


def test_the_options_that_there_are_have_the_limit() -> None:
    with pytest.raises(wellkept.ConfigError, match=r"no such option 'limt'.* limit.*'limit'\?"):
        wellkept.open("./x", limt="1 MB")


def test_a_directory_of_somebody_else() -> None:
    if os.getuid() != 0:
        pytest.skip("giving a directory away needs root")
    Path("a").mkdir()
    os.chown("a", 12345, 12345)
    with pytest.raises(wellkept.UntrustedSource, match="owner 12345"):
        wellkept.open("a")
    wellkept.open("a", trust=True).close()
