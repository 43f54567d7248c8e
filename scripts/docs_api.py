"""The reference of all public names as pages of Markdown, and `objects.inv`, by which other sites link it.

Both are read off the source, which is not imported: signatures, types, and the docstrings, in which
names between backticks become links to what they name.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import griffe

FOLDER = "reference/api"
# The rooms of `wellkept` whose names are a page each, in the order of the navigation; other modules, after
# them, are pages too.
ROOMS = {
    "memo": "Functions",
    "caches": "Caches",
    "query": "Queries",
    "runs": "Runs and lineage",
    "hashing": "Digests",
    "records": "Records",
    "errors": "Errors",
    "web": "In a notebook",
}
MODULES = {"kv": "Named state", "stores": "Stores", "testing": "Testing"}
ABOUT = (
    "Every public name, with its signature and types, as the source says them. Sphinx and mkdocstrings "
    "link them by the `objects.inv` of this site."
)
_MOVED = {"codecs": "hashing", "conditions": "query"}
_CODE = re.compile(r"(?<![\[`])`([A-Za-z_][\w.]*)(\(\))?`(?!`)")


class Reference:
    """The public names of the package.

    Args:
        source: the directory that holds it.
        pages: what the other pages say, by path: an integration is public if they name it, and a member
            that a class inherits if the reference describes it.
    """

    def __init__(self, source: Path, pages: dict[str, str]) -> None:
        self.package: Any = griffe.load(
            "wellkept",
            search_paths=[source],
            docstring_parser="google",
            docstring_options={"warnings": False},
            allow_inspection=False,
        )
        said = "\n".join(pages.values())
        self.reference = "\n".join(
            text for page, text in pages.items() if page.startswith("reference/")
        )
        self.called = set(re.findall(r"\bcache\.(\w+)\(", said))
        # Of each class that the reference describes: how its heading has it, and what it names.
        self.described: dict[str, tuple[str, set[str]]] = {}
        for section in re.split(r"^##+ ", self.reference, flags=re.M):
            heading, _, body = section.partition("\n")
            words = set(re.findall(r"`([a-z_]\w*)", body))
            for name, after in re.findall(r"`([A-Z]\w+)([^`]*)", heading):
                self.described.setdefault(name, (after, words))
        # The title and the names of each page: dotted as they are written, and what they are.
        self.pages: dict[str, tuple[str, dict[str, Any]]] = {}
        for room, title in ROOMS.items():
            self.pages[room] = (title, {})
        for name in self.package.exports:
            found = self._found(self.package, str(name))
            if found is not None and not found.is_module:
                room = found.path.split(".")[1]
                page = self.pages.get(_MOVED.get(room, room))
                if page is not None:
                    page[1][f"wellkept.{name}"] = found
        for path, module in self._modules():
            named = re.search(rf"wellkept\.integrations(\.| import ){path}\b", said)
            if path in MODULES or named:
                title = MODULES.get(path, f"wellkept.integrations.{path}")
                dotted = module.path
                names = {
                    f"{dotted}.{name}": found
                    for name in self._exports(module)
                    if (found := self._found(module, name)) is not None and not found.is_module
                }
                self.pages[path] = (title, names)
        for _, names in self.pages.values():
            ordered = sorted(names.items(), key=lambda item: self._order(item[0]))
            names.clear()
            names.update(ordered)
        # Where each object is described, by all of its names.
        self.places: dict[str, str] = {}
        for page, (_, names) in self.pages.items():
            for dotted, found in names.items():
                self._place(page, dotted, found)
                if found.is_class:
                    for name, member in self.members(found):
                        self._place(page, f"{dotted}.{name}", member)
        for name in self.package.exports:
            found = self._found(self.package, str(name))
            if found is not None and found.path in self.places:
                self.places.setdefault(f"wellkept.{name}", self.places[found.path])

    def _order(self, dotted: str) -> tuple[int, str]:
        """Return where a name comes: as the reference has them."""
        short = dotted.rpartition(".")[2]
        found = re.search(rf"^##+ .*`{short}\b|`{short}\b", self.reference, flags=re.M)
        return (found.start() if found else len(self.reference)), dotted

    def _place(self, page: str, dotted: str, found: Any) -> None:
        for name in (dotted, found.path):
            self.places.setdefault(name, f"{page}.md#{dotted}")

    def _modules(self) -> Iterator[tuple[str, Any]]:
        for name in MODULES:
            yield name, self.package[name]
        yield from sorted(self.package["integrations"].modules.items())

    @staticmethod
    def _exports(module: Any) -> list[str]:
        if module.exports:
            return [str(name) for name in module.exports]
        return [
            name
            for name, member in module.members.items()
            if not name.startswith("_") and not member.is_alias and member.docstring
        ]

    def _found(self, module: Any, name: str) -> Any:
        """Return what a public name of a module is; a function may have the name of its own module."""
        found = module.members.get(name)
        if found is None:
            rooms = ast.literal_eval(str(module.members["_ROOMS"].value))
            found = self.package[rooms[name].removeprefix("wellkept.")][name]
        own = found.target_path.rpartition(".")[2] if found.is_alias else name
        if found.is_alias and not found.target_path.startswith("wellkept."):
            return None
        if found.is_alias:
            found = found.final_target
        if found.is_module and own in found.members:
            found = found[own]
            found = found.final_target if found.is_alias else found
        return found

    def _described(self, cls: Any) -> tuple[str, set[str]]:
        """Return what the reference says of a class; integrations have names of other libraries."""
        nothing: tuple[str, set[str]] = ("(", set())
        elsewhere = cls.path.startswith("wellkept.integrations.")
        return nothing if elsewhere else self.described.get(cls.name, nothing)

    def members(self, cls: Any) -> Iterator[tuple[str, Any]]:
        """Give what a class has for its users: what the reference says of it, or else its own."""
        _, described = self._described(cls)
        described = described and described | self.called
        derived = any(self._public(str(getattr(base, "canonical_path", ""))) for base in cls.bases)
        for name, member in cls.all_members.items():
            target = member.final_target if member.is_alias else member
            own = target.parent is cls
            if name.startswith(("_", "test_")) or not (name in described if described else own):
                continue
            if derived and not own:
                continue
            if target.is_function or target.docstring or (described and target.annotation):
                yield name, target

    # -- pages ------------------------------------------------------------------------------------

    def page(self, name: str) -> str:
        """Return a page's Markdown."""
        title, names = self.pages[name]
        parts = [f"# API: {title}"]
        if name in MODULES or name not in ROOMS:
            module = dict(self._modules())[name]
            parts.append(f"`{module.path}`")
            parts += self._text(module, name)
        elif name == "memo":
            parts.append(
                "Every public name, with its signature and types, as the source says them."
            )
        for dotted, found in names.items():
            parts += self._object(name, dotted, found, 2)
        return "\n\n".join(parts) + "\n"

    def _object(self, page: str, dotted: str, found: Any, level: int) -> Iterator[str]:
        short = ".".join(dotted.split(".")[-2:]) if level > 2 else dotted
        yield f"{'#' * level} `{short}` {{#{dotted}}}"
        made = self._described(found)[0].startswith("(")
        signatures = list(_signatures(found, short)) if made or not found.is_class else []
        if signatures:
            yield "```python\n" + "\n".join(signatures) + "\n```"
        elif not found.is_class and found.annotation is not None:
            yield f"Type: {self._type(found.annotation, page)}"
        if found.is_class and (bases := [base for base in found.bases if self._known(base)]):
            yield "Bases: " + ", ".join(self._type(base, page) for base in bases)
        yield from self._text(found, page)
        if found.is_class:
            members = list(self.members(found))
            fields = [member for member in members if self._is_field(member[1])]
            if fields:
                yield "\n".join(self._field(page, dotted, *field) for field in fields)
            for member in members:
                if member not in fields:
                    yield from self._object(page, f"{dotted}.{member[0]}", member[1], 3)

    @staticmethod
    def _is_field(member: Any) -> bool:
        return bool(member.is_attribute and "property" not in member.labels)

    def _field(self, page: str, dotted: str, name: str, field: Any) -> str:
        """Return a plain attribute as an item of a list."""
        said = f" ({self._type(field.annotation, page)})" if field.annotation is not None else ""
        if field.docstring is not None:
            said += f": {self._inline(field.docstring.value, field, page)}"
        return f"- **`{name}`**{{#{dotted}.{name}}}{said}"

    def _text(self, found: Any, page: str) -> Iterator[str]:
        if found.docstring is None:
            return
        for section in found.docstring.parsed:
            kind = section.kind.value
            if kind == "text":
                yield self._linked(section.value, found, page)
            elif kind in ("parameters", "attributes"):
                yield "\n".join(self._item(item, found, page) for item in section.value)
            elif kind in ("returns", "yields"):
                said = {"returns": "Returns", "yields": "Yields"}[kind]
                for item in section.value:
                    yield f"{said}: {self._inline(item.description, found, page)}"
            elif kind == "raises":
                yield "Raises"
                yield "\n".join(
                    f"- {self._type(item.annotation, page, ' ()')}: "
                    f"{self._inline(item.description, found, page)}"
                    for item in section.value
                )
            elif kind == "admonition":
                yield f"**{section.title}**: {self._inline(section.value.description, found, page)}"
            elif kind == "examples":
                yield "\n".join(
                    value if part.value == "text" else f"```pycon\n{value}\n```"
                    for part, value in section.value
                )
            else:
                raise ValueError(f"{found.path}: a section of its docstring is of kind {kind}")

    def _item(self, item: Any, found: Any, page: str) -> str:
        """Return a parameter or an attribute as an item of a list."""
        about, given = [], {p.name: p for p in found.parameters} if not found.is_module else {}
        default = getattr(given.get(item.name), "default", None)
        annotation = item.annotation
        if annotation is None and found.is_class and item.name in found.members:
            annotation = found.members[item.name].annotation
        if annotation is not None:
            about.append(self._type(annotation, page))
        if default is not None and str(default) != "...":
            about.append(f"by default `{default}`")
        said = f" ({', '.join(about)})" if about else ""
        return f"- **`{item.name}`**{said}: {self._inline(item.description, found, page)}"

    def _public(self, path: str) -> str:
        """Return the path under which what a dotted name means is described, or an empty text."""
        if path not in self.places and path.startswith("wellkept."):
            with contextlib.suppress(KeyError, griffe.AliasResolutionError):
                found = self.package[path.removeprefix("wellkept.")]
                path = found.final_target.path if found.is_alias else path
        return path if path in self.places else ""

    def _known(self, base: Any) -> bool:
        """Return whether the name of a base says something to a reader."""
        path = str(getattr(base, "canonical_path", base))
        return bool(self._public(path)) or (path in vars(builtins) and path != "object")

    def _inline(self, text: str, found: Any, page: str) -> str:
        return " ".join(self._linked(text, found, page).split())

    def _linked(self, text: str, found: Any, page: str) -> str:
        """Link names between backticks: as they are, of `wellkept`, or of the class."""
        within = found.path if found.is_class else found.parent.path if found.parent else ""

        def link(match: re.Match[str]) -> str:
            name = match[1]
            for dotted in (name, f"wellkept.{name}", f"{within}.{name}", f"wellkept.kv.{name}"):
                if dotted in self.places and self.places[dotted] != self.places.get(found.path):
                    return f"[{match[0]}]({self._path(dotted, page)})"
            return match[0]

        parts = re.split(r"(^```.*?^```)", text, flags=re.S | re.M)
        return "".join(
            _CODE.sub(link, part) if i % 2 == 0 else part for i, part in enumerate(parts)
        )

    def _path(self, dotted: str, page: str) -> str:
        place = self.places[dotted]
        return place.removeprefix(f"{page}.md") or place

    def _type(self, annotation: Any, page: str, without: str = " ") -> str:
        """Return a type as code, in which public names are links; outer characters may be left out."""
        if isinstance(annotation, str):
            return f"`{annotation}`"
        parts: list[tuple[str, str]] = []
        for item in annotation.iterate(flat=True):
            path = "" if isinstance(item, str) else self._public(str(item.canonical_path))
            parts.append((item if isinstance(item, str) else item.name, path))
        out, plain = [], ""
        for text, path in [*parts, ("", "end")]:
            if not path:
                plain += text
                continue
            if plain := plain.strip(without):
                out.append(f"`{plain}`" if plain != "," else plain)
            plain = ""
            if text:
                out.append(f"[`{text}`]({self._path(path, page)})")
        return " ".join(out)

    # -- the inventory ----------------------------------------------------------------------------

    def inventory(self, version: str) -> bytes:
        """Return `objects.inv`, in the second version of Sphinx's format."""
        head = f"# Sphinx inventory version 2\n# Project: wellkept\n# Version: {version}\n"
        head += "# The remainder of this file is compressed using zlib.\n"
        lines = []
        for dotted, place in sorted(self.places.items()):
            page, _, anchor = place.partition("#")
            uri = f"{FOLDER}/{page.removesuffix('.md')}.html#{'$' if anchor == dotted else anchor}"
            lines.append(f"{dotted} py:{self._role(dotted)} 1 {uri} -\n")
        return head.encode() + zlib.compress("".join(lines).encode(), 9)

    def _role(self, dotted: str) -> str:
        page, _, anchor = self.places[dotted].partition(".md#")
        names = self.pages[page][1]
        found = names.get(anchor)
        if found is None:
            cls = names[anchor.rpartition(".")[0]]
            found = dict(self.members(cls))[anchor.rpartition(".")[2]]
            return "method" if found.is_function else "property"
        if found.is_class:
            errors = {"Exception", "Warning", "KeptError", "StoreError", "DecodeError"}
            return "exception" if errors & {str(base) for base in found.bases} else "class"
        return "function" if found.is_function else "data"


