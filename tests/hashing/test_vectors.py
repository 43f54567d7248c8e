"""The published vectors, in this process and under other interpreters and hash seeds."""

from __future__ import annotations

import functools
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(400)

VECTORS = Path(__file__).resolve().parents[1] / "vectors"
SRC = Path(__file__).resolve().parents[2] / "src"
KEPT = json.loads((VECTORS / "k1.json").read_text())
SEEDS = ("0", "1", "4242")


def _works(python: str) -> str:
    """The version of an interpreter, "" if it does not start or is not CPython 3.11 or later."""
    code = "import sys; print(sys.implementation.name, *sys.version_info[:3])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    name, *numbers = done.stdout.split() or ["", ""]
    version = tuple(map(int, numbers)) if done.returncode == 0 and name == "cpython" else ()
    return ".".join(numbers) if version >= (3, 11) else ""


def _interpreters() -> dict[str, str]:
    """Version -> path, of every CPython from 3.11 that is here (once a minor version)."""
    asked = os.environ.get("WELLKEPT_PYTHONS", "")
    paths = asked.split(os.pathsep) if asked else []
    if not asked:
        minors = range(11, 20)
        paths += [found for n in minors if (found := shutil.which(f"python3.{n}"))]
        root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
        paths += [str(path) for path in sorted(root.glob("3.*/bin/python"))]
    found: dict[str, str] = {".".join(map(str, sys.version_info[:3])): sys.executable}
    for path in paths:
        version = _works(path)
        if version and not any(known.split(".")[:2] == version.split(".")[:2] for known in found):
            found[version] = path
    return found


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


PYTHONS = _interpreters()  # while the environment is still the user's


@functools.lru_cache
def _run(python: str, seed: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, str(VECTORS / "check.py"), str(SRC)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


OWN = ".".join(map(str, sys.version_info[:3]))
# Others, which have no compiled blake3, take seconds.
OTHERS = [(version, SEEDS[2]) for version in PYTHONS if version != OWN]


@pytest.mark.parametrize(
    ("version", "seed"),
    [
        (OWN, SEEDS[0]),
        *(pytest.param(*each, marks=pytest.mark.long) for each in ((OWN, SEEDS[1]), *OTHERS)),
    ],
)
def test_every_interpreter_and_hash_seed_agrees(version: str, seed: str) -> None:
    found = _run(PYTHONS[version], seed)
    assert found["python"] == version
    wrong = {
        item["expr"]: found["digests"][item["expr"]]
        for item in KEPT
        if found["digests"].get(item["expr"], item["digest"]) != item["digest"]
    }
    assert not wrong
    assert len(found["digests"]) > 0.95 * len(KEPT)


def test_at_least_three_minor_versions_ran(record_property: Any) -> None:
    ran = ", ".join(PYTHONS)
    record_property("interpreters", ran)
    if len(PYTHONS) < 3:
        pytest.skip(f"only CPython {ran} is here; set WELLKEPT_PYTHONS to the paths of others")


def test_vectors_are_of_all_expressions_and_show_their_encoding() -> None:
    script = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; import json;"
        "from expressions import DISTINCT, NAMESPACE;"
        "from wellkept.hashing.encoding import Cyclic, reference_encoding;"
        "import blake3\n"
        "for item in json.load(open(sys.argv[1] + '/k1.json')):\n"
        "    assert item['expr'] in DISTINCT, item\n"
        "    if 'encoding_hex' in item:\n"
        "        made = reference_encoding(eval(item['expr'], dict(NAMESPACE)))\n"
        "        assert made.hex() == item['encoding_hex'], item\n"
        "        assert blake3.blake3(made).hexdigest() == item['digest'], item\n"
        "assert len(DISTINCT) == len(set(DISTINCT))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(VECTORS), str(SRC)], check=True, timeout=300)
    assert sum("encoding_hex" in item for item in KEPT) > 150


def test_vectors_differ_pairwise() -> None:
    digests = [item["digest"] for item in KEPT]
    assert len(set(digests)) == len(digests) > 280


def test_equal_values_agree() -> None:
    found = _run(sys.executable, SEEDS[0])["digests"]
    sys.path.insert(0, str(VECTORS))
    try:
        from expressions import EQUAL
    finally:
        sys.path.remove(str(VECTORS))
    assert [pair for pair in EQUAL if found[pair[0]] != found[pair[1]]] == []


def test_values_of_a_project_as_the_second_scheme_has_them() -> None:
    done = subprocess.run(
        [sys.executable, str(VECTORS / "k2.py")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = json.loads(done.stdout)
    assert found == json.loads((VECTORS / "k2.json").read_text())
    first = {item["expr"]: item["digest"] for item in KEPT}
    for text, item in found.items():  # what says itself what it is counts without code
        assert (item["digest"] == first.get(text)) == (text == "Standing(1)")


def _as_kept(found: dict[str, str]) -> None:
    kept = json.loads((VECTORS / "libraries.json").read_text())
    assert {text: digest for text, digest in found.items() if kept.get(text) != digest} == {}
    assert len(found) > 25


def test_library_types_keep_their_digests() -> None:
    """Under whatever hash seed this process has."""
    _as_kept(runpy.run_path(str(VECTORS / "libraries.py"))["digests"](str(SRC)))


@pytest.mark.long
def test_library_types_keep_their_digests_under_another_seed() -> None:
    done = subprocess.run(
        [sys.executable, str(VECTORS / "libraries.py"), str(SRC)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": SEEDS[1]},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    _as_kept(json.loads(done.stdout)["digests"])
