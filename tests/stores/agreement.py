"""A medium and a dict, told the same: what one answers, the other must."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

KEYS = [
    *(f"calls/{n:02x}{'ab' * 31}" for n in (0, 1, 0xFF)),
    f"values/{'ab' * 32}",
    "blobs/" + "0" * 64,
    *("leases/x", "leases/x.y", "leases/x-y", "leases/X", "leases/x/y"),
    *("a", "A", "a/b", "a/b/", "a//b", "a/./b", "a/.", ".", "-", "_", "./a"),
    "long/" + "k" * 195,
]
PREFIXES = [
    "",
    "c",
    "calls",
    "calls/",
    "calls/0",
    "calls/00",
    "calls/f",
    "v",
    "leases/x",
    "a",
    "a/",
]
PREFIXES += ["a/.", "a//", ".", "a/b", "nothing/", "calls/00abab", "Z", "leases/x/"]

keys = st.sampled_from(KEYS)
items = st.one_of(st.binary(max_size=40), st.sampled_from([0, 9000, 70_000]).map(bytes))


def check_agreement(
    make: Callable[[], Any], *, examples: int = 12, replaces: bool = True, keeps: bool = True
) -> None:
    """Run the state machine; `make` gives an empty store, which stays so unless it `keeps`."""

    class Agreement(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.store, self.model = make(), dict[str, bytes]()

        def teardown(self) -> None:
            if hasattr(self.store, "close"):
                self.store.close()

        @invariant()
        def forget(self) -> None:
            if not keeps:
                self.model.clear()

        @rule(key=keys, item=items)
        def put(self, key: str, item: bytes) -> None:
            self.store.put(key, item)
            self.model[key] = item

        @rule(key=keys, item=items)
        def put_a_buffer(self, key: str, item: bytes) -> None:
            self.store.put(key, memoryview(bytearray(item)))
            self.model[key] = item

        @rule(key=keys)
        def get(self, key: str) -> None:
            found = self.store.get(key)
            assert found is None or type(found) is bytes
            assert found == self.model.get(key)

        @rule(key=keys)
        def delete(self, key: str) -> None:
            self.store.delete(key)
            self.model.pop(key, None)

        @rule(prefix=st.sampled_from(PREFIXES))
        def list_keys(self, prefix: str) -> None:
            wanted = sorted(key for key in self.model if key.startswith(prefix))
            assert sorted(self.store.keys(prefix)) == wanted

        @rule(key=keys, item=items)
        def create(self, key: str, item: bytes) -> None:
            assert self.store.create(key, item) is (key not in self.model)
            self.model.setdefault(key, item)

        @precondition(lambda self: replaces)
        @rule(key=keys, old=items, item=items, right=st.booleans())
        def replace(self, key: str, old: bytes, item: bytes, right: bool) -> None:
            old = self.model.get(key, old) if right else old
            assert self.store.replace(key, old, item) is (self.model.get(key) == old)
            if self.model.get(key) == old:
                self.model[key] = item

        @rule(some=st.lists(keys, max_size=6))
        def get_many(self, some: list[str]) -> None:
            wanted = {key: self.model[key] for key in some if key in self.model}
            assert self.store.get_many(some) == wanted

        @rule(some=st.dictionaries(keys, items, max_size=6))
        def put_many(self, some: dict[str, bytes]) -> None:
            self.store.put_many(some)
            self.model.update(some)

        @rule(some=st.lists(keys, max_size=6))
        def delete_many(self, some: list[str]) -> None:
            self.store.delete_many(iter(some))
            for key in some:
                self.model.pop(key, None)

    run_state_machine_as_test(
        Agreement, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None)
    )