def _signatures(found: Any, name: str) -> Iterable[str]:
    """Give a callable's signatures, one parameter a line where it is long."""
    if found.is_class:
        init = found.all_members.get("__init__")
        own = init is not None and (init.final_target if init.is_alias else init)
        if not own or not own.path.startswith("wellkept."):
            return []
        return [_signature(own, name, None, {})]
    if not found.is_function:
        return []
    defaults = {p.name: p.default for p in found.parameters}
    overloads = found.overloads or (
        found.parent.overloads.get(found.name) if found.parent else None
    )
    return [
        _signature(each, name, each.returns, defaults if each is not found else {})
        for each in overloads or [found]
    ]


def _signature(function: Any, name: str, returns: Any, defaults: dict[str, Any]) -> str:
    given, before = [], None
    for parameter in function.parameters:
        kind = parameter.kind.value
        if parameter.name in ("self", "cls") and not given:
            continue
        if before == "positional-only" and kind != "positional-only":
            given.append("/")
        if kind == "keyword-only" and before not in ("keyword-only", "variadic positional"):
            given.append("*")
        stars = {"variadic positional": "*", "variadic keyword": "**"}.get(kind, "")
        text = f"{stars}{parameter.name}"
        if parameter.annotation is not None:
            text += f": {parameter.annotation}"
        if parameter.default is not None and not stars:
            value = parameter.default
            value = defaults.get(parameter.name, value) if str(value) == "..." else value
            text += f" = {value}" if parameter.annotation is not None else f"={value}"
        given.append(text)
        before = kind
    if before == "positional-only":
        given.append("/")
    after = f" -> {returns}" if returns is not None and not str(returns).startswith("_") else ""
    line = f"{name}({', '.join(given)}){after}"
    if len(line) <= 88:
        return line
    return f"{name}(\n" + "".join(f"    {one},\n" for one in given) + f"){after}"
