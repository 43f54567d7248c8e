"""The servers that other tests stand on do what those tests rely on."""

import contextlib
import socket
import time
from pathlib import Path

import pytest

from tests.services import Service


@pytest.fixture(params=["postgresql", "mariadb", "redis", "s3", "sshd"])
def service(request: pytest.FixtureRequest) -> Service:
    return request.getfixturevalue(request.param)


def reachable(service: Service) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", service.port), 5):
        return True
    return False


def test_a_server_is_killed_and_comes_back_where_it_was(service: Service) -> None:
    url = service.url
    assert reachable(service)
    service.kill()
    assert not reachable(service)
    service.start()
    assert reachable(service)
    assert service.url == url


def test_a_frozen_server_accepts_and_does_not_answer(redis: Service) -> None:
    redis.freeze()
    try:
        with socket.create_connection(("127.0.0.1", redis.port), 5) as connection:
            connection.settimeout(0.3)
            connection.sendall(b"PING\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(10)
            redis.thaw()
            connection.settimeout(5)
            assert connection.recv(10) == b"+PONG\r\n"
    finally:
        redis.thaw()


def test_servers_listen_on_loopback_only(service: Service) -> None:
    import psutil

    ports = {c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert {ip for ip, port in ports if port == service.port} == {"127.0.0.1"}


def test_each_test_has_a_database_of_its_own(postgresql_url: str, mariadb_url: str) -> None:
    import sqlalchemy

    for url in (
        postgresql_url.replace(":", "+psycopg:", 1),
        mariadb_url.replace(":", "+pymysql:", 1),
    ):
        engine = sqlalchemy.create_engine(url)
        assert sqlalchemy.inspect(engine).get_table_names() == []
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE leftover (id INT)"))
        engine.dispose()


def test_a_server_that_was_left_dead_is_started_for_the_next_test_part_1(redis: Service) -> None:
    redis.kill()


def test_a_server_that_was_left_dead_is_started_for_the_next_test_part_2(redis_url: str) -> None:
    host, _, port = redis_url.removeprefix("redis://").removesuffix("/0").partition(":")
    socket.create_connection((host, int(port)), 5).close()


def test_a_new_bucket_is_there(s3_url: str, s3_bucket: str) -> None:
    from urllib.request import ProxyHandler, build_opener

    with build_opener(ProxyHandler({})).open(f"{s3_url}/{s3_bucket}", timeout=5) as answer:
        assert b"ListBucketResult" in answer.read()


def test_closing_leaves_no_process_and_no_directory() -> None:
    from tests.services import start_redis

    service = start_redis()
    service.close()
    assert not Path(service.directory).exists()
    deadline = time.monotonic() + 5
    while reachable(service) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not reachable(service)
