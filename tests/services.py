"""Real servers for the tests: PostgreSQL, MariaDB, Redis, an S3 endpoint (moto's) and sshd.

Each is started on a free loopback port in a temporary directory, from whatever the machine has, by
the first test of a process that asks for it, and stopped with that process: so no two xdist workers
share one, and a test may kill the one it has. `scripts/install-services` installs what is missing.
A test that asks for a server that is not there is skipped, or fails under WELLKEPT_REQUIRE_SERVICES=1.

| fixture | gives |
|---|---|
| `postgresql_url`, `mariadb_url` | the URL of an empty database of its own |
| `redis_url` | the URL of an emptied database |
| `s3_url`, `s3_bucket` | the endpoint's URL, the name of a new bucket in it |
| `ssh_url`, `ssh_options` | the URL of an empty directory there, and what `wellkept.open` takes beside it |
| `postgresql`, `mariadb`, `redis`, `s3`, `sshd` | the `Service`: `url kill start restart freeze thaw` |

A test that stops a server need not start it again: the fixtures look after that.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest

PASSWORD = "s3cret-word"
_REQUIRED = (
    os.environ.get("WELLKEPT_REQUIRE_SERVICES") == "1"
)  # read before a test clears its environment
_PATIENCE = 30.0
_numbers = count(1)


def the_user(name: str) -> Any:
    """Return the entry of a user. The module is only where POSIX is, and so are the servers."""
    import pwd

    return pwd.getpwnam(name)


class Service:
    """One server process.

    Args:
        name: for messages, and of its directory.
        command: what runs it in the foreground, given its directory and its port.
        answers: raises while the server at a port does not yet answer.
        prepare: run once in the empty directory.
        user: who runs it if this process is root, for a server that refuses to run as root.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[Path, int], Sequence[str | Path]],
        answers: Callable[[int], None],
        *,
        url: str,
        prepare: Callable[[Service], None] | None = None,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.user = user if os.geteuid() == 0 else None
        self.directory = Path(tempfile.mkdtemp(prefix=f"wellkept-{name}-"))
        self._command, self._answers = command, answers
        self._process: subprocess.Popen[bytes] | None = None
        self._url = url
        self.port = 0
        try:
            if self.user is not None:
                found = the_user(self.user)
                os.chown(self.directory, found.pw_uid, found.pw_gid)
            if prepare is not None:
                prepare(self)
            self._begin()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        return self._url.format(port=self.port)

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def run(self, *command: str | Path) -> None:
        """Run a tool as the server's user."""
        done = subprocess.run(
            [*self._as_user(), *command],
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout)[-2000:]}")

    def start(self) -> None:
        """Start it at its port and wait until it answers; nothing if it runs."""
        if self.alive:
            return self.thaw()
        deadline = time.monotonic() + _PATIENCE
        while not self._try(deadline):
            # What a killed server left (shared memory, a port) is freed in a moment.
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not start: {self.log()}")
            time.sleep(0.1)
        return None

    def kill(self) -> None:
        """End it and what it started at once, as a crash would."""
        if self._process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(self._process.pid).children(recursive=True)
            self._process.kill()
            for child in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            deadline = time.monotonic() + _PATIENCE
            while any(map(_runs, family)) and time.monotonic() < deadline:
                time.sleep(0.005)
        self._process.wait(_PATIENCE)
        self._process = None

    def restart(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()

    def freeze(self) -> None:
        """Have it stop answering while its port and its connections stay open."""
        self._signal(signal.SIGSTOP)
        # Of a process with many threads some run on for a moment, and may answer.
        deadline = time.monotonic() + _PATIENCE
        while not self._stands():
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} does not stop")
            time.sleep(0.002)

    def _stands(self) -> bool:
        assert self._process is not None, f"{self.name} does not run"
        leader = psutil.Process(self._process.pid)
        for process in [leader, *leader.children(recursive=True)]:
            for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
                with contextlib.suppress(OSError):  # a thread that ended
                    state = status.read_text().partition("State:")[2].split(maxsplit=1)[0]
                    if state not in ("T", "Z"):
                        return False
        return True

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """The end of what it wrote."""
        with contextlib.suppress(OSError):
            return (self.directory / "log").read_text(errors="replace")[-2000:]
        return ""

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _begin(self) -> None:
        for _ in range(5):  # somebody else may take the port between the look and the start
            self.port = _free_port()
            if self._try(time.monotonic() + _PATIENCE):
                return
        raise RuntimeError(f"{self.name} does not start: {self.log()}")

    def _try(self, deadline: float) -> bool:
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._as_user(), *self._command(self.directory, self.port)],
                cwd=self.directory,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        while self.alive and time.monotonic() < deadline:
            try:
                self._answers(self.port)
            except Exception:  # noqa: BLE001 - each driver has its own way to say "not yet"
                time.sleep(0.02)
            else:
                return True
        self.kill()
        return False

    def _signal(self, what: signal.Signals) -> None:
        assert self._process is not None, f"{self.name} does not run"
        leader = psutil.Process(self._process.pid)
        for process in [leader, *leader.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def _as_user(self) -> list[str]:
        # The server dies with the test process, however that one ends; more exactly with the thread
        # that starts it, so that one which another thread starts is only ended by the fixture.
        setpriv = shutil.which("setpriv")
        options = []
        main = threading.current_thread() is threading.main_thread()
        if setpriv and sys.platform == "linux" and main:
            options += ["--pdeathsig", "KILL"]
        if self.user is not None:
            found = the_user(self.user)
            options += [f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]
        return [setpriv, *options, "--"] if setpriv and options else []

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.directory), "TMPDIR": str(self.directory)}


