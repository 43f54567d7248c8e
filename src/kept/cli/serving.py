"""`kept serve`: a cache for others."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kept.errors import ConfigError

if TYPE_CHECKING:
    from kept.remote.web import Limits

__all__ = ["TokensOption", "serve"]

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
            metavar="[[NAMESPACE=]PATH|NAME|URL]...",
            help="What is served; made when needed. Without a namespace it is `default`.",
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
    """Serve a cache to other machines: over ssh, which runs this by itself, or over http."""
    if stdio:
        if caches and len(caches) > 1:
            raise ConfigError("kept serve --stdio serves one cache")
        _serve_stdio(caches[0] if caches else None, readonly)
        return
    from kept.caches.sizes import parse_size

    try:
        import kept.remote.listening  # noqa: F401  what it needs is told before anything is opened
        from kept.remote.web import Limits
    except ImportError as error:
        raise ConfigError(
            f"kept serve needs {error.name}, which is not installed: pip install 'kept[server]'"
        ) from error
    if rate < 0 or not 0 < deadline < 86400:
        raise ConfigError("a rate is 0 or more, and a deadline a positive number of seconds")
    limits = Limits(parse_size(largest), rate, deadline, readonly=readonly)
    if (cert is None) != (key is None):
        raise ConfigError("a certificate needs its key: give both --cert and --key")
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        raise ConfigError(f"not an address to listen on: {listen!r}; write HOST:PORT")
    if cert is None and not insecure and not _LOCAL.fullmatch(host):
        raise ConfigError(
            f"can't serve on {host} without a certificate: tokens and results could be read on "
            "their way; give --cert and --key, or --insecure behind a proxy that has them"
        )
    _serve_http(caches or [""], limits, (host, int(port)), tokens, (cert, key))


def _serve_stdio(cache: str | None, readonly: bool) -> None:
    from kept.cli.urls import opened
    from kept.remote.desk import READ, Desk  # few serve
    from kept.remote.stdio import serve_stream

    # Whatever is printed in this process must not get between the messages.
    source, target = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123  for as long as the process lives
    os.dup2(sys.stdin.fileno(), 0)
    with opened(cache, make=True) as (found, _):
        desk = Desk(found)
        try:
            serve_stream(desk, source, target, READ if readonly else "admin")
        finally:
            desk.close()


def _serve_http(
    caches: list[str],
    limits: Limits,
    address: tuple[str, int],
    tokens: Path | None,
    secured: tuple[str | None, str | None],
) -> None:
    from kept.cli.urls import opened
    from kept.remote.listening import listen, server
    from kept.remote.namespaces import Namespaces
    from kept.remote.tokens import Tokens, usual_path
    from kept.remote.web import Web

    _give_back()
    known = Tokens(tokens or usual_path())
    if not known.grants():
        print(f"kept: no tokens in {known.path}: nobody may do anything", file=sys.stderr)
    with contextlib.ExitStack() as stack:
        openers: dict[str, Any] = {}
        for name, cache in map(_named, caches):
            if name in openers:
                raise ConfigError(f"two caches for the namespace {name}: write NAMESPACE=CACHE")
            openers[name] = lambda cache=cache: stack.enter_context(
                opened(cache or None, make=True)
            )[0]
        namespaces = Namespaces(openers)
        stack.callback(namespaces.close)
        for name in openers:
            namespaces.desk(name)
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
    from kept.remote.namespaces import DEFAULT

    found = re.fullmatch(r"([a-z0-9][a-z0-9_-]*)=(.+)", said, re.DOTALL)
    return (found[1], found[2]) if found else (DEFAULT, said)
