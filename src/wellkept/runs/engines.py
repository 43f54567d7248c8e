"""Records of what other engines keep: they stand for a node of a flow, or carry its result.

An engine that names values by versions of its own keeps two records a node. One says under `node` in its
metadata which `name` and `code` it has and what it was `given`: names and versions. Its result is the
version of the node's result. The other has the result itself, and says under `carries` which of its
arguments is the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wellkept.hashing import digest
from wellkept.records import Call

__all__ = ["Stands", "carried", "given", "stands"]


class Stands(NamedTuple):
    """The node that a record stands for."""

    name: str
    given: Mapping[str, str]
    """Names and versions."""

    def label(self) -> str:
        """In one line, as people read it."""
        shown = (f"{name}=<{version[:8]}>" for name, version in self.given.items())
        return f"{self.name}({', '.join(shown)})"


def stands(call: Call) -> Stands | None:
    """The node that a record stands for, if it is one of another engine."""
    said = call.metadata.get("node")
    if not isinstance(said, Mapping) or not isinstance(said.get("given"), Mapping):
        return None
    return Stands(str(said.get("name")), {str(n): str(v) for n, v in said["given"].items()})


def given(call: Call) -> dict[str, str]:
    """Names and digests of what a call was made of."""
    node = stands(call)
    if node is not None:
        return {name: str(digest(version)) for name, version in node.given.items()}
    return {name: str(found.digest) for name, found in call.arguments.items()}


def carried(call: Call) -> str | None:
    """The digest of the version whose value a record carries, if it does."""
    found = call.arguments.get(call.metadata.get("carries", ""))
    return None if found is None else str(found.digest)
