"""Why a call would be a hit or a miss, found out without leaving a trace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from wellkept.errors import StoreError, Undigestible
from wellkept.memo.flow import Located
from wellkept.memo.troubles import TROUBLES
from wellkept.runs.causes import (
    among_the_kept,
    kept_of,
    of_looks,
    of_the_cache,
    of_the_gone,
    states_of,
)
from wellkept.runs.codes import Parts
from wellkept.runs.explanation import Cause, Explanation, ago
from wellkept.runs.looking import Look, layers, look
from wellkept.runs.nearest import Asked

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

__all__ = ["explain"]

_FOUND = ("kept", "expired")
_DECISIVE = ("hidden", "damaged", "evicted", "void")


def explain(kept: Kept[..., Any], values: tuple[Any, ...]) -> Explanation:
    """See `Kept.explain`."""
    name = f"{kept.__qualname__}(…)"
    try:
        found = kept.locate(values)
    except Undigestible as error:
        cause = Cause("undigestible", f"an argument has no identity: {error}")
        return _unkept(kept, name, cause)
    except StoreError as error:
        return _unkept(kept, name, Cause("unavailable", f"the cache can't be opened: {error}"))
    if found is None:
        text = f"no call is kept {kept.without()}"
        return _unkept(kept, name, Cause("required", text))
    looks = _looks(found)
    if not _served(looks) and not kept.locator.settled(found):
        # As a call does: what the code rests on has changed where no hit looks, so its key is another.
        again = kept.locate(values)
        if again is not None:
            found, looks = again, _looks(again)
    return _explained(kept, found, looks)


def _unkept(kept: Kept[..., Any], call: str, cause: Cause) -> Explanation:
    function, code = kept.locator.identity()
    return Explanation(call=call, function=function, code=code, outcome="unkept", causes=(cause,))


def _looks(found: Located) -> list[Look]:
    return [look(layer, found.key) for layer in layers(found.cache)]


def _served(looks: Sequence[Look]) -> Look | None:
    """What a call would find: the nearest that has a result, and that it has not expired."""
    first = next((one for one in looks if one.state in _FOUND), None)
    return first if first is not None and first.state == "kept" else None


def _explained(kept: Kept[..., Any], found: Located, looks: list[Look]) -> Explanation:
    call = f"{kept.__qualname__}{kept.locator.shown(found)}"
    function, code = kept.locator.identity()
    deep = kept.locator.coding().deep
    about: dict[str, Any] = {
        "widened": {} if deep is None else deep.widened,
        "call": call,
        "function": function,
        "code": code,
        "key": found.key.hex(),
        "layers": states_of(looks),
    }
    served = _served(looks)
    if served is not None:
        memory = found.cache.fresh(found.key) is not None
        there = kept_of(served, found.cache, memory=memory)
        return Explanation(outcome="hit", kept=there, **about)
    first = next((one for one in looks if one.call is not None and one.state != "hidden"), None)
    there = None if first is None else kept_of(first, found.cache)
    causes = of_looks(looks)
    if first is not None and first.state == "expired" and first.call is not None:
        late = time.time() - (first.call.expires or 0.0)
        if late < kept.options.stale:
            return Explanation(outcome="stale", kept=there, causes=tuple(causes), **about)
    causes += of_the_cache(found.cache) + _troubles(found.key)
    if first is None and not any(cause.kind in _DECISIVE for cause in causes):
        causes += of_the_gone((one.layer for one in looks), found.key)
    if first is None and not any(cause.kind in _DECISIVE for cause in causes):
        asked = Asked.of(function, code, kept.locator.arguments(found))
        causes += among_the_kept(layers(found.cache), asked, lambda: _parts(kept, found))
    return Explanation(outcome="miss", kept=there, causes=tuple(causes), **about)


def _troubles(key: bytes) -> list[Cause]:
    """Why this process did not keep the call, if it has tried."""
    trouble = TROUBLES.get(key)
    if trouble is None:
        return []
    said = {
        "unstorable": "its result could not be kept",
        "unavailable": "the store did not take its result",
        "declined": "when= said not to keep its result",
        "raised": "the body raised",
        "changed": "what it reads was changed while it ran",
    }[trouble.kind]
    text = f"it was computed {ago(trouble.at)}, but {said}"
    data = {"at": trouble.at, "message": trouble.text}
    return [Cause(trouble.kind, f"{text}: {trouble.text}" if trouble.text else text, data=data)]


def _parts(kept: Kept[..., Any], found: Located) -> Parts:
    """What the code of a call is made from now."""
    return {
        name: (part.digest, part.text)
        for name, part in kept.locator.coding().parts(found.values).items()
    }
