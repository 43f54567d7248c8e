"""The pause after a server gave no answer."""

import time
from pathlib import Path
from typing import Any

import pytest

from wellkept import StoreError
from wellkept.stores import Objects, Redis, Sql
from wellkept.stores.silence import Silence


def test_who_waited_for_long_in_vain_has_all_wait() -> None:
    silence = Silence()
    silence.note("refused", time.monotonic() + 60)  # at once, however slow this machine is
    silence.check()
    silence.note("no answer", time.monotonic() - 1)
    with pytest.raises(StoreError, match="no answer"):
        silence.check()
    silence.over()
    silence.check()


@pytest.mark.parametrize("kind", ["sql", "redis", "objects"])
def test_what_was_asked_before_the_latest_answer_says_nothing(
    request: pytest.FixtureRequest, kind: str, home: Path
) -> None:
    before = time.monotonic() - 1
    store: Any
    if kind == "sql":
        store = Sql(f"sqlite:///{home / 'items.db'}")
    elif kind == "redis":
        store = Redis(request.getfixturevalue("redis_url"))
    else:
        store = Objects("memory:///")
    silence = store._connections.silence if kind == "sql" else store.silence
    store.put("a", b"1")
    silence.note("no answer", before)
    assert store.get("a") == b"1"
    store.close()
