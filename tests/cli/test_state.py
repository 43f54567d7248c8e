"""`wellkept store`, as it is run."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import wellkept
from wellkept.cli.app import run


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert run(["store", *words]) == code
    out = capsys.readouterr()
    return out.out if code == 0 else out.err


def test_keys_are_set_read_and_deleted(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ls" in said(capsys)
    said(capsys, "set", "s", "k", '{"n": [1, 2.0]}')
    said(capsys, "set", "s", "t", "plain text", "--ttl", "1h")
    said(capsys, "set", "s", "n", "5", "--text")
    assert wellkept.store("s")["k"] == {"n": [1, 2.0]}
    assert wellkept.store("s")["n"] == "5"
    assert said(capsys, "get", "s", "k") == '{"n":[1,2.0]}\n'
    assert said(capsys, "ttl", "s", "k") == "never\n"
    assert " min" in said(capsys, "ttl", "s", "t")
    assert said(capsys, "ttl", "s", "k", "1 d").startswith("in ")
    assert said(capsys, "ttl", "s", "k", "never") == "never\n"
    assert "already" in said(capsys, "set", "s", "k", "1", "--if-absent", code=1)
    said(capsys, "set", "s", "new", "1", "--if-absent")
    keys = [row["key"] for row in json.loads(said(capsys, "ls", "s", "--json"))["keys"]]
    assert keys == ["k", "n", "new", "t"]
    assert "evict" in said(capsys, "ls", "s", "--prefix", "t")
    said(capsys, "rm", "s", "n", "new")
    assert "no key 'n'" in said(capsys, "rm", "s", "n", code=1)
    assert "no key 'n'" in said(capsys, "get", "s", "n", code=1)
    assert "no key 'n'" in said(capsys, "ttl", "s", "n", code=1)
    assert said(capsys, "rm", "s", "--evictable", "--yes") == "deleted 2 keys\n"
    said(capsys, "set", "s", "k", "1")
    said(capsys, "rm", "s", "--store", "--yes")
    assert "no store" in said(capsys, "rm", "s", "--store", "--yes", code=1)
    assert "say what" in said(capsys, "rm", "s", code=2)


def test_scopes_are_listed_and_apart(capsys: pytest.CaptureFixture[str]) -> None:
    wellkept.store("s", "one")["k"] = 1
    wellkept.store("s")["k"] = 2
    assert said(capsys, "get", "s", "k") == "2\n"
    assert said(capsys, "get", "s", "k", "--scope", "one") == "1\n"
    stores = json.loads(said(capsys, "ls", "--json"))["stores"]
    assert {(row["store"], row["scope"], row["keys"]) for row in stores} == {
        ("s", None, 1),
        ("s", "one", 1),
    }
    assert said(capsys, "ls", "--scope", "one").count("one") == 1


def test_a_collection_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    wellkept.store("s", collection="mine")["k"] = 1
    wellkept.store("s")["k"] = 2
    mine = ("--collection", "mine")
    assert said(capsys, "get", "s", "k", *mine) == "1\n"
    assert [row["keys"] for row in json.loads(said(capsys, "ls", "--json", *mine))["stores"]] == [1]
    said(capsys, "set", "other", "k", "3", *mine)
    assert said(capsys, "rm", "s", "--store", "--yes", *mine) == "deleted the store s\n"
    stores = json.loads(said(capsys, "ls", "--json", *mine))["stores"]
    assert [row["store"] for row in stores] == ["other"]
    assert wellkept.store("s")["k"] == 2


def test_what_is_not_json_is_decoded_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    wellkept.store("s")["k"] = (1, 2)
    assert "--load" in said(capsys, "get", "s", "k")
    assert said(capsys, "get", "s", "k", "--load") == "(1, 2)\n"


def test_a_store_is_written_to_a_file_and_read_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = wellkept.store("s")
    store["a"] = {"x": [None, "é\n"]}
    store.set("b", 1, ttl="1 h")
    store.set_cache("c", "x")
    file = tmp_path / "store.jsonl"
    said(capsys, "export", "s", str(file))
    assert said(capsys, "import", "other", str(file), "--scope", "x") == "set 3 keys\n"
    other = wellkept.store("other", "x")
    assert dict(other.items()) == dict(store.items())
    for key in store:
        mine, theirs = store.get_metadata(key), other.get_metadata(key)
        assert mine is not None
        assert theirs is not None
        assert mine["policy"] == theirs["policy"]
        assert (mine["ttl"] is None) == (theirs["ttl"] is None)
    store["tuple"] = (1, 2)
    text = said(capsys, "export", "s")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert "--trust" in said(capsys, "import", "third", code=1)
    assert len(wellkept.store("third")) == 0
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert said(capsys, "import", "third", "--trust") == "set 4 keys\n"
    assert wellkept.store("third")["tuple"] == (1, 2)
    monkeypatch.setattr("sys.stdin", io.StringIO('{"key": "k"}\n'))
    assert "line 1" in said(capsys, "import", "third", code=2)


def test_changes_are_written_as_they_happen(capsys: pytest.CaptureFixture[str]) -> None:
    store = wellkept.store("s")
    store["a\n"] = (1,)
    store["b"] = 2
    del store["b"]
    assert said(capsys, "watch", "s", "--since", "0", "--timeout", "0").split("\n") == [
        "1 insert a\\n (1,)",
        "2 insert b 2",
        "3 delete b",
        "",
    ]
    command = [sys.executable, "-m", "wellkept", "store", "watch", "s", "--since", "2", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            # It watches once it has written what happened before.
            assert json.loads(watching.stdout.readline())["kind"] == "delete"
            store.set("later", [3])
            change = json.loads(watching.stdout.readline())
        finally:
            watching.terminate()
    assert (change["kind"], change["key"], change["value"]) == ("insert", "later", [3])


def test_nothing_is_made_by_looking(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    place = str(tmp_path / "nothing")
    said(capsys, "ls", "--cache", place, code=1)
    said(capsys, "ls", "s", "--cache", place, code=1)
    assert not Path(place).exists()
    assert "policy" in said(capsys, "set", "s", "k", "1", "--policy", "x", code=2)
    assert "void" in said(capsys, "set", "s", "k", "1", "--cache", "void:", code=2).lower()
