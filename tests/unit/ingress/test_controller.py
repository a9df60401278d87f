"""The controller follows the cluster, serves what it finds, and tells what it cannot serve."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import trustme

from kubecore.client.client import Object
from kubecore.ingress.controller import IngressController
from kubecore.ingress.options import IngressConfig
from tests.support.ports import free_port
from tests.support.running import RunningComponent
from tests.unit.ingress.builders import backend, endpoint_slice, ingress, ingress_class, path, rule, service

INGRESSES, CLASSES = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io"
SLICES = "endpointslices.discovery.k8s.io"
ADDRESS = f"127.{64 + os.getpid() % 64}.{os.getpid() // 64 % 250}.7"
"""A loopback address of this process's own, so that its ports are free."""


class Running(RunningComponent):
    """A cluster and its Ingress controller, in virtual time."""

    resources = {
        "Ingress": INGRESSES,
        "IngressClass": CLASSES,
        "Service": "services",
        "EndpointSlice": SLICES,
        "Secret": "secrets",
    }
    controller: IngressController
    external: tuple[str, ...] = ()
    """What all external names lead to."""

    async def look_up(self, name: str) -> list[str]:
        return list(self.external)

    async def start(self, **config: Any) -> None:
        settings = IngressConfig(
            **{"address": ADDRESS, "http_port": 0, "https_port": 0, "grace_seconds": 0.0, **config}
        )
        client = self.api.client("kubecore-ingress")
        self.controller = IngressController(client, self.clock, settings, look_up=self.look_up)
        await self.run(self.controller.run())
        assert self.controller.ready.is_set()

    def status(self, name: str = "web") -> Object:
        found = self.api.get(INGRESSES, name)
        assert found is not None
        return dict((found.get("status") or {}).get("loadBalancer") or {})

    def events(self, kind: str = "Warning") -> list[tuple[str, str]]:
        return [(one["reason"], one["message"]) for one in self.api.all("events") if one["type"] == kind]

    def goes_to(self, host: str, text: str = "/") -> str | None:
        return self.controller.proxy.route(host, text)

    async def shown(self, host: str) -> bytes:
        """The certificate, as PEM."""

        def ask() -> bytes:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with (
                socket.create_connection((ADDRESS, self.controller.ports["https"]), timeout=60) as plain,
                context.wrap_socket(plain, server_hostname=host) as made,
            ):
                found = made.getpeercert(binary_form=True)
            assert found is not None
            return ssl.DER_cert_to_PEM_cert(found).encode()

        return await asyncio.to_thread(ask)


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running()
    yield made
    await made.stop()


async def test_there_is_a_default_class_unless_another_is_the_default(running: Running) -> None:
    await running.start()
    made = running.api.get(CLASSES, "kubecore", "")
    assert made is not None
    assert made["spec"]["controller"] == "kubecore.dev/ingress"
    assert made["metadata"]["annotations"] == {"ingressclass.kubernetes.io/is-default-class": "true"}


async def test_our_class_is_not_made_the_default_beside_another_one(running: Running) -> None:
    await running.add(ingress_class("nginx", controller="k8s.io/ingress-nginx"))
    await running.start()
    made = running.api.get(CLASSES, "kubecore", "")
    assert made is not None
    assert not made["metadata"].get("annotations")


async def test_nothing_is_listened_for_before_the_first_ingress(running: Running) -> None:
    await running.start()
    assert running.controller.ports == {}
    await running.add(ingress("others", class_name="nginx"))
    assert running.controller.ports == {}
    await running.add(ingress())
    ports = running.controller.ports
    assert ports.keys() == {"http", "https"}
    for port in ports.values():
        with socket.create_connection((ADDRESS, port), timeout=30):
            pass


async def test_an_ingress_is_routed_and_its_status_shows_where(running: Running) -> None:
    await running.start()
    await running.add(service(), endpoint_slice("10.0.0.1"), ingress())
    ports = running.controller.ports
    assert running.goes_to("foo.com", "/x") == "default/web:80"
    assert running.status() == {
        "ingress": [
            {
                "ip": ADDRESS,
                "ports": [
                    {"port": ports["http"], "protocol": "TCP"},
                    {"port": ports["https"], "protocol": "TCP"},
                ],
            }
        ]
    }
    assert running.events() == []
    assert running.events("Normal") == [("Sync", "Scheduled for sync")]


