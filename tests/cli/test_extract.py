"""`wellkept export` and `wellkept diff`: formats, what is refused, and how two results differ."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept.cli.app import run
from wellkept.cli.extract import write
from wellkept.errors import ConfigError
from wellkept.runs.nearest import result_changes

np = pytest.importorskip("numpy")
Shell = Callable[..., str]


@wellkept.keep(name="lab:fit", version=1)
def fit(n: int, rate: float = 0.5) -> dict[str, Any]:
    return {"n": n, "rate": rate, "loss": [1.0 / n] * n}


@wellkept.keep(name="lab:fit", version=2)
def refit(n: int, rate: float = 0.5) -> dict[str, Any]:
    return {"n": n, "rate": rate, "loss": [2.0 / n] * n}


@wellkept.keep(name="lab:fail", errors=ValueError)
def fail(n: int) -> None:
    raise ValueError(n)


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], home: Path) -> Shell:
    with wellkept.open(home / "cache") as cache, wellkept.use(cache):
        fit(2), fit(3), refit(2)
        with pytest.raises(ValueError, match="1"):
            fail(1)

    def command(*words: str, code: int = 0) -> str:
        assert run([*words]) == code
        out, err = capsys.readouterr()
        return out if "--json" in words else out + err

    return command


def test_a_result_is_written_by_function_or_key(shell: Shell) -> None:
    assert "wrote fit(n=3, rate=0.5) to a.json" in shell("export", "fit", "a.json", "-a", "n=3")
    assert json.loads(Path("a.json").read_text())["loss"] == [1 / 3] * 3
    assert "--force" in shell("export", fit.key(2)[:8], "a.json", code=2)
    said = json.loads(shell("export", fit.key(2)[:8], "a.json", "--force", "--json"))
    assert (said["key"], said["bytes"]) == (fit.key(2), Path("a.json").stat().st_size)
    # What was computed last, of one call that two versions of the code computed.
    shell("export", "fit", "b.pkl", "-a", "n=2")
    assert pickle.loads(Path("b.pkl").read_bytes())["loss"] == [1.0, 1.0]
    assert "no result: it raised ValueError(1)" in shell("export", "fail", "c.json", code=1)
    assert "there is no directory none" in shell("export", "fit", "none/c.json", code=2)
    assert "fit names 3 calls: " in shell("export", "fit", "c.json", code=2)
    assert sorted(path.name for path in Path().iterdir()) == ["a.json", "b.pkl", "cache"]


def test_formats(home: Path) -> None:
    frames = pytest.importorskip("pandas"), pytest.importorskip("polars")
    table = {"a": [1, 2], "b": ["x", "y,z"]}
    rows = [["a", "b"], ["1", "x"], ["2", "y,z"]]
    for number, value in enumerate(
        (table, [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)],
         frames[0].DataFrame(table), frames[1].DataFrame(table), frames[1].DataFrame(table).to_arrow())
    ):  # fmt: skip
        file = home / f"{number}.csv"
        write(value, file)
        with file.open(newline="") as lines:
            assert [*csv.reader(lines)] == rows
        write(value, file.with_suffix(".parquet"))
        assert (
            frames[1].read_parquet(file.with_suffix(".parquet")).to_dict(as_series=False) == table
        )
        write(value, file.with_suffix(".feather"))
    write(frames[0].DataFrame(table, index=["r", "s"]), home / "named.csv")
    assert (home / "named.csv").read_text().splitlines()[1] == "r,1,x"
    write(np.array([[1, 2], [3, 4]]), home / "a.tsv")
    assert (home / "a.tsv").read_text() == "1\t2\n3\t4\n"
    write(np.arange(3), home / "a.npy")
    assert np.load(home / "a.npy").tolist() == [0, 1, 2]
    write({"x": np.arange(3)}, home / "a.npz")
    assert np.load(home / "a.npz")["x"].tolist() == [0, 1, 2]
    write({"x": np.arange(3), "y": np.float32(1)}, home / "a.json")
    assert json.loads((home / "a.json").read_text()) == {"x": [0, 1, 2], "y": 1.0}
    write("<p>", home / "a.html")
    write(b"\x89PNG", home / "a.png")
    write(home / "a.png", home / "b.png")
    assert (home / "a.html").read_text() == "<p>"
    assert (home / "b.png").read_bytes() == b"\x89PNG"


@pytest.mark.parametrize(
    ("value", "name", "says"),
    [
        ({1}, "a.json", "a set can't be written as .json"),
        (float("nan"), "a.json", "a float can't be written as .json"),
        (3, "a.csv", "no table"),
        (np.zeros((2, 2, 2)), "a.csv", "3 dimensions"),
        ([{1}], "a.npy", "can't be written as .npy"),
        (lambda: 1, "a.pkl", "can't be written as .pkl"),
        (3, "a.xyz", "no format has the suffix '.xyz'; there are .csv"),
        (3, "a", "no format has the suffix ''"),
        (3, "a.parquet", "no table"),
    ],
)
def test_what_a_format_does_not_take_leaves_no_file(
    home: Path, value: Any, name: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        write(value, home / name)
    assert not [*home.glob("*a*")]


def test_what_is_there_is_not_overwritten(home: Path) -> None:
    (home / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        write("new", home / "a.txt")
    assert (home / "a.txt").read_text() == "mine"
    write("new", home / "a.txt", force=True)
    assert [path.read_text() for path in home.iterdir()] == ["new"]


def test_two_results_are_compared(shell: Shell) -> None:
    text = shell("diff", "fit", "--arg", "n=2", code=1)
    assert "2 differences" in text
    assert "result['loss'][0]: 0.5 -> 1.0" in text
    said = json.loads(shell("diff", fit.key(2), refit.key(2), "--json", code=1))
    assert (said["same"], said["left"], said["right"]) == (False, fit.key(2), refit.key(2))
    assert said["differences"][1] == {"path": "result['loss'][1]", "before": "0.5", "after": "1.0"}
    assert "the results are the same" in shell("diff", fit.key(2), fit.key(2))
    assert "no result of other code" in shell("diff", fit.key(3), code=1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (np.arange(4.0), np.array([0, 1, 2.5, 3]), "1 of 4 elements differ, by 0.5 at most"),
        (np.array([np.nan, 1]), np.array([np.nan, 2]), "1 of 2 elements differ, by 1 at most"),
        (np.array([2], "u8"), np.array([1], "u8"), "1 of 1 elements differ, by 1 at most"),
        (np.arange(4.0), np.arange(3.0), "float64 (4,) -> float64 (3,)"),
        ({"a": 1, "b": (1, "x")}, {"a": 1, "b": (1, "y")}, "result['b'][1]: 'x' -> 'y'"),
        ([1], [1, 2], "result[1]: only now, 2"),
        (1, 1.0, "result: 1 -> 1.0"),
        (np.array([0.0]), np.array([-0.0]), "float64 (1,) <"),
    ],
)
def test_how_two_values_differ(before: Any, after: Any, expected: str) -> None:
    (change,) = result_changes(before, after)
    assert expected in str(change)
    assert result_changes(after, after) == []


def test_values_that_contain_themselves_and_names_that_read_alike() -> None:
    class Name:
        def __init__(self, text: str) -> None:
            self.text = text

        def __repr__(self) -> str:
            return "name"

    before, after = [1], [2]
    before.append(before)  # type: ignore[arg-type]  # it contains itself
    after.append(after)  # type: ignore[arg-type]  # it contains itself
    assert str(result_changes(before, after)[0]) == "result[0]: 1 -> 2"
    a, b = Name("a"), Name("b")
    assert result_changes({a: 1, b: 2}, {a: 0, b: 2})


def test_what_has_no_digest_is_told_apart_from_what_has() -> None:
    before, after = [1, (n for n in "a")], [2, (n for n in "a")]
    said = [str(one) for one in result_changes(before, after)]
    assert said == [
        "result[0]: 1 -> 2",
        "result[1]: a generator -> a generator, which can't be compared",
    ]
