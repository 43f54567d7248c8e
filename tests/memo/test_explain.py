"""`f.explain(…)`: a hit or a miss with its cause, and no trace of having been asked."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import wellkept
from wellkept.errors import StoreError
from wellkept.runs.explain import explain_key

RATE = 3


@dataclasses.dataclass
class Mesh:
    dtype: str
    size: int = 10


@dataclasses.dataclass
class Config:
    mesh: Any
    name: str = "a"


def helper(n: int) -> int:
    """Doc."""
    return n * RATE


class Counted:
    def __init__(self, cache: wellkept.Cache) -> None:
        self.ran = 0

        @wellkept.keep(cache=cache, name="sim", version=1)
        def sim(config: Any, n: int = 1) -> int:
            self.ran += 1
            return n

        self.f = sim


@pytest.fixture(params=["directory", "memory", "files", "sqlite", "stack"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> wellkept.Cache:
    if request.param == "memory":
        return wellkept.open("memory:")
    if request.param == "files":
        return wellkept.open(f"files:{tmp_path}/files")
    if request.param == "sqlite":
        return wellkept.open(f"sqlite:///{tmp_path}/calls.db")
    if request.param == "stack":
        return wellkept.Stack(wellkept.open(tmp_path / "near"), wellkept.open(tmp_path / "far"))
    return wellkept.open(tmp_path / "cache")


@pytest.fixture
def directory(tmp_path: Path) -> wellkept.Cache:
    return wellkept.open(tmp_path / "cache")


def kinds(found: Any) -> list[str]:
    return [cause.kind for cause in found.causes]


class TestCauses:
    def test_never_called(self, cache: wellkept.Cache) -> None:
        found = Counted(cache).f.explain(Config({}))
        assert found.outcome == "miss"
        assert found.cause == "never called"

    def test_a_hit_says_what_is_kept(self, cache: wellkept.Cache) -> None:
        f = Counted(cache).f
        f(Config({}))
        found = f.explain(Config({}))
        assert found.outcome == "hit"
        assert found.hit
        assert found.cause is None
        assert found.key == f.key(Config({}))
        call = f.call(Config({}))
        said = found.kept
        assert said is not None
        assert (said["created"], said["seconds"], said["size"]) == (
            call.created,
            call.seconds,
            call.size,
        )
        assert said["expires"] is None
        assert said["layer"] in str(found)

    def test_the_leaf_that_differs(self, cache: wellkept.Cache) -> None:
        f = Counted(cache).f
        f(Config({"dtype": "float32"}))
        found = f.explain(Config({"dtype": "float64"}))
        assert found.cause == "arguments"
        assert """arguments["config"].mesh["dtype"]: 'float32' -> 'float64'""" in str(found)
        (cause,) = found.causes
        assert cause.to_dict()["differences"] == [
            {
                "path": 'arguments["config"].mesh["dtype"]',
                "before": "'float32'",
                "after": "'float64'",
            }
        ]

    def test_in_another_process_later(self, tmp_path: Path) -> None:
        with wellkept.open(tmp_path / "cache") as first:
            Counted(first).f(Config(Mesh("float32")))
        with wellkept.open(tmp_path / "cache") as second:
            text = str(Counted(second).f.explain(Config(Mesh("float64"))))
        assert """arguments["config"].mesh.dtype: 'float32' -> 'float64'""" in text

    def test_the_nearest_of_many(self, cache: wellkept.Cache) -> None:
        f = Counted(cache).f
        f(Config({"dtype": "float32"}, "wanted"), 5)
        for n in range(50):
            f(Config({"dtype": "float16", "x": n}, "other"), n + 100)
        found = f.explain(Config({"dtype": "float64"}, "wanted"), 5)
        (cause,) = found.causes
        assert [change["before"] for change in cause.to_dict()["differences"]] == ["'float32'"]

    def test_numbers_that_are_close(self, cache: wellkept.Cache) -> None:
        f = Counted(cache).f
        for n in (3, 500, 90, 1000):
            f(None, n)
        assert """arguments["n"]: 90 -> 91""" in str(f.explain(None, 91))

    def test_parts_that_came_and_went_and_changed_their_kind(self, cache: wellkept.Cache) -> None:
        f = Counted(cache).f
        f({"a": 1, "b": [1, 2], "c": np.zeros(3)})
        text = str(f.explain({"a": 1, "b": (1, 2), "c": np.zeros(4), "d": {"x": 1}}))
        assert """arguments["config"]["b"]: a list -> a tuple""" in text
        assert """arguments["config"]["c"]: float64 (3,) -> float64 (4,)""" in text
        assert """arguments["config"]["d"]: only now, a dict""" in text
        assert "3 places" in text
        gone = str(f.explain({"b": [1, 2], "c": np.zeros(3)}))
        assert """arguments["config"]["a"]: no longer, was 1""" in gone
        same = str(f.explain({"a": 1, "b": [1, 2], "c": np.ones(3)}))
        assert """["c"]: float64 (3,) <""" in same

    def test_code(self, cache: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        @wellkept.keep(cache=cache, name="outer")
        def outer(n: int) -> int:
            return helper(n)

        def other(n: int) -> int:
            return n * RATE + 1

        outer(2)
        other.__name__, other.__qualname__ = "helper", "helper"
        monkeypatch.setitem(globals(), "helper", other)
        found = outer.explain(2)
        assert found.cause == "code"
        assert f"code changed: `{__name__}.helper`" in str(found)
        assert "-    return n * RATE" in str(found)
        assert "+    return n * RATE + 1" in str(found)
        monkeypatch.undo()
        assert outer.explain(2).hit
        monkeypatch.setitem(globals(), "RATE", 4)
        assert f"`{__name__}.RATE`" in str(outer.explain(2))
        # Other arguments and other code: both are said.
        assert kinds(outer.explain(3)) == ["arguments", "code"]

    def test_of_a_methods_class(
        self, directory: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Base:
            def step(self, n: int) -> int:
                return n

        class Model(Base):
            @wellkept.keep(cache=directory, name="model.run")
            def run(self, n: int) -> int:
                return self.step(n)

        assert Model().run.explain(1).cause == "never called"
        Model().run(1)
        assert Model().run.explain(1).hit

        def step(self: Any, n: int) -> int:
            return n + 1

        monkeypatch.setattr(Base, "step", step)
        assert Model().run.explain(1).cause == "code"

    def test_versions(self, cache: wellkept.Cache) -> None:
        wellkept.keep(cache=cache, version=1, name="v")(lambda n: n)(1)
        found = wellkept.keep(cache=cache, version="two", name="v")(lambda n: n).explain(1)
        assert found.cause == "version"
        assert found.causes[0].to_dict()["now"] == "'two'"
        assert "1 -> 'two'" in str(found)
        deep = wellkept.keep(cache=cache, name="v")(lambda n: n).explain(1)
        assert deep.cause == "code"
        assert "a version -> all that it reaches" in str(deep)

    def test_dependencies(
        self, cache: wellkept.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data, said = tmp_path / "data.csv", {"rows": 1}
        data.write_text("1")
        monkeypatch.setenv("MODE", "fast")
        depends = [wellkept.file(data), wellkept.env("MODE"), wellkept.token(lambda: said["rows"])]
        f = wellkept.keep(cache=cache, name="d", version=1, depends=depends)(lambda n: n)
        f([1])
        f([2])
        data.write_text("2")
        found = f.explain([1])
        assert kinds(found) == ["dependency"]
        assert f"`file {data}`" in str(found)
        said["rows"] = 2
        monkeypatch.setenv("MODE", "slow")
        changes = f.explain([1]).causes[0].to_dict()["differences"]
        assert [(one["before"], one["after"]) for one in changes][2] == ("1", "2")
        assert len(changes) == 3
        assert "slow" not in str(f.explain([1]))
        assert kinds(f.explain([9])) == ["arguments", "dependency"]
        other = wellkept.keep(cache=cache, name="d", version=2, depends=depends)(lambda n: n)
        assert kinds(other.explain([1])) == ["dependency", "version"]

    def test_expiry_and_stale(self, cache: wellkept.Cache) -> None:
        f = wellkept.keep(cache=cache, ttl=1e-6, name="e")(lambda n: n)
        f(1)
        found = f.explain(1)
        assert (found.outcome, found.cause) == ("miss", "expired")
        assert found.kept is not None
        stale = wellkept.keep(cache=cache, ttl=1e-6, stale="1 d", name="e")(f.__wrapped__)
        assert stale.explain(1).outcome == "stale"
        assert stale.explain(1).hit
        assert stale.stats().stale == 0

    def test_eviction(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="big")(lambda n: b"x" * n)
        f(5000)
        directory.values.delete(f.call(5000).result)
        found = f.explain(5000)
        assert (found.outcome, found.cause) == ("miss", "evicted")

    def test_eviction_record_and_all(self, cache: wellkept.Cache) -> None:
        f = Counted(cache).f
        f([1])
        f([2])
        assert cache.evict(keys=[f.key([1])]).calls >= 1
        found = f.explain([1])
        assert (found.outcome, found.cause) == ("miss", "evicted")
        assert "record and all" in str(found)
        assert f.explain([3]).cause == "arguments"
        cache.flush()
        assert cache.backend.notes.get(f"leaves/{f.key([1])}") is None, "it goes with the call"
        assert cache.backend.notes.get(f"leaves/{f.key([2])}") is not None
        f([1])
        assert f.explain([1]).hit

    def test_eviction_by_a_limit(self, directory: wellkept.Cache) -> None:
        limited = directory.limited(calls=5, policy="fifo")
        f = wellkept.keep(cache=limited, name="many")(lambda n: n)
        for n in range(8):
            f(n)
        assert f.explain(0).cause == "evicted"

    def test_damage(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="array")(lambda n: np.zeros(n))
        f(100_000)
        (blob,) = (directory.backend.blobs.root).rglob("*/*")  # type: ignore[attr-defined]
        assert f.explain(100_000).hit
        blob.chmod(0o600)
        content = bytearray(blob.read_bytes())
        content[1000] ^= 1
        blob.write_bytes(content)
        found = f.explain(100_000)
        assert (found.outcome, found.cause) == ("miss", "damaged")
        assert blob.exists(), "it is not healed by looking"
        assert directory.counts["damaged"] == 0
        blob.unlink()
        assert "is missing" in str(f.explain(100_000))

    def test_what_could_not_be_kept(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="lock")(lambda n: (x for x in range(n)))
        with pytest.warns(wellkept.KeptWarning):
            f(1)
        found = f.explain(1)
        assert found.cause == "unstorable"
        assert "its result could not be kept" in str(found)

    def test_a_full_disk(self, directory: wellkept.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        f = wellkept.keep(cache=directory, name="full")(lambda n: n)

        def commit(*_: Any) -> None:
            raise StoreError(f"can't write: {os.strerror(errno.ENOSPC)}")

        with monkeypatch.context() as patch:
            patch.setattr(directory.backend, "commit_many", commit)
            with pytest.warns(wellkept.KeptWarning):
                f(1)
        assert f.explain(1).cause == "unavailable"
        assert "No space left" in str(f.explain(1))
        f(1)
        assert f.explain(1).hit
        f.forget(1)
        assert f.explain(1).cause == "never called", "what was in the way is no longer"

    def test_declined_and_raised(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="when", when=lambda result: result > 5)(lambda n: n)
        f(1)
        assert f.explain(1).cause == "declined"

        @wellkept.keep(cache=directory, name="raises")
        def raises() -> None:
            raise ValueError

        with pytest.raises(ValueError, match=r"^$"):
            raises()
        assert raises.explain().cause == "raised"
        assert "ValueError" in str(raises.explain())

    def test_what_is_never_kept(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="r", require="n")(lambda n=None: n)
        assert (f.explain().outcome, f.explain().cause) == ("unkept", "required")
        with Path(os.devnull).open() as stream:
            found = f.explain({"stream": stream})
        assert (found.outcome, found.cause) == ("unkept", "undigestible")
        assert 'arguments["n"]["stream"]' in str(found)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert f.stats().undigestible == 0

    def test_filtered_and_unreachable(
        self, directory: wellkept.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        near, far = wellkept.open(tmp_path / "near"), directory
        f = wellkept.keep(cache=wellkept.Stack(near, far), name="s")(lambda n: n)
        far_only = wellkept.keep(cache=far, name="s")(f.__wrapped__)
        far_only(1)
        found = f.explain(1)
        assert found.hit
        assert found.kept is not None
        assert found.kept["layer"] == repr(far)
        assert [layer["state"] for layer in found.layers] == ["absent", "kept"]
        assert near.calls.get(f.key(1)) is None, "it is not copied nearer by looking"

        def fetch(*_: Any) -> None:
            raise StoreError("no route to host")

        monkeypatch.setattr(far.backend, "fetch", fetch)
        assert "unreachable" in kinds(f.explain(1))
        monkeypatch.undo()
        hidden = wellkept.keep(cache=far.filtered(lambda call: False), name="s")(f.__wrapped__)
        assert hidden.explain(1).cause == "hidden"

    def test_caches_that_keep_nothing(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=wellkept.open("void:"), name="s")(lambda n: n)
        f(1)
        assert kinds(f.explain(1)) == ["void"]
        g = wellkept.keep(cache=directory.readonly(), name="s")(lambda n: n)
        g(1)
        assert kinds(g.explain(1)) == ["read-only", "never called"]

    def test_digests_hide_values(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="d", arguments="digests")(lambda config, n=1: n)
        f({"token": "hunter2", "x": 1})
        text = str(f.explain({"token": "hunter3", "x": 1}))
        assert 'arguments["config"]["token"]: ' in text
        assert '["x"]' not in text
        assert "hunter" not in text
        notes = directory.backend.notes
        assert not any(b"hunter" in (notes.get(key) or b"") for key in notes.keys(""))


class TestNotes:
    def test_scalars_have_none(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="n")(lambda *args: args)
        g = wellkept.keep(cache=directory, name="m")(lambda n, s: 0)
        g(1, "x"), g(None, b"x")
        directory.flush()
        assert not list(directory.backend.notes.keys("leaves/"))
        f(1)
        directory.flush()
        assert len(list(directory.backend.notes.keys("leaves/"))) == 1

    def test_they_tell_what_was_before_the_body_changed_it(self, directory: wellkept.Cache) -> None:
        @wellkept.keep(cache=directory, name="changes")
        def changes(items: list[int]) -> int:
            items.append(0)
            return 1

        changes([1])
        assert 'arguments["items"][0]: 1 -> 2' in str(changes.explain([2]))
        assert "1 place" in str(changes.explain([2]))

    def test_generators_and_failures_have_them(self, directory: wellkept.Cache) -> None:
        @wellkept.keep(cache=directory, name="gen")
        def gen(items: list[int]) -> Any:
            yield from items

        list(gen([1]))
        assert 'arguments["items"][0]: 1 -> 2' in str(gen.explain([2]))

    def test_they_go_where_the_call_goes(self, directory: wellkept.Cache, tmp_path: Path) -> None:
        def outer(n: Any) -> Any:
            return helper(len(n))

        wellkept.keep(cache=directory, name="moved")(outer)([1])
        with wellkept.open(tmp_path / "other") as other:
            directory.transfer(other, move=True)
            f = wellkept.keep(cache=other, name="moved")(outer)
            assert 'arguments["n"][0]: 1 -> 2' in str(f.explain([2]))
            changed = wellkept.keep(cache=other, name="moved")(lambda n: helper(n[0]))
            assert "-    return helper(len(n))" in str(changed.explain([1]))

    def test_not_where_nothing_is_to_be_recorded(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory, name="n", meta=False)(lambda x: 0)
        f([1])
        directory.flush()
        assert not list(directory.backend.notes.keys("leaves/"))
        assert f.explain([2]).cause == "arguments"

    def test_a_cache_that_does_not_take_them(self, directory: wellkept.Cache) -> None:
        f = wellkept.keep(cache=directory.readonly(), name="n")(lambda x: 0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert f([1]) == 0

    def test_they_are_written_many_at_once(
        self, directory: wellkept.Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said: list[int] = []
        put_many = directory.backend.notes.put_many
        monkeypatch.setattr(
            directory.backend.notes,
            "put_many",
            lambda items: (said.append(len(items)), put_many(items)),
        )
        monkeypatch.setattr("wellkept.caches.core._SOON", 1e9)
        f = wellkept.keep(cache=directory, name="n")(lambda x: 0)
        for n in range(450):
            f([n])
        assert [count for count in said if count > 1] == [200, 200]
        directory.close()
        assert sum(count for count in said if count > 1) >= 449


def state_of(root: Path) -> dict[str, Any]:
    """Every file, but for the words that SQLite's readers write to its shared index."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith("-shm")
    }


