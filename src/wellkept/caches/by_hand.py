"""What a program keeps, finds and names by hand: values and arguments, records, and short digests.

A value is the result of a record of its own, so whatever is done with the whole of a cache (limits,
transfers, collections, checks) goes for it as for any other result.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from wellkept.codecs import decode
from wellkept.conditions import Condition, Equal, Is, Query
from wellkept.errors import AmbiguousDigest, ConfigError, NotKept, StoreError
from wellkept.hashing import digest_bytes
from wellkept.hashing.digests import call_key
from wellkept.records import (
    ARGUMENT,
    ELEMENT,
    PARTS,
    VALUE,
    Argument,
    Arguments,
    Call,
    Digest,
    is_short,
)
from wellkept.stores.backend import Backend, inner

_STATES = ("not kept", "done", "failed", "items")


def key_of(function: str, digest: bytes) -> bytes:
    """The key of the record that has the value of a digest as its result."""
    return call_key(function, "none", [("value", digest)])


def put(cache: Any, value: Any, codec: str) -> Digest:
    """See `Cache.put`."""
    inner(cache.backend, write=True)
    raw = digest_bytes(value, label="value")
    key = key_of(VALUE, raw)
    if cache.find(key) is None:
        _keep(cache, key, VALUE, value, raw, codec)
        _check(cache, key)
    return Digest.of(raw)


def put_argument(cache: Any, value: Any, raw: bytes, same: Callable[[bytes], bool]) -> None:
    """Keep the value of an argument, unless it is kept.

    Args:
        raw: its digest in the record of the call.
        same: whether a digest of the value now says that it is still the one of `raw`.

    Raises:
        EncodeError: it can't be encoded.
        StoreError: it can't be written.
    """
    key = key_of(ARGUMENT, raw)
    if cache.find(key) is None and same(digest_bytes(value)):
        _keep(cache, key, ARGUMENT, value, raw, "pickle")


def put_element(cache: Any, of: Digest, value: Any, raw: bytes) -> None:
    """Keep a part of a call's result; raises as `put_argument`.

    Args:
        of: the key of the call.
        raw: the digest of the value.
    """
    key = call_key(ELEMENT, "none", [("of", of.raw), ("value", raw)])
    if cache.find(key) is None:
        items: Any = [("of", None, of.raw), ("value", None, raw)]
        given = Arguments(items, lambda _: False)
        cache.keep(key, value, function=ELEMENT, code="none", arguments=given)


def _keep(cache: Any, key: bytes, function: str, value: Any, raw: bytes, codec: str) -> None:
    given = Arguments([("value", value, raw)], is_short)
    cache.keep(key, value, function=function, code="none", arguments=given, codec=codec)


def load(cache: Any, digest: str) -> Any:
    """See `Cache.load`."""
    full = expand(cache, digest, cache.values)
    value = cache.values.get(full)
    if value is not None:
        return decode(value)
    # Where the order of dicts counts, an argument has another digest than its value.
    key = key_of(ARGUMENT, full.raw)
    entry = cache.find(key)
    if entry is None:
        raise NotKept(f"no value {digest} is kept in {cache}")
    return cache.value(key, entry, hit=False)


def save(cache: Any, call: Call, result: tuple[Any, ...], codec: str) -> Call:
    """See `Cache.save`."""
    inner(cache.backend, write=True)
    if not isinstance(call, Call) or len(result) > 1:
        raise ConfigError(f"save() takes a wellkept.Call and its result, not {call!r:.80}")
    new = _completed(call)
    if result:
        given: Any = result[0]
        if new.state == "items":
            given = [list(given), None]
        elif new.state == "failed":
            if not isinstance(given, BaseException):
                raise ConfigError(
                    f"the result of a failed call is its exception, not {given!r:.80}"
                )
            given = [given]
        about = (new.function, new.code, new.arguments, new.state, new.seconds)
        made, value = cache.made(new.key.raw, given, *about, codec=codec, metadata=new.metadata)
        new = new._replace(result=made.result, size=made.size)
    else:
        there = cache.values.get(new.result)
        if there is None:
            raise NotKept(f"no value {new.result} is kept in {cache}: give the result too")
        value, given = there, decode(there)
        new = new._replace(size=value.size)
    cache.keep_all(((new.key.raw, given, new, value),))
    _check(cache, new.key.raw)
    return new


def _completed(call: Call) -> Call:
    """A record with the key that follows, and in the form that stores take."""
    if not all(isinstance(text, str) and text for text in (call.function, call.code)):
        raise ConfigError(f"a record has the names of a function and of its code, not {call!r:.80}")
    if call.state not in _STATES:
        raise ConfigError(
            f"the state of a record is one of {', '.join(_STATES)}, not {call.state!r}"
        )
    try:
        arguments = {name: _argument(name, one) for name, one in call.arguments.items()}
        metadata = json.loads(json.dumps(dict(call.metadata), allow_nan=False))
        seconds, created = float(call.seconds), float(call.created or time.time())
        expires = None if call.expires is None else float(call.expires)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"a record can't be kept as it is: {error}") from error
    pairs = [(name, argument.digest.raw) for name, argument in arguments.items()]
    return Call(
        key=Digest.of(call_key(call.function, call.code, pairs)),
        function=call.function,
        code=call.code,
        arguments=arguments,
        result=Digest(call.result),
        state="done" if call.state == "not kept" else call.state,
        created=created,
        seconds=seconds,
        expires=expires,
        metadata=metadata,
    )


def _argument(name: str, given: Any) -> Argument:
    if not isinstance(name, str):
        raise ConfigError(f"the name of an argument is text, not {name!r:.80}")
    if isinstance(given, Argument):
        # What a record shows is what its digest follows from.
        return _argument(name, given.value) if given.shown else Argument(Digest(given.digest))
    digest = Digest.of(digest_bytes(given, label=f'arguments["{name}"]'))
    return Argument(digest, given, True) if is_short(given) else Argument(digest)


def _check(cache: Any, key: bytes) -> None:
    """See that a cache took what was kept by hand: a filtered one takes not all."""
    if cache.calls.get(key.hex()) is None:
        raise StoreError(f"{cache} takes no such record")


# -- parts that no call has any more --------------------------------------------------------------


def parts(backend: Backend) -> list[Call]:
    """The records of arguments and of elements of results.

    Raises:
        StoreError: the store can't be read.
    """
    found: list[Call] = []
    for part in PARTS:
        codes = backend.codes(part)
        # Where that is told without a look at any call.
        if codes is None or any(True for _ in codes):
            found += backend.find(Query((Condition("function", (), Equal(part)),)))
    return found


def unneeded(backend: Backend, before: float) -> list[str]:
    """The keys of the parts that were kept before some time and belong to no call; raises as `parts`."""
    old = [call for call in parts(backend) if call.created < before]
    if not old:
        return []
    given: set[Digest] | None = None
    if not backend.indexed:
        calls = [call for call in backend.find(Query()) if call.function not in PARTS]
        given = {argument.digest for call in calls for argument in call.arguments.values()}
    gone: list[str] = []
    for call in old:
        if call.function == ELEMENT:
            there = backend.calls.get(call.arguments["of"].digest) is not None
        elif given is None:
            there = _is_given(backend, call.arguments["value"].digest)
        else:
            there = call.arguments["value"].digest in given
        if not there:
            gone.append(call.key)
    return gone


def _is_given(backend: Backend, digest: Digest) -> bool:
    found = backend.find(Query((Condition("given", (), Is(digest)),)))
    return any(call.function not in PARTS for call in found)


# -- short digests --------------------------------------------------------------------------------


def expand(cache: Any, prefix: str, store: Any) -> Digest:
    """See `Cache.expand`."""
    text = prefix.lower() if isinstance(prefix, str) else ""
    if not 4 <= len(text) <= 64 or not set(text) <= set("0123456789abcdef"):
        raise NotKept(f"{str(prefix)[:80]!r} is no digest: 4 to 64 hex digits")
    if len(text) == 64:
        return Digest(text)
    found = list(islice(store.keys(text), 4))
    if not found:
        raise NotKept(f"nothing that begins with {prefix} is kept in {cache}")
    if len(found) > 1:
        raise AmbiguousDigest(f"{prefix} fits several: {', '.join(found[:3])}; give more digits")
    return Digest(found[0])


def shrink(cache: Any, given: str | Iterable[str], store: Any) -> list[str]:
    """See `Cache.shrink`; a list of one digest too."""
    digests = [given] if isinstance(given, str) or not isinstance(given, Iterable) else given
    full = [expand(cache, digest, store) for digest in digests]
    # Where all begin alike, only that part is read.
    starts = {digest[:4] for digest in full}
    keys = sorted(set(store.keys(starts.pop() if len(starts) == 1 else "")))
    places = {key: at for at, key in enumerate(keys)}
    found = []
    for digest in full:
        if digest not in places:
            raise NotKept(f"{digest} is not kept in {cache}")
        at = places[digest]
        # Of all others, those beside it have most in common with it.
        beside = (keys[one] for one in (at - 1, at + 1) if 0 <= one < len(keys))
        common = max((_common(digest, other) for other in beside), default=0)
        found.append(digest[: max(4, common + 1)])
    return found


def _common(one: str, other: str) -> int:
    return next((i for i in range(64) if one[i] != other[i]), 63)
