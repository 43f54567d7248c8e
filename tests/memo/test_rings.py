"""A body that waits, in threads of its own, for its own call: computed twice, and never a hang."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from wellkept import keep

_bodies: list[int] = []  # not in a closure, where its content would count


@pytest.mark.timeout(30)
def test_a_body_that_asks_for_its_own_key_in_a_pool() -> None:
    @keep(ignore=["depth"])
    def nested(n: int, depth: int) -> int:
        _bodies.append(depth)
        if depth == 0:
            return n
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(nested, n, depth - 1).result()

    assert nested(5, 2) == 5
    assert _bodies == [2, 1, 0]
    assert nested(5, 9) == 5
    assert len(_bodies) == 3
