"""Write the vectors of new expressions into k1.json; what is there already is never changed.

python tests/vectors/generate.py

A vector that no longer fits is an error: the scheme is published, so a change of it needs a new
name (`k2`), and not a new file under the old one.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "k1.json"
SMALL = 200
"""Bytes up to which a vector shows the encoding too."""


def main() -> int:
    sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]
    from expressions import DISTINCT, NAMESPACE

    from wellkept.hashing.digests import digest_bytes
    from wellkept.hashing.encoding import Cyclic, reference_encoding

    kept = {item["expr"]: item for item in json.loads(FILE.read_text())} if FILE.exists() else {}
    for text in DISTINCT:
        value = eval(text, dict(NAMESPACE))
        digest = digest_bytes(value).hex()
        if text in kept:
            if kept[text]["digest"] != digest:
                print(f"{text}: the digest is now {digest}, and was {kept[text]['digest']}")
                return 1
            continue
        item = {"expr": text, "digest": digest}
        try:
            encoding = reference_encoding(value)
        except Cyclic:
            encoding = b""
        if 0 < len(encoding) <= SMALL:
            item["encoding_hex"] = encoding.hex()
        kept[text] = item
    FILE.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    print(f"{len(kept)} vectors")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