@pytest.mark.parametrize("kind", ["directory", "files", "sqlite", "stack"])
def test_it_leaves_no_trace(kind: str, tmp_path: Path) -> None:
    root = tmp_path / "all"
    root.mkdir(mode=0o700)
    made: dict[str, Callable[[], wellkept.Cache]] = {
        "directory": lambda: wellkept.open(root / "cache"),
        "files": lambda: wellkept.open(f"files:{root}/files"),
        "sqlite": lambda: wellkept.open(f"sqlite:///{root}/calls.db"),
        "stack": lambda: wellkept.Stack(wellkept.open(root / "near"), wellkept.open(root / "far")),
    }
    with made[kind]() as cache:
        counted = Counted(cache)
        f = counted.f
        for n in range(20):
            f(Config({"n": n}))
        f(Config({"n": 0}))
        cache.flush()
        f.call(Config({"n": 0}))
        before, stats = state_of(root), f.stats().to_dict()
        entries = dict(cache.tier.entries)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert f.explain(Config({"n": 0})).hit
            assert f.explain(Config({"n": 99})).cause == "arguments"
            assert f.explain(np.zeros(3)).cause == "arguments"
        assert counted.ran == 20
        assert f.stats().to_dict() == stats
        assert cache._uses == {}
        assert cache.tier.entries == entries
        assert state_of(root) == before
        assert f.call(Config({"n": 0})).uses == 1


