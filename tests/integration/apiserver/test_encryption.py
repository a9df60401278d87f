"""Secrets that nobody reads in the data directory: by EncryptionConfiguration, with keys that are changed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from kubecore.apiserver.server import APIServer
from kubecore.apiserver.storage.encryption import EncryptionOptions
from kubecore.apiserver.storage.interface import DataDirError

from .conftest import Api, config_map
from .serving import served

PLAIN = "a-secret-nobody-should-find"
ENCODED = base64.b64encode(PLAIN.encode()).decode()


def key(name: str, byte: int) -> dict[str, str]:
    return {"name": name, "secret": base64.b64encode(bytes([byte]) * 32).decode()}


def write(file: Path, *providers: dict[str, Any], reload: bool = True) -> EncryptionOptions:
    entry = {"resources": ["secrets"], "providers": list(providers)}
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration", "resources": [entry]}
    file.write_text(json.dumps(document))
    return EncryptionOptions(config_file=file, reload=reload)


def api(server: APIServer) -> Api:
    return Api(server.transport(username="admin", groups=["system:masters"]))


async def keep(server: APIServer, name: str) -> None:
    status, made = await api(server).create("v1/secrets", {"metadata": {"name": name}, "data": {"password": ENCODED}})
    assert status == 201, made


async def kept(server: APIServer, name: str) -> str:
    _, secret = await api(server).get("v1/secrets", name)
    return str((secret.get("data") or {}).get("password"))


def stored(folder: Path) -> bytes:
    return (folder / "data" / "storage" / "data.mdb").read_bytes()


async def test_the_file_shows_no_secret_and_the_api_does(tmp_path: Path) -> None:
    options = write(tmp_path / "encryption.json", {"aesgcm": {"keys": [key("one", 1)]}})
    async with served(tmp_path, encryption=options) as server:
        await keep(server, "a")
        assert await kept(server, "a") == ENCODED
        changed = {"data": {"password": ENCODED, "more": ENCODED}}
        assert (await api(server).patch("v1/secrets", "a", changed))[0] == 200
        assert (await api(server).create("v1/configmaps", config_map("a", value="for-all-to-see")))[0] == 201
    assert ENCODED.encode() not in stored(tmp_path)
    assert b"k8s:enc:aesgcm:v1:one:" in stored(tmp_path)
    assert b"for-all-to-see" in stored(tmp_path)
    async with served(tmp_path, encryption=options) as server:
        assert await kept(server, "a") == ENCODED


async def test_keys_are_changed_while_the_server_runs(tmp_path: Path) -> None:
    file = tmp_path / "encryption.json"
    identity: dict[str, Any] = {"identity": {}}
    old, new = {"aesgcm": {"keys": [key("old", 1)]}}, {"secretbox": {"keys": [key("new", 2)]}}
    async with served(tmp_path, encryption=write(file, identity)) as server:
        await keep(server, "a")
        await server.look()
        write(file, old, identity)
        await server.look()
        await keep(server, "b")
        write(file, new, old)
        await server.look()
        assert [await kept(server, name) for name in "ab"] == [ENCODED, ENCODED]
    # The old key is not needed any more, for any of them.
    async with served(tmp_path, encryption=write(file, new)) as server:
        assert [await kept(server, name) for name in "ab"] == [ENCODED, ENCODED]


async def test_a_configuration_that_cannot_read_what_is_there_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "encryption.json"
    async with served(tmp_path, encryption=write(file, {"aesgcm": {"keys": [key("one", 1)]}})) as server:
        await keep(server, "a")
        write(file, {"aesgcm": {"keys": [key("two", 2)]}})
        await server.look()
        await keep(server, "b")
        assert await kept(server, "a") == ENCODED
    told = (
        r"what is encrypted in .* cannot be read: .*unable to decrypt: .*; "
        f'--encryption-provider-config "{file}" does not say how'
    )
    with pytest.raises(DataDirError, match=told):
        async with served(tmp_path, encryption=write(file, {"aesgcm": {"keys": [key("two", 2)]}})):
            pass


async def test_what_is_encrypted_is_not_read_without_a_configuration_and_the_flag_is_named(tmp_path: Path) -> None:
    file = tmp_path / "encryption.json"
    async with served(tmp_path, encryption=write(file, {"aesgcm": {"keys": [key("one", 1)]}})) as server:
        await keep(server, "a")
    told = "unable to decrypt: .*; it was encrypted: --encryption-provider-config has to name the keys"
    with pytest.raises(DataDirError, match=told):
        async with served(tmp_path):
            pass
