"""The terms that a medium finds calls by, and what of a query they can tell.

A call's function, its result and each argument's digest; its run; and each scalar in a part of its
metadata that is a mapping, such as a tag or what a collector gave, under the keys that lead to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from wellkept.conditions import Condition, Equal, Is, Query, Span
from wellkept.records import Call
from wellkept.stores.base import Term

__all__ = ["terms_of", "terms_wanted"]


def terms_of(call: Call) -> dict[str, Term]:
    """What a call is found by."""
    terms: dict[str, Term] = {"function": call.function, "result": str(call.result)}
    for name, argument in call.arguments.items():
        if _is_text(name):
            terms[f"argument.{name}"] = str(argument.digest)
    for key, said in call.metadata.items():
        if isinstance(said, Mapping) or key == "run":
            terms.update(_leaves((key,), said))
    return terms


def _leaves(path: tuple[str, ...], said: Any) -> Iterator[tuple[str, Term]]:
    if not _is_text(path[-1]):
        return
    if isinstance(said, Mapping):
        for key, part in said.items():
            if isinstance(key, str):
                yield from _leaves((*path, key), part)
    elif _is_term(said):
        yield _named(path), said


def _named(path: tuple[str, ...]) -> str:
    return f"metadata.{json.dumps(path)}"


def terms_wanted(query: Query) -> dict[str, Term | tuple[Term, Term]]:
    """What of a query is a term of each call that fits it, or a range of one."""
    return dict(found for one in query.conditions if (found := _term(one)) is not None)


def _term(condition: Condition) -> tuple[str, Term | tuple[Term, Term]] | None:
    field, path, test = condition
    if field == "function" and isinstance(test, Equal) and _is_text(str(test.value)):
        return "function", str(test.value)
    if field == "result" and isinstance(test, Is):
        return "result", str(test.digest)
    if field == "argument" and isinstance(test, Is) and _is_text(path[0]):
        return f"argument.{path[0]}", str(test.digest)
    if field == "metadata" and (len(path) > 1 or path == ("run",)) and all(map(_is_text, path)):
        if isinstance(test, Equal) and _is_term(test.value):
            return _named(path), test.value
        # Of long texts media know no order, and of too large numbers nothing.
        if isinstance(test, Span) and all(_is_number(end) for end in (test.low, test.high)):
            return _named(path), (test.low, test.high)
    return None


def _is_number(end: Any) -> bool:
    return end is None or (not isinstance(end, str) and _is_term(end) and abs(end) < 2**53)


def _is_term(value: Any) -> bool:
    """Whether a scalar can be a term."""
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, float) and value == value


def _is_text(text: str) -> bool:
    """Whether a medium can have it in a term: it is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
