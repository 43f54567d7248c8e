"""The kinds of places that a cache may have, for tests that hold for all of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

import wellkept
from wellkept import Cache

SHARED = ["embedded", "files", "sqlite"]
"""Those that other processes see."""
KINDS = [*SHARED, "memory"]

every = pytest.mark.parametrize("kind", KINDS)
shared = pytest.mark.parametrize("kind", SHARED)

_numbers = itertools.count()


def url_of(kind: str) -> str:
    """Of a new place of a kind, in the working directory."""
    name = f"place{next(_numbers)}"
    return {
        "embedded": f"./{name}",
        "files": f"files:{name}",
        "sqlite": f"sqlite:///{name}.db",
        "hdf5": f"hdf5:{name}",
        "memory": "memory:",
    }[kind]


def new(kind: str, **options: Any) -> Cache:
    """A new cache of a kind."""
    return wellkept.open(url_of(kind), **options)


class Counted:
    """A function that counts its runs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.runs = 0

    def into(self, cache: Cache, **options: Any) -> Any:
        """The function, kept in a cache."""

        def body(x: Any) -> Any:
            self.runs += 1
            return self.function(x)

        return wellkept.keep(cache=cache, name="counted", version=1, **options)(body)
