"""Two stores beside two dicts, with a clock that the test moves: any sequence of verbs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.kv.conftest import MEDIA, place_of
from tests.thorough import THOROUGH

import wellkept

KEYS = st.sampled_from(["a", "a/b", "a/c", "b", "__store__", "é"])
VALUES = st.sampled_from([None, 0, 1, True, "text", [1, 2], (1, 2), {"n": 1.5}, b"raw", "x" * 2000])
# Long beside what the steps take, also where a server is slow: time passes by `time_passes` alone.
TTLS = st.sampled_from([None, None, 500.0, 5000.0])
POLICIES = st.sampled_from(["persist", "evict", "held"])
SCOPES = st.sampled_from([None, "scope"])


class Model:
    """What one store should hold."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[Any, float | None, str]] = {}

    def live(self, now: float) -> dict[str, tuple[Any, float | None, str]]:
        return {k: e for k, e in self.held.items() if e[1] is None or e[1] > now}


class Machine(RuleBasedStateMachine):
    cache: wellkept.Cache
    number = 0

    @initialize()
    def begin(self) -> None:
        type(self).number += 1
        name = f"store {self.number}"
        self.stores = {s: wellkept.store(name, s, cache=self.cache) for s in (None, "scope")}
        self.entries = self.stores[None].service.entries
        self.models = {None: Model(), "scope": Model()}
        self.begun = self.now = 0.0
        self.begin_revision = self.stores[None].revision
        self.told: dict[str | None, list[tuple[str, str]]] = {None: [], "scope": []}

    def live(self, scope: str | None) -> dict[str, tuple[Any, float | None, str]]:
        return self.models[scope].live(self.now)

    def expire(self, scope: str | None, key: str) -> None:
        held = self.models[scope].held
        if key in held and key not in self.live(scope):
            del held[key]
            self.told[scope].append(("expire", key))

    def put(self, scope: str | None, key: str, value: Any, expires: Any, policy: str) -> None:
        self.expire(scope, key)
        policy = "evict" if expires is not None and policy == "persist" else policy
        self.told[scope].append(("set" if key in self.models[scope].held else "insert", key))
        self.models[scope].held[key] = (value, expires, policy)

    def until(self, ttl: float | None) -> float | None:
        return None if ttl is None else self.now + ttl

    @rule(scope=SCOPES, key=KEYS, value=VALUES, ttl=TTLS, policy=POLICIES)
    def set(self, scope: Any, key: str, value: Any, ttl: Any, policy: str) -> None:
        self.stores[scope].set(key, value, ttl, policy)
        self.put(scope, key, value, self.until(ttl), policy)

    @rule(scope=SCOPES, key=KEYS, value=VALUES, ttl=TTLS)
    def set_if_absent(self, scope: Any, key: str, value: Any, ttl: Any) -> None:
        absent = key not in self.live(scope)
        assert self.stores[scope].set_if_absent(key, value, ttl) == absent
        policy = "persist" if ttl is None else "held"
        if absent:
            self.put(scope, key, value, self.until(ttl), policy)

    @rule(scope=SCOPES, key=KEYS, expected=VALUES, value=VALUES)
    def compare_and_set(self, scope: Any, key: str, expected: Any, value: Any) -> None:
        found = self.live(scope).get(key)
        same = found is not None and type(found[0]) is type(expected) and found[0] == expected
        assert self.stores[scope].compare_and_set(key, expected, value) == same
        if same:
            assert found is not None
            self.put(scope, key, value, found[1], found[2])

    @rule(scope=SCOPES, values=st.dictionaries(KEYS, VALUES, min_size=1), ttl=TTLS)
    def update(self, scope: Any, values: dict[str, Any], ttl: Any) -> None:
        self.stores[scope].update(values, ttl)
        for key, value in values.items():
            self.put(scope, key, value, self.until(ttl), "persist")

    @rule(scope=SCOPES, key=KEYS)
    def delete(self, scope: Any, key: str) -> None:
        there = key in self.live(scope)
        assert self.stores[scope].delete(key) == there
        if there:
            del self.models[scope].held[key]
            self.told[scope].append(("delete", key))

    @rule(scope=SCOPES, key=KEYS, ttl=TTLS)
    def update_ttl(self, scope: Any, key: str, ttl: Any) -> None:
        found = self.live(scope).get(key)
        self.stores[scope].update_ttl(key, ttl)
        if found is not None:
            policy = "evict" if ttl is not None and found[2] == "persist" else found[2]
            self.models[scope].held[key] = (found[0], self.until(ttl), policy)
            self.told[scope].append(("touch", key))

    @rule(scope=SCOPES, key=KEYS)
    def touch(self, scope: Any, key: str) -> None:
        there = key in self.live(scope)
        assert self.stores[scope].touch(key) == there
        if there:
            self.told[scope].append(("touch", key))

    @rule(scope=SCOPES, key=KEYS, expected=VALUES)
    def delete_expected(self, scope: Any, key: str, expected: Any) -> None:
        found = self.live(scope).get(key)
        same = found is not None and type(found[0]) is type(expected) and found[0] == expected
        assert self.stores[scope].delete(key, expected=expected) == same
        if same:
            del self.models[scope].held[key]
            self.told[scope].append(("delete", key))

    @rule(scope=SCOPES, key=KEYS, policy=POLICIES)
    def update_policy(self, scope: Any, key: str, policy: str) -> None:
        found = self.live(scope).get(key)
        self.stores[scope].update_policy(key, policy)
        if found is not None:
            expires = found[1] if policy != "persist" else None
            self.models[scope].held[key] = (found[0], expires, policy)
            self.told[scope].append(("touch", key))

    @rule(scope=SCOPES)
    def clear_cache(self, scope: Any) -> None:
        self.stores[scope].clear_cache()
        self._gone(scope, lambda entry: entry[2] == "evict")

    @rule(scope=SCOPES)
    def delete_store(self, scope: Any) -> None:
        service = self.stores[scope].service
        there = bool(self.live(scope))
        assert (service.delete_store(self.stores[scope].store_name) is not None) == there
        self._gone(scope, lambda entry: True)

    def _gone(self, scope: Any, which: Callable[[Any], bool]) -> None:
        live = self.live(scope)
        for key, entry in list(self.models[scope].held.items()):
            if which(entry):
                self.told[scope].append(("delete" if key in live else "expire", key))
                del self.models[scope].held[key]

    @rule()
    def sweep(self) -> None:
        self.stores[None].sweep()
        for scope in (None, "scope"):
            for key in list(self.models[scope].held):
                self.expire(scope, key)

    @rule(seconds=st.sampled_from([100.0, 1000.0, 6000.0]))
    def time_passes(self, seconds: float) -> None:
        self.entries.ahead += seconds
        self.now += seconds

    @invariant()
    def all_is_there(self) -> None:
        if not hasattr(self, "stores"):
            return
        for scope, store in self.stores.items():
            live = self.live(scope)
            found = dict(store.items())
            assert {k: (type(v), v) for k, v in found.items()} == {
                k: (type(e[0]), e[0]) for k, e in live.items()
            }
            assert len(store) == len(live)
            assert store.list_keys("a/") == sorted(key for key in live if key.startswith("a/"))
            for key, entry in live.items():
                assert store.get(key) == entry[0]
                assert store.get_metadata(key)["policy"].value == entry[2]  # type: ignore[index]
            assert store.service.has_store(store.store_name) == bool(live)

    def teardown(self) -> None:
        if not hasattr(self, "stores"):
            return
        for scope, store in self.stores.items():
            changes = list(store.watch(since=self.begin_revision, timeout=0))
            told = [(change.kind, change.key) for change in changes]
            # What expires is told at some time after it did; all the rest in this order.
            said = [one for one in told if one[0] != "expire"]
            assert sorted(said) == sorted(one for one in self.told[scope] if one[0] != "expire")
            for key in {key for _, key in told}:
                mine = [kind for kind, of in told if of == key]
                theirs = [kind for kind, of in self.told[scope] if of == key]
                assert mine[: len(theirs)] == theirs
                assert set(mine[len(theirs) :]) <= {"expire"}
            store.service.cleanup()
        self.entries.ahead = 0.0


@pytest.mark.parametrize("medium", MEDIA)
def test_any_sequence(medium: str, request: pytest.FixtureRequest, tmp_path: Any) -> None:
    with wellkept.open(place_of(request, medium, tmp_path)) as cache:
        machine = type("Machine", (Machine,), {"cache": cache})
        quick = medium in ("memory", "sqlite")
        examples = settings.default.max_examples // (2 if quick else 6)  # type: ignore[union-attr]
        # There is always a default profile.
        steps = settings.default.stateful_step_count  # type: ignore[union-attr]
        if medium == "s3" and not THOROUGH:  # a step takes many requests
            examples, steps = 5, 10
        run_state_machine_as_test(
            machine, settings=settings(max_examples=max(5, examples), stateful_step_count=steps)
        )
