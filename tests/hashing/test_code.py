"""The deep identity: which edits of a project change it, and what is noticed while a process runs."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from tests.thorough import some
from wellkept.hashing.code import deep

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def edits() -> Any:
    """The corpus of edits, which the documentation shows beside other libraries."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module("edits")
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def wrong(corpus: list[Any], verdicts: list[str]) -> dict[str, str]:
    return {
        edit.what: verdict
        for edit, verdict in zip(corpus, verdicts, strict=True)
        if verdict != ("needless" if getattr(edit, "explained", "") else "right")
    }


def together(edits: Any) -> list[Any]:
    """A sixth of the edits that are to be seen, and all others in as few projects as they go into."""
    texts: dict[str, str] = {}
    found: list[Any] = []
    for number, edit in enumerate(edits.EDITS):
        if edit.seen and number % 6:
            continue
        if edit.seen or edit.entry != "app" or edit.explained:
            found.append(edit)
            continue
        if not all(old and old in texts.get(file, "") for file, old, _ in edit.changes):
            texts = dict(edits.PROJECT)
            found.append(edits.same("at once"))
        for file, old, new in edit.changes:
            texts[file] = texts.get(file, "").replace(old, new) if old else new
        last = max(n for n, each in enumerate(found) if each.what.startswith("at once"))
        what = f"{found[last].what}, {edit.what}"
        found[last] = found[last]._replace(what=what, changes=found[last].changes + edit.changes)
    return found


@pytest.mark.timeout(600)
@pytest.mark.parametrize("each", ["together", pytest.param("alone", marks=pytest.mark.long)])
def test_every_edit_is_seen_that_changes_a_result_and_no_other(
    edits: Any, monkeypatch: pytest.MonkeyPatch, each: str
) -> None:
    assert len(edits.EDITS) >= 80
    if each == "together":
        monkeypatch.setattr(edits, "EDITS", together(edits))
        assert 8 < sum(edit.seen for edit in edits.EDITS) < len(edits.EDITS) < 20
    assert wrong(edits.EDITS, edits.of_edits("wellkept")) == {}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("few", [13, pytest.param(100, marks=pytest.mark.long)])
def test_so_is_each_way_in_which_code_can_depend_on_something(edits: Any, few: int) -> None:
    assert len(edits.CASES) >= 300
    cases = edits.CASES[::25] if few < 20 else some(edits.CASES, few)
    assert wrong(cases, edits.of_cases("wellkept", cases=cases)) == {}


