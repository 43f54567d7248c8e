"""Short programs, run in forks of one process that has imported what they need: most of their time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

SERVER = """
import atexit, gc, json, os, sys, threading

exec(sys.argv[1], {})
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
sys.argv = asked["arguments"]
code = 1
try:
    exec(asked["source"], {"__name__": "__main__"})
    code = 0
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


class Forks:
    """One process that has imported something, and its forks.

    Args:
        begin: the source that it runs first.
        options: of the interpreter.
    """

    def __init__(self, begin: str, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *options, "-c", SERVER, begin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        source: str,
        arguments: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        """Run a program in the working directory; return its exit code and what it printed.

        Args:
            arguments: its `sys.argv`.
            variables: its environment, which is that of this process where it is not given.
        """
        with tempfile.NamedTemporaryFile() as output:
            asked = {
                "source": source,
                "arguments": list(arguments or ["-c"]),
                "directory": str(Path.cwd()),
                "variables": dict(os.environ if variables is None else variables),
                "output": output.name,
            }
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(json.dumps(asked) + "\n")
            self._process.stdin.flush()
            code = int(self._process.stdout.readline())
            return code, Path(output.name).read_text(encoding="utf-8")

    def close(self) -> None:
        self._process.communicate(timeout=30)
