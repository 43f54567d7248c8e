"""How values of a project are encoded: k1, behind a tag and the code of their class.

What the code of a class is depends on the release, so a fixed text stands for it in these vectors.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FILE = HERE / "k2.json"
CODE = "c0de" * 16
EXPRESSIONS = """
Colour
Colour.RED
Number.ONE
Bits.A | Bits.B
Point
Point(1)
Point(1, 2.5, ["a"])
Slotted(1)
[Slotted(1), Slotted(2)]
{"a": Point(1), "b": (Plain(),)}
Pair(1, [2])
Plain(a=1)
Plain(a=Plain())
Int(1)
Text("a")
Row((1,))
Listing([1])
Mapping(a=1)
Ordered(a=1)
Group({1})
Fixed({1})
Reduced(1)
Stated(1)
Standing(1)
list[Point]
functools.partial(Plain, 1)
[Point(i) for i in range(3000)]
""".strip().splitlines()


def digests() -> dict[str, dict[str, str]]:
    """What is found now."""
    import expressions

    from wellkept.hashing import functions, reducers
    from wellkept.hashing.digests import digest_bytes
    from wellkept.hashing.encoding import reference_encoding

    def code(kind: type) -> str | None:
        return CODE if "vector_types" in {base.__module__ for base in kind.__mro__} else None

    functions.class_code = reducers.class_code = code
    reducers._found.clear()
    found = {}
    for text in EXPRESSIONS:
        value = eval(text, dict(expressions.NAMESPACE))
        encoding = reference_encoding(value)
        found[text] = {"digest": digest_bytes(value).hex()}
        if len(encoding) <= 400:
            found[text]["encoding_hex"] = encoding.hex()
    return found


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1] / "src")]
    text = json.dumps(digests(), indent=1) + "\n"
    if sys.argv[1:] == ["write"]:
        FILE.write_text(text)
    print(text)
