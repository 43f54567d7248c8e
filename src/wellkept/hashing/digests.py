"""The digest of a value: by the fast walk, and by the reference where that one gives up."""

from __future__ import annotations

import gc
from marshal import dumps
from typing import Any

from blake3 import blake3

from ..records import Digest
from .buffers import Known
from .definitions import begin
from .encoding import ATOMS, Cyclic, reference_digest
from .fast import SIZED, Task, fast_digest

__all__ = ["digest_bytes"]

_PAUSE = 1000
"""Parts of a root from which the collector is paused for the walk."""
_SIZED_ATOMS = frozenset({str, bytes})
_SHORT = 4096


def digest_bytes(
    value: Any, known: Known | None = None, label: str = "value", *, ordered: bool = False
) -> bytes:
    """The digest of a value, 32 raw bytes.

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
        return blake3(dumps(value, 2)).digest()  # most arguments: no walk, and no second thread
    begin()
    if ordered:
        return _by_reference(value, known, label, ordered)
    # A walk makes many tuples and no garbage; each some hundreds would start a collection.
    pause = kind in SIZED and len(value) >= _PAUSE and gc.isenabled()
    if pause:
        gc.disable()
    try:
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
        from .cycles import cyclic_digest

        return cyclic_digest(value, known, label, ordered)
