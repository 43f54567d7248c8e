"""How far many calls are: told once a line where nothing can be redrawn, and never by widgets."""

import io
import sys

import pytest

from wellkept import keep
from wellkept.memo import progress


@keep
def triple(n: int) -> int:
    return 3 * n


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is four seconds after the one before."""
    times = iter(range(0, 10_000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(times)))


def test_a_log_has_a_line_now_and_then_and_one_at_the_end(
    clock: None, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress.progress_bar("triple", 6, True) as advance:
        for _ in range(6):
            advance()
    assert capsys.readouterr().err.splitlines() == [
        "triple: 3 of 6, 16 s, about 16 s left",
        "triple: 6 of 6, 32 s",
    ]


def test_what_was_done_before_an_error_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    @keep
    def fails(n: int) -> int:
        return 1 // n

    with pytest.raises(ZeroDivisionError):
        fails.map([1, 0, 2], progress=True)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fails: 1 of 3, ")


def test_nothing_is_shown_unasked_but_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    triple.map([1, 2])
    assert capsys.readouterr().err == ""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stderr", Terminal())
    triple.map([1, 2])
    assert "2/2" in sys.stderr.getvalue()