def _runs(process: psutil.Process) -> bool:
    # Who adopts the children of a dead server may take seconds to ask how they ended.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    """A free port below those that the system gives to clients: none of them can take it while a
    server that was killed is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _program(name: str, *places: str) -> Path:
    """A program of this machine; without it the test is skipped, or fails where it is required."""
    if found := shutil.which(name):
        return Path(found)
    for pattern in places:
        if there := sorted(Path("/").glob(f"{pattern.lstrip('/')}/{name}")):
            return there[-1]
    raise _missing(f"no {name} on this machine: scripts/install-services installs it")


def _module(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise _missing(f"no Python package {name} here") from None


def _missing(why: str) -> BaseException:
    if _REQUIRED:
        return pytest.fail.Exception(f"a required service is not there: {why}", pytrace=False)
    return pytest.skip.Exception(why)


def _me_or(user: str) -> str:
    """Whom a server that refuses root runs as."""
    if os.geteuid() != 0:
        return getpass.getuser()
    for name in (user, "nobody"):
        with contextlib.suppress(KeyError):
            return str(the_user(name).pw_name)
    raise _missing(f"the server refuses to run as root, and there is no user {user} or nobody")


def start_postgresql() -> Service:
    """A PostgreSQL of its own; the caller closes it."""
    psycopg = _module("psycopg")
    places = (
        "/usr/lib/postgresql/*/bin",
        "/usr/local/pgsql/bin",
        "/opt/homebrew/opt/postgresql*/bin",
    )
    initdb, postgres = _program("initdb", *places), _program("postgres", *places)
    user = _me_or("postgres")

    def answers(port: int) -> None:
        psycopg.connect(_dsn("postgresql", port, "postgres"), connect_timeout=2).close()

    def prepare(service: Service) -> None:
        directory = service.directory
        (directory / "password").write_text(PASSWORD)
        (directory / "password").chmod(0o644)  # the directory is its user's alone
        service.run(
            *(initdb, "-D", directory / "data", "--username=wellkept", "--no-sync"),
            *("--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256"),
            f"--pwfile={directory / 'password'}",
        )

    settings = (
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "fsync=off",  # what was committed outlives the process, which is all that a test can kill
        # Whole pages stay in the log, as a kill in the midst of a write would leave half of one.
        "shared_buffers=64MB",
        "max_connections=200",
        "max_wal_size=4GB",
    )
    return Service(
        "postgresql",
        lambda directory, port: [
            *(postgres, "-D", directory / "data", "-p", str(port)),
            *(word for setting in settings for word in ("-c", setting)),
        ],
        answers,
        url=_dsn("postgresql", "{port}", "postgres"),
        prepare=prepare,
        user=user,
    )


def start_mariadb() -> Service:
    """A MariaDB of its own, which takes packets of up to 256 MiB; the caller closes it."""
    pymysql = _module("pymysql")
    install = _program("mariadb-install-db", "/usr/local/bin", "/opt/homebrew/bin")
    mariadbd = _program("mariadbd", "/usr/sbin", "/usr/local/sbin", "/usr/libexec")
    user = _me_or("mysql")

    def answers(port: int) -> None:
        pymysql.connect(
            host="127.0.0.1", port=port, user="wellkept", password=PASSWORD, connect_timeout=2
        ).close()

    def prepare(service: Service) -> None:
        directory = service.directory
        (directory / "init.sql").write_text(
            f"CREATE USER IF NOT EXISTS wellkept@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO wellkept@'%' WITH GRANT OPTION;\n"
            "CREATE DATABASE IF NOT EXISTS wellkept;\n"
        )
        service.run(
            *(install, "--no-defaults", f"--datadir={directory / 'data'}", "--skip-test-db"),
            *("--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"),
            *("--innodb-flush-method=nosync", "--skip-name-resolve"),
        )

    return Service(
        "mariadb",
        lambda directory, port: [
            *(mariadbd, "--no-defaults", f"--datadir={directory / 'data'}", f"--port={port}"),
            *("--bind-address=127.0.0.1", f"--socket={directory / 'socket'}"),
            *(f"--pid-file={directory / 'pid'}", f"--init-file={directory / 'init.sql'}"),
            *("--skip-name-resolve", "--skip-log-bin", "--max-connections=200"),
            *("--innodb-flush-log-at-trx-commit=2", "--innodb-flush-method=nosync"),
            # Pages are written twice, as a kill in the midst of a write would leave half of one.
            *("--innodb-buffer-pool-size=64M", "--innodb-log-file-size=96M"),
            "--max-allowed-packet=256M",
        ],
        answers,
        url=_dsn("mariadb", "{port}", "wellkept"),
        prepare=prepare,
        user=user,
    )


def start_redis() -> Service:
    """A Redis of its own, which has after a crash what it had before; the caller closes it."""
    server = _program("redis-server", "/usr/local/bin", "/opt/homebrew/bin")
    return Service(
        "redis",
        lambda directory, port: [
            *(server, "--bind", "127.0.0.1", "--port", str(port), "--dir", directory),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "no"),
        ],
        _redis_answers,
        url="redis://127.0.0.1:{port}/0",
    )


