"""Each option, and each wrong one."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import pytest

import wellkept
from wellkept import Ignored, Ordered, Required, keep
from wellkept.memo.kept import Kept

RAN: list[Any] = []


def wait_until(true: Any) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_version_replaces_the_code() -> None:
    def first(x: int) -> str:
        return "first"

    def second(x: int) -> str:
        return "second"

    assert keep(version=1, name="f")(first)(1) == "first"
    assert keep(version=1, name="f")(second)(1) == "first"
    assert keep(version=2, name="f")(second)(1) == "second"
    assert keep(version="2", name="f")(second)(1) == "second"
    assert keep(name="f")(first)(1) == "first"
    keys = [keep(version=v, name="f")(first).key(1) for v in (1, "1", 1.0, True, (1,), None)]
    assert len(set(keys)) == len(keys)
    assert keep(version=(1, {"data": 2}))(first).key(1) == keep(version=(1, {"data": 2}))(
        first
    ).key(1)


def test_a_name_survives_renaming() -> None:
    def f(x: int) -> int:
        RAN.append(x)
        return x

    def make() -> Any:
        def f(x: int) -> int:
            RAN.append(x)
            return x

        return f

    assert keep(f).key(1) != keep(make()).key(1)
    assert keep(name="a")(f).key(1) == keep(name="a")(make()).key(1) != keep(name="b")(f).key(1)
    assert keep(name="a")(f).function_name == "a"
    keep(name="a")(f)(1)
    assert keep(name="a")(make())(1) == 1
    assert RAN == [1]


def test_code_off() -> None:
    def one() -> Any:
        def f() -> int:
            return 1

        return f

    def two() -> Any:
        def f() -> int:
            return 2

        return f

    a, b = (keep(code="off", name="f")(made()) for made in (one, two))
    assert (a(), b()) == (1, 1)
    a, b = (keep(name="f")(made()) for made in (one, two))
    assert (a(), b()) == (1, 2)


@pytest.mark.parametrize("ignore", ["verbose", ["verbose"], ("verbose",), iter(["verbose"])])
def test_ignored_arguments_do_not_count(ignore: Any) -> None:
    @keep(ignore=ignore)
    def f(x: int, verbose: bool = False) -> int:
        RAN.append((x, verbose))
        return x

    assert [f(1), f(1, True), f(1, verbose=1), f(2)] == [1, 1, 1, 2]
    assert RAN == [(1, False), (2, False)]
    assert f.key(1, True) == f.key(1)
    assert set(f.call(1).arguments) == {"x"}


def test_ignoring_stars() -> None:
    @keep(ignore=["rest", "log"])
    def f(x: int, *rest: int, **options: int) -> int:
        return x

    assert f.key(1) == f.key(1, 2, 3) == f.key(1, log=4) != f.key(1, other=4)

    @keep(ignore="options")
    def g(x: int, **options: int) -> int:
        return x

    assert g.key(1) == g.key(1, a=2) != g.key(2)


def test_an_ignored_argument_may_be_undigestible() -> None:
    @keep(ignore="log", strict=True)
    def f(x: int, log: Any) -> int:
        RAN.append(next(log))
        return x

    lines = iter("ab")
    assert [f(1, lines), f(1, lines)] == [1, 1]
    assert RAN == ["a"]


def test_required_arguments() -> None:
    @keep(require="data")
    def f(data: Any = None, **more: Any) -> Any:
        RAN.append(data)
        return data

    assert [f(), f(), f(None), f(0), f(0), f([]), f([])] == [None, None, None, 0, 0, [], []]
    assert RAN == [None, None, None, 0, []]
    with pytest.raises(wellkept.Undigestible, match="without data"):
        f.key()


def test_required_among_keywords() -> None:
    @keep(require="seed")
    def f(**options: int) -> int:
        RAN.append(options)
        return len(options)

    assert [f(a=1), f(a=1), f(seed=1), f(seed=1)] == [1, 1, 1, 1]
    assert len(RAN) == 3


@pytest.mark.parametrize("how", ["function", "keyword", "method", "coroutine", "generator"])
def test_a_required_argument_that_is_left_to_its_default(how: str) -> None:
    class Model:
        @keep(require="n")
        def f(self, n: int = 5) -> int:
            return ran(n)

    @keep(require="n")
    def by_place(n: int = 5) -> int:
        return ran(n)

    @keep(require="n")
    def by_name(*, n: int = 5) -> int:
        return ran(n)

    @keep(require="n")
    async def later(n: int = 5) -> int:
        return ran(n)

    @keep(require="n")
    def items(n: int = 5) -> Iterator[int]:
        yield ran(n)

    f: Any = {
        "function": by_place,
        "keyword": by_name,
        "method": Model().f,
        "coroutine": lambda **given: asyncio.run(later(**given)),
        "generator": lambda **given: next(iter([*items(**given)])),
    }[how]
    with pytest.warns(wellkept.KeptWarning, match="computed, not kept: n was not given") as told:
        assert [f(), f(), f()] == [5, 5, 5]
    assert len(told) == 1
    assert [f(n=5), f(n=5), f()] == [5, 5, 5]
    assert RAN == [5] * 5


def ran(n: int) -> int:
    RAN.append(n)
    return n


def test_who_asks_is_not_warned_of_what_is_required() -> None:
    @keep(require="n")
    def f(n: int = 5) -> int:
        return n

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f.explain().outcome == "unkept"
        with pytest.raises(wellkept.Undigestible, match="without n"):
            f.contains()
        assert f(None) is None  # type: ignore[arg-type]  # None is no value for it


def bare(x: int, a: Ignored = 0, b: Ignored[int] = 0, c: Required[int] = 0) -> int:
    return ran(x)


def test_bare_markers_and_those_with_a_type() -> None:
    def plain(x, a=0, b=0, c=0, d=None, e=None):  # type: ignore[no-untyped-def]  # annotated below
        return ran(x)

    plain.__annotations__ = {
        "a": Ignored,
        "b": Ignored[int],
        "c": Required[int],
        "d": Ignored[int] | None,
        "e": Ordered,
    }
    for f in (keep(bare), keep(plain)):
        RAN.clear()
        with pytest.warns(wellkept.KeptWarning, match="c was not given"):
            f(1), f(1)
        f(1, c=2), f(1, 5, 6, c=2), f(1, c=3)
        assert RAN == [1] * 4
    assert keep(plain).key(1, c=2, d=7) == keep(plain).key(1, c=2, d=8)
    one, two = {"p": 1, "q": 2}, {"q": 2, "p": 1}
    assert keep(plain).key(1, c=2, e=one) != keep(plain).key(1, c=2, e=two)
    assert keep(plain).key(1, c=2, e=one) == keep(plain).key(1, c=2, e=dict(one))


if TYPE_CHECKING:
    from pathlib import PurePath as Data


def unseen(x: int, data: Ignored[Data], more: Annotated[Data | None, Ignored] = None) -> int:
    return ran(x)


def test_a_marker_beside_a_type_that_only_the_type_checker_imports() -> None:
    f = keep(unseen)
    assert f.key(1, Path("a"), Path("b")) == f.key(1, Path("c"))


@keep
def annotated(
    x: int,
    data: Annotated[list[int] | None, Required] = None,
    verbose: Annotated[bool, "something else", Ignored()] = False,
    unknown: NotDefined = None,  # type: ignore[name-defined]  # noqa: F821
) -> int:
    RAN.append((x, data, verbose))
    return x


def test_markers_in_a_signature_of_strings() -> None:
    assert annotated.key(1, [2]) == annotated.key(1, [2], True) != annotated.key(1, [3])
    assert [annotated(1), annotated(1), annotated(1, [2]), annotated(1, [2], True)] == [1] * 4
    assert len(RAN) == 3


@keep
def stepped(
    steps: Annotated[dict[str, Any], Ordered], options: dict[str, Any] | None = None
) -> list[str]:
    RAN.append(steps)
    return list(steps)


def test_the_order_of_a_dict_counts_where_a_function_says_so() -> None:
    @keep(ordered=["steps"])
    def named(steps: Any, options: Any = None) -> Any:
        RAN.append(steps)
        return repr(steps)

    one, other = {"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 2}, "a": 1}
    inside = {"a": 1, "b": {"d": 2, "c": 1}}
    assert [stepped(one), stepped(other), stepped(one)] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert stepped.key(one, {"x": 1, "y": 2}) == stepped.key(one, {"y": 2, "x": 1})
    for given in (one, other, inside):
        for around in (lambda d: d, lambda d: [d], lambda d: ({1: (d,)},), SimpleNamespace):
            value = around(given) if around is not SimpleNamespace else SimpleNamespace(held=given)
            assert named(value) == repr(value) == named(value)
    assert len(RAN) == 2 + 3 * 4
    # a record is found by the value, and the value by its digest
    assert [found.result for found in stepped.query(one)] == [["a", "b"]]
    kept_steps = keep(name="given")(lambda: one)
    kept_steps()
    assert stepped.key(kept_steps.call().result) == stepped.key(one) != stepped.key(other)
    # elsewhere it does not
    assert annotated.key(1, [{"a": 1, "b": 2}]) == annotated.key(1, [{"b": 2, "a": 1}])


def test_the_order_of_what_keywords_gather() -> None:
    @keep(ordered="options")
    def f(x: int = 0, /, **options: Any) -> Any:
        RAN.append(options)
        return list(options)

    assert [f(a=1, b=2), f(b=2, a=1), f(a=1, b=2)] == [["a", "b"], ["b", "a"], ["a", "b"]]
    assert f.key(a={"x": 1, "y": 2}) != f.key(a={"y": 2, "x": 1})
    assert len(RAN) == 2


def test_a_key_function_stands_for_the_arguments() -> None:
    @keep(key=lambda path, mode="r": (path.name, path.stat().st_size))
    def read(path: Path, mode: str = "r") -> str:
        RAN.append(path.name)
        return path.read_text()

    path = Path("a.txt")
    path.write_text("one")
    assert [read(path), read(path, "rb"), read(path=path)] == ["one"] * 3
    path.write_text("three")
    assert read(path) == "three"
    assert RAN == ["a.txt", "a.txt"]
    assert set(read.call(path).arguments) == {"key"}


def test_when_decides_what_is_kept() -> None:
    @keep(when=lambda result: result > 0)
    def f(x: int) -> int:
        RAN.append(x)
        return x

    assert [f(1), f(1), f(-1), f(-1)] == [1, 1, -1, -1]
    assert RAN == [1, -1, -1]
    assert not f.contains(-1)


def test_a_failing_when_or_key_costs_only_the_keeping() -> None:
    @keep(when=lambda result: 1 / 0)
    def f(x: int) -> int:
        return x

    @keep(key=lambda x: 1 / 0)
    def g(x: int) -> int:
        return x

    for function in (f, g):
        with pytest.warns(wellkept.KeptWarning, match="division by zero"):
            assert function(1) == 1
        assert function(1) == 1


@pytest.mark.parametrize("ttl", [1000, 1000.0, "1000 s", datetime.timedelta(seconds=1000)])
def test_a_ttl(ttl: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @keep(ttl=ttl)
    def f(x: int) -> int:
        RAN.append(x)
        return x

    f(1), f(1)
    assert RAN == [1]
    call = f.call(1)
    assert call.expires is not None
    assert call.expires - call.created == pytest.approx(1000)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 999)
    f(1)
    assert RAN == [1]
    monkeypatch.setattr(time, "time", lambda: now() + 1001)
    assert not f.contains(1)
    with pytest.raises(wellkept.NotKept):
        f.load(1)
    f(1), f(1)
    assert RAN == [1, 1]
    assert f.contains(1)


def test_no_ttl_never_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    @keep
    def f(x: int) -> int:
        RAN.append(x)
        return x

    f(1)
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 1e9)
    f(1)
    assert RAN == [1]
    assert f.call(1).expires is None


def test_a_stale_result_is_served_while_it_is_computed_again(monkeypatch: Any) -> None:
    @keep(ttl=100, stale=100)
    def f(x: int) -> int:
        RAN.append(x)
        return len(RAN)

    assert f(1) == 1
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 150)
    assert f(1) == 1
    assert f.stats().stale >= 1
    wait_until(lambda: f.contains(1))
    assert f(1) == 2
    assert RAN == [1, 1]
    monkeypatch.setattr(time, "time", lambda: now() + 1000)
    assert f(1) == 3


def test_what_a_record_shows_of_the_arguments() -> None:
    def f(x: int, secret: str, data: list[int]) -> int:
        return x

    shown = keep(f)
    shown(1, "s", [1])
    arguments = shown.call(1, "s", [1]).arguments
    assert (arguments["x"].value, arguments["secret"].value) == (1, "s")
    assert not arguments["data"].shown
    assert arguments["data"].digest == wellkept.digest([1])
    hidden = keep(arguments="digests", name="hidden")(f)
    hidden(1, "s", [1])
    assert not any(a.shown for a in hidden.call(1, "s", [1]).arguments.values())


def test_codecs() -> None:
    @keep(codec="json")
    def readable(x: int) -> dict[str, Any]:
        return {"x": [x, None, "é", 1.5, True]}

    @keep(codec="cloudpickle")
    def cloud(x: int) -> Any:
        return lambda: x

    assert readable(1) == readable(1) == {"x": [1, None, "é", 1.5, True]}
    value = readable.cache.values.get(readable.call(1).result)
    assert value is not None
    assert (value.codec, bytes(value.head)) == ("json", b'{"x":[1,null,"\xc3\xa9",1.5,true]}')
    assert [cloud(3)(), cloud(3)()] == [3, 3]
    assert cloud.stats().hits == 1

    @keep(codec="json")
    def pair(x: int) -> tuple[int, int]:
        return x, x

    with pytest.warns(wellkept.KeptWarning, match="tuple"):
        assert pair(1) == (1, 1)
    assert pair(1) == (1, 1)
    assert pair.stats().unstorable == 2


def test_a_cache_of_its_own() -> None:
    with wellkept.open("mine") as mine:
        f = keep(cache=mine)(lambda x: x)
        g = keep(cache=Path("mine"))(lambda x: x)
        h = keep(cache="./mine")(lambda x: x)
        with wellkept.use("./other"):
            f(1), g(2), h(3)
        assert f.cache is mine
        assert len(list(mine.calls.keys())) == 3
        assert not list(wellkept.open("other").calls.keys())


def test_isolate(monkeypatch: pytest.MonkeyPatch) -> None:
    @keep(isolate=True)
    def f(x: int) -> int:
        RAN.append(x)
        return x

    f(1), f(1)
    Path("there").mkdir()
    monkeypatch.chdir("there")
    f(1), f(1)
    monkeypatch.chdir("..")
    f(1)
    assert RAN == [1, 1]


def test_a_fresh_directory_for_each_body(home: Path) -> None:
    before = Path.cwd()

    @keep(tempdir=True)
    def f(x: int) -> tuple[str, list[str]]:
        RAN.append(x)
        Path("made").write_text("x")
        if x:
            f(x - 1)
        return str(Path.cwd()), os.listdir()  # noqa: PTH208  of whatever directory it is

    places = [f(0)[0], *(f(n)[0] for n in (2, 1))]
    assert [f(n)[1] for n in (0, 1, 2)] == [["made"]] * 3
    assert len({*places}) == 3
    assert RAN == [0, 2, 1]
    assert Path.cwd() == before
    assert not any(Path(place).exists() for place in (*places, "made"))
    Path("there").mkdir()
    os.chdir("there")
    assert f.contains(2)
    plain: Any = keep(f.__wrapped__)
    assert plain.key(1) != f.key(1)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_fresh_directory_ends_with_an_exception(error: type[BaseException]) -> None:
    before, seen = Path.cwd(), []

    @keep(tempdir=True)
    def f() -> None:
        seen.append(Path.cwd())
        raise error

    for _ in range(2):
        with pytest.raises(error):
            f()
    assert Path.cwd() == before
    assert not any(place.exists() for place in seen)


def test_bodies_in_fresh_directories_take_turns() -> None:
    @keep(tempdir=True)
    def f(x: int) -> bool:
        Path("mine").write_text(str(x))
        time.sleep(0)
        return Path("mine").read_text() == str(x)

    @keep(tempdir=True, require="x")
    def waits_for_another(how: str, x: int | None = 1) -> Any:
        if how == "thread":
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(failure(lambda: f(-1))))
            thread.start()
            thread.join()
            return found
        return [failure(lambda: f.submit(pool, -2).result())]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(f, range(20)))
        for x in (1, None):  # kept, and not kept
            assert waits_for_another("thread", x) == [RuntimeError]
        assert waits_for_another("pool") == [RuntimeError]
        assert f(-3)


def failure(call: Any) -> Any:
    try:
        return call()
    except RuntimeError as error:
        return type(error)


def test_a_fresh_directory_is_for_what_runs_to_its_end() -> None:
    async def later() -> None: ...

    def items() -> Iterator[int]:
        yield 1

    for function in (later, items):
        with pytest.raises(wellkept.ConfigError, match="tempdir= is for functions that run to"):
            keep(tempdir=True)(function)


WRONG: list[dict[str, Any]] = [
    {"tempdir": 1},
    {"tempdir": True, "isolate": True},
    {"version": iter([])},
    {"code": "deeper"},
    {"code": None},
    {"name": ""},
    {"name": 3},
    {"ignore": 5},
    {"ignore": [5]},
    {"ignore": "nonesuch"},
    {"ordered": 5},
    {"ordered": "nonesuch"},
    {"ordered": "x", "key": len},
    {"require": "nonesuch"},
    {"require": [None]},
    {"key": "x"},
    {"when": 3},
    {"ttl": -1},
    {"ttl": "soon"},
    {"ttl": "1 fortnight"},
    {"ttl": True},
    {"ttl": float("nan")},
    {"ttl": [1]},
    {"ttl": datetime.timedelta(seconds=-1)},
    {"stale": 5},
    {"stale": "x", "ttl": 5},
    {"arguments": "all"},
    {"errors": 5},
    {"errors": "ValueError"},
    {"errors": [ValueError, 5]},
    {"errors": KeyboardInterrupt},
    {"errors": BaseException},
    {"codec": "yaml"},
    {"codec": 3},
    {"cache": 5},
    {"cache": ""},
    {"isolate": "yes"},
    {"strict": "no"},
    {"strict": 1},
    {"key": lambda x: x, "ignore": "x"},
]


@pytest.mark.parametrize(
    "options", WRONG, ids=[f"{i} {next(iter(o))}" for i, o in enumerate(WRONG)]
)
def test_a_wrong_option_is_told_at_the_decoration(options: dict[str, Any]) -> None:
    with pytest.raises(wellkept.ConfigError, match=r"=|parameter|codec|duration|ignore"):

        @keep(**options)
        def f(x: int) -> int:
            return x


def test_unknown_options_and_things_that_are_no_functions() -> None:
    with pytest.raises(TypeError, match="verison"):
        keep(verison=1)  # type: ignore[call-overload]
    for thing in (3, "f", None, [len]):
        with pytest.raises(wellkept.ConfigError, match=r"@keep"):
            keep(strict=True)(thing)  # type: ignore[arg-type]
    with pytest.raises(wellkept.ConfigError, match="already"):
        keep(keep(len))


def test_bare_and_with_empty_brackets() -> None:
    assert isinstance(keep(len), Kept)
    assert isinstance(keep()(len), Kept)
    assert keep(version=3)(len).options.version == 3


def test_an_unknown_cache_name_is_an_error_not_a_fallback() -> None:
    f = keep(cache="nonesuch")(lambda x: x)
    for call in (f, f.key, f.contains):
        with pytest.raises(wellkept.ConfigError, match="nonesuch"):
            call(1)
    assert not list(itertools.chain(Path().glob("nonesuch*")))


class TestVerify:
    def test_hits_are_computed_again_and_drift_is_told(self) -> None:
        world = [1]

        @keep(verify=1.0, version=1)
        def f(n: int) -> int:
            return n + world[0]

        assert [f(1), f(1)] == [2, 2]
        assert (f.stats().computed, f.stats().drifted) == (2, 0)
        world[0] = 2
        with pytest.warns(wellkept.KeptWarning, match=r"f\(n=1\) depends on more"):
            assert f(1) == 3
        assert f.stats().drifted == 1
        assert f.load(1) == 3  # what is true now is kept
        assert f(1) == 3
        assert f.stats().drifted == 1

    def test_a_hit_is_a_hit_also_where_computing_fails(self) -> None:
        broken: list[int] = []

        @keep(verify=1.0, version=1)
        def f(n: int) -> int:
            if broken:
                raise OSError("no longer there")
            return n

        assert f(1) == 1
        broken.append(1)
        with pytest.warns(wellkept.KeptWarning, match="raised OSError: no longer there"):
            assert f(1) == 1

    def test_no_share_no_work(self) -> None:
        f = keep(verify=0, version=1)(lambda n: n)
        assert [f(1), f(1), f(1)] == [1, 1, 1]
        assert f.stats().computed == 1

    def test_generators_are_refused(self) -> None:
        with pytest.raises(wellkept.ConfigError, match="not for generators"):

            @keep(verify=0.5)
            def each(n: int) -> Any:
                yield n

    @pytest.mark.parametrize("wrong", [True, -0.1, 1.1, "0.5", None])
    def test_wrong(self, wrong: Any) -> None:
        with pytest.raises(wellkept.ConfigError, match="verify="):
            keep(verify=wrong)


@pytest.mark.parametrize(
    ("codec", "package"),
    [("dill", "dill"), ("hdf5", "h5py"), ("arrow", "pyarrow"), ("npy", "numpy")],
)
def test_a_codec_that_is_not_installed_is_told_before_anything_is_computed(
    codec: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @keep(codec=codec)
    def f(x: int) -> int:
        return ran(x)

    @keep(codec=codec)
    def items(x: int) -> Iterator[int]:
        yield ran(x)

    @keep(codec=codec)
    async def later(x: int) -> int:
        return ran(x)

    monkeypatch.setitem(sys.modules, package, None)
    calls: list[Any] = [lambda: f(1), lambda: f.rerun(1), lambda: list(items(1))]
    for call in (*calls, lambda: asyncio.run(later(1))):
        with pytest.raises(wellkept.ConfigError, match=r"pip install 'wellkept\["):
            call()
    assert RAN == []
