"""A definition written as text: what it does in full, what it refers to as places to be named later.

`Scope` has the rules of Python's scopes: which name in a definition means what.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from wellkept.hashing.source import Text, body_of, dump, merged

# A name that is looked up outside, and the attributes that are asked of it: `a.b.c`.
Chain = tuple[str, ...]

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
        self.kind: str = kind
        self.parent: Scope | None = parent
        self.made: str = ""
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
        """Return the scope whose variable a name is when it is read here; None: it is global, or free."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.shared:
                return None
            if name in scope.bound and (scope is self or scope.kind != CLASS):
                return scope
            scope = scope.parent
        return None

    def mangled(self, name: str) -> str:
        """Return a private name of a class as it is looked up."""
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
        self.scope: Scope = scope
        self.name: str = name
        self.attributes: Chain = attributes
        self.early: bool = early


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# Functions that can see the names of local variables.
_LOOKING = frozenset({"locals", "vars", "dir", "eval", "exec"})
_FRAMES = frozenset({"f_locals", "co_varnames", "getargvalues"})
# Methods that change a container.
CHANGING = frozenset((
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft",
    "insert", "intersection_update", "move_to_end", "pop", "popitem", "popleft", "remove",
    "reverse", "rotate", "setdefault", "sort", "subtract", "symmetric_difference_update", "update",
))  # fmt: skip
# Decorators that do not read annotations.
BLIND = frozenset(
    {
        *("abstractmethod", "asynccontextmanager", "cache", "cached_property", "classmethod"),
        *("contextmanager", "deleter", "final", "getter", "lru_cache", "override", "property"),
        *("setter", "staticmethod", "wraps"),
    }
)

# Methods that fill an object, or a class, that nobody else has yet.
_BUILDING = frozenset((
    "__init__", "__new__", "__post_init__", "__attrs_post_init__", "__setstate__", "__init_subclass__",
    "__set_name__", "__class_getitem__",
))  # fmt: skip
# Names that say that a function looks at more than it names: at what else.
TELLING: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("__doc__", "getdoc"), ("doc",)),
    **dict.fromkeys(("__name__", "__qualname__", "co_name", "co_qualname"), ("name",)),
    "__module__": ("module",),
    "__subclasses__": ("subclasses",),
    **dict.fromkeys(
        ("__annotations__", "get_type_hints", "get_annotations", "signature", "getfullargspec",
         "TypeAdapter", "__type_params__", "__signature__", "__code__"), ("hints",)
    ),
    **dict.fromkeys(
        ("model_json_schema", "json_schema", "schema_json", "schema", "getmembers", "__dict__"),
        ("hints", "doc"),
    ),
    **dict.fromkeys(
        ("getsource", "getsourcelines", "findsource", "getcomments"), ("source", "hints", "doc")
    ),
    **dict.fromkeys(("globals", "eval", "exec", "getmodule"), ("namespace",)),
    "modules": ("modules",),
    **dict.fromkeys(
        ("import_module", "__import__", "run_module", "run_path", "walk_packages", "iter_modules",
         "resolve_name", "find_spec", "spec_from_file_location", "exec_module", "load_module",
         "SourceFileLoader", "import_string", "locate"), ("import",)
    ),
}  # fmt: skip
BLINDLY = frozenset({"eval", "exec", "globals"})
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:[.:][A-Za-z_]\w*)+\Z", re.ASCII)


