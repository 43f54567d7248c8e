"""Cycles, shared parts and depth; what the peers are known to get wrong."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from wellkept.hashing import digest, digest_bytes, digests
from wellkept.hashing.code import identity
from wellkept.hashing.encoding import reference_digest


class Node:
    def __init__(self, name: str, *children: Node) -> None:
        self.name, self.children, self.parent = name, list(children), None
        for child in children:
            child.parent = self


class Counted:
    calls = 0

    def __init__(self) -> None:
        self.me = self

    def __reduce__(self) -> Any:
        Counted.calls += 1
        return Counted, (), self.__dict__


def test_cycles_end_and_are_told_apart() -> None:
    one: list[Any] = []
    one.append(one)
    left: list[Any] = []
    right: list[Any] = [left]
    left.append(right)
    assert digest(one) == digest(left) == digest(right) == digest([one]) == digest([[left]])
    two: list[Any] = []
    two += [two, two]
    three: list[Any] = [one, one]
    assert len({digest(one), digest(two), digest(three), digest([]), digest([[]])}) == 5
    pair: dict[str, Any] = {}
    pair["self"] = pair
    other: dict[str, Any] = {"self": {"self": pair}}
    assert digest(pair) == digest(other) != digest({"self": one})


def test_cycles_that_differ_far_from_the_root() -> None:
    def ring(size: int, mark: int) -> list[Any]:
        nodes: list[list[Any]] = [[0] for _ in range(size)]
        nodes[-1][0] = mark
        for number, node in enumerate(nodes):
            node.append(nodes[(number + 1) % size])
        return nodes[0]

    assert digest(ring(60, 1)) == digest(ring(60, 1)) != digest(ring(60, 2))
    assert digest(ring(60, 1)) != digest(ring(61, 1))
    assert digest(ring(60, 0)) == digest(ring(7, 0))  # both unfold to the same


def test_objects_that_refer_back() -> None:
    def tree() -> Node:
        return Node("root", Node("a", Node("b")), Node("c"))

    first, second = tree(), tree()
    assert digest(first) == digest(second)
    assert digest(first.children[0]) != digest(first)
    second.children[0].children[0].name = "z"
    assert digest(first) != digest(second)
    assert digest(first.children[1]) != digest(second.children[1])  # reached through the parent


def test_a_reduction_is_asked_for_once_an_object() -> None:
    Counted.calls = 0
    value = Counted()
    reference_calls = digest_bytes([value, value, {"again": value}])
    assert reference_calls
    # once by the fast walk on each of its levels, once by each of the two that follow it
    assert Counted.calls < 200
    Counted.calls = 0
    from wellkept.hashing.cycles import cyclic_digest

    cyclic_digest([value, value, {"again": value}])
    assert Counted.calls == 1


def test_cycles_through_sets_and_odd_keys() -> None:
    class Hashed:
        def __init__(self, name: str) -> None:
            self.name, self.near, self.far = name, set(), {}

    def make() -> Hashed:
        a, b, c = Hashed("a"), Hashed("b"), Hashed("c")
        a.near = {b, c}
        b.near = c.near = {a}
        a.far = {b: 1, c: 2}
        return a

    assert len({digest(make()) for _ in range(5)}) == 1
    other = make()
    other.far = {node: 3 - number for node, number in other.far.items()}
    assert digest(other) != digest(make())


@pytest.mark.long
def test_depth_neither_overflows_nor_grows_quadratic() -> None:
    def nested(depth: int, leaf: Any) -> Any:
        for number in range(depth):
            leaf = ([leaf], (leaf,), {"a": leaf})[number % 3]
        return leaf

    start = time.perf_counter()
    assert digest(nested(100_000, 1)) != digest(nested(100_000, 2))
    # 1 s; were each level written into the one above it, 20,000,000,000 levels would be copied
    assert time.perf_counter() - start < 60
    # in a thread with a small stack, too
    found: list[Any] = []
    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=lambda: found.append(digest(nested(20_000, 1))))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found == [digest(nested(20_000, 1))]


def test_shared_parts_cost_their_number_and_not_their_unfolding() -> None:
    value: Any = [1]
    for _ in range(100):
        value = [value, value]
    start = time.perf_counter()
    first = digest(value)
    assert time.perf_counter() - start < 20
    other: Any = [2]
    for _ in range(100):
        other = [other, other]
    assert first != digest(other)
    part = list(range(9_000))
    assert digest([part] * 300) == digest([list(part) for _ in range(300)])


class Pair:
    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right


@dataclasses.dataclass
class Fields:
    left: Any
    right: Any


@pytest.mark.parametrize(
    "join",
    [
        lambda value: (value, value),
        lambda value: {"a": value, "b": value},
        lambda value: {1: value, "b": value},
        lambda value: Pair(value, value),
        lambda value: Fields(value, value),
        lambda value: frozenset([(value, 1), (value, 2)]),
        lambda value: [value] * 3000,
        lambda value: [Pair(value, value)] * 3000,
        lambda value: [value, list(range(10_001)), value],
    ],
)
def test_shared_parts_of_every_kind(join: Any) -> None:
    value: Any = 1
    # 2**30 parts, or 3000**8, or 10_000 * 2**20.
    for _ in range(30 if sys.getsizeof(join(1)) < 1000 else 8 if len(join(1)) > 3 else 20):
        value = join(value)
    start = time.perf_counter()
    assert digest_bytes(value) == reference_digest(value)
    assert time.perf_counter() - start < 60  # 1 s; walked as a tree it would be years


def test_sharing_makes_no_difference() -> None:
    part = {"a": [1, 2]}
    assert digest([part, part]) == digest([{"a": [1, 2]}, {"a": [1, 2]}])
    text = "".join(["a", "b"])
    assert digest([text, text]) == digest(["ab", "".join("ab")])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (-1.0, -2.0),
        (-1, -2),
        ({-1: 0}, {-2: 0}),
        ("1", 1),
        (b"1", "1"),
        (1, True),
        (0, False),
        (1, 1.0),
        (0.0, -0.0),
        ((1,), [1]),
        ([1, [2]], [[1], 2]),
        (["a", "bc"], ["ab", "c"]),
        ({"a": 1}, [("a", 1)]),
        ("a\0b", ("a", "b")),
        (None, "None"),
    ],
    ids=repr,
)
def test_what_hash_or_text_would_confuse(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_classes_of_one_bare_name() -> None:
    class Outer:
        class Node:
            def __init__(self) -> None:
                self.name = "a"

    inner = Outer.Node()
    outer = Node("a")
    outer.__dict__ = dict(inner.__dict__)
    assert digest(inner) != digest(outer)
    assert digest(Outer.Node) != digest(Node)


def test_two_scripts_classes_differ(tmp_path: Any) -> None:
    source = (
        "from wellkept.hashing import digest, identify\n"
        "class A: pass\n"
        "def f(): return 1\n"
        "print(digest(A()), identify(f).name, identify(f).code)\n"
    )
    lines = []
    for name in ("one.py", "two.py"):
        path = tmp_path / name
        path.write_text(source)
        done = subprocess.run(
            [sys.executable, str(path)], capture_output=True, text=True, check=True, timeout=60
        )
        lines.append(done.stdout.split())
    assert lines[0][0] != lines[1][0]
    assert lines[0][1] == "one:f"
    assert lines[1][1] == "two:f"
    assert lines[0][2] == lines[1][2]


def test_the_collector_runs_again_after_a_walk() -> None:
    large = [{"a": i} for i in range(5000)]
    # Tests that interrupt at every instruction, also where no signal's handler runs, may have left it off.
    gc.enable()
    digest(large)
    assert gc.isenabled()
    with pytest.raises(TypeError):
        digest([*large, (i for i in [])])
    assert gc.isenabled()
    gc.disable()
    try:
        digest(large)
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_collector_runs_again_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def disabled_and_interrupted() -> None:
        gc.disable()
        raise KeyboardInterrupt

    def function() -> None:
        pass

    gc.enable()
    for module in (digests, identity):
        monkeypatch.setattr(
            module, "gc", SimpleNamespace(**vars(gc) | {"disable": disabled_and_interrupted})
        )
    for do in (lambda: digest([{"a": i} for i in range(5000)]), lambda: identity.deep(function)):
        with pytest.raises(KeyboardInterrupt):
            do()
        assert gc.isenabled()


def test_nothing_is_changed_by_being_digested() -> None:
    held = {"b": [3, 1, 2], "a": {1: {2}}}
    before = repr(held)
    digest(held)
    assert repr(held) == before
    assert digest(held).raw == reference_digest(held)