def test_what_is_pending_counts(tmp_path: Path) -> None:
    with wellkept.open(tmp_path / "cache") as cache:
        f = Counted(cache).f
        f(None)
        f(None)
        found = f.explain(None)
        assert found.kept is not None
        assert found.kept["uses"] == 1
        assert f.call(None).uses == 1  # which writes it


def test_as_data_and_in_a_notebook(directory: wellkept.Cache) -> None:
    f = Counted(directory).f
    f({"a": "<b>"})
    found = f.explain({"a": "<i>\x1b[31m"})
    assert json.loads(json.dumps(found.to_dict()))["outcome"] == "miss"
    shown = found._repr_html_()
    assert shown.startswith("<table>")
    assert "<b>" not in shown
    assert "\x1b" not in str(found)
    assert str(found) == repr(found)
    assert "arguments" in found.__rich__().plain


def test_methods_coroutines_and_wrong_calls(directory: wellkept.Cache) -> None:
    @wellkept.keep(cache=directory, name="co")
    async def co(n: int) -> int:
        return n

    assert co.explain(1).cause == "never called"
    with pytest.raises(TypeError):
        co.explain(1, 2, 3)  # type: ignore[call-arg]


def test_an_argument_by_its_digest(directory: wellkept.Cache) -> None:
    f = Counted(directory).f
    f([1, 2])
    assert f.explain(wellkept.digest([1, 2])).hit


