"""Keeping what a body gave: its result, its exception, or what its future gives later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellkept.errors import EncodeError
from wellkept.memo.flights import Flight
from wellkept.memo.origin import Origin
from wellkept.memo.pending import Done, follow
from wellkept.memo.recorded import OPEN, metadata, record
from wellkept.memo.troubles import TROUBLES, kind_of
from wellkept.memo.troubles import note as note_trouble
from wellkept.records import Call
from wellkept.runs.costs import Began, seconds
from wellkept.runs.notes import LEAVES

if TYPE_CHECKING:
    from concurrent.futures import Future

    from wellkept.memo.flow import Located
    from wellkept.memo.kept import Kept
    from wellkept.memo.watch import Watch

__all__ = ["chained", "follow_up", "store", "store_error"]


def follow_up(
    kept: Kept[..., Any],
    found: Located,
    future: Future[Any],
    caller: Flight | None,
    began: Began,
    watch: Watch | None = None,
) -> None:
    """Keep what a body returned a future of, when it is there.

    Args:
        watch: over what the body reads.
    """

    def keep(done: Done) -> None:
        call, error = None, done.error
        try:
            if watch is not None and not watch.ended():
                pass
            elif error is None:
                call = store(kept, found, done, caller, began)
            elif isinstance(error, kept.options.errors) and _chained(kept, error) is not None:
                call = store(kept, found, done, caller, began, when=False)
        finally:
            if OPEN:
                record(kept, found, caller, began, call, error)

    follow((id(found.cache.backend.locks), found.key), future, keep, Origin.here())


def store_error(
    kept: Kept[..., Any],
    found: Located,
    error: BaseException,
    caller: Flight | None,
    began: Began,
) -> Call | None:
    chain = _chained(kept, error)
    return None if chain is None else store(kept, found, chain, caller, began, "failed", False)


def _chained(kept: Kept[..., Any], error: BaseException) -> list[BaseException] | None:
    try:
        return chained(error)
    except Exception as cause:
        if kept.broke(EncodeError(f"a {type(error).__qualname__} can't be kept: {cause}")):
            raise
        return None


def chained(error: BaseException) -> list[BaseException]:
    """An exception and its causes, if they can be made again.

    Raises:
        Exception: what making one from its arguments raised.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        made = link.__reduce_ex__(4)  # `copy.copy` would ask tblib, see `wellkept.codecs.pickled`
        if not isinstance(made, str):
            made[0](*made[1])
    return chain


def store(
    kept: Kept[..., Any],
    found: Located,
    result: Any,
    caller: Flight | None,
    began: Began,
    state: str = "done",
    when: bool = True,
) -> Call | None:
    """Keep a result, unless `when` says no or it can't be kept; the record, if it is.

    Args:
        caller: the computation that made the call.
        began: when the body did.
        when: whether `when` has a say.
    """
    taken = seconds(began)
    options = kept.options
    try:
        future = type(result) is Done
        asked = result.value if future else result[0] if state == "items" else result
        if options.when is not None and when and not options.when(asked):
            note_trouble(found.key, "declined", "")
            return None
        call = found.cache.keep(
            found.key,
            result,
            function=kept.function_name,
            code=found.code or kept.code_tag,
            arguments=kept.locator.arguments(found),
            state=state,
            seconds=taken,
            ttl=options.ttl,
            codec="pickle" if future or state == "failed" else options.codec,
            metadata=metadata(kept, found, caller, began),
        )
        if found.leaves is not None:
            found.cache.note(LEAVES + found.key.hex(), found.leaves)
    except Exception as error:
        note_trouble(found.key, kind_of(error), str(error))
        if kept.broke(error):
            raise
        return None
    if TROUBLES:
        TROUBLES.pop(found.key, None)
    return call
