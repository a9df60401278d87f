from __future__ import annotations

import asyncio
import base64
import ipaddress
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.name import _ASN1Type as ASN1Type
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubecore import _native
from kubecore.apiserver.authentication.pki import CertificateAuthority
from kubecore.client.client import Object
from kubecore.clock import RealClock, VirtualClock, native_clock
from kubecore.controllers.identities.certificate_requests import CertificateRequest, Signer
from kubecore.controllers.identities.certificates import (
    REQUESTS,
    CertificateApprover,
    CertificateCleaner,
    CertificateSigner,
)
from tests.support.fake_api import FakeAPI
from tests.unit.controllers.conftest import Running

CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET, SERVING = "kubernetes.io/kube-apiserver-client-kubelet", "kubernetes.io/kubelet-serving"
NODE = "system:node:alpha"
USAGES = ("digital signature", "client auth")


def subject(common_name: str, *organizations: str) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
    return x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def pem_request(common_name: str, *organizations: str, names: tuple[x509.GeneralName, ...] = ()) -> str:
    """As spec.request has it."""
    return signed(subject(common_name, *organizations), names)


def signed(
    name: x509.Name, names: tuple[x509.GeneralName, ...] = (), key: ec.EllipticCurvePrivateKey | None = None
) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    made = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return base64.b64encode(made.public_bytes(serialization.Encoding.PEM)).decode()


def asking(
    request: str, *, signer: str = CLIENT, usages: tuple[str, ...] = USAGES, approved: bool = True, **spec: Any
) -> Object:
    conditions = [{"type": "Approved", "status": "True", "reason": "r"}] if approved else []
    asked = {"request": request, "signerName": signer, "usages": list(usages), **spec}
    return {"metadata": {"name": "r"}, "spec": asked, "status": {"conditions": conditions} if conditions else {}}


