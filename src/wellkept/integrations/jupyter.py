"""IPython and Jupyter: `%load_ext wellkept`, then `%%keep name` keeps what a cell computes."""

from __future__ import annotations

import argparse
import ast
import inspect
import shlex
import sys
from collections.abc import Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class

from wellkept.errors import ConfigError, KeptError, StoreError, Undigestible
from wellkept.hashing import digest
from wellkept.memo.keep import keep

__all__ = ["KeepMagics", "load_ipython_extension"]

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_BY_TEXT = frozenset({"globals", "locals", "vars", "dir", "exec", "eval", "__import__"})
_SHELL = frozenset({"In", "Out", "exit", "quit", "get_ipython"})


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UsageError(
            f"%%keep: {message}; write %%keep NAME [--cache CACHE] [--ttl TIME] [--again], where NAME is "
            "a name for the cell, one word"
        )


_parser = _Parser(prog="%%keep", add_help=False, allow_abbrev=False)
_parser.add_argument("name")
_parser.add_argument("--cache")
_parser.add_argument("--ttl")
_parser.add_argument("--again", action="store_true")


class _UnkeepableError(Exception):
    """Nothing can be kept of a cell; the message says why."""


class _FailedError(Exception):
    """The cell raised, which the shell has shown already."""


@magics_class
class KeepMagics(Magics):
    """The magics of `%load_ext wellkept`."""

    shell: Any

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._reasons: dict[str, str] = {}

    @line_cell_magic
    def keep(self, line: str, cell: str | None = None) -> None:
        """Keep what a cell assigns, prints and displays.

            %%keep NAME [--cache CACHE] [--ttl TIME] [--again]
            %keep why [NAME]

        The cell runs where nothing is kept for its code and for the values of the variables that it
        reads. Otherwise its variables are loaded, and its output is shown again. Imports and
        definitions stand at its top, or in a cell of their own, and run each time.
        """
        if cell is None:
            self._why(line.split())
            return
        try:
            options = _parser.parse_args(shlex.split(line))
        except ValueError as error:
            raise UsageError(f"%%keep: {error}") from error
        try:
            snippet = Snippet(self.shell, cell)
        except _UnkeepableError as error:
            self._unkept(options.name, cell, error)
            return
        try:
            self._run(options, snippet)
        except ConfigError as error:
            # What the cell itself raises the shell has shown: this is an option.
            raise UsageError(f"%%keep {options.name}: {error}") from None

    def _run(self, options: argparse.Namespace, snippet: Snippet) -> None:
        shell, space = self.shell, self.shell.user_ns
        snippet.define()
        refused: list[str] = []

        def run(**reads: Any) -> tuple[dict[str, Any], list[str]]:
            before = dict(space)
            digests = {name: digest(value) for name, value in reads.items()}
            if not shell.run_cell(snippet.text).success:
                raise _FailedError
            for name, value in reads.items():
                if digest(value) != digests[name]:
                    refused.append(
                        f"it changes {name} in place; assign a new variable instead, such as "
                        f"new = {name}.copy()"
                    )
            assigned = snippet.assigned(before)
            refused.extend(
                f"it assigns {name}, a {type(value).__name__}; import or define that at the top of "
                "the cell"
                for name, value in assigned[0].items()
                if isinstance(value, (FunctionType, ModuleType, type))
            )
            return assigned

        # For messages.
        run.__qualname__ = f"cell {options.name}"
        kept = keep(
            name=run.__qualname__,
            version=snippet.code,
            code="off",
            ttl=options.ttl,
            cache=options.cache,
            output=True,
            strict=True,
            when=lambda result: not refused,
        )(run)
        reads = {name: space[name] for name in sorted(snippet.reads) if name in space}
        unsure = snippet.stored - snippet.swallowed
        sure = {name: value for name, value in reads.items() if name not in unsure}
        try:
            # A run that succeeded without a variable did not read it before it assigned it.
            if snippet.plain and len(sure) < len(reads) and kept.contains(**sure):
                reads = sure
            self._reasons[options.name] = str(kept.explain(**reads))
        except (Undigestible, StoreError) as error:
            self._unkept(options.name, snippet.text, error)
            return
        try:
            (assigned, deleted) = (kept.rerun if options.again else kept)(**reads)
        except _FailedError:
            return
        except KeptError as error:
            # Only keeping can fail here: the cell has run.
            refused.append(str(error))
        if refused:
            self._say(f"{options.name} is not kept: {'; '.join(refused)}")
            self._reasons[options.name] = "; ".join(refused)
        elif kept.stats().hits:
            shell.push(assigned)
            for name in deleted:
                space.pop(name, None)
            saved = kept.stats().seconds_saved
            names = ", ".join(assigned) or "no variable"
            self._say(f"{options.name} is loaded: {names} ({saved:.1f} s saved)")

    def _unkept(self, name: str, cell: str, why: object) -> None:
        self._say(f"{name} runs without being kept: {why}")
        self._reasons[name] = str(why)
        self.shell.run_cell(cell)

    def _why(self, words: list[str]) -> None:
        if words[:1] != ["why"] or len(words) > 2:
            raise UsageError(
                "%keep takes `why`, or `why NAME`; to keep a cell, begin it with %%keep NAME"
            )
        names = words[1:] or list(self._reasons)[-1:]
        if not names or names[0] not in self._reasons:
            raise UsageError(f"no cell {' '.join(names)!r} ran under %%keep in this session")
        print(self._reasons[names[0]])

    def _say(self, text: str) -> None:
        print(f"wellkept: {text}", file=sys.stderr)


