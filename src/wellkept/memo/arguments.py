"""What is kept of a call beside its result: its arguments, and the elements of the result."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from wellkept.caches.by_hand import put_argument, put_element
from wellkept.errors import Undigestible
from wellkept.hashing import Receiver, digest_bytes
from wellkept.records import Digest, is_short


def keep(target: Any) -> None:
    """Keep the arguments of a call, a `Target`, that its record does not show. One that can't be kept is a
    warning.
    """
    for name, value, raw in target.all_items():
        if name[:1] == "@" or is_short(value) or type(value) is Digest:
            continue

        def same(digest: bytes, value: Any = value, raw: bytes = raw) -> bool:
            return raw in (digest, *_otherwise(value))

        try:
            put_argument(target.cache, value, raw, same)
        except Exception as error:  # noqa: BLE001  it pickles anything, and the body is to run whatever comes
            target.warn("arguments", f"the argument {name} is not kept, only its digest: {error}")


def _otherwise(value: Any) -> Iterator[bytes]:
    """The digests that an argument has where the order of dicts counts, and as the receiver of a method."""
    for one in (value, Receiver(value)):
        for ordered in (False, True):
            with contextlib.suppress(Undigestible):
                yield digest_bytes(one, ordered=ordered)


_MOST = 10_000  # elements of one result


def keep_elements(target: Any, of: Digest, result: Any, depth: int) -> None:
    """Keep what the lists, tuples and dicts of a result hold, at any depth, under their own digests.

    Numbers, truths and None stay where they are, and so do values fewer than `depth` steps above the
    innermost ones. What can't be kept by itself is a warning.
    """
    left = _MOST

    def visit(value: Any, outermost: bool = False) -> int:
        """Keep it and what it holds; how far the innermost of it is below."""
        nonlocal left
        held: Any = ()
        if type(value) in (list, tuple):
            held = value
        elif type(value) is dict:
            held = value.values()
        below = max((visit(one) + 1 for one in held), default=0)
        if not outermost and below >= depth and type(value) not in _PLAIN and left:
            left -= 1
            put_element(target.cache, of, value, digest_bytes(value))
        return below

    try:
        visit(result, True)
    except Exception as error:  # noqa: BLE001  as above; the result is kept
        target.warn("elements", f"an element of a result is not kept by itself: {error}")
    if not left:
        target.warn(
            "elements", f"of a result no more than {_MOST:,} elements are kept by themselves"
        )


_PLAIN = (int, float, complex, bool, type(None))
