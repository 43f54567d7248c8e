"""`wellkept keys`: made, listed, rotated, added and dropped, and never shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wellkept.cli.app import run
from wellkept.stores.keyring import Keyring


def test_a_life_of_keys(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    def kept(*words: str, code: int = 0) -> str:
        assert run(["keys", *words]) == code
        captured = capsys.readouterr()
        return captured.out + captured.err

    assert kept("ls") == ""
    first = kept("make", "--label", "ours").split()[2]
    assert "rotate" in kept("make", code=2)
    second = kept("rotate").split()[2].rstrip(",")
    listed = json.loads(kept("ls", "--json"))["keys"]
    assert [(one["name"], one["label"], one["signs"]) for one in listed] == [
        (second, "", True),
        (first, "ours", False),
    ]
    assert kept("ls").splitlines()[1].endswith("trusted  ours")
    path = Keyring().path
    copy = home / "copy"
    copy.write_bytes(path.read_bytes())
    assert first in kept("rm", first[:5])
    assert "no key" in kept("rm", first, code=1)
    assert kept("add", str(copy)).split()[:2] == ["trusts", first]
    assert "can't read keys" in kept("add", str(home), code=2)
    copy.write_text("no key at all\n")
    assert ":1: not a key" in kept("add", str(copy), code=2)
    assert [one.key.name.hex() for one in Keyring().known()] == [second, first]
    secrets = [one.key.secret.hex() for one in Keyring().known()]
    shown = kept("ls") + kept("ls", "--json") + kept("rotate")
    assert not any(secret[:16] in shown for secret in secrets)
