"""The identity of functions: what they do and hold, and not how they are written down."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wellkept.errors import Undigestible
from wellkept.hashing import Identity, digest, identify
from wellkept.hashing.code.definitions import function_text


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """A module made of a source text."""
    made: list[str] = []

    def load(source: str, name: str = "made") -> Any:
        path = tmp_path / f"{name}{len(made)}.py"
        path.write_text(textwrap.dedent(source))
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made.append(name)
        return module

    return load


def code(load: Any, source: str) -> str:
    return str(identify(load(source).f).code)


BASE = """
def f(x, y=1):
    z = x + y
    return z
"""


@pytest.mark.parametrize(
    "source",
    [
        '\ndef f(x, y=1):\n    """Says something."""\n    z = x + y\n    return z\n',
        "\n# before\ndef f(x,   y = 1):  # why\n\n    z = (x +\n         y)\n    return z\n",
        "\ndef f(x: int, y: 'str' = 1) -> list[int]:\n    z: int = x + y\n    return z\n",
        "\nif True:\n    def f(x, y=1):\n        z = x + y\n        return z\n",
        "\nimport os\n\nother = 1\n\ndef f(x, y=1):\n    z = x + y; return z\n",
        "\nfrom wellkept import keep\nkeep_ = lambda **k: (lambda g: g)\n"
        "keep_.__module__ = 'wellkept.memo'\n"
        "@keep_(version=1)\ndef f(x, y=1):\n    z = x + y\n    return z\n",
    ],
    ids=[
        "docstring",
        "comments",
        "annotations",
        "indented",
        "elsewhere",
        "wellkept's own decorator",
    ],
)
def test_what_does_not_count(load: Any, source: str) -> None:
    assert code(load, source) == code(load, BASE)


@pytest.mark.parametrize(
    "source",
    [
        "def f(x, y=2):\n    z = x + y\n    return z\n",
        "def f(x, y=1.0):\n    z = x + y\n    return z\n",
        "def f(x, y=True):\n    z = x + y\n    return z\n",
        "def f(x, y):\n    z = x + y\n    return z\n",
        "def f(x, *, y=1):\n    z = x + y\n    return z\n",
        "def f(x, /, y=1):\n    z = x + y\n    return z\n",
        "def f(x, y=1):\n    z = x - y\n    return z\n",
        "def f(x, y=1):\n    z = x + y\n    return None\n",
        "async def f(x, y=1):\n    z = x + y\n    return z\n",
        "def d(g): return g\n@d\ndef f(x, y=1):\n    z = x + y\n    return z\n",
        "def f(x, y=1):\n    w = x + y\n    return w\n",
        "def f(x, y=1):\n    global z\n    z = x + y\n    return z\n",
    ],
)
def test_what_counts(load: Any, source: str) -> None:
    assert code(load, source) != code(load, BASE)


def test_texts_keep_their_indentation(load: Any) -> None:
    first = "class A:\n    def f(self):\n        return '''a\n  b'''\n"
    second = "class A:\n    def f(self):\n        return '''a\nb'''\n"
    assert identify(load(first).A.f).code != identify(load(second).A.f).code


def test_constants_of_equal_value_and_other_type(load: Any) -> None:
    codes = {
        code(load, f"def f(): return {text}\n")
        for text in ("1", "1.0", "True", "'1'", "-0.0", "0.0")
    }
    assert len(codes) == 6


def test_annotations_count_where_a_decorator_may_read_them(load: Any) -> None:
    plain = "def d(g): return g\n@d\ndef f(x: {}): return x\n"
    assert code(load, plain.format("int")) != code(load, plain.format("str"))
    kept = "from wellkept import keep\n@keep\ndef g(x: {}): return x\nf = g.__wrapped__\n"
    assert code(load, kept.format("int")) == code(load, kept.format("str"))
    assert code(load, kept.format("int")) == code(load, "def f(x): return x\n")
    fields = "def f():\n    class A:\n        x: {} = 1\n    return A\n"
    assert code(load, fields.format("int")) != code(load, fields.format("str"))


PINNED = '''\
def f(x, y=1, *, z: int = 0b11) -> list[int]:
    """Says something."""

    class Inner:
        """Nothing else."""

        a: int = 1

        if x:
            b: str = "b"

    def nothing():
        """Says more."""

    w: float
    w: float = x + 1.5e300
    match x:
        case {"k": [_, *rest], **others} if others:
            return [f"{rest!r:>{y}}" f"a" for rest in rest if not rest]
        case Inner(a=-1j | b"x") as found:
            return lambda p, /, q=None: (yield p) or q
    try:
        return [*map(nothing, x[1:2, ...]), w, z]
    except* (ValueError, TypeError) as error:
        raise RuntimeError from error
'''


def test_a_definition_is_written_as_releases_before_wrote_it(load: Any) -> None:
    """What is kept under `code="own"` and `code="deep"` is found again after an upgrade."""
    function = load(PINNED).f
    assert identify(function).code == (
        "ccbdcba9beefcbe6ae813074e78ed2b6e49b4bdd3e0a5374bf1ca84cd4177e66"
    )
    text = function_text(function)
    said = [text.text, text.chains, sorted(text.written), sorted(text.called), text.imports]
    assert str(digest([*said, sorted(text.set_on), text.hints])) == (
        "a53d83eaf322c29ac045f6ae797526d9dc2a055e546178c0f7216b9a80c1c265"
    )


def test_lambdas() -> None:
    a, b = lambda x: x + 1, lambda x: x + 2
    same = lambda x: x + 1
    nested = [(lambda x: lambda y: x + y), (lambda x: lambda y: x - y)]
    assert identify(a).code == identify(same).code != identify(b).code
    assert identify(nested[0]).code != identify(nested[1]).code
    assert identify(nested[0](1)).code != identify(nested[1](1)).code
    assert identify(nested[0](1)).code != identify(nested[0](2)).code
    several = (
        lambda x: (
            x * 2
        )
    )  # fmt: skip
    assert identify(several).code == identify(lambda x: x * 2).code


def closing(held: Any) -> Any:
    def inner(x: Any = None) -> Any:
        return held, x

    return inner


def test_closures_by_their_values() -> None:
    assert identify(closing(1)) == identify(closing(1))
    codes = [
        identify(closing(held)).code
        for held in (1, 1.0, "1", [1], [2], len, closing(1), np.arange(3))
    ]
    assert len(set(codes)) == len(codes)
    held = [1]
    function = closing(held)
    before = identify(function)
    assert identify(function) == before
    held.append(2)
    assert identify(function) != before
    held.pop()
    assert identify(function) == before


def test_a_cell_that_changes_is_seen() -> None:
    count = 0

    def function() -> int:
        return count

    before = identify(function).code
    count = 1
    assert identify(function).code != before
    function.__defaults__ = (1,)
    assert identify(function).code != before


def test_values_without_a_digest_count_by_their_type() -> None:
    assert identify(closing(threading.Lock())) == identify(closing(threading.Lock()))
    assert identify(closing(threading.Lock())).code != identify(closing(i for i in [])).code


def test_a_function_that_is_a_value_is_refused_by_the_path_to_what_has_no_digest() -> None:
    class Handle:
        def __init__(self) -> None:
            self.lock = threading.Lock()

    def preset(x: Any = 1, *, y: Any = None) -> Any:
        return x, y

    preset.__defaults__ = ([Handle()],)
    with pytest.raises(Undigestible, match=r"value\.__defaults__\[0\]\[0\]\.lock: a lock"):
        digest(preset)
    preset.__defaults__, preset.__kwdefaults__ = (1,), {"y": (Handle(),)}
    with pytest.raises(Undigestible, match=r"value\.y\[0\]\.lock: a lock"):
        digest(preset)
    for given, path in [
        (closing(Handle()), r"value\.held\.lock"),
        (closing(closing(Handle())), r"value\.held\.held\.lock"),
        (functools.partial(closing([Handle()])), r"value\.func\.held\[0\]\.lock"),
    ]:
        with pytest.raises(Undigestible, match=path):
            digest(given)
    # a helper in the closure of what is called does not make it nameless
    assert identify(closing(closing(Handle()))) == identify(closing(closing(Handle())))
    assert identify(closing(closing(Handle()))) != identify(closing(closing(1)))


def test_functions_that_reach_themselves() -> None:
    def make(step: int) -> Any:
        def even(n: int) -> bool:
            return n == 0 or odd(n - step)

        def odd(n: int) -> bool:
            return n != 0 and even(n - step)

        return even, odd

    assert identify(make(1)[0]) == identify(make(1)[0])
    assert identify(make(1)[0]).code != identify(make(2)[0]).code
    assert identify(make(1)[0]).code != identify(make(1)[1]).code
    # whatever was asked for first
    even, odd = make(3)
    first = identify(odd), identify(even)
    even, odd = make(3)
    assert (identify(even), identify(odd)) == first[::-1]
    assert digest(even) == digest(make(3)[0])


def test_wrapped_functions() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    def one(x: int) -> int:
        return x

    def two(x: int) -> int:
        return x + 1

    assert identify(logged(one)).code != identify(one).code
    assert identify(logged(one)).code != identify(logged(two)).code
    assert identify(logged(one)).name == identify(one).name


class Adder:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: int) -> int:
        return x + self.by

    def method(self, x: int) -> int:
        return x

    @classmethod
    def of(cls) -> Adder:
        return cls(1)

    @staticmethod
    def still(x: int) -> int:
        return x


def test_all_that_can_be_called() -> None:
    found = {
        name: identify(value)
        for name, value in {
            "function": closing,
            "instance": Adder(1),
            "other instance": Adder(2),
            "class": Adder,
            "method": Adder(1).method,
            "other method": Adder(2).method,
            "function of a class": Adder.method,
            "class method": Adder.of,
            "static": Adder.still,
            "builtin": len,
            "sum": sum,
            "bound builtin": [1].append,
            "type's method": str.upper,
            "ufunc": np.sin,
            "numpy": np.mean,
            "partial": functools.partial(closing, 1),
            "other partial": functools.partial(closing, 2),
            "named partial": functools.partial(closing, held=1),
            "cached": functools.lru_cache(closing),
            "int": int,
        }.items()
    }
    codes = [identity.code for identity in found.values()]
    assert len(set(codes)) == len(codes)
    assert found["builtin"].name == "builtins:len"
    assert found["method"].name == f"{__name__}:Adder.method"
    assert found["instance"].name == f"{__name__}:Adder"
    assert identify(Adder.__dict__["still"]) == found["static"]
    assert all(identify(value, "off").code == "" for value in (closing, Adder(1), Adder, len))
    assert identify(closing, "off").name == f"{__name__}:closing"
    with pytest.raises(TypeError):
        identify(3)


def test_code_without_a_source_goes_by_its_byte_code() -> None:
    def build(text: str) -> Any:
        space: dict[str, Any] = {}
        exec(compile(text, "<string>", "exec"), space)
        return space["f"]

    assert (
        identify(build("def f(): return 1")).code == identify(build("\n\ndef f(): return 1")).code
    )
    assert identify(build("def f(): return 1")).code != identify(build("def f(): return 2")).code
    assert identify(build("def f(): return 1")).code != identify(build("def f(): return 1.0")).code
    assert identify(build("def f(): return a")).code != identify(build("def f(): return b")).code
    inner = "def f():\n    def g(): return {}\n    return g"
    assert identify(build(inner.format(1))).code != identify(build(inner.format(2))).code
    sets = "def f(x): return x in {'a', 'b', 'c', 'd'}"
    assert identify(build(sets)).code == identify(build(sets)).code


def test_a_source_that_was_edited_after_it_was_loaded_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "edited.py"
    path.write_text("def f():\n    return 1\n")
    spec = importlib.util.spec_from_file_location("edited", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path.write_text("def f():\n    return 2\n")
    linecache.clearcache()
    stale = identify(module.f).code
    again = importlib.util.module_from_spec(spec)
    path.touch()
    exec(compile(path.read_text(), str(path), "exec"), again.__dict__)
    assert identify(again.f).code != stale
    path.write_text("def f():\n    return 1\n")
    linecache.clearcache()
    third: dict[str, Any] = {"__name__": "edited"}
    exec(compile(path.read_text(), str(path), "exec"), third)
    assert identify(third["f"]).code != stale  # that one went by its byte code


def test_python_c_has_no_source_and_no_script(tmp_path: Path) -> None:
    text = (
        "from wellkept.hashing import identify\n"
        "def f(): return 1\n"
        "name, code = identify(f)\n"
        "exec('def g():\\n return 7')\n"
        "def f(): return 2\n"
        "print(name, code, identify(g).code, identify(f).code)"
    )
    lines = [
        subprocess.run(
            [sys.executable, "-c", text],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            timeout=60,
        ).stdout.split()
        for _ in range(2)
    ]
    assert lines[0] == lines[1]
    assert lines[0][1] != lines[0][3]
    assert lines[0][0] == f"{tmp_path.resolve()}/notebook:f"


def test_notebook_cells_go_by_their_text() -> None:
    def cell(text: str, number: int) -> Any:
        name = f"/tmp/ipykernel_{number}/{number}.py"
        linecache.cache[name] = (len(text), None, text.splitlines(True), name)
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, name, "exec"), space)
        return identify(space["f"])

    one = cell("def f(x):\n    return x # one\n", 12)
    assert one == cell("def f(x):\n    return x\n", 345)
    assert one != cell("def f(x):\n    return -x\n", 678)
    assert one.name.endswith("notebook:f")


def test_a_second_look_is_quick() -> None:
    for function in (closing, closing(1), closing(closing(1))):
        identify(function)
        best = min(_time(function) for _ in range(5))
        assert best < 100e-6  # 1 to 2 microseconds on a quiet machine; a first look takes 500


def _time(function: Any) -> float:
    start = time.perf_counter()
    for _ in range(1000):
        identify(function)
    return (time.perf_counter() - start) / 1000


def test_identities_are_values() -> None:
    assert identify(closing) == Identity(f"{__name__}:closing", identify(closing).code)
    assert len(identify(closing).code) == 64
