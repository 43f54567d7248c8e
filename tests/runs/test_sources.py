"""The source of kept functions, written down beside their results."""

import os
import subprocess
import sys
from pathlib import Path

from wellkept import keep
from wellkept import open as kept_open
from wellkept.runs.sources import recorded, sources

RATE = 3
SECRET = "hunter2"[::-1]


class Model:
    """Doc."""

    def run(self, x: int) -> int:
        return helper(x)  # a comment

    @keep
    def kept_run(self, x: int) -> int:
        return self.run(x)


def helper(x: int) -> int:
    """Doc."""
    return x * RATE + len(SECRET)


def work(x: int) -> int:
    return Model().run(x)


def test_all_that_was_reached_is_there_to_read(tmp_path: Path) -> None:
    cache = kept_open(tmp_path / "cache")
    kept = keep(cache=cache)(work)
    kept(1)
    tag = kept.call(1).code
    found = sources(cache.backend, tag)
    at = f"{__name__}:"
    assert next(iter(found)) == f"{at}work"
    assert found[f"{at}helper"] == ("def helper(x: int) -> int:\n    return x * RATE + len(SECRET)")
    assert found[f"{at}RATE"] == "RATE = 3"
    assert "Doc" not in (found[f"{at}Model"] or "")
    assert "2retnuh" not in str(found), "what a text holds may be a secret"
    assert found == sources(cache.backend, tag.partition(":")[2])
    said = recorded(cache.backend, tag)
    assert said is not None
    assert said.function == kept.function_name
    assert said.parts.keys() == found.keys()


def test_a_method_has_one_more_of_its_receivers_class(tmp_path: Path) -> None:
    cache = kept_open(tmp_path / "cache")
    from wellkept import use

    with use(cache):
        Model().kept_run(2)
        call = Model().kept_run.call(2)
    receiver = call.arguments["@class"].value
    assert f"{__name__}:helper" in sources(cache.backend, receiver)
    assert f"{__name__}:helper" not in sources(cache.backend, call.code)


def test_its_own_code_alone_is_written_down_too(tmp_path: Path) -> None:
    cache = kept_open(tmp_path / "cache")
    kept = keep(cache=cache, code="own")(work)
    kept(1)
    (text,) = sources(cache.backend, kept.code_tag).values()
    assert text == "def work(x: int) -> int:\n    return Model().run(x)"


def test_nothing_is_known_of_a_version_or_of_what_was_never_met(tmp_path: Path) -> None:
    cache = kept_open(tmp_path / "cache")
    kept = keep(cache=cache, version="some/../version")(work)
    kept(1)
    for identity in (kept.code_tag, "none", "", "deep:" + "0" * 64):
        assert sources(cache.backend, identity) == {}
        assert recorded(cache.backend, identity) is None


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    cache = kept_open(tmp_path / "cache")
    kept = keep(cache=cache)(work)
    kept(1)
    cache.backend.notes.put("code/" + kept.code_tag.partition(":")[2], b"{")
    assert sources(cache.backend, kept.code_tag) == {}


def test_nothing_is_written_where_nothing_is_to_be_recorded(tmp_path: Path) -> None:
    cache = kept_open(tmp_path / "cache")
    keep(cache=cache, meta=False)(work)(1)
    assert list(cache.backend.notes.keys("code/")) == []


PROGRAM = """
import json
from wellkept import keep
from wellkept import open as kept_open
from wellkept.runs.sources import recorded
{constant}
def other(x):
    return x
def helper(x):
    {local} = x + RATE
    return {local}{more}
@keep(cache="./c")
def work(x):
    return helper(x) + other(x)
work(1)
print(json.dumps(recorded(work.cache.backend, work.code_tag).parts))
"""


def test_the_digest_of_a_part_tells_which_of_them_changed(tmp_path: Path) -> None:
    import json

    def parts(constant: str = "RATE = 3", local: str = "y", more: str = "") -> dict[str, str]:
        program = tmp_path / "program.py"
        program.write_text(PROGRAM.format(constant=constant, local=local, more=more))
        done = subprocess.run(
            [sys.executable, str(program)],
            cwd=tmp_path,
            env=dict(os.environ, WELLKEPT_CACHE=str(tmp_path / "unused")),
            capture_output=True,
            text=True,
            check=True,
        )
        found: dict[str, str] = json.loads(done.stdout)
        return {name.partition(":")[2]: digest for name, digest in found.items()}

    first = parts()
    assert set(first) == {"work", "helper", "other", "RATE"}
    changed = {
        "helper": parts(more=" + 1"),
        "RATE": parts("RATE = 4"),
        "": parts(local="z"),
    }
    for name, then in changed.items():
        assert {each for each in first if first[each] != then[each]} == ({name} - {""})
