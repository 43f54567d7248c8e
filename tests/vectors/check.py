"""Digest every vector with the running interpreter; print the digests as JSON.

    python check.py SRC        SRC holds the package `wellkept`

Run by the tests under several interpreters and hash seeds; needs nothing but this directory, the
package's sources, and a `blake3` (a slow one in plain Python stands in where there is none).
"""

import json
import sys
import types
import zoneinfo
from pathlib import Path

HERE = Path(__file__).resolve().parent


def digests(expressions: list[str], src: str) -> dict[str, str]:
    sys.path.insert(0, str(HERE))
    try:
        import blake3  # noqa: F401
    except ImportError:
        sys.path.insert(0, str(HERE / "pure"))
    if "wellkept" not in sys.modules:
        # Not the package's own front: what other rooms import may not be installed here.
        package = types.ModuleType("wellkept")
        package.__path__ = [str(Path(src) / "wellkept")]
        sys.modules["wellkept"] = package
    from expressions import NAMESPACE

    from wellkept.hashing import digest

    found = {}
    for text in expressions:
        try:
            value = eval(text, dict(NAMESPACE))
        except zoneinfo.ZoneInfoNotFoundError:
            continue  # this interpreter has no time zones
        found[text] = str(digest(value))
    return found


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    from expressions import DISTINCT, EQUAL

    wanted = [*DISTINCT, *(text for pair in EQUAL for text in pair)]
    json.dump(
        {"python": sys.version.split()[0], "digests": digests(wanted, sys.argv[1])}, sys.stdout
    )
