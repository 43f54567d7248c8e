"""The names that files of formats have in a cache directory."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.integrations.hamilton.flows import builder, module

import wellkept
from wellkept.cli.app import run
from wellkept.codecs.file import decode
from wellkept.integrations.hamilton import (
    KeptAdapter,
    KeptResultStore,
    search_data_adapter_registry,
    with_kept,
)

SAVER, LOADER = search_data_adapter_registry("json", dict)


def put(store: KeptResultStore, version: str, n: int = 1) -> Path:
    store.set(version, {"n": n}, saver_cls=SAVER, loader_cls=LOADER)
    return store._materialized_path(version, SAVER)


def test_a_name_is_the_blob_itself_and_takes_no_room() -> None:
    store = KeptResultStore("store")
    first, second = put(store, "a"), put(store, "b")
    assert first.samefile(second)
    assert first.stat().st_nlink == 3
    assert first.stat().st_mode & 0o222 == 0  # so that nobody changes the blob by mistake


@pytest.mark.parametrize("version", ["", "../escape", "a/b", "x" * 300, "ö", ".hidden", "new-x"])
def test_any_data_version_has_a_file_in_the_directory(version: str) -> None:
    store = KeptResultStore("store")
    path = put(store, version)
    assert path.parent.resolve() == Path("store/formats").resolve()
    assert store.get(version) == {"n": 1}


def test_a_name_that_means_another_file_is_given_anew() -> None:
    store = KeptResultStore("store")
    path = put(store, "a")
    path.unlink()
    path.write_text('{"n": 13}')
    assert store.get("a") == {"n": 1}
    assert path.read_text() == '{"n": 1}'


def test_a_name_without_a_blob_goes_with_the_next_file() -> None:
    store = KeptResultStore("store")
    path = put(store, "a")
    store.cache.evict("hamilton:result")
    assert path.exists()
    other = put(KeptResultStore("store"), "b", 2)
    assert not path.exists()
    assert other.exists()


def test_where_files_have_no_links_a_name_is_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    store = KeptResultStore("store")
    path = put(store, "a")
    assert path.stat().st_nlink == 1
    assert path.read_text() == '{"n": 1}'
    assert store.get("a") == {"n": 1}


def test_elsewhere_the_copies_go_with_the_store() -> None:
    store = KeptResultStore("files:store")
    path = put(store, "a")
    assert path.exists()
    del store
    assert not path.exists()
    assert KeptResultStore("files:store").get("a") == {"n": 1}


@pytest.mark.parametrize("make", [with_kept, lambda made, at: made.with_adapters(KeptAdapter(at))])
def test_a_file_of_a_format_is_shown_and_loaded_as_any_result(
    make: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = module(
        '@cache(format="parquet")\n'
        "def frame(n: int) -> pd.DataFrame:\n    return pd.DataFrame({'a': range(n), 'b': 'text'})\n"
    )
    dr = make(builder(flow), "store").build()
    frame = dr.execute(["frame"], inputs={"n": 3})["frame"]
    with wellkept.open("store") as cache:
        (call,) = (call for call in cache.query().calls() if call.size > 500)
        assert cache.load(call.result).to_dict() == frame.to_dict()
        assert cache.query(key=call.key).one().result.to_dict() == frame.to_dict()
    assert run(["show", call.key, "--cache", "./store"]) == 0
    assert "a file of the format parquet, read by hamilton.plugins" in capsys.readouterr().out
    assert run(["show", call.key, "--cache", "./store", "--value"]) == 0
    assert "2  2  text" in capsys.readouterr().out
    assert run(["verify", "--cache", "./store"]) == 0


@pytest.mark.parametrize("head", [b"nonsense", b"[]", b'{"format": "json"}'])
def test_a_head_that_says_nothing(head: bytes) -> None:
    with pytest.raises(wellkept.DecodeError, match="does not name its loader"):
        decode(head, [b""])


def test_a_loader_that_is_not_there() -> None:
    head = json.dumps({"format": "json", "loader": "nowhere:Loader", "takes": "file"}).encode()
    with pytest.raises(wellkept.DecodeError, match="nowhere:Loader can't read"):
        decode(head, [b""])
