"""What people get wrong, and what they are told: the option, what was given, and what to do."""

from __future__ import annotations

import asyncio
import functools
import re
import threading
import warnings
from collections.abc import Callable
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import ConfigError, KeptWarning, NotKept, StoreError, Undigestible, keep


def simulate(seed: int, steps: int = 10, verbose: bool = False) -> int:
    return seed * steps


kept = keep(simulate)


@keep
async def later(x: int) -> int:
    return x


@keep(each="xs")
def many(xs: list[int]) -> list[int]:
    return xs


class Model:
    @keep(ignore="self")
    def fit(self, x: int) -> int:
        return x


def fails(*_: Any) -> Any:
    raise ZeroDivisionError("division by zero")


def option(**options: Any) -> Callable[[], Any]:
    """Keep a function so, and call it."""
    return lambda: keep(**options)(simulate)(1)


def strictly(**options: Any) -> Callable[[], Any]:
    return option(strict=True, **options)


DURATION = ("'12 h'", "ms, s, min, h, d and w")

MISTAKES: list[tuple[Callable[[], Any], type[Exception], tuple[str, ...]]] = [
    # Names of parameters.
    (
        option(ignore="verbos"),
        ConfigError,
        ("ignore='verbos'", "simulate", "did you mean 'verbose'?"),
    ),
    (option(ignore=["verbose", ""]), ConfigError, ("ignore=''", "it has seed, steps, verbose")),
    (option(ignore=3), ConfigError, ("ignore=", "names of parameters", "not 3")),
    (option(require="sed"), ConfigError, ("require='sed'", "did you mean 'seed'?")),
    (option(ordered="Steps"), ConfigError, ("ordered='Steps'", "did you mean 'steps'?")),
    (option(secret="token"), ConfigError, ("secret='token'", "it has seed, steps, verbose")),
    (option(each="sed"), ConfigError, ("each='sed'", "simulate", "did you mean 'seed'?")),
    (option(each=["seed"]), ConfigError, ("each=", "the name", "['seed']")),
    (option(ignore_globals=3), ConfigError, ("ignore_globals=", "names of globals", "not 3")),
    # Functions.
    (option(key="seed"), ConfigError, ("key=", "a function", "'seed'")),
    (
        option(key=lambda seed: seed),
        ConfigError,
        ("key=", "simulate", "lambda seed, steps, verbose: …"),
    ),
    (strictly(key=fails), Undigestible, ("key= raised ZeroDivisionError", "division by zero")),
    (option(when=True), ConfigError, ("when=", "a function", "True")),
    (option(when=lambda: True), ConfigError, ("when=", "when=lambda result: …")),
    (strictly(when=fails), wellkept.EncodeError, ("when= raised ZeroDivisionError",)),
    (option(cost={"usd": 2}), ConfigError, ("cost=", '{"usd": lambda result: 0.02}', "{'usd': 2}")),
    # Times and sizes.
    (option(ttl="1 fortnight"), ConfigError, ("ttl=", "'1 fortnight'", *DURATION)),
    (option(ttl=""), ConfigError, ("ttl=", "''", *DURATION)),
    (option(ttl=-1), ConfigError, ("ttl=", "-1", *DURATION)),
    (option(ttl=True), ConfigError, ("ttl=", "True", *DURATION)),
    (option(ttl=float("nan")), ConfigError, ("ttl=", "nan", *DURATION)),
    (option(ttl=0), ConfigError, ("ttl=0", "expires at once", *DURATION)),
    (option(ttl="0 s"), ConfigError, ("ttl='0 s'", "stale=")),
    (option(ttl=timedelta(0)), ConfigError, ("ttl=", "timedelta(0)", "stale=")),
    (option(stale="1 h"), ConfigError, ("stale=", "ttl=")),
    (option(ttl=1, stale="soon"), ConfigError, ("stale=", "'soon'", *DURATION)),
    # One of a few.
    (option(code="Deep"), ConfigError, ("code=", "'own'", "'Deep'", "did you mean 'deep'?")),
    (option(codec="jsn"), ConfigError, ("codec=", "cloudpickle", "did you mean 'json'?")),
    (option(arguments="value"), ConfigError, ("arguments=", "digests", "did you mean 'values'?")),
    (option(share="element"), ConfigError, ("share=", "('elements', depth)", "'element'")),
    (option(meta="gti"), ConfigError, ("meta=", "'gti'", "environment, git, packages, tags")),
    (option(observe="yes"), ConfigError, ("observe=", "True, False or None", "'yes'")),
    (option(strict="yes"), ConfigError, ("strict=", "True or False", "'yes'")),
    (option(output=1), ConfigError, ("output=", "True or False", "1")),
    # Numbers and names.
    (option(verify=2), ConfigError, ("verify=", "from 0 to 1", "2")),
    (option(verify=True), ConfigError, ("verify=", "from 0 to 1", "True")),
    (option(replicate="1"), ConfigError, ("replicate=", "from 0 up", "'1'")),
    (option(each="seed", batch=0), ConfigError, ("batch=", "from 1 up", "0")),
    (option(batch=3), ConfigError, ("batch=", "each=")),
    (option(name=""), ConfigError, ("name=", "text", "''")),
    (option(version=object()), ConfigError, ("version=", "has a digest", "object()")),
    # Exceptions.
    (option(errors="ValueError"), ConfigError, ("errors=ValueError", "not 'ValueError'")),
    (option(errors=["OSError"]), ConfigError, ("errors=ValueError", "not 'OSError'")),
    (option(errors=KeyboardInterrupt), ConfigError, ("errors=", "KeyboardInterrupt", "not kept")),
    (option(errors=None), ConfigError, ("errors=", "not None")),
    # Dependencies.
    (option(depends="a.txt"), ConfigError, ("depends=", "[wellkept.file('a.txt')]")),
    (option(depends=["a.txt"]), ConfigError, ("depends=", "wellkept.file(…)", "'a.txt'")),
    (lambda: wellkept.file(3), ConfigError, ("takes a path", "3")),  # type: ignore[arg-type]
    (lambda: wellkept.env(""), ConfigError, ("wellkept.env", "name of an environment variable")),
    (lambda: wellkept.token(3), ConfigError, ("wellkept.token", "a function", "3")),  # type: ignore[arg-type]
    (
        lambda: keep(strict=True)(simulate)(wellkept.File("nope.txt")),  # type: ignore[arg-type]
        Undigestible,
        ("arguments[\"seed\"]: the content of 'nope.txt'", "No such file"),
    ),
    # What is no function.
    (lambda: keep(kept), ConfigError, ("simulate is kept already", "one @keep", "__wrapped__")),
    (lambda: keep(Model), ConfigError, ("Model", "on a method", "returns Model(…)")),
    (lambda: keep(Fraction), ConfigError, ("Fraction", "on a method", "returns Fraction(…)")),
    (lambda: keep(property(simulate)), ConfigError, ("property", "@property above @keep")),
    (
        lambda: keep(functools.cached_property(simulate)),  # type: ignore[arg-type]
        ConfigError,
        ("@cached_property above @keep",),
    ),
    (lambda: keep("12 h"), ConfigError, ("'12 h'", "@keep(ttl='12 h')")),  # type: ignore[call-overload]
    (lambda: keep(3), ConfigError, ("goes on a function", "3")),  # type: ignore[call-overload]
    (
        lambda: keep(pytest.fixture(lambda: 1)),
        ConfigError,
        ("@keep stands above @pytest.fixture", "below"),
    ),
    # Caches.
    (
        option(cache="fats"),
        ConfigError,
        ("simulate: cache='fats'", "no cache is named", "'./fats'"),
    ),
    (option(cache="memory"), ConfigError, ("cache='memory'", "memory:")),
    (option(cache=3), ConfigError, ("cache=", "a path or a URL", "3")),
    (option(cache=""), ConfigError, ("cache=", "empty text")),
    (option(cache="nope:x"), ConfigError, ("cache='nope:x'", "no such scheme", "sqlite:")),
    (option(cache="redis:"), ConfigError, ("cache='redis:'", "redis://HOST:PORT/NUMBER")),
    (lambda: wellkept.set_cache("fats"), ConfigError, ("'fats'", "'./fats'")),
    (lambda: wellkept.use(3).__enter__(), ConfigError, ("use()", "a path or a URL", "3")),  # type: ignore[arg-type]
    (lambda: wellkept.open(None), ConfigError, ("wellkept.open", "a path or a URL", "None")),  # type: ignore[arg-type]
    (lambda: wellkept.open(""), ConfigError, ("empty path",)),
    (
        lambda: wellkept.open("./x?limti=1MB"),
        ConfigError,
        ("'./x?limti=1MB'", "did you mean 'limit'?"),
    ),
    (lambda: wellkept.open("./x?memory=1MB"), ConfigError, ("'./x?memory=1MB'", "wellkept.open")),
    (lambda: wellkept.open("x", memory="1 XB"), ConfigError, ("memory='1 XB'", "'256 MB'")),
    (lambda: wellkept.open("x", memroy=1), ConfigError, ("'memroy'", "did you mean 'memory'?")),
    (lambda: wellkept.open("x", limit="much"), ConfigError, ("limit=much", "'256 MB'")),
    (lambda: wellkept.open("x", trust="yes"), ConfigError, ("trust=", "True or False", "'yes'")),
    (lambda: wellkept.open("x", signed=1), ConfigError, ("signed=", "True or False", "1")),  # type: ignore[arg-type]
    (
        lambda: wellkept.open("x", durability="pwoer"),
        ConfigError,
        ("durability", "'power'", "'pwoer'"),
    ),
    (lambda: wellkept.Cache("x"), ConfigError, ("both stores", "wellkept.open(…)")),  # type: ignore[arg-type]
    (lambda: wellkept.Stack(3), ConfigError, ("not a cache: 3", "wellkept.open(…)")),  # type: ignore[arg-type]
    # What is asked of a function.
    (lambda: kept.load(99), NotKept, ("simulate(seed=99, steps=10, verbose=False)",)),
    (lambda: kept.query(sed=1), ConfigError, ("'sed'", "it has seed, steps, verbose")),
    (lambda: kept.evict(), ConfigError, ("simulate.evict()", "simulate.clear()")),
    (lambda: kept.key(threading.Lock()), Undigestible, ('arguments["seed"]', "`ignore`")),  # type: ignore[arg-type]
    (lambda: kept.map(3), TypeError, ("simulate.map", "'int' object", "itertools.repeat")),  # type: ignore[call-overload]
    (lambda: kept.map([1], executor=3), ConfigError, ("submit method", "3")),  # type: ignore[call-overload]
    (lambda: kept.replicate(-1), ConfigError, ("replicate=", "from 0 up", "-1")),
    (lambda: many(3), ConfigError, ("many: xs=", "a list", "int")),  # type: ignore[arg-type]
    (lambda: asyncio.run(later.map(3)), TypeError, ("later.map", "'int' object")),  # type: ignore[arg-type]
    # What is asked of a cache.
    (lambda: wellkept.active_cache().evict(), ConfigError, ("function=, older= or keys=",)),
    (
        lambda: wellkept.active_cache().evict(kept.key(1)),
        ConfigError,
        ("evict()", "keys=[…]"),
    ),
    (lambda: wellkept.active_cache().forget("zz"), ConfigError, ("64", "'zz'")),
    (lambda: wellkept.active_cache().load("zz"), NotKept, ("'zz'", "4 to 64 hex digits")),
    (lambda: wellkept.active_cache().limited("much"), ConfigError, ("bytes='much'", "'256 MB'")),
    (lambda: wellkept.active_cache().query(functoin="f"), ConfigError, ("'functoin'", "function")),
    (lambda: wellkept.between(5, 3), ConfigError, ("between(5, 3)", "the lower one comes first")),
    (lambda: wellkept.tags("paper"), ConfigError, ('tags(project="a")', "'paper'")),  # type: ignore[arg-type]
    (lambda: wellkept.meta(3), ConfigError, ("meta()", "3")),  # type: ignore[arg-type]
    (lambda: wellkept.Digest("abc"), ConfigError, ("64", "'abc'")),
    (lambda: wellkept.executor(3), ConfigError, ("submit method", "3")),  # type: ignore[arg-type]
    (lambda: wellkept.verify(simulate), ConfigError, ("a kept function", "simulate")),
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    with wellkept.open(tmp_path / "cache") as cache, wellkept.use(cache):
        yield cache


@pytest.mark.parametrize(("do", "kind", "says"), MISTAKES, ids=[str(m[2][0]) for m in MISTAKES])
def test_a_mistake_is_told(
    do: Callable[[], Any], kind: type[Exception], says: tuple[str, ...], tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        do()
    for text in says:
        assert text in str(caught.value)
    assert not re.search(r"<function \w+ at 0x", str(caught.value))
    # Nothing was made on the way.
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == []


WARNED: list[tuple[Callable[[], Any], tuple[str, ...]]] = [
    (option(key=fails, name="a"), ("simulate: computed, not kept: key= raised ZeroDivisionError",)),
    (option(when=fails, name="b"), ("simulate: returned, not kept: when= raised ZeroDivision",)),
    (option(cost={"usd": fails}, name="c"), ("cost= of 'usd'", "ZeroDivisionError")),
    (option(meta={"mine": fails}, name="d"), ("the collector 'mine'", "ZeroDivisionError")),
    (option(require="verbose", name="e"), ("verbose was not given", "require=")),
    (option(depends=[wellkept.file("nope.txt")], name="f"), ("'nope.txt'", "No such file")),
    (
        lambda: keep(lambda lock: 1)(threading.Lock()),
        ("<lambda>: computed, not kept", 'arguments["lock"]', "`ignore`"),
    ),
    (lambda: keep(lambda x: threading.Lock())(1), ("<lambda>: returned, not kept", "a lock")),
]


@pytest.mark.parametrize(("do", "says"), WARNED, ids=[w[1][0] for w in WARNED])
def test_what_is_not_kept_is_told(do: Callable[[], Any], says: tuple[str, ...]) -> None:
    with pytest.warns(KeptWarning) as told:
        do()
    assert any(all(text in str(one.message) for text in says) for one in told)


def test_a_cache_that_the_environment_names_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    from wellkept.caches.config import find

    monkeypatch.setenv("WELLKEPT_CACHE", "fats")
    with pytest.raises(ConfigError, match=r"WELLKEPT_CACHE: no cache is named 'fats'.*'\./fats'"):
        find()


def test_a_host_that_ssh_does_not_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'ssh: Could not resolve hostname nope: no' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(StoreError, match=r"no such host; check its name.*nope"):
        wellkept.open("ssh://nope.invalid/x").load("0" * 64)


def test_a_coroutine_that_is_not_awaited_has_the_functions_name() -> None:
    with pytest.warns(RuntimeWarning, match="coroutine 'later' was never awaited"):
        del [later(1)][0]


def test_where_warnings_are_errors_each_call_gets_one() -> None:
    function = keep(lambda lock: 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            with pytest.raises(KeptWarning, match="computed, not kept"):
                function(threading.Lock())
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert [function(threading.Lock()) for _ in range(2)] == [1, 1]
    assert len(told) == 1