@pytest.fixture
def signer(clock: VirtualClock) -> Signer:
    key = ec.generate_private_key(ec.SECP256R1())
    authority = (
        x509.CertificateBuilder()
        .subject_name(subject("kubernetes"))
        .issuer_name(subject("kubernetes"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(clock.now() - timedelta(days=1))
        .not_valid_after(clock.now() + timedelta(days=300))
        .sign(key, hashes.SHA256())
    )
    return Signer(authority.public_bytes(serialization.Encoding.PEM), in_pem(key))


def in_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


async def outcome(api: FakeAPI, running: Running, signer: Signer, obj: Object) -> Object:
    """The status of a request after the signer saw it."""
    api.add(REQUESTS, obj)
    await running.start(CertificateSigner(running.context, signer))
    found = api.get(REQUESTS, "r")
    assert found is not None
    status: Object = found["status"]
    return status


class Judge:
    """A front of an API server, which trusts the authority of `signer`."""

    def __init__(self, signer: Signer, folder: Path, clock: VirtualClock) -> None:
        self._folder = folder
        authority = CertificateAuthority(folder / "pki", RealClock())
        pair = authority.serving("front", ["127.0.0.1"])
        self._trust = ssl.create_default_context(cadata=authority.certificate.decode())
        self.front = _native.Front(_native.WatchCache(), clock=native_clock(clock))
        self.front.set_ready(True)
        self.front.authorizer().set_modes(["AlwaysAllow"])
        self.front.authenticator().set_client_ca(signer._authority.public_bytes(serialization.Encoding.PEM))
        self._port = self.front.listen_tls("127.0.0.1", 0, _native.ServingCertificate(pair.certificate, pair.key))

    async def user(self, shown: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> _native.UserInfo | None:
        """Whom a client is taken for that shows the certificate."""
        file = self._folder / "client.pem"
        file.write_bytes(shown.public_bytes(serialization.Encoding.PEM) + in_pem(key))
        self._trust.load_cert_chain(file)
        handed_over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(self.front.fileno(), handed_over.set)
        _, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust)
        try:
            writer.write(b"GET /elsewhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
            async with asyncio.timeout(60):
                await handed_over.wait()
            (request,) = self.front.drain()
            request.respond(404, b"{}")
            return request.user
        finally:
            writer.close()
            loop.remove_reader(self.front.fileno())


@pytest.fixture
def judge(signer: Signer, tmp_path: Path, clock: VirtualClock) -> Iterator[Judge]:
    made = Judge(signer, tmp_path, clock)
    yield made
    made.front.shutdown(0)


def certificate(status: Object) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(status["certificate"]))


# --- Signing


async def test_an_approved_request_gets_a_certificate_of_its_subject_and_usages(
    api: FakeAPI, running: Running, signer: Signer, clock: VirtualClock
) -> None:
    asked = asking(pem_request("jane", "devs", "ops"), expirationSeconds=3600)
    made = certificate(await outcome(api, running, signer, asked))
    told = [(one.oid, one.value) for one in made.subject]
    organizations = {(NameOID.ORGANIZATION_NAME, one) for one in ("devs", "ops")}
    assert (set(told[:2]), told[2:]) == (organizations, [(NameOID.COMMON_NAME, "jane")])
    assert made.issuer == subject("kubernetes")
    usages = made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert made.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    kinds = (x509.KeyUsage, x509.ExtendedKeyUsage, x509.BasicConstraints, x509.AuthorityKeyIdentifier)
    assert tuple(type(one.value) for one in made.extensions) == kinds, "the order of Go's library"
    assert made.not_valid_before_utc == clock.now().replace(microsecond=0) - timedelta(minutes=5)
    assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(hours=1, minutes=5)


@pytest.mark.parametrize("kind", [ASN1Type.UTF8String, ASN1Type.BMPString, ASN1Type.PrintableString])
async def test_of_several_names_the_one_that_was_approved_is_the_only_one(
    api: FakeAPI, running: Running, signer: Signer, judge: Judge, kind: ASN1Type
) -> None:
    """Whoever judges a client finds that one, too, however the request wrote it (a kubelet could be anybody)."""
    names = [(NODE, kind), ("kubernetes-admin", ASN1Type.UTF8String), (NODE, kind)]
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name, one) for name, one in names]
    parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes", kind)]
    key = ec.generate_private_key(ec.SECP256R1())
    asked = asking(signed(x509.Name(parts), key=key), signer=KUBELET)
    made = certificate(await outcome(api, running, signer, asked))
    assert made.subject.rfc4514_string() == f"CN={NODE},O=system:nodes"
    user = await judge.user(made, key)
    assert user is not None
    assert (user.username, list(user.groups)) == (NODE, ["system:nodes", "system:authenticated"])


@pytest.mark.filterwarnings("ignore:Attribute's length")
async def test_a_name_may_be_longer_than_x520_lets_it_be(api: FakeAPI, running: Running, signer: Signer) -> None:
    name = f"system:node:{'a' * 63}.{'b' * 63}"
    parts = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"),
        x509.NameAttribute(NameOID.COMMON_NAME, name, _validate=False),
    ]
    made = certificate(await outcome(api, running, signer, asking(signed(x509.Name(parts)), signer=KUBELET)))
    assert made.subject.rfc4514_string() == f"CN={name},O=system:nodes"


async def test_no_certificate_outlives_its_authority(
    api: FakeAPI, running: Running, signer: Signer, clock: VirtualClock
) -> None:
    made = certificate(await outcome(api, running, signer, asking(pem_request("jane"))))
    assert made.not_valid_after_utc <= clock.now() + timedelta(days=300)


@pytest.mark.parametrize(
    "fields", [{"approved": False}, {"signer": "example.com/other"}], ids=["not approved", "another signer"]
)
async def test_other_requests_are_left_alone(
    api: FakeAPI, running: Running, signer: Signer, fields: dict[str, Any]
) -> None:
    assert "certificate" not in await outcome(api, running, signer, asking(pem_request("jane"), **fields))


