"""The commands together, the options that they share, and how the help shows them."""

from __future__ import annotations

import os
import re
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from wellkept import __version__


def function_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the functions that have calls and begin so; nothing is made, and errors are not shown."""
    from wellkept.cli.options import opened

    try:
        with opened(context.params.get("cache")) as (found, _):
            # Shells break words at the colon.
            names = {row.function.rpartition(":")[2] for row in found.backend.functions()}
    except Exception:  # noqa: BLE001  a shell that completes is no place for messages
        return []
    return sorted(name for name in names if name.startswith(incomplete))


FunctionArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="FUNCTION",
        help="Only this function, or script.py:name; * and ? stand for any text.",
        autocompletion=function_names,
    ),
]
WhatArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY|FUNCTION",
        help="The key of a call, or its first digits (4 or more); or a function, with --arg.",
        autocompletion=function_names,
    ),
]
CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="PATH|NAME|URL",
        help="The cache: a directory, a name from the configuration, or a URL.",
        show_default="the active one",
    ),
]
ArgOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        "-a",
        metavar="NAME=VALUE",
        help="With this argument: n=3, n=1..10, 'n>=2', name=text, data=@DIGEST; n alone: any.",
    ),
]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", metavar="NAME[=VALUE]", help="With this tag.")
]
RunOption = Annotated[str | None, typer.Option("--run", metavar="ID", help="Of this run.")]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD>VALUE",
        help="'seconds>2', 'size<=1000', uses=0, 'used<2026-01-31': what it took.",
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Don't ask; needed where there is no terminal.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else.")]

# The commands in groups, as the help lists them: the module of each, and the `Typer` there of one that has
# commands of its own. A module is imported when its command is used, or listed.
_GROUPS = {
    "See what is kept": {
        "ls": ("inspect", ""),
        "query": ("inspect", ""),
        "show": ("inspect", ""),
        "export": ("extract", ""),
        "stats": ("inspect", ""),
        "du": ("inspect", ""),
        "ui": ("ui", ""),
        "top": ("ui", ""),
    },
    "Understand hits and misses": {
        "explain": ("inspect", ""),
        "diff": ("extract", ""),
        "lineage": ("runs", ""),
        "runs": ("runs", ""),
        "profile": ("inspect", ""),
    },
    "Before and after a change of code": {
        "plan": ("sweeps", ""),
        "review": ("sweeps", ""),
        "bless": ("change", ""),
    },
    "Delete, check and move": {
        "evict": ("change", ""),
        "clear": ("change", ""),
        "gc": ("change", ""),
        "verify": ("change", ""),
        "transfer": ("change", ""),
        "migrate": ("change", ""),
        "import": ("imports", "import_app"),
    },
    "Share": {
        "serve": ("serve", ""),
        "tokens": ("serve", "tokens_app"),
        "keys": ("serve", "keys_app"),
    },
    "Set up": {
        "where": ("inspect", ""),
        "config": ("setup", ""),
        "doctor": ("doctor", ""),
        "demo": ("setup", ""),
    },
    "Named state": {"store": ("state", "app")},
}
_COMMANDS = {name: where for group in _GROUPS.values() for name, where in group.items()}


class _Command(TyperCommand):
    """A command whose help names arguments as one types them: `KEY`, `[KEY]`, `KEY...`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        arguments = (one for one in self.get_params(ctx) if one.param_type_name == "argument")
        return ["[OPTIONS]", *map(_as_typed, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                argument = one.param_type_name == "argument"
                # That a number is none below 0 goes without saying.
                said = re.sub(r"(; )?\bx>=\S+(?=])| *\[x>=\S+]", "", record[1])
                rows["Arguments" if argument else "Options"].append(
                    (_named(one) if argument else record[0], said)
                )
        for title, some in rows.items():
            if some:
                with formatter.section(title):
                    formatter.write_dl(some)


def _named(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _as_typed(argument: Any) -> str:
    said = _named(argument) + ("..." if argument.nargs != 1 else "")
    return said if argument.required else f"[{said}]"


class _Group(TyperGroup):
    """A group of commands that are listed under titles, each with its whole first line."""

    def list_commands(self, ctx: Any) -> list[str]:
        # In the order of the table, or as they were declared.
        return sorted(self.commands, key=[*_COMMANDS].index) if _is_root(ctx) else [*self.commands]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        titles = {name: title for title, some in _GROUPS.items() for name in some}
        rows: dict[str, list[tuple[str, str]]] = {}
        names = self.list_commands(ctx)
        width = max(map(len, names))
        for name in names:
            command = self.get_command(ctx, name)
            said = " ".join((command.help or "").partition("\n\n")[0].split()) if command else ""
            title = titles[name] if _is_root(ctx) else "Commands"
            rows.setdefault(title, []).append((name.ljust(width), said))
        for title, some in rows.items():
            with formatter.section(title):
                formatter.write_dl(some)


def _is_root(ctx: Any) -> bool:
    return ctx.parent is None


def group(text: str) -> typer.Typer:
    """Return a command that has commands of its own, and shows them when it is given none."""
    made = typer.Typer(help=text, cls=_Group, rich_markup_mode=None)

    @made.callback(invoke_without_command=True, help=text)
    def about(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    return made


def parser(asked: list[str]) -> typer.Typer:
    """Return what reads the command line and runs the command.

    Args:
        asked: its name, where it is known already. Looking at all commands' options takes longer than most
            of them do.
    """
    names = asked if asked and asked[0] in _COMMANDS else [*_COMMANDS]
    app = typer.Typer(
        name="wellkept",
        help="Inspect and manage cached results.",
        cls=_Group,
        add_completion=names is not asked or "_WELLKEPT_COMPLETE" in os.environ,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_about)
    for name in names:
        module, inner = _COMMANDS[name]
        found = import_module(f"wellkept.cli.{module}")
        # What the annotations there name, which are text until they are read here.
        shared = {
            name: one for name, one in globals().items() if name.endswith(("Option", "Argument"))
        }
        vars(found).update(shared, typer=typer)
        if inner:
            for one in getattr(found, inner).registered_commands:
                one.cls = _Command
            app.add_typer(getattr(found, inner), name=name)
        else:
            # The demo hands on what it does not know.
            given = {"allow_extra_args": True, "ignore_unknown_options": True}
            app.command(name, cls=_Command, context_settings=given if name == "demo" else None)(
                getattr(found, name)
            )
    return app


def _about(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and leave.")
    ] = False,
) -> None:
    """Inspect and manage cached results."""
    if version:
        typer.echo(f"wellkept {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
