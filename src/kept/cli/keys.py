"""`kept keys`: whose values are believed when they come from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from kept.cli.urls import JsonOption
from kept.errors import ConfigError

__all__ = ["app"]

app = typer.Typer(
    name="keys",
    help="Keys that sign what is sent to other machines, and tell which values may be unpickled.",
    no_args_is_help=True,
)
Label = Annotated[str, typer.Option("--label", help="What the key is for, in your own words.")]


@app.command()
def make(label: Label = "") -> None:
    """Make the first key. Take its file to the other machines that are to trust it."""
    from kept.remote.keyring import Keyring

    ring = Keyring()
    if ring.known():
        raise ConfigError(
            f"there is a key already in {ring.path}; `kept keys rotate` makes another that signs"
        )
    made = ring.make(label)
    typer.echo(f"made key {made.key.name.hex()} in {ring.path}")


@app.command()
def rotate(label: Label = "") -> None:
    """Make a key that signs from now on; what older ones signed stays trusted until they are
    dropped."""
    from kept.remote.keyring import Keyring

    ring = Keyring()
    made = ring.make(label)
    typer.echo(f"made key {made.key.name.hex()}, which signs now, in {ring.path}")


@app.command("list")
def list_(json_: JsonOption = False) -> None:
    """The keys by name, the one that signs first. Their secrets are not shown."""
    from kept.remote.keyring import Keyring

    known = Keyring().known()
    if json_:
        rows = [
            {"name": one.key.name.hex(), "made": one.made, "label": one.label, "signs": i == 0}
            for i, one in enumerate(known)
        ]
        typer.echo(json.dumps(rows))
        return
    for i, one in enumerate(known):
        what = "signs" if i == 0 else "trusted"
        typer.echo(f"{one.key.name.hex()}  {one.made}  {what:7}  {one.label}".rstrip())


@app.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of keys from elsewhere.")],
) -> None:
    """Trust the keys of another file."""
    from kept.remote.keyring import Keyring

    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read keys from {file}: {error}") from error
    for one in Keyring().add(text, str(file)):
        typer.echo(f"trusts {one.key.name.hex()} {one.label}".rstrip())


@app.command()
def drop(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key, or how its name begins.")],
) -> None:
    """Trust a key no longer: values that only it signed are computed again."""
    from kept.remote.keyring import Keyring

    typer.echo(f"dropped {Keyring().drop(name).key.name.hex()}")
