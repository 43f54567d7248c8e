"""What byte code refers to, where there is no source: names with their attributes, and imports.

The instructions of one code object are gone through in order, with a stack that says of each value no
more than which name it was read from. Where an instruction makes something new of what it takes, its
result is unknown, so a chain of attributes ends there; a jump loses nothing, as chains are not split
by one.
"""

from __future__ import annotations

import dis
from types import CodeType
from typing import Any

from ..functions import reduce_code
from .normal import Normal
from .scopes import Chain
from .writer import CHANGING, TELLING

__all__ = ["compiled"]

_FREE = frozenset(
    {
        *("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "LOAD_CLOSURE"),
        *("STORE_DEREF", "DELETE_DEREF"),
    }
)
_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})
_ATTRIBUTE = frozenset({"LOAD_ATTR", "LOAD_METHOD"})
_PASSED = frozenset(
    {"CACHE", "EXTENDED_ARG", "NOP", "PRECALL", "PUSH_NULL", "RESUME", "KW_NAMES", "NOT_TAKEN"}
)
_CONSTANT = frozenset({"LOAD_CONST", "LOAD_SMALL_INT", "RETURN_CONST"})
_LOOSE = frozenset({"POP_TOP", "RETURN_VALUE"})


class _Walk:
    """What one code object, and those in it, refer to outside."""

    def __init__(self) -> None:
        self.chains: dict[Chain, None] = {}
        self.written: set[Chain] = set()
        self.called: set[Chain] = set()
        self.imports: dict[tuple[int, str, str], None] = {}
        self.set_on: set[str] = set()

    def code(self, code: CodeType, local: frozenset[str]) -> None:
        """Go through a code object.

        Args:
            local: names of variables of the code around it, which are not outside.
        """
        stack: list[Any] = []
        found: Any = None
        for step in dis.get_instructions(code):
            name, value = step.opname, step.argval
            if name in _PASSED:
                continue
            if found is not None and name not in _ATTRIBUTE:
                self._met(found)
            free = name in _FREE and value in code.co_freevars and value not in local
            if name in _GLOBAL or free:
                if name.startswith("LOAD"):
                    if name.startswith("LOAD_FROM"):
                        _taken(stack, 1)
                    found = (value,)
                    stack.append(found)
                    continue
                self.written.add((value,))
                _taken(stack, 1)
            elif name in _ATTRIBUTE:
                base = stack.pop() if stack else None
                if type(base) is tuple and base is found:
                    if value in CHANGING:
                        self.called.add(base)
                    found = (*base, value)
                    stack.append(found)
                    continue
                if type(base) is tuple and value in CHANGING:
                    self.called.add(base[:-1] or base)
                if found is not None:
                    self._met(found)
                stack.append(None)
            elif name in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                self.written.add((value,))
                _taken(stack, 1)
            elif name in ("STORE_ATTR", "DELETE_ATTR"):
                base = stack.pop() if stack else None
                _taken(stack, 1)
                self.set_on.add(value)
                if type(base) is tuple:
                    self.written.add((*base, value))
            elif name in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE"):
                at = -3 if name == "STORE_SLICE" else -2
                base = stack[at] if len(stack) >= -at else None
                _taken(stack, 2 if name == "DELETE_SUBSCR" else 1 - at)
                if type(base) is tuple:
                    self.written.add(base)
            elif name == "IMPORT_NAME":
                names, level = (stack.pop() if stack else None for _ in range(2))
                self._imported(value, _constant(level) or 0, _constant(names))
                stack.append(None)
            elif name in _CONSTANT:
                stack.append([value])
            else:
                self._other(step, stack)
            found = None
        if found is not None:
            self._met(found)
        inside = local.union(code.co_cellvars)
        for item in code.co_consts:
            if isinstance(item, CodeType):
                self.code(item, inside)

    def _met(self, chain: Chain) -> None:
        self.chains[chain] = None

    def _imported(self, module: str, level: int, names: Any) -> None:
        if not names:
            self.imports[level, module, ""] = None
        for name in names or ():
            self.imports[level, module, "" if name == "*" else name] = None

    def _other(self, step: Any, stack: list[Any]) -> None:
        name = step.opname
        if name.startswith("LOAD_FAST"):
            both = isinstance(step.argval, tuple) and len(step.argval) > 1
            stack.extend([None, None] if both else [None])
            return
        if name in ("COPY", "SWAP"):
            at = step.arg or 1
            if len(stack) >= at:
                if name == "COPY":
                    stack.append(stack[-at])
                else:
                    stack[-1], stack[-at] = stack[-at], stack[-1]
            return
        try:
            effect = dis.stack_effect(step.opcode, step.arg, jump=False)
        except ValueError:
            effect = 0
        if effect > 0:
            stack.extend([None] * effect)
        else:
            _taken(stack, -effect)
            if (
                stack
                and name not in _LOOSE
                and not name.startswith(("STORE", "POP_JUMP", "DELETE"))
            ):
                stack[-1] = None  # it was taken too, and something else was put there


def _taken(stack: list[Any], count: int) -> None:
    if count > 0:
        del stack[-count:]


def _constant(item: Any) -> Any:
    return item[0] if type(item) is list else None


def compiled(code: CodeType) -> Normal:
    """What stands for a definition that has no source: its byte code, and what that refers to."""
    from ..digests import digest_bytes

    walk = _Walk()
    walk.code(code, frozenset())
    # What it asks of a receiver is not told, so all of its class counts; and a parameter that it
    # rebinds counts by its default.
    nothing: frozenset[Any] = frozenset()
    looked = (name for chain in walk.chains for name in chain)
    return Normal(
        text=f"bytecode:{digest_bytes(reduce_code(code)).hex()}",
        chains=tuple(walk.chains),
        early=nothing,
        written=frozenset(walk.written),
        called=frozenset(walk.called),
        receiver=None,
        imports=tuple(walk.imports),
        parameters=nothing,
        set_on=frozenset(walk.set_on),
        tells=frozenset(item for name in looked for item in TELLING.get(name, ())),
    )
