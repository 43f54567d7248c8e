"""The directory of an embedded store: who may use it, what is in it, in which order it is written."""

import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

import wellkept
from wellkept import keep
from wellkept.errors import ConfigError, KeptWarning, StoreError, UntrustedSource
from wellkept.records import Call, Digest, Value
from wellkept.stores.blobs import Blobs
from wellkept.stores.embedded import Embedded
from wellkept.stores.sqlite_file import Database


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def call(n: int, result: bytes) -> Call:
    return Call(
        key=Digest(blake3(b"%d" % n).hexdigest()),
        function="f",
        code="none",
        arguments={},
        result=Digest(blake3(result).hexdigest()),
    )


class TestDirectory:
    def test_is_its_owners_alone(self, tmp_path: Path) -> None:
        before = os.umask(0)
        try:
            Embedded(tmp_path / "a" / "b").close()
        finally:
            os.umask(before)
        assert mode(tmp_path / "a" / "b") == 0o700
        assert mode(tmp_path / "a" / "b" / "blobs") == 0o700
        assert mode(tmp_path / "a" / "b" / "tmp") == 0o700

    def test_is_marked_for_backups(self, tmp_path: Path) -> None:
        Embedded(tmp_path / "c").close()
        text = (tmp_path / "c" / "CACHEDIR.TAG").read_text()
        assert text.startswith("Signature: 8a477f597d28d172789f06886806bc55\n")

    @pytest.mark.parametrize("bits", [0o777, 0o720, 0o702, 0o775])
    def test_that_others_can_write_to_is_refused(self, tmp_path: Path, bits: int) -> None:
        root = tmp_path / "c"
        root.mkdir()
        root.chmod(bits)
        with pytest.raises(UntrustedSource, match="chmod go-w"):
            Embedded(root)
        assert list(root.iterdir()) == []
        Embedded(root, trust=True).close()
        root.chmod(0o755)
        Embedded(root).close()

    @pytest.mark.skipif(
        not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives a directory away"
    )
    def test_of_somebody_else_is_refused(self, tmp_path: Path) -> None:
        root = tmp_path / "c"
        root.mkdir(mode=0o700)
        os.chown(root, 12345, -1)
        with pytest.raises(UntrustedSource):
            Embedded(root)
        Embedded(root, trust=True).close()

    def test_a_refused_one_is_a_warning_to_a_caller(self, tmp_path: Path) -> None:
        root = tmp_path / "c"
        root.mkdir()
        root.chmod(0o777)

        @keep(cache=str(root))
        def f(i: int) -> int:
            return i

        with pytest.warns(KeptWarning, match="others can write"):
            assert f(1) == 1
        assert f.stats().unavailable == 1

    def test_many_that_begin_at_once(self, tmp_path: Path) -> None:
        code = (
            "import os, sys; os.umask(0o002); from wellkept.stores.embedded import Embedded;"
            "sys.stdin.readline(); Embedded(sys.argv[1]).count({bytes(32): 1})"
        )
        runs = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", code, str(tmp_path / "new" / "c")],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(6)
        ]
        for run in runs:
            assert run.stdin is not None
            run.stdin.write("\n")
            run.stdin.flush()
        for run in runs:
            assert run.communicate(timeout=60)[1] == ""
            assert run.returncode == 0
        store = Embedded(tmp_path / "new" / "c")
        assert list(store.database.rows("SELECT uses FROM uses")) == [(6,)]
        store.close()

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "c").write_text("a file")
        with pytest.raises(StoreError, match="can't use"):
            Embedded(tmp_path / "c")

    def test_durability_is_one_of_two(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="durability"):
            Embedded(tmp_path / "c", durability="maybe")


class TestOrder:
    def test_blobs_before_the_record(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []

        def noted(kind: Any, name: str, what: str) -> None:
            method = getattr(kind, name)

            def note(*args: Any, **options: Any) -> Any:
                order.append(what)
                return method(*args, **options)

            monkeypatch.setattr(kind, name, note)

        store = Embedded(tmp_path / "c", durability="power")
        noted(Blobs, "_write", "blob")
        noted(os, "replace", "rename")
        noted(os, "fsync", "fsync")
        noted(Database, "writing", "transaction")
        content = bytes(100_000)
        store.commit(call(1, b"r"), Value("pickle", b"head", [content]))
        assert order[0] == "blob"
        assert order.index("fsync") < order.index("rename")
        assert order[-1] == "transaction"
        store.close()

    def test_a_commit_that_fails_keeps_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Embedded(tmp_path / "c")
        monkeypatch.setattr(
            Embedded, "_function", lambda *_: (_ for _ in ()).throw(StoreError("no"))
        )
        with pytest.raises(StoreError, match="no"):
            store.commit(call(1, b"r"), Value("pickle", bytes(5000)))
        assert list(store.calls.keys()) == []
        assert list(store.values.keys()) == []
        store.close()


class TestWhole:
    def test_it_does_not_pickle_but_its_cache_does(self, tmp_path: Path) -> None:
        store = Embedded(tmp_path / "c")
        with pytest.raises(TypeError, match="pickle its cache"):
            pickle.dumps(store)
        store.close()
        with wellkept.open(tmp_path / "c") as cache:
            again = pickle.loads(pickle.dumps(cache))
            assert again.url == cache.url
            again.close()

    def test_it_opens_again(self, tmp_path: Path) -> None:
        store = Embedded(tmp_path / "c")
        one = call(1, b"r")
        store.commit(one, Value("pickle", b"x"))
        store.close()
        store.close()
        assert store.fetch(one.key.raw) is not None
        store.close()

    def test_a_directory_that_is_removed_under_it(self, tmp_path: Path) -> None:
        import shutil

        with wellkept.open(tmp_path / "c") as cache:

            @keep(cache=cache)
            def f(i: int) -> bytearray:
                return bytearray(100_000 + i)

            f(1)
            shutil.rmtree(tmp_path / "c")
            cache.backend._looked = 0.0  # it looks once a second
            assert len(f(2)) == 100_002
            assert f.contains(2)
            assert not f.contains(1)
            assert f(1) == bytearray(100_001)

    def test_uses_are_counted(self, tmp_path: Path) -> None:
        with wellkept.open(tmp_path / "c") as cache:

            @keep(cache=cache)
            def f(i: int) -> int:
                return i

            for _ in range(5):
                f(1)
            cache.flush()
            assert f.call(1).uses == 4