@pytest.mark.long
def test_the_same_of_scripts_and_notebooks(edits: Any) -> None:
    assert wrong(edits.PROGRAMS, edits.of_programs("wellkept")) == {}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_the_same_when_python_is_another_afterwards(
    edits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    # Those that hold more than what the vectors need.
    whole = sorted(ROOT.glob(".venv-test-3.*/.wheel"))
    pythons = [str(found) for each in whole if works(found := each.with_name("bin") / "python")]
    if len(pythons) < 2:
        pytest.skip(
            "the tests' environments of two CPythons are needed; `make test-all` makes them"
        )
    for before, after in zip(pythons, [*pythons[1:], pythons[0]], strict=True):
        assert wrong(edits.EDITS, edits.of_edits("wellkept", (before, after))) == {}
        assert wrong(edits.CASES, edits.of_cases("wellkept", (before, after))) == {}


def works(python: Path) -> bool:
    done = subprocess.run(
        [python, "-c", "import wellkept, blake3"], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a module of the project from its text."""
    monkeypatch.syspath_prepend(tmp_path)
    made: list[str] = []

    def load(name: str, text: str) -> ModuleType:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        made.append(name)
        # A text that is as young as its import is not taken for what was loaded.
        while time.time_ns() - file.stat().st_ctime_ns < 50_000_000:
            time.sleep(0.01)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield load
    for name in made:
        sys.modules.pop(name, None)


def test_what_a_test_puts_into_a_library_is_noticed(load: Any, monkeypatch: Any) -> None:
    module = load("alone_of_all", "import math\n\ndef f(x):\n    return math.sqrt(abs(x))\n")
    found = deep(module.f)
    assert found.guards.same()
    with monkeypatch.context() as patch:
        patch.setattr(math, "sqrt", lambda x: x)
        assert not found.guards.same()
        assert deep(module.f).hex != found.hex
    assert found.guards.same()
    monkeypatch.setattr(module, "abs", lambda x: x, raising=False)
    assert not found.guards.same()


def test_a_table_of_functions_is_compared_at_each_call(load: Any) -> None:
    module = load(
        "table_of_all",
        "def one(x):\n    return 1\n\ndef two(x):\n    return 2\n\n"
        "TABLE = {'a': one}\n\ndef f(x):\n    return TABLE['a'](x)\n",
    )
    found = deep(module.f)
    assert found.guards.same()
    module.TABLE["a"] = module.two
    assert not found.guards.same()
    again = deep(module.f)
    assert again.hex != found.hex
    del module.TABLE["a"]
    assert not again.guards.same()


def test_what_says_its_own_digest_may_change_beside_it(load: Any) -> None:
    module = load(
        "counter_of_all",
        "class Counter:\n    def __init__(self):\n        self.ticks, self.named, self.other = 0, 'a', []\n\n"
        "    def __digest__(self):\n        return self.named\n\n    def tick(self):\n        return 1\n\n"
        "COUNTER = Counter()\n\ndef f(x):\n    COUNTER.tick()\n    return x\n",
    )
    found, counter = deep(module.f), module.COUNTER
    counter.ticks += 1
    counter.other.append(1)
    assert found.guards.same()
    assert deep(module.f).hex == found.hex
    counter.named = "b"
    assert not found.guards.same()
    assert deep(module.f).hex != found.hex
    counter.named = "a"
    assert found.guards.same()
    module.Counter.tick = lambda self: 2
    assert not found.guards.same()


def test_what_took_the_place_of_something_gone_is_another(load: Any) -> None:
    module = load(
        "gone_of_all", "class A:\n    pass\n\nHELD = [A()]\n\ndef f(x):\n    return HELD\n"
    )
    found = deep(module.f)
    for _ in range(100):  # an object of the same kind may well lie where the other lay
        module.HELD[0] = module.A()
        assert not found.guards.same()


def test_a_module_that_is_loaded_again_is_noticed(load: Any, tmp_path: Path) -> None:
    load("inner_of_all", "def inner(x):\n    return x\n")
    load("outer_of_all", "from inner_of_all import inner\n\ndef helper(x):\n    return inner(x)\n")
    module = load(
        "top_of_all", "from outer_of_all import helper\n\ndef f(x):\n    return helper(x)\n"
    )
    found = deep(module.f)
    assert found.guards.same()
    importlib.reload(sys.modules["inner_of_all"])
    assert not found.guards.same()


def test_a_registry_in_a_class_is_followed(load: Any) -> None:
    text = (
        "class Base:\n    _known = {}\n\n    def __init_subclass__(cls):\n"
        "        cls._known[cls.__name__] = cls\n\n"
        "class Sub(Base):\n    def of(self, x):\n        return x\n\n"
        "def f(x):\n    return Base._known['Sub']().of(x)\n"
    )
    before = deep(load("registry_one", text).f).hex
    assert deep(load("registry_two", text).f).hex == before
    assert (
        deep(load("registry_three", text.replace("return x\n\n", "return -x\n\n")).f).hex != before
    )


def test_what_singledispatch_registers_is_followed(load: Any) -> None:
    text = (
        "import functools\n\n@functools.singledispatch\ndef shown(x):\n    return 0\n\n"
        "@shown.register\ndef _(x: int):\n    return 1\n\ndef f(x):\n    return shown(x)\n"
    )
    before = deep(load("dispatch_one", text).f).hex
    assert deep(load("dispatch_two", text.replace("return 1", "return 2")).f).hex != before


def test_a_proxy_that_raises_is_a_value_like_others(load: Any) -> None:
    module = load(
        "proxy_of_all",
        "class Proxy:\n    @property\n    def __class__(self):\n        raise RuntimeError('none')\n\n"
        "request = Proxy()\n\ndef f(x):\n    return x or request\n",
    )
    assert deep(module.f).hex == deep(module.f).hex


def test_a_method_without_source_counts_with_all_of_its_class() -> None:
    def made(rate: int) -> Any:
        space: dict[str, Any] = {"__name__": "no_such_module"}
        text = f"class A:\n    rate = {rate}\n    def f(self):\n        return self.rate\n"
        exec(text, space)
        return space["A"]

    one, two = made(1), made(2)
    assert deep(one.f, one).hex != deep(two.f, two).hex


HOLDS = (
    "import types\n\nclass Data:\n    pass\n\nDATA = [Data()]\n\ndef other(x):\n    return 1\n\n"
    "def f(x):\n    return HELD.space['other'](x)\n\nHELD = types.SimpleNamespace(space=globals())\n"
)


def test_a_namespace_that_an_object_holds_counts_by_the_text_of_its_module(load: Any) -> None:
    module = load("holds_one", HOLDS)
    found = deep(module.f)
    assert list(found.widened) == ["holds_one"]
    assert "holds_one:other" not in found.parts
    assert deep(load("holds_two", HOLDS).f).hex == found.hex
    assert deep(load("holds_three", HOLDS.replace("return 1", "return 2")).f).hex != found.hex


def test_what_is_bound_anew_in_a_namespace_that_an_object_holds_is_followed(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load("holds_anew", HOLDS)
    helper = load("holds_helper", "def other(x):\n    return 2\n")
    found = deep(module.f)
    assert found.guards.same()
    made = []
    with monkeypatch.context() as patch:
        for value in (helper.other, lambda x: 3, lambda x: 4, module.Data):
            patch.setattr(module, "other", value)
            assert not found.guards.same()
            made.append(deep(module.f).hex)
        assert len({found.hex, *made}) == 5
        patch.setattr(module, "other", mock.Mock())
        assert deep(module.f).mocked
    assert found.guards.same()
    assert deep(module.f).hex == found.hex
    importlib.reload(module)
    assert not found.guards.same()


def test_what_pydantic_validates_does_not_reach_all_of_its_module(load: Any) -> None:
    pytest.importorskip("pydantic")
    text = "from pydantic import validate_call\n\n@validate_call\ndef f(x: int):\n    return x\n"
    text += "".join(
        f"\nclass A{n}:\n    pass\n\ndef f{n}(x, by=A{n}()):\n    return x\n" for n in range(30)
    )
    found = deep(load("validated_one", text).f)
    assert list(found.widened) == ["validated_one"]
    assert not [name for name in found.parts if name.startswith("validated_one:f1")]
    assert not found.hidden


def test_classes_and_lambdas_of_one_name_or_line_are_told_apart(load: Any) -> None:
    text = (
        "if 1:\n\n    class A:\n        class A:\n            x = 1\n\n        def m(self):\n"
        "            return 1\n\nclass B:\n    '''\nclass C:\n    x = 3\n'''\n\n"
        "C = type('C', (), {'x': 4})\n\nBOTH = [lambda x: 1, lambda x: 2]\n\n"
        "def f(x):\n    return A.A.x, A().m(), B, C.x, BOTH[0](x)\n"
    )
    before = deep(load("apart_one", text).f).hex
    assert deep(load("apart_two", text + "\n\nclass D:\n    pass\n").f).hex == before
    for at, edit in enumerate(("x = 1", "return 1", "'x': 4", "lambda x: 1")):
        other = text.replace(edit, edit[:-1] + "9")
        assert deep(load(f"apart_other_{at}", other).f).hex != before
