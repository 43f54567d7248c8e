"""The commands together, and the options that they share."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from wellkept import __version__

CacheOption = Annotated[
    str | None,
    typer.Option(
        "--cache",
        metavar="PATH|NAME|URL",
        help="The cache: a directory, a name from the configuration, or a URL.",
        show_default="the active one",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON, and nothing else.")]

# The module of each command, in the order in which they are listed, and the `Typer` there of one that
# has commands of its own. A module is imported when its command is used, or listed.
_COMMANDS = {
    "where": ("inspect", ""),
    "ls": ("inspect", ""),
    "show": ("inspect", ""),
    "stats": ("inspect", ""),
    "query": ("inspect", ""),
    "runs": ("runs", ""),
    "lineage": ("runs", ""),
    "explain": ("inspect", ""),
    "plan": ("sweeps", ""),
    "profile": ("inspect", ""),
    "du": ("inspect", ""),
    "config": ("setup", ""),
    "evict": ("change", ""),
    "clear": ("change", ""),
    "gc": ("change", ""),
    "transfer": ("change", ""),
    "migrate": ("change", ""),
    "verify": ("change", ""),
    "bless": ("change", ""),
    "review": ("sweeps", ""),
    "serve": ("serve", ""),
    "ui": ("ui", ""),
    "top": ("ui", ""),
    "doctor": ("ui", ""),
    "demo": ("setup", ""),
    "store": ("state", "app"),
    "tokens": ("serve", "tokens_app"),
    "keys": ("serve", "keys_app"),
    "import": ("change", "import_app"),
}


def parser(asked: list[str]) -> typer.Typer:
    """Return what reads the command line and runs the command.

    Args:
        asked: its name, where it is known already. Looking at all commands' options takes longer than most
            of them do.
    """
    names = asked if asked and asked[0] in _COMMANDS else [*_COMMANDS]
    app = typer.Typer(
        name="wellkept",
        help="Look after what kept functions have kept.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_about)
    for name in names:
        module, group = _COMMANDS[name]
        found = import_module(f"wellkept.cli.{module}")
        # What the annotations there name, which are text until they are read here.
        vars(found).update(typer=typer, CacheOption=CacheOption, JsonOption=JsonOption)
        if group:
            app.add_typer(getattr(found, group), name=name)
        else:
            # The demo hands on what it does not know.
            given = {"allow_extra_args": True, "ignore_unknown_options": True}
            app.command(context_settings=given if name == "demo" else None)(getattr(found, name))
    return app


def _about(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and leave.")] = False,
) -> None:
    """Look after what kept functions have kept."""
    if version:
        typer.echo(f"wellkept {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
