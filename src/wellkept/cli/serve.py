"""Commands that share a cache over http and ssh: serve, tokens, keys."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wellkept.cli import text
from wellkept.cli.parser import JsonOption, group
from wellkept.errors import ConfigError
from wellkept.readable import ago
from wellkept.runs.table import Column, Table

if TYPE_CHECKING:
    from wellkept.remote.server import Limits


keys_app: typer.Typer = group("Manage keys that sign results for other machines.")
Label = Annotated[
    str, typer.Option("--label", metavar="TEXT", help="What the key is for, in your own words.")
]


@keys_app.command("make")
def make_key(label: Label = "", as_json: JsonOption = False) -> None:
    """Make the first key. Take its file to the other machines that are to trust it."""
    from wellkept.stores.keyring import Keyring

    ring = Keyring()
    if ring.known():
        raise ConfigError(
            f"there is a key already in {ring.path}; `wellkept keys rotate` makes another that signs"
        )
    made = ring.make(label)
    _say(
        as_json,
        f"made key {made.key.name.hex()} in {ring.path}",
        {"made": made.key.name.hex(), "path": str(ring.path)},
    )


@keys_app.command("rotate")
def rotate_key(label: Label = "", as_json: JsonOption = False) -> None:
    """Make a key that signs from now on; what older ones signed stays trusted until they are
    dropped."""
    from wellkept.stores.keyring import Keyring

    ring = Keyring()
    made = ring.make(label)
    _say(
        as_json,
        f"made key {made.key.name.hex()}, which signs now, in {ring.path}",
        {"made": made.key.name.hex(), "path": str(ring.path)},
    )


@keys_app.command("ls")
def list_keys(as_json: JsonOption = False) -> None:
    """The keys by name, the one that signs first. Their secrets are not shown."""
    from wellkept.stores.keyring import Keyring

    known = Keyring().known()
    if as_json:
        rows = [
            {"name": one.key.name.hex(), "made": one.made, "label": one.label, "signs": i == 0}
            for i, one in enumerate(known)
        ]
        text.emit({"keys": rows})
        return
    for i, one in enumerate(known):
        what = "signs" if i == 0 else "trusted"
        typer.echo(f"{one.key.name.hex()}  {one.made}  {what:7}  {one.label}".rstrip())


@keys_app.command("add")
def add_key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of keys from elsewhere.")],
    as_json: JsonOption = False,
) -> None:
    """Trust the keys of another file."""
    from wellkept.stores.keyring import Keyring

    try:
        content = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"can't read keys from {file}: {error}") from error
    added = Keyring().add(content, str(file))
    for one in () if as_json else added:
        print(f"trusts {one.key.name.hex()} {one.label}".rstrip())
    if as_json:
        text.emit({"trusts": [one.key.name.hex() for one in added]})


@keys_app.command("rm")
def drop_key(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The key, or how its name begins.")],
    as_json: JsonOption = False,
) -> None:
    """Trust a key no longer: values that only it signed are computed again."""
    from wellkept.stores.keyring import Keyring

    gone = Keyring().drop(name).key.name.hex()
    _say(as_json, f"dropped {gone}", {"dropped": gone})


def _say(as_json: bool, line: str, data: dict[str, Any]) -> None:
    text.emit(data) if as_json else print(line)


TokensOption = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        metavar="FILE",
        help="Where the tokens are written down.",
        show_default="tokens.json in the configuration directory",
    ),
]
_LOCAL = re.compile(r"localhost|127(\.\d+){3}|::1", re.ASCII)


def serve(
    caches: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CACHE",
            help="What is served, as --cache takes it; made when needed. NAMESPACE=CACHE names its "
            "namespace, `default` otherwise.",
            show_default=False,
        ),
    ] = None,
    stdio: Annotated[
        bool, typer.Option("--stdio", help="Serve one client over standard input and output.")
    ] = False,
    readonly: Annotated[
        bool, typer.Option("--read-only", help="Let clients read, and change nothing.")
    ] = False,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Serve over http there.")
    ] = "127.0.0.1:8750",
    tokens: TokensOption = None,
    cert: Annotated[
        str | None, typer.Option("--cert", metavar="FILE", help="The certificate, for https.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="FILE", help="The certificate's private key.")
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Serve other hosts without a certificate, as behind a proxy."
        ),
    ] = False,
    largest: Annotated[
        str, typer.Option("--largest", metavar="SIZE", help="The largest array or file taken.")
    ] = "16 GiB",
    rate: Annotated[
        float,
        typer.Option("--rate", metavar="N", help="Requests a second of each token; 0: any."),
    ] = 0.0,
    deadline: Annotated[
        float,
        typer.Option("--deadline", metavar="SECONDS", help="For clients that do not go on."),
    ] = 30.0,
) -> None:
    """Serve a cache to other machines, over http or ssh.

    Over ssh it is run by itself.
    """
    if stdio:
        if caches and len(caches) > 1:
            raise ConfigError("wellkept serve --stdio serves one cache")
        _serve_stdio(caches[0] if caches else None, readonly)
        return
    from wellkept.caches.option_text import parse_size
    from wellkept.cli.options import read

    try:
        import wellkept.remote.listening
        import wellkept.remote.server  # noqa: F401  what it needs is told before anything is opened
        from wellkept.remote.server import Limits
    except ImportError as error:
        raise ConfigError(
            f"wellkept serve needs {error.name}, which is not installed: pip install 'wellkept[server]'"
        ) from error
    if rate < 0 or not 0 < deadline < 86400:
        raise ConfigError(
            f"--rate is 0 or more, not {rate:g}, and --deadline above 0 s and below a day, not {deadline:g}"
        )
    limits = Limits(read("--largest", parse_size, largest), rate, deadline, readonly=readonly)
    if (cert is None) != (key is None):
        raise ConfigError("a certificate needs its key: give both --cert and --key")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ConfigError(f"--listen {listen!r} is no address to listen on; write HOST:PORT")
    if cert is None and not insecure and not _LOCAL.fullmatch(host):
        raise ConfigError(
            f"--listen {listen}: can't serve on {host} without a certificate: tokens and results could "
            "be read on their way; give --cert and --key, or --insecure behind a proxy that has them"
        )
    _serve_http(caches or [""], limits, (host, int(port)), tokens, (cert, key))


def _serve_stdio(cache: str | None, readonly: bool) -> None:
    from wellkept.cli.options import opened
    from wellkept.remote.handlers import READ, Handlers  # few serve
    from wellkept.remote.stdio import serve_stream

    # Whatever is printed in this process must not get between the messages.
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123  for as long as the process lives
    os.dup2(sys.stdin.fileno(), 0)
    with opened(cache, make=True) as (found, _):
        handlers = Handlers(found)
        try:
            serve_stream(handlers, source, target, READ if readonly else "admin")
        finally:
            handlers.close()


# Bytes of results of each namespace that are answered from memory.
_HELD = 64 * 1024 * 1024


def _serve_http(
    caches: list[str],
    limits: Limits,
    address: tuple[str, int],
    tokens: Path | None,
    secured: tuple[str | None, str | None],
) -> None:
    from wellkept.cli.options import opened
    from wellkept.remote.auth import Namespaces, Tokens, usual_path
    from wellkept.remote.listening import listen, server
    from wellkept.remote.server import Web

    _give_back()
    known = Tokens(tokens or usual_path())
    if not known.grants():
        print(f"wellkept: no tokens in {known.path}: nobody may do anything", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        openers: dict[str, Any] = {}
        for name, cache in map(_named, caches):
            if name in openers:
                raise ConfigError(f"two caches for the namespace {name}: write NAMESPACE=CACHE")
            openers[name] = lambda cache=cache: stack.enter_context(
                opened(cache or None, make=True, memory=_HELD)
            )[0]
        namespaces = Namespaces(openers)
        stack.callback(namespaces.close)
        for name in openers:
            namespaces.handlers(name)
        web = Web(namespaces, known, limits)
        ready = server(web.app, deadline=limits.deadline, cert=secured[0], key=secured[1])
        sock = listen(*address)
        host, port = sock.getsockname()[:2]
        at = f"[{host}]" if ":" in host else host
        scheme = "http" if secured[0] is None else "https"
        # The server ends what is under way, and then has its signal again: to end what is ours.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with sock, contextlib.suppress(KeyboardInterrupt):
            # It listens already: who connects now is answered in a moment.
            print(f"serving {', '.join(openers)} on {scheme}://{at}:{port}", flush=True)
            ready.run(sockets=[sock])


def _give_back() -> None:
    """Have large buffers be given back to the system when they are freed: otherwise glibc holds on to
    more and more of them where many threads make and free them."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):  # another libc
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 512 * 1024)  # M_MMAP_THRESHOLD: larger ones are given back at once
        libc.mallopt(-8, 2)  # M_ARENA_MAX: not one heap a thread


