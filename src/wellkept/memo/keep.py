"""`@keep`: the decorator and its options."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from wellkept.errors import ConfigError

if TYPE_CHECKING:
    from wellkept.caches import Cache
    from wellkept.memo.keep_options import Codec, Span
    from wellkept.memo.kept import Kept

__all__ = ["keep"]

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator(Protocol):
    def __call__(self, function: Callable[P, R], /) -> Kept[P, R]: ...


@overload
def keep(function: Callable[P, R], /) -> Kept[P, R]: ...
@overload
def keep(
    *,
    version: Any = ...,
    code: Literal["deep", "own", "off", "warn"] = ...,
    name: str | None = ...,
    ignore: Iterable[str] | str | None = ...,
    require: Iterable[str] | str | None = ...,
    ordered: Iterable[str] | str | None = ...,
    ignore_globals: Iterable[str] | str | None = ...,
    key: Callable[..., Any] | None = ...,
    when: Callable[[Any], bool] | None = ...,
    ttl: Span | None = ...,
    stale: Span | None = ...,
    arguments: Literal["scalars", "digests", "values"] | None = ...,
    errors: type[BaseException] | Iterable[type[BaseException]] = ...,
    codec: Codec = ...,
    cache: Cache | str | os.PathLike[str] | None = ...,
    isolate: bool = ...,
    tempdir: bool = ...,
    strict: bool = ...,
    meta: Any = ...,
    depends: Iterable[Any] = ...,
    verify: float = ...,
    observe: bool | None = ...,
    output: bool = ...,
    cost: Mapping[str, Callable[[Any], float]] | None = ...,
    replicate: int = ...,
    secret: Iterable[str] | str | None = ...,
    share: Literal["elements"] | tuple[Literal["elements"], int] | None = ...,
    each: str | None = ...,
    batch: int | None = ...,
) -> _Decorator: ...
def keep(
    function: Any = None,
    /,
    *,
    version: Any = None,
    code: Literal["deep", "own", "off", "warn"] = "deep",
    name: str | None = None,
    ignore: Iterable[str] | str | None = (),
    require: Iterable[str] | str | None = (),
    ordered: Iterable[str] | str | None = (),
    ignore_globals: Iterable[str] | str | None = (),
    key: Callable[..., Any] | None = None,
    when: Callable[[Any], bool] | None = None,
    ttl: Span | None = None,
    stale: Span | None = None,
    arguments: Literal["scalars", "digests", "values"] | None = None,
    errors: type[BaseException] | Iterable[type[BaseException]] = (),
    codec: Codec = "pickle",
    cache: Cache | str | os.PathLike[str] | None = None,
    isolate: bool = False,
    tempdir: bool = False,
    strict: bool = False,
    meta: Any = None,
    depends: Iterable[Any] = (),
    verify: float = 0.0,
    observe: bool | None = None,
    output: bool = False,
    cost: Mapping[str, Callable[[Any], float]] | None = None,
    replicate: int = 0,
    secret: Iterable[str] | str | None = (),
    share: Literal["elements"] | tuple[Literal["elements"], int] | None = None,
    each: str | None = None,
    batch: int | None = None,
) -> Any:
    """Make a function remember its results across processes.

    Use it bare (`@keep`), with options (`@keep(ttl="1 d")`), or on what is there already
    (`keep(cache=c)(function)`). Functions, coroutines, generators, async generators, methods,
    classmethods, staticmethods, builtins and callable objects all work.

    Args:
        version: replaces the code as what tells an old function from a new one; any value.
        code: `"own"`: the function's own source, normalised, with closure and defaults; `"deep"`: that,
            and the functions, classes and constants of its project that it reaches by name; `"off"`:
            a change of code is not seen; `"warn"`: as `"deep"`, but what was kept before the code
            changed is served, with a warning, until it is accepted or forgotten (`wellkept review`).
        name: an identity that survives renaming and moving the function.
        ignore: names of parameters that do not count.
        require: names of parameters that have to be given, and not as None, for a call to be kept; one
            that leaves them to their defaults is computed, and warns.
        ordered: names of parameters in which the order of dicts counts, at any depth; elsewhere two
            dicts of the same items in another order are one argument.
        ignore_globals: names of globals that do not count, such as connections, where the function or
            what it calls reads them: `"client"`, or `"app.db.client"` for the one of that module.
        key: a function of the arguments; what it returns stands for them.
        when: a function of the result (of the list of items, for a generator): keep this one?
        ttl: seconds, a timedelta, or text such as `"12 h"`, after which a result expires.
        stale: how long after its `ttl` a result is still served while it is computed again in the
            background.
        arguments: what is kept of the arguments: `"scalars"` (digests, and small scalars as they are),
            `"digests"`, or `"values"` (small scalars in the record, and all others beside the results, so
            that they can be loaded); by default as the configuration says, or else `"scalars"`.
        errors: exception types to keep: they are raised again by a hit.
        codec: `"pickle"` (cloudpickle or chunks where needed), `"cloudpickle"`, `"json"`, `"npy"`, `"arrow"`,
            `"hdf5"`, `"dill"` or `"chunks"`.
        cache: a cache, its name in the configuration, a path or a URL; the active one by default.
        isolate: keep apart by working directory: it counts.
        tempdir: run each body in a fresh temporary directory, which is removed afterwards. A process has
            one working directory, so such bodies take turns, and other threads see it too.
        strict: raise what would otherwise be a warning: undigestible arguments, unstorable results,
            a store that does not work.
        depends: what else has to be as it was: a list of `wellkept.file(path)`, `wellkept.env(name)`,
            `wellkept.package(name)`, `wellkept.token(function)`, and functions that the code does not reach by
            name.
        verify: the share of hits, from 0 to 1, that are computed again and compared; a result that is
            not what was kept is a warning and a count (`stats().drifted`), and replaces it. Not of
            generators.
        observe: whether the code that bodies run is compared with what the identity covers; what is
            missing counts from then on (`stats().widened`). None: where Python can tell at no cost
            (3.12 and later), of the first bodies in a process and of those that take milliseconds;
            True: of each, also where that makes them slow; False: never.
        meta: what is recorded with each call beside what always is: names of collectors (`"git"`),
            functions that return a dict, or a dict of both by name, with what they take
            (`{"environment": ["OMP_NUM_THREADS"], "tags": {"for": "paper"}}`); False: nothing at all.
        output: keep what the body prints, logs through `logging` and warns of, and give it again on a
            hit, in order. What threads and child processes of the body print is not recorded. Not of
            generators.
        cost: what a computation cost besides time: functions of the result that return a number, by what
            they count (`{"usd": lambda answer: answer.usage * 2e-6}`). They are added up as seconds are:
            see `Matches.costs`.
        replicate: keeps another result of the same call; `f.replicate(i)` is the function with another
            number.
        share: `"elements"`: what the lists, tuples and dicts of a result hold is kept by itself too, so that
            it can be loaded by its digest; numbers, truths and None are not. `("elements", depth)` leaves
            out what is fewer than so many steps above the innermost parts.
        secret: names of parameters that do not count, such as keys of an API, and of which nothing is
            written anywhere.
        each: the name of a parameter that has many items: a list, tuple, dict, array, Series or frame. Each
            is a call of its own, and the body gets those that are not kept, and returns one result for
            each.
        batch: the most items that a body gets at once; 256 by default.

    Raises:
        ConfigError: an option is not what it may be.
    """
    # All that a kept function is made of is imported with the first of them.
    from wellkept.hashing.names import HEAP
    from wellkept.memo.keep_options import Options, titled
    from wellkept.memo.kept import Kept

    options = Options.of(
        version=version,
        code=code,
        name=name,
        ignore=ignore,
        require=require,
        ordered=ordered,
        ignore_globals=ignore_globals,
        key=key,
        when=when,
        ttl=ttl,
        stale=stale,
        arguments=arguments,
        errors=errors,
        codec=codec,
        cache=cache,
        isolate=isolate,
        tempdir=tempdir,
        strict=strict,
        meta=meta,
        depends=depends,
        verify=verify,
        observe=observe,
        output=output,
        cost=cost,
        replicate=replicate,
        secret=secret,
        share=share,
        each=each,
        batch=batch,
    )

    def decorate(function: Any) -> Any:
        method = ""
        if isinstance(function, classmethod):
            function, method = function.__func__, "class"
        elif isinstance(function, staticmethod):
            function, method = function.__func__, "static"
        if isinstance(function, Kept):
            raise ConfigError(
                f"{function.__qualname__} is kept already: write one @keep with all options, or keep "
                f"{function.__qualname__}.__wrapped__ in another way"
            )
        # Those that Python brings are called as functions are: `str`, `dict`.
        own = isinstance(function, type) and function.__flags__ & HEAP
        if own or not callable(function):
            raise ConfigError(
                f"@keep goes on a function, not on {function!r:.80}{_instead(function)}"
            )
        if type(function).__module__ == "_pytest.fixtures" or hasattr(
            function, "_pytestfixturefunction"
        ):
            raise ConfigError(
                "@keep stands above @pytest.fixture, and there pytest does not find the fixture: write it "
                "below, or on a function that the fixture calls"
            )
        kind = _kind(function)
        if options.each:
            kind = _of_many(kind, function)
        if options.tempdir and (kind.generates or kind.awaits):
            raise ConfigError(
                f"tempdir= is for functions that run to their end in one thread, and not for {titled(function)}"
            )
        if kind.generates:
            if options.verify:
                raise ConfigError(
                    f"verify= is not for generators, such as {titled(function)}: wellkept.verify is"
                )
            if options.output:
                raise ConfigError(
                    f"output= is not for generators, such as {titled(function)}: have a function that "
                    "returns a list print"
                )
        made = kind(function, options, method)
        if not method:
            return made
        # As in `keep`.
        from wellkept.memo.bound import KeptClassMethod, KeptStaticMethod

        return KeptClassMethod(made) if method == "class" else KeptStaticMethod(made)

    return decorate if function is None else decorate(function)


def _instead(given: Any) -> str:
    """What to do, for the end of a message, where something is given that can't be kept."""
    if isinstance(given, type):
        name = given.__name__
        return f": put it on a method, or on a function that returns {name}(…)"
    kind = type(given).__name__
    if kind in ("property", "cached_property"):
        return f": write @{kind} above @keep"
    if kind == "coroutine":
        return ": that is a call under way; give the function"
    if isinstance(given, str):
        return ": options have names, such as @keep(ttl='12 h')"
    return ""


def _of_many(kind: type[Kept[..., Any]], function: Any) -> type[Kept[..., Any]]:
    # As in `keep`.
    from wellkept.memo.keep_options import titled

    if kind.generates:
        raise ConfigError(
            f"each= is not for generators, such as {titled(function)}: return the results in a list"
        )
    # Imported with the first function of many items.
    from wellkept.memo.batches import KeptEach, KeptEachCoroutine

    return KeptEachCoroutine if kind.awaits else KeptEach


def _kind(function: Any) -> type[Kept[..., Any]]:
    # Each is imported with the first function of its kind.
    import inspect

    looked = function
    if not (inspect.isroutine(function) or inspect.isclass(function)) and not hasattr(
        function, "func"
    ):
        # It is a callable object.
        looked = type(function).__call__
    if inspect.iscoroutinefunction(looked):
        from wellkept.memo.asyncs import KeptCoroutine

        return KeptCoroutine
    if inspect.isasyncgenfunction(looked):
        from wellkept.memo.asyncs import KeptAsyncGenerator

        return KeptAsyncGenerator
    if inspect.isgeneratorfunction(looked):
        from wellkept.memo.generators import KeptGenerator

        return KeptGenerator
    from wellkept.memo.kept import Kept

    return Kept
