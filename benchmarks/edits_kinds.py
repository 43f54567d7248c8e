# ruff: noqa: E501  a small project is a line or two
"""Edits of small projects, one for each way in which code can depend on something.

Each has its own files (`app.py` has the kept function, `h.py` what it calls), and is a kind's example.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CASES", "Case"]

APP = """\
from keeping import keep
from PKG.h import helper

@keep
def work(x):
    print("ran")
    return helper(x)
"""


class Case(NamedTuple):
    """One edit of one project."""

    kind: str
    what: str
    files: dict[str, str]
    edits: tuple[tuple[str, str, str], ...]
    seen: bool
    explained: str


CASES: list[Case] = []
_kind = ""


def kind(name: str) -> None:
    """The kind of those that follow."""
    global _kind
    _kind = name


def case(
    what: str,
    h: str,
    old: str,
    new: str,
    *more: str,
    file: str = "h.py",
    app: str = APP,
    seen: bool = True,
    explained: str = "",
    **others: str,
) -> None:
    """An edit of a project; `others`: files by name, `__` for `/`."""
    named = {
        f"{name.replace('__', '/').replace('INIT', '__init__')}.py": text
        for name, text in others.items()
    }
    files = {"app.py": app, "h.py": h} | named
    edits = ((file, old, new), *zip(more[::3], more[1::3], more[2::3], strict=True))
    CASES.append(Case(_kind, what, files, edits, seen, explained))


def same(what: str, h: str, old: str, new: str, *more: str, **others: str) -> None:
    """An edit that makes no difference."""
    case(what, h, old, new, *more, seen=False, **others)  # type: ignore[arg-type]  files are texts


def importing(names: str, body: str, extra: str = "") -> str:
    """An `app.py` that takes names from `h.py`."""
    return f'from keeping import keep\nfrom PKG.h import {names}\n{extra}\n\n@keep\ndef work(x):\n    print("ran")\n    return {body}\n'


kind("1 defaults that are rebound")
case(
    "a default under `or`", "def helper(x, k=2):\n    k = k or 1\n    return x * k\n", "k=2", "k=3"
)
case(
    "a default taken apart",
    "def helper(x, k=(1, 2)):\n    k, j = k\n    return x * k * j\n",
    "(1, 2)",
    "(1, 5)",
)
case(
    "a default deleted after use",
    "def helper(x, k=2):\n    y = x * k\n    del k\n    return y\n",
    "k=2",
    "k=3",
)
case(
    "a default rebound by with",
    "import contextlib\ndef helper(x, k=2):\n    with contextlib.nullcontext(k) as k:\n        return x * k\n",
    "k=2",
    "k=3",
)
case(
    "a default rebound by a nested function",
    "def helper(x, k=2):\n    def up():\n        nonlocal k\n        k += 1\n    up()\n    return x * k\n",
    "k=2",
    "k=3",
)
case(
    "a default list that is appended to",
    "B = 2\ndef helper(x, k=[B]):\n    k.append(0)\n    return x * k[0]\n",
    "B = 2",
    "B = 3",
)
case(
    "a default dict that remembers",
    "def helper(x, k={'a': 2}):\n    k[x] = x\n    return x * k['a']\n",
    "'a': 2",
    "'a': 3",
)
case(
    "a default rebound by match",
    "def helper(x, k=2):\n    match k:\n        case int() as k:\n            return x * k\n",
    "k=2",
    "k=3",
)
case("a default of a lambda", "helper = lambda x, k=2: x * (k := k + 1)\n", "k=2", "k=3")
case(
    "a default of a method rebound",
    "class C:\n    def m(self, x, k=2):\n        k = k + 1\n        return x * k\ndef helper(x):\n    return C().m(x)\n",
    "k=2",
    "k=3",
)
case(
    "a default set from outside",
    "def helper(x, k=2):\n    k += 1\n    return x * k\nhelper.__defaults__ = (4,)\n",
    "(4,)",
    "(5,)",
)
case(
    "an async helper's default",
    "import asyncio\nasync def go(x, k=2):\n    k = k + 1\n    return x * k\ndef helper(x):\n    return asyncio.run(go(x))\n",
    "k=2",
    "k=3",
)

kind("2 state")
case(
    "a counter from a constant",
    "S = 3\nN = S\ndef helper(x):\n    global N\n    N += 0\n    return x * N\n",
    "S = 3",
    "S = 4",
)
case(
    "state filled by a call",
    "def fill(d, k):\n    d['r'] = k\nT = {}\nfill(T, 2)\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "fill(T, 2)",
    "fill(T, 3)",
)
case(
    "state filled by a loop",
    "T = {}\nfor i in range(2):\n    T[i] = i * 2\ndef helper(x):\n    T['last'] = x\n    return x * T[1]\n",
    "i * 2",
    "i * 3",
)
case(
    "state from a comprehension",
    "T = {i: i * 2 for i in range(3)}\ndef helper(x):\n    T['last'] = x\n    return x * T[1]\n",
    "i * 2",
    "i * 3",
)
case(
    "state updated after",
    "T = {'r': 1}\nT.update(r=2)\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "r=2",
    "r=3",
)
case(
    "state merged",
    "T = {'r': 1}\nT |= {'r': 2}\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "'r': 2",
    "'r': 3",
)
case(
    "state in a with block",
    "import contextlib\nwith contextlib.suppress(KeyError):\n    T = {'r': 2}\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "'r': 2",
    "'r': 3",
)
case(
    "state in a try block",
    "try:\n    import nothing_of_the_kind\nexcept ImportError:\n    T = {'r': 2}\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "'r': 2",
    "'r': 3",
)
case(
    "state taken apart",
    "T, U = {'r': 2}, 1\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "'r': 2",
    "'r': 3",
)
case(
    "state changed by another module",
    "T = {'r': 1}\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "= 2",
    "= 3",
    file="p.py",
    p="from PKG import h\nh.T['r'] = 2\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "state changed by another module's function",
    "T = {'r': 1}\ndef put(k):\n    T['r'] = k\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\n",
    "put(2)",
    "put(3)",
    file="p.py",
    p="from PKG.h import put\nput(2)\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "state set up by a function called at the end",
    "T = {}\ndef setup():\n    T['r'] = 2\ndef helper(x):\n    T['last'] = x\n    return x * T['r']\nsetup()\n",
    "= 2",
    "= 3",
)
case(
    "state from a file of constants",
    "from PKG.c import R\nT = [R]\ndef helper(x):\n    T.append(x)\n    return x * T[0]\n",
    "R = 2",
    "R = 3",
    file="c.py",
    c="R = 2\n",
)
case(
    "state under another name",
    "A = {'r': 2}\nB = A\ndef helper(x):\n    B['last'] = x\n    return x * A['r']\n",
    "'r': 2",
    "'r': 3",
)
case(
    "a closure's counter",
    "def make(k):\n    def count(x):\n        nonlocal k\n        k += 0\n        return x * k\n    return count\nhelper = make(2)\n",
    "make(2)",
    "make(3)",
)
case(
    "a closure's table",
    "def make(k):\n    t = {'r': k}\n    def get(x):\n        t['last'] = x\n        return x * t['r']\n    return get\nhelper = make(2)\n",
    "make(2)",
    "make(3)",
)
same(
    "a memo dict beside an unrelated function",
    "MEMO = {}\ndef helper(x):\n    if x not in MEMO:\n        MEMO[x] = x * 2\n    return MEMO[x]\ndef other():\n    return 1\n",
    "return 1",
    "return 2",
)
same(
    "a counter beside an unrelated function",
    "CALLS = 0\ndef helper(x):\n    global CALLS\n    CALLS += 1\n    return x * 2\ndef other():\n    return 1\n",
    "return 1",
    "return 2",
)
case(
    "the first value of a counter",
    "N = 0\ndef helper(x):\n    global N\n    N += 1\n    return x * 2 + N\n",
    "N = 0",
    "N = 5",
)

kind("3 objects whose attributes are set")
case(
    "a namespace",
    "import types\nS = types.SimpleNamespace(r=2, n=0)\ndef helper(x):\n    S.n += 1\n    return x * S.r\n",
    "r=2",
    "r=3",
)
case(
    "a dataclass",
    "from dataclasses import dataclass\n@dataclass\nclass S:\n    r: int = 2\n    n: int = 0\n    def of(self, x):\n        return x * self.r\ns = S()\ndef helper(x):\n    s.n += 1\n    return s.of(x)\n",
    "r: int = 2",
    "r: int = 3",
)
case(
    "what a constructor was given",
    "class S:\n    def __init__(self, r):\n        self.r, self.n = r, 0\n    def of(self, x):\n        self.n += 1\n        return x * self.r\ns = S(2)\ndef helper(x):\n    return s.of(x)\n",
    "S(2)",
    "S(3)",
)
case(
    "an attribute that a method moves",
    "class S:\n    def __init__(self, r):\n        self.r = r\n    def of(self, x):\n        self.r = self.r + 0\n        return x * self.r\ns = S(2)\ndef helper(x):\n    return s.of(x)\n",
    "S(2)",
    "S(3)",
)
case(
    "by setattr",
    "class S:\n    r = 2\n    def of(self, x):\n        return x * self.r\ns = S()\ndef helper(x):\n    setattr(s, 'last', x)\n    return s.of(x)\n",
    "x * self.r",
    "x + self.r",
)
case(
    "in a list of objects",
    "class S:\n    def of(self, x):\n        return x * 2\nL = [S()]\ndef helper(x):\n    L[0].n = 1\n    return L[0].of(x)\n",
    "x * 2",
    "x * 3",
)
case(
    "a class attribute set in a function",
    "class S:\n    r = 2\n    n = 0\ndef helper(x):\n    S.n = x\n    return x * S.r\n",
    "r = 2",
    "r = 3",
)
case(
    "a class attribute set, made from a name",
    "R = 2\nclass S:\n    n = R\ndef helper(x):\n    y = S.n\n    S.n = y\n    return x * y\n",
    "R = 2",
    "R = 3",
)

kind("4 containers and objects that hold code")
LEAF = "def leaf(x):\n    return x + 2\ndef f(x):\n    return leaf(x)\n"
for held, make, use in (
    ("OrderedDict", "collections.OrderedDict(f=f)", "H['f'](x)"),
    ("deque", "collections.deque([f])", "H[0](x)"),
    ("a dict in a list in a tuple", "([{'f': [f]}],)", "H[0][0]['f'][0](x)"),
    ("a set", "{f}", "[g(x) for g in H][0]"),
    ("mapping proxy", "types.MappingProxyType({'f': f})", "H['f'](x)"),
    ("ChainMap", "collections.ChainMap({}, {'f': f})", "H['f'](x)"),
    ("UserDict", "collections.UserDict({'f': f})", "H['f'](x)"),
    ("a partial of a partial", "functools.partial(functools.partial(f))", "H(x)"),
    ("keywords of a partial", "functools.partial(lambda x, g: g(x), g=f)", "H(x)"),
    ("a bound method", "Holder(f).call", "H(x)"),
    ("an object in an object", "Holder(Holder(f))", "H.f.f(x)"),
    ("slots in a base", "Slotted(f)", "H.f(x)"),
    ("a named tuple", "Named(f)", "H.f(x)"),
    ("a list subclass", "Listed([f])", "H[0](x)"),
    ("a static method object", "staticmethod(f)", "H(x)"),
    ("functools.partialmethod's function", "Partial().go", "H(x)"),
    ("an attribute of a function", "marked", "H.f(x)"),
    ("operator.methodcaller's object", "Holder(f)", "operator.methodcaller('call', x)(H)"),
    ("a weak value dict", "weakref.WeakValueDictionary(f=f)", "H['f'](x)"),
    ("a dict with a lock", "{'lock': threading.Lock(), 'f': f}", "H['f'](x)"),
    ("a dict whose key is the function", "{f: 1}", "[g for g in H][0](x)"),
    ("an iterator's list", "iter([f]).__reduce__()", "H[1][0][0](x)"),
    ("a frozen dataclass", "Frozen(f)", "H.f(x)"),
    ("an exception's argument", "ValueError(f)", "H.args[0](x)"),
    ("a property of a class attribute", "Propertied", "H().go(x)"),
    ("numpy object array", "np.array([f], dtype=object)", "H[0](x)"),
    ("np.frompyfunc", "np.frompyfunc(f, 1, 1)", "H(x)"),
    ("lru_cache around a partial", "functools.lru_cache(functools.partial(f))", "H(x)"),
    ("toolz compose", "toolz.compose(f, f)", "H(x)"),
    ("toolz curry", "toolz.curry(f)", "H(x)"),
    ("a sklearn transformer", "sklearn.preprocessing.FunctionTransformer(f)", "H.transform(x)"),
    ("itertools.chain", "tuple(itertools.chain([f]))", "H[0](x)"),
    ("contextvar's default", "contextvars.ContextVar('h', default=f)", "H.get()(x)"),
    ("a generic alias", "typing.Annotated[int, f]", "H.__metadata__[0](x)"),
    ("a reducer of a library object", "string.Formatter()", "f(x)"),
):  # fmt: skip
    imports = "collections, contextvars, functools, itertools, operator, string, threading, types, typing, weakref"
    if "np." in make:
        imports += ", numpy as np"
    for library in ("toolz", "sklearn.preprocessing"):
        if library in make:
            imports += f", {library}"
    case(
        held,
        f"import {imports}\nfrom dataclasses import dataclass\n{LEAF}"
        "class Holder:\n    def __init__(self, f):\n        self.f = f\n    def call(self, x):\n        return self.f(x)\n"
        "class Slot:\n    __slots__ = ('f',)\nclass Slotted(Slot):\n    __slots__ = ()\n    def __init__(self, f):\n        self.f = f\n"
        "class Named(typing.NamedTuple):\n    f: object\nclass Listed(list):\n    pass\n"
        "class Partial:\n    def base(self, f, x):\n        return f(x)\n    go = functools.partialmethod(base, f)\n"
        "def marked():\n    pass\nmarked.f = f\n"
        "@dataclass(frozen=True)\nclass Frozen:\n    f: object\n"
        "class Propertied:\n    f = property(lambda self: f)\n    def go(self, x):\n        return self.f(x)\n"
        f"H = {make}\ndef helper(x):\n    return {use}\n",
        "x + 2", "x + 3",
    )  # fmt: skip

kind("5 equal content, another binding")
TWO = "{a} = {v}\n{b} = {v}\n"
case(
    "two lists",
    "A = []\nB = []\ndef put(x):\n    A.append(x)\ndef helper(x):\n    put(x)\n    return len(A) > 0\n",
    "len(A)",
    "len(B)",
)
case(
    "two context variables",
    "from contextvars import ContextVar\nA = ContextVar('v', default=1)\nB = ContextVar('v', default=1)\ndef helper(x):\n    t = A.set(x)\n    try:\n        return A.get()\n    finally:\n        A.reset(t)\n",
    "return A.get()",
    "return B.get()",
)
case(
    "two sentinels in a default",
    "A = object()\nB = object()\ndef inner(x=A):\n    return x is A\ndef helper(x):\n    return inner()\n",
    "x=A",
    "x=B",
)
case(
    "two sentinels of a class",
    "class S:\n    pass\nA = S()\nB = S()\ndef pick():\n    return A\ndef helper(x):\n    return pick() is A\n",
    "return A",
    "return B",
)
case(
    "one dict for two",
    "A = {}\nB = {}\ndef helper(x):\n    A[x] = 1\n    return len(B)\n",
    "B = {}",
    "B = A",
)
case(
    "two memo dicts in two helpers",
    "A = {}\nB = {}\ndef put(x):\n    A[x] = 2\ndef get(x):\n    return B.get(x)\ndef helper(x):\n    put(x)\n    return get(x)\n",
    "B.get",
    "A.get",
)

kind("6 constants without a digest")
case(
    "StringIO",
    "import io\nS = io.StringIO('2')\ndef helper(x):\n    return x * int(S.getvalue())\n",
    "'2'",
    "'3'",
)
case(
    "itertools.cycle",
    "import itertools\nC = itertools.cycle([2])\ndef helper(x):\n    return x * next(C)\n",
    "[2]",
    "[3]",
)
case(
    "a generator",
    "G = (i for i in [2] * 1000)\ndef helper(x):\n    return x * next(G)\n",
    "[2]",
    "[3]",
)
case(
    "a lock beside a number in a list",
    "import threading\nL = [threading.Lock(), 2]\ndef helper(x):\n    return x * L[1]\n",
    "), 2]",
    "), 3]",
)
case(
    "a memoryview",
    "M = memoryview(bytes([2]))\ndef helper(x):\n    return x * M[0]\n",
    "[2]",
    "[3]",
)
case(
    "a bytes iterator in an object",
    "class S:\n    def __init__(self, it):\n        self.it = it\ns = S(iter([2] * 100))\ndef helper(x):\n    return x * next(s.it)\n",
    "[2]",
    "[3]",
)
case(
    "an instance of Struct in a dict",
    "import struct\nD = {'s': struct.Struct('<I')}\ndef helper(x):\n    return D['s'].pack(x)\n",
    "<I",
    ">I",
)
case(
    "a queue that was filled",
    "import queue\nQ = queue.Queue()\nQ.put(2)\ndef helper(x):\n    return x * Q.queue[0]\n",
    "put(2)",
    "put(3)",
)
case(
    "a thread's local",
    "import threading\nL = threading.local()\nL.k = 2\ndef helper(x):\n    return x * L.k\n",
    "k = 2",
    "k = 3",
)
case(
    "an in-memory database",
    "import sqlite3\nDB = sqlite3.connect(':memory:', check_same_thread=False)\nDB.execute('create table t as select 2 as k')\ndef helper(x):\n    return x * DB.execute('select k from t').fetchone()[0]\n",
    "select 2",
    "select 3",
)
case(
    "a random generator",
    "import random\nR = random.Random(2)\ndef helper(x):\n    return R.random()\n",
    "Random(2)",
    "Random(3)",
)
case(
    "a compiled template",
    "import string\nT = string.Template('$x 2')\ndef helper(x):\n    return T.substitute(x=x)\n",
    "$x 2",
    "$x 3",
)
case(
    "a semaphore's value",
    "import threading\nS = threading.Semaphore(2)\ndef helper(x):\n    return x * S._value\n",
    "(2)",
    "(3)",
)

kind("7 classes made or completed elsewhere")
case(
    "a namedtuple's default",
    "from collections import namedtuple\nP = namedtuple('P', 'a b', defaults=[2])\n",
    "[2]",
    "[3]",
    app=importing("P", "P(x).b"),
)
case(
    "a functional Enum's value",
    "import enum\nE = enum.Enum('E', {'A': 2})\n",
    "'A': 2",
    "'A': 3",
    app=importing("E", "E.A.value"),
)
case(
    "make_dataclass",
    "from dataclasses import make_dataclass, field\nD = make_dataclass('D', [('k', int, field(default=2))])\n",
    "default=2",
    "default=3",
    app=importing("D", "D().k * x"),
)
case(
    "make_dataclass's namespace",
    "from dataclasses import make_dataclass\nD = make_dataclass('D', [('k', int)], namespace={'of': lambda self: self.k * 2})\n",
    "self.k * 2",
    "self.k * 3",
    app=importing("D", "D(x).of()"),
)
case(
    "type() with a base",
    "class B:\n    def of(self, x):\n        return x * 2\nP = type('P', (B,), {})\n",
    "x * 2",
    "x * 3",
    app=importing("P", "P().of(x)"),
)
case(
    "type() with a nested dict",
    "P = type('P', (), {'t': {'a': [2]}})\n",
    "[2]",
    "[3]",
    app=importing("P", "P.t['a'][0] * x"),
)
case(
    "a class factory's free variable",
    "def make(k):\n    class P:\n        def of(self, x):\n            return x * k\n    return P\nP = make(2)\n",
    "make(2)",
    "make(3)",
    app=importing("P", "P().of(x)"),
)
case(
    "a class factory's attribute",
    "def make(k):\n    class P:\n        v = [k]\n    return P\nP = make(2)\n",
    "make(2)",
    "make(3)",
    app=importing("P", "P.v[0] * x"),
)
case(
    "a decorator in a class factory",
    "def times(k):\n    def deco(f):\n        return lambda self, x: f(self, x) * k\n    return deco\ndef make(k):\n    class P:\n        @times(k)\n        def of(self, x):\n            return x\n    return P\nP = make(2)\n",
    "make(2)",
    "make(3)",
    app=importing("P", "P().of(x)"),
)
case(
    "a class decorator that adds",
    "def add(c):\n    c.k = 2\n    return c\n@add\nclass P:\n    pass\n",
    "c.k = 2",
    "c.k = 3",
    app=importing("P", "P.k * x"),
)
case(
    "a metaclass that adds",
    "class M(type):\n    def __new__(m, n, b, d):\n        d['k'] = 2\n        return super().__new__(m, n, b, d)\nclass P(metaclass=M):\n    pass\n",
    "= 2",
    "= 3",
    app=importing("P", "P.k * x"),
)
case(
    "a base's __init_subclass__",
    "class B:\n    def __init_subclass__(cls, k=1):\n        cls.k = k\nclass P(B, k=2):\n    pass\n",
    "k=2",
    "k=3",
    app=importing("P", "P.k * x"),
)
case(
    "a descriptor's __set_name__",
    "class D:\n    def __set_name__(self, o, n):\n        o.k = 2\nclass P:\n    d = D()\n",
    "o.k = 2",
    "o.k = 3",
    app=importing("P", "P.k * x"),
)
case(
    "a method put in by another module",
    "class P:\n    pass\n",
    "x * 2",
    "x * 3",
    file="p.py",
    p="from PKG.h import P\ndef leaf(x):\n    return x * 2\nP.of = lambda self, x: leaf(x)\n",
    app=importing("P", "P().of(x)", "import PKG.p"),
)
case(
    "a classmethod put in by setattr",
    "class P:\n    pass\n",
    "x * 2",
    "x * 3",
    file="p.py",
    p="from PKG.h import P\ndef of(cls, x):\n    return x * 2\nsetattr(P, 'of', classmethod(of))\n",
    app=importing("P", "P.of(x)", "import PKG.p"),
)
case(
    "a method that stands for another",
    "class P:\n    def a(self, x):\n        return x\n    def b(self, x):\n        return x * 2\n    def c(self, x):\n        return x * 3\nP.a = P.b\n",
    "P.a = P.b",
    "P.a = P.c",
    app=importing("P", "P().a(x)"),
)
case(
    "two decorators of other modules",
    "from PKG.d import one, two\ndef leaf(x):\n    return x * 2\nclass P:\n    @two\n    @one\n    def of(self, x):\n        return leaf(x)\n",
    "x * 2",
    "x * 3",
    app=importing("P", "P().of(x)"),
    d="import functools\ndef one(f):\n    @functools.wraps(f)\n    def i(*a):\n        return f(*a)\n    return i\ntwo = one\n",
)
case(
    "attrs: a converter",
    "import attrs\ndef twice(v):\n    return v * 2\n@attrs.define\nclass P:\n    k: int = attrs.field(converter=twice)\n",
    "v * 2",
    "v * 3",
    app=importing("P", "P(x).k"),
)
case(
    "attrs: a validator's helper",
    "import attrs\ndef limit():\n    return 2\ndef check(o, a, v):\n    o.__dict__['seen'] = limit()\n@attrs.define(slots=False)\nclass P:\n    k: int = attrs.field(validator=check)\n",
    "return 2",
    "return 3",
    app=importing("P", "P(x).seen"),
)
case(
    "pydantic: a field validator's helper",
    "from pydantic import BaseModel, field_validator\ndef twice(v):\n    return v * 2\nclass P(BaseModel):\n    k: int\n    @field_validator('k')\n    @classmethod\n    def check(cls, v):\n        return twice(v)\n",
    "v * 2",
    "v * 3",
    app=importing("P", "P(k=x).k"),
)
case(
    "pydantic: create_model",
    "from pydantic import create_model\nP = create_model('P', k=(int, 2))\n",
    "(int, 2)",
    "(int, 3)",
    app=importing("P", "P().k * x"),
)
case(
    "pydantic: a nested model",
    "from pydantic import BaseModel\nclass In(BaseModel):\n    k: int = 2\nclass P(BaseModel):\n    a: In = In()\n",
    "k: int = 2",
    "k: int = 3",
    app=importing("P", "P.model_validate({'a': {}}).a.k * x"),
)
case(
    "a NewType",
    "from typing import NewType\ndef base(x):\n    return x * 2\nT = NewType('T', base)\n",
    "x * 2",
    "x * 3",
    app=importing("T", "T.__supertype__(x)"),
)
case(
    "ABC.register of a project's class",
    "import abc\nclass A(abc.ABC):\n    pass\nclass B:\n    pass\nclass C:\n    pass\nA.register(B)\n",
    "register(B)",
    "register(C)",
    app=importing("A, B", "isinstance(B(), A)"),
)
case(
    "a subclass found by __subclasses__",
    "class B:\n    pass\ndef helper(x):\n    return [c.k for c in B.__subclasses__()]\n",
    "k = 2",
    "k = 3",
    file="p.py",
    p="from PKG.h import B\nclass S(B):\n    k = 2\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "an exception class",
    "class E(Exception):\n    def __str__(self):\n        return 'two'\ndef helper(x):\n    try:\n        raise E\n    except E as e:\n        return str(e)\n",
    "two",
    "three",
)
case(
    "a Flag's member",
    "import enum\nclass F(enum.Flag):\n    A = enum.auto()\n    B = enum.auto()\n",
    "    A = enum.auto()\n    B = enum.auto()\n",
    "    B = enum.auto()\n    A = enum.auto()\n",
    app=importing("F", "F.A.value"),
)
case(
    "an Enum's _missing_",
    "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\n    @classmethod\n    def _missing_(cls, v):\n        return cls.A\n",
    "return cls.A",
    "return cls.B",
    app=importing("E", "E(x).name"),
)
case(
    "a generic base's parameter",
    "from typing import Generic, TypeVar\nT = TypeVar('T')\ndef leaf(x):\n    return x * 2\nclass B(Generic[T]):\n    def of(self, x):\n        return leaf(x)\nclass P(B[int]):\n    pass\n",
    "x * 2",
    "x * 3",
    app=importing("P", "P().of(x)"),
)

kind("8 modules as values, names by text")
IMPL = "def run(x):\n    return leaf(x)\ndef leaf(x):\n    return x + 2\n"
IAPP = 'from keeping import keep\n{imports}\n\n@keep\ndef work(x):\n    print("ran")\n    return {body}\n'
for how, imports, body in (
    ("a module in a dict", "from PKG import impl\nM = {'a': impl}", "M['a'].run(x)"),
    ("a module in a list of an object", "from PKG import impl\nimport types\nM = types.SimpleNamespace(l=[impl])", "M.l[0].run(x)"),
    ("a module bound in the body", "from PKG import impl", "[m.run(x) for m in (impl,)][0]"),
    ("vars of a module", "from PKG import impl", "vars(impl)['run'](x)"),
    ("attrgetter", "from PKG import impl\nimport operator", "operator.attrgetter('run')(impl)(x)"),
    ("getattr by a made name", "from PKG import impl", "getattr(impl, 'r' + 'un')(x)"),
    ("getattr of a chain", "import PKG.impl", "getattr(PKG.impl, 'run')(x)"),
    ("__import__", "", "__import__('PKG.impl', fromlist=['run']).run(x)"),
    ("import_module by a made name", "import importlib", "importlib.import_module('PKG.' + 'impl').run(x)"),
    ("import_module, relative", "import importlib", "importlib.import_module('.impl', 'PKG').run(x)"),
    ("import_module by another name", "from importlib import import_module as load", "load('PKG.impl').run(x)"),
    ("sys.modules", "import sys\nimport PKG.impl", "sys.modules['PKG.impl'].run(x)"),
    ("globals", "from PKG.impl import run", "globals()['run'](x)"),
    ("eval", "from PKG.impl import run", "eval('run(x)', globals(), {'x': x})"),
    ("a text that a library resolves", "import pkgutil\nimport PKG.impl", "pkgutil.resolve_name('PKG.impl:run')(x)"),
    ("a text in a table", "import pydoc\nT = {'a': 'PKG.impl.run'}", "pydoc.locate(T['a'])(x)"),
    ("mock.patch by text", "from unittest import mock\nimport PKG.impl", "mock.patch('PKG.impl.run').get_original()[0](x)"),
    ("a module's __dict__", "from PKG import impl", "impl.__dict__['run'](x)"),
    ("a module as a default", "from PKG import impl\ndef call(x, m=impl):\n    return m.run(x)", "call(x)"),
    ("a partial of getattr", "from PKG import impl\nimport functools\ng = functools.partial(getattr, impl)", "g('run')(x)"),
    ("inspect.getmembers", "from PKG import impl\nimport inspect", "dict(inspect.getmembers(impl))['run'](x)"),
    ("an import in the body under if", "", "(lambda: __import__('importlib').import_module('PKG.impl').run(x))()"),
):  # fmt: skip
    case(
        how,
        "",
        "x + 2",
        "x + 3",
        file="impl.py",
        impl=IMPL,
        app=IAPP.format(imports=imports, body=body),
    )
case(
    "a package's __getattr__ with an import",
    "",
    "x + 2",
    "x + 3",
    file="sub/b.py",
    sub__INIT="def __getattr__(name):\n    import PKG.sub.b as b\n    return getattr(b, name)\n",
    sub__b="def top(x):\n    return x + 2\n",
    app=IAPP.format(imports="import PKG.sub", body="PKG.sub.top(x)"),
)
case(
    "plugins found in a directory",
    "",
    "x + 2",
    "x + 3",
    file="plug/a.py",
    plug__INIT="import importlib, pkgutil\ndef load():\n    return [importlib.import_module(f'{__name__}.{m.name}') for m in pkgutil.iter_modules(__path__)]\n",
    plug__a="def run(x):\n    return x + 2\n",
    app=IAPP.format(imports="from PKG import plug", body="[m.run(x) for m in plug.load()]"),
)
case(
    "a module that another sets attributes of",
    "K = 1\ndef helper(x):\n    return x + K\n",
    "h.K = 2",
    "h.K = 3",
    file="p.py",
    p="from PKG import h\nh.K = 2\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "a function put into a library's module",
    "import math\ndef twice(x):\n    return x * 2\nmath.twice_of_all = twice\ndef helper(x):\n    return math.twice_of_all(x)\n",
    "x * 2",
    "x * 3",
)
case(
    "a lazily imported module's default",
    "def helper(x):\n    from PKG.late import late\n    return late(x)\n",
    "k=2",
    "k=3",
    file="late.py",
    late="def late(x, k=2):\n    return x * k\n",
)
case(
    "two lazily imported names swapped",
    "def helper(x):\n    from PKG.late import one\n    return one(x)\n",
    "def one(x):\n    return x\ndef two(x):\n    return x * 2\n",
    "def two(x):\n    return x\ndef one(x):\n    return x * 2\n",
    file="late.py",
    late="def one(x):\n    return x\ndef two(x):\n    return x * 2\n",
)

kind("9 kept methods")
METHOD = "from keeping import keep\nimport functools, abc\n{before}\nclass M{bases}:\n    def __init__(self):\n        self.z = 1\n    @keep\n    def run(self, x):\n        print('ran')\n        return {body}\n{rest}\ndef work(x):\n    return {make}.run(x)\n"


def method(
    what: str,
    body: str,
    rest: str,
    old: str,
    new: str,
    before: str = "",
    bases: str = "",
    make: str = "M()",
    seen: bool = True,
    **others: str,
) -> None:
    """A kept method of a class."""
    text = METHOD.format(body=body, rest=rest, before=before, bases=bases, make=make)
    case(what, "", old, new, file="app.py", app=text, seen=seen, **others)  # type: ignore[arg-type]  files are texts


LEAFM = "    def leaf(self, x):\n        return x + 2\n"
method(
    "a cached property",
    "self.p + x",
    "    @functools.cached_property\n    def p(self):\n        return self.leaf(1)\n" + LEAFM,
    "x + 2",
    "x + 3",
)
method("self.__class__", "self.__class__.leaf(self, x)", LEAFM, "x + 2", "x + 3")
method("type(self)", "type(self).leaf(self, x)", LEAFM, "x + 2", "x + 3")
method("getattr of self", "getattr(self, 'leaf')(x)", LEAFM, "x + 2", "x + 3")
method("getattr by a made name", "getattr(self, 'le' + 'af')(x)", LEAFM, "x + 2", "x + 3")
method(
    "self given away",
    "go(self, x)",
    LEAFM,
    "x + 2",
    "x + 3",
    before="def go(m, x):\n    return m.leaf(x)",
)
method("self in a closure", "(lambda: self.leaf(x))()", LEAFM, "x + 2", "x + 3")
method(
    "an operator of self",
    "self + x",
    "    def __add__(self, x):\n        return x + 2\n",
    "x + 2",
    "x + 3",
)
method(
    "__getitem__ of self",
    "self[x]",
    "    def __getitem__(self, x):\n        return x + 2\n",
    "x + 2",
    "x + 3",
)
method(
    "calling self",
    "self(x)",
    "    def __call__(self, x):\n        return x + 2\n",
    "x + 2",
    "x + 3",
)
method(
    "a subclass's override",
    "self.leaf(x)",
    LEAFM + "class N(M):\n    def leaf(self, x):\n        return x + 4\n",
    "x + 4",
    "x + 5",
    make="N()",
)
method(
    "a mixin before, by super",
    "self.go(x)",
    "    def go(self, x):\n        return super().go(x)\nclass Mix(Base):\n    def go(self, x):\n        return x + 4\nclass N(M, Mix):\n    pass\n",
    "x + 4",
    "x + 5",
    before="class Base:\n    def go(self, x):\n        return x",
    bases="(Base)",
    make="N()",
)
method(
    "the order of bases",
    "self.go(x)",
    "class A(M):\n    def go(self, x):\n        return x + 1\nclass B(M):\n    def go(self, x):\n        return x + 2\nclass N(A, B):\n    pass\n",
    "N(A, B)",
    "N(B, A)",
    make="N()",
)
method(
    "an abstract base's method",
    "self.go(x)",
    "",
    "x + 2",
    "x + 3",
    before="class Base(abc.ABC):\n    def go(self, x):\n        return x + 2",
    bases="(Base)",
)
method(
    "a property's setter",
    "[setattr(self, 'p', x), self.z][1]",
    "    @property\n    def p(self):\n        return 0\n    @p.setter\n    def p(self, v):\n        self.z = v + 2\n",
    "v + 2",
    "v + 3",
)
method(
    "a descriptor of the project",
    "self.d + x",
    "    d = D()\n",
    "return 2",
    "return 3",
    before="class D:\n    def __get__(self, o, t):\n        return 2",
)
method(
    "__getattribute__",
    "self.anything + x",
    "    def __getattribute__(self, n):\n        return 2 if n == 'anything' else object.__getattribute__(self, n)\n",
    "return 2",
    "return 3",
)
method(
    "a method under a decorator of the project",
    "self.leaf(x)",
    "    @logged\n    def leaf(self, x):\n        return x + 2\n",
    "f(*a) + 0",
    "f(*a) + 1",
    before="def logged(f):\n    def inner(*a):\n        return f(*a) + 0\n    return inner",
)
method(
    "a method that is lru_cached",
    "self.leaf(x)",
    "    @functools.lru_cache\n    def leaf(self, x):\n        return self.deeper(x)\n    def deeper(self, x):\n        return x + 2\n",
    "x + 2",
    "x + 3",
)
method(
    "a singledispatchmethod",
    "self.leaf(x)",
    "    @functools.singledispatchmethod\n    def leaf(self, x):\n        return 0\n    @leaf.register\n    def _(self, x: int):\n        return x + 2\n",
    "x + 2",
    "x + 3",
)
method(
    "a class attribute dict of functions",
    "self.T['a'](x)",
    "    T = {'a': leaf}\n",
    "x + 2",
    "x + 3",
    before="def leaf(x):\n    return x + 2",
)
method(
    "an attribute of a nested class",
    "self.In.k + x",
    "    class In:\n        k = 2\n",
    "k = 2",
    "k = 3",
)
method(
    "another method that it does not ask for",
    "self.leaf(x)",
    LEAFM + "    def other(self):\n        return 1\n",
    "return 1",
    "return 2",
    seen=False,
)

kind("10 names, docstrings, annotations")
case(
    "a docstring of a helper, by getdoc",
    "import inspect\ndef f():\n    'two'\ndef helper(x):\n    return inspect.getdoc(f)\n",
    "two",
    "three",
)
case(
    "a docstring by getattr",
    "def f():\n    'two'\ndef helper(x):\n    return getattr(f, '__doc__')\n",
    "two",
    "three",
)
case(
    "a docstring of a method",
    "class C:\n    def f(self):\n        'two'\ndef helper(x):\n    return C.f.__doc__\n",
    "two",
    "three",
)
case(
    "a class's docstring",
    "class C:\n    'two'\ndef helper(x):\n    return C.__doc__\n",
    "two",
    "three",
)
case("a module's docstring", "'two'\ndef helper(x):\n    return __doc__\n", "two", "three")
case(
    "a signature",
    "import inspect\ndef f(a: 'two'):\n    pass\ndef helper(x):\n    return str(inspect.signature(f))\n",
    "two",
    "three",
)
case(
    "type hints",
    "import typing\nclass A:\n    k = 2\ndef f(a: 'A'):\n    pass\ndef helper(x):\n    return typing.get_type_hints(f)['a'].k\n",
    "k = 2",
    "k = 3",
)
case(
    "a class's name",
    "class Two:\n    pass\nC = Two\ndef helper(x):\n    return C.__name__\n",
    "Two",
    "Three",
)
case(
    "the name of what is in a list",
    "def two():\n    pass\nL = [two]\ndef helper(x):\n    return [f.__name__ for f in L]\n",
    "two",
    "three",
)
case(
    "an attribute of a function",
    "def f():\n    pass\nf.k = 2\ndef helper(x):\n    return f.k * x\n",
    "k = 2",
    "k = 3",
)
case(
    "an attribute of a function, set by a decorator",
    "def mark(k):\n    def deco(f):\n        f.k = k\n        return f\n    return deco\n@mark(2)\ndef f():\n    pass\ndef helper(x):\n    return f.k * x\n",
    "mark(2)",
    "mark(3)",
)
case(
    "pydantic: a schema's description",
    "from pydantic import BaseModel\nclass M(BaseModel):\n    'two'\n    k: int = 1\ndef helper(x):\n    return M.model_json_schema()['description']\n",
    "two",
    "three",
)
case(
    "pydantic: a field's type",
    "from pydantic import BaseModel\nclass M(BaseModel):\n    k: int\ndef helper(x):\n    return M(k=x).k\n",
    "k: int",
    "k: float",
)
case(
    "validate_call",
    "from pydantic import validate_call\n@validate_call\ndef helper(x: int):\n    return x\n",
    "x: int",
    "x: float",
)
case(
    "a source by inspect",
    "import inspect\ndef f():\n    return 1  # two\ndef helper(x):\n    return inspect.getsource(f)\n",
    "# two",
    "# three",
)
case(
    "a dataclass's fields by name",
    "from dataclasses import dataclass, fields\n@dataclass\nclass D:\n    two: int = 1\ndef helper(x):\n    return [f.name for f in fields(D)]\n",
    "two",
    "three",
)
case(
    "singledispatch by annotation",
    "import functools\n@functools.singledispatch\ndef helper(x):\n    return 0\n@helper.register\ndef _(x: int):\n    return 1\n",
    "x: int",
    "x: str",
)
same(
    "a docstring that nothing reads",
    "def f(x):\n    'two'\n    return x\ndef helper(x):\n    return f(x)\n",
    "two",
    "three",
)
same(
    "an annotation that nothing reads",
    "def f(x: int):\n    return x\ndef helper(x):\n    return f(x)\n",
    "int",
    "float",
)
same(
    "a docstring of a class that nothing reads",
    "class C:\n    'two'\n    def f(self, x):\n        'two'\n        return x\ndef helper(x):\n    return C().f(x)\n",
    "two",
    "three",
)
same(
    "a helper renamed", "def f(x):\n    return x\ndef helper(x):\n    return f(x)\n", "f(x)", "g(x)"
)
same(
    "a parameter's annotation of a dataclass's method",
    "from dataclasses import dataclass\n@dataclass\nclass D:\n    k: int = 1\n    def f(self, x):\n        return x\ndef helper(x):\n    return D().f(x)\n",
    "f(self, x)",
    "f(self, x) -> int",
    explained="annotations in a dataclass count",
)

kind("11 the order of a dict")
case(
    "a pipeline",
    "def a(x):\n    return x + 1\ndef b(x):\n    return x * 2\nS = {'a': a, 'b': b}\ndef helper(x):\n    for s in S.values():\n        x = s(x)\n    return x\n",
    "'a': a, 'b': b",
    "'b': b, 'a': a",
)
case(
    "a registry by decorator",
    "S = {}\ndef step(f):\n    S[f.__name__] = f\n    return f\n@step\ndef a(x):\n    return x + 1\n@step\ndef b(x):\n    return x * 2\ndef helper(x):\n    for s in S.values():\n        x = s(x)\n    return x\n",
    "@step\ndef a(x):\n    return x + 1\n@step\ndef b(x):\n    return x * 2\n",
    "@step\ndef b(x):\n    return x * 2\n@step\ndef a(x):\n    return x + 1\n",
)
case(
    "a dict of scalars",
    "S = {'a': 1, 'b': 2}\ndef helper(x):\n    return list(S)\n",
    "'a': 1, 'b': 2",
    "'b': 2, 'a': 1",
)
case(
    "a dict in an object",
    "class C:\n    def __init__(self):\n        self.s = {'a': 1, 'b': 2}\nc = C()\ndef helper(x):\n    return list(c.s)\n",
    "'a': 1, 'b': 2",
    "'b': 2, 'a': 1",
)
case(
    "a dict in a class",
    "class C:\n    s = dict(a=1, b=2)\ndef helper(x):\n    return list(C.s)\n",
    "a=1, b=2",
    "b=2, a=1",
)
case(
    "keywords of a partial",
    "import functools\ndef f(**k):\n    return list(k)\nhelper_ = functools.partial(f, a=1, b=2)\ndef helper(x):\n    return helper_()\n",
    "a=1, b=2",
    "b=2, a=1",
)
case(
    "a defaultdict",
    "import collections\nS = collections.defaultdict(int, a=1, b=2)\ndef helper(x):\n    return list(S)\n",
    "a=1, b=2",
    "b=2, a=1",
)
case(
    "a default",
    "def helper(x, s={'a': 1, 'b': 2}):\n    return list(s)\n",
    "'a': 1, 'b': 2",
    "'b': 2, 'a': 1",
)
same(
    "a set's items reordered",
    "S = {'a', 'b'}\ndef helper(x):\n    return sorted(S)\n",
    "'a', 'b'",
    "'b', 'a'",
)

kind("12 callable objects")
case(
    "a decorator class's argument",
    "class Scale:\n    def __init__(self, f, k):\n        self.__wrapped__, self.k = f, k\n    def __call__(self, x):\n        return self.__wrapped__(x) * self.k\ndef base(x):\n    return x\nhelper = Scale(base, 2)\n",
    "base, 2",
    "base, 3",
)
case(
    "a decorator class with a name",
    "import functools\nclass Scale:\n    def __init__(self, f, k=2):\n        functools.update_wrapper(self, f)\n        self.k = k\n    def __call__(self, x):\n        return self.__wrapped__(x) * self.k\ndef base(x):\n    return x\nhelper = Scale(base, k=2)\n",
    "(base, k=2)",
    "(base, k=3)",
)
case(
    "toolz.curry's argument",
    "import toolz\ndef f(k, x):\n    return k * x\nhelper = toolz.curry(f)(2)\n",
    "(2)",
    "(3)",
)
case(
    "a library's decorator that holds a number",
    "import functools\ndef f(x):\n    return x\ndef helper(x):\n    return g.cache_parameters()['maxsize']\ng = functools.lru_cache(maxsize=2)(f)\n",
    "maxsize=2",
    "maxsize=3",
)
case(
    "a kept helper's version",
    "from keeping import keep\nimport keeping\nV = getattr(keeping, 'versioned', lambda v: lambda f: f)\n@V('1')\ndef one(x):\n    return x\n@V('1')\ndef two(x):\n    return x * 2\ndef helper(x):\n    return one(x)\n",
    "return one(x)",
    "return two(x)",
)
case(
    "two methods of one name in a class",
    "class C:\n    def f(self, x):\n        return x\n    first = f\n    def f(self, x):\n        return x * 2\ndef helper(x):\n    return C().f(x) + C().first(x)\n",
    "x * 2",
    "x * 3",
)
case(
    "a callable object in a table",
    "class Op:\n    def __init__(self, k):\n        self.k = k\n    def __call__(self, x):\n        return x * self.k\nT = [Op(2)]\ndef helper(x):\n    return T[0](x)\n",
    "Op(2)",
    "Op(3)",
)
case(
    "a lambda made in a loop",
    "L = [lambda x, k=k: x * k for k in (2, 3)]\ndef helper(x):\n    return L[0](x)\n",
    "(2, 3)",
    "(4, 3)",
)
case(
    "an operator.itemgetter",
    "import operator\ng = operator.itemgetter(0)\ndef helper(x):\n    return g([x, 2])\n",
    "(0)",
    "(1)",
)
case(
    "a re.compile with flags",
    "import re\nR = re.compile('A')\ndef helper(x):\n    return bool(R.match('a'))\n",
    "re.compile('A')",
    "re.compile('A', re.I)",
)
same(
    "a wrapper's layout",
    "class Scale:\n    def __init__(self, f, k):\n        self.__wrapped__, self.k = f, k\n    def __call__(self, x):\n        return self.__wrapped__(x) * self.k\ndef base(x):\n    return x\nhelper = Scale(base, 2)\n",
    "Scale(base, 2)",
    "Scale(\n    base,\n    2,\n)",
)

kind("1 defaults, in other forms")
case(
    "default: star-unpacked",
    "def helper(x, k=(2,)):\n    a, *k = k\n    return x * a\n",
    "(2,)",
    "(3,)",
)
case(
    "default: global swap in loop",
    "def helper(x, ks=(1,2)):\n    for ks in ks:\n        pass\n    return x * ks\n",
    "(1,2)",
    "(1,3)",
)
case(
    "default: set default add",
    "def helper(x, k={2}):\n    k |= {0}\n    return x * max(k)\n",
    "{2}",
    "{3}",
)
case(
    "default from function call",
    "def mk():\n    return {'r': 2}\ndef helper(x, k=mk()):\n    k['n'] = 1\n    return x * k['r']\n",
    "'r': 2",
    "'r': 3",
)
case(
    "default of nested fn param",
    "def helper(x):\n    def inner(y, k=2):\n        k = k * 1\n        return y * k\n    return inner(x)\n",
    "k=2",
    "k=3",
)
case(
    "default object mutated",
    "class S:\n    def __init__(self, r): self.r = r\ndef helper(x, s=S(2)):\n    s.n = 1\n    return x * s.r\n",
    "S(2)",
    "S(3)",
)
case(
    "kwonly default popped",
    "def helper(x, *, k=[2, 3]):\n    k = list(k)\n    return x * k.pop()\n",
    "[2, 3]",
    "[2, 4]",
)
case(
    "partial default state",
    "import functools\ndef f(x, t):\n    t['n'] = 1\n    return x * t['r']\nhelper = functools.partial(f, t={'r': 2})\n",
    "'r': 2",
    "'r': 3",
)

kind("2 state, in other forms")
case(
    "global list extended lazily through alias",
    "T = [2]\ndef helper(x):\n    t = T\n    t.append(x)\n    return x * t[0]\n",
    "[2]",
    "[3]",
)
case(
    "state written in a method only",
    "T = {'r': 2 + 0}\nR = 2\nT2 = {'r': R}\nclass C:\n    def put(self, x):\n        T2['n'] = x\ndef helper(x):\n    C().put(x)\n    return x * T2['r']\n",
    "R = 2",
    "R = 3",
)
case(
    "state: list of lists",
    "R = 2\nT = [[R]]\ndef helper(x):\n    T[0].append(x)\n    return x * T[0][0]\n",
    "R = 2",
    "R = 3",
)
case(
    "state: del item",
    "R = 2\nT = {'r': R, 'z': 0}\ndef helper(x):\n    T.pop('z', None)\n    return x * T['r']\n",
    "R = 2",
    "R = 3",
)
case(
    "state by global in for",
    "R = 2\nI = R\ndef helper(x):\n    global I\n    y = I * x\n    for I in [I]:\n        pass\n    return y\n",
    "R = 2",
    "R = 3",
)
case(
    "state: import as in function",
    "R = 2\nm = R\ndef helper(x):\n    global m\n    y = m * x\n    m = y // x\n    return y\n",
    "R = 2",
    "R = 3",
)
case(
    "state imported with star",
    "from PKG.c import *\ndef helper(x):\n    T['n'] = x\n    return x * T['r']\n",
    "R = 2",
    "R = 3",
    file="c.py",
    c="R = 2\nT = {'r': R}\n",
)
case(
    "state via attribute of module alias",
    "import PKG.c as cc\ndef helper(x):\n    cc.T['n'] = x\n    return x * cc.T['r']\n",
    "R = 2",
    "R = 3",
    file="c.py",
    c="R = 2\nT = {'r': R}\n",
)
case(
    "state set by module attribute assignment in function",
    "import PKG.c as cc\ndef helper(x):\n    y = cc.K\n    cc.K = y\n    return x * y\n",
    "R = 2",
    "R = 3",
    file="c.py",
    c="R = 2\nK = R\n",
)
case(
    "class counter",
    "R = 2\nclass C:\n    n = R\n    @classmethod\n    def up(cls):\n        cls.n += 0\n        return cls.n\ndef helper(x):\n    return x * C.up()\n",
    "R = 2",
    "R = 3",
)
case(
    "singleton instance",
    "class C:\n    inst = None\n    @classmethod\n    def get(cls):\n        if cls.inst is None:\n            cls.inst = cls()\n            cls.inst.k = K\n        return cls.inst\nK = 2\ndef helper(x):\n    return x * C.get().k\n",
    "K = 2",
    "K = 3",
)
case(
    "registry function called in main of other module",
    "REG = {}\ndef reg(n, v):\n    REG[n] = v\ndef helper(x):\n    reg('t', 0)\n    return x * REG['a']\n",
    "reg('a', 2)",
    "reg('a', 3)",
    file="p.py",
    p="from PKG.h import reg\ndef setup():\n    reg('a', 2)\nsetup()\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "registry through a class instance's method",
    "class Reg:\n    def __init__(self): self.d = {}\n    def add(self, n):\n        def deco(f):\n            self.d[n] = f\n            return f\n        return deco\n    def get(self, n): return self.d[n]\nreg = Reg()\ndef helper(x):\n    return reg.get('a')(x)\n",
    "x + 2",
    "x + 3",
    file="p.py",
    p="from PKG.h import reg\ndef leaf(x):\n    return x + 2\n@reg.add('a')\ndef f(x):\n    return leaf(x)\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "registry of numbers through an object's method",
    "class Reg:\n    def __init__(self): self.d = {}\n    def add(self, n, v): self.d[n] = v\n    def get(self, n): return self.d[n]\nreg = Reg()\ndef helper(x):\n    return reg.get('a') * x\n",
    "add('a', 2)",
    "add('a', 3)",
    file="p.py",
    p="from PKG.h import reg\nreg.add('a', 2)\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "config object filled at import by another module",
    "class Cfg:\n    pass\ncfg = Cfg()\ndef helper(x):\n    cfg.last = x\n    return cfg.k * x\n",
    "cfg.k = 2",
    "cfg.k = 3",
    file="p.py",
    p="from PKG.h import cfg\ncfg.k = 2\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "config dict swapped by another module",
    "T = {'k': 1}\ndef helper(x):\n    T['n'] = x\n    return T['k'] * x\n",
    "'k': 2",
    "'k': 3",
    file="p.py",
    p="import PKG.h\nPKG.h.T = {'k': 2}\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "config loaded by function in own module under if",
    "import os\nT = {}\ndef load(k):\n    T.update(k=k)\nif os.name:\n    load(2)\ndef helper(x):\n    T['n'] = x\n    return T['k'] * x\n",
    "load(2)",
    "load(3)",
)
case(
    "closure shared by two functions",
    "def make(k):\n    t = [k]\n    def get(x): return t[0] * x\n    def put(v): t.append(v)\n    return get, put\nget, put = make(2)\ndef helper(x):\n    put(x)\n    return get(x)\n",
    "make(2)",
    "make(3)",
)
case(
    "counter in itertools.count",
    "import itertools\nC = itertools.count(2)\ndef helper(x):\n    return next(C) * x\n",
    "count(2)",
    "count(3)",
)
case(
    "collections.Counter prefilled",
    "import collections\nC = collections.Counter(a=2)\ndef helper(x):\n    C['n'] += 1\n    return C['a'] * x\n",
    "a=2",
    "a=3",
)

kind("13 other ways")
case(
    "functools.reduce of list",
    LEAF
    + "import functools\nL = [f]\ndef helper(x):\n    return functools.reduce(lambda a, g: g(a), L, x)\n",
    "x + 2",
    "x + 3",
)
case(
    "nested dataclass factory default",
    LEAF
    + "from dataclasses import dataclass, field\n@dataclass\nclass D:\n    g: object = field(default_factory=lambda: f)\ndef helper(x):\n    return D().g(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "dict in closure in object in list",
    LEAF
    + "def mk(d):\n    return lambda x: d['f'](x)\nclass O:\n    def __init__(self): self.g = mk({'f': f})\nL = [O()]\ndef helper(x):\n    return L[0].g(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "itertools.starmap arg",
    LEAF + "import itertools\ndef helper(x):\n    return list(itertools.starmap(f, [(x,)]))\n",
    "x + 2",
    "x + 3",
)
case(
    "class with __class_getitem__",
    LEAF
    + "class C:\n    def __class_getitem__(cls, k):\n        return f\ndef helper(x):\n    return C[1](x)\n",
    "x + 2",
    "x + 3",
)
case(
    "coroutine helper",
    LEAF
    + "import asyncio\nasync def g(x):\n    return f(x)\ndef helper(x):\n    return asyncio.run(g(x))\n",
    "x + 2",
    "x + 3",
)
case(
    "async generator helper",
    LEAF
    + "import asyncio\nasync def g(x):\n    yield f(x)\nasync def h(x):\n    return [y async for y in g(x)]\ndef helper(x):\n    return asyncio.run(h(x))\n",
    "x + 2",
    "x + 3",
)
case(
    "ExitStack callback",
    LEAF
    + "import contextlib\ndef helper(x):\n    out = []\n    with contextlib.ExitStack() as s:\n        s.callback(lambda: out.append(f(x)))\n    return out\n",
    "x + 2",
    "x + 3",
)
case(
    "weakref.ref global",
    LEAF + "import weakref\nR = weakref.ref(f)\ndef helper(x):\n    return R()(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "UserList",
    LEAF
    + "import collections\nL = collections.UserList([f])\ndef helper(x):\n    return L[0](x)\n",
    "x + 2",
    "x + 3",
)
case(
    "dict subclass with attribute",
    LEAF + "class D(dict):\n    pass\nd = D()\nd.g = f\ndef helper(x):\n    return d.g(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "int subclass with attribute",
    "class I(int):\n    pass\ni = I(2)\ni.k = 5\ndef helper(x):\n    return x * i * i.k\n",
    "I(2)",
    "I(3)",
)
case(
    "str subclass value",
    "class I(str):\n    pass\ni = I('2')\ndef helper(x):\n    return x * i\n",
    "I('2')",
    "I('3')",
)
case(
    "tuple subclass value",
    "class I(tuple):\n    pass\ni = I((2,))\ndef helper(x):\n    return x * i[0]\n",
    "(2,)",
    "(3,)",
)
case(
    "ndarray subclass value",
    "import numpy as np\nclass A(np.ndarray):\n    pass\na = np.array([2]).view(A)\ndef helper(x):\n    return int(x * a[0])\n",
    "[2]",
    "[3]",
)
case(
    "datetime subclass value",
    "import datetime\nclass D(datetime.date):\n    pass\nd = D(2020, 1, 2)\ndef helper(x):\n    return x * d.day\n",
    "1, 2",
    "1, 3",
)
case(
    "Decimal subclass value",
    "import decimal\nclass D(decimal.Decimal):\n    pass\nd = D('2')\ndef helper(x):\n    return int(x * d)\n",
    "'2'",
    "'3'",
)
case(
    "Struct subclass",
    "import struct\nclass S(struct.Struct):\n    pass\ns = S('<I')\ndef helper(x):\n    return s.pack(x)\n",
    "<I",
    ">I",
)
case(
    "thread subclass args",
    "import threading\nt = threading.Thread(target=print, args=(2,))\ndef helper(x):\n    return x * t._args[0]\n",
    "(2,)",
    "(3,)",
)
case(
    "logging handler of the project",
    "import logging\nclass H(logging.Handler):\n    out = []\n    def emit(self, r):\n        self.out.append(r.getMessage() + 'two')\nL = logging.getLogger('xx' + __name__)\nL.addHandler(H())\ndef helper(x):\n    L.warning('a')\n    return H.out[-1]\n",
    "'two'",
    "'three'",
)
case(
    "numpy structured dtype constant",
    "import numpy as np\nD = np.dtype([('a', 'i4')])\ndef helper(x):\n    return D.itemsize * x\n",
    "'i4'",
    "'i8'",
)
case(
    "functools.cmp_to_key",
    "import functools\ndef c(a, b):\n    return a - b\nK = functools.cmp_to_key(c)\ndef helper(x):\n    return sorted([1, x], key=K)\n",
    "a - b",
    "b - a",
)
case(
    "functools.total_ordering class",
    "import functools\n@functools.total_ordering\nclass C:\n    def __init__(self, k): self.k = k\n    def __eq__(self, o): return self.k == o.k\n    def __lt__(self, o): return self.k < o.k\ndef helper(x):\n    return C(1) >= C(x)\n",
    "self.k < o.k",
    "self.k > o.k",
)
case(
    "enum with function members",
    LEAF
    + "import enum\nclass E(enum.Enum):\n    A = enum.member(f)\ndef helper(x):\n    return E.A.value(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "enum functional mixin",
    "import enum\nclass B(enum.Enum):\n    @property\n    def twice(self): return self.value * 2\nE = B('E', {'A': 1})\ndef helper(x):\n    return E.A.twice\n",
    "* 2",
    "* 3",
)
case(
    "string Template subclass",
    "import string\nclass T(string.Template):\n    delimiter = '%'\nt = T('%x $x')\ndef helper(x):\n    return t.substitute(x=x) if T.delimiter == '%' else t.safe_substitute(x=x)\n",
    "'%'\nt",
    "'$'\nt",
)
case(
    "json encoder class",
    "import json\nclass E(json.JSONEncoder):\n    def default(self, o): return 'two'\ndef helper(x):\n    return json.dumps({1j: 1} if False else [1j], cls=E)\n",
    "two",
    "three",
)
case(
    "copyreg / pickle reduce",
    "import pickle\ndef mk(k): return [k * 2]\nclass C:\n    def __reduce__(self): return mk, (1,)\ndef helper(x):\n    return pickle.loads(pickle.dumps(C()))\n",
    "k * 2",
    "k * 3",
)
case(
    "operator overloading via functions set in class dict",
    "def add(self, o): return 2\nclass C:\n    __add__ = add\ndef helper(x):\n    return C() + 1\n",
    "return 2",
    "return 3",
)
case(
    "descriptor class from other module",
    "from PKG.d import D\nclass C:\n    a = D(2)\ndef helper(x):\n    return C().a * x\n",
    "self.k\n",
    "self.k + 1\n",
    file="d.py",
    d="class D:\n    def __init__(self, k): self.k = k\n    def __get__(self, o, t): return self.k\n",
)
case(
    "module-level __getattr__ constant",
    "import PKG.d as d\ndef helper(x):\n    return d.zzz * x\n",
    "'zzz': 2",
    "'zzz': 3",
    file="d.py",
    d="_T = {'zzz': 2}\ndef __getattr__(n):\n    return _T[n]\n",
)
case(
    "conditional import fallback",
    "try:\n    import not_there_x as impl\nexcept ImportError:\n    from PKG import d as impl\ndef helper(x):\n    return impl.run(x)\n",
    "x + 2",
    "x + 3",
    file="d.py",
    d="def run(x):\n    return x + 2\n",
)
case(
    "reexport via __all__ star twice",
    "from PKG.d import *\ndef helper(x):\n    return run(x)\n",
    "x + 2",
    "x + 3",
    file="e.py",
    d="from PKG.e import *\n",
    e="def run(x):\n    return x + 2\n",
)
case(
    "relative lazy import, transitively",
    "def helper(x):\n    from . import d\n    return d.run(x)\n",
    "x + 2",
    "x + 3",
    file="e.py",
    d="from .e import leaf\ndef run(x):\n    return leaf(x)\n",
    e="def leaf(x):\n    return x + 2\n",
)
case(
    "lazy import of package whose init patches",
    "def helper(x):\n    import PKG.sub.b\n    return PKG.sub.b.top(x)\n",
    "K = 2",
    "K = 3",
    file="sub/patch.py",
    sub__INIT="from PKG.sub import patch\n",
    sub__patch="from PKG.sub import b\nb.K = 2\n",
    sub__b="K = 1\ndef top(x):\n    return x + K\n",
)
case(
    "class body loop",
    "class C:\n    for i in range(3):\n        locals()[f'k{i}'] = i * 2\ndef helper(x):\n    return C.k2 * x\n",
    "i * 2",
    "i * 3",
)
case(
    "vars()[...] at module level",
    "for n in ('a', 'b'):\n    globals()[n] = 2\ndef helper(x):\n    return a * x\n",
    "= 2",
    "= 3",
)
case(
    "exec at module level",
    "exec('def f(x):\\n    return x + 2')\ndef helper(x):\n    return f(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "exec'd function with helper",
    "def leaf(x):\n    return x + 2\nexec('def f(x):\\n    return leaf(x)')\ndef helper(x):\n    return f(x)\n",
    "x + 2",
    "x + 3",
)
case(
    "ns exec",
    "def leaf(x):\n    return x + 2\nNS = {'leaf': leaf}\nexec('def f(x):\\n    return leaf(x)', NS)\ndef helper(x):\n    return NS['f'](x)\n",
    "x + 2",
    "x + 3",
)
case(
    "types.FunctionType clone with other globals",
    "import types\ndef f(x):\n    return x * K\nK = 1\ng = types.FunctionType(f.__code__, {'K': 2})\ndef helper(x):\n    return g(x)\n",
    "'K': 2",
    "'K': 3",
)
case(
    "functools.singledispatch registered by other module",
    "import functools\n@functools.singledispatch\ndef helper(x):\n    return 0\n",
    "x + 2",
    "x + 3",
    file="p.py",
    p="from PKG.h import helper\ndef leaf(x):\n    return x + 2\n@helper.register(int)\ndef _(x):\n    return leaf(x)\n",
    app=APP.replace("\n\n", "\nimport PKG.p\n\n", 1),
)
case(
    "abc registration changes isinstance (library ABC)",
    "import numbers\nclass N:\n    pass\nclass M:\n    pass\nnumbers.Number.register(N)\ndef helper(x):\n    return isinstance(N(), numbers.Number)\n",
    "register(N)",
    "register(M)",
)
case(
    "copyreg.pickle",
    "import copyreg, pickle\nclass C:\n    pass\ndef mk(): return 2\ndef red(o): return mk, ()\ncopyreg.pickle(C, red)\ndef helper(x):\n    return pickle.loads(pickle.dumps(C()))\n",
    "return 2",
    "return 3",
)
case(
    "atexit/hook list",
    "HOOKS = []\ndef hook(f):\n    HOOKS.append(f)\n    return f\n@hook\ndef one(x): return x + 2\ndef helper(x):\n    for h in HOOKS: x = h(x)\n    return x\n",
    "x + 2",
    "x + 3",
)
case(
    "two hooks swapped",
    "HOOKS = []\ndef hook(f):\n    HOOKS.append(f)\n    return f\n@hook\ndef one(x): return x + 2\n@hook\ndef two(x): return x * 2\ndef helper(x):\n    for h in HOOKS: x = h(x)\n    return x\n",
    "@hook\ndef one(x): return x + 2\n@hook\ndef two(x): return x * 2",
    "@hook\ndef two(x): return x * 2\n@hook\ndef one(x): return x + 2",
)
case(
    "hook priorities",
    "HOOKS = {}\ndef hook(p):\n    def d(f):\n        HOOKS[p] = f\n        return f\n    return d\n@hook(1)\ndef one(x): return x + 2\n@hook(2)\ndef two(x): return x * 2\ndef helper(x):\n    for h in sorted(HOOKS): x = HOOKS[h](x)\n    return x\n",
    "@hook(1)",
    "@hook(3)",
)
case(
    "init_subclass registry order",
    "class B:\n    R = []\n    def __init_subclass__(cls): B.R.append(cls)\nclass C(B):\n    k = 2\nclass D(B):\n    k = 3\ndef helper(x):\n    return [c.k for c in B.R]\n",
    "class C(B):\n    k = 2\nclass D(B):\n    k = 3",
    "class D(B):\n    k = 3\nclass C(B):\n    k = 2",
)
case(
    "metaclass registry",
    "class M(type):\n    R = {}\n    def __new__(m, n, b, d):\n        c = super().__new__(m, n, b, d)\n        M.R[n] = c\n        return c\nclass C(metaclass=M):\n    k = 2\ndef helper(x):\n    return M.R['C'].k\n",
    "k = 2",
    "k = 3",
)
case(
    "metaclass __call__",
    "class M(type):\n    def __call__(cls, *a):\n        return 2\nclass C(metaclass=M):\n    pass\ndef helper(x):\n    return C()\n",
    "return 2",
    "return 3",
)
case(
    "__prepare__",
    "class M(type):\n    @classmethod\n    def __prepare__(m, n, b): return {'k': 2}\nclass C(metaclass=M):\n    pass\ndef helper(x):\n    return C.k\n",
    "'k': 2",
    "'k': 3",
)
case(
    "class body reads a function",
    "def k(): return 2\nclass C:\n    v = k()\ndef helper(x):\n    return C.v\n",
    "return 2",
    "return 3",
)
case(
    "enum _generate_next_value_",
    "import enum\nclass B(enum.Enum):\n    @staticmethod\n    def _generate_next_value_(n, s, c, l): return n + 'two'\nclass E(B):\n    A = enum.auto()\ndef helper(x):\n    return E.A.value\n",
    "'two'",
    "'three'",
)
case(
    "class __slots__ order",
    "class C:\n    __slots__ = ('a', 'b')\ndef helper(x):\n    return C.__slots__\n",
    "('a', 'b')",
    "('b', 'a')",
)
case(
    "closure over loop variable",
    "FS = []\nfor k in (2, 3):\n    def f(x, k=k):\n        return x * k\n    FS.append(f)\ndef helper(x):\n    return FS[0](x)\n",
    "(2, 3)",
    "(4, 3)",
)
case(
    "global read late-bound in comprehension",
    "K = 2\nL = [lambda x: x * K for _ in range(1)]\ndef helper(x):\n    return L[0](x)\n",
    "K = 2",
    "K = 3",
)
case(
    "assert message / __debug__",
    "def helper(x):\n    assert x, 'no'\n    return x if __debug__ else 0\n",
    "x if",
    "x + 1 if",
)
case("f-string debug specifier", "K = 2\ndef helper(x):\n    return f'{K=}'\n", "K = 2", "K = 3")
case(
    "nested f-string variable name", "def helper(x):\n    aa = x\n    return f'{aa=}'\n", "aa", "bb"
)
case("locals() names", "def helper(x):\n    aa = x\n    return sorted(locals())\n", "aa", "bb")
case(
    "inspect.currentframe names",
    "import inspect\ndef helper(x):\n    aa = x\n    return sorted(inspect.currentframe().f_locals)\n",
    "aa",
    "bb",
)
case(
    "sys._getframe name",
    "import sys\ndef two():\n    return sys._getframe().f_code.co_name\ndef helper(x):\n    return two()\n",
    "two",
    "three",
)
case(
    "kwargs to dataclass replace",
    "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    a: int = 2\nc = C()\ndef helper(x):\n    return dataclasses.replace(c).a\n",
    "a: int = 2",
    "a: int = 3",
)
case(
    "dataclass fields order",
    "import dataclasses\n@dataclasses.dataclass\nclass C:\n    a: int = 1\n    b: int = 2\ndef helper(x):\n    return dataclasses.astuple(C())\n",
    "    a: int = 1\n    b: int = 2\n",
    "    b: int = 2\n    a: int = 1\n",
)
case(
    "typeddict from class via hints",
    "import typing\nclass T(typing.TypedDict):\n    a: int\ndef helper(x):\n    return list(typing.get_type_hints(T))\n",
    "a: int",
    "b: int",
)
case(
    "Literal args",
    "import typing\nL = typing.Literal['a', 'b']\ndef helper(x):\n    return typing.get_args(L)\n",
    "'a', 'b'",
    "'a', 'c'",
)
case(
    "Annotated metadata object",
    "import typing\nclass M:\n    def __init__(self, k): self.k = k\nA = typing.Annotated[int, M(2)]\ndef helper(x):\n    return A.__metadata__[0].k\n",
    "M(2)",
    "M(3)",
)
case(
    "TypeVar default/bound",
    "import typing\nclass M: k = 2\nT = typing.TypeVar('T', bound=M)\ndef helper(x):\n    return T.__bound__.k\n",
    "k = 2",
    "k = 3",
)
case(
    "Union alias",
    "import typing\nclass M: k = 2\nU = typing.Union[M, int]\ndef helper(x):\n    return U.__args__[0].k\n",
    "k = 2",
    "k = 3",
)
case(
    "X | Y alias",
    "class M: k = 2\nU = M | int\ndef helper(x):\n    return U.__args__[0].k\n",
    "k = 2",
    "k = 3",
)
case(
    "list[M] alias",
    "class M: k = 2\nU = list[M]\ndef helper(x):\n    return U.__args__[0].k\n",
    "k = 2",
    "k = 3",
)

case(
    "a curried function that was called with an argument",
    "import toolz\n@toolz.curry\ndef a(k, x): return x * k\nA = a(2)\ndef helper(x):\n    return A(x)\n",
    "a(2)",
    "a(3)",
)
case(
    "a curried function of a factory",
    "import toolz\ndef make(k):\n    @toolz.curry\n    def a(j, x): return x * k * j\n    return a\nA = make(2)(1)\ndef helper(x):\n    return A(x)\n",
    "make(2)(1)",
    "make(2)(3)",
)
case(
    "a command that a decorated group holds",
    "import click\n@click.group()\ndef g(): pass\n@g.command('a')\n@click.option('--n', type=int)\ndef a(n): return n * 5\ndef helper(x):\n    return g.main(['a', '--n', str(x)], standalone_mode=False)\n",
    "n * 5",
    "n * 6",
)
case(
    "a command that was added to a decorated group",
    "import click\ndef a(n): return n * 5\n@click.group()\ndef g(): pass\ng.add_command(click.Command('a', params=[click.Option(['--n'], default=3)], callback=a))\ndef helper(x):\n    return g.main(['a'], standalone_mode=False)\n",
    "default=3",
    "default=4",
)
case(
    "a module that is asked for by find_spec",
    "from importlib.util import find_spec\ndef helper(x):\n    return x + (find_spec('PKG.optional') is not None)\n",
    "",
    "K = 1\n",
    file="optional.py",
)
case(
    "a function in an expression of polars",
    "import polars as pl\ndef g(s): return s * 2\nE = pl.col('a').map_batches(g, return_dtype=pl.Int64)\ndef helper(x):\n    return pl.DataFrame({'a': [x]}).select(E)['a'].to_list()\n",
    "s * 2",
    "s * 3",
)
case(
    "an accessor that is registered with a library's class",
    "import pandas as pd\nK = 2\n@pd.api.extensions.register_dataframe_accessor('PKG_by')\nclass By:\n    def __init__(self, df): self.df = df\n    def get(self): return len(self.df) * K\ndef helper(x):\n    return pd.DataFrame({'a': [x]}).PKG_by.get()\n",
    "K = 2",
    "K = 3",
)
case(
    "a method that another module puts into a library's class",
    "import fractions\nimport PKG.patch\ndef helper(x):\n    return fractions.Fraction(x).PKG_twice()\n",
    "* 2",
    "* 3",
    file="patch.py",
    patch="from fractions import Fraction\ndef times(f): return f * 2\nFraction.PKG_twice = lambda self: times(self).numerator\n",
)
case(
    "an attribute of an enum's members, set beside it",
    "import enum\nclass E(enum.Enum):\n    A = 1\nfor m in E: m.label = 'x' + m.name\ndef helper(x):\n    return E.A.label * x\n",
    "'x' +",
    "'y' +",
)
case(
    "an attribute of an enum's member, set by another module",
    "import enum\nimport PKG.labels\nfrom PKG.kinds import E\ndef helper(x):\n    return E.A.label * x\n",
    "'x'",
    "'y'",
    file="labels.py",
    kinds="import enum\nclass E(enum.Enum):\n    A = 1\n",
    labels="from PKG.kinds import E\nE.A.label = 'x'\n",
)

kind("14 what makes no difference, beside each of these")
same(
    "a type adapter of two models",
    "from typing import Annotated, Literal\nfrom pydantic import BaseModel, Field, TypeAdapter\nclass A(BaseModel):\n    k: Literal['a']\nclass B(BaseModel):\n    k: Literal['b']\nT = TypeAdapter(Annotated[A | B, Field(discriminator='k')])\ndef helper(x):\n    return T.validate_python({'k': 'b'}).k * x\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "a parser's constant",
    "import configparser\nC = configparser.ConfigParser()\nC.read_string('[a]\\nb=1')\ndef helper(x):\n    return C['a']['b'] * x\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "a command of click",
    "import click\n@click.command()\n@click.option('--n', default=2)\ndef cmd(n): return n\ndef helper(x):\n    return cmd.main(['--n', str(x)], standalone_mode=False)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "deque history beside others",
    "import collections\nH = collections.deque(maxlen=5)\ndef helper(x):\n    H.append(x)\n    return x\nOTHER = 1\n",
    "OTHER = 1",
    "OTHER = 2",
)
same(
    "lock beside others",
    "import threading\nL = threading.Lock()\ndef helper(x):\n    with L:\n        return x\nOTHER = 1\n",
    "OTHER = 1",
    "OTHER = 2",
)
same(
    "logger beside others",
    "import logging\nL = logging.getLogger(__name__)\ndef helper(x):\n    L.info('x')\n    return x\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "lru_cache helper beside others",
    "import functools\n@functools.lru_cache(maxsize=None)\ndef helper(x):\n    return x\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "instance cache beside others",
    "class C:\n    def __init__(self): self.memo = {}\n    def of(self, x):\n        return x\nc = C()\ndef helper(x):\n    return c.of(x)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "dataclass with many methods: unrelated function",
    "from dataclasses import dataclass\n@dataclass\nclass D:\n    a: int = 1\ndef helper(x):\n    return D().a\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "pydantic model: unrelated function",
    "from pydantic import BaseModel\nclass D(BaseModel):\n    a: int = 1\ndef helper(x):\n    return D().a\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "enum, namedtuple, typeddict, protocol: unrelated",
    "import enum, typing, abc, collections\nclass E(enum.Enum):\n    A = 1\nclass N(typing.NamedTuple):\n    a: int\nP2 = collections.namedtuple('P2', 'a b')\nclass T(typing.TypedDict):\n    a: int\nclass P(typing.Protocol):\n    def f(self): ...\nclass A(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\nclass B(A):\n    def f(self): return 1\ndef helper(x):\n    t: T = T(a=1)\n    return E.A.value, N(1), t, B().f(), P2(1, 2)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "numpy and pandas constants: unrelated",
    "import numpy as np, pandas as pd\nA = np.arange(3)\nF = pd.DataFrame({'a': ['x', 'y']})\nS = pd.Series(['a', None], dtype=object)\ndef helper(x):\n    return len(A) + len(F) + len(S)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "re, Path, Decimal, datetime constants",
    "import re, pathlib, decimal, datetime, uuid, fractions\nR = re.compile('a')\nP = pathlib.Path('x')\nD = decimal.Decimal('1')\nT = datetime.date(2020,1,1)\nTD = datetime.timedelta(1)\nU = uuid.UUID(int=1)\nF = fractions.Fraction(1,2)\ndef helper(x):\n    return str((R.pattern, P, D, T, TD, U, F))\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "sklearn estimator constant: unrelated",
    "from sklearn.linear_model import LinearRegression\nfrom sklearn.pipeline import make_pipeline\nM = make_pipeline(LinearRegression())\ndef helper(x):\n    return len(M.steps)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "type(self).__name__ in a repr and docstring edit",
    "class C:\n    def __repr__(self): return type(self).__name__\n    def f(self, x):\n        'doc'\n        return x\ndef helper(x):\n    return C().f(x)\n",
    "'doc'",
    "'dock'",
)
same(
    "click-like argparse main",
    "import argparse\ndef main():\n    p = argparse.ArgumentParser()\n    return p\ndef helper(x):\n    return x\n",
    "return p\n",
    "return p, 1\n",
)
same(
    "method reordered in unrelated class",
    "class A:\n    def f(self): return 1\nclass B:\n    def f(self): return 1\n    def g(self): return 2\ndef helper(x):\n    return A().f()\n",
    "    def f(self): return 1\n    def g(self): return 2\n",
    "    def g(self): return 2\n    def f(self): return 1\n",
)
same(
    "typing-only import added",
    "def helper(x):\n    return x\n",
    "def helper",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import decimal\ndef helper",
)
same(
    "unrelated module-level print",
    "def helper(x):\n    return x\n",
    "def helper",
    "Z = [1]\nZ.append(2)\ndef helper",
)
same(
    "lazy import: comment in it",
    "def helper(x):\n    from PKG.late import f\n    return f(x)\n",
    "# c",
    "# d",
    file="late.py",
    late="def f(x):\n    'doc'\n    return x  # c\n",
)
same(
    "lazy import of stdlib",
    "def helper(x):\n    import json\n    return json.dumps(x)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "getattr on an argument",
    "def helper(x):\n    return getattr(x, 'real')\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "getattr by name on an argument",
    "def helper(x, n='real'):\n    return getattr(x, n)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "wraps decorator copying name; docstring",
    "import functools\ndef d(f):\n    @functools.wraps(f)\n    def i(*a):\n        return f(*a)\n    return i\n@d\ndef helper(x):\n    'doc'\n    return x\n",
    "'doc'",
    "'dock'",
)
same(
    "timing decorator that reads __name__; body of other",
    "import functools, time\ndef d(f):\n    @functools.wraps(f)\n    def i(*a):\n        n = f.__name__\n        return f(*a)\n    return i\n@d\ndef helper(x):\n    'doc'\n    return x\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "exception hierarchy unrelated",
    "class E(Exception):\n    pass\nclass F(E):\n    def __init__(self, a):\n        super().__init__(a)\n        self.a = a\ndef helper(x):\n    try:\n        raise F(x)\n    except E as e:\n        return e.a\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "contextvar unrelated",
    "from contextvars import ContextVar\nV = ContextVar('v', default=1)\ndef helper(x):\n    return V.get()\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "thread-local connection",
    "import threading\nL = threading.local()\ndef helper(x):\n    if not hasattr(L, 'c'):\n        L.c = 1\n    return L.c\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "global model cache None",
    "MODEL = None\ndef load():\n    global MODEL\n    if MODEL is None:\n        MODEL = [1, 2]\n    return MODEL\ndef helper(x):\n    return len(load())\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "generic class and typevar",
    "from typing import Generic, TypeVar\nT = TypeVar('T')\nclass B(Generic[T]):\n    def f(self, x): return x\ndef helper(x):\n    return B[int]().f(x)\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "attrs unrelated",
    "import attrs\n@attrs.define\nclass B:\n    a: int = 1\ndef helper(x):\n    return B().a\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "partial of builtin",
    "import functools\nf = functools.partial(int, base=2)\ndef helper(x):\n    return f('11')\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "operator and itertools constants",
    "import operator, itertools\ng = operator.itemgetter(0)\ndef helper(x):\n    return g([x])\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
same(
    "thread pool constant",
    "from concurrent.futures import ThreadPoolExecutor\nP = ThreadPoolExecutor(1)\ndef helper(x):\n    return P.submit(abs, x).result()\n# c\n",
    "# c",
    "# d",
)
same(
    "random default_rng constant, comment",
    "import numpy as np\nR = np.random.default_rng(1)\ndef helper(x):\n    return x\n# c\n",
    "# c",
    "# d",
)
same(
    "a module-level logger name text",
    "import logging\nL = logging.getLogger('PKG.h')\ndef helper(x):\n    L.debug('PKG.h.x')\n    return x\ndef other(): pass\n",
    "def other(): pass",
    "def other(): return 1",
)
