"""What is kept of a call beside its result: the arguments themselves; and a result that a program has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from wellkept.caches.by_hand import put_argument
from wellkept.errors import KeptError, StoreError, Undigestible
from wellkept.hashing import Receiver, digest_bytes
from wellkept.memo.target import Target, metadata_of, prepare
from wellkept.records import Call, Digest, is_short
from wellkept.runs.collectors import begin
from wellkept.runs.recorder import LEAVES
from wellkept.stores.backend import inner


def keep(target: Target) -> None:
    """Keep the arguments of a call that its record does not show. One that can't be kept is a warning."""
    for name, value, raw in target.all_items():
        if name[:1] == "@" or is_short(value) or type(value) is Digest:
            continue

        def same(digest: bytes, value: Any = value, raw: bytes = raw) -> bool:
            return raw in (digest, *_otherwise(value))

        try:
            put_argument(target.cache, value, raw, same)
        except (KeptError, OSError) as error:
            target.warn("arguments", f"the argument {name} is not kept, only its digest: {error}")


def _otherwise(value: Any) -> Iterator[bytes]:
    """The digests that an argument has where the order of dicts counts, and as the receiver of a method."""
    for one in (value, Receiver(value)):
        for ordered in (False, True):
            with contextlib.suppress(Undigestible):
                yield digest_bytes(one, ordered=ordered)


def put(target: Target, result: Any, state: str) -> Call:
    """Keep what a program says a call gives; its record, which costs nothing to compute.

    Raises:
        EncodeError, StoreError: it can't be kept.
    """
    inner(target.cache.backend, write=True)
    began = begin()
    prepare(target)
    asked = result[0] if state == "items" else result
    said = metadata_of(target, None, began, (0.0, state, asked))
    call = target.keep(result, state, 0.0, target.options.codec, said)
    if call is None or target.cache.calls.get(call.key) is None:
        raise StoreError(f"{target.cache} takes no such call of {target.title}")
    if target.leaves is not None:
        target.cache.note(LEAVES + target.key.hex(), target.leaves)
    return call
