"""A byte store of objects in a bucket (S3, Google Cloud, Azure) or a directory, by obstore."""

from __future__ import annotations

import contextlib
import datetime
import importlib
import importlib.machinery
import importlib.util
import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from wellkept._process import Instances
from wellkept.errors import ConfigError, StoreError
from wellkept.interrupts import undisturbed
from wellkept.records import Buffer
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.silence import Silence

NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist", re.IGNORECASE)

SILENT = ("no answer in time", "no connection; is the endpoint right and running?")
"""How a message ends if there was no answer at all."""

# The driver has few classes of errors, so its text is searched, which is that of the service.
_ADVICE = (
    (NO_BUCKET, "there is no such bucket; make it, or check its name"),
    (
        re.compile(
            r"Unauthenticated|PermissionDenied|InvalidAccessKeyId|SignatureDoesNotMatch"
            r"|AccessDenied|Permission denied|InvalidToken|ExpiredToken|AuthenticationFailed"
        ),
        "the service refuses these credentials; check them and what they permit",
    ),
    (
        re.compile(r"No space left|507 |QuotaExceeded|StorageFull|InsufficientStorage|EDQUOT"),
        "there is no space left; free some, or raise the quota",
    ),
    (re.compile(r"timed ?out|TimedOut|deadline", re.IGNORECASE), SILENT[0]),
    (
        re.compile(r"error sending request|kind: Connect|dns error|Connection re(fused|set)"),
        SILENT[1],
    ),
    (
        re.compile(r"SlowDown|503 |TooManyRequests|429 "),
        "the service is overloaded; try again later",
    ),
)

_SECRET = re.compile(r"key|secret|token|password|sas|credential|account", re.IGNORECASE)


def as_store_error(what: str, error: BaseException, options: Mapping[str, Any]) -> StoreError:
    """Return the driver's error as a StoreError without secrets."""
    text = f"{type(error).__name__}: {error}"
    for pattern, advice in _ADVICE:
        if pattern.search(text):
            return StoreError(f"{what}: {advice}")
    line = _without(str(error), _secrets(options)).partition("\n")[0]
    return StoreError(f"{what}: {line[:300]}")


def scrubbed(error: BaseException, options: Mapping[str, Any]) -> BaseException:
    """Return the error, or one like it without the secrets in its text."""
    text = str(error)
    clean = _without(text, _secrets(options))
    return error if clean == text else StoreError(clean)


def _secrets(options: Mapping[str, Any]) -> list[str]:
    # Of more than five characters: a shorter value would be found inside ordinary words.
    named = [*options.items(), *dict(options.get("config") or {}).items(), *os.environ.items()]
    return [
        value
        for name, value in named
        if isinstance(value, str) and len(value) > 5 and _SECRET.search(name)
    ]


