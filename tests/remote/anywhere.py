"""Serves every directory of this machine over http, at its own path, as ssh would: for tests that
make many. Run with what `wellkept serve` takes; what it is told to serve does not matter."""

import hashlib
import re
import sys

import wellkept
from wellkept.remote import auth, server

_PATH = re.compile(r"(/.+)/v2/(.+)")
_openers = {}


def _any(app):
    async def answer(scope, receive, send):
        found = _PATH.fullmatch(scope.get("path", ""))
        if found is not None and found[1].count("/") > 1:
            directory = found[1]
            name = hashlib.sha256(directory.encode()).hexdigest()[:16]
            _openers.setdefault(name, lambda: wellkept.open(directory, memory=0))
            scope = {**scope, "path": f"/{name}/v2/{found[2]}"}
        await app(scope, receive, send)

    return answer


class _Namespaces(auth.Namespaces):
    def __init__(self, openers):
        super().__init__(openers)
        _openers.update(self._openers)
        self._openers = _openers


class _Web(server.Web):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.app = _any(self.app)


auth.Namespaces = _Namespaces
server.Web = _Web

if __name__ == "__main__":
    from wellkept.cli import main

    sys.argv[0] = "wellkept"
    sys.exit(main(["serve", *sys.argv[1:]]))