def _named(said: str) -> tuple[str, str]:
    """Namespace and cache."""
    from wellkept.remote.auth import DEFAULT

    found = re.fullmatch(r"([a-z0-9][a-z0-9_-]*)=(.+)", said, re.DOTALL)
    return (found[1], found[2]) if found else (DEFAULT, said)


tokens_app: typer.Typer = group("Manage access tokens for `wellkept serve`.")
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Whose token, or what for.")]


@tokens_app.command("add")
def add_token(
    name: NameArgument,
    rights: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RIGHT",
            help="read, write or admin; RIGHT:NAMESPACE in another namespace than `default`, * for each.",
            show_default="read",
        ),
    ] = None,
    days: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="Days after which it ends.")
    ] = None,
    tokens: TokensOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token, and print it: it is shown this once, and kept as a digest."""
    from wellkept.remote.auth import DEFAULT, Tokens, usual_path

    given = {}
    for said in rights or ["read"]:
        right, colon, namespace = said.partition(":")
        if colon and not namespace:
            raise ConfigError(
                f"{said!r} names no namespace: say {right}:NAMESPACE, or {right} alone"
            )
        given[namespace or DEFAULT] = right
    expires = None if days is None else time.time() + days * 86400
    made = Tokens(tokens or usual_path()).add(name, given, expires)
    _say(as_json, made, {"name": name, "token": made})


@tokens_app.command("ls")
def list_tokens(tokens: TokensOption = None, as_json: JsonOption = False) -> None:
    """List the tokens: their names and rights."""
    from wellkept.remote.auth import Tokens, usual_path

    grants = Tokens(tokens or usual_path()).grants()
    names = ("name", "rights", "made", "expires")
    rows = [{name: getattr(grant, name) for name in names} for grant in grants]
    if as_json:
        text.emit({"tokens": rows})
    elif rows:
        columns: list[Column] = [
            ("token", lambda row: row["name"]),
            ("rights", lambda row: " ".join(f"{of}:{at}" for at, of in row["rights"].items())),
            ("made", lambda row: ago(row["made"])),
            ("ends", lambda row: _ends(row["expires"])),
        ]
        text.show(Table(rows, columns, "rights", drop=("made",)))


def _ends(expires: float | None) -> str:
    left = None if expires is None else expires - time.time()
    return "never" if left is None else "ended" if left <= 0 else f"in {text.duration(left)}"


@tokens_app.command("rm")
def remove_token(
    name: NameArgument, tokens: TokensOption = None, as_json: JsonOption = False
) -> None:
    """Take a token away: a server that runs knows it no more a moment later."""
    from wellkept.remote.auth import Tokens, usual_path

    Tokens(tokens or usual_path()).remove(name)
    if as_json:
        text.emit({"removed": name})
