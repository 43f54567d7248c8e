"""A byte store in a Redis server, for records and small blobs.

An item is a string under `<prefix><key>`, so a hit is one GET. The server makes operations atomic: a create is
SET NX, a compare-and-set is a script of two lines.
"""

from __future__ import annotations

import inspect
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from wellkept._process import at_fork
from wellkept.errors import ConfigError, StoreError
from wellkept.records import Buffer
from wellkept.stores.base import check_key, check_prefix
from wellkept.stores.silence import Silence

__all__ = ["Redis"]

_REPLACE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], unpack(ARGV, 3))
return 1
"""
# Keys in one command or pipeline. The server does one command at a time, so more would hold up its other
# clients.
_MANY = 1000
# Bytes in one pipeline, for the same reason.
_BYTES = 16 * 1024 * 1024
# Seconds before the second attempt at a server that has just started, and reads its file first.
_LOADING = 0.2


class Redis:
    """Items in a Redis server (or one that speaks its protocol: Valkey, KeyDB, Dragonfly).

    Args:
        url: `redis://[user[:password]@]host[:port][/database]`, `rediss://…` for TLS, or
            `unix:///path/to.sock`.
        prefix: the beginning of every key of this store on the server.
        limit: bytes of the largest item; larger ones do not belong in a server's memory.
        options: of redis-py's connections, such as `password`, `ssl_ca_certs`, `max_connections`,
            `socket_timeout` (30 seconds) and `socket_connect_timeout` (5).

    Raises:
        ConfigError: the URL or an option is wrong, or redis-py is not installed.
    """

    url: str
    prefix: str
    limit: int
    options: dict[str, Any]

    def __init__(
        self, url: str, prefix: str = "kept:", *, limit: int = 64 * 1024 * 1024, **options: Any
    ) -> None:
        try:
            import redis
        except ImportError as error:
            raise ConfigError("Redis needs redis-py: pip install 'wellkept[redis]'") from error
        self.url, self.prefix, self.limit, self.options = url, prefix, limit, options
        self._where = _shown(url)
        self._driver = redis
        self._errors: Any = redis.exceptions
        self._failures = (
            self._errors.RedisError,
            self._errors.ChildDeadlockedError,
            OSError,
            UnicodeError,
        )
        self._client = self._connect()
        self.silence: Silence = Silence()
        _all.add(self)

    def _connect(self) -> Any:
        redis = self._driver
        if "://" not in self.url:
            raise ConfigError(f"{self._where}: write redis://HOST:PORT/NUMBER")
        options = {
            "socket_connect_timeout": 5.0,
            "socket_timeout": 30.0,
            # Older servers have no other, and nothing here needs a newer one.
            "protocol": 2,
            "max_connections": 1000,
            # Which commands may be sent twice is known here, not in the driver.
            "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
            **self.options,
        }
        try:
            pool = redis.ConnectionPool.from_url(self.url, **options)
            # This does not connect yet, but finds options that are wrong.
            pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError, AttributeError, redis.RedisError) as error:
            # The driver's message may quote parts of a URL, and so a password.
            detail = str(error) if isinstance(error, TypeError) else type(error).__name__
            raise ConfigError(f"{self._where}: a wrong option or URL: {detail}") from None
        named = inspect.signature(pool.get_connection).parameters.get("command_name")
        # Drivers before 5.3 demand the name of a command, which they do not use.
        self._asking = () if named is None or named.default is None else ("",)
        return redis.Redis(connection_pool=pool)

    # -- the four verbs ---------------------------------------------------------------------------

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._ask("get", key, self._exchange, "GET", self._name(key))
        return found

    def put(self, key: str, item: Buffer, ttl: float | None = None) -> None:
        """Keep the item.

        Args:
            key: of the item.
            item: its bytes.
            ttl: seconds after which the server deletes it; None for never, whatever an earlier put said.
        """
        name, flat, px = self._name(key), self._flat(key, item), _expiry(ttl)
        self._ask("put", key, self._client.set, name, flat, px=px)

    def delete(self, key: str) -> None:
        self._ask("delete", key, self._client.unlink, self._name(key))

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Return the keys that begin with `prefix`, each once, by a scan of every key of the database."""
        pattern = _escaped(self.prefix + check_prefix(prefix)) + "*"
        # While the server resizes its table, SCAN may return a key twice.
        seen: set[bytes] = set()
        cut, cursor = len(self.prefix.encode()), 0
        while True:
            cursor, found = self._ask("list", prefix, self._client.scan, cursor, pattern, _MANY)
            for name in found:
                if name not in seen:
                    seen.add(name)
                    yield name[cut:].decode(errors="replace")
            if cursor == 0:
                return

    # -- abilities --------------------------------------------------------------------------------

    def create(self, key: str, item: Buffer, ttl: float | None = None) -> bool:
        """Keep the item if the key is absent; return whether it was.

        Raises:
            StoreError: also if the connection broke before the server answered.
        """
        name, flat, px = self._name(key), self._flat(key, item), _expiry(ttl)
        options = {"nx": True, "px": px}
        return bool(self._ask("create", key, self._client.set, name, flat, again=False, **options))

    def replace(self, key: str, old: bytes, item: Buffer, ttl: float | None = None) -> bool:
        """Keep the item if exactly `old` is under the key; return whether it was. Raises as `create`."""
        name, flat, px = self._name(key), self._flat(key, item), _expiry(ttl)
        words = [name, _view(old), flat, *(() if px is None else ("PX", px))]
        evaluate = self._client.eval
        return bool(self._ask("replace", key, evaluate, _REPLACE, 1, *words, again=False))

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        wanted = list(dict.fromkeys(keys))
        found: dict[str, bytes] = {}
        for some in _slices(wanted):
            items = self._ask("get", some[0], self._client.mget, list(map(self._name, some)))
            found.update((k, item) for k, item in zip(some, items, strict=True) if item is not None)
        return found

    def put_many(self, items: Mapping[str, Buffer], ttl: float | None = None) -> None:
        """Keep each item. Others may see some of them before the rest is written."""
        px = _expiry(ttl)
        flat = {self._name(key): self._flat(key, item) for key, item in items.items()}
        for some in _portions(flat):
            self._ask("put", f"{len(some)} items", self._pipe, some, px)

    def _pipe(self, items: dict[str, Any], px: int | None) -> None:
        with self._client.pipeline(transaction=False) as pipe:
            for name, item in items.items():
                pipe.set(name, item, px=px)
            # Raised by the driver, an error would quote the item.
            for answer in pipe.execute(raise_on_error=False):
                if isinstance(answer, Exception):
                    raise answer

    def delete_many(self, keys: Iterable[str]) -> None:
        for some in _slices(list(map(self._name, keys))):
            self._ask("delete", some[0], self._client.unlink, *some)

    def now(self) -> float:
        """Return the server's clock, in seconds since the epoch; it is the same for all clients."""
        seconds, micros = self._ask("ask", "the time", self._client.time)
        return float(seconds) + float(micros) / 1e6

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        self._client.connection_pool.disconnect()

    def ask(self, verb: str, what: str, command: str, *args: Any, again: bool = True) -> Any:
        """Return the server's answer to a method of the driver's client; raises as the other verbs.

        Args:
            verb, what: for a message.
            command: the name of the method.
            args: its arguments.
            again: whether doing it twice does no harm.
        """
        return self._ask(verb, what, getattr(self._client, command), *args, again=again)

    def send(self, verb: str, what: str, *words: Any, again: bool = True) -> Any:
        """Return the plain answer to the words of a command, in three quarters of the time of `ask`."""
        return self._ask(verb, what, self._exchange, *words, again=again)

    def _exchange(self, *words: Any) -> Any:
        # Around sending and reading, the driver's client does statistics and hooks that take longer than both.
        pool = self._client.connection_pool
        connection = pool.get_connection(*self._asking)
        answered = False
        try:
            connection.send_command(*words)
            answer = connection.read_response()
            answered = True
        except self._errors.ResponseError:
            answered = True
            raise
        finally:
            # An answer that was not read would be taken for that to the next command on this connection.
            if not answered:
                connection.disconnect()
            pool.release(connection)
        return answer

    # -- errors -----------------------------------------------------------------------------------

    def _ask(
        self,
        verb: str,
        what: str,
        do: Callable[..., Any],
        *args: Any,
        again: bool = True,
        **options: Any,
    ) -> Any:
        """Call a function; once more on a new connection if the first broke and doing it twice does no harm.

        Raises:
            StoreError: the server can't be reached, refuses, or takes too long.
        """
        self.silence.check()
        began = time.monotonic()
        first = True
        while True:
            try:
                done = do(*args, **options)
            except self._failures as error:
                if not isinstance(error, self._errors.RedisError):
                    self._renew()
                if not (first and again and self._may_heal(error)):
                    raise self._translated(verb, what, error, began) from error
            except BaseException:
                self._renew()
                raise
            else:
                self.silence.answered = began
                return done
            first = False

    def _renew(self) -> None:
        # An exception that is not the driver's may have come between a command and its answer, or have lost a
        # connection that the pool would count for ever.
        before, self._client = self._client, self._connect()
        before.connection_pool.disconnect(inuse_connections=False)

    def _may_heal(self, error: BaseException) -> bool:
        redis = self._errors
        if isinstance(error, redis.BusyLoadingError):
            time.sleep(_LOADING)
            return True
        wrong = (redis.AuthenticationError, redis.AuthorizationError)
        return isinstance(error, redis.ConnectionError) and not isinstance(error, wrong)

    def _translated(self, verb: str, key: str, error: BaseException, began: float) -> StoreError:
        redis, text, what = self._errors, str(error), f"can't {verb} {key} at {self._where}"
        refused = (redis.AuthenticationError, redis.AuthorizationError, redis.NoPermissionError)
        if isinstance(error, refused) or text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
            return StoreError(f"{what}: the server refuses user or password; check them")
        if isinstance(error, redis.OutOfMemoryError) or text.startswith("OOM"):
            return StoreError(
                f"{what}: the server is full; raise its maxmemory, or let it evict (allkeys-lru)"
            )
        if isinstance(error, redis.ReadOnlyError):
            return StoreError(f"{what}: this server is a read-only replica; use its master")
        if isinstance(error, (redis.TimeoutError, TimeoutError)):
            what += ": no answer in time; is the server overloaded or cut off?"
        elif isinstance(error, (redis.ConnectionError, OSError, UnicodeError)):
            what += ": no connection; is the server running and the address right?"
        else:
            return StoreError(f"{what}: the server says: {text[:200]}")
        self.silence.note(what, began)
        return StoreError(what)

    def _name(self, key: str) -> str:
        return self.prefix + check_key(key)

    def _flat(self, key: str, item: Buffer) -> Any:
        view = _view(item)
        size = len(view)
        if size > self.limit:
            raise StoreError(
                f"can't put {key} at {self._where}: {size:,} bytes are more than its limit of "
                f"{self.limit:,}; keep large values elsewhere: Cache(values=…, calls=…)"
            )
        return view

    # -- pickles ----------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.url, self.prefix, self.limit, self.options)

    def __repr__(self) -> str:
        return f"Redis({self._where!r}, prefix={self.prefix!r})"


