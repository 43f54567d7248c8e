"""No medium is left out of the state machine that holds each to a dict."""

import inspect
from importlib import import_module
from pathlib import Path

from tests.stores.agreement import check_agreement

from wellkept.stores import wrappers
from wellkept.stores.memory import Void
from wellkept.stores.openers import MEDIA

HERE = Path(__file__).parent
REMOTE = HERE.parent / "remote" / "test_agreement.py"
WHERE = {"ssh": REMOTE, "client": REMOTE}


def test_void_agrees_with_a_dict_that_keeps_nothing() -> None:
    check_agreement(lambda: Void[bytes](), replaces=False, keeps=False)


def test_none_is_skipped() -> None:
    modules = {target.partition(":")[0].rpartition(".")[2] for target in MEDIA.values()}
    assert modules == {
        "memory",
        "files",
        "hdf5_files",
        "sqlite_items",
        "sql",
        "redis",
        "object_store",
        *WHERE,
    }
    for module in modules:
        path = WHERE.get(module, HERE / f"test_{module}.py")
        assert "check_agreement(" in path.read_text(), module


def test_no_wrapper_is_skipped() -> None:
    told = inspect.getsource(import_module("tests.stores.test_wrappers"))
    wrapped = told[told.index("WRAP: ") : told.index("ABILITIES")]
    # What is read only can't be told to write; it has tests of its own.
    for name in set(wrappers.__all__) - {"ReadOnly"}:
        assert name in wrapped, name
