"""What is believed of a server over http: the same as of any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.remote import test_trust
from tests.remote.webs import WebServed


@pytest.fixture
def host(home: Path) -> Iterator[WebServed]:
    with WebServed(home / "far") as made:
        yield made


for _name, _test in vars(test_trust).items():
    if _name.startswith("test_"):
        globals()[_name] = _test
