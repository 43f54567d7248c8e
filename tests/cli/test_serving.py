"""What `wellkept serve` refuses before it serves."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wellkept.cli import main


def refused(*arguments: str) -> int:
    try:
        main(["serve", *arguments])
    except SystemExit as error:
        return int(error.code or 0)
    raise AssertionError("it served")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["./a", "--cert", "x.pem"], "both --cert and --key"),
        (["./a", "--cert", "x.pem", "--key", "y.pem"], "can't use the certificate"),
        (
            ["./a", "--listen", "8750"],
            "--listen '8750' is no address to listen on; write HOST:PORT",
        ),
        (["./a", "--listen", "127.0.0.1:x"], "HOST:PORT"),
        (["./a", "--listen", "127.0.0.1:99999"], "can't listen"),
        (["./a", "--listen", "0.0.0.0:0"], "without a certificate"),
        (["./a", "--listen", "[::]:0"], "without a certificate"),
        (["./a", "--rate", "-1"], "--rate is 0 or more, not -1,"),
        (["./a", "--deadline", "0"], "a day, not 0"),
        (["./a", "--largest", "much"], "--largest: not a size: 'much'"),
        (["./a", "./b"], "two caches"),
        (["x=./a", "x=./b"], "two caches"),
        (["v1=./a"], "not a namespace"),
        (["./a", "./b", "--stdio"], "one cache"),
        (["nowhere:x"], "nowhere"),
        (["both"], "can't serve a"),
    ],
)
def test_what_can_not_be_served(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    (home / "wellkept.toml").write_text(
        '[caches]\nnear = "./near"\n[caches.both]\nstack = ["near", "./far"]\n'
    )
    assert refused(*arguments) == 2
    said = capsys.readouterr().err
    assert any(word in said for word in says.split("|")), said


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert refused("./a", "--listen", f"127.0.0.1:{taken.getsockname()[1]}") == 2
    assert "can't listen" in capsys.readouterr().err


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM]
)
def test_it_says_where_and_ends(number: signal.Signals, home: Path) -> None:
    command = [sys.executable, "-m", "wellkept", "serve", "a=./x", "b=memory:"]
    with subprocess.Popen(
        [*command, "--listen", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = process.stdout.readline()
        assert said.startswith("serving a, b on http://127.0.0.1:")
        process.send_signal(number)
        assert process.wait(20) == 0
        assert "nobody may do anything" in process.stderr.read()
