"""A user's signing keys, and which of them are trusted for values from other machines.

A file that only the user can read holds a key on each line; the first one signs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from wellkept._system import owner, replace
from wellkept.codecs import Envelope
from wellkept.codecs.envelope import Key, Refused, sign, signed_by
from wellkept.codecs.paths import PATHS, PLAIN_PATHS
from wellkept.errors import ConfigError, NotKept, StoreError, UntrustedSource

_HEAD = "# Keys of wellkept: a value that is signed with one of them can run code on machines that trust it.\n"


class Known(NamedTuple):
    """A key in the file."""

    key: Key
    made: str
    """The date on which it was made."""
    label: str


def keys_path() -> Path:
    """Return the file of keys: `WELLKEPT_KEYS`, or `keys` in the user's configuration directory of wellkept."""
    said = os.environ.get("WELLKEPT_KEYS")
    if said:
        return Path(said).expanduser()
    # Loaded on first use: keeps `import wellkept` small.
    import platformdirs

    return Path(platformdirs.user_config_dir("wellkept", appauthor=False)) / "keys"


class Keyring:
    """The keys in a file, read again when it has changed.

    Args:
        path: by default `keys_path()`; a missing file has no keys.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path: Path = keys_path() if path is None else path
        self._seen: tuple[int, ...] | None = None
        self._known: tuple[Known, ...] = ()
        self._trusted: dict[bytes, Key] = {}

    def known(self) -> Sequence[Known]:
        """Return all keys, the one that signs first.

        Raises:
            UntrustedSource: others can read or write the file.
            ConfigError: a line of it is not a key.
            StoreError: it can't be read.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._seen, self._known, self._trusted = None, (), {}
            return ()
        except OSError as error:
            raise StoreError(f"can't read the keys in {self.path}: {error}") from error
        seen = (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
        if seen != self._seen:
            # Reading is enough to do harm: a key signs for whoever has it.
            user = owner()
            if user is not None and (found.st_mode & 0o077 or found.st_uid not in (user, 0)):
                raise UntrustedSource(f"others can read the keys in {self.path}: `chmod 600` it")
            try:
                text = self.path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise StoreError(f"can't read the keys in {self.path}: {error}") from error
            self._known = tuple(read_keys(text, str(self.path)))
            self._trusted = {one.key.name: one.key for one in self._known}
            self._seen = seen
        return self._known

    def trusted(self) -> dict[bytes, Key]:
        """Return all keys by name; raises as `known`."""
        self.known()
        return self._trusted

    def signing(self) -> Key | None:
        """Return the key that signs, or None; raises as `known`."""
        found = self.known()
        return found[0].key if found else None

    # -- changing ---------------------------------------------------------------------------------

    def make(self, label: str = "") -> Known:
        """Make a key that signs from now on; the others stay trusted. Raises as `known`."""
        made = Known(Key.new(), time.strftime("%Y-%m-%d"), _clean(label))
        self._write([made, *self.known()])
        return made

    def add(self, text: str, where: str) -> list[Known]:
        """Trust the keys in the text of another such file, and return those that are new.

        If there was a key that signs, it still does. Raises as `known`.

        Args:
            text: of the file.
            where: the file's name, for messages.
        """
        there = self.trusted()
        fresh = {one.key.name: one for one in read_keys(text, where) if one.key.name not in there}
        self._write([*self._known, *fresh.values()])
        return list(fresh.values())

    def drop(self, name: str) -> Known:
        """Stop trusting a key.

        Args:
            name: 16 hex digits, or the first of them, as many as no other key begins with.

        Raises:
            NotKept: no key has that name.
            ConfigError: several begin with it.
        """
        fitting = [one for one in self.known() if one.key.name.hex().startswith(name.lower())]
        if len(fitting) != 1 or not name:
            if fitting:
                raise ConfigError(
                    f"several keys in {self.path} begin with {name!r}: give more digits"
                )
            raise NotKept(
                f"no key in {self.path} begins with {name!r}; `wellkept keys ls` lists them"
            )
        self._write([one for one in self._known if one is not fitting[0]])
        return fitting[0]

    def _write(self, known: Sequence[Known]) -> None:
        lines = [f"{one.key.secret.hex()} {one.made} {one.label}".rstrip() + "\n" for one in known]
        # Replaced whole and synced: a file of keys that is cut short would lose keys for good.
        part = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(_HEAD + "".join(lines))
                file.flush()
                os.fsync(fd)
            replace(part, self.path)
        except OSError as error:
            raise StoreError(f"can't write the keys to {self.path}: {error}") from error


def read_keys(text: str, where: str) -> list[Known]:
    """Return the keys in a file's text.

    Raises:
        ConfigError: a line is not a key; the message does not quote it, as it may be one but for a letter.
    """
    found = []
    for n, line in enumerate(text.splitlines(), start=1):
        words = line.split(maxsplit=2)
        if not words or words[0].startswith("#"):
            continue
        try:
            secret = bytes.fromhex(words[0])
        except ValueError:
            secret = b""
        if len(secret) != 32:
            raise ConfigError(f"{where}:{n}: not a key: 64 hex digits, a date and a label")
        found.append(Known(Key(secret), *(*words[1:], "", "")[:2]))
    return found


def _clean(label: str) -> str:
    return " ".join(label.split())[:100]


_HARMLESS = frozenset(("arrow", "json", "npy", "plain", "plain chunks", PLAIN_PATHS))
"""Codecs that can't run code, whatever the bytes are."""


class Trusts:
    """Which values of a source may be decoded.

    Args:
        trust: whether all of them may, signed or not.
        keys: the keys whose signatures are accepted, and the one that signs values that go to the source; by
            default the user's.
    """

    def __init__(self, trust: bool = False, keys: Keyring | None = None) -> None:
        self.trust = trust
        self._keys = Keyring() if keys is None else keys

    def codec(self, digest: bytes, envelope: Envelope) -> str:
        """Return the codec by which a value with this digest is decoded here.

        Raises:
            Refused: its codec could run code, and no trusted key has signed it.
            UntrustedSource: others can read the keys.
            StoreError: the keys can't be read.
        """
        if self.trust or envelope.codec in _HARMLESS:
            return envelope.codec
        if envelope.signature and signed_by(self._keys.trusted(), digest, envelope) is not None:
            return envelope.codec
        # An unsigned pickle may still be of plain types, which `safe_pickle` decodes without running anything.
        if envelope.codec == "pickle":
            return "plain"
        if envelope.codec == PATHS:
            return PLAIN_PATHS
        if envelope.codec == "chunks":
            return "plain chunks"
        raise Refused(f"it is encoded with {envelope.codec[:40]!r}")

    def read(self, digest: bytes, envelope: Envelope) -> Envelope:
        """Return an envelope from the source with the codec by which it may be decoded; raises as `codec`."""
        return envelope._replace(codec=self.codec(digest, envelope))

    def signed(self, digest: bytes, envelope: Envelope) -> Envelope:
        """Return an envelope for the source, signed if there is a key; raises as `codec`, except Refused."""
        key = self._keys.signing()
        return envelope if key is None else sign(key, digest, envelope)
