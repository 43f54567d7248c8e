"""What is kept far away and a dict, told the same: the bytes of notes, over each way there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.remote.test_contract import _Part
from tests.services import Service, ssh_options_of
from tests.stores.agreement import check_agreement

from wellkept.remote.ssh import Ssh


def check(place: Any) -> None:
    def emptied() -> Any:
        place.notes.delete_many(list(place.notes.keys()))
        return _Open(place, "notes")

    try:
        check_agreement(emptied, examples=8, replaces=False)
    finally:
        place.close()


class _Open(_Part):
    def close(self) -> None:
        """The next example goes on with it."""


def test_over_a_stream_and_over_http(host: Any) -> None:
    check(host.backend())


def test_over_ssh(home: Path, sshd: Service) -> None:
    check(Ssh(f"{sshd.url}{home}/far", **ssh_options_of(sshd)))
