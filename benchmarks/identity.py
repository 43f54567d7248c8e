"""The deep identity of a function that reaches 200 others: the first time, and at each call after.

```bash
python benchmarks/identity.py
python benchmarks/identity.py --check    # exit code 1 if a limit is not met
```

A project of ten modules is written to an empty directory. Its 200 functions have a docstring, a
comment, a default and a loop each, read a constant, and call two others, in their own module and in
the next. What is measured is the median over fresh processes for the first time, and of many calls
for those after. `measure` returns the figures, in seconds. Beside them: hits and misses of a function
with three helpers and two constants under `code="own"` and `code="deep"`, in turn, in one process; and
what a hit from memory costs more where the function reads globals of each kind, beside a hit of one that
reads none.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODULES, FUNCTIONS = 10, 20
FIRST_MUST, AFTER_MUST = 0.050, 40e-6  # the code of each of 200 functions is compared
PLAIN, PLAIN_MUST = ("3 scalars", "a list and a dict"), 1e-6

FUNCTION = '''
def step_{number}(value, scale=2, *, offset={number}):
    """One step of {number}; the scale is {number} too."""
    total = offset
    for item in range(value % 3):
        total += item * scale  # weighed
    if total > LIMIT:
        return {first}(value - 1, scale)
    return total + {second}(value - 1)

'''

CHILD = """
import json, sys, timeit
from time import perf_counter
sys.path.insert(0, ".")
import root
from wellkept.hashing.code import deep
began = perf_counter()
found = deep(root.work)
first = perf_counter() - began
began = perf_counter()
deep(root.work)
again = perf_counter() - began
after = min(timeit.repeat(found.guards.same, number=20_000, repeat=5)) / 20_000
count = sum(part.kind == "function" for part in found.parts.values())
print(json.dumps({"first": first, "again": again, "after": after, "functions": count}))
"""

CALLS = """
import json, sys, tempfile
from statistics import median
from time import perf_counter
sys.path.insert(0, ".")
import few, wellkept
found = {}
kinds = [(code, tier, memory) for code in ("own", "deep")
         for tier, memory in (("memory", 1 << 26), ("disk", 0))]
entrants = []
for code, tier, memory in kinds:
    cache = wellkept.open(tempfile.mkdtemp(dir="."), memory=memory)
    entrants.append((code, tier, wellkept.keep(cache=cache, code=code)(few.work)))
    entrants[-1][2](-1, 2, 3.5)
for turn in range(ROUNDS):
    for code, tier, work in entrants:
        first = turn * 200
        began = perf_counter()
        for n in range(first, first + 200):
            work(n, 2, 3.5)
        missed = perf_counter()
        for _ in range(5):
            for n in range(first, first + 200):
                work(n, 2, 3.5)
        done = perf_counter()
        found.setdefault(f"miss {tier} {code}", []).append((missed - began) / 200)
        found.setdefault(f"hit {tier} {code}", []).append((done - missed) / 1000)
print(json.dumps({name: median(took) for name, took in found.items()}))
"""

FEW = """
import math

LIMIT = 3
NAMES = {"a": 1, "b": 2}


def work(a, b, c):
    return weighed(a, b) + c + LIMIT


def weighed(a, b):
    return math.floor(scaled(a)) * b + named("a")


def scaled(a):
    return a * 1.5 + LIMIT


def named(name):
    return NAMES[name]
"""


GLOBALS = """
import json, sys, tempfile, timeit
from types import SimpleNamespace
sys.path.insert(0, ".")
import wellkept
import readers
found = {}
cache = wellkept.open(tempfile.mkdtemp(dir="."))
entrants = {name: wellkept.keep(cache=cache, name=name)(f) for name, f in readers.READERS.items()}
for work in entrants.values():
    work(1)
for turn in range(ROUNDS):
    for name, work in entrants.items():
        took = timeit.timeit(lambda: work(1), number=2000) / 2000
        found[name] = min(took, found.get(name, 1.0))
digest = min(timeit.repeat(lambda: wellkept.digest(readers.ARRAY), number=200, repeat=5)) / 200
print(json.dumps(found | {"hashing": digest}))
"""

READ = """
from types import SimpleNamespace

import numpy as np

