"""Admission webhooks are shown who calls: what their plugin's configuration says, mutating ones and others apart."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
import yaml
from aiohttp import web

from kubecore.apiserver.admission.options import AdmissionOptions
from tests.support.admission_webhook import MAPS, Hook, allow
from tests.support.conversion_webhook import ConversionWebhook, serving

from .conftest import Api, config_map
from .hooks import registered
from .serving import served

pytestmark = pytest.mark.asyncio

JSON = dict[str, Any]


class Seen(ConversionWebhook):
    """Keeps what each call showed: the header, and the certificate's common name."""

    shown: list[tuple[str, str]]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        names = [value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"]
        self.shown.append((request.headers.get("Authorization", ""), "".join(names)))
        return await super().handle(request)


def configured(folder: Path, name: str, users: JSON) -> str:
    file = folder / f"{name}.kubeconfig"
    listed = [{"name": host, "user": user} for host, user in users.items()]
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "users": listed}))
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration"}
    return orjson.dumps({**document, "kubeConfigFile": str(file)}).decode()


async def test_each_plugin_shows_what_its_configuration_says(tmp_path: Path) -> None:
    clients = trustme.CA()
    pair = clients.issue_cert("apiserver@example.com", common_name="the-api-server")
    hook = Hook(allow)
    seen = Seen(answer=hook.answer)
    seen.shown = []
    hook.served = seen
    async with serving(seen, trusting=clients):
        chain = b"".join(one.bytes() for one in pair.cert_chain_pems)
        encoded = {"certificate": chain, "key": pair.private_key_pem.bytes()}
        data = {f"client-{name}-data": base64.b64encode(given).decode() for name, given in encoded.items()}
        options = AdmissionOptions(
            configuration={
                "MutatingAdmissionWebhook": configured(tmp_path, "m", {"*": {"token": "mutates"}}),
                "ValidatingAdmissionWebhook": configured(tmp_path, "v", {f"127.0.0.1:{seen.port}": data}),
            }
        )
        async with served(tmp_path, admission=options) as server:
            cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
            api = Api(cluster.transport)
            webhook = hook.configured("one.example.com", [MAPS])
            async with registered(cluster, "Mutating", webhook), registered(cluster, "Validating", webhook):
                assert (await api.create("v1/configmaps", config_map("a")))[0] == 201
    assert seen.shown == [("Bearer mutates", ""), ("", "the-api-server")]


async def test_a_key_of_another_certificate_fails_the_call(tmp_path: Path) -> None:
    clients = trustme.CA()
    pair, other = (clients.issue_cert(name) for name in ("a@example.com", "b@example.com"))
    encoded = {"certificate": pair.cert_chain_pems[0].bytes(), "key": other.private_key_pem.bytes()}
    data = {f"client-{name}-data": base64.b64encode(given).decode() for name, given in encoded.items()}
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().load_cert_chain(_written(tmp_path, b"\n".join(encoded.values())))
    hook = Hook(allow)
    hook.served = ConversionWebhook(answer=hook.answer)
    options = AdmissionOptions(
        configuration={"ValidatingAdmissionWebhook": configured(tmp_path, "v", {"*": data})},
    )
    async with serving(hook.served), served(tmp_path, admission=options) as server:
        cluster = Api(server.transport(username="admin", groups=["system:masters"]), "")
        async with registered(cluster, "Validating", hook.configured("one.example.com", [MAPS])):
            status, answer = await Api(cluster.transport).create("v1/configmaps", config_map("a"))
    assert status == 500
    assert "could not get REST client: tls: private key does not match public key" in answer["message"]
    assert hook.requests == []


def _written(folder: Path, pem: bytes) -> Path:
    file = folder / "pair.pem"
    file.write_bytes(pem)
    return file
