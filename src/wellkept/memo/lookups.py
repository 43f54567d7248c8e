"""Many calls looked up at once: as few trips to the store as it can make of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from wellkept.caches import Cache
from wellkept.caches.many import find_many
from wellkept.caches.tier import FAILED, Entry
from wellkept.errors import DecodeError
from wellkept.memo.flow import MISSING, Given, Located, Raise, look

if TYPE_CHECKING:
    from wellkept.memo.bound import BoundCall
    from wellkept.memo.kept import Kept

__all__ = ["Looked", "look_up", "look_up_all"]


class Looked(NamedTuple):
    """What a look-up found.

    Attributes:
        found: where the call is kept; None: nowhere, or the cache has failed.
        open: reads the kept result, or makes the call as it is told if that is damaged; None: a miss.
    """

    found: Located | None
    open: Callable[[Callable[[], Any]], Any] | None


def look_up(kept: Kept[..., Any], given: Given) -> tuple[Located | None, Any]:
    """Where one call is kept, and the kept result or `MISSING`; a failure comes as a `Raise`.

    What goes wrong is nobody's trouble yet: whoever makes the call meets it again.

    Raises:
        TypeError: the function takes no such arguments.
    """
    values = kept._values(*given)
    try:
        found = kept.locate(values)
        if found is None:
            return None, MISSING
        result = look(kept, found.cache, found.key, given)
        if result is MISSING and not kept.locator.settled(found):
            found = kept.locate(values)
            result = MISSING if found is None else look(kept, found.cache, found.key, given)
    except Exception:  # noqa: BLE001  see above
        return None, MISSING
    return found, result


def look_up_all(calls: Iterable[BoundCall[Any]]) -> list[Looked]:
    """The same of many calls of one function, without reading any result."""
    where: list[Located | None] = []
    keys: dict[int, tuple[Cache, list[bytes]]] = {}
    for call in calls:
        kept = call.kept
        found = None
        try:
            if not where and (coding := kept.locator.coding()).all_same and not coding.all_same():
                kept.locator.renew()
            found = kept.locate(kept._values(call.args, call.kwargs))
        except Exception:  # noqa: BLE001  as above
            pass
        where.append(found)
        if found is not None:
            keys.setdefault(id(found.cache), (found.cache, []))[1].append(found.key)
    entries: dict[int, dict[bytes, Entry]] = {}
    for cache, wanted in keys.values():
        try:
            entries[id(cache)] = find_many(cache, wanted)
        except Exception:  # noqa: BLE001  as above
            where = [None if f is not None and f.cache is cache else f for f in where]
    looked = []
    for found in where:
        entry = None if found is None else entries[id(found.cache)].get(found.key)
        if found is None or entry is None or entry.body.expires <= time.time():
            looked.append(Looked(found, None))
        else:
            looked.append(Looked(found, _opening(kept, found, entry)))
    return looked


def _opening(
    kept: Kept[..., Any], found: Located, entry: Entry
) -> Callable[[Callable[[], Any]], Any]:
    cache, key = found.cache, found.key

    def open_(call: Callable[[], Any]) -> Any:
        if not found.holds():  # what was read before this one may have changed what counts
            return call()
        try:
            value = cache.value(key, entry)
        except DecodeError as error:
            kept.counts.damaged += cache.damage(key, error)
            return call()
        except Exception as error:
            if kept.broke(error):
                raise
            return call()
        kept.hit(cache, key, entry)
        return Raise.of(value) if entry.body.state == FAILED else kept.replayed(value)

    return open_
