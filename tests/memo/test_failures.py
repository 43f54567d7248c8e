"""Exceptions: raised, not kept; kept where `errors` says so, and then the same comes back."""

import asyncio
import copyreg
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

import wellkept
from wellkept import keep

RAN: list[Any] = []


class Broken(Exception):
    def __init__(self, what: str, *, code: int = 0) -> None:
        super().__init__(what)
        self.what, self.code = what, code


class Fussy(Exception):
    """Can't be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one}{two}")


def test_an_exception_is_the_functions_own_and_not_kept() -> None:
    error = Broken("x", code=3)

    @keep(version=1)
    def f(x: int) -> None:
        RAN.append(x)
        raise error

    for _ in range(2):
        with pytest.raises(Broken) as caught:
            f(1)
        assert caught.value is error
    assert RAN == [1, 1]
    assert not f.contains(1)
    assert f.stats().failed == 2
    assert [frame.name for frame in traceback.extract_tb(caught.tb)][-1] == "f"


@pytest.mark.parametrize("error", [StopIteration(5), StopAsyncIteration(), GeneratorExit()])
def test_exceptions_that_generators_treat_their_own_way(error: BaseException) -> None:
    @keep(version=1)
    def f(x: int) -> None:
        raise error

    for _ in range(2):
        with pytest.raises(type(error)) as caught:
            f(1)
        assert caught.value is error


def test_next_on_an_empty_iterator_inside_a_loop_over_results() -> None:
    @keep
    def first(items: list[int]) -> int:
        return next(iter(items))

    assert first([1]) == 1
    with pytest.raises(StopIteration):
        first([])
    with pytest.raises(StopIteration):
        first.rerun([])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_gives_up_the_lease(stop: type[BaseException]) -> None:
    def interrupted() -> bool:
        RAN.append(1)
        return len(RAN) == 1

    @keep
    def f(x: int) -> int:
        if interrupted():
            raise stop
        return x

    with pytest.raises(stop):
        f(1)
    locks = f.cache.backend.locks
    key = f.key(1).raw
    assert locks.acquire(key)
    locks.release(key)
    assert f(1) == 1


def test_kept_exceptions_come_back_the_same() -> None:
    @keep(errors=(Broken, ValueError))
    def f(x: int) -> None:
        RAN.append(x)
        if x == 2:
            raise TypeError("not kept")
        try:
            try:
                raise KeyError("deep", [1])
            except KeyError as error:
                raise OSError(2, "gone") from error
        except OSError as error:
            made = Broken("x", code=7)
            made.add_note("a note")
            raise made from error

    for _ in range(3):
        with pytest.raises(Broken) as caught:
            f(1)
        error = caught.value
        assert (error.what, error.code, error.args) == ("x", 7, ("x",))
        assert error.__notes__ == ["a note"]
        assert isinstance(error.__cause__, OSError)
        assert error.__cause__.errno == 2
        assert isinstance(error.__cause__.__cause__, KeyError)
        assert error.__cause__.__cause__.args == ("deep", [1])
    assert RAN == [1]
    assert f.contains(1)
    assert f.call(1).state == "failed"
    with pytest.raises(Broken):
        f.load(1)
    with pytest.raises(Broken):
        f.rerun(1)
    assert RAN == [1, 1]
    for _ in range(2):
        with pytest.raises(TypeError):
            f(2)
    assert RAN == [1, 1, 2, 2]
    assert f.forget(1)


def test_two_callers_get_two_exceptions() -> None:
    @keep(errors=ValueError)
    def f(x: int) -> None:
        raise ValueError([x])

    found = []
    for _ in range(4):
        try:
            f(1)
        except ValueError as error:
            found.append(error)
    assert len({id(error) for error in found}) == 4
    found[1].args[0].append(9)
    with pytest.raises(ValueError, match=r"\[1\]"):
        f(1)


@pytest.fixture(params=[False, True], ids=["", "tblib"])
def tblib(request: pytest.FixtureRequest) -> Iterator[None]:
    """Once as it is, and once as in a process that has imported Dask."""
    before = dict(copyreg.dispatch_table)
    if request.param:
        pytest.importorskip("tblib.pickling_support").install()
    yield
    copyreg.dispatch_table.clear()
    copyreg.dispatch_table.update(before)


@pytest.mark.usefixtures("tblib")
def test_what_is_kept_of_an_exception_needs_no_other_library() -> None:
    @keep(errors=LookupError)
    def f(x: int) -> None:
        raise KeyError(x)

    with pytest.raises(KeyError):
        f(1)
    assert sum(call.size for call in f.query().calls()) < 200


@pytest.mark.usefixtures("tblib")
def test_an_exception_that_cannot_be_made_again_is_not_kept() -> None:
    @keep(errors=(Fussy, ValueError))
    def f(x: int) -> None:
        RAN.append(x)
        if x == 1:
            raise Fussy(1, 2)
        raise ValueError("a") from Fussy(3, 4)

    with pytest.warns(wellkept.KeptWarning, match="Fussy"), pytest.raises(Fussy):
        f(1)
    with pytest.raises(Fussy, match="12"):
        f(1)
    with pytest.raises(ValueError, match="a") as caught:
        f(2)
    assert isinstance(caught.value.__cause__, Fussy)
    assert RAN == [1, 1, 2]
    assert f.stats().unstorable == 3


def test_kept_exceptions_of_coroutines() -> None:
    @keep(errors=ValueError)
    async def f(x: int) -> None:
        RAN.append(x)
        raise ValueError(x)

    for _ in range(3):
        with pytest.raises(ValueError, match="1"):
            asyncio.run(f(1))
    assert RAN == [1]

    async def loaded() -> None:
        with pytest.raises(ValueError, match="1"):
            await f.load(1)

    asyncio.run(loaded())


def test_a_kept_exception_expires() -> None:
    @keep(errors=ValueError, ttl=1e-9)
    def f(x: int) -> None:
        RAN.append(x)
        raise ValueError(x)

    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            f(1)
    assert RAN == [1, 1]


def test_when_is_not_asked_about_exceptions_and_json_keeps_them() -> None:
    @keep(errors=ValueError, when=lambda result: False, codec="json")
    def f(x: int) -> None:
        RAN.append(x)
        raise ValueError(x)

    for _ in range(2):
        with pytest.raises(ValueError, match="1"):
            f(1)
    assert RAN == [1]
