"""Code that a body runs and that its identity does not cover: it is found, and counts from then on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import wellkept
from wellkept import keep
from wellkept.testing import assert_faithful

MONITORED = sys.version_info >= (3, 12)

# A library that calls what was registered with it: no name leads from the caller there.
HOOKS = "_hooks = {}\ndef add(f):\n    _hooks[f.__name__] = f\n    return f\n"
HOOKS += "def call(name, x):\n    return _hooks[name](x)\n"
PLUGIN = "import hooks\nfrom below import deep\n@hooks.add\ndef run(x):\n    return x + deep()\n"
BELOW = "def deep():\n    return 1\n"
APP = """
import os, sys, asyncio, threading, wellkept, hooks
how = {how}
def hidden(x):
    return hooks.call("run", x)
@wellkept.keep(cache=os.environ["ROOM"], **how)
def work(x):
    return hidden(x)
@wellkept.keep(cache=os.environ["ROOM"], **how)
def outer(x):
    return work(x) * 10
@wellkept.keep(cache=os.environ["ROOM"], **how)
def items(n):
    for i in range(n):
        yield hidden(i)
@wellkept.keep(cache=os.environ["ROOM"], **how)
async def later(x):
    await asyncio.sleep(0)
    return hidden(x)
@wellkept.keep(cache=os.environ["ROOM"], **how)
def threaded(x):
    found = []
    thread = threading.Thread(target=lambda: found.append(hidden(x)))
    thread.start()
    thread.join()
    return found[0]
class Holder:
    @wellkept.keep(cache=os.environ["ROOM"], **how)
    def method(self, x):
        return hidden(x)
"""
RUN = """
import sys, json, os, asyncio, importlib
sys.path.insert(0, "")
import plugin
import app
called = [app.work(3), app.outer(3), list(app.items(2)), asyncio.run(app.later(3)), app.threaded(3),
          app.Holder().method(3)]
stats = [f.stats() for f in (app.work, app.outer, app.items, app.later, app.threaded,
                             app.Holder.method)]
print(json.dumps([called, [s.computed for s in stats], [s.widened for s in stats]]))
"""
LIMIT = "{}" if MONITORED else "{'observe': True}"


def fresh(room: Path, text: str = RUN, **env: str) -> Any:
    path = os.pathsep.join(
        [str(room), str(room / "site-packages"), str(Path(wellkept.__file__).parents[1])]
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", text],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=room,
        env=os.environ
        | {"ROOM": str(room / "cache"), "PYTHONPATH": path}
        | {"PYTHONDONTWRITEBYTECODE": "1"}
        | env,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "hooks.py").write_text(HOOKS)
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "below.py").write_text(BELOW)
    (tmp_path / "app.py").write_text(APP.format(how=LIMIT))
    return tmp_path


def test_code_that_no_name_leads_to_counts(project: Path) -> None:
    right = [4, 40, [1, 2], 4, 4, 4]
    called, computed, widened = fresh(project)
    assert called == right
    assert computed == [1] * 6
    assert all(widened)
    # The next process looks under the wider identity, without having run anything.
    assert fresh(project) == [right, [0] * 6, [0] * 6]
    (project / "plugin.py").write_text("# A comment.\n" + PLUGIN)
    assert fresh(project)[1] == [0] * 6
    # What it imports counts too.
    (project / "below.py").write_text("def deep():\n    return 2\n")
    right = [5, 50, [2, 3], 5, 5, 5]
    assert fresh(project)[:2] == [right, [1] * 6]
    assert fresh(project)[:2] == [right, [0] * 6]
    (project / "plugin.py").write_text(PLUGIN.replace("x + deep()", "x + 7"))
    assert fresh(project)[0] == [10, 100, [7, 8], 10, 10, 10]


def test_a_caller_of_what_is_wider_is_wider_though_that_was_a_hit(project: Path) -> None:
    one = RUN.replace("called = [app.work(3), app.outer(3),", "called = [app.work(3),")
    fresh(project, one)
    called, computed, _ = fresh(project)
    assert (called[1], computed[:2]) == (40, [0, 1])
    (project / "plugin.py").write_text(PLUGIN.replace("x + deep()", "x + 7"))
    assert fresh(project)[0][1] == 100


SENT = """
import json, sys
from concurrent.futures import ProcessPoolExecutor
sys.path.insert(0, "")
import plugin, app
with ProcessPoolExecutor(1) as pool:
    found = app.work.submit(pool, 3).result(60)