class Snippet:
    """What a cell does, apart from where it runs.

    Args:
        shell: the IPython shell.
        cell: its text, with the syntax of IPython.

    Attributes:
        code: the statements that are kept, without comments and layout.
        text: the same as they were written, with their line numbers.
        reads: the names that they may read before they assign them, or may leave as they are.
        stored: the names that they assign, on whatever way.
        swallowed: those of `reads` that are looked for in a `with` block.
        plain: whether any other name that is not there can only be an error.

    Raises:
        _UnkeepableError: why nothing can be kept of it.
    """

    def __init__(self, shell: Any, cell: str) -> None:
        self._shell = shell
        source = shell.transform_cell(cell)
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            raise _UnkeepableError(f"{error.msg} in line {error.lineno}") from None
        top = 0
        while top < len(tree.body) and isinstance(tree.body[top], _DEFINITIONS):
            top += 1
        rest = tree.body[top:]
        if not rest:
            raise _UnkeepableError("it has nothing but definitions")
        for statement in rest:
            if isinstance(statement, _DEFINITIONS):
                raise _UnkeepableError(
                    f"line {statement.lineno} is an import or a definition below other statements; move "
                    "it to the top of the cell"
                )
        _refuse_async(rest)
        self.reads: set[str] = set()
        certain = _sequence(rest, set(), self.reads)
        if "get_ipython" in self.reads:
            raise _UnkeepableError("it uses magics or shell commands, whose effects can't be kept")
        if by_text := self.reads & _BY_TEXT:
            raise _UnkeepableError(
                f"{min(by_text)}() may read any variable, so no key can name what it reads"
            )
        every = [node for statement in rest for node in ast.walk(statement)]
        self.stored: set[str] = {name for statement in rest for name in _assigned(statement)}
        # What a run does not assign after all stays what it was.
        self.reads |= self.stored - certain
        self.swallowed: set[str] = set()
        self.plain: bool = not any(isinstance(node, (ast.Try, ast.TryStar)) for node in every)
        # A block may swallow the error that a name is not there.
        for block in (node for node in every if isinstance(node, ast.With)):
            inside: set[str] = set()
            _sequence(block.body, set(), inside)
            self.swallowed |= inside
        self.code: str = ast.dump(ast.Module(rest, []))
        lines = source.splitlines(keepends=True)
        first = rest[0].lineno - 1
        self.text: Any = "\n" * first + "".join(lines[first:])
        self._source, self._top = source, ast.Module(tree.body[:top], [])

    def define(self) -> None:
        """Run the imports and definitions at the top of the cell."""
        name = self._shell.compile.cache(self._source, self._shell.execution_count)
        exec(compile(self._top, name, "exec"), self._shell.user_ns)  # noqa: S102  the user's own cell

    def assigned(self, before: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the variables that differ from what they were, and the names of those that are gone."""
        now, hidden, missing = self._shell.user_ns, self._shell.user_ns_hidden, object()
        new = {
            name: value
            for name, value in now.items()
            # What was assigned again is as much its result as what is new.
            if name in self.stored
            or (
                not (name[:1] == "_" or name in _SHELL or name in hidden)
                and before.get(name, missing) is not value
            )
        }
        return new, [name for name in before if name not in now]


def _refuse_async(rest: list[ast.stmt]) -> None:
    code = compile(ast.Module(rest, []), "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        raise _UnkeepableError("it awaits; put the coroutine into a kept function")


# -- what a sequence of statements reads before it assigns it ----------------------------------------


def _sequence(statements: list[ast.stmt], known: set[str], reads: set[str]) -> set[str]:
    """Add to `reads` the names that are read; return those that are certainly assigned afterwards.

    Args:
        known: names that are certainly assigned before. In doubt a name counts as read: then its value
            counts, which at worst computes again.
    """
    for statement in statements:
        if isinstance(statement, ast.If):
            _reads(statement.test, known, reads)
            known = _sequence(statement.body, set(known), reads) & _sequence(
                statement.orelse, set(known), reads
            )
        elif isinstance(statement, (ast.For, ast.AsyncFor)):
            _reads(statement.iter, known, reads)
            inside = known | set(_stores(statement.target))
            _reads(statement.target, inside, reads)
            _sequence(statement.body, set(inside), reads)
            _sequence(statement.orelse, set(known), reads)
        elif isinstance(statement, (ast.With, ast.AsyncWith)):
            known = set(known)
            for item in statement.items:
                _reads(item.context_expr, known, reads)
                if item.optional_vars is not None:
                    known |= set(_stores(item.optional_vars))
            # It may swallow an exception in its middle.
            _sequence(statement.body, set(known), reads)
        elif isinstance(
            statement,
            (ast.Assign, ast.AnnAssign, ast.Expr, ast.Assert, ast.Raise, ast.Pass, ast.Delete),
        ):
            _reads(statement, known, reads)
            known = (known | set(_stores(statement))) - set(_deleted(statement))
        else:
            # `x += 1` reads; of loops, `try` and `match` nothing is assigned for certain.
            _reads(statement, known, reads)
            if isinstance(statement, ast.AugAssign):
                reads |= set(_stores(statement.target)) - known
                known = known | set(_stores(statement.target))
    return known


def _reads(node: ast.AST, known: set[str], reads: set[str]) -> None:
    if isinstance(node, ast.Name):
        if not isinstance(node.ctx, ast.Store) and node.id not in known:
            reads.add(node.id)
    elif isinstance(node, ast.Lambda):
        _reads(node.args, known, reads)
        given = [a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)]
        _reads(node.body, known.union(given), reads)
    elif isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
        inside = set(known)
        for part in node.generators:
            _reads(part.iter, inside, reads)
            inside |= {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
            for test in part.ifs:
                _reads(test, inside, reads)
        for field in ("elt", "key", "value"):
            if (element := getattr(node, field, None)) is not None:
                _reads(element, inside, reads)
    else:
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            reads |= set(node.names) - known
        for child in ast.iter_child_nodes(node):
            _reads(child, known, reads)


def _assigned(node: ast.AST) -> Iterator[str]:
    """The names of the cell that a statement may assign, on whatever way: not those of scopes within it."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, (ast.MatchAs, ast.MatchStar, *_DEFINITIONS[2:])) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest
    if not isinstance(node, (ast.Lambda, *_DEFINITIONS[2:])):
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.comprehension) and child is node.target:
                continue
            yield from _assigned(child)


def _deleted(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Del):
            yield inner.id


def _stores(node: ast.AST) -> Iterator[str]:
    """The names that a simple statement assigns for certain."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            yield from _stores(target)
    elif isinstance(node, ast.AnnAssign):
        if node.value is not None:
            yield from _stores(node.target)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, (ast.Tuple, ast.List)):
        for element in node.elts:
            yield from _stores(element)
    elif isinstance(node, ast.Starred):
        yield from _stores(node.value)


def load_ipython_extension(shell: Any) -> None:
    """Register the magics, for `%load_ext wellkept`."""
    shell.register_magics(KeepMagics)
