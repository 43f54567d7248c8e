"""A call of a kept function, as the flow sees it."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from wellkept.caches import active
from wellkept.interrupts import Owner
from wellkept.memo.observed import Observed
from wellkept.memo.target import (
    Given,
    Items,
    Target,
)
from wellkept.records import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from wellkept.caches import Cache
    from wellkept.memo.keep_options import Options
    from wellkept.memo.observed import Bodies
    from wellkept.memo.stats import Stats
    from wellkept.runs.collectors import Collectors
    from wellkept.runs.sources import Parts


class KeptTarget(Target):
    """A call of a kept function."""

    kept: Any
    values: tuple[Any, ...]
    call: Callable[..., Any]
    title: str
    awaits: bool
    options: Options
    counts: Stats
    collectors: Collectors | None
    bodies: Bodies
    cache: Cache

    def __init__(self, kept: Any, values: tuple[Any, ...]) -> None:
        self.kept, self.values = kept, values
        self.call, self.title, self.awaits = kept.body, kept.__qualname__, kept.awaits
        self.options, self.counts = kept.options, kept.counts
        self.collectors, self.bodies = kept.collectors, kept.locator.bodies

    def locate(self) -> bool:
        kept = self.kept
        binder = kept._binder
        if binder.require and not binder.keepable(self.values):
            if left := binder.left_out(self.values):
                names = ", ".join(left)
                self.warn(
                    "required", f"computed, not kept: {names} was not given, which require= names"
                )
            return False
        self.cache = kept._cache or (active() if kept.options.cache is None else kept.cache)
        found: bool = kept.locator.locate(self, kept._counted)
        return found

    def identity(self) -> tuple[str, str]:
        return (self.name, self.code) if self.key else self.kept.locator.identity()

    def renew(self) -> None:
        self.kept.locator.renew()

    def learn(self) -> bool:
        locator = self.kept.locator
        coding = locator._coding
        if coding is None or not coding.base or coding.wider_note in self.cache.noted:
            return False
        return self.bodies.followed and locator.learn(coding, self.cache)

    def settled(self) -> bool:
        if self.holds():
            return not self.learn()
        self.renew()
        return False

    def widen(self, body: Observed) -> bool:
        locator = self.kept.locator
        if not (body.ran or body.widened):
            return True
        try:
            modules = body.missing(locator.covers, self.values)
            if modules <= locator.wider:
                return True
            self.counts.widened += 1
            found: bool = locator.widen(self, modules)
        except Exception as error:
            if self.broke(error):
                raise
            return False
        return found

    def parts(self) -> Parts:
        coding = self.kept.locator.coding()
        return {name: (p.digest, p.text) for name, p in coding.parts(self.values).items()}

    def resolved(self, given: Given) -> Given:
        if Digest not in map(type, given[0]) and Digest not in map(type, given[1].values()):
            return given
        found: Given = self.kept.resolved(given)
        return found

    def all_items(self) -> Items:
        items = self.items
        return self.kept.locator.digested(self.values) if items is None else items

    def note_source(self) -> None:
        coding = self.kept.locator._coding
        if coding is not None and coding.tag == self.code:
            coding.note(self.cache, self.values)

    def facts(self) -> str:
        coding, noted = self.kept.locator._coding, self.cache.noted
        if coding is None or coding.tag != self.code or coding.classes:
            return super().facts()
        # It is the same as long as the place is, whose notes are those that `noted` says.
        where, text = coding.facts
        if where is not noted:
            text = super().facts()
            coding.facts = noted, text
        found: str = text
        return found

    def refresh(self, given: Given) -> None:
        locks, look = self.cache.backend.locks, Owner()
        taken = False
        try:
            # Whether somebody is at it already.
            taken = locks.acquire(self.key, look)
        finally:
            look.over = True
            locks.release(self.key, look)
        if taken:
            threading.Thread(
                target=self._refresh, args=(given,), name="wellkept-refresh", daemon=True
            ).start()

    def _refresh(self, given: Given) -> None:
        try:
            target = copy.copy(self)
            target.batch = None
            self.kept._run(target, given, again=True)
        except Exception as error:  # noqa: BLE001  nobody else would hear of it
            self.warn("refresh", f"refreshing a stale result failed: {error!r}")

    def told(self, kind: str) -> bool:
        return kind in self.kept._told

    def warn(self, kind: str, text: str) -> None:
        self.kept.warn(kind, text)
