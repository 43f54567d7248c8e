"""A query of one kept function's calls: its arguments by their names in the records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import Parameter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from wellkept.codecs import decoder
from wellkept.conditions import ANY, Condition, Equal, Is, Query, Span
from wellkept.errors import ConfigError, KeptError, NotKept, StoreError, Undigestible
from wellkept.hashing import Receiver, digest_bytes
from wellkept.hashing.digests import default_digest
from wellkept.memo.former import changed, served
from wellkept.memo.target import TROUBLES, Given, Target, recorded
from wellkept.query import Matches, operators
from wellkept.query.operators import TESTS
from wellkept.readable import ago, data_size, duration
from wellkept.records import Call, Digest
from wellkept.runs.explain import (
    Cause,
    Explanation,
    among_the_kept,
    kept_of,
    of_looks,
    of_the_cache,
    of_the_gone,
    states_of,
)
from wellkept.runs.listeners import missed, worth_a_cause
from wellkept.runs.nearest import Asked, Look, layers, look
from wellkept.runs.profile import Profile, measured
from wellkept.stores.parts import opened

if TYPE_CHECKING:
    from wellkept.memo.kept import Kept
    from wellkept.memo.kept_target import KeptTarget


_BY_PLACE = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)


def query(kept: Kept[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Matches:
    """See `Kept.query`."""
    conditions = [Condition("function", (), Equal(kept.function_name))]
    if kept.options.replicate:
        # So that it throws away no other's results. The function itself finds those of all of them.
        conditions.append(operators.argument("@replicate", kept.options.replicate))
    for name, value in _named(kept, args, kwargs):
        condition = _special(kept, name, value) or operators.argument(
            name, _in_order(kept, name, value)
        )
        if isinstance(condition.test, Span) and recorded(kept.options) == "digests":
            raise ConfigError(
                f"the argument {name} can't be compared: {kept.__qualname__} was kept with "
                "arguments='digests', so no record shows it"
            )
        conditions.append(condition)
    return Matches(kept.cache, Query(tuple(conditions)))


def _named(
    kept: Kept[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterable[tuple[str, Any]]:
    """Names, as `Binder.items` gives them to the arguments of a call, and what is wanted of each."""
    binder = kept._binder
    if kept.options.key is not None:
        if args or not set(kwargs) <= {"key"}:
            raise ConfigError(
                f"{kept.__qualname__} is kept by what its key= makes of the arguments: ask for that "
                "alone, key=…"
            )
        return list(kwargs.items())
    parameters = binder.signature.parameters
    positions = [p.name for p in parameters.values() if p.kind in _BY_PLACE]
    if len(args) > len(positions) and binder.var_args is None:
        raise ConfigError(
            f"{kept.__qualname__} takes {len(positions)} arguments by position, and not {len(args)}"
        )
    found = [
        (name, value)
        for name, value in zip(positions, args, strict=False)
        if not (value is ANY and name in binder.ignore)
    ]
    if len(args) > len(positions):
        found.append((f"*{binder.var_args}", args[len(positions) :]))
    given = {name for name, _ in found}
    for name, value in kwargs.items():
        known = name in parameters and name != binder.var_kwargs
        if name in given:
            raise ConfigError(f"the argument {name} of {kept.__qualname__} is said twice")
        if not known and binder.var_kwargs is None and name.lstrip("*") not in parameters:
            there = [p for p in parameters if p not in binder.ignore]
            raise ConfigError(
                f"{kept.__qualname__} has no argument {name!r}; it has {', '.join(there) or 'none'}. "
                "What else calls are chosen by goes into .where(…)"
            )
        found.append((f"*{name}" if name == binder.var_args else name, value))
    for name, _ in found:
        if name in binder.ignore:
            raise ConfigError(
                f"the argument {name} of {kept.__qualname__} is ignored, so no call has it"
            )
    return found


def _in_order(kept: Kept[..., Any], name: str, value: Any) -> Any:
    """A value by its digest, where the order of dicts in it counts for the function."""
    if not kept._binder.in_order(name) or value is ANY or isinstance(value, (*TESTS, Digest)):
        return value
    return Digest.of(digest_bytes(value, label=f'arguments["{name}"]', ordered=True))


def _special(kept: Kept[..., Any], name: str, value: Any) -> Condition | None:
    """The object that a method is called on counts without the code of its class, and a default that
    says that nothing was given by its name.
    """
    if name == next(iter(kept._binder.names), "") and kept.locator.coding().receives((value,)):
        raw = digest_bytes(Receiver(value), ordered=kept._binder.in_order(name))
        return Condition("argument", (name,), Is(Digest.of(raw)))
    if type(value) is object and value is kept._binder.sentinels.get(name):
        return Condition("argument", (name,), Is(Digest.of(default_digest(name))))
    return None


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
    if not _served(looks) and not found.settled():
        # As a call does: what the code rests on has changed where no hit looks, so its key is another.
        again = kept.locate(values)
        if again is not None:
            found, looks = again, _looks(again)
    return _explained(kept, found, looks)


def _unkept(kept: Kept[..., Any], call: str, cause: Cause) -> Explanation:
    function, code = kept.locator.identity()
    return Explanation(call=call, function=function, code=code, outcome="unkept", causes=(cause,))


def _looks(found: KeptTarget) -> list[Look]:
    return [look(layer, found.key) for layer in layers(found.cache)]


def _served(looks: Sequence[Look]) -> Look | None:
    """What a call would find: the nearest that has a result, and that it has not expired."""
    first = next((one for one in looks if one.state in _FOUND), None)
    return first if first is not None and first.state == "kept" else None


def _explained(kept: Kept[..., Any], found: KeptTarget, looks: list[Look]) -> Explanation:
    call = f"{kept.__qualname__}{found.shown()}"
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
    if first is not None and first.state == "expired" and first.call is not None:
        late = time.time() - (first.call.expires or 0.0)
        if late < kept.options.stale:
            causes = of_looks(looks)
            return Explanation(outcome="stale", kept=there, causes=tuple(causes), **about)
    causes = why_missed(found, looks)
    if kept.options.code == "warn" and (old := _formerly(found)) is not None:
        there = kept_of(old, found.cache)
        how = changed(found, old.call.key.raw) if old.call is not None else None
        causes = [*([] if how is None else [how]), *causes[1:]]
        return Explanation(outcome="outdated", kept=there, causes=tuple(causes), **about)
    return Explanation(outcome="miss", kept=there, causes=tuple(causes), **about)


def _formerly(found: KeptTarget) -> Look | None:
    """What would be served of the former code: the latest that has a result."""
    looks = [look(layer, key) for key in served(found) for layer in layers(found.cache)]
    there = [one for one in looks if one.state == "kept" and one.call is not None]
    return max(there, key=lambda one: one.call.created if one.call else 0.0, default=None)


def why_missed(found: Target, looks: Sequence[Look]) -> list[Cause]:
    """Why a call is a miss, the decisive cause first."""
    there = any(one.call is not None and one.state != "hidden" for one in looks)
    causes = of_looks(looks) + of_the_cache(found.cache) + _troubles(found.key)
    if not there and not any(cause.kind in _DECISIVE for cause in causes):
        causes += of_the_gone((one.layer for one in looks), found.key)
    if not there and not any(cause.kind in _DECISIVE for cause in causes):
        asked = Asked.of(*found.identity(), found.arguments())
        causes += among_the_kept(layers(found.cache), asked, found.parts)
    return causes


def log_miss(found: Target) -> None:
    """Log why a call whose body has just run was a miss. Its result is not kept yet.

    Raises:
        KeptError: that can't be found out.
    """
    function, code = found.identity()
    causes, kept = None, 0
    # Seeking it reads hundreds of records, so a fast body's is sought only for those who asked for this
    # logger, and not for all who have the root logger at INFO.
    if worth_a_cause(found.bodies.spent):
        looks = [look(layer, found.key) for layer in layers(found.cache)]
        causes = why_missed(found, looks)
        kept = found.cache.query(function=function).count()
    missed(function, found.key.hex(), code, found.bodies.spent, causes, kept)


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
        "outdated": "its body took what the former code of a function gave",
    }[trouble.kind]
    text = f"it was computed {ago(trouble.at)}, but {said}"
    data = {"at": trouble.at, "message": trouble.text}
    return [Cause(trouble.kind, f"{text}: {trouble.text}" if trouble.text else text, data=data)]


# Seconds of a look-up that is not that of a near store.
_SLOW = 1e-3


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
    # It was thrown away meanwhile.
    if found is None or call is None:
        return Profile(call=name, recompute=took, unkept="it was thrown away while it was measured")
    parts, memory = _timed(kept, found, values)
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


def _timed(
    kept: Kept[..., Any], found: KeptTarget, values: tuple[Any, ...]
) -> tuple[dict[str, float], dict[str, float]]:
    """What the parts of a hit take from the store, and from memory. Nothing is counted."""
    cache, backend = found.cache, found.cache.backend
    row = backend.fetch(found.key)
    if row is None or row.envelope is None:
        raise NotKept(f"{kept.__qualname__}(…) was thrown away while it was measured")
    envelope = row.envelope

    def load() -> Any:
        payload, buffers = opened(backend.load, envelope)
        return decoder(envelope.codec)(payload, buffers)

    parts = {
        "key": measured(lambda: kept.locator.items(values, found.values)),
        "lookup": measured(lambda: backend.fetch(found.key)),
        "load": measured(load),
    }
    entry = cache.find(found.key)
    if entry is None or cache.fresh(found.key) is None:
        return parts, {}
    memory = {
        "key": measured(lambda: kept.locate(values)),
        "lookup": measured(lambda: cache.find(found.key)),
        "load": measured(lambda: cache.value(found.key, entry)),
    }
    return parts, memory


def _advice(kept: Kept[..., Any], found: KeptTarget, call: Call, made: Profile) -> Iterator[str]:
    hit, most = made.hit or 0.0, made.dominating
    if not made.pays:
        yield (
            f"the body takes {duration(call.seconds)}: leave it as it is and keep what calls it, or "
            "have one call do more"
        )
    elif hit < 0.05 * call.seconds:
        # Nothing that could be won would be felt.
        return
    if most == "key":
        name, seconds = _dearest(kept, found)
        if seconds > made.parts["key"] / 2:
            yield (
                f"the argument {name} takes {duration(seconds)} to digest: give its wellkept.Digest in its "
                "place, name what counts of it with key=, or leave it out with ignore="
            )
    elif most == "lookup":
        if made.parts["lookup"] > _SLOW:
            yield "the store is slow or far: put a near one before it, wellkept.Stack(near, far)"
    elif most == "load":
        yield (
            f"the result is {data_size(call.size)}: return less, or what loads without a copy, such as "
            "arrays and frames, which are mapped where the cache is a directory"
        )


def _dearest(kept: Kept[..., Any], found: KeptTarget) -> tuple[str, float]:
    """The argument whose digest takes longest."""
    best = "", 0.0
    for name, value, _ in found.all_items():
        try:
            took = measured(lambda value=value: digest_bytes(value))  # type: ignore[misc]  # bound now
        except (Undigestible, KeptError):
            # A sentinel has no digest.
            continue
        if took > best[1]:
            best = name, took
    return best
