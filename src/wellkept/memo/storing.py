"""What is written of a computation: its result, its metadata, and an event of the run that is open."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from wellkept.caches.active import inherited
from wellkept.errors import EncodeError
from wellkept.hashing import SCALARS
from wellkept.memo.futures import Done, follow
from wellkept.memo.inflight import Flight, Origin
from wellkept.memo.refresh import OPEN as REFRESHING
from wellkept.memo.refresh import refreshing
from wellkept.records import Arguments, Call, Event, Metadata
from wellkept.runs.collectors import (
    Began,
    blocks,
    configured,
    directory,
    seconds,
    taken,
)
from wellkept.runs.recorder import COSTS, LEAVES, OPEN, note_once, recorder

if TYPE_CHECKING:
    from concurrent.futures import Future


from wellkept.memo.target import (
    TROUBLES,
    Target,
    Threads,
    lost,
    note_trouble,
    stayed,
)


def prepare(target: Target) -> None:
    """Take what a record says of a call that only now can be told, before the body runs."""
    own = target.collectors
    if not target.key:
        return
    if not target.scalars:
        # The body may change them.
        target.keep_arguments()
    if own is None:
        return
    target.said = inherited(blocks)
    every = configured()
    target.asked = every | own if own.by_name else every
    found = {"": directory()}
    if 1 in target.asked.sees:
        found |= target.asked.collect(target.call, target.cache, (target.planned(),))
    target.before = found
    if not target.scalars:
        note_leaves(target)


def note_leaves(target: Target) -> None:
    """Take what the arguments are made of, if there is more to it than a record tells."""
    for item in target.items or ():
        if type(item[1]) not in SCALARS:
            break
    else:
        return
    # Most calls have scalars alone, and don't need it.
    from wellkept.runs.nearest import packed

    given = target.arguments()
    target.leaves = packed(given.items_given, given.shown)


def record(
    target: Target,
    caller: Flight | None,
    began: Began,
    call: Call | None,
    error: BaseException | None = None,
) -> None:
    """Record a computation or a failure in the run that is open here, if any.

    Args:
        caller: the computation that made the call.
        call: as it was kept; None: it was not.
        error: what the body raised.
    """
    into = recorder()
    if into is None:
        return
    noted: Any = None
    if call is not None:
        noted = call.arguments
    elif target.key:
        try:
            noted = target.arguments()
        except Exception:  # noqa: BLE001  the body may have changed one into what has no identity
            pass
    given = noted if type(noted) is Arguments else Arguments((), bool)
    function, code = target.identity()
    event = Event(
        outcome="computed" if error is None else "failed",
        function=function,
        key=target.key.hex() or None,
        result=None if call is None else str(call.result),
        at=time.time(),
        seconds=seconds(began) if call is None else call.seconds,
        parent=None if caller is None or caller.key is None else caller.key.hex(),
        code=code,
        arguments={name: raw.hex() for name, _, raw in given.items_given},
        error=None if error is None else type(error).__qualname__,
        shown={name: value for name, value, _ in given.items_given if given.shown(value)}
        if call is None
        else {},
    )
    into.put(event)


# -- keeping what a body gave ---------------------------------------------------------------------


def store(
    target: Target,
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
    took = target.took or time.perf_counter() - began[1]
    options = target.options
    try:
        future = type(result) is Done
        asked = result.value if future else result[0] if state == "items" else result
        if options.when is not None and when and not _wanted(options.when, asked):
            note_trouble(target.key, "declined", "")
            return None
        codec = "pickle" if future or state == "failed" else options.codec
        given = asked[0] if state == "failed" else asked
        metadata = metadata_of(target, caller, began, (took, state, given))
        call = target.keep(result, state, took, codec, metadata)
        if target.leaves is not None:
            target.cache.note(LEAVES + target.key.hex(), target.leaves)
    except Exception as error:
        if lost(target, error):
            raise
        return None
    if TROUBLES:
        TROUBLES.pop(target.key, None)
    if REFRESHING and call is not None and (block := refreshing()) is not None:
        block.computed(target.key, call.created)
    return call


def _wanted(when: Callable[[Any], bool], result: Any) -> bool:
    try:
        return bool(when(result))
    except Exception as error:
        raise EncodeError(f"when= raised {type(error).__name__}: {error}") from error


def metadata_of(
    target: Target, caller: Flight | None, began: Began, ended: tuple[float, str, Any]
) -> Metadata | None:
    """What a call's record says of how it came to be; None: nothing is to be said.

    Args:
        ended: what the body took, the state of the record, and what the body gave.
    """
    cache = target.cache
    own = [] if target.output is None else [target.output.text(cache)]
    if target.options.cost:
        own.append(_cost(target, ended[2]))
    output = ",".join(filter(None, own))
    if target.collectors is None:
        return Metadata(f"{{{output}}}") if output else None
    text = f"{taken(began)},{target.facts()}{target.before.get('', '')}"
    if output:
        text = f"{text},{output}"
    if caller is not None and caller.key is not None:
        text = f'{text},"parent":"{caller.key.hex()}"'
    said = target.said
    if OPEN and (into := recorder()) is not None:
        text = f'{text},"run":"{into.record.id}"'
        if into.record.tags:
            said = {**(said or {}), "tags": {**into.record.tags, **(said or {}).get("tags", {})}}
    collectors = target.asked
    found = collectors.collect(target.call, cache) if collectors.by_name else {}
    if len(target.before) > 1:
        found |= {name: part for name, part in target.before.items() if name}
    if 2 in collectors.sees:
        took, state, result = ended
        done = target.planned()._replace(seconds=took, state=state)
        found |= collectors.collect(target.call, cache, (done, result))
    if said:
        # What a block says is nearer than what is said of a function or of all.
        known = json.loads(found.get("tags", "{}"))
        found |= {name: json.dumps(part) for name, part in said.items() if name != "tags"}
        if "tags" in said:
            found["tags"] = json.dumps({**known, **said["tags"]})
    for name, part in found.items():
        text = f"{text},{json.dumps(name)}:{part}"
    return Metadata(f"{{{text}}}")


def _cost(target: Target, result: Any) -> str:
    """What a computation cost besides time, as a member of a JSON object."""
    found: dict[str, float] = {}
    for name, of in target.options.cost.items():
        try:
            amount = float(of(result))
            if not 0 <= amount < math.inf:
                raise ValueError(f"{amount} is no amount")  # noqa: TRY301  told below
            found[name] = amount
        except Exception as error:  # noqa: BLE001  it is anybody's code
            target.warn(f"cost {name}", f"cost= of {name!r} failed and is left out: {error!r}")
    if found:
        # Where none costs anything, nobody has to look through all calls to find that out.
        note_once(target.cache, COSTS, b"1")
    return f'"cost":{json.dumps(found)}' if found else ""


def store_error(
    target: Target, error: BaseException, caller: Flight | None, began: Began
) -> Call | None:
    """Keep what a body raised, as `store` does with a result."""
    chain = _chained(target, error)
    return None if chain is None else store(target, chain, caller, began, "failed", False)


def _chained(target: Target, error: BaseException) -> list[BaseException] | None:
    try:
        return chained(error)
    except Exception as cause:
        if target.broke(EncodeError(f"a {type(error).__qualname__} can't be kept: {cause}")):
            raise
        return None


def chained(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, if they can be made again.

    Raises:
        Exception: what making one from its arguments raised.
    """
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        # `copy.copy` would ask tblib, see `wellkept.codecs.pickled`.
        made = link.__reduce_ex__(4)
        if not isinstance(made, str):
            made[0](*made[1])
    return chain


def follow_up(
    target: Target,
    future: Future[Any],
    caller: Flight | None,
    began: Began,
    threads: Threads | None,
) -> None:
    """Keep what a body returned a future of, when it is there.

    Args:
        threads: see `stayed`.
    """

    def keep(done: Done) -> None:
        call, error = None, done.error
        try:
            if not stayed(target, threads):
                pass
            elif error is None:
                call = store(target, done, caller, began)
            elif isinstance(error, target.options.errors) and _chained(target, error) is not None:
                call = store(target, done, caller, began, when=False)
        finally:
            if OPEN:
                record(target, caller, began, call, error)

    follow((id(target.cache.backend.locks), target.key), future, keep, Origin.here())
