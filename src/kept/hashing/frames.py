from __future__ import annotations
from .registry import Reducer
EXACT: dict[str, Reducer] = {}
FAMILIES: dict[str, Reducer] = {}