def start_s3() -> Service:
    """An S3 endpoint of its own, which forgets all when it ends; the caller closes it."""
    for name in ("moto", "flask"):
        _module(name)
    return Service(
        "s3",
        lambda _, port: [sys.executable, Path(__file__).with_name("s3server.py"), str(port)],
        lambda port: _http(f"http://127.0.0.1:{port}/moto-api/", "GET"),
        url="http://127.0.0.1:{port}",
    )


def start_sshd(address: str = "127.0.0.1") -> Service:
    """An sshd of its own, which lets in who has the key `key` of its directory: me; the caller closes
    it."""
    sshd, keygen = _program("sshd", "/usr/sbin", "/usr/local/sbin"), _program("ssh-keygen")
    _program("ssh")
    me = getpass.getuser()

    def prepare(service: Service) -> None:
        directory = service.directory
        for name in ("host", "key"):
            service.run(keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name)
        public = (directory / "host.pub").read_text().split()
        (directory / "known").write_text(f"* {public[0]} {public[1]}\n")
        (directory / "config").write_text(
            f"Host *\n  User {me}\n  IdentityFile {directory / 'key'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {directory / 'known'}\n  StrictHostKeyChecking yes\n"
        )
        (directory / "sshd").write_text(
            f"HostKey {directory / 'host'}\nAuthorizedKeysFile {directory / 'key.pub'}\n"
            f"ListenAddress {address}\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nMaxStartups 100\nUseDNS no\nSubsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0:  # where it gives up its rights: an empty directory of root's
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)

    return Service(
        "sshd",
        lambda directory, port: [sshd, "-D", "-e", "-f", directory / "sshd", "-p", str(port)],
        _ssh_answers,
        url="ssh://127.0.0.1:{port}",
        prepare=prepare,
    )


