"""`block`: a piece of a script that runs only where nothing is kept of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from wellkept.errors import ConfigError
from wellkept.memo.keep import keep

R = TypeVar("R")


def block(
    name: str | None = None,
    /,
    inputs: Sequence[Any] | Mapping[str, Any] = (),
    **options: Any,
) -> Callable[[Callable[..., R]], R]:
    """Run a piece of a script at once, or load what it returned before.

    The function below the decorator is called with the inputs, and its name stands for the result::

        @wellkept.block("features", inputs=(table, 3))
        def features(table, n):
            return expensive(table, n)

        features  # the result

    It is kept as a call of any kept function is: its code, the inputs, and the globals and enclosing
    variables that it reads count. A block can't be skipped within its caller, so it is a function:
    nothing of its body runs on a hit, and no other variable leaks out of it.

    Args:
        name: what the calls are found by; None: the name of the function.
        inputs: positional arguments, or a mapping of arguments by name.
        options: those of `keep`.

    Raises:
        ConfigError: the inputs are neither, or an option is not what it may be.
    """
    if isinstance(inputs, (str, bytes)) or not isinstance(inputs, (Sequence, Mapping)):
        raise ConfigError(
            f"inputs= takes a tuple of arguments, such as inputs=(x,), or a dict of them by name, "
            f"not {inputs!r:.80}"
        )
    if callable(name):
        raise ConfigError("@wellkept.block needs parentheses: @wellkept.block(inputs=(x, y))")
    decorate = keep(name=name, **options)

    def run(function: Callable[..., R]) -> R:
        kept = decorate(function)
        return kept(**inputs) if isinstance(inputs, Mapping) else kept(*inputs)

    return run
