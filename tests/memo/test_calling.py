"""A body is called as its caller called it, and fails as it would if it were not kept."""

import copy
import inspect
import random
import re
import traceback
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.memo.callables import CALLABLES

from kept import keep

GIVEN: list[Any] = []


def noting(*args: Any, **kwargs: Any) -> int:
    GIVEN.append((args, kwargs))
    return 1


noting.__wrapped__ = lambda a, b=2, *, c=3: None  # type: ignore[attr-defined]  # a decorator's


@pytest.fixture(autouse=True)
def nothing_given() -> None:
    GIVEN.clear()


@pytest.mark.parametrize(
    ("args", "kwargs"), [((1,), {}), ((1, 2), {}), ((1,), {"b": 2}), ((), {"a": 1, "c": 3})]
)
def test_the_body_is_given_what_the_caller_gave(args: Any, kwargs: Any) -> None:
    function: Any = keep(version=1, verify=1.0)(noting)
    function(*args, **kwargs)
    function(*args, **kwargs)  # verified
    function.rerun(*args, **kwargs)
    function.bind(*args, **kwargs)()
    assert [given for given in GIVEN if given == (args, kwargs)] == GIVEN
    assert len(GIVEN) == 4


def test_the_users_random_numbers_are_left_alone() -> None:
    function = keep(verify=0.5)(lambda x: x)
    random.seed(1)
    expected = [random.random() for _ in range(20)]
    random.seed(1)
    got = []
    for i in range(20):
        function(i % 2)
        got.append(random.random())
    assert got == expected


@keep
def fails(x: int) -> None:
    try:
        {}["there"]
    except KeyError:
        raise ValueError(x)  # noqa: B904  the context is what is looked for


@keep
async def fails_later(x: int) -> None:
    fails.__wrapped__(x)


@keep
def fails_inside(x: int) -> Iterator[int]:
    yield x
    fails.__wrapped__(x)


@keep
async def fails_inside_later(x: int) -> AsyncIterator[int]:
    yield x
    fails.__wrapped__(x)


async def _drained(items: Any) -> list[Any]:
    return [item async for item in items]


def _driven(coroutine: Any) -> Any:
    """Run one that waits for nothing; a loop would raise its exception in a context of its own."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize(
    "call",
    [
        lambda: fails(1),
        lambda: fails.rerun(1),
        lambda: _driven(fails_later(1)),
        lambda: list(fails_inside(1)),
        lambda: _driven(_drained(fails_inside_later(1))),
    ],
)
def test_a_failing_body_shows_one_frame_of_the_library(call: Any) -> None:
    outer = LookupError()
    try:
        raise outer
    except LookupError:
        with pytest.raises(ValueError, match="1") as caught:
            call()
    error = caught.value
    assert isinstance(error.__context__, KeyError)
    assert error.__context__.__context__ is outer
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame.name for frame in frames if "/kept/" in frame.filename]
    assert len(ours) == (3 if "rerun" in ours else 1), ours
    assert frames[-1].name == "fails"


def test_a_body_that_raises_stop_iteration() -> None:
    @keep
    def stops(x: int) -> None:
        raise StopIteration(x)

    with pytest.raises(StopIteration) as caught:
        stops(3)
    assert caught.value.value == 3


def test_a_recursive_function_goes_deep() -> None:
    @keep
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(250) == 250
    assert down.stats().computed == 251


# -- the corpus -----------------------------------------------------------------------------------


def _outcome(function: Any, args: Any, kwargs: Any) -> tuple[str, str]:
    """What a call gives, to be compared: the type and the text of its result, or of its error."""
    args, kwargs = copy.deepcopy((args, kwargs))
    try:
        result = function(*args, **kwargs)
        if inspect.iscoroutine(result):
            result = _driven(result)
        elif inspect.isasyncgen(result):
            result = ["async", *_driven(_drained(result))]
        elif inspect.isgenerator(result):
            result = ["items", *result]
    except Exception as error:  # noqa: BLE001  whatever it is, it is to be the same
        return type(error).__qualname__, str(error)
    text = result.__qualname__ if inspect.isfunction(result) else repr(result)
    return type(result).__qualname__, re.sub(r" at 0x[0-9a-f]+|id='\d+'", "", text)


def _made(name: str) -> Any:
    try:
        return CALLABLES[name][0]()
    except ImportError as error:
        pytest.skip(f"needs {error.name}")


def test_the_corpus_is_large() -> None:
    assert len(CALLABLES) >= 200
    assert sum(len(calls) for _, calls in CALLABLES.values()) >= 1000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CALLABLES)
def test_plain_and_kept_are_the_same(name: str) -> None:
    calls = CALLABLES[name][1]
    plain = _made(name)
    expected = [_outcome(plain, *each) for each in calls]
    function = keep(_made(name))
    # Each is computed, with the others kept beside it; then it is a hit, unless it can't be kept.
    for what in ("computed", "kept", "kept, the other way round"):
        order = range(len(calls))
        for i in reversed(order) if what.endswith("round") else order:
            assert _outcome(function, *calls[i]) == expected[i], (what, calls[i])
    for each, wanted in zip(calls, expected, strict=True):
        if wanted[0] != "TypeError":  # where arguments are wrong, both say so at once
            bound = _outcome(lambda *args, **kwargs: function.bind(*args, **kwargs)(), *each)
            assert (bound, _outcome(function.rerun, *each)) == (wanted, wanted), each
