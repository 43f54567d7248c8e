"""Dataflows for the tests, and what tells how often their nodes ran: a line a run in a file."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from hamilton import driver

_numbers = itertools.count()

HEADER = """
import os
from typing import Any
import pandas as pd
from hamilton.function_modifiers import *
from hamilton.htypes import Collect, Parallelizable
from tests.integrations.hamilton.flows import ran
"""


def ran(node: str) -> None:
    """Note that a node runs."""
    with open("ran.txt", "a", encoding="utf-8") as file:  # noqa: PTH123  a worker has little time
        file.write(f"{node}\n")


def runs() -> list[str]:
    """Which nodes ran since the last time that this was asked."""
    path = Path("ran.txt")
    found = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def module(text: str, name: str | None = None) -> ModuleType:
    """A dataflow from source, in a file of its own."""
    name = name or f"flow{next(_numbers)}"
    path = Path(f"{name}.py").absolute()
    path.write_text(HEADER + text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


def builder(flow: ModuleType, **config: Any) -> driver.Builder:
    return driver.Builder().with_modules(flow).with_config(config)


CHAIN = """
def a(x: int) -> int:
    ran("a")
    return x + 1

def b(a: int) -> int:
    ran("b")
    return -a

def c(b: int) -> int:
    ran("c")
    return b * 2
"""
