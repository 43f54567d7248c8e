"""The command `wellkept`, run in forks of one process that has imported it, which is most of its time."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.docs.pages import in_bash

# What a shell would do something with.
_QUOTED = re.compile(r"'[^']*'")
_OF_SHELLS = re.compile(r"[|&;<>()$`\\*?~{}\[\]#!\n]")

SERVER = """
import atexit, gc, importlib, json, os, pkgutil, sys, threading
import wellkept.cli.parser

for name in wellkept.__all__:
    getattr(wellkept, name)
for module in pkgutil.iter_modules(wellkept.cli.__path__):
    importlib.import_module(f"wellkept.cli.{module.name}")
for name in (
    "asyncio pydantic.type_adapter pydantic.types platformdirs rich.table wellkept.caches.moving wellkept.kv"
    " wellkept.kv.sqlite_state wellkept.remote.auth wellkept.stores.embedded wellkept.stores.query_sql"
).split():
    importlib.import_module(name)

gc.freeze()
for line in sys.stdin:
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()

os.chdir(asked["directory"])
os.environ.clear()
os.environ.update(asked["variables"])
output = os.open(asked["output"], os.O_WRONLY | os.O_APPEND)
for stream in (1, 2):
    os.dup2(output, stream)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
sys.argv = asked["command"]
sys.path[0] = str(asked["programs"])
code = 1
try:
    wellkept.cli.main()
except SystemExit as left:
    code = left.code if isinstance(left.code, int) else 1 if left.code else 0
except BaseException as error:
    sys.excepthook(type(error), error, error.__traceback__)
threading._shutdown()
atexit._run_exitfuncs()
sys.stdout.flush()
sys.stderr.flush()
# To take apart what it shares with its parent would copy it first.
os._exit(code)
"""


class Commands:
    """Runs a command line as bash would."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str, variables: Mapping[str, str]) -> tuple[int, str]:
        """Run it; return its exit code and what it printed."""
        plain = command.startswith("wellkept ") and not _OF_SHELLS.search(_QUOTED.sub("", command))
        return (self._fork if plain else in_bash)(command, variables)

    def _fork(self, command: str, variables: Mapping[str, str]) -> tuple[int, str]:
        with tempfile.NamedTemporaryFile() as output:
            asked = {
                "command": shlex.split(command),
                "directory": str(Path.cwd()),
                "variables": dict(variables),
                "output": output.name,
                "programs": Path(sys.executable).parent.as_posix(),
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return code, Path(output.name).read_text(encoding="utf-8")

    def close(self) -> None:
        self._process.communicate(timeout=30)
