"""A cache over http, held to the suite that every store is held to, and its trips counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.remote import test_contract, test_round_trips
from tests.remote.test_contract import _Part
from tests.remote.webs import WebServed


class OverHttp:
    name: str

    def make(self, place: Path) -> _Part:
        host = WebServed(place / "c")
        return _Part(host.backend(trust=True), self.name, host)  # type: ignore[arg-type]  # only closed


class TestValues(OverHttp, test_contract.TestValues):
    pass


@pytest.mark.long
class TestCalls(OverHttp, test_contract.TestCalls):
    pass


@pytest.mark.long
class TestNotes(OverHttp, test_contract.TestNotes):
    pass


@pytest.fixture
def host(home: Path) -> Iterator[WebServed]:
    with WebServed(home / "far") as made:
        yield made


for _name, _test in vars(test_round_trips).items():
    if _name.startswith("test_"):
        globals()[_name] = _test
