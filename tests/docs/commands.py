"""The command `wellkept` of a page, without a shell and an interpreter of its own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from tests.docs.pages import in_bash
from tests.forks import Forks

# What a shell would do something with.
_QUOTED = re.compile(r"'[^']*'")
_OF_SHELLS = re.compile(r"[|&;<>()$`\\*?~{}\[\]#!\n]")

BEGIN = """
import importlib, pkgutil
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
"""


class Commands:
    """Runs a command line as bash would."""

    def __init__(self) -> None:
        self._forks = Forks(BEGIN)

    def run(self, command: str, variables: Mapping[str, str]) -> tuple[int, str]:
        """Run it; return its exit code and what it printed."""
        if not command.startswith("wellkept ") or _OF_SHELLS.search(_QUOTED.sub("", command)):
            return in_bash(command, variables)
        source = "import wellkept.cli; wellkept.cli.main()"
        return self._forks.run(source, shlex.split(command), variables)

    def close(self) -> None:
        self._forks.close()
