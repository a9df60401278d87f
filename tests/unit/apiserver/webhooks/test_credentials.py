"""Whom webhooks see: users of a kubeconfig, by the host that is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.webhooks import token_files
from kubecore.apiserver.webhooks.credentials import Credential, Credentials, load
from kubecore.clock import RealClock, VirtualClock

CLOCK = RealClock()
HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: WebhookAdmissionConfiguration\n"


def read(folder: Path, users: dict[str, object], **more: object) -> Credentials:
    file = folder / "kubeconfig"
    listed = [{"name": name, "user": user} for name, user in users.items()]
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": listed, **more}))
    return load(f"{HEAD}kubeConfigFile: {file}")


async def test_without_a_configuration_nobody_is_shown() -> None:
    assert await load("").of("a.b.svc", 443).shown(CLOCK) == []


@pytest.mark.parametrize(
    ("host", "port", "token"),
    [
        ("hook.tools.svc", 8443, "exact-with-port"),
        ("hook.tools.svc", 443, "exact"),
        ("other.tools.svc", 443, "of-the-namespace"),
        ("other.tools.svc", 8443, "any"),
        ("hook.example.org", 443, "any"),
    ],
)
async def test_the_user_is_the_one_that_is_named_for_the_host(tmp_path: Path, host: str, port: int, token: str) -> None:
    named = {
        "hook.tools.svc:8443": "exact-with-port",
        "hook.tools.svc": "exact",
        "*.tools.svc": "of-the-namespace",
        "*": "any",
    }
    found = read(tmp_path, {name: {"token": given} for name, given in named.items()})
    assert await found.of(host, port).shown(CLOCK) == [("Authorization", f"Bearer {token}")]


async def test_the_current_contexts_user_is_shown_where_none_is_named(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"me": {"username": "u", "password": "p"}},
        contexts=[{"name": "c", "context": {"user": "me"}}],
        **{"current-context": "c"},
    )
    assert await found.of("h.example.org", 443).shown(CLOCK) == [("Authorization", "Basic dTpw")]


class Reads:
    """How often token files were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0

        async def read(work: Callable[[], str], name: str) -> str:
            self.count += 1
            await asyncio.sleep(0)
            return work()

        monkeypatch.setattr(token_files, "on_own_thread", read)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


def of_file(folder: Path, token: str | None) -> Credential:
    if token is not None:
        (folder / "token").write_text(token)
    return read(folder, {"*": {"tokenFile": "token", "as": "bob", "as-groups": ["a", "b"]}}).of("h", 443)


async def token(credential: Credential, clock: VirtualClock) -> str:
    return (await credential.shown(clock))[0][1]


async def test_a_token_of_a_file_is_shown_beside_what_else_is_said(tmp_path: Path) -> None:
    others = [("Impersonate-User", "bob"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")]
    assert await of_file(tmp_path, "first\n").shown(CLOCK) == [("Authorization", "Bearer first"), *others]


async def test_a_file_is_read_once_for_all_calls_of_fifty_seconds(tmp_path: Path, reads: Reads) -> None:
    clock, found = VirtualClock(), of_file(tmp_path, "first")
    assert await asyncio.gather(*(token(found, clock) for _ in range(5))) == ["Bearer first"] * 5
    (tmp_path / "token").write_text("second")
    await clock.advance(49)
    assert (await token(found, clock), reads.count) == ("Bearer first", 1)
    await clock.advance(1)
    assert (await token(found, clock), reads.count) == ("Bearer second", 2)


async def test_a_file_is_read_again_once_what_it_said_was_refused(tmp_path: Path, reads: Reads) -> None:
    clock, found = VirtualClock(), of_file(tmp_path, "first")
    began = clock.monotonic()
    assert await token(found, clock) == "Bearer first"
    (tmp_path / "token").write_text("second")
    found.refused(began)  # it was shown before this one had been read
    assert await token(found, clock) == "Bearer first"
    await clock.advance(1)
    found.refused(clock.monotonic())
    assert await token(found, clock) == "Bearer second"


async def test_a_file_that_cannot_be_read_leaves_the_token_that_there_was(tmp_path: Path, reads: Reads) -> None:
    clock, found = VirtualClock(), of_file(tmp_path, "first")
    await token(found, clock)
    (tmp_path / "token").write_text(" \n")
    await clock.advance(60)
    assert await token(found, clock) == "Bearer first"
    (tmp_path / "token").unlink()
    assert await token(found, clock) == "Bearer first"
    (tmp_path / "token").write_text("second")
    assert await token(found, clock) == "Bearer second"


async def test_a_token_that_there_never_was_is_told_of(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(OSError, match=f'failed to read token file "{file}": No such file or directory'):
        await of_file(tmp_path, None).shown(CLOCK)
    with pytest.raises(OSError, match=f'read empty token from file "{file}"'):
        await of_file(tmp_path, "").shown(CLOCK)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "kubeConfigFile: relative", 'kubeConfigFile: Invalid value: "relative": must be an absolute file path'),
        (HEAD + "kubeConfigFile: /no/such/file", "open /no/such/file: no such file or directory"),
        (HEAD, 'kubeConfigFile: Invalid value: "": must be an absolute file path'),
        (HEAD + "kubeConfig: x", 'unknown field "kubeConfig"'),
        ("apiVersion: v1\nkind: WebhookAdmission", 'no kind "WebhookAdmission" is registered for version "v1"'),
    ],
)
def test_what_is_not_right_is_told(text: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told):
        load(text)


def test_programs_that_bring_credentials_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match="credentials by exec are not supported for webhooks"):
        read(tmp_path, {"*": {"exec": {"command": "x"}}})
