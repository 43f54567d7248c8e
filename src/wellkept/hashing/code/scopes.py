"""Which name in a definition means what: the rules of Python's scopes, for one tree."""

from __future__ import annotations

__all__ = ["CLASS", "COMPREHENSION", "FUNCTION", "Chain", "Scope", "Use"]

Chain = tuple[str, ...]
"""A name that is looked up outside, and the attributes that are asked of it: `a.b.c`."""

FUNCTION, COMPREHENSION, CLASS = "function", "comprehension", "class"


class Scope:
    """The names that one function, comprehension or class binds.

    Attributes:
        bound: names that are bound here.
        kept: those among them that can be seen from outside (parameters, definitions, imports, and
            all names of a class), and so are not renamed.
        elsewhere: names declared `nonlocal` here.
        shared: names declared `global` here.
        owner: in a class or a method of it, the class's name, for private names.
        made: the first parameter of a constructor, which is an object that nobody else has yet.
    """

    __slots__ = ("bound", "elsewhere", "kept", "kind", "made", "owner", "parent", "shared")

    def __init__(self, kind: str, parent: Scope | None, owner: str = "") -> None:
        self.kind = kind
        self.parent = parent
        self.made = ""
        self.owner: str = owner or (parent.owner if parent is not None else "")
        self.bound: set[str] = set()
        self.kept: set[str] = set()
        self.elsewhere: set[str] = set()
        self.shared: set[str] = set()

    def bind(self, name: str, *, kept: bool = False) -> None:
        """A name is bound in this scope, if it is not declared to be another's."""
        if name in self.shared or name in self.elsewhere:
            return
        self.bound.add(name)
        if kept or self.kind == CLASS:
            self.kept.add(name)

    def binder(self) -> Scope:
        """Where `:=` in this scope binds."""
        scope = self
        while scope.kind == COMPREHENSION and scope.parent is not None:
            scope = scope.parent
        return scope

    def find(self, name: str) -> Scope | None:
        """The scope whose variable a name is when it is read here; None: it is global, or free."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.shared:
                return None
            if name in scope.bound and (scope is self or scope.kind != CLASS):
                return scope
            scope = scope.parent
        return None

    def mangled(self, name: str) -> str:
        """A private name of a class as it is looked up."""
        if not self.owner or not name.startswith("__") or name.endswith("__"):
            return name
        owner = self.owner.lstrip("_")
        return f"_{owner}{name}" if owner else name


class Use:
    """A name, with attributes, whose meaning is known once the whole definition was read.

    Attributes:
        early: it is read when the definition is made, not when what was defined runs.
    """

    __slots__ = ("attributes", "early", "name", "scope")

    def __init__(self, scope: Scope, name: str, attributes: Chain, early: bool = False) -> None:
        self.scope = scope
        self.name = name
        self.attributes = attributes
        self.early = early
