"""What a function reaches is changed in place, between two of its calls.

Each change is made to a module of its own. A kept function, a coroutine and a method call what it
defines, with arguments that were used before the change and with others, one by one and in `map`; what
is right is what the same bodies give when they are not kept. Another process, in which nothing was
changed, must get what is right there. Both processes make all changes, one after the other.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import wellkept
from wellkept.hashing import digests
from wellkept.memo import target

CHANGES: dict[str, tuple[str, str]] = {
    # Bindings.
    "a number is bound anew": ("K = 2\ndef get(x): return x * K", "h.K = 5"),
    "a text is bound anew": ("K = 'ab'\ndef get(x): return x * len(K)", "h.K = 'abcde'"),
    "a number of an equal value": ("K = 2\ndef get(x): return repr(x * K)", "h.K = 2.0"),
    "the kept function's helper": ("def get(x): return x * 2", "app.get = lambda x: x * 5"),
    "a helper of a helper": (
        "def leaf(x): return x * 2\ndef get(x): return leaf(x)",
        "h.leaf = lambda x: x * 5",
    ),
    "a builtin name is hidden": ("def get(x): return abs(x) * 2", "h.abs = lambda x: x + 3"),
    "a name that was missing": (
        "def get(x):\n    try: return x * K\n    except NameError: return x * 2",
        "h.K = 5",
    ),
    "a name is deleted": (
        "K = 5\ndef get(x):\n    try: return x * K\n    except NameError: return x * 2",
        "del h.K",
    ),
    "an attribute of a module": ("import far\ndef get(x): return x * far.K", "far.K = 5"),
    "a function in a library": (
        "import math\ndef get(x): return math.floor(x * 2.5)",
        "import math; math.floor, keep_it = math.ceil, math.floor; undo = "
        "lambda: setattr(math, 'floor', keep_it)",
    ),
    # Containers.
    "a list gains an item": ("L = [2]\ndef get(x): return x * sum(L)", "h.L.append(3)"),
    "an item of a list": ("L = [2]\ndef get(x): return x * L[0]", "h.L[0] = 5"),
    "an item of a dict": ("D = {'k': 2}\ndef get(x): return x * D['k']", "h.D['k'] = 5"),
    "the order of a dict": (
        "D = {'a': 2, 'b': 5}\ndef get(x): return x * next(iter(D.values()))",
        "h.D['a'] = h.D.pop('a')",
    ),
    "a set gains an item": ("S = {2}\ndef get(x): return x * sum(S)", "h.S.add(3)"),
    "a bytearray": ("B = bytearray(b'\\2')\ndef get(x): return x * B[0]", "h.B[0] = 5"),
    "a list in a tuple": ("T = ([2],)\ndef get(x): return x * T[0][0]", "h.T[0][0] = 5"),
    "a list in a dict in a list": (
        "L = [{'a': [2]}]\ndef get(x): return x * L[0]['a'][0]",
        "h.L[0]['a'][0] = 5",
    ),
    "a number in a dict beside a function": (
        "def f(x): return x\nD = {'f': f, 'in': {'k': 2}}\ndef get(x): return D['f'](x) * D['in']['k']",
        "h.D['in']['k'] = 5",
    ),
    "a number in a dict beside a path": (
        "from pathlib import Path\nD = {'p': Path('a'), 'in': {'k': 2}}\n"
        "def get(x): return x * D['in']['k']",
        "h.D['in']['k'] = 5",
    ),
    "a function in a dict": (
        "def f(x): return x * 2\nD = {'f': f}\ndef get(x): return D['f'](x)",
        "h.D['f'] = lambda x: x * 5",
    ),
    "a function in a list": (
        "def f(x): return x * 2\nL = [f]\ndef get(x): return L[0](x)",
        "h.L[:] = [lambda x: x * 5]",
    ),
    "a list of 2,000": ("L = [2] * 2000\ndef get(x): return x * L[-1]", "h.L[-1] = 5"),
    "a list of 200,000": ("L = [2] * 200_000\ndef get(x): return x * L[-1]", "h.L[-1] = 5"),
    "a dict of 2,000 lists": (
        "D = {i: [2] for i in range(2000)}\ndef get(x): return x * D[7][0]",
        "h.D[7][0] = 5",
    ),
    "a deque": (
        "from collections import deque\nD = deque([2])\ndef get(x): return x * D[0]",
        "h.D[0] = 5",
    ),
    "an OrderedDict": (
        "from collections import OrderedDict\nD = OrderedDict(k=2)\ndef get(x): return x * D['k']",
        "h.D['k'] = 5",
    ),
    "a defaultdict": (
        "from collections import defaultdict\nD = defaultdict(int, k=2)\n"
        "def get(x): return x * D['k']",
        "h.D['k'] = 5",
    ),
    "a Counter": (
        "from collections import Counter\nD = Counter(k=2)\ndef get(x): return x * D['k']",
        "h.D['k'] = 5",
    ),
    "a ChainMap's map": (
        "from collections import ChainMap\nD = ChainMap({'k': 2})\ndef get(x): return x * D['k']",
        "h.D.maps[0]['k'] = 5",
    ),
    "a mapping proxy's dict": (
        "from types import MappingProxyType\nB = {'k': 2}\nD = MappingProxyType(B)\n"
        "def get(x): return x * D['k']",
        "h.B['k'] = 5",
    ),
    "an array.array": (
        "from array import array\nA = array('i', [2])\ndef get(x): return x * A[0]",
        "h.A[0] = 5",
    ),
    # numpy and pandas.
    "a numpy array": (
        "import numpy as np\nA = np.array([2])\ndef get(x): return int(A[0]) * x",
        "h.A[0] = 5",
    ),
    "a view of a numpy array": (
        "import numpy as np\nB = np.array([1, 2])\nA = B[1:]\ndef get(x): return int(A[0]) * x",
        "h.B[1] = 5",
    ),
    "the shape of an array": (
        "import numpy as np\nA = np.ones((2, 3))\ndef get(x): return A.shape[0] * x",
        "h.A.shape = (3, 2)",
    ),
    "an array in a dict": (
        "import numpy as np\nD = {'a': np.array([2])}\ndef get(x): return int(D['a'][0]) * x",
        "h.D['a'][0] = 5",
    ),
    "a column of a frame": (
        "import pandas as pd\nF = pd.DataFrame({'a': [2]})\ndef get(x): return int(F['a'].sum()) * x",
        "h.F['a'] = [5]",
    ),
    "a new column of a frame": (
        "import pandas as pd\nF = pd.DataFrame({'a': [2]})\ndef get(x): return len(F.columns) * x",
        "h.F['b'] = [5]",
    ),
    "a value of a series": (
        "import pandas as pd\nF = pd.Series([2])\ndef get(x): return int(F.sum()) * x",
        "h.F.iloc[0] = 5",
    ),
    # Objects.
    "a SimpleNamespace": (
        "from types import SimpleNamespace\nN = SimpleNamespace(k=2)\ndef get(x): return x * N.k",
        "h.N.k = 5",
    ),
    "an argparse namespace": (
        "from argparse import Namespace\nN = Namespace(k=2)\ndef get(x): return x * N.k",
        "h.N.k = 5",
    ),
    "an object's attribute": (
        "class S:\n    k = 1\n    def __init__(self): self.k = 2\ns = S()\ndef get(x): return x * s.k",
        "h.s.k = 5",
    ),
    "an object gains an attribute": (
        "class S:\n    k = 2\ns = S()\ndef get(x): return x * s.k",
        "h.s.k = 5",
    ),
    "an object's slot": (
        "class S:\n    __slots__ = ('k',)\n    def __init__(self, k): self.k = k\ns = S(2)\n"
        "def get(x): return x * s.k",
        "h.s.k = 5",
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass S:\n    k: int = 2\ns = S()\n"
        "def get(x): return x * s.k",
        "h.s.k = 5",
    ),
    "a list in an object": (
        "class S:\n    def __init__(self, k): self.k = [k]\ns = S(2)\ndef get(x): return x * s.k[0]",
        "h.s.k[0] = 5",
    ),
    "an object in an object": (
        "class S:\n    def __init__(self, k): self.k = k\ns = S(S(2))\ndef get(x): return x * s.k.k",
        "h.s.k.k = 5",
    ),
    "the class of an object": (
        "class S:\n    def k(self): return 2\nclass T:\n    def k(self): return 5\ns = S()\n"
        "def get(x): return x * s.k()",
        "h.s.__class__ = h.T",
    ),
    "a fitted model": (
        "class Model:\n    def __init__(self): self.w = None\n    def fit(self, w): self.w = w\n"
        "    def predict(self, x): return x * (self.w or 2)\nm = Model()\n"
        "def get(x): return m.predict(x)",
        "h.m.fit(5)",
    ),
    "a dict's subclass": (
        "class S(dict): pass\nD = S(k=2)\ndef get(x): return x * D['k']",
        "h.D['k'] = 5",
    ),
    "a list's subclass with an attribute": (
        "class S(list): pass\nD = S([1])\nD.k = 2\ndef get(x): return x * D.k",
        "h.D.k = 5",
    ),
    "a bound method's receiver": (
        "class S:\n    def __init__(self, k): self.k = k\n    def run(self, x): return x * self.k\n"
        "s = S(2)\nrun = s.run\ndef get(x): return run(x)",
        "h.s.k = 5",
    ),
    "a callable object": (
        "class S:\n    def __init__(self, k): self.k = k\n    def __call__(self, x): return x * self.k\n"
        "s = S(2)\ndef get(x): return s(x)",
        "h.s.k = 5",
    ),
    "a partial's keywords": (
        "from functools import partial\ndef f(x, k): return x * k\np = partial(f, k=2)\n"
        "def get(x): return p(x)",
        "h.p.keywords['k'] = 5",
    ),
    "a list in a partial": (
        "from functools import partial\ndef f(k, x): return x * k[0]\nL = [2]\np = partial(f, L)\n"
        "def get(x): return p(x)",
        "h.L[0] = 5",
    ),
    # Classes.
    "a method of a class": (
        "class S:\n    def run(self, x): return x * 2\ndef get(x): return S().run(x)",
        "h.S.run = lambda self, x: x * 5",
    ),
    "a method by another of the class": (
        "class S:\n    def run(self, x): return x * 2\n    def other(self, x): return x * 5\n"
        "def get(x): return S().run(x)",
        "h.S.run = h.S.other",
    ),
    "a method of a base": (
        "class B:\n    def run(self, x): return x * 2\nclass S(B): pass\ndef get(x): return S().run(x)",
        "h.B.run = lambda self, x: x * 5",
    ),
    "a static method": (
        "class S:\n    @staticmethod\n    def run(x): return x * 2\ndef get(x): return S.run(x)",
        "h.S.run = staticmethod(lambda x: x * 5)",
    ),
    "a class method": (
        "class S:\n    @classmethod\n    def run(cls, x): return x * 2\ndef get(x): return S.run(x)",
        "h.S.run = classmethod(lambda cls, x: x * 5)",
    ),
    "a property": (
        "class S:\n    @property\n    def k(self): return 2\ndef get(x): return x * S().k",
        "h.S.k = property(lambda self: 5)",
    ),
    "a class attribute": ("class S:\n    k = 2\ndef get(x): return x * S.k", "h.S.k = 5"),
    "a class attribute from None": (
        "class S:\n    k = None\ndef get(x): return x * (S.k or 2)",
        "h.S.k = 5",
    ),
    "a list of a class is bound anew": (
        "class S:\n    k = [2]\ndef get(x): return x * S.k[0]",
        "h.S.k = [5]",
    ),
    "a list of a class": ("class S:\n    k = [2]\ndef get(x): return x * S.k[0]", "h.S.k[0] = 5"),
    "a class gains a method": (
        "class S:\n    def run(self, x): return getattr(self, 'more', int)(x) * 2\n"
        "def get(x): return S().run(x)",
        "h.S.more = lambda self, x: x + 3",
    ),
    "the bases of a class": (
        "class A:\n    def run(self, x): return x * 2\nclass B:\n    def run(self, x): return x * 5\n"
        "class S(A): pass\ndef get(x): return S().run(x)",
        "h.S.__bases__ = (h.B,)",
    ),
    "a new subclass": (
        "class S:\n    k = 2\ndef get(x): return x * (S.__subclasses__() or [S])[-1].k",
        "app.more = type('More', (h.S,), {'k': 5, '__module__': h.__name__})",
    ),
    # Functions.
    "a helper's code": (
        "def get(x): return x * 2\ndef other(x): return x * 5",
        "h.get.__code__ = h.other.__code__",
    ),
    "a helper's defaults": ("def get(x, k=2): return x * k", "h.get.__defaults__ = (5,)"),
    "a helper's keyword defaults": (
        "def get(x, *, k=2): return x * k",
        "h.get.__kwdefaults__['k'] = 5",
    ),
    "a list in a helper's defaults": (
        "def get(x, k=[2]): return x * k[0]",
        "h.get.__defaults__[0][0] = 5",
    ),
    "a helper's attribute": ("def get(x): return x * get.k\nget.k = 2", "h.get.k = 5"),
    "a helper's closure": (
        "def make():\n    k = [2]\n    def get(x): return x * k[0]\n    return get\nget = make()",
        "h.get.__closure__[0].cell_contents[0] = 5",
    ),
    "a cell of a helper's closure": (
        "def make():\n    k = 2\n    def get(x): return x * k\n    return get\nget = make()",
        "h.get.__closure__[0].cell_contents = 5",
    ),
    "a method's code": (
        "class S:\n    def run(self, x): return x * 2\ndef get(x): return S().run(x)",
        "h.S.run.__code__ = (lambda self, x: x * 5).__code__",
    ),
    "a method's defaults": (
        "class S:\n    def run(self, x, k=2): return x * k\ndef get(x): return S().run(x)",
        "h.S.run.__defaults__ = (5,)",
    ),
    "a static method's code": (
        "class S:\n    @staticmethod\n    def run(x): return x * 2\ndef get(x): return S.run(x)",
        "h.S.run.__code__ = (lambda x: x * 5).__code__",
    ),
    "a later singledispatch registration": (
        "from functools import singledispatch\n@singledispatch\ndef get(x): return x * 2",
        "h.get.register(int, lambda x: x * 5)",
    ),
    "a decorated helper's wrapped function": (
        "import functools\ndef deco(f):\n    @functools.wraps(f)\n    def inner(x): return f(x)\n"
        "    return inner\n@deco\ndef get(x): return x * 2",
        "h.get.__wrapped__.__code__ = (lambda x: x * 5).__code__",
    ),
    # Elsewhere.
    "a context variable": (
        "from contextvars import ContextVar\nV = ContextVar('V', default=2)\n"
        "def get(x): return x * V.get()",
        "h.V.set(5)",
    ),
    "the environment, held": (
        "import os\nE = os.environ\ndef get(x): return x * int(E.get('MY_K', 2))",
        "import os; os.environ['MY_K'] = '5'; undo = lambda: os.environ.pop('MY_K')",
    ),
    "a patched method": (
        "class S:\n    def run(self, x): return x * 2\ndef get(x): return S().run(x)",
        "from unittest import mock; p = mock.patch.object(h.S, 'run', return_value=7); p.start()",
    ),
    "a patched function": (
        "def leaf(x): return x * 2\ndef get(x): return leaf(x)",
        "from unittest import mock; p = mock.patch.object(h, 'leaf', return_value=7); p.start()",
    ),
    "a patched function with a signature": (
        "def leaf(x): return x * 2\ndef get(x): return leaf(x)",
        "from unittest import mock\n"
        "p = mock.patch.object(h, 'leaf', autospec=True, return_value=7); p.start()",
    ),
    "a patched function of a library": (
        "import json\ndef get(x): return json.dumps(x)",
        "from unittest import mock; p = mock.patch('json.dumps', return_value=7); p.start()\n"
        "undo = p.stop",
    ),
    "a patched dict": (
        "D = {'k': 2}\ndef get(x): return x * D['k']",
        "from unittest import mock; p = mock.patch.dict(h.D, k=5); p.start()",
    ),
    "an object without a digest": (
        "import io, threading\nclass S:\n    def __init__(self, k):\n        self.k = k\n"
        "        self.lock = threading.Lock()\ns = S(2)\ndef get(x): return x * s.k",
        "h.s.k = 5",
    ),
    "another object without a digest": (
        "class S:\n    def __init__(self, k):\n        self.k = (i for i in iter(int, 1))\n"
        "        self.get_k = (lambda: k)\n    def __reduce__(self): raise TypeError\ns = S(2)\n"
        "def get(x): return x * s.get_k()",
        "h.s = h.S(5)",
    ),
    # What others put into classes, and what few objects show.
    "a method of a library's class": (
        "from fractions import Fraction\n"
        "def get(x): return x * (Fraction(5, 2).limit_denominator(1).numerator)",
        "from fractions import Fraction; real = Fraction.limit_denominator; "
        "Fraction.limit_denominator = lambda self, n: Fraction(5); "
        "undo = lambda: setattr(Fraction, 'limit_denominator', real)",
    ),
    "a patched method of a library's object": (
        "import fractions\nF = fractions.Fraction(5, 2)\n"
        "def get(x): return x * F.limit_denominator(1).numerator",
        "from unittest import mock; import fractions; p = mock.patch.object("
        "fractions.Fraction, 'limit_denominator', return_value=fractions.Fraction(7))\n"
        "p.start(); undo = p.stop",
    ),
    "a class registered with an abstract one": (
        "import abc\nclass B(abc.ABC): pass\nclass A: pass\n"
        "def get(x): return x * (2 + isinstance(A(), B))",
        "h.B.register(h.A)",
    ),
    "a class that registers itself in state": (
        "R = {}\nclass B:\n    def __init_subclass__(c): R[c.__name__] = c\nclass A(B): pass\n"
        "def get(x): return x * len(R)",
        "h.Z = type('Z', (h.B,), {'__module__': 'h'})",
    ),
    "an attribute of an enum's member": (
        "import enum\nclass E(enum.Enum):\n    A = 1\nE.A.k = 2\ndef get(x): return x * E.A.k",
        "h.E.A.k = 5",
    ),
    "the state of a partial": (
        "import functools\ndef f(x, k): return x * k\nget = functools.partial(f, k=2)",
        "h.get.__setstate__((h.f, (), {'k': 5}, {}))",
    ),
    "an array of ctypes": (
        "import ctypes\nA = (ctypes.c_int * 1)(2)\ndef get(x): return x * A[0]",
        "h.A[0] = 5",
    ),
    "a section of a parser": (
        "import configparser\nC = configparser.ConfigParser()\nC.read_string('[a]\\nk=2')\n"
        "def get(x): return x * C.getint('a', 'k')",
        "h.C.set('a', 'k', '5')",
    ),
    "the shape of a read-only array": (
        "import numpy as np\nA = np.zeros(4)\nA.flags.writeable = False\n"
        "def get(x): return x * len(A)",
        "h.A.shape = (2, 2)",
    ),
}

APP = """
import os, wellkept
from h{at} import *
import h{at} as h
keep = wellkept.keep(cache=os.environ["WELLKEPT_TEST_CACHE"])
@keep
def work(x):
    return get(x)