print(json.dumps([found, app.work.stats().widened, app.work.cache.query().count()]))
"""


def test_what_a_worker_found_to_be_wider_is_not_kept_under_the_key_that_it_was_sent(
    project: Path,
) -> None:
    """The worker does not reach the caller's cache, so that the caller keeps what comes back."""
    assert fresh(project, SENT, ROOM="memory:") == [4, 1, 0]


def test_nothing_is_looked_at_where_it_is_not_wanted(project: Path) -> None:
    (project / "app.py").write_text(APP.format(how="{'observe': False}"))
    assert fresh(project)[2] == [0] * 6


class Part:
    def __init__(self, by: int) -> None:
        self.by = by

    def __call__(self, x: int) -> int:
        return sum(self.by for _ in range(x))


def helper(x: int) -> int:
    def inner(y: int) -> int:
        return y + 1

    return inner(x) + sum([part(1) for part in (Part(1), inner)])


def covered(x: int) -> int:
    return helper(x) + sorted([x], key=lambda y: -y)[0]


def with_argument(part: Any, x: int) -> int:
    return int(part(x))


def test_what_is_covered_widens_nothing() -> None:
    with wellkept.open("memory:") as cache:
        for function, args in (
            (covered, (1,)),
            (with_argument, (Part(3), 2)),
            (with_argument, (helper, 2)),
            (with_argument, ([Part(3)][0], 2)),
        ):
            f = keep(cache=cache, observe=True)(function)
            before = f.key(*args)
            f(*args)
            assert f.stats().widened == 0
            assert f.key(*args) == before
            assert f.contains(*args)


def test_another_thread_widens_nothing(project: Path) -> None:
    text = """
import json, sys, threading
sys.path.insert(0, "")
import plugin, wellkept, os
started, stop = threading.Event(), threading.Event()
def others():
    while not stop.is_set():
        plugin.run(1)
        started.set()
thread = threading.Thread(target=others)
thread.start()
started.wait(60)
@wellkept.keep(cache=os.environ["ROOM"], observe=True)
def busy(x):
    return sum(range(x))
found = [busy(i * 10_000) for i in range(5)]
stop.set()
thread.join()
print(json.dumps(busy.stats().widened))
"""
    assert fresh(project, text) == 0


def test_another_task_widens_nothing(project: Path) -> None:
    text = """
import json, sys, asyncio
sys.path.insert(0, "")
import plugin, app, wellkept, os
@wellkept.keep(cache=os.environ["ROOM"], observe=True)
async def still(x):
    for _ in range(20):
        await asyncio.sleep(0)
    return x
async def both():
    return await asyncio.gather(still(1), app.later(3), still(2), app.later(4))
print(json.dumps([asyncio.run(both()), still.stats().widened, app.later.stats().widened > 0]))
"""
    assert fresh(project, text) == [[1, 4, 2, 5], 0, True]


def test_a_version_stands_for_all_that_is_beneath(project: Path) -> None:
    text = """
import json, sys, os
sys.path.insert(0, "")
import plugin, wellkept, hooks
@wellkept.keep(cache=os.environ["ROOM"], version=1)
def inner(x):
    return hooks.call("run", x)
@wellkept.keep(cache=os.environ["ROOM"], observe=True)
def outer(x):
    return inner(x)
print(json.dumps([outer(3), outer.stats().widened, inner.stats().widened]))
"""
    assert fresh(project, text) == [4, 0, 0]


