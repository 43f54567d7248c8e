"""`kept explain`: why what is kept was computed, and what has become of it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from kept.cli import text
from kept.cli.urls import CacheOption, JsonOption, opened
from kept.errors import NotKept

__all__ = ["explain"]


def explain(
    what: Annotated[
        str,
        typer.Argument(
            metavar="KEY|FUNCTION",
            help="The key of a call, or its first digits (4 or more); or a function, * and ? "
            "standing for any text.",
        ),
    ],
    limit: Annotated[
        int, typer.Option(min=1, help="Of a function, at most so many calls, the latest first.")
    ] = 20,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a call is a hit, and why; of a function, why its latest calls were computed."""
    from kept.runs.why import explain_function, explain_key

    with opened(cache) as (found, url):
        key = _key(found, what)
        if key is not None:
            explained = explain_key(found, key)
            if as_json:
                text.emit({"cache": url} | explained.to_dict())
            else:
                text.console().print(explained.__rich__(), soft_wrap=True)
            return
        table = explain_function(found, what, limit)
    if as_json:
        text.emit({"cache": url, "calls": list(table)})
    else:
        print(table.text(text.console().width))


def _key(cache: Any, what: str) -> Any:
    """The key that is meant; None where a function is."""
    if re.fullmatch(r"[0-9a-fA-F]{4,64}", what) is None:
        return None
    try:
        return cache.expand(what)
    except NotKept:
        return None