def _without(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return re.sub(r"(?i)([?&](?:sig|x-amz-[a-z-]+|token)=)[^&\s\"]+", r"\1…", text)


_driver: Any = None
_driver_of = 0
"""The process that loaded it."""


def driver() -> Any:
    """Return the package `obstore`, usable in this process.

    Raises:
        ConfigError: it is not installed.
        StoreError: this process was forked from one that had loaded it.
    """
    if _driver is None:
        undisturbed(_load)
    if _driver_of != os.getpid():
        # The driver's native part has threads, which a forked child does not have: a call would wait for ever.
        raise StoreError(
            "an object store can't be used in a process that was forked from one that had opened such "
            'a store: start processes with multiprocessing.get_context("spawn") or "forkserver" '
            "(ProcessPoolExecutor(mp_context=…)), or open the store in the children only"
        )
    return _driver


def _load() -> None:
    global _driver, _driver_of
    try:
        loaded = importlib.import_module("obstore")
        importlib.import_module("obstore.store")
        importlib.import_module("obstore.exceptions")
    except ImportError as error:
        raise ConfigError("object stores need obstore: pip install 'wellkept[s3]'") from error
    # The process is set first, as another thread that finds the driver looks at it next.
    _driver_of = os.getpid()
    _driver = loaded


_FAMILIES = {"s3": "s3", "s3a": "s3", "gs": "gs", "az": "az", "azure": "az", "abfs": "az"}
_FAMILIES |= {"abfss": "az", "adl": "az", "file": "file", "memory": "memory"}

# For each service: the beginning of environment variables, the names (or parts of names) of those and of
# options that give credentials, and what to do if there are none.
_SOURCES = {
    "s3": (
        "AWS_",
        "access_key_id|web_identity|container_credentials|skip_signature|metadata_endpoint",
        "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give skip_signature=True for a public "
        "bucket, or metadata_endpoint='http://169.254.169.254' for those of this machine's role",
    ),
    "gs": (
        "GOOGLE_",
        "service_account|credentials|skip_signature|bearer_token",
        "set GOOGLE_APPLICATION_CREDENTIALS, or give skip_signature=True for a public bucket",
    ),
    "az": (
        "AZURE_",
        "key|secret|token|sas|msi_|identity|use_azure_cli|skip_signature",
        "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or give "
        "skip_signature=True for a public container",
    ),
}


class _Location:
    """A bucket, container or directory, and a prefix in it.

    Raises:
        ConfigError: it is not the URL of an object store, or there are no credentials for it.
    """

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._url, self._options = url, options
        self.family, self.shown = _shown(url)
        _check_credentials(self.family, self.shown, options)

    def open(self) -> tuple[Any, Any]:
        """Return a store of obstore that repeats failed requests, and one that does not.

        Raises:
            ConfigError: an option is wrong, or obstore is not installed.
        """
        obs = driver()
        try:
            if self.family == "memory":
                store = obs.store.MemoryStore(**self._options)
            elif self.family == "file":
                backend = unquote(urlsplit(self._url).path)
                store = obs.store.LocalStore(prefix=backend, mkdir=True, **self._options)
            else:
                return self._remote(3), self._remote(0)
        except (obs.exceptions.BaseError, OSError, TypeError, ValueError) as error:
            # The driver's message may quote an option, and so a secret.
            cause = scrubbed(error, self._options)
            line = str(cause).partition("\n")[0][:200]
            raise ConfigError(f"can't open {self.shown}: {line}") from cause
        return store, store

    def _remote(self, retries: int) -> Any:
        options = dict(self._options)
        seconds = datetime.timedelta(seconds=1)
        # Half a minute of silence is an error; the whole request may take longer on a slow line.
        client: dict[str, Any] = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "300s"}
        client |= options.pop("client_options", {})
        retry = {"max_retries": retries, "retry_timeout": 30 * seconds}
        retry["backoff"] = {"init_backoff": seconds / 10, "max_backoff": 2 * seconds, "base": 2}
        if given := options.pop("retry_config", None):
            retry = {**retry, **given, **({} if retries else {"max_retries": 0})}
        endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL", "")
        if self.family == "s3" and endpoint.startswith("http://"):
            # Whoever writes http:// wants it.
            client.setdefault("allow_http", True)
        from_url = driver().store.from_url
        return from_url(self._url, client_options=client, retry_config=retry, **options)


def _check_credentials(scheme: str, where: str, options: Mapping[str, Any]) -> None:
    """Check that credentials are given.

    Raises:
        ConfigError: there are none.
    """
    # Without any, the driver would ask the metadata service of cloud machines, and elsewhere wait in vain for
    # it.
    if scheme not in _SOURCES or "credential_provider" in options:
        return
    start, names, advice = _SOURCES[scheme]
    known = re.compile(names, re.IGNORECASE)
    given = [*options, *options.get("config", ())]
    given += [name for name in os.environ if name.startswith(start)]
    if not any(known.search(name) for name in given):
        raise ConfigError(f"no credentials for {where}: {advice}")


def _shown(url: str) -> tuple[str, str]:
    """Return the family of the URL, and the URL as messages may show it.

    Raises:
        ConfigError: it is not the URL of an object store.
    """
    try:
        parts = urlsplit(url)
        secret = parts.password is not None or (parts.username and parts.scheme[:4] != "abfs")
    except ValueError:
        raise ConfigError("not an object store's URL: it can't be read") from None
    family = _FAMILIES.get(parts.scheme)
    if family is None:
        raise ConfigError(f"not an object store's URL: {parts.scheme or 'no scheme'}; give s3://…")
    if secret or parts.query or parts.fragment:
        raise ConfigError("credentials and options are no part of an object store's URL")
    if bool(parts.netloc) == (family in ("file", "memory")):
        raise ConfigError(f"not an object store's URL: {url}; give s3://bucket/prefix or file:///…")
    if family == "file" and parts.path.strip("/") == "":
        raise ConfigError(f"not an object store's URL: {url}; name a directory")
    return family, url.rstrip("/") or url


T = TypeVar("T")

# Larger items are sent in parts of this size.
_PART = 8 * 1024 * 1024
# The most parts of an upload; S3 takes 10,000.
_PARTS = 9000
# How many parts are transferred at once.
_ABREAST = 4
# How many requests are made at once.
_MANY = 16
# The largest item that is got in one request, or put under a condition.
_ONE_REQUEST = 64 * 1024 * 1024
# Attempts for an item that others change meanwhile.
_ATTEMPTS = 20
# The path of no key begins so, as keys have no tilde.
_PROBE = "~probe/"


