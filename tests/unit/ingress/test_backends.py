"""Where a Service's port leads."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from kubecore.ingress.backends import Backend, resolve
from kubecore.ingress.external_names import Found
from kubecore.ingress.rules import BackendRef
from kubecore.ingress.terms import Terms
from tests.unit.ingress.builders import endpoint_slice, service

WEB = BackendRef("default/web", 80)


def test_ready_endpoints_of_the_port_are_destinations() -> None:
    slices = [endpoint_slice("10.0.0.2", "10.0.0.1"), endpoint_slice("10.0.0.3", ready=False)]
    assert resolve(WEB, service(), slices) == (Backend((("10.0.0.1", 8080, 1), ("10.0.0.2", 8080, 1))), [])


def test_draining_endpoints_serve_while_none_is_ready() -> None:
    draining = endpoint_slice("10.0.0.1", ready=False, serving=True, terminating=True)
    assert resolve(WEB, service(), [draining])[0].destinations == (("10.0.0.1", 8080, 1),)
    assert resolve(WEB, service(), [draining, endpoint_slice("10.0.0.2")])[0].destinations == (("10.0.0.2", 8080, 1),)


@pytest.mark.parametrize("port", [81, "admin"])
def test_a_port_is_found_by_number_or_name(port: int | str) -> None:
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    slices = [endpoint_slice("10.0.0.1", name="http"), endpoint_slice("10.0.0.1", name="admin", port=9090)]
    found, problems = resolve(BackendRef("default/web", port), service("web", *ports), slices)
    assert (found.destinations, problems) == ((("10.0.0.1", 9090, 1),), [])


@pytest.mark.parametrize(
    ("app_protocol", "spoken", "problems"),
    [
        ("http", "http", []),
        ("kubernetes.io/ws", "http", []),
        ("kubernetes.io/h2c", "h2c", []),
        ("grpc", "h2c", []),
        ("https", "https", []),
        ("kubernetes.io/wss", "https", []),
        ("fcgi", "http", ["UnsupportedProtocol"]),
    ],
)
def test_the_port_says_what_is_spoken(app_protocol: str, spoken: str, problems: list[str]) -> None:
    found, told = resolve(WEB, service("web", {"port": 80, "appProtocol": app_protocol}), [])
    assert (found.protocol, [one.reason for one in told]) == (spoken, problems)


def test_the_service_says_how_it_is_balanced() -> None:
    affinity: dict[str, Any] = {
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
    }
    found, _ = resolve(WEB, service(annotations={"kubecore.dev/scheduler": "wlc"}, **affinity), [])
    assert (found.scheduler, found.affinity_seconds) == ("wlc", 60.0)
    found, problems = resolve(WEB, service(annotations={"kubecore.dev/scheduler": "best"}), [])
    assert (found.scheduler, [one.reason for one in problems]) == ("rr", ["UnknownScheduler"])


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "Service default/web does not exist"),
        (service("web", {"port": 8080}), "Service default/web has no port 80"),
    ],
)
def test_what_cannot_be_had_is_told(found: dict[str, Any] | None, message: str) -> None:
    made, (problem,) = resolve(WEB, found, [endpoint_slice("10.0.0.1")])
    assert made.destinations == ()
    assert message in problem.message


def test_a_pod_of_two_addresses_is_one_destination_of_the_services_first_family() -> None:
    six = {**endpoint_slice("fd00::1"), "addressType": "IPv6"}
    slices = [endpoint_slice("10.0.0.1"), six]
    for families, address in ((["IPv4", "IPv6"], "10.0.0.1"), (["IPv6", "IPv4"], "fd00::1")):
        assert resolve(WEB, service(ipFamilies=families), slices)[0].destinations == ((address, 8080, 1),)
    assert resolve(WEB, service(ipFamilies=["IPv4", "IPv6"]), [six])[0].destinations == (("fd00::1", 8080, 1),)


# ---------------------------------------------------------------- TLS
def secured(**terms: Any) -> BackendRef:
    return BackendRef("default/web", 80, Terms(protocol="https", **terms))


def trust(**data: str) -> dict[str, Any]:
    encoded = {name.replace("_", "."): base64.b64encode(text.encode()).decode() for name, text in data.items()}
    return {"metadata": {"namespace": "default", "name": "ca"}, "data": encoded}


def test_tls_asks_for_the_service_s_own_name_and_believes_any_certificate() -> None:
    found, problems = resolve(secured(), service(), [endpoint_slice("10.0.0.1")])
    assert (found.protocol, found.tls_name, found.tls_roots, problems) == ("https", "web.default.svc", None, [])
    assert len(found.destinations) == 1


def test_a_certificate_is_verified_by_the_secret_s_ca() -> None:
    ref = secured(tls_verify=True, tls_secret="default/ca", tls_name="foo.com")
    found, problems = resolve(ref, service(), [], trust(ca_crt="root", tls_crt="chain", tls_key="key"))
    assert (found.tls_name, found.tls_roots, found.tls_identity) == ("foo.com", b"root", (b"chain", b"key"))
    assert problems == []


@pytest.mark.parametrize("secret", [None, trust(), trust(tls_crt="chain", tls_key="key")])
def test_what_is_to_be_verified_and_cannot_be_is_sent_nowhere(secret: dict[str, Any] | None) -> None:
    ref = secured(tls_verify=True, tls_secret="default/ca")
    found, (problem,) = resolve(ref, service(), [endpoint_slice("10.0.0.1")], secret)
    assert found.destinations == ()
    assert problem.reason == "MissingTrust"


class TestExternalNames:
    """Services that stand for a name elsewhere."""

    NAMED = service("web", {"port": 80, "targetPort": 8443}, type="ExternalName", externalName="api.example.com.")
    FOUND = Found(("192.0.2.1", "2001:db8::1"))

    def test_the_addresses_of_the_name_are_destinations(self) -> None:
        found, problems = resolve(WEB, self.NAMED, [], external=self.FOUND)
        assert (found.destinations, problems) == ((("192.0.2.1", 8443, 1), ("2001:db8::1", 8443, 1)), [])

    def test_a_port_need_not_be_declared(self) -> None:
        undeclared = service(type="ExternalName", externalName="x.com")
        undeclared["spec"]["ports"] = []
        assert resolve(BackendRef("default/web", 81), undeclared, [], external=self.FOUND)[0].destinations[0][1] == 81
        made, (problem,) = resolve(BackendRef("default/web", "http"), undeclared, [], external=self.FOUND)
        assert made.destinations == ()
        assert "has no port 'http'" in problem.message

    def test_while_it_is_not_known_where_the_name_leads_nothing_is_wrong(self) -> None:
        made, problems = resolve(WEB, self.NAMED, [])
        assert (made.destinations, problems) == ((), [])

    def test_what_is_wrong_with_the_name_is_told(self) -> None:
        made, (problem,) = resolve(WEB, self.NAMED, [], external=Found(("192.0.2.1",), "x.com cannot be looked up"))
        assert made.destinations == (("192.0.2.1", 8443, 1),)
        assert problem.message == "external name of Service default/web: x.com cannot be looked up"

    def test_in_tls_it_is_to_show_a_certificate_of_the_name(self) -> None:
        secure = BackendRef("default/web", 80, Terms(protocol="https"))
        assert resolve(secure, self.NAMED, [], external=self.FOUND)[0].tls_name == "api.example.com"
