"""A kept function on its way to the workers of an engine that makes calls itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wellkept.errors import ConfigError
from wellkept.memo.bound import Bound, BoundCall
from wellkept.memo.sending import Gatherer

if TYPE_CHECKING:
    from wellkept.caches import Cache
    from wellkept.memo.kept import Kept

__all__ = ["Carried"]


class Carried:
    """Calls a kept function with the cache and in the run that were active where this was made.

    Args:
        function: a kept function, or a kept method of an object.

    Raises:
        ConfigError: it is none, or one that gives a generator.
    """

    def __init__(self, function: Kept[..., Any] | Bound[..., Any]) -> None:
        from wellkept.memo.kept import Kept

        if isinstance(function, Bound):
            self._call: BoundCall[Any] = BoundCall(function._kept, (function.__self__,), {})
        elif isinstance(function, Kept):
            self._call = BoundCall(function, (), {})
        else:
            raise ConfigError(f"not a kept function: {function!r}; @keep makes one")
        kind = type(self._call.kept)
        if kind.replayed is not Kept.replayed:
            raise ConfigError(
                f"{function!r} gives a generator, which can't be sent; submit it to wellkept.executor(…)"
            )
        self.function = function
        self.__name__ = function.__name__  # what dashboards show

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return self.bound(args, kwargs).through(Gatherer(self._call.kept))

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BoundCall[Any]:
        """One call of it."""
        return self._call.replaced((*self._call.args, *args), kwargs)

    @property
    def cache(self) -> Cache:
        """The one that calls go to here.

        Raises:
            ConfigError, StoreError: there is none.
        """
        kept = self._call.kept
        return self._call.cache if self._call.cache is not None else kept.cache

    def __dask_tokenize__(self) -> Any:
        return self.function.__dask_tokenize__()

    def __repr__(self) -> str:
        return f"<{self.function!r} on its way>"
