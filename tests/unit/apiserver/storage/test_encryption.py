"""EncryptionConfigurations, and why a file is none: in kube-apiserver's words, without its secrets."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kubecore.api.configuration_file import InvalidConfiguration
from kubecore.apiserver.storage.encryption import EncryptionOptions, Sealing, load
from kubecore.clock import VirtualClock

SECRET = bytes(range(32))
KEY = {"name": "one", "secret": base64.b64encode(SECRET).decode()}
IDENTITY: dict[str, Any] = {"identity": {}}


def text(*entries: dict[str, Any]) -> str:
    head = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration"}
    return json.dumps({**head, "resources": list(entries)})


def entry(*providers: dict[str, Any], resources: tuple[str, ...] = ("secrets",)) -> dict[str, Any]:
    return {"resources": list(resources), "providers": list(providers)}


def test_resources_become_prefixes_of_keys_in_their_order() -> None:
    sealed = {"aescbc": {"keys": [KEY]}}
    names = ("secrets", "deployments.apps", "*.batch", "*.")
    rules = load(text(entry(sealed, IDENTITY, resources=names[:3]), entry(IDENTITY, resources=("*.*",))))
    providers = [("aescbc", [("one", SECRET)]), ("identity", [])]
    assert rules == [
        ("/registry/core/secrets/", providers),
        ("/registry/apps/deployments/", providers),
        ("/registry/batch/", providers),
        ("/registry/", [("identity", [])]),
    ]
    assert load(text(entry(IDENTITY, resources=("*.",))))[0][0] == "/registry/core/"


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ([], "resources: Required value: at least one resources is required"),
        ([entry()], "resources[0].providers: Required value: at least one resources[0].providers is required"),
        ([entry({})], "provider does not contain any of the expected providers"),
        ([entry({"identity": {}, "aesgcm": {"keys": [KEY]}})], "more than one provider specified in a single element"),
        ([entry({"aesgcm": {"keys": []}})], "resources[0].providers[0].aesgcm.keys: Required value: at least one keys"),
        (
            [entry({"secretbox": {"keys": [{"name": "x", "secret": "c2hvcnQ="}]}})],
            'secret: Invalid value: "REDACTED": secret is not of the expected length, got 5, expected one of [32]',
        ),
        ([entry({"aesgcm": {"keys": [{"name": "x", "secret": "*"}]}})], "secrets must be base64 encoded"),
        ([entry({"aesgcm": {"keys": [{"secret": KEY["secret"]}]}})], "name is a mandatory field for a key"),
        ([entry({"kms": {"name": "x"}})], "KMS plugins are not part of this version"),
        ([entry(IDENTITY, resources=("Secrets",))], "resource name should not contain capital letters"),
        ([entry(IDENTITY, resources=("*",))], "use '*.' to encrypt all the resources from core API group"),
        ([entry(IDENTITY, resources=("secrets", "*."))], "using overlapping resources"),
        ([entry(IDENTITY, resources=("secrets", "secrets"))], "the same resource cannot be specified multiple times"),
        (
            [entry(IDENTITY, resources=("*.*",)), entry(IDENTITY)],
            'resource "secrets" is masked by earlier rule "*.*"',
        ),
        (
            [entry(IDENTITY, resources=("*.apps",)), entry(IDENTITY, resources=("deployments.apps",))],
            'resource "deployments.apps" is masked by earlier rule "*.apps"',
        ),
        (
            [entry(IDENTITY, resources=("*.",)), entry(IDENTITY, resources=("*.",))],
            'resource "*." is masked by earlier rule "*."',
        ),
        ([entry(IDENTITY, resources=("secrets.*",))], "encrypting the same resource across groups is not supported"),
        ([{**entry(IDENTITY), "color": "red"}], 'strict decoding error: unknown field "resources[0].color"'),
    ],
)
def test_what_is_not_right_is_told_with_its_place(entries: list[dict[str, Any]], told: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        load(text(*entries))
    assert told in str(refused.value)
    assert KEY["secret"] not in str(refused.value)


@pytest.mark.parametrize(("content", "told"), [("", "is empty"), ("kind: [", "error converting YAML to JSON")])
def test_a_file_that_is_no_configuration_is_refused_by_name(tmp_path: Path, content: str, told: str) -> None:
    """An empty one would leave everything as it is, unencrypted."""
    file = tmp_path / "encryption.yaml"
    file.write_text(content)
    with pytest.raises(InvalidConfiguration, match=f'^encryption provider configuration file "{file}".*{told}'):
        Sealing(EncryptionOptions(config_file=file), VirtualClock())
