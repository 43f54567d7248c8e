"""The page in a notebook: served by a thread of its process, shown in a frame."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from wellkept.caches import Cache, active, chosen
from wellkept.errors import ConfigError
from wellkept.web.site import Site

if TYPE_CHECKING:
    from wellkept.web.serving import Serving


class Shown:
    """A page that is served until `close`, or until the process ends. A notebook shows it in a frame.

    Attributes:
        url: its address, with the secret that lets one in.
    """

    def __init__(self, serving: Serving, height: int) -> None:
        self._serving, self._height = serving, height
        self.url: str = serving.url

    def close(self) -> None:
        """Serve it no longer."""
        self._serving.close()

    def _repr_html_(self) -> str:
        return (
            f'<iframe src="{html.escape(self.url)}" width="100%" height="{self._height}" '
            'title="wellkept" style="border:1px solid #ccc"></iframe>'
        )

    def __repr__(self) -> str:
        return f"<wellkept.ui at {self.url}>"


def ui(cache: Cache | str | None = None, *, height: int = 640, port: int = 0) -> Shown:
    """Show a cache as a page, in a notebook in a frame: see `wellkept ui`. It changes nothing.

    Args:
        cache: a cache, its name, a path or a URL; the active one by default.
        height: of the frame, in pixels.
        port: on loopback; 0 for a free one.

    Raises:
        ConfigError: there is no such cache, what serves pages is not installed, or the port is in use.
        StoreError: the cache can't be opened.
    """
    if type(height) is not int or height < 1:
        raise ConfigError(f"height= is a number of pixels, not {height!r:.80}")
    try:
        from wellkept.web.serving import Serving
    except ImportError as error:
        raise ConfigError(
            f"wellkept.ui needs {error.name}, which is not installed: pip install 'wellkept[ui]'"
        ) from error
    found: Any = active() if cache is None else chosen(cache)
    return Shown(Serving(Site(found), port, framed=True).start(), height)