_NODE = ("system:node:n", "system:nodes")
_HOST = (x509.DNSName("n"),)


@pytest.mark.parametrize(
    ("signer_name", "who", "names", "usages", "told"),
    [
        (CLIENT, ("jane",), (), ("server auth",), "invalid usage for client certificate: server auth"),
        (
            CLIENT,
            ("jane",),
            (),
            ("digital signature",),
            "missing required usage for client certificate: client auth",
        ),
        (KUBELET, ("system:node:n",), (), USAGES, "subject organization is not system:nodes"),
        (KUBELET, ("jane", "system:nodes"), (), USAGES, "subject common name does not begin with system:node:"),
        (KUBELET, _NODE, _HOST, USAGES, "DNS subjectAltNames are not allowed"),
        (
            KUBELET,
            _NODE,
            (),
            ("client auth",),
            "usages did not match [client auth digital signature key encipherment]",
        ),
        (SERVING, _NODE, (), ("digital signature", "server auth"), "DNS or IP subjectAltName is required"),
        (
            SERVING,
            _NODE,
            (*_HOST, x509.RFC822Name("a@b.c")),
            ("digital signature", "server auth"),
            "Email subjectAltNames are not allowed",
        ),
    ],
)
async def test_what_a_signer_does_not_sign_has_failed(
    api: FakeAPI,
    running: Running,
    signer: Signer,
    signer_name: str,
    who: tuple[str, ...],
    names: tuple[x509.GeneralName, ...],
    usages: tuple[str, ...],
    told: str,
) -> None:
    asked = asking(pem_request(*who, names=names), signer=signer_name, usages=usages)
    status = await outcome(api, running, signer, asked)
    assert "certificate" not in status
    failed = status["conditions"][-1]
    assert (failed["type"], failed["reason"], failed["message"]) == ("Failed", "SignerValidationFailure", told)


async def test_a_kubelet_gets_a_serving_certificate_for_its_addresses(
    api: FakeAPI, running: Running, signer: Signer
) -> None:
    names = (*_HOST, x509.IPAddress(ipaddress.ip_address("10.0.0.1")))
    usages = ("digital signature", "key encipherment", "server auth")
    asked = asking(pem_request(*_NODE, names=names), signer=SERVING, usages=usages)
    made = certificate(await outcome(api, running, signer, asked))
    assert tuple(made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value) == names


@pytest.mark.parametrize(
    ("usage", "days"),
    [("server auth", 100), ("client auth", 0)],
    ids=["which clients judge", "which the server judges"],
)
def test_a_certificate_holds_by_the_time_of_those_who_judge_it(signer: Signer, usage: str, days: int) -> None:
    inside = VirtualClock().now()
    clock = VirtualClock(inside, machine=lambda: inside + timedelta(days=100))
    request = CertificateRequest.parse(pem_request(*_NODE, names=_HOST), (usage,))
    made = x509.load_pem_x509_certificate(signer.sign(request, timedelta(hours=1), clock))
    assert made.not_valid_before_utc == inside - timedelta(minutes=5)
    assert made.not_valid_after_utc == inside + timedelta(days=days, hours=1)


async def test_legacy_unknown_signs_what_was_approved(api: FakeAPI, running: Running, signer: Signer) -> None:
    asked = asking(pem_request("x"), signer="kubernetes.io/legacy-unknown", usages=("code signing", "any"))
    assert certificate(await outcome(api, running, signer, asked)).subject == subject("x")


# --- Approving


class Reviewer(FakeAPI):
    """Answers access reviews: `allowed` are the subresources that may be created."""

    allowed: frozenset[str] = frozenset()

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.reviews: list[Object] = []

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, bytes]:
        if not path.endswith("/subjectaccessreviews"):
            return await super().request(method, path, **options)
        review = orjson.loads(options["body"])
        self.reviews.append(review["spec"])
        asked = review["spec"]["resourceAttributes"]["subresource"]
        return 201, orjson.dumps({"status": {"allowed": asked in self.allowed}})


