"""The order of the documentation's rooms; everything in them is found by itself."""

from typing import Any

ROOMS = ["tutorial", "how-to", "explanation", "reference"]


def on_nav(nav: Any, **_: Any) -> Any:
    """Put the front page first, then the rooms in the order of `ROOMS`."""

    def place(item: Any) -> int:
        pages = [item]
        while pages[0].children:
            pages = pages[0].children
        room = pages[0].file.src_uri.partition("/")[0]
        return ROOMS.index(room) if room in ROOMS else -1

    nav.items.sort(key=place)
    return nav
