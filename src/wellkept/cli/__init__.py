"""The command `wellkept`: presentation only; what it shows and does is in `caches`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from wellkept import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given in (["--version"], ["-V"]):
        # What reads a command line takes longer to import than anything else here.
        print(f"wellkept {__version__}")
        sys.exit(0)
    from wellkept.cli.app import run  # so that nothing is imported before somebody runs it

    sys.exit(run(given))