@pytest.fixture
def api(clock: VirtualClock) -> Reviewer:
    return Reviewer(clock)


async def approval(api: Reviewer, running: Running, obj: Object, *allowed: str) -> str:
    """The message of the Approved condition, "" without one."""
    api.allowed = frozenset(allowed)
    api.add(REQUESTS, obj)
    await running.start(CertificateApprover(running.context))
    written = api.writes(f"update {REQUESTS}/approval")
    return str(written[0].body["status"]["conditions"][0]["message"]) if written else ""


def of_kubelet(who: str) -> Object:
    asked = {"username": who, "groups": ["g"], "extra": {"k": ["v"]}}
    return asking(pem_request(*_NODE), signer=KUBELET, approved=False, **asked)


async def test_a_node_may_renew_its_certificate(api: Reviewer, running: Running) -> None:
    told = await approval(api, running, of_kubelet("system:node:n"), "selfnodeclient")
    assert told == "Auto approving self kubelet client certificate after SubjectAccessReview."
    (review,) = api.reviews
    assert review["user"] == "system:node:n"
    assert (review["groups"], review["extra"]) == (["g"], {"k": ["v"]})


@pytest.mark.parametrize(("names", "approved"), [(("x", "system:node:n"), True), (("system:node:n", "x"), False)])
async def test_of_several_names_the_last_one_is_whom_it_is_for(
    api: Reviewer, running: Running, names: tuple[str, ...], approved: bool
) -> None:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]
    asked = signed(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:nodes"), *parts]))
    request = asking(asked, signer=KUBELET, approved=False, username="system:node:n")
    assert bool(await approval(api, running, request, "selfnodeclient")) is approved


async def test_a_bootstrapping_user_may_ask_for_a_nodes_certificate(api: Reviewer, running: Running) -> None:
    told = await approval(api, running, of_kubelet("system:bootstrap:abc"), "nodeclient", "selfnodeclient")
    assert told == "Auto approving kubelet client certificate after SubjectAccessReview."


async def test_who_may_not_is_not_approved(api: Reviewer, running: Running) -> None:
    assert await approval(api, running, of_kubelet("jane"), "selfnodeclient") == ""


async def test_other_signers_requests_are_for_people_to_approve(api: Reviewer, running: Running) -> None:
    asked = asking(pem_request(*_NODE), approved=False, username="system:node:n")
    assert await approval(api, running, asked, "nodeclient", "selfnodeclient") == ""


# --- Cleaning


@pytest.mark.parametrize(
    ("type", "hours", "issued"),
    [("", 24, False), ("Denied", 1, False), ("Failed", 1, False), ("Approved", 24, False), ("Approved", 1, True)],
)
async def test_requests_are_kept_for_a_while(
    api: Reviewer, running: Running, signer: Signer, clock: VirtualClock, type: str, hours: int, issued: bool
) -> None:
    asked = asking(pem_request("jane"), approved=type == "Approved")
    if type:
        told = "2026-01-01T00:00:00Z"
        asked["status"]["conditions"] = [{"type": type, "status": "True", "lastUpdateTime": told}]
    if issued:
        await outcome(api, running, signer, asked)
    else:
        api.add(REQUESTS, asked)
    await running.start(CertificateCleaner(running.context))
    await clock.advance(hours * 3600 - 60)
    assert api.get(REQUESTS, "r") is not None
    await clock.advance(61)
    assert api.get(REQUESTS, "r") is None


async def test_a_request_goes_with_its_certificate(
    api: Reviewer, running: Running, signer: Signer, clock: VirtualClock
) -> None:
    await outcome(api, running, signer, asking(pem_request("jane"), expirationSeconds=600))
    await running.start(CertificateCleaner(running.context))
    await clock.advance(601)
    assert api.get(REQUESTS, "r") is None
