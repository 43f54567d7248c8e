"""Bare `object()` sentinels: the default of a parameter stands for itself, any other has no identity."""

from __future__ import annotations

import pytest

import wellkept
from wellkept import keep

_NOTHING = object()
_OTHER = object()
_calls: list[int] = []  # not in a closure, where its content would count


def test_a_default_sentinel_is_one_argument_like_any_other() -> None:
    @keep
    def shown(n: int, missing: object = _NOTHING) -> bool:
        _calls.append(n)
        return missing is _NOTHING

    assert shown(1) is True
    assert shown(1, _NOTHING) is True
    assert shown(1, ("default", "missing")) is False
    assert shown(1, None) is False
    assert len(_calls) == 3


def test_another_sentinel_is_not_taken_for_the_default() -> None:
    @keep
    def shown(n: int, missing: object = _NOTHING) -> bool:
        return missing is _NOTHING

    assert shown(1) is True
    with pytest.warns(wellkept.KeptWarning, match=r'arguments\["missing"\].*object\(\)'):
        assert shown(1, _OTHER) is False
    assert shown.stats().undigestible == 1


def test_sentinels_have_no_digest() -> None:
    with pytest.raises(wellkept.Undigestible):
        wellkept.digest([_NOTHING])
