"""What a newcomer sees first: a short README, a program that hits in its second process, a picture."""

import re
import runpy
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

from tests.docs.pages import fences

import wellkept

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short_and_has_the_two_commands() -> None:
    lines = README.splitlines()
    assert len(lines) <= 120
    assert {"$ pip install wellkept", "$ make demo", "$ make test"} <= set(lines)
    pictures = re.findall(r"^!\[.*\]\((.*)\)$", README, re.MULTILINE)
    assert pictures == ["docs/three-calls.svg", "docs/benchmarks.svg"]


def test_its_links_lead_somewhere() -> None:
    linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", README)}
    assert {link for link in linked if not (ROOT / link).is_file()} == set()


def test_the_program_of_the_readme_computes_in_the_first_process_only(tmp_path: Path) -> None:
    program = next(fence for fence in fences(README) if fence.title == "primes.py")
    # As it is printed, but for the work: what it says of time is for the one who reads it.
    work = program.text.replace("500_000", "1_000")
    assert work != program.text
    (tmp_path / "primes.py").write_text(work, encoding="utf-8")
    command = [sys.executable, "primes.py"]

    def shown() -> list[str]:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return [line.partition(":")[0] for line in done.stdout.splitlines()]

    first, between = shown(), time.time()
    assert shown() == first
    calls = wellkept.active_cache().query("primes:primes_below")
    assert calls.count() == len(first) == 3
    assert calls.where(since=between).count() == 0


def test_the_picture_is_what_its_script_draws() -> None:
    drawn = (ROOT / "docs" / "three-calls.svg").read_text(encoding="utf-8")
    script = runpy.run_path(str(ROOT / "scripts" / "picture"))
    assert drawn == script["picture"]()
    root = ElementTree.fromstring(drawn)
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        place = {name: float(box.attrib[name]) for name in ("x", "y", "width", "height")}
        assert 0 < place["x"] < place["x"] + place["width"] < width
        assert 0 < place["y"] < place["y"] + place["height"] < height
    assert "prefers-color-scheme: dark" in drawn
    assert root.attrib["aria-label"]
    assert not re.search(r"(?:href|url)\b", drawn)
