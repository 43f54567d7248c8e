"""Measuring what a call of a kept function costs as a hit, against computing it."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wellkept.codecs import decoder
from wellkept.errors import KeptError, NotKept, Undigestible
from wellkept.hashing import digest_bytes
from wellkept.memo.explaining import explain
from wellkept.memo.flow import Given, Located
from wellkept.records import Call
from wellkept.runs.explanation import data_size
from wellkept.runs.profile import Profile, measured
from wellkept.runs.table import duration

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept

__all__ = ["profile"]

_SLOW = 1e-3  # seconds of a look-up that is not that of a near store


def profile(kept: Kept[..., Any], values: tuple[Any, ...], given: Given) -> Profile:
    """See `Kept.profile`."""
    took = 0.0
    if not explain(kept, values).hit:
        if kept.awaits:
            raise NotKept(
                f"{kept.__qualname__}(…) is not kept, and a coroutine is computed by who awaits it: "
                "await the call once, then profile it"
            )
        start = perf_counter()
        kept.gather(*given)
        took = perf_counter() - start
    said = explain(kept, values)
    name = said.call
    if not said.hit:
        why = said.causes[0].text if said.causes else "it is not found again"
        advice = ["wellkept only adds to what computing takes here; f.explain(…) says more"]
        return Profile(call=name, recompute=took, unkept=why, advice=advice)
    found = kept.locate(values)
    call = None if found is None else found.cache.calls.get(found.key.hex())
    if found is None or call is None:  # somebody threw it away meanwhile
        return Profile(call=name, recompute=took, unkept="it was thrown away while it was measured")
    parts, memory = _parts(kept, found, values)
    made = Profile(
        call=name,
        recompute=call.seconds,
        parts=parts,
        memory=memory,
        size=call.size,
        uses=call.uses + found.cache._uses.get(found.key, 0),
    )
    made.advice = list(_advice(kept, found, call, made))
    return made


def _parts(
    kept: Kept[..., Any], found: Located, values: tuple[Any, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """What the parts of a hit take from the store, and from memory. Nothing is counted."""
    cache, backend = found.cache, found.cache.backend
    row = backend.fetch(found.key)
    if row is None or row.envelope is None:
        raise NotKept(f"{kept.__qualname__}(…) was thrown away while it was measured")

    def load() -> Any:
        payload, buffers = backend.load(row.envelope)
        return decoder(row.envelope.codec)(payload, buffers)

    parts = {
        "key": measured(lambda: kept.locator.items(values, found.values)),
        "look up": measured(lambda: backend.fetch(found.key)),
        "load": measured(load),
    }
    entry = cache.find(found.key)
    if entry is None or cache.fresh(found.key) is None:
        return parts, {}
    memory = {
        "key": measured(lambda: kept.locate(values)),
        "look up": measured(lambda: cache.find(found.key)),
        "load": measured(lambda: cache.value(found.key, entry)),
    }
    return parts, memory


def _advice(kept: Kept[..., Any], found: Located, call: Call, made: Profile) -> Iterator[str]:
    hit, most = made.hit or 0.0, made.dominating
    if not made.pays:
        yield (
            f"the body takes {duration(call.seconds)}: leave it as it is and keep what calls it, or "
            "have one call do more"
        )
    elif hit < 0.05 * call.seconds:
        return  # nothing that could be won would be felt
    if most == "key":
        name, seconds = _dearest(kept, found)
        if seconds > made.parts["key"] / 2:
            yield (
                f"the argument {name} takes {duration(seconds)} to digest: give its wellkept.Digest in its "
                "place, name what counts of it with key=, or leave it out with ignore="
            )
    elif most == "look up":
        if made.parts["look up"] > _SLOW:
            yield "the store is slow or far: put a near one before it, wellkept.Stack(near, far)"
    elif most == "load":
        yield (
            f"the result is {data_size(call.size)}: return less, or what loads without a copy, such as "
            "arrays and frames, which are mapped where the cache is a directory"
        )


def _dearest(kept: Kept[..., Any], found: Located) -> tuple[str, float]:
    """The argument whose digest takes longest."""
    best = "", 0.0
    for name, value, _ in kept.locator.all_items(found):
        try:
            took = measured(lambda value=value: digest_bytes(value))  # type: ignore[misc]  # bound now
        except (Undigestible, KeptError):  # a sentinel
            continue
        if took > best[1]:
            best = name, took
    return best