def test_bodies_that_are_slow_are_always_looked_at(project: Path) -> None:
    if not MONITORED:
        pytest.skip("Python can't tell at no cost")
    text = """
import json, sys, os, time
sys.path.insert(0, "")
import plugin, wellkept, hooks
@wellkept.keep(cache=os.environ["ROOM"])
def slow(x):
    until = time.perf_counter() + 0.01
    while time.perf_counter() < until:
        pass
    return hooks.call("run", x) if x > 10 else x
found = [slow(i) for i in range(12)]
print(json.dumps([found[-2:], slow.stats().widened]))
"""
    assert fresh(project, text) == [[10, 12], 1]


def test_other_tools_go_on_as_they_were(project: Path) -> None:
    if not MONITORED:
        pytest.skip("no sys.monitoring")
    text = """
import json, sys, os
sys.path.insert(0, "")
m = sys.monitoring
m.use_tool_id(m.COVERAGE_ID, "theirs")
seen = []
def started(code, offset):
    seen.append(code.co_qualname)
    return m.DISABLE
m.register_callback(m.COVERAGE_ID, m.events.PY_START, started)
m.set_events(m.COVERAGE_ID, m.events.PY_START)
import plugin, app
found = [app.work(i) for i in range(3)]
print(json.dumps([found, seen.count("run"), app.work.stats().widened]))
"""
    assert fresh(project, text) == [[1, 2, 3], 1, 1]


def test_a_profiler_is_left_alone(project: Path) -> None:
    text = """
import json, sys, os
sys.path.insert(0, "")
import plugin, app, wellkept
wellkept.Cache
@wellkept.keep(cache=os.environ["ROOM"], observe=True)
def f(x):
    return x
theirs = lambda *a: None
sys.setprofile(theirs)
f(1)
same = sys.getprofile() is theirs
sys.setprofile(None)
f(2)
print(json.dumps([same, sys.getprofile() is None]))
"""
    assert fresh(project, text) == [True, True]


def test_verify_and_certificates_look_too(project: Path) -> None:
    (project / "app.py").write_text(APP.format(how="{}"))
    text = """
import json, sys, os
sys.path.insert(0, "")
import plugin, app, wellkept
from wellkept.testing import assert_faithful
@wellkept.keep(cache=os.environ["ROOM"], verify=1.0, observe=None)
def checked(x):
    return app.hidden(x)
checked.locator.bodies.looked = 100  # as if it had run often
checked(1)
checked(1)
try:
    app.work.locator.bodies.looked = 100
    assert_faithful(app.work, 5)
    said = ""
except AssertionError as error:
    said = str(error)
print(json.dumps([checked.stats().widened, said]))
"""
    widened, said = fresh(project, text)
    assert widened == 1
    assert "plugin" in said


def test_a_faithful_function_is_certified() -> None:
    with wellkept.open("memory:") as cache:
        assert_faithful(keep(cache=cache)(covered), 3)
        assert_faithful(keep(cache=cache)(with_argument), Part(2), 3)


def test_threads_do_not_disturb_each_other() -> None:
    with wellkept.open("memory:") as cache:
        f = keep(cache=cache, observe=True)(covered)
        threads = [threading.Thread(target=f, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert f.stats().computed == 8
        assert f.stats().widened == 0


def test_tasks_of_one_function() -> None:
    async def body(x: int) -> int:
        await asyncio.sleep(0)
        return helper(x)

    with wellkept.open("memory:") as cache:
        f: Any = keep(cache=cache, observe=True)(body)

        async def many() -> list[int]:
            return await asyncio.gather(*(f(n) for n in range(10)))

        assert asyncio.run(many()) == [helper(n) for n in range(10)]
        assert f.stats().widened == 0
