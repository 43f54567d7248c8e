"""Which function it is: closures, definitions of one name, scripts."""

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from wellkept import keep
from wellkept.memo import target

RAN: list[Any] = []


def run(script: Path, **env: str) -> str:
    import os

    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | env,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scaled(by: Any) -> Any:
    @keep
    def times(x: Any) -> Any:
        RAN.append((by, x))
        return by, x

    return times


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (1, 2),
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ([1], [2]),
        ({"a": 1}, {"a": 2}),
        ("a", b"a"),
        (int, str),
    ],
)
def test_closures_do_not_share(one: Any, two: Any) -> None:
    first, second = scaled(one), scaled(two)
    for _ in range(3):
        assert repr(first(5)) == repr((one, 5))
        assert repr(second(5)) == repr((two, 5))
    assert len(RAN) == 2
    assert scaled(one).key(5) == first.key(5) != second.key(5)


def test_a_cell_that_is_set_again_counts() -> None:
    factor: Any = 2

    @keep
    def f(x: int) -> Any:
        RAN.append(x)
        return x, factor

    for factor in (2, 3, 2, "3", [3], [3, 4], [3]):
        assert f(1) == (1, factor)
        assert f(1) == (1, factor)
    assert len(RAN) == 5


def test_a_cell_whose_content_changes_counts() -> None:
    held = [1]

    @keep
    def f(x: int) -> Any:
        return x, list(held)

    assert f(1) == (1, [1])
    held.append(2)
    assert f(1) == (1, [1, 2])
    held.pop()
    assert f(1) == (1, [1])
    assert (f.stats().computed, f.stats().hits) == (2, 1)


def test_a_function_in_a_cell_counts_with_its_code() -> None:
    def make(body: str) -> Any:
        scope: dict[str, Any] = {}
        exec(f"def helper(x): return {body}", scope)
        helper = scope["helper"]

        @keep
        def f(x: int) -> int:
            return helper(x)  # type: ignore[no-any-return]

        return f

    assert make("x + 1")(1) == 2
    assert make("x + 2")(1) == 3
    assert make("x + 1").contains(1)


def test_a_function_in_a_cell_with_a_changing_closure() -> None:
    step = 1

    def helper(x: int) -> int:
        return x + step

    @keep
    def f(x: int) -> int:
        return helper(x)

    assert f(1) == 2
    step = 5
    assert f(1) == 6
    assert f(1) == 6
    step = 1
    assert f(1) == 2
    assert f.stats().computed == 2


def test_another_body_is_another_function() -> None:
    def one() -> Any:
        @keep(name="f")
        def f(x: int) -> int:
            return x + 1

        return f

    def two() -> Any:
        @keep(name="f")
        def f(x: int) -> int:
            return x + 2

        return f

    def commented() -> Any:
        @keep(name="f")
        def f(x: int) -> int:
            """With words about it."""
            # and more of them
            return x + 1

        return f

    assert [one()(1), two()(1), one()(1), two()(1)] == [2, 3, 2, 3]
    assert commented().key(1) == one().key(1)


def test_another_default_is_another_call() -> None:
    def made(default: Any) -> Any:
        @keep
        def f(x: int = default) -> Any:
            return x

        return f

    assert [made(1)(), made(2)(), made(1.0)(), made(True)()] == [1, 2, 1.0, True]


SCRIPT = """
from wellkept import keep

@keep{options}
def compute(x):
    print("ran", x)
    return {body}

print(compute(3), compute.key(3))
"""


def script(place: Path, body: str = "x * 2", options: str = "") -> Path:
    place.parent.mkdir(exist_ok=True)
    place.write_text(textwrap.dedent(SCRIPT.format(body=body, options=options)))
    return place


def test_a_script_finds_its_calls_again() -> None:
    path = script(Path("a.py"))
    first, second = run(path, PYTHONHASHSEED="1"), run(path, PYTHONHASHSEED="7")
    assert first.startswith("ran 3\n6 ")
    assert second == first.removeprefix("ran 3\n")


def test_two_scripts_do_not_share() -> None:
    one, two = run(script(Path("a.py"))), run(script(Path("b.py")))
    assert one.startswith("ran")
    assert two.startswith("ran")
    assert one != two


def test_a_changed_script_computes_again() -> None:
    assert run(script(Path("a.py"))).startswith("ran 3\n6 ")
    assert run(script(Path("a.py"), "x * 3")).startswith("ran 3\n9 ")
    assert run(script(Path("a.py"))).startswith("6 ")


def test_a_name_keeps_a_script_that_moves() -> None:
    named = '(name="compute")'
    assert run(script(Path("a.py"), options=named)).startswith("ran")
    assert run(script(Path("there/b.py"), options=named)).startswith("6 ")
    assert run(script(Path("plain.py"))).startswith("ran")
    assert run(Path("plain.py").rename("moved.py")).startswith("ran")


def test_an_imported_module_and_the_same_file_as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(Path("a.py"))
    key = run(path).split()[-1]
    Path("b.py").write_text("import a\n")
    assert run(Path("b.py")).split()[-1] == key


LEVEL = 1


def test_a_body_that_changes_what_it_reads_is_kept_under_what_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Whatever threads other tests have left.
    monkeypatch.setattr(target, "_alone", lambda threads: True)
    monkeypatch.setitem(globals(), "LEVEL", 1)

    @keep
    def f(n: int) -> int:
        found = n * LEVEL
        globals()["LEVEL"] = 2
        return found

    tag = f.code_tag
    assert f(3) == 3
    (call,) = f.query().calls()
    assert call.code == tag
    assert f.cache.verify().ok  # each record gives its key
    assert f(3) == 6  # of another constant
