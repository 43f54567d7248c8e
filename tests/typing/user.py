"""What a user's editor sees. Checked by mypy (strict), and run as a test by test_user.py."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, assert_type

import wellkept
from wellkept import BoundCall, Cache, Call, Digest, Ignored, Kept, Required, Stats, keep


@keep
def plain(x: int, seed: int = 0, *, deep: bool = False) -> list[float]:
    return [float(x + seed)] if deep else []


@keep(version=1, ttl="1 d", ignore=["verbose"], errors=(ValueError, OSError), strict=True)
def told(x: int, verbose: bool = False) -> str:
    return str(x)


@keep
async def later(x: int) -> dict[str, int]:
    return {"x": x}


@keep
def items(n: int) -> Iterator[int]:
    yield from range(n)


@keep()
def talking(n: int) -> Generator[int, str, bool]:
    yield n
    return True


@keep
async def ticks(n: int) -> AsyncIterator[int]:
    yield n


@keep
def marked(
    data: Annotated[list[int] | None, Required], log: Annotated[bool, Ignored] = False
) -> int:
    return len(data or [])


@keep
def many(*numbers: int, **names: str) -> None: ...


class Model:
    @keep
    def fit(self, x: int, deep: bool = False) -> float:
        return float(x)

    @keep(version=2)
    async def predict(self, x: int) -> str:
        return str(x)

    @keep
    def steps(self, n: int) -> Iterator[int]:
        yield n

    @classmethod
    @keep
    def above(cls, x: int) -> str:
        return cls.__name__ * x

    @staticmethod
    @keep
    def static(x: int) -> bytes:
        return bytes(x)


def functions() -> None:
    assert_type(plain(1), list[float])
    assert_type(plain(1, seed=2, deep=True), list[float])
    assert_type(plain.rerun(1, 2), list[float])
    assert_type(told.rerun(1, deep=True), str)
    assert_type(plain.put([1.0], 1, seed=2), Call)
    assert_type(plain.load(1), list[float])
    assert_type(plain.__wrapped__(1), list[float])
    assert_type(plain.key(1), Digest)
    assert_type(plain.call(1), Call)
    assert_type(plain.contains(1), bool)
    assert_type(plain.forget(1), bool)
    assert_type(plain.stats(), Stats)
    assert_type(plain.bind(1), BoundCall[list[float]])
    assert_type(plain.bind(1)(), list[float])
    assert_type(plain.map([1, 2]), list[list[float]])
    with ThreadPoolExecutor() as pool:
        assert_type(plain.submit(pool, 1, seed=2), Future[list[float]])
        assert_type(plain.map([1], executor=pool), list[list[float]])
        assert_type(plain.map([1], executor=pool, ordered=False), Iterator[list[float]])
        with wellkept.executor(pool) as sending:
            assert_type(sending.submit(plain, 1, seed=2), Future[list[float]])
            assert_type(sending.map(plain, [1]), Iterator[list[float]])
            sending.submit(plain, "1")  # type: ignore[arg-type]
    assert_type(told(1, verbose=True), str)
    assert_type(many(1, 2, a="b"), None)
    assert_type(marked([1]), int)
    assert_type(list(items(2)), list[int])
    assert_type(list(items.load(2)), list[int])
    assert_type(talking(2), Generator[int, str, bool])


def wrong_uses() -> None:
    # Each ignore is an error that mypy must find; an unused one fails the check.
    plain("1")  # type: ignore[arg-type]
    plain()  # type: ignore[call-arg]
    plain(1, sed=2)  # type: ignore[call-arg]
    plain.key("1")  # type: ignore[arg-type]
    plain.load(1, 2, deep=3)  # type: ignore[arg-type]
    told(1, False, 3)  # type: ignore[call-arg]
    many("a")  # type: ignore[arg-type]
    Model().fit("1")  # type: ignore[arg-type]
    Model().fit.key()  # type: ignore[call-arg]
    keep(vrsion=1)  # type: ignore[call-overload]
    keep(strict="no")  # type: ignore[call-overload]
    keep(3)  # type: ignore[call-overload]
    wellkept.use(3)  # type: ignore[arg-type]


async def coroutines() -> None:
    waiting: Coroutine[Any, Any, dict[str, int]] = later(1)
    await waiting
    assert_type(await later(1), dict[str, int])
    assert_type(await later.rerun(1), dict[str, int])
    assert_type(await later.rerun(1, deep=True), dict[str, int])
    assert_type(await later.load(1), dict[str, int])
    assert_type(await later.bind(1)(), dict[str, int])
    assert_type(await later.map([1]), list[dict[str, int]])
    with ThreadPoolExecutor() as pool:
        assert_type(later.submit(pool, 1), Future[dict[str, int]])
    async for tick in ticks(3):
        assert_type(tick, int)
    assert_type(later.key(1), Digest)


async def wrong_coroutines() -> None:
    await later("1")  # type: ignore[arg-type]


async def methods() -> None:
    model = Model()
    assert_type(model.fit(1, deep=True), float)
    assert_type(model.fit.key(1), Digest)
    assert_type(model.fit.load(1, True), float)
    assert_type(model.fit.rerun(1), float)
    assert_type(model.fit.put(1.0, 1), Call)
    assert_type(model.fit.contains(1), bool)
    assert_type(model.fit.bind(1)(), float)
    assert_type(model.fit.map([1]), list[float])
    assert_type(model.fit.stats(), Stats)
    assert_type(Model.fit(model, 1), float)
    assert_type(Model.fit.key(model, 1), Digest)
    assert_type(await model.predict(1), str)
    assert_type(list(model.steps(3)), list[int])
    assert_type(Model.above(1), str)
    assert_type(model.above(1), str)
    assert_type(Model.static(1), bytes)
    assert_type(model.static(1), bytes)


def wrapping() -> None:
    wrapped: Kept[..., int] = keep(len)
    assert_type(wrapped([1]), int)
    assert_type(keep(lambda: 3)(), int)
    function: Callable[[int], str] = told
    assert_type(function(1), str)


def caches() -> None:
    with wellkept.open(Path("x"), memory="1 MB", durability="power") as cache:
        assert_type(cache, Cache)
        with wellkept.use(cache) as used:
            assert_type(used, Cache)
    with wellkept.use("./x"), wellkept.use(Path("x")):
        pass
    assert_type(wellkept.digest([1]), Digest)


def streams() -> AsyncGenerator[int, None]:
    @keep
    async def talking(n: int) -> AsyncGenerator[int, None]:
        yield n

    return talking(1)


# -- queries ----------------------------------------------------------------------------------------


def queries() -> None:
    cache, other = wellkept.open("memory:"), wellkept.Cache("memory:", "memory:")
    with wellkept.use(cache):
        plain(5)
        asked(cache, other)


def asked(cache: wellkept.Cache, other: wellkept.Cache) -> None:
    matches = plain.query(wellkept.between(1, 10), seed=0)
    assert_type(matches, wellkept.Matches)
    assert_type(matches.where(since=0.0).order_by("-created").limit(3), wellkept.Matches)
    assert_type(matches.count(), int)
    assert_type(matches.exists(), bool)
    assert_type(matches.latest(), wellkept.Match | None)
    match = matches.one()
    assert_type(match, wellkept.Match)
    assert_type(match.key, wellkept.Digest)
    assert_type(match.call, wellkept.Call)
    assert_type(list(cache.query("f*", state="done")), list[wellkept.Match])
    assert_type(list(matches.calls()), list[wellkept.Call])
    assert_type(cache.filtered(matches), wellkept.Cache)
    cache.transfer(other, matches)
    cache.transfer(other, lambda call: call.uses > 1)
    for value, some in matches.group_by("x"):
        print(value, some.count())
    plain.query(wellkept.ANY, wellkept.one_of(1, wellkept.like("a*"), wellkept.named("abcd")))
    with contextlib.suppress(wellkept.ConfigError):
        matches.limit("5")  # type: ignore[arg-type]  # a number
    with contextlib.suppress(wellkept.ConfigError):
        matches.order_by(5)  # type: ignore[arg-type]  # a name
