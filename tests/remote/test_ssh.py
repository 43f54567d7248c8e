"""Caches behind a real sshd."""

from __future__ import annotations

from typing import Any

import numpy as np
from tests.caches.places import Counted

import kept


def test_a_miss_a_commit_and_a_hit(ssh_url: str, ssh_options: dict[str, Any]) -> None:
    counted = Counted(lambda x: {"x": x, "array": np.arange(50_000) + x})
    with kept.open(ssh_url, **ssh_options) as cache:
        f = counted.into(cache, strict=True)
        assert f(3)["array"][0] == 3
        assert f(3)["array"][0] == 3
        assert counted.runs == 1