def _again(url: str, prefix: str, limit: int, options: dict[str, Any]) -> Redis:
    return Redis(url, prefix, limit=limit, **options)


def _view(item: Buffer) -> Any:
    return item if type(item) is bytes else memoryview(item).cast("B")


def _expiry(ttl: float | None) -> int | None:
    if ttl is None:
        return None
    # Written so that NaN is refused too.
    if not 0 < ttl < 1e12:
        raise ConfigError(f"a ttl is a positive number of seconds, not {ttl!r}")
    return max(1, round(ttl * 1000))


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "*?[]^\\" else c for c in text)


def _slices(words: list[str]) -> Iterator[list[str]]:
    return (words[at : at + _MANY] for at in range(0, len(words), _MANY))


def _portions(items: dict[str, Any]) -> Iterator[dict[str, Any]]:
    some: dict[str, Any] = {}
    size = 0
    for name, item in items.items():
        if some and (len(some) >= _MANY or size + len(item) > _BYTES):
            yield some
            some, size = {}, 0
        some[name] = item
        size += len(item)
    if some:
        yield some


def _shown(url: str) -> str:
    """Return the URL without password and options.

    Raises:
        ConfigError: it is not the URL of a Redis server.
    """
    try:
        parts = urlsplit(url)
        host, port, user = parts.hostname or "localhost", parts.port, parts.username
    # Without the cause, whose message quotes the URL and so perhaps a password.
    except ValueError:
        raise ConfigError("not a Redis URL: its host or port can't be read") from None
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    if parts.scheme not in ("redis", "rediss"):
        raise ConfigError(f"not a Redis URL: {parts.scheme or 'no scheme'}; give redis://host/0")
    database = parts.path.strip("/")
    if database and not database.isdecimal():
        raise ConfigError(f"not a Redis URL: the database is a number, not {database[:40]!r}")
    name = f"[{host}]" if ":" in host else host
    at = f"{user}@" if user else ""
    return f"{parts.scheme}://{at}{name}:{port or 6379}/{database or 0}"


_all: weakref.WeakSet[Redis] = weakref.WeakSet()


def _after_fork() -> None:
    # A connection that parent and child share would give one of them the other's answers.
    for store in list(_all):
        store._client = store._connect()


at_fork(in_child=_after_fork)
