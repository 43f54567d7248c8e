"""A remote cache's calls, values and notes, held to the suite that every store is held to."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from tests.contract.test_contract import CallsInIndex, ValuesInIndex
from tests.remote.hosts import Served
from tests.remote.webs import WebServed
from tests.services import Service, ssh_options_of

from wellkept.records import Call, Value
from wellkept.remote.ssh import Ssh
from wellkept.testing import Accessor, StoreContract


class _Part:
    """One of the stores of a place, with all of it to close."""

    def __init__(self, whole: Any, name: str, host: Any = None) -> None:
        self.whole, self.host = whole, host
        self._part = getattr(whole, name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._part, name)

    def close(self) -> None:
        self.whole.close()
        if self.host is not None:
            self.host.close()


class Remote(StoreContract):
    name = ""
    serve: Any = Served

    def make(self, place: Path) -> _Part:
        host = self.serve(place / "c")
        return _Part(host.backend(trust=True), self.name, host)

    def prepare(self, store: Any, item: Any) -> None:
        if isinstance(item, Call):
            store.whole.values.put(item.result, Value("pickle", pickle.dumps(item.size)))


class TestValues(Remote):
    kind, name = "value", "values"

    def accessor(self, store: Any, place: Path) -> Accessor:
        return ValuesInIndex(place)


class TestCalls(Remote):
    kind, name = "call", "calls"

    def accessor(self, store: Any, place: Path) -> Accessor:
        return CallsInIndex(place)


class TestNotes(Remote):
    kind, name = "bytes", "notes"


class TestValuesOverHttp(TestValues):
    serve = WebServed


@pytest.mark.long
class TestCallsOverHttp(TestCalls):
    serve = WebServed


@pytest.mark.long
class TestNotesOverHttp(TestNotes):
    serve = WebServed


class OverSsh:
    """The same behind a real sshd."""

    name: str
    service: Service

    @pytest.fixture(autouse=True)
    def _reach(self, sshd: Service) -> None:
        self.service = sshd

    def make(self, place: Path) -> _Part:
        url = f"{self.service.url}{place}/c"
        made = _Part(Ssh(url, trust=True, **ssh_options_of(self.service)), self.name)
        made.get("0" * 64)  # who looks past it expects a directory
        return made


@pytest.mark.long
class TestValuesOverSsh(OverSsh, TestValues):
    pass


@pytest.mark.long
class TestCallsOverSsh(OverSsh, TestCalls):
    pass


@pytest.mark.long
class TestNotesOverSsh(OverSsh, TestNotes):
    pass
