"""`kept tokens`: who may do what at `kept serve`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from kept.cli import text
from kept.cli.serving import TokensOption
from kept.cli.urls import JsonOption

__all__ = ["app"]

app = typer.Typer(help="Say who may do what at `kept serve`.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose token, or what for.")]


@app.callback(invoke_without_command=True)
def about(context: typer.Context) -> None:
    """Say who may do what at `kept serve`."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def add(
    name: NameArgument,
    rights: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RIGHT[:NAMESPACE]]...",
            help="read, write or admin, in a namespace (`default` unless given; * for each).",
            show_default="read",
        ),
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="N", help="Days after which it ends.")
    ] = None,
    tokens: TokensOption = None,
) -> None:
    """Make a token, and print it: it is shown this once, and kept as a digest."""
    from kept.remote.namespaces import DEFAULT
    from kept.remote.tokens import Tokens, usual_path

    given = {}
    for said in rights or ["read"]:
        right, _, namespace = said.partition(":")
        given[namespace or DEFAULT] = right
    expires = None if days is None else time.time() + days * 86400
    typer.echo(Tokens(tokens or usual_path()).add(name, given, expires))


@app.command()
def ls(tokens: TokensOption = None, as_json: JsonOption = False) -> None:
    """List the tokens: their names and rights."""
    from kept.remote.tokens import Tokens, usual_path

    grants = Tokens(tokens or usual_path()).grants()
    if as_json:
        text.emit([{**grant._asdict(), "rights": dict(grant.rights)} for grant in grants])
        return
    table = text.table("token", "rights", "made", "ends", left=("token", "rights"))
    for grant in grants:
        rights = " ".join(f"{right}:{namespace}" for namespace, right in grant.rights.items())
        left = None if grant.expires is None else grant.expires - time.time()
        ends = "never" if left is None else "ended" if left <= 0 else f"in {text.duration(left)}"
        table.add_row(grant.name, rights, text.age(grant.made), ends)
    if grants:
        text.console().print(table)


@app.command()
def remove(name: NameArgument, tokens: TokensOption = None) -> None:
    """Take a token away: a server that runs knows it no more a moment later."""
    from kept.remote.tokens import Tokens, usual_path

    Tokens(tokens or usual_path()).remove(name)