@keep
async def waited(x):
    return get(x)
class Working:
    @keep
    def method(self, x):
        return get(x)
worker = Working()
"""

OLD = 1_700_000_000
MAIN = """
import asyncio, importlib, json, sys, warnings
warnings.simplefilter("ignore")
steps, changed = json.load(open("steps.json")), sys.argv[1] == "changed"
def plain(app, xs):
    return [[f(x) for x in xs] for f in (
        app.work.__wrapped__, lambda x: asyncio.run(app.waited.__wrapped__(x)),
        app.worker.method.__wrapped__)]
def keeps(app, xs):
    return [[f(x) for x in xs] for f in (
        app.work, lambda x: asyncio.run(app.waited(x)), app.worker.method)]
out = {}
for at, (name, step) in enumerate(steps.items()):
    app, h = importlib.import_module(f"app{at}"), importlib.import_module(f"h{at}")
    bad = []
    def check(when, got, true):
        if [list(map(repr, each)) for each in got] != [list(map(repr, each)) for each in true]:
            bad.append(f"{when}: {got}, not {true}")
    try:
        if changed:
            keeps(app, [3]), keeps(app, [3])
            space = {"h": h, "app": app, "far": sys.modules.get("far")}
            exec(step, space)
            check("the same argument", keeps(app, [3]), plain(app, [3]))
            check("a new argument", keeps(app, [4]), plain(app, [4]))
            check("map", [app.work.map([3, 4, 6]), app.work.map([3])], [
                [app.work.__wrapped__(x) for x in xs] for xs in ([3, 4, 6], [3])])
            check("once more", keeps(app, [3, 4]), plain(app, [3, 4]))
            space.get("undo", lambda: None)()
        else:
            check("in a process without the change", keeps(app, [3, 4, 6]), plain(app, [3, 4, 6]))
            hits = app.work.stats().hits
            app.work(3)
            if app.work.stats().hits <= hits:
                bad.append("nothing is kept")
    except Exception as error:
        import traceback
        bad.append("".join(traceback.format_exception(error)[-3:]))
    out[name] = bad
    # The modules of a project are looked through for what changes another, so few are left.
    del sys.modules[f"app{at}"], sys.modules[f"h{at}"]
