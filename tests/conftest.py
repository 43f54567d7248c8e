"""What every test stands on: a home of its own, no real cache within reach, bounded hypothesis."""

import atexit
import gc
import logging
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir

pytest_plugins = ["tests.services"]  # real servers, started when a test asks for one

ROOT = Path(__file__).resolve().parents[1]

# Tests change the working directory and HOME; what outlives a test stays with the clone.
set_hypothesis_home_dir(ROOT / ".hypothesis")
# A shell ignores it in what it starts in the background, and then no test of an interrupt would be one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Threads of linear algebra wait for each other in busy loops where other workers need the processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["MPLCONFIGDIR"] = str(ROOT / ".pytest_cache" / "matplotlib")


def in_memory(place: str = "/dev/shm", least: int = 4 << 30) -> bool:
    """Return whether a directory lies in memory, runs programs, and has room for what tests write."""
    if sys.platform != "linux" or not (Path(place).is_dir() and os.access(place, os.W_OK)):
        return False
    found = os.statvfs(place)
    return not found.f_flag & os.ST_NOEXEC and found.f_bavail * found.f_frsize >= least


def work_in_memory() -> None:
    """Have temporary directories lie in one in memory, which goes with this process and not with its forks."""
    made = tempfile.mkdtemp(prefix="kept-", dir="/dev/shm")
    Path(made).chmod(0o711)  # some servers run as users of their own
    os.environ["TMPDIR"] = tempfile.tempdir = made
    ours = os.getpid()

    @atexit.register
    def remove() -> None:
        if os.getpid() == ours:
            shutil.rmtree(made, ignore_errors=True)


# Until a disk has what tests write is half of their time. TMPDIR says where it goes otherwise, and what is kept
# of tests that failed then stays there.
if "TMPDIR" not in os.environ and in_memory():
    work_in_memory()

# A shared machine's stalls say nothing about the library, so no example has a deadline.
_slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "default", max_examples=25, deadline=None, stateful_step_count=25, suppress_health_check=_slow
)
settings.register_profile(
    "ci", settings.get_profile("default"), max_examples=60, derandomize=True, print_blob=True
)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=2000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    # What is imported and made to collect 10,000 tests stays, so the garbage collector finds nothing in it: not
    # meanwhile, which was a quarter of the time, and not later, when each full collection that a test or a
    # library (IPython, when a shell ends) asks for would take half a second.
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()
        # A module that a test writes anew within a second, with as many bytes, would run as it was before. The
        # tests' own, which take a while to be made, are found by the next session.
        sys.dont_write_bytecode = True


def pytest_report_header() -> str:
    import wellkept  # a plugin that measures imports has to come first

    return f"wellkept: {Path(wellkept.__file__).parent}"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home, which is the working directory too, and in it an empty default cache."""
    with tempfile.TemporaryDirectory(prefix="t-", ignore_cleanup_errors=True) as made:
        place = Path(made).resolve()
        for name in [name for name in os.environ if name.startswith("WELLKEPT_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(place))
        monkeypatch.setenv("XDG_CACHE_HOME", str(place / ".cache"))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(place / ".config"))
        monkeypatch.setenv("WELLKEPT_CACHE", str(place / "cache"))
        monkeypatch.chdir(place)
        forget_the_default_cache()
        yield place
        # Tools that a test or its fixtures run in this process lower it; then each miss of later tests would
        # be explained.
        logging.root.setLevel(logging.WARNING)
        # So do the pages of the documentation that show how to log, and to trace.
        for name in ("", ".hits", ".misses", ".troubles"):
            logger = logging.getLogger(f"wellkept{name}")
            logger.setLevel(logging.NOTSET)
            logger.handlers.clear()
            logger.propagate = True
        if (listeners := sys.modules.get("wellkept.runs.listeners")) is not None:
            for listener in list(listeners.LISTENERS):
                listeners.unlisten(listener)
        forget_the_default_cache()
        monkeypatch.undo()  # leaves the directory before it goes


def forget_the_default_cache() -> None:
    """Close the default cache, so that the next call opens one by the present environment."""
    if active := sys.modules.get("wellkept.caches.active"):
        active.reset()
