"""A real browser: headless Chromium, driven over a pipe by the DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Any, Self

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_PATIENCE = 60.0


def program() -> str | None:
    """The browser that is here."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One browser process with one page.

    What the page says on its console, and what fails to load, is in `errors`.
    """

    def __init__(self) -> None:
        found = program()
        assert found is not None, "no Chromium is here: scripts/install-services"
        self._home = tempfile.TemporaryDirectory(
            prefix="wellkept-browser-", ignore_cleanup_errors=True
        )
        from_us, self._to = os.pipe()
        self._from, to_us = os.pipe()
        options = (
            "--headless --remote-debugging-pipe --no-sandbox --disable-gpu --no-first-run "
            "--disable-features=IsolateOrigins,site-per-process --disable-site-isolation-trials "
            "--disable-background-networking --disable-component-update --disable-dev-shm-usage "
            "--force-color-profile=srgb --hide-scrollbars --mute-audio"
        )
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" {options} "--user-data-dir=$1" about:blank 3<&{from_us} 4>&{to_us}',
             found, self._home.name],
            pass_fds=(from_us, to_us),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(from_us)
        os.close(to_us)
        self._numbers, self._rest = itertools.count(1), b""
        self._events: deque[dict[str, Any]] = deque()
        self._session: str | None = None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    # -- the protocol -----------------------------------------------------------------------------

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask something of the browser."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None and not method.startswith("Target."):
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._read()
            if found.get("id") == number:
                assert "error" not in found, (method, found["error"])
                return dict(found["result"])
            self._events.append(found)

    def _read(self) -> dict[str, Any]:
        until = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "the browser has ended"
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        self._note(found)
        return found

    def _note(self, found: dict[str, Any]) -> None:
        said = found.get("params", {})
        kind = found.get("method")
        if kind == "Runtime.exceptionThrown":
            self.errors.append(str(said["exceptionDetails"].get("exception", said)))
        elif kind == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.errors.append(str(said["args"]))
        elif kind == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.errors.append(str(said["entry"]["text"]))

    def _until(self, method: str) -> dict[str, Any]:
        while True:
            for event in self._events:
                if event.get("method") == method:
                    self._events.clear()
                    return event
            self._events.clear()
            self._events.append(self._read())

    # -- a page -----------------------------------------------------------------------------------

    def size(self, width: int, height: int = 900) -> None:
        """Be so large."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        feature = {"name": "prefers-color-scheme", "value": name}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def scripts(self, on: bool) -> None:
        """Run scripts of pages, or none."""
        self.call("Emulation.setScriptExecutionDisabled", value=not on)

    def open(self, url: str) -> None:
        """Load a page."""
        self._events.clear()
        self.call("Page.navigate", url=url)
        self._until("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """What a script gives, waited for."""
        found = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def key(self, name: str) -> None:
        """Press a key."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        text = {"Enter": "\r", " ": " "}.get(name, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, text=text if kind == "keyDown" else "",
                windowsVirtualKeyCode=codes.get(name, 0),
            )  # fmt: skip

    def picture(self, whole: bool = True, kind: str = "png", quality: int = 80) -> bytes:
        """A picture of the page."""
        how: dict[str, Any] = {"format": kind, "captureBeyondViewport": whole}
        if kind != "png":
            how["quality"] = quality
        return base64.b64decode(self.call("Page.captureScreenshot", **how)["data"])

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError):
            os.close(self._to)
        with contextlib.suppress(OSError):
            os.close(self._from)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        self._home.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def axe() -> str:
    """The script of axe-core, which checks pages for people who hear or feel them."""
    import axe_core_python

    return (Path(axe_core_python.__file__).parent / "axe.min.js").read_text()
