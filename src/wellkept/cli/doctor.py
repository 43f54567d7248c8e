"""`wellkept doctor`: what is wrong with the set-up and with the cache, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from wellkept.cli import text
from wellkept.cli.options import chosen, exists, opened
from wellkept.cli.parser import CacheOption, JsonOption
from wellkept.errors import KeptError

if TYPE_CHECKING:
    from wellkept.caches.config import Spec
    from wellkept.caches.health import Check


def doctor(
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte, too.")] = False,
    cache: CacheOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with the set-up or the cache, and what to do.

    Configuration, environment, permissions, file system, space, limit, damage, leases, keys, versions. The
    exit code is 1 if something is bad.
    """
    # `--help` imports this file with those of all commands, and has no need of what they look at.
    from wellkept.caches.health import versions
    from wellkept.cli import set_up_checks

    checks, url = [], cache or ""
    try:
        spec, source = chosen(cache)
    except KeptError as error:
        # The rest may be well all the same.
        checks.append(set_up_checks.failed("configuration", error))
        checks += set_up_checks.environment({})
    else:
        url = spec.shown
        checks += set_up_checks.set_up(spec, source, cache)
        checks += _opened(spec, cache, verify)
    checks += [*set_up_checks.keys(), set_up_checks.extras()]
    if all(one.name != "versions" for one in checks):
        checks.append(versions())
    well = all(one.state != "bad" for one in checks)
    if as_json:
        text.emit({"cache": url, "ok": well, "checks": [one._asdict() for one in checks]})
    else:
        _print(checks)
    if not well:
        raise typer.Exit(1)


def _opened(spec: Spec, cache: str | None, verify: bool) -> Iterator[Check]:
    """Look at the cache itself, if there is one."""
    # See above.
    from wellkept.caches.health import examine, verified
    from wellkept.cli.set_up_checks import failed

    if cache is not None and exists(spec) is False:
        return
    try:
        with opened(cache) as (found, _):
            yield from examine(found)
            if verify:
                with text.Bar() as bar:
                    yield from verified(found.verify(progress=bar.advance))
    except (KeptError, OSError) as error:
        yield failed("open", error)


def _print(checks: list[Check]) -> None:
    console = text.console()
    width = max(len(one.name) for one in checks)
    for one in checks:
        style = {"ok": "green", "warn": "yellow", "bad": "bold red"}.get(one.state, "dim")
        console.print(f"{one.state:<5}", style=style, end="")
        console.print(f"{one.name:<{width}} {text.plain(one.text)}", soft_wrap=True)
        if one.command:
            console.print(f"{'':<{width + 6}}{one.command}", soft_wrap=True)
    counts = {state: sum(one.state == state for one in checks) for state in ("bad", "warn")}
    said = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    console.print(said or "all is well")
