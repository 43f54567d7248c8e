"""What a script defines: its classes are its own on the next run, and copies in another script."""

import subprocess
import sys
import textwrap
from pathlib import Path

SCRIPT = """
import dataclasses, enum
from wellkept import keep

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Point:
    x: int
    colour: Colour = Colour.RED

    class Inner:
        pass

    def twice(self):
        return helper(self.x)

def helper(x):
    return x * 2

BASE = 10

@keep(name="make")
def make():
    print("ran")
    by = 3
    return {
        "point": Point(4),
        "class": Point,
        "inner": Point.Inner(),
        "function": helper,
        "lambda": lambda x: x * by + BASE,
        "colour": Colour.RED,
        "kept": make,
    }

if __name__ == "__main__":
    for _ in range(2):
        got = make()
        assert isinstance(got["point"], Point) and got["point"] == Point(4)
        assert got["class"] is Point
        assert type(got["inner"]) is Point.Inner
        assert got["function"] is helper
        assert got["lambda"](2) == 16
        assert got["colour"] is Colour.RED
        assert got["kept"] is make
    print("ok")
"""

OTHER = """
from wellkept import keep

@keep(name="make", version=1)
def make():
    raise SystemExit("not loaded")

import wellkept
cache = wellkept.open("cache")
(call,) = [cache.calls.get(key) for key in cache.calls.keys()]
got = cache.load(call.result)
assert got["point"].x == 4 and got["point"].twice() == 8
assert type(got["point"]).__name__ == "Point" and isinstance(got["point"], got["class"])
assert got["lambda"](2) == 16
assert got["colour"].name == "RED"
assert got["function"](5) == 10
print("ok")
"""


def run(name: str, text: str) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, "-W", "error", name],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_scripts_own_classes_come_back_as_its_own() -> None:
    assert run("a.py", SCRIPT) == "ran\nok\n"
    assert run("a.py", SCRIPT) == "ok\n"


def test_another_script_gets_copies() -> None:
    run("a.py", SCRIPT)
    assert run("there/b.py", OTHER) == "ok\n"