async def test_changes_and_deletions_are_followed(running: Running) -> None:
    await running.start()
    await running.add(ingress())
    running.api.change(INGRESSES, "web", spec={"ingressClassName": "kubecore", "rules": [rule("bar.com")]})
    await running.settle()
    assert (running.goes_to("foo.com"), running.goes_to("bar.com")) == (None, "default/web:80")
    running.api.remove(INGRESSES, "web")
    await running.settle()
    assert running.goes_to("bar.com") is None
    assert running.controller.proxy.statistics()["backends"] == []


async def test_an_ingress_that_goes_to_another_class_is_left_with_an_empty_status(running: Running) -> None:
    await running.start()
    await running.add(ingress())
    assert running.status()
    running.api.change(INGRESSES, "web", spec={"ingressClassName": "nginx", "rules": [rule()]})
    await running.settle()
    assert running.goes_to("foo.com") is None
    assert running.status() == {}


async def test_a_status_that_somebody_else_has_overwritten_is_restored(running: Running) -> None:
    await running.start()
    await running.add(ingress())
    before = running.status()
    running.api.change(INGRESSES, "web", status={"loadBalancer": {}})
    await running.settle()
    assert running.status() == before


async def test_a_status_is_written_again_after_a_failure(running: Running) -> None:
    await running.start()
    running.api.react(f"update {INGRESSES}/status", OSError("gone"), times=2)
    await running.add(ingress())
    await running.clock.advance(5)
    assert running.status()


async def test_the_class_s_default_backend_takes_what_is_left(running: Running) -> None:
    await running.start()
    running.api.change(
        CLASSES,
        "kubecore",
        "",
        metadata={"name": "kubecore", "annotations": {"kubecore.dev/default-backend": "default/errors:80"}},
    )
    await running.settle()
    assert running.goes_to("anything", "/x") == "default/errors:80"
    await running.add(ingress("web", defaultBackend=backend("web")))
    assert running.goes_to("anything", "/x") == "default/web:80"


async def test_missing_services_are_told_once_and_served_when_they_come(running: Running) -> None:
    await running.start()
    await running.add(ingress())
    assert running.events() == [("MissingService", "Service default/web does not exist")]
    running.api.change(INGRESSES, "web", metadata={"name": "web", "namespace": "default", "annotations": {"a": "b"}})
    await running.settle()
    assert len(running.events()) == 1
    await running.add(service(), endpoint_slice("10.0.0.1"))
    assert len(running.events()) == 1
    assert [name for name, *_ in running.controller.proxy.statistics()["backends"]] == ["default/web:80"]


async def test_resource_backends_and_conflicts_are_told(running: Running) -> None:
    await running.start()
    bucket = {"path": "/files", "pathType": "Prefix", "backend": {"resource": {"kind": "Bucket", "name": "files"}}}
    await running.add(service(), ingress("old", rule("foo.com", path("/"), bucket)))
    await running.add(ingress("new", created="2026-02-01T00:00:00Z"))
    assert sorted(reason for reason, _ in running.events()) == ["Conflict", "UnsupportedBackend"]


# ---------------------------------------------------------------- certificates
def secret(name: str, data: dict[str, bytes]) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": "default"},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }


def pair(host: str, **times: datetime) -> dict[str, bytes]:
    """`times`: not_before, not_after."""
    made = trustme.CA().issue_cert(host, **times)  # type: ignore[arg-type]
    return {"tls.crt": made.cert_chain_pems[0].bytes(), "tls.key": made.private_key_pem.bytes()}


async def test_only_secrets_that_are_named_are_watched(running: Running) -> None:
    await running.start()
    assert not running.api.is_watched("secrets")
    await running.add(service(), ingress(tls=[{"hosts": ["foo.com"], "secretName": "cert"}]))
    assert running.api.is_watched("secrets")
    running.api.remove(INGRESSES, "web")
    await running.settle()
    assert not running.api.is_watched("secrets")