RATE, NAME, NONE = 2.5, "eu", None
LIST, TABLE = [1, 2, 3], {"a": 1, "b": [1, 2]}
SETTINGS = SimpleNamespace(rate=2, names=["a"])
ARRAY = np.arange(100_000.0)
STILL = np.arange(100_000.0)
STILL.flags.writeable = False


def nothing(x):
    return [x]


def scalars(x):
    return [x, RATE, NAME, NONE]


def containers(x):
    return [x, LIST[0], TABLE["a"]]


def settings(x):
    return [x, SETTINGS.rate]


def array(x):
    return [x, float(ARRAY[0])]


def readonly(x):
    return [x, float(STILL[0])]


READERS = {
    "nothing": nothing,
    "3 scalars": scalars,
    "a list and a dict": containers,
    "a settings object": settings,
    "an array of 800 KB": array,
    "a read-only array": readonly,
}
"""


def write(place: Path) -> None:
    """The project: a ring of modules, and in each a ring of functions."""
    for module in range(MODULES):
        following = (module + 1) % MODULES
        text = [f"import part_{following} as following\n\nLIMIT = {100 + module}\n"]
        for number in range(FUNCTIONS):
            first = f"step_{(number + 1) % FUNCTIONS}"
            second = f"following.step_{(number + 7) % FUNCTIONS}"
            text.append(FUNCTION.format(number=number, first=first, second=second))
        (place / f"part_{module}.py").write_text("\n".join(text))
    (place / "root.py").write_text(
        "from part_0 import step_0\n\n\ndef work(value):\n    return step_0(value)\n"
    )
    (place / "few.py").write_text(FEW)
    (place / "readers.py").write_text(READ)


def child(code: str, place: Path) -> dict[str, float]:
    """What a fresh process says of itself."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True
    )
    said: dict[str, float] = json.loads(done.stdout)
    return said


def measure(rounds: int = 9) -> dict[str, float]:
    """Medians: `first` and `again` (seconds to work it out), `after` (seconds a call), and of each
    kind of call (`hit memory own`, …) seconds.
    """
    with tempfile.TemporaryDirectory(prefix="wellkept-identity-") as made:
        place = Path(made)
        write(place)
        time.sleep(2.1)  # or the files would look as if edited while the process runs
        found = [child(CHILD, place) for _ in range(rounds)]
        calls = child(CALLS.replace("ROUNDS", str(3 * rounds)), place)
        calls |= child(GLOBALS.replace("ROUNDS", str(3 * rounds)), place)
    return {name: statistics.median(each[name] for each in found) for name in found[0]} | calls


def main() -> int:
    """Print the figures; the exit code is 1 if a limit is not met and `--check` asks for that."""
    found = measure()
    print(f"functions reached            {found['functions'] - 1:.0f}")
    print(f"identity, the first time     {found['first'] * 1e3:.1f} ms  (must: <= 50 ms)")
    print(f"identity, once more          {found['again'] * 1e3:.1f} ms")
    print(f"compared at each call        {found['after'] * 1e6:.2f} us  (must: <= 40 us)")
    for kind in ("hit memory", "hit disk", "miss memory", "miss disk"):
        own, deep = found[f"{kind} own"] * 1e6, found[f"{kind} deep"] * 1e6
        print(f"{kind + ', own and deep':28} {own:.2f} us, {deep:.2f} us")
    print(f"hit that reads nothing       {found['nothing'] * 1e6:.2f} us")
    for kind in ("3 scalars", "a list and a dict", "a settings object", "a read-only array"):
        more = (found[kind] - found["nothing"]) * 1e6
        must = "  (must: <= 1 us)" if kind in PLAIN else ""
        print(f"more: {kind:22} {more:.2f} us{must}")
    more = (found["an array of 800 KB"] - found["nothing"]) * 1e6
    print(f"more: an array of 800 KB     {more:.0f} us; hashing it {found['hashing'] * 1e6:.0f} us")
    missed = any(found[kind] - found["nothing"] > PLAIN_MUST for kind in PLAIN)
    missed = missed or found["first"] > FIRST_MUST or found["after"] > AFTER_MUST
    return int(missed and "--check" in sys.argv)


if __name__ == "__main__":
    raise SystemExit(main())
