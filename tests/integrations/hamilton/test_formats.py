"""The names that files of formats have in a cache directory."""

import itertools
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from tests.caches.places import new
from tests.integrations.hamilton.flows import builder, module, runs

import wellkept
from wellkept.cli.app import run
from wellkept.codecs.file import decode
from wellkept.integrations.hamilton import (
    KeptAdapter,
    KeptResultStore,
    search_data_adapter_registry,
    with_kept,
)

_numbers = itertools.count()
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


# -- one identity a value --------------------------------------------------------------------------


def adapted(made: Any, at: str) -> Any:
    return made.with_adapters(KeptAdapter(at))


BOTH = pytest.mark.parametrize("make", [with_kept, adapted])

PAIR = """
@cache(format="json")
def pair() -> {type}:
    ran("pair")
    return {value}

def down(pair: {type}) -> str:
    ran("down")
    return repr(pair)
"""


def run_pair(make: Any, type_: str, value: str, at: str = "store", **how: Any) -> tuple[Any, Any]:
    dr = make(builder(module(PAIR.format(type=type_, value=value), "pairs")), at).build()
    return dr, dr.execute(["down"] if how else ["pair", "down"], **how)


@BOTH
@pytest.mark.parametrize("kind", ["embedded", "files", "memory"])
def test_a_value_has_one_identity_in_a_format_or_not(make: Any, kind: str) -> None:
    cache = new(kind)
    dr, found = run_pair(make, "dict", '{"a": [1]}', cache)
    version = dr.cache.version_data(found["pair"], run_id=dr.cache.last_run_id)
    assert version == dr.cache.data_versions[dr.cache.last_run_id]["pair"]
    assert dr.cache.result_store.get(version) == {"a": [1]}
    assert runs() == ["down", "pair"]
    run_pair(make, "dict", '{"a": [1]}', cache, overrides={"pair": {"a": [1]}})
    assert runs() == []


@BOTH
@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("dict", "{'a': (1, 2), 'b': {3: 4}}"),
        ("dict", "{'big': (b'x' * 300_000).decode(), 'of': ('a',)}"),
        ("list", "[(1, 2)]"),
    ],
)
def test_the_exact_value_is_beside_a_file_that_gives_back_another(
    make: Any, type_: str, value: str
) -> None:
    for expected in (["down", "pair"], []):
        dr, found = run_pair(make, type_, value)
        assert repr(found["pair"]) == found["down"] == repr(eval(value))
        assert runs() == expected
    version = dr.cache.data_versions[dr.cache.last_run_id]["pair"]
    file = dr.cache.result_store._materialized_path(version, SAVER)
    assert json.loads(file.read_text()) == json.loads(json.dumps(eval(value)))
    with wellkept.open("store") as cache:
        digest = wellkept.digest(eval(value))
        assert repr(cache.load(digest)) == repr(eval(value))
        assert cache.verify().ok


FRAME = """
@cache(format="parquet")
def table() -> pd.DataFrame:
    ran("table")
    return pd.DataFrame({"pair": [(1, 2), (3, 4)]})
"""


@BOTH
def test_a_frame_that_parquet_gives_back_otherwise_stays_as_it_was(make: Any) -> None:
    import pandas as pd

    for expected in (["table"], []):
        dr = make(builder(module(FRAME, "framed")), "store").build()
        assert list(dr.execute(["table"])["table"]["pair"]) == [(1, 2), (3, 4)]
        assert runs() == expected
    (file,) = Path("store/formats").glob("*.parquet")
    assert type(pd.read_parquet(file)["pair"][0]) is not tuple


ODD = """
import json
from hamilton import registry
from hamilton.io.data_adapters import DataLoader, DataSaver

class OddSaver(DataSaver):
    def __init__(self, path: str):
        self.path = path
    @classmethod
    def applicable_types(cls) -> list:
        return [dict]
    @classmethod
    def name(cls) -> str:
        return "{name}"
    def save_data(self, data: dict) -> dict:
        open(self.path, "w").write(json.dumps(data, sort_keys=True))
        return {}

class OddLoader(DataLoader):
    fails = False
    def __init__(self, path: str):
        self.path = path
    @classmethod
    def applicable_types(cls) -> list:
        return [dict]
    @classmethod
    def name(cls) -> str:
        return "{name}"
    def load_data(self, type_: type) -> tuple:
        if OddLoader.fails:
            raise OSError("not here")
        return json.load(open(self.path)), {}

registry.register_adapter(OddSaver)
registry.register_adapter(OddLoader)

@cache(format="{name}")
def odd() -> dict:
    ran("odd")
    return {"b": 1, "a": 2}
"""


def odd(*, fails: bool = False, value: str = '{"b": 1, "a": 2}') -> Any:
    """A flow with a format of its own, as Hamilton has one registry for all."""
    name = f"odd{next(_numbers)}"
    text = ODD.replace("{name}", name).replace("fails = False", f"fails = {fails}")
    return module(text.replace('{"b": 1, "a": 2}', value), name)