class Writer(Text):
    def __init__(self, ours: Callable[[ast.expr], bool], owner: str) -> None:
        super().__init__()
        self.ours = ours
        self.stored: list[Use] = []
        self.called: list[Use] = []
        self.imports: list[tuple[int, str, str]] = []
        # What has an item or attribute set, or is added to in place.
        self.changed: list[Use] = []
        self.tells: set[str] = set()
        # Texts that may name a module.
        self.texts: list[str] = []
        self.docs: list[str] = []
        self.hints: list[str] = []
        # What annotations name.
        self.noted: list[Use] = []
        self.decorators: list[Chain] = []
        self.early: bool = False
        self.looking: bool = False
        self._known: set[int] = set()
        self.outside: Scope = Scope(FUNCTION, None, owner)

    # -- names ------------------------------------------------------------------------------------

    def name(self, node: ast.Name, scope: Scope) -> None:
        name = scope.mangled(node.id)
        if type(node.ctx) is not ast.Load:
            scope.bind(name)
            self.use(scope, name, (), stored=True)
        else:
            if name in _LOOKING:
                self.looking = True
            if name in TELLING and id(node) not in self._known:
                self.tells.update(TELLING[name])
            self.out.append(Use(scope, name, (), self.early))

    def use(self, scope: Scope, name: str, attributes: Chain, *, stored: bool = False) -> None:
        use = Use(scope, name, attributes, self.early)
        self.out.append(use)
        if stored:
            self.stored.append(use)
            if attributes:
                self.changed.append(use)

    def attribute(self, node: ast.Attribute, scope: Scope) -> None:
        names = []
        inner: Any = node
        while type(inner) is ast.Attribute:
            # `model.eval()` is no `eval`.
            if inner.attr in TELLING and id(inner) not in self._known and inner.attr not in BLINDLY:
                self.tells.update(TELLING[inner.attr])
            if inner.attr in _FRAMES:
                self.looking = True
            names.append(scope.mangled(inner.attr))
            inner = inner.value
        if type(inner) is not ast.Name:
            self.subscript(node, scope)
            return
        names.reverse()
        stored = type(node.ctx) is not ast.Load
        self.use(scope, scope.mangled(inner.id), tuple(names), stored=stored)

    def subscript(self, node: ast.Subscript | ast.Attribute, scope: Scope) -> None:
        before = len(self.out)
        self.plain(node, scope)
        if type(node.ctx) is not ast.Load and type(_base(node)) is ast.Name:
            # The base is the first use that was written for this node.
            use = next(use for use in self.out[before:] if type(use) is Use)
            self.stored.append(use)
            self.changed.append(use)

    def added(self, node: ast.AugAssign, scope: Scope) -> None:
        before = len(self.out)
        self.plain(node, scope)
        # A list that is added to stays the same list.
        if type(node.target) is ast.Name:
            self.changed.append(next(use for use in self.out[before:] if type(use) is Use))

    def call(self, node: ast.Call, scope: Scope) -> None:
        before = len(self.out)
        target = node.func
        named = target.attr if type(target) is ast.Attribute else getattr(target, "id", "")
        given = [item.value if type(item) is ast.Constant else None for item in node.args[:2]]
        if named in ("import_module", "__import__") and given and type(given[0]) is str:
            self._known.add(id(target))
            name = given[0].lstrip(".")
            self.imports.append((len(given[0]) - len(name), name, ""))
        self.plain(node, scope)
        if named in ("getattr", "hasattr", "setattr", "delattr") and len(given) == 2:
            self._by_text(node, scope, named, given[1])
        if (
            type(target) is ast.Attribute
            and target.attr in CHANGING
            and type(_base(target)) is ast.Name
        ):
            use = next(use for use in self.out[before:] if type(use) is Use)
            names = use.attributes[:-1] if _is_chain(target) else use.attributes
            self.called.append(Use(use.scope, use.name, names, self.early))

    def _by_text(self, node: ast.Call, scope: Scope, named: str, name: Any) -> None:
        """`getattr(module, "name")` and its like: as if it stood there as an attribute."""
        inner: Any = node.args[0]
        names: list[str] = [name] if type(name) is str else []
        if names and name in TELLING:
            self.tells.update(TELLING[name])
        while type(inner) is ast.Attribute:
            names.append(scope.mangled(inner.attr))
            inner = inner.value
        if type(inner) is not ast.Name:
            return
        use = Use(scope, scope.mangled(inner.id), tuple(reversed(names)), self.early)
        if named in ("setattr", "delattr"):
            self.stored.append(use)
            self.changed.append(use)
        elif type(name) is str:
            self.out.append(use)

    # -- statements -------------------------------------------------------------------------------

    def shared(self, node: ast.Global, scope: Scope) -> None:
        scope.shared.update(scope.mangled(name) for name in node.names)
        self.out.append("Global()")

    def elsewhere(self, node: ast.Nonlocal, scope: Scope) -> None:
        names = [scope.mangled(name) for name in node.names]
        scope.elsewhere.update(names)
        self.out.append("Nonlocal(")
        for name in names:
            self.use(scope, name, ())
            self.out.append(",")
        self.out.append(")")

    def imported(self, node: ast.Import | ast.ImportFrom, scope: Scope) -> None:
        if type(node) is ast.ImportFrom:
            for alias in node.names:
                self.imports.append((node.level, node.module or "", alias.name))
        else:
            for alias in node.names:
                self.imports.append((0, alias.name, ""))
        for alias in node.names:
            scope.bind(scope.mangled((alias.asname or alias.name).partition(".")[0]), kept=True)
        self.plain(node, scope)

    def annotated(self, node: ast.AnnAssign, scope: Scope) -> None:
        self.hint(
            node.annotation, scope, shown=scope.kind == CLASS and scope.parent is not self.outside
        )
        # The annotations of a class body are the fields of dataclasses and models.
        if scope.kind == CLASS:
            self.out.append("AnnAssign(")
            self.write(node.target, scope)
            self.out.append(f",simple={node.simple},")
            if node.value is not None:
                self.write(node.value, scope)
            self.out.append(")")
        else:
            self.unannotated(node, scope)

    def joined(self, node: ast.JoinedStr, scope: Scope) -> None:
        self.out.append("JoinedStr(")
        for value in merged(node.values):
            self.write(value, scope)
            self.out.append(",")
        self.out.append(")")

    def hint(self, node: ast.AST, scope: Scope, *, shown: bool = False) -> None:
        """An annotation: it counts where something reads it.

        Args:
            shown: something may read it that is made each time when the definition runs.
        """
        text = dump(node)
        (self.out if shown else self.hints).append(f"{text},")
        self._note(node, scope)

    def _note(self, node: ast.AST, scope: Scope) -> None:
        names: list[str] = []
        inner: Any = node
        while type(inner) is ast.Attribute:
            names.append(inner.attr)
            inner = inner.value
        if type(inner) is ast.Name:
            self.noted.append(Use(scope, scope.mangled(inner.id), tuple(reversed(names))))
            return
        if type(inner) is ast.Constant and type(inner.value) is str:
            try:
                inner = ast.parse(inner.value, mode="eval").body
            except (SyntaxError, ValueError):
                return
            if not isinstance(inner, ast.Constant):
                self._note(inner, scope)
            return
        for item in ast.iter_child_nodes(inner):
            self._note(item, scope)

    def literal(self, node: ast.Constant, scope: Scope) -> None:
        if type(node.value) is str and _DOTTED.match(node.value):
            self.texts.append(node.value)
        super().literal(node, scope)

    def handler(self, node: ast.ExceptHandler, scope: Scope) -> None:
        self.captured(node, scope, "name")

    def captured(self, node: Any, scope: Scope, field: str = "name") -> None:
        """A node that binds a name which is no `Name`."""
        name = getattr(node, field)
        self.plain(node, scope, without=(field,))
        if name is not None:
            name = scope.mangled(name)
            scope.bind(name)
            self.out.append("as ")
            self.use(scope, name, (), stored=True)

    def rest(self, node: ast.MatchMapping, scope: Scope) -> None:
        self.captured(node, scope, "rest")

    def walrus(self, node: ast.NamedExpr, scope: Scope) -> None:
        where = scope.binder()
        name = scope.mangled(node.target.id)
        where.bind(name)
        self.out.append("NamedExpr(")
        self.use(where, name, (), stored=True)
        self.out.append(",")
        self.write(node.value, scope)
        self.out.append(")")

    # -- scopes -----------------------------------------------------------------------------------

    def comprehension(self, node: Any, scope: Scope) -> None:
        inner = Scope(COMPREHENSION, scope)
        first = node.generators[0]
        self.out.append(type(node).__name__)
        self.out.append("(")
        self.write(first.iter, scope)
        for generator in node.generators:
            self.out.append(f";{generator.is_async};")
            self.write(generator.target, inner)
            if generator is not first:
                self.out.append(" in ")
                self.write(generator.iter, inner)
            for condition in generator.ifs:
                self.out.append(" if ")
                self.write(condition, inner)
        for field in ("key", "value", "elt"):
            if hasattr(node, field):
                self.out.append(":")
                self.write(getattr(node, field), inner)
        self.out.append(")")

    def function(self, node: Any, scope: Scope, *, root: bool = False) -> Scope:
        """Write a definition; its own name is bound where it stands, and counts there."""
        others = [item for item in node.decorator_list if not self.ours(item)]
        member = scope.kind == CLASS and scope.parent is self.outside
        reads = not (root or member or all(map(_is_blind, others)))
        out = self.out
        out.append(type(node).__name__)
        if not root:
            scope.bind(scope.mangled(node.name), kept=True)
            out.append(f" {node.name}")
        out.append("(")
        early, self.early = self.early, self.early or root
        if others:
            self.field("decorator_list", others, scope)
            if root or member:
                self.decorators += map(_decorator, others)
        inner = Scope(FUNCTION, scope)
        self.types(node, inner, shown=False)
        self.arguments(node.args, scope, inner, annotations=reads, defaults=not root)
        if node.returns is not None:
            self.hint(node.returns, scope, shown=reads)
        self.early = False
        given = [*node.args.posonlyargs, *node.args.args]
        if node.name in _BUILDING and given:
            inner.made = given[0].arg
        self.body(node, inner)
        self.early = early
        out.append(")")
        return inner

    def lambda_(self, node: ast.Lambda, scope: Scope, *, root: bool = False) -> Scope:
        inner = Scope(FUNCTION, scope)
        self.out.append("Lambda(")
        self.arguments(node.args, scope, inner, annotations=False, defaults=not root)
        early, self.early = self.early, False
        self.write(node.body, inner)
        self.early = early
        self.out.append(")")
        return inner

    def class_(self, node: ast.ClassDef, scope: Scope, *, root: bool = False) -> Scope:
        if not root:
            scope.bind(scope.mangled(node.name), kept=True)
        inner = Scope(CLASS, scope, owner=node.name)
        self.out.append(f"ClassDef {node.name}(")
        early, self.early = self.early, self.early or root
        for field in ("decorator_list", "bases", "keywords"):
            self.field(field, getattr(node, field), scope)
        if root:
            self.decorators += map(_decorator, node.decorator_list)
        self.types(node, inner, shown=True)
        self.body(node, inner)
        self.early = early
        self.out.append(")")
        return inner

    def types(self, node: Any, inner: Scope, *, shown: bool) -> None:
        for parameter in getattr(node, "type_params", ()):
            inner.bind(parameter.name, kept=True)
            if shown:
                self.out.append(f"[{dump(parameter)}]")

    def arguments(
        self, node: ast.arguments, scope: Scope, inner: Scope, *, annotations: bool, defaults: bool
    ) -> None:
        """Parameters; those of the root have their defaults counted by value."""
        out = self.out
        groups = (
            ("posonlyargs", node.posonlyargs),
            ("args", node.args),
            ("vararg", [node.vararg] if node.vararg else []),
            ("kwonlyargs", node.kwonlyargs),
            ("kwarg", [node.kwarg] if node.kwarg else []),
        )
        for group, found in groups:
            if found:
                out.append(f"{group}=")
            # Their order makes no difference to a call.
            for each in sorted(found, key=_parameter) if group == "kwonlyargs" else found:
                inner.bind(inner.mangled(each.arg), kept=True)
                out.append(f"{each.arg},")
                if each.annotation is not None:
                    self.hint(each.annotation, scope, shown=annotations)
        named = sorted(
            zip(node.kwonlyargs, node.kw_defaults, strict=True), key=lambda pair: pair[0].arg
        )
        if defaults:
            self.field("defaults", node.defaults, scope)
            self.field("kw_defaults", [default for _, default in named], scope)
        else:
            given = [default is not None for _, default in named]
            out.append(f"{len(node.defaults)},{given},")

    def body(self, node: Any, scope: Scope) -> None:
        docs, body = body_of(node)
        self.docs += docs
        self.field("body", body, scope)


