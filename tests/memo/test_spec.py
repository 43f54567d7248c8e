"""Keys are what the digest specification says: made here from its text, with nothing of the library."""

from __future__ import annotations

import marshal

from blake3 import blake3

from wellkept import keep


def e(value: object) -> bytes:
    return marshal.dumps(value, 2)  # the atoms, tuples and escape byte of the specification


def d(value: object) -> bytes:
    return blake3(e(value)).digest()


def test_a_key_by_the_specification() -> None:
    @keep(name="area", version=3)
    def area(width: int, height: float = 1.5, *rest: int, **more: str) -> None: ...

    wanted = (StopIteration, "call", "k1", "area", "version:3")
    arguments = {"width": d(2), "height": d(0.5), "*rest": d((7,)), "unit": d("m")}
    for name in sorted(arguments):
        wanted += (name, arguments[name])
    assert area.key(2, 0.5, 7, unit="m") == d(wanted).hex()


def test_a_default_sentinel_by_the_specification() -> None:
    missing = object()

    @keep(name="find", code="off")
    def find(default: object = missing) -> None: ...

    stands = d((StopIteration, "default", "default"))
    assert find.key() == d((StopIteration, "call", "k1", "find", "none", "default", stands)).hex()