async def test_missing_and_broken_certificates_are_told_until_there_is_a_good_one(running: Running) -> None:
    await running.start()
    await running.add(service(), ingress(tls=[{"hosts": ["foo.com"], "secretName": "cert"}]))
    await running.add(secret("cert", {"tls.crt": b"nonsense", "tls.key": b"nonsense"}))
    made, other = pair("foo.com"), pair("foo.com")
    for data in ({**made, "tls.key": other["tls.key"]}, {**made, "tls.key": b""}, made):
        running.api.change("secrets", "cert", data=secret("cert", data)["data"])
        await running.settle()
    told = running.events()
    assert [reason for reason, _ in told] == ["MissingSecret"] + ["BadCertificate"] * 3
    assert "Secret default/cert does not exist" in told[0][1]
    assert "has no tls.key" in told[3][1]


async def test_a_certificate_is_shown_on_while_its_secret_is_broken_and_not_once_that_is_deleted(
    running: Running,
) -> None:
    await running.start()
    first, second = pair("foo.com"), pair("foo.com")
    await running.add(service(), secret("cert", first), ingress(tls=[{"hosts": ["foo.com"], "secretName": "cert"}]))
    assert await running.shown("foo.com") == first["tls.crt"]
    for broken in ({**first, "tls.crt": b"nonsense"}, {**second, "tls.crt": first["tls.crt"]}):
        running.api.change("secrets", "cert", data=secret("cert", broken)["data"])
        await running.settle()
        assert await running.shown("foo.com") == first["tls.crt"]
        assert running.events()[-1][1].endswith(": the certificate that it had before is shown on")
    running.api.change("secrets", "cert", data=secret("cert", second)["data"])
    await running.settle()
    assert await running.shown("foo.com") == second["tls.crt"]
    running.api.remove("secrets", "cert")
    await running.settle()
    await running.add(secret("cert", {"tls.crt": b"nonsense", "tls.key": b"nonsense"}))
    assert await running.shown("foo.com") not in (first["tls.crt"], second["tls.crt"])


async def test_a_certificate_is_judged_by_time_and_name_and_again_when_its_time_comes(running: Running) -> None:
    await running.start()
    now = running.clock.now()
    aged = pair("bar.com", not_before=now + timedelta(hours=30), not_after=now + timedelta(hours=60))
    await running.add(service(), secret("cert", aged), ingress(tls=[{"hosts": ["foo.com"], "secretName": "cert"}]))
    assert {reason for reason, _ in running.events()} == {"CertificateNotYetValid", "CertificateHostMismatch"}
    assert "is for bar.com, not for foo.com" in str(running.events())
    for _ in range(3):
        await running.clock.advance(24 * 3600)
        await running.settle()
    assert [reason for reason, _ in running.events()][2:] == ["CertificateExpired"]


# ---------------------------------------------------------------- ports
async def test_a_port_that_is_taken_is_told_and_tried_again(running: Running) -> None:
    port = free_port()
    with socket.create_server((ADDRESS, port)):
        await running.start(http_port=port)
        await running.add(service(), ingress())
        assert running.events() == [
            ("FailedToListen", f"cannot listen on {ADDRESS} port {port} for http: Address already in use")
        ]
    await running.clock.advance(5)
    assert running.controller.ports["http"] == port
    assert {"port": port, "protocol": "TCP"} in running.status()["ingress"][0]["ports"]


async def test_another_address_may_be_published(running: Running) -> None:
    await running.start(published="192.0.2.1")
    await running.add(service(), ingress())
    assert running.status()["ingress"][0]["ip"] == "192.0.2.1"


async def test_counts_are_shown_to_prometheus(running: Running) -> None:
    await running.start()
    await running.add(service(), ingress())
    text = running.controller.metrics().decode()
    assert "# TYPE kubecore_ingress_requests_total counter" in text
    assert "\nkubecore_ingress_hosts 1\n" in text


async def test_a_service_may_stand_for_a_name_elsewhere_which_is_looked_up_again(running: Running) -> None:
    running.external = ("192.0.2.1",)
    await running.start()
    await running.add(service(type="ExternalName", externalName="api.example.com"), ingress())
    assert (running.goes_to("foo.com"), running.events()) == ("default/web:80", [])
    running.external = ("169.254.169.254",)
    await running.clock.advance(60)
    assert [reason for reason, _ in running.events()] == ["UnusableName"]
