"""Secrets: from the environment only, and never shown."""

import warnings
from pathlib import Path

import pytest

import wellkept
from wellkept import ConfigError, KeptWarning, Stack
from wellkept.caches import named, settings
from wellkept.caches.active import reset
from wellkept.caches.config import find
from wellkept.caches.option_text import expanded, has_password, redacted

SECRET = "pass/word@1"


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WELLKEPT_CACHE")


def write(text: str) -> Path:
    made = Path("wellkept.toml")
    made.write_text(text)
    return made.absolute()


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        '[caches.db]\nurl = "postgresql://wellkept:${WELLKEPT_DB_PASSWORD}@db.invalid/wellkept"\n'
        '[caches.disk]\nurl = "${WELLKEPT_SCRATCH}/wellkept"\n'
        '[caches.deep]\nurl = "files:${WELLKEPT_SCRATCH}/files"\n'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = find()
    assert (
        found.caches["db"].url
        == "postgresql://wellkept:${WELLKEPT_DB_PASSWORD}@db.invalid/wellkept"
    )
    for name, variable in [("db", "WELLKEPT_DB_PASSWORD"), ("disk", "WELLKEPT_SCRATCH")]:
        with pytest.raises(ConfigError, match=rf"wellkept\.toml.*variable {variable} is not set"):
            named(name)
    monkeypatch.setenv("WELLKEPT_DB_PASSWORD", SECRET)
    monkeypatch.setenv("WELLKEPT_SCRATCH", "scratch")
    reset()
    db = named("db")
    assert db.url == "postgresql://wellkept:pass%2Fword%401@db.invalid/wellkept"
    assert named("disk").url == str(path.parent / "scratch/wellkept")
    assert named("deep").url == f"files:{path.parent}/scratch/files"
    for said in (repr(db), repr(Stack(named("disk"), db)), settings().to_toml()):
        assert "word" not in said.replace("PASSWORD", "")
    with pytest.raises(wellkept.StoreError) as caught:
        db.calls.get("0" * 64)
    assert SECRET not in str(caught.value)
    assert "word" not in str(caught.value).replace("password", "")


def test_a_password_in_a_file_is_warned_of_and_never_shown() -> None:
    path = write('memory = 0\n[caches.db]\nurl = "redis://:s3cret@host/0"\n')
    with pytest.warns(KeptWarning, match=rf"{path}:3: caches\.db\.url: a password") as told:
        found = find()
    assert "s3cret" not in str(told[0].message)
    assert "s3cret" not in found.caches["db"].shown
    assert "s3cret" not in redacted(found.to_toml())


@pytest.mark.parametrize(
    ("url", "has"),
    [
        ("redis://:x@h", True), ("redis://u:x@h/1", True), ("redis://u@h", False), ("redis://h", False),
        ("redis://:${X}@h", False), ("s3://b/p?secret_key=x", True), ("s3://b/p?secret_key=${X}", False),
        ("s3://b?region=x", False), ("/a/b:c@d", False), ("https://h/?access_token=t", True),
        ("https://t0ken@h/x", True), ("HTTP://t0ken@h", True), ("https://${X}@h/x", False),
        ("https://h/x@y", False), ("ssh://user@h/x", False),
    ],
)  # fmt: skip
def test_what_has_a_password(url: str, has: bool) -> None:
    assert has_password(url) == has


def test_only_names_in_braces_are_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_1", "a b/c")
    assert expanded("$A_1 ${A_1} ${ A_1} $(A_1) ${A-1}") == "$A_1 a b/c ${ A_1} $(A_1) ${A-1}"
    assert expanded("x://u:${A_1}@h/p") == "x://u:a%20b%2Fc@h/p"
    assert expanded("x://h/${A_1}?k=${A_1}") == "x://h/a b/c?k=a%20b%2Fc"
    with pytest.raises(ConfigError, match="variable B is not set"):
        expanded("${B}")