@BOTH
def test_the_order_of_a_dict_is_part_of_the_exact_value(make: Any) -> None:
    flow = odd()
    for expected in (["odd"], []):
        found = make(builder(flow), "store").build().execute(["odd"])["odd"]
        assert (list(found), runs()) == (["b", "a"], expected)


@BOTH
def test_a_loader_that_fails_is_no_damage_and_told_once_a_node(make: Any) -> None:
    flow = odd(fails=True)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        dr = make(builder(flow), "store").build()
        for expected in (["odd"], []):
            assert dr.execute(["odd"]) == {"odd": {"b": 1, "a": 2}}
            assert runs() == expected
    texts = [str(each.message) for each in told if each.category is wellkept.KeptWarning]
    assert len(texts) == 1, texts
    text = texts[0]
    assert text.startswith("odd: its result is kept without the format 'odd")
    assert "not here" in text


@BOTH
def test_a_loader_that_fails_later_is_no_damage(make: Any) -> None:
    # Its keys are sorted, so the file alone is kept.
    flow = odd(value='{"a": 1, "b": 2}')
    cache = wellkept.open("store")
    make(builder(flow), cache).build().execute(["odd"])
    flow.OddLoader.fails = True
    dr = make(builder(flow), cache).build()
    with pytest.warns(wellkept.KeptWarning, match=r"not readable by the loader .* \(node odd\)"):
        assert dr.execute(["odd"]) == {"odd": {"a": 1, "b": 2}}
    assert make(builder(flow), cache).build().execute(["odd"]) == {"odd": {"a": 1, "b": 2}}
    assert runs() == ["odd", "odd"]
    assert cache.counts["damaged"] == 0


def test_the_path_of_a_store_is_a_directory_that_is_there() -> None:
    for store in (
        KeptResultStore("store"),
        KeptResultStore("files:other"),
        KeptResultStore("memory:"),
    ):
        assert list(store.path.iterdir()) == []
        store.delete_all()
        assert list(store.path.iterdir()) == []


@BOTH
def test_where_no_file_can_be_written_results_are_kept_without_their_format(make: Any) -> None:
    Path("store").mkdir()
    Path("store/formats").write_text("in the way")
    with pytest.warns(wellkept.KeptWarning, match="pair: .*no file can be written"):
        run_pair(make, "dict", "{'a': 1}")
    assert runs() == ["down", "pair"]


@BOTH
def test_where_no_file_can_be_named_results_are_hits(make: Any) -> None:
    run_pair(make, "dict", "{'a': 1}")
    shutil.rmtree("store/formats")
    Path("store/formats").write_text("in the way")
    runs()
    _, found = run_pair(make, "dict", "{'a': 1}")
    assert (found["pair"], runs()) == ({"a": 1}, [])


@BOTH
def test_a_value_in_two_formats_has_both_files(make: Any) -> None:
    flow = module(
        '@cache(format="json")\ndef one() -> dict:\n    return {"a": 1}\n\n'
        '@cache(format="pickle")\ndef two() -> dict:\n    return {"a": 1}\n\n'
        'def three() -> dict:\n    return {"a": 1}\n'
    )
    for _ in range(2):
        dr = make(builder(flow), "store").build()
        found = dr.execute(["one", "two", "three"])
        assert found == {"one": {"a": 1}, "two": {"a": 1}, "three": {"a": 1}}
        versions = dr.cache.data_versions[dr.cache.last_run_id]
        assert len({versions[name] for name in found}) == 1


@BOTH
def test_a_value_without_identity_in_a_format(make: Any) -> None:
    flow = module(
        "import threading\n\nclass Held:\n    def __init__(self) -> None:\n        self.on = (n for n in ())\n"
        "    def __reduce__(self) -> Any:\n        return Held, ()\n\n"
        '@cache(format="pickle")\ndef held() -> Held:\n    ran("held")\n    return Held()\n',
        "held",
    )
    for _ in range(2):
        found = make(builder(flow), "store").build().execute(["held"])["held"]
        assert type(found).__name__ == "Held"


@BOTH
def test_a_result_in_a_format_that_names_a_file_is_a_hit_only_while_the_file_stays(
    make: Any,
) -> None:
    Path("named.txt").write_text("1")
    flow = module(
        'import pathlib\n\n@cache(format="pickle")\ndef at() -> list:\n    ran("at")\n'
        '    return [pathlib.Path("named.txt").absolute()]\n'
    )
    with pytest.warns(wellkept.KeptWarning, match="at: .*names files"):
        make(builder(flow), "store").build().execute(["at"])
    make(builder(flow), "store").build().execute(["at"])
    assert runs() == ["at"]
    Path("named.txt").write_text("another")
    with pytest.warns(wellkept.KeptWarning, match="out of date"):
        make(builder(flow), "store").build().execute(["at"])
    assert runs() == ["at"]
