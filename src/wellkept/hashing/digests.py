"""The digest of a value, by the fast walk or by the reference where that one gives up; keys of calls."""

from __future__ import annotations

import gc
import marshal
from collections.abc import Iterable
from marshal import dumps
from typing import Any

from blake3 import blake3

from wellkept.hashing.buffers import Known
from wellkept.hashing.encoding import ATOMS, Cyclic, reference_digest
from wellkept.hashing.fast import SIZED, Task, fast_digest
from wellkept.hashing.functions import begin
from wellkept.records import SCHEME, Digest

# What begins a tagged tuple; see the digest spec.
_ESCAPE = StopIteration


def call_key(function: str, code: str, arguments: Iterable[tuple[str, bytes]]) -> bytes:
    """Return the 32 bytes that name a call.

    Args:
        function: its identity.
        code: its code identity or version, as a call record has it.
        arguments: names and digests (32 bytes), in any order.
    """
    flat: list[Any] = [_ESCAPE, "call", SCHEME, function, code]
    for pair in sorted(arguments):
        flat += pair
    return blake3(marshal.dumps(tuple(flat), 2)).digest()


def call_keys(
    function: str,
    code: str,
    arguments: Iterable[tuple[str, bytes]],
    name: str,
    digests: Iterable[bytes],
) -> list[bytes]:
    """Return the keys of calls that differ in one argument.

    Args:
        arguments: as `call_key` takes them, of any of the calls.
        name: of the argument in which they differ.
        digests: of the values that this has, one a call.
    """
    flat: list[Any] = [_ESCAPE, "call", SCHEME, function, code]
    for pair in sorted(arguments):
        flat += pair
    at = flat.index(name, 5) + 1
    found = []
    for raw in digests:
        flat[at] = raw
        found.append(blake3(marshal.dumps(tuple(flat), 2)).digest())
    return found


def default_digest(name: str) -> bytes:
    """Return what stands for a parameter's own default where that is a bare `object()`, which has no digest.

    Args:
        name: the parameter's.
    """
    return blake3(marshal.dumps((_ESCAPE, "default", name), 2)).digest()


# Parts of a root from which the collector is paused for the walk.
_PAUSE = 1000
_SIZED_ATOMS = frozenset({str, bytes})
_SHORT = 4096
_ROWS = frozenset({list, tuple})
_SHORT_ATOMS = ATOMS - {bytes, str}


def digest_bytes(
    value: Any, known: Known | None = None, label: str = "value", *, ordered: bool = False
) -> bytes:
    """Return the digest of a value, 32 raw bytes.

    Args:
        value: anything; it is only read.
        known: (address, bytes) -> BLAKE3 of that memory, asked before a buffer is hashed.
        label: what an error calls the value.
        ordered: whether the order of the plain dicts in it counts.

    Raises:
        Undigestible: a part has no identity; the message names the path to it.
    """
    kind = type(value)
    if kind is Digest:
        return value.raw  # type: ignore[no-any-return]
    if kind in ATOMS and (kind not in _SIZED_ATOMS or len(value) < _SHORT):
        # Most arguments are short atoms: they need no walk, and no second thread.
        return blake3(dumps(value, 2)).digest()
    if kind in _ROWS and len(value) < _PAUSE and _SHORT_ATOMS.issuperset(map(type, value)):
        # What `fast_digest` writes of a row of atoms is the row.
        return blake3(dumps(value, 2)).digest()
    begin()
    if ordered:
        return _by_reference(value, known, label, ordered)
    # A walk makes many tuples and no garbage; each some hundreds would start a collection.
    pause = kind in SIZED and len(value) >= _PAUSE and gc.isenabled()
    try:
        # In here, as an interrupt may come right after it.
        if pause:
            gc.disable()
        return fast_digest(value, Task(known))
    except Exception:  # noqa: BLE001  Unfit, Refused, or what a reduction raised: see the reference
        pass
    finally:
        if pause:
            gc.enable()
    return _by_reference(value, known, label, ordered)


def _by_reference(value: Any, known: Known | None, label: str, ordered: bool) -> bytes:
    try:
        return reference_digest(value, known, label, ordered)
    except Cyclic:
        from wellkept.hashing.cycles import cyclic_digest

        return cyclic_digest(value, known, label, ordered)