print(json.dumps(out))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What was wrong of each change. Workers that run at once share the seconds that it takes."""
    above = tmp_path_factory.getbasetemp()
    shared = above.parent if "PYTEST_XDIST_WORKER" in os.environ else above
    rooms = [shared / f"in_place{part}" for part in range(2)]
    found: dict[str, list[str]] = {}
    for part, room in enumerate(rooms):
        try:
            room.mkdir()
        except FileExistsError:
            continue
        text = "{}"
        try:
            text = json.dumps(looked(room, dict(list(CHANGES.items())[part :: len(rooms)])))
        finally:
            (room / "found").write_text(text)
            (room / "found").rename(room / "found.json")
    until = time.monotonic() + 100
    for room in rooms:
        while not (room / "found.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        found |= json.loads((room / "found.json").read_text())
    return found


def looked(room: Path, changes: dict[str, tuple[str, str]]) -> dict[str, list[str]]:
    for at, (text, _) in enumerate(changes.values()):
        (room / f"h{at}.py").write_text(text + "\n")
        (room / f"app{at}.py").write_text(APP.format(at=at))
    (room / "far.py").write_text("K = 2\n")
    (room / "steps.json").write_text(
        json.dumps({name: step for name, (_, step) in changes.items()})
    )
    (room / "main.py").write_text(MAIN)
    for file in room.glob("*.py"):
        os.utime(file, (OLD, OLD))  # or they may look as if they were edited after they were loaded
    env = {**os.environ, "WELLKEPT_TEST_CACHE": str(room / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    both: list[dict[str, Any]] = []
    for mode in ("changed", "fresh"):
        ran = subprocess.run(
            [sys.executable, "main.py", mode],
            cwd=room, env=env, capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        both.append(json.loads(ran.stdout))
    return {name: [*both[0][name], *both[1][name]] for name in changes}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_in_place_is_seen(change: str, found: dict[str, list[str]]) -> None:
    assert found[change] == []


# -- what no table shows ---------------------------------------------------------------------------


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[str] = []

    def load(name: str, text: str) -> Any:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        os.utime(file, (OLD, OLD))  # or it may look as if it was edited after it was loaded
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        made.append(name)
        return importlib.import_module(name)

    yield load
    for name in made:
        sys.modules.pop(name, None)


HEAD = (
    "import wellkept, threading\nimport numpy as np\nK = 2\n"
    "reached, go = threading.Event(), threading.Event()\n"
)


def test_what_another_thread_changes_meanwhile_is_not_kept(load: Any) -> None:
    module = load(
        "changed_meanwhile",
        f"{HEAD}@wellkept.keep\ndef work(x):\n    reached.set()\n    go.wait(60)\n    return x * K\n",
    )

    def change() -> None:
        with ThreadPoolExecutor() as pool:
            under_way = pool.submit(module.work, 3)
            assert module.reached.wait(60)
            module.K = 5
            module.go.set()
            assert under_way.result(60) == 15

    with pytest.warns(wellkept.KeptWarning, match="changed while it ran"):
        change()
    assert not module.work.contains(3)
    module.K = 2
    assert not module.work.contains(3)
    assert module.work(3) == 6


def test_what_a_body_changes_itself_is_kept_under_what_it_began_with(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever threads other tests have left.
    monkeypatch.setattr(target, "_alone", lambda threads: True)
    module = load(
        "changes_itself",
        f"{HEAD}L = [2]\ndef put(to, item): to.__setitem__(0, item)\n"
        "@wellkept.keep\ndef work(x):\n    was = L[0]\n    put(L, 5)\n    return x * was\n",
    )
    assert module.work(3) == 6
    assert module.L == [5]
    assert module.work(3) == 15
    module.L[0] = 2
    assert module.work(3) == 6
    assert module.work.stats().hits


def test_what_changes_while_a_lease_is_waited_for_makes_the_key_anew(load: Any) -> None:
    module = load(
        "waited_for",
        f"{HEAD}@wellkept.keep\ndef work(x):\n    reached.set()\n    go.wait(60)\n    return x * K\n",
    )

    def change() -> None:
        with ThreadPoolExecutor() as pool:
            first = pool.submit(module.work, 3)
            assert module.reached.wait(60)
            second = pool.submit(module.work, 3)
            until(lambda: module.work.stats().waited)
            module.K = 5
            module.go.set()
            assert (first.result(60), second.result(60)) == (15, 15)

    with pytest.warns(wellkept.KeptWarning, match="changed while it ran"):
        change()
    assert module.work.contains(3), "the second one began with the new value"
    module.K = 2
    assert not module.work.contains(3)


def test_a_fake_is_never_kept_and_the_real_one_is_never_served(load: Any) -> None:
    module = load(
        "faked",
        f"{HEAD}class Client:\n    def get(self, x): return x * 2\n"
        "@wellkept.keep\ndef work(x): return Client().get(x)\n",
    )
    assert module.work(3) == 6
    with mock.patch.object(module.Client, "get", return_value=1):
        assert module.work(3) == 1
        assert module.work(4) == 1
        assert module.work.explain(4).outcome == "unkept"
    with mock.patch.object(module.Client, "get", return_value=7):
        assert module.work(4) == 7
    assert module.work.stats().computed == 4
    assert module.work(3) == 6
    assert module.work.stats().hits == 1
    assert len(list(module.work.query())) == 1
    assert module.work(4) == 8


def test_a_map_looks_at_each_item(load: Any) -> None:
    module = load(
        "mapped",
        f"{HEAD}L = [2]\ndef put(to, item): to.__setitem__(0, item)\n@wellkept.keep\ndef work(x):\n"
        "    if x == 4: put(L, 5)\n    return x * L[0]\n",
    )
    assert module.work.map([3, 5]) == [6, 10]
    assert module.work.map([3, 4, 5]) == [6, 20, 25]
    module.L[0] = 2
    assert module.work(5) == 10


def test_workers_with_another_value_keep_under_their_own_key(load: Any, tmp_path: Path) -> None:
    module = load("sent", f"{HEAD}L = [2]\n@wellkept.keep\ndef work(x): return x * L[0]\n")
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        assert module.work.map([3], executor=pool) == [6]
        module.L[0] = 5
        with pytest.warns(wellkept.KeptWarning, match="other code"):
            assert module.work.map([4], executor=pool) == [8]
    assert module.work(4) == 20
    module.L[0] = 2
    assert module.work(4) == 8


def test_a_constant_is_looked_at_once(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = load(
        "constants",
        f"{HEAD}A = wellkept.constant(np.arange(1000))\nB = np.arange(1000)\nB.flags.writeable = False\n"
        "C = np.arange(1000)\n"
        "@wellkept.keep\ndef one(x): return x * int(A[1])\n"
        "@wellkept.keep\ndef two(x): return x * int(B[1])\n"
        "@wellkept.keep\ndef three(x): return x * int(C[1])\n",
    )
    hashed: list[Any] = []
    true = digests.digest_bytes

    def counted(value: Any, **more: Any) -> bytes:
        hashed.append(value)
        return true(value, **more)

    for f in (module.one, module.two, module.three):
        f(3)
    monkeypatch.setattr(digests, "digest_bytes", counted)
    module.one(3), module.two(3)
    assert not hashed
    module.three(3)
    assert any(value is module.C for value in hashed)


def test_a_global_may_be_ignored(load: Any) -> None:
    module = load(
        "ignoring",
        f"{HEAD}M = 1\n@wellkept.keep(ignore_globals=['K', 'ignoring.M'])\ndef work(x): return x * K * M\n",
    )
    assert module.work(3) == 6
    module.K, module.M = 5, 7
    assert module.work(3) == 6
    with pytest.raises(wellkept.ConfigError, match="names of globals"):
        wellkept.keep(ignore_globals=[3])


def test_another_connection_is_another_and_told_once(load: Any) -> None:
    module = load(
        "connected",
        f"{HEAD}import sqlite3\n"
        "def connect(k):\n    made = sqlite3.connect(':memory:', check_same_thread=False)\n"
        "    made.execute('create table t (k)')\n    made.execute('insert into t values (?)', (k,))\n"
        "    return made\nC = connect(2)\n"
        "@wellkept.keep\ndef work(x): return x * C.execute('select k from t').fetchone()[0]\n"
        "LOCK = threading.Lock()\n@wellkept.keep\ndef locked(x):\n    with LOCK: return x\n",
    )
    with pytest.warns(
        wellkept.KeptWarning, match="`C` .a sqlite3.Connection. can't be compared"
    ) as told:
        assert [module.work(3), module.work(3)] == [6, 6]
    assert len(told) == 1
    module.C = module.connect(5)
    assert module.work(3) == 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert module.locked(3) == 3


def test_what_the_code_itself_changes_costs_no_new_key(load: Any) -> None:
    module = load(
        "counting",
        f"{HEAD}CALLS = []\nclass Counter:\n    def __init__(self): self.n = 0\n"
        "    def tick(self): self.n += 1\nc = Counter()\n"
        "@wellkept.keep\ndef work(x):\n    CALLS.append(x)\n    c.tick()\n    return x\n",
    )
    assert [module.work(3), module.work(3), module.work(4), module.work(3)] == [3, 3, 4, 3]
    assert module.CALLS == [3, 4]


def until(true: Any) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)