def test_what_is_not_yet_written_down_of_a_call_is_known() -> None:
    @wellkept.keep
    def f(x: int, opts: dict[str, str]) -> int:
        return x

    for x in range(3):
        f(x, {"a": "b"})
    assert "arguments[\"opts\"][\"a\"]: 'b' -> 'c'" in str(f.explain(2, {"a": "c"}))


def test_what_counts_as_a_whole_is_told_with_the_reason(
    cache: wellkept.Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import io\n\nSTREAM = io.StringIO('2')\n\n"
        "def f(x):\n    return x * int(STREAM.getvalue())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "whole_of_all.py").write_text(text)
    f = wellkept.keep(cache=cache)(importlib.import_module("whole_of_all").f)
    f(2)
    said = f.explain(2)
    [why] = said.widened["whole_of_all"]
    assert "StringIO" in why
    assert f"all of whole_of_all: {why}" in str(said)
    assert said.to_dict()["widened"] == {"whole_of_all": [why]}
    cache.flush()
    assert explain_key(cache, f.key(2)).widened == said.widened
    # The same, when it has changed.
    monkeypatch.delitem(sys.modules, "whole_of_all")
    (tmp_path / "whole_of_all.py").write_text(text.replace("'2'", "'30'"))
    importlib.invalidate_caches()
    again = wellkept.keep(cache=cache)(importlib.import_module("whole_of_all").f)
    assert again.explain(2).cause == "code"
    assert f"all of it counts: {why}" in str(again.explain(2))
    monkeypatch.delitem(sys.modules, "whole_of_all")
