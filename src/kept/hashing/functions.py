from __future__ import annotations
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Identity:
    name: str
    code: str


def identify(function: Any, code: str = "own") -> Identity:
    raise NotImplementedError


def reduce_function(value: Any) -> tuple[Any, ...]:
    raise NotImplementedError


def reduce_code(value: Any) -> tuple[Any, ...]:
    raise NotImplementedError
