"""Callables of many kinds and libraries, called plain and kept: the same result, or the same error."""

import copy
import functools
import inspect
import re
from typing import Any

import pytest
from tests.memo.callables import CALLABLES

from wellkept import keep
from wellkept.hashing.names import HEAP


async def _drained(items: Any) -> list[Any]:
    return [item async for item in items]


def _driven(coroutine: Any) -> Any:
    """Run one that waits for nothing; a loop would raise its exception in a context of its own."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value


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
        made = CALLABLES[name][0]()
    except ImportError as error:
        pytest.skip(f"needs {error.name}")
    # A class of a program is not kept itself, or it would be none any more.
    own = isinstance(made, type) and made.__flags__ & HEAP
    return functools.partial(made) if own else made


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