def _ssh_answers(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        assert connection.recv(4) == b"SSH-"


def _dsn(scheme: str, port: int | str, database: str) -> str:
    return f"{scheme}://wellkept:{PASSWORD}@127.0.0.1:{port}/{database}"


def _redis(port: int, command: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(command.encode() + b"\r\n")
        return connection.recv(100)


def _redis_answers(port: int) -> None:
    assert _redis(port, "PING") == b"+PONG\r\n"


def _http(url: str, method: str) -> None:
    asked = urllib.request.Request(url, method=method)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    direct.open(asked, timeout=5).close()


def _kept_running(start: Callable[[], Service]) -> Iterator[Service]:
    service = start()
    try:
        yield service
    finally:
        service.close()


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[Service]:
    yield from _kept_running(start_postgresql)


@pytest.fixture(scope="session")
def _mariadb() -> Iterator[Service]:
    yield from _kept_running(start_mariadb)


@pytest.fixture(scope="session")
def _redis_server() -> Iterator[Service]:
    yield from _kept_running(start_redis)


@pytest.fixture(scope="session")
def _s3() -> Iterator[Service]:
    yield from _kept_running(start_s3)


@pytest.fixture(scope="session")
def _sshd() -> Iterator[Service]:
    yield from _kept_running(start_sshd)


@pytest.fixture
def postgresql(_postgresql: Service) -> Service:
    """The PostgreSQL server, running."""
    _postgresql.start()
    return _postgresql


@pytest.fixture
def mariadb(_mariadb: Service) -> Service:
    """The MariaDB server, running."""
    _mariadb.start()
    return _mariadb


@pytest.fixture
def redis(_redis_server: Service) -> Service:
    """The Redis server, running."""
    _redis_server.start()
    return _redis_server


@pytest.fixture
def s3(_s3: Service) -> Service:
    """The S3 endpoint, running."""
    _s3.start()
    return _s3


@pytest.fixture
def sshd(_sshd: Service) -> Service:
    """The sshd, running."""
    _sshd.start()
    return _sshd


@pytest.fixture
def postgresql_url(postgresql: Service) -> Iterator[str]:
    """The URL of an empty database."""
    import psycopg

    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
    yield _dsn("postgresql", postgresql.port, name)
    postgresql.start()
    with psycopg.connect(postgresql.url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def mariadb_url(mariadb: Service) -> Iterator[str]:
    """The URL of an empty database."""
    name = f"test_{next(_numbers)}"
    _mariadb_run(mariadb, f"CREATE DATABASE {name}")
    yield _dsn("mariadb", mariadb.port, name)
    mariadb.start()
    _mariadb_run(mariadb, f"DROP DATABASE IF EXISTS {name}")


def _mariadb_run(service: Service, statement: str) -> None:
    import pymysql

    with (
        contextlib.closing(
            pymysql.connect(
                host="127.0.0.1",
                port=service.port,
                user="wellkept",
                password=PASSWORD,
                autocommit=True,
                connect_timeout=10,
                read_timeout=60,
            )
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


@pytest.fixture
def redis_url(redis: Service) -> str:
    """The URL of an emptied database."""
    assert _redis(redis.port, "FLUSHALL") == b"+OK\r\n"
    return redis.url


@pytest.fixture
def s3_url(s3: Service) -> str:
    """The URL of the endpoint, which asks for no credentials but takes any."""
    return s3.url


@pytest.fixture
def s3_bucket(s3: Service) -> str:
    """The name of a new, empty bucket."""
    name = f"test-{os.getpid()}-{next(_numbers)}"
    _http(f"{s3.url}/{name}", "PUT")
    return name


@pytest.fixture
def ssh_url(sshd: Service, home: Path) -> str:
    """The URL of a new directory in this test's home, which a server on the other side makes."""
    return f"{sshd.url}{home}/far-{next(_numbers)}"


@pytest.fixture
def ssh_options(sshd: Service) -> dict[str, Any]:
    """How that is reached: with this sshd's key, and the library that is tested."""
    return ssh_options_of(sshd)


def ssh_options_of(service: Service) -> dict[str, Any]:
    """How a directory behind an sshd is reached."""
    paths = os.environ.get("PYTHONPATH", "")
    command = [*(["env", f"PYTHONPATH={paths}"] if paths else []), sys.executable, "-m", "wellkept"]
    return {
        "ssh": f"ssh -F {service.directory / 'config'}",
        "command": " ".join(shlex.quote(word) for word in command),
    }