Writer.handlers = {
    ast.Name: Writer.name,
    ast.Attribute: Writer.attribute,
    ast.Subscript: Writer.subscript,
    ast.Call: Writer.call,
    ast.AugAssign: Writer.added,
    ast.Constant: Writer.literal,
    ast.Global: Writer.shared,
    ast.Nonlocal: Writer.elsewhere,
    ast.Import: Writer.imported,
    ast.ImportFrom: Writer.imported,
    ast.AnnAssign: Writer.annotated,
    ast.JoinedStr: Writer.joined,
    ast.FormattedValue: Writer.formatted,
    ast.ExceptHandler: Writer.handler,
    ast.MatchAs: Writer.captured,
    ast.MatchStar: Writer.captured,
    ast.MatchMapping: Writer.rest,
    ast.NamedExpr: Writer.walrus,
    ast.ListComp: Writer.comprehension,
    ast.SetComp: Writer.comprehension,
    ast.DictComp: Writer.comprehension,
    ast.GeneratorExp: Writer.comprehension,
    ast.FunctionDef: Writer.function,
    ast.AsyncFunctionDef: Writer.function,
    ast.Lambda: Writer.lambda_,
    ast.ClassDef: Writer.class_,
}


def _is_chain(node: Any) -> bool:
    while type(node) is ast.Attribute:
        node = node.value
    return type(node) is ast.Name


def _base(node: Any) -> Any:
    """Return what attributes and items are asked of: the `a` of `a.b[0].c`."""
    while type(node) in (ast.Subscript, ast.Attribute):
        node = node.value
    return node


def _parameter(node: ast.arg) -> str:
    return node.arg


def _decorator(node: ast.expr) -> Chain:
    """Return the name of a decorator; empty: it is no name."""
    target: Any = node.func if isinstance(node, ast.Call) else node
    names: list[str] = []
    while type(target) is ast.Attribute:
        names.append(target.attr)
        target = target.value
    return (target.id, *reversed(names)) if type(target) is ast.Name else ()


def _is_blind(node: ast.expr) -> bool:
    target = node.func if isinstance(node, ast.Call) else node
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    return name in BLIND