class Objects:
    """Items in a bucket, below a prefix.

    Args:
        url: `s3://bucket/prefix`, `gs://…`, `az://…`, `file:///directory`, or `memory:///`, whose items exist
        as
            long as this object.
        options: of obstore's stores, such as `endpoint`, `region`, `access_key_id`, `skip_signature`,
            `credential_provider`, `client_options`, `retry_config`; the others are taken from the environment
            (`AWS_…`, `GOOGLE_…`, `AZURE_…`).

    Raises:
        ConfigError: the URL or an option is wrong, there are no credentials, or obstore is not installed.
    """

    url: str
    options: dict[str, Any]

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options
        self._location = _Location(url, options)
        self._scheme, self._where = self._location.family, self._location.shown
        self.silence: Silence = Silence()
        self._probed: str | None = None
        self._opened: tuple[Any, Any] | None = None
        # A directory has no compare-and-set, and then `isinstance(store, Replaces)` must be false.
        if self._scheme != "file":
            self.replace: Callable[[str, bytes, Buffer], bool] = self._replace
        # In a forked child each operation is refused instead of this. A cache that is sent there is made anew
        # while a pool's worker unpickles its task, and an exception at that moment would end the whole pool.
        with contextlib.suppress(StoreError):
            self._stores()
        _stores.add(self)

    def _stores(self) -> tuple[Any, Any]:
        """Return a store that repeats failed requests, and one that does not, for requests that must not be."""
        if self._opened is None:
            self._opened = self._location.open()
        return self._opened

    # -- the four verbs ---------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        found = self._read(key, self._path(key))
        return None if found is None else found[0]

    def _read(self, key: str, path: str) -> tuple[bytes, Any] | None:
        """Return an item, and the service's description of its object."""
        obs, store = driver(), self._stores()[0]

        def read() -> tuple[bytes, Any] | None:
            for _ in range(_ATTEMPTS):
                try:
                    found = obs.get(store, path)
                    meta = found.meta
                    if meta["size"] <= _ONE_REQUEST:
                        return bytes(found.bytes()), meta
                    del found
                    return self._parts(path, meta), meta
                # The object was replaced between two of its parts.
                except obs.exceptions.PreconditionError:
                    continue
            raise StoreError(f"can't get {key} from {self._where}: others keep changing it")

        return self._missing_is_none("get", key, read)

    def _parts(self, path: str, meta: Any) -> bytes:
        obs, store, size = driver(), self._stores()[0], meta["size"]
        same = {"if_match": meta["e_tag"]} if meta["e_tag"] else {}

        def part(at: int) -> Any:
            asked = {"range": (at, min(size, at + _PART)), **same}
            return obs.get(store, path, options=asked).bytes()

        # Its buffer becomes the result without a copy.
        content = io.BytesIO()
        content.seek(size - 1)
        # The whole size at once, as a buffer that grows is up to an eighth too large.
        content.write(b"\0")
        content.seek(0)
        with ThreadPoolExecutor(_ABREAST) as pool:
            for at in range(0, size, _PART * _ABREAST):
                starts = range(at, min(size, at + _PART * _ABREAST), _PART)
                for chunk in pool.map(part, starts):
                    content.write(chunk)
        return content.getvalue()

    def put(self, key: str, item: Buffer) -> None:
        view = memoryview(item).cast("B")
        self._upload(key, item if type(item) is bytes else view, view.nbytes)

    def put_file(self, key: str, path: str | os.PathLike[str]) -> None:
        """Keep a file's content, without reading all of it into memory."""
        self._upload(key, Path(path), Path(path).stat().st_size)

    def _upload(self, key: str, content: Any, size: int) -> None:
        obs, store, path = driver(), self._stores()[0], self._path(key)
        options = {"chunk_size": max(_PART, -(-size // _PARTS)), "max_concurrency": _ABREAST}
        options["use_multipart"] = size > _PART
        self._ask("put", key, lambda: obs.put(store, path, content, **options))

    def delete(self, key: str) -> None:
        self._delete(key, self._path(key))

    def _delete(self, key: str, path: str) -> None:
        obs, store = driver(), self._stores()[0]
        self._missing_is_none("delete", key, lambda: obs.delete(store, path))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once, a thousand a request."""
        obs, store = driver(), self._stores()[0]
        check_prefix(prefix)
        room, slash, rest = prefix.rpartition("/")
        # Services list a directory. In its sorted names, the listing can begin just before the prefix and end
        # after it. (S3's directory buckets are not sorted.)
        sorted_ = self._scheme in ("s3", "gs", "az") and not self.options.get("s3_express")
        sorted_ = sorted_ and rest.strip(".") != "" and "AWS_S3_EXPRESS" not in os.environ
        start = (_encoded(room) + "/" if slash else "") + rest
        offset = {"offset": _before(start)} if sorted_ and rest[-1] != "-" else {}
        pages = self._ask(
            "list",
            prefix,
            lambda: obs.list(store, _encoded(room) if slash else None, chunk_size=1000, **offset),
        )
        while (page := self._ask("list", prefix, lambda: next(pages, None))) is not None:
            for meta in page:
                path = str(meta["path"])
                if sorted_ and path > start and not path.startswith(start):
                    return
                key = None if path.startswith(_PROBE) else self._key(path)
                if key is not None and key.startswith(prefix):
                    yield key

    # -- abilities --------------------------------------------------------------------------------

    def create(self, key: str, item: Buffer) -> bool:
        """Keep the item if the key is absent; return whether it was.

        Raises:
            StoreError: also if the endpoint ignores conditions, or its answer was lost.
        """
        obs, path, content = driver(), self._path(key), self._one_request(key, item)
        self._probe()
        store = self._stores()[1]

        def put() -> bool:
            try:
                obs.put(store, path, content, mode="create", use_multipart=False)
            except obs.exceptions.AlreadyExistsError:
                return False
            return True

        return self._ask("create", key, put)

    def _replace(self, key: str, old: bytes, item: Buffer) -> bool:
        """Keep the item if exactly `old` is under the key; return whether it was. Raises as `create`."""
        obs, path, content = driver(), self._path(key), self._one_request(key, item)
        self._probe()
        store = self._stores()[1]
        for _ in range(_ATTEMPTS):
            found = self._read(key, path)
            if found is None or found[0] != old:
                return False
            seen = {name: found[1][name] for name in ("e_tag", "version") if found[1][name]}
            put = partial(obs.put, store, path, content, mode=seen, use_multipart=False)
            try:
                self._ask("replace", key, put)
            except _Changed:
                continue
            return True
        raise StoreError(f"can't replace {key} at {self._where}: others keep changing it")

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(keys))
        items = self._abreast(self.get, wanted)
        return {key: item for key, item in zip(wanted, items, strict=True) if item is not None}

    def put_many(self, items: Mapping[str, Buffer]) -> None:
        """Keep each item, several at a time. Others may see some before the rest is written."""
        self._abreast(lambda pair: self.put(*pair), items.items())

    def delete_many(self, keys: Iterable[str]) -> None:
        obs, store = driver(), self._stores()[0]
        wanted = list(dict.fromkeys(keys))
        paths = [self._path(key) for key in wanted]
        # S3 deletes a thousand in one request, and a missing one is no error.
        if self._scheme == "s3":
            if paths:
                self._ask("delete", f"{len(paths)} items", lambda: obs.delete(store, paths))
        else:
            self._abreast(self.delete, wanted)

    def size_of(self, key: str) -> int | None:
        """Return the size of an item, without reading it; None if there is no item, or no bucket."""
        # The answer to a HEAD has no body that would say which of the two is missing.
        obs, store, path = driver(), self._stores()[0], self._path(key)
        return self._missing_is_none("look at", key, lambda: int(obs.head(store, path)["size"]))

    def read_range(self, key: str, start: int, end: int) -> bytes | None:
        """Return the bytes from `start` to before `end`, as many as there are; None if there is no item."""
        if not 0 <= start <= end:
            raise ConfigError(f"not a range: {start} to {end}")
        obs, store, path = driver(), self._stores()[0], self._path(key)

        def read() -> bytes:
            try:
                if start < end:
                    return bytes(obs.get_range(store, path, start=start, end=end))
            # A start beyond the end is an error for some services, and an empty answer for others.
            except (obs.exceptions.GenericError, ValueError):
                if obs.head(store, path)["size"] > start:
                    raise
            else:
                obs.head(store, path)
            return b""

        return self._missing_is_none("read", key, read)

    def _abreast(self, do: Callable[[Any], T], what: Iterable[Any]) -> list[T]:
        todo = list(what)
        if len(todo) < 2:
            return [do(one) for one in todo]
        with ThreadPoolExecutor(min(_MANY, len(todo))) as pool:
            return list(pool.map(do, todo))

    def _one_request(self, key: str, item: Buffer) -> Any:
        view = memoryview(item).cast("B")
        if view.nbytes > _ONE_REQUEST:
            raise StoreError(
                f"can't write {key} to {self._where} under a condition: {view.nbytes:,} bytes are "
                f"more than {_ONE_REQUEST:,}; use put"
            )
        return item if type(item) is bytes else view

    def _probe(self) -> None:
        """Check, once, that the endpoint respects conditions.

        One that ignores them would let two processes both create an item, and so hold one lease.
        """
        if self._probed is None:
            self._probed = "" if self._scheme != "s3" else self._ask("probe", "it", self._try_out)
        if self._probed:
            raise StoreError(
                f"{self._where} ignores {self._probed}, so nothing can be created or replaced "
                "there without a race; use another endpoint, or another store for leases"
            )

    def _try_out(self) -> str:
        obs, (store, once) = driver(), self._stores()
        path, ignored = _PROBE + os.urandom(16).hex(), ""
        errors = obs.exceptions
        obs.put(store, path, b"0")
        try:
            for mode, name in (("create", "If-None-Match"), ({"e_tag": '"0"'}, "If-Match")):
                try:
                    obs.put(once, path, b"1", mode=mode, use_multipart=False)
                    ignored = ignored or name
                except (errors.AlreadyExistsError, errors.PreconditionError):
                    pass
                except (errors.NotSupportedError, NotImplementedError):
                    ignored = ignored or name
        finally:
            obs.delete(store, path)
        return ignored

    # -- names ------------------------------------------------------------------------------------

    def _path(self, key: str) -> str:
        path = _encoded(check_key(key))
        # In a file system `a` and `a/b` can't both exist, so a file's name gets an ending that no directory
        # has.
        return path + "~" if self._scheme == "file" else path

    def _key(self, path: str) -> str | None:
        if self._scheme == "file":
            if not path.endswith("~"):
                return None
            path = path[:-1]
        return "/".join(_DECODED.get(part, part) for part in path.split("/"))

    # -- errors -----------------------------------------------------------------------------------

    def _ask(self, verb: str, what: str, do: Callable[[], T]) -> T:
        self.silence.check()
        began, errors = time.monotonic(), driver().exceptions
        try:
            done = do()
        except errors.PreconditionError as error:
            raise _Changed(f"can't {verb} {what} at {self._where}: it changed") from error
        except (errors.NotSupportedError, NotImplementedError) as error:
            raise StoreError(f"can't {verb} {what}: {self._where} has no such ability") from error
        except (errors.BaseError, OSError, ValueError, RuntimeError) as error:
            told = as_store_error(f"can't {verb} {what} at {self._where}", error, self.options)
            if str(told).endswith(SILENT):
                self.silence.note(str(told), began)
            raise told from scrubbed(error, self.options)
        self.silence.answered = began
        return done

    def _missing_is_none(self, verb: str, key: str, do: Callable[[], T]) -> T | None:
        def tried() -> T | None:
            try:
                return do()
            except FileNotFoundError as error:
                if NO_BUCKET.search(str(error)):
                    raise
                return None

        return self._ask(verb, key, tried)

    # -- connections and pickles ------------------------------------------------------------------

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        if self._scheme != "memory":
            self._opened = None

    def __reduce__(self) -> tuple[Any, ...]:
        if self._scheme == "memory":
            raise StoreError(
                f"{self._where} is in this process's memory and can't be sent to others"
            )
        return _again, (self.url, self.options)

    def __repr__(self) -> str:
        return f"Objects({self._where!r})"


class _Changed(StoreError):  # noqa: N818  says what happened, as wellkept's errors do
    """An item is no longer what a condition says."""


def _again(url: str, options: dict[str, Any]) -> Objects:
    return Objects(url, **options)


# Object stores have no empty names, and take dots for directories. Keys have no tilde.
_CODED = {"": "~e", ".": "~d"}
_DECODED = {coded: part for part, coded in _CODED.items()}


def _encoded(key: str) -> str:
    return "/".join(_CODED.get(part, part) for part in key.split("/"))


# The characters of names in the order of listings. A slash is not among them, as names are between slashes.
_ORDER = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


def _before(start: str) -> str:
    """Return a name that comes just before all paths that begin with `start`."""
    return start[:-1] + _ORDER[_ORDER.index(start[-1]) - 1] + "~"


_left: list[Any] = []


def _leave(store: Objects) -> None:
    # Destroying the driver's objects would need its threads, which the child does not have. So they are held
    # for ever.
    _left.append(store._opened)
    store._opened = None


_stores = Instances[Objects](in_child=_leave)
