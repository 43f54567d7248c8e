"""executorlib's executors, in front of which kept calls are looked up first.

They are imported from here in place of executorlib, under the same names and with the same arguments:
`SingleNodeExecutor`, `SlurmClusterExecutor`, `FluxJobExecutor` and whatever others there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wellkept.errors import ConfigError
from wellkept.memo.executor import KeptExecutor, executor

try:
    import executorlib
except ImportError as _missing:
    raise ConfigError(
        "executorlib is not installed: pip install 'wellkept[executorlib]'"
    ) from _missing

__all__ = [
    name for name in executorlib.__all__ if name.endswith("Executor") and name != "BaseExecutor"
]


def __getattr__(name: str) -> Callable[..., KeptExecutor]:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind = getattr(executorlib, name)

    def made(*args: Any, **kwargs: Any) -> KeptExecutor:
        return executor(kind(*args, **kwargs))

    made.__name__ = made.__qualname__ = name
    made.__doc__ = kind.__doc__
    return made
