"""What is kept far away and a dict, told the same: the bytes of notes, over each way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.remote.hosts import Served
from tests.remote.test_contract import _Part
from tests.remote.webs import WebServed
from tests.services import Service, ssh_options_of
from tests.stores.agreement import check_agreement

from wellkept.remote.ssh import Ssh


def check(place: Any) -> None:
    def emptied() -> Any:
        place.notes.delete_many(list(place.notes.keys()))
        return _Open(place, "notes")

    try:
        check_agreement(emptied, replaces=False)
    finally:
        place.close()


class _Open(_Part):
    def close(self) -> None:
        """The next example goes on with it."""


def test_over_a_pipe(home: Path) -> None:
    with Served(home / "far") as host:
        check(host.backend())


def test_over_ssh(home: Path, sshd: Service) -> None:
    check(Ssh(f"{sshd.url}{home}/far", **ssh_options_of(sshd)))


def test_over_http(home: Path) -> None:
    with WebServed(home / "far") as host:
        check(host.backend())
