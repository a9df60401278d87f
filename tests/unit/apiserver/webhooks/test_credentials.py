"""Whom webhooks see: users of a kubeconfig, by the host that is called."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.webhooks.credentials import Credentials, load

HEAD = "apiVersion: apiserver.config.k8s.io/v1\nkind: WebhookAdmissionConfiguration\n"


def read(folder: Path, users: dict[str, object], **more: object) -> Credentials:
    file = folder / "kubeconfig"
    listed = [{"name": name, "user": user} for name, user in users.items()]
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": listed, **more}))
    return load(f"{HEAD}kubeConfigFile: {file}")


def test_without_a_kubeconfig_nobody_is_shown() -> None:
    for text in ("", HEAD):
        assert load(text).of("a.b.svc", 443).shown() == []


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
def test_the_user_is_the_one_that_is_named_for_the_host(tmp_path: Path, host: str, port: int, token: str) -> None:
    named = {
        "hook.tools.svc:8443": "exact-with-port",
        "hook.tools.svc": "exact",
        "*.tools.svc": "of-the-namespace",
        "*": "any",
    }
    found = read(tmp_path, {name: {"token": given} for name, given in named.items()})
    assert found.of(host, port).shown() == [("Authorization", f"Bearer {token}")]


def test_the_current_contexts_user_is_shown_where_none_is_named(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        {"me": {"username": "u", "password": "p"}},
        contexts=[{"name": "c", "context": {"user": "me"}}],
        **{"current-context": "c"},
    )
    assert found.of("h.example.org", 443).shown() == [("Authorization", "Basic dTpw")]


def test_a_token_that_is_renewed_in_its_file_is_shown_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\n")
    found = read(tmp_path, {"*": {"tokenFile": "token", "as": "bob", "as-groups": ["a", "b"]}}).of("h", 443)
    others = [("Impersonate-User", "bob"), ("Impersonate-Group", "a"), ("Impersonate-Group", "b")]
    assert found.shown() == [("Authorization", "Bearer first"), *others]
    (tmp_path / "token").write_text("second\n")
    assert found.shown()[0] == ("Authorization", "Bearer second")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "kubeConfigFile: relative", 'kubeConfigFile: Invalid value: "relative": must be an absolute file path'),
        (HEAD + "kubeConfigFile: /no/such/file", "No such file"),
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
